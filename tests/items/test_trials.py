"""SORT trials among the items: what is refused, what is filled in, and what their names mean elsewhere."""

import hashlib
import json

import polars as pl
import pytest

from memprobe.items import CONTENT, TRIAL, inspect_items, own_columns, read_items
from memprobe.items.preview import preview
from memprobe.items.read import read_files
from memprobe.items.schema import has_trials
from memprobe.tables.content import content_hash

EXCERPT = "One two three. Four five six. Seven eight nine ten."
TRIAL_ROW = {"text": EXCERPT, "segment_1": "One two", "segment_2": "Seven eight"}


def table(write, *rows):
    return read_items([write("a.jsonl", list(rows))]).table


def test_what_a_trial_does_not_say_follows_from_its_texts(write) -> None:
    row = table(write, TRIAL_ROW).row(0, named=True)
    name = hashlib.sha256(EXCERPT.encode()).hexdigest()[:12]
    # One two three. | Four five six. | Seven: six words stand before it.
    assert (row["excerpt_words"], row["segment_words"], row["distance_words"]) == (10, 2, 6)
    assert (row["source_id"], row["excerpt_id"]) == (f"sha-{name}", name)
    assert row["doc_id"] == f"sha-{name}/10/{name}"
    assert row["split"] == "test"
    assert (row["distance_bin"], row["earlier_first"], row["excerpt_start_frac"]) == (None, None, None)


def test_what_a_trial_says_stands(write) -> None:
    given = {"source_id": 7, "excerpt_id": "e", "doc_id": "c", "excerpt_words": 99, "segment_words": 3}
    given |= {"distance_words": 5, "distance_bin": 0, "excerpt_start_frac": 0.25, "earlier_first": False}
    given |= {"split": "validation"}
    row = table(write, TRIAL_ROW | given).row(0, named=True)
    assert {name: row[name] for name in given} == given | {"source_id": "7"}


def test_trials_of_one_excerpt_form_a_cluster(write) -> None:
    rows = [TRIAL_ROW, TRIAL_ROW | {"segment_2": "Four five"}, TRIAL_ROW | {"text": f"{EXCERPT} Eleven."}]
    clusters = table(write, *rows)["doc_id"].to_list()
    assert clusters[0] == clusters[1] != clusters[2]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"segment_2": None}, "column segment_2"),
        ({"segment_1": None}, "column segment_1"),
        ({"segment_2": "One two"}, "the same text as segment_1"),
        ({"segment_1": "Seven eight", "segment_2": "One two"}, "comes behind segment_2"),
        ({"text": None, "prefix": "a", "suffix": "b"}, "segments without text"),
        ({"text": None, "input_ids": [1]}, "segments without text"),
        ({"split": "train"}, "not test or validation"),
        ({"excerpt_start_frac": 1.5}, "not a number from 0 to 1"),
        ({"earlier_first": 1}, "not true or false"),
        ({"distance_bin": -1}, "below 0"),
    ],
)
def test_a_wrong_trial_is_named(change, what, write, message) -> None:
    told = message(write("a.jsonl", [{k: v for k, v in (TRIAL_ROW | change).items() if v is not None}]))
    assert what in told
    assert "One two" not in told


def test_the_order_is_not_judged_where_a_segment_stands_twice(write) -> None:
    row = table(write, {"text": "a b a b c", "segment_1": "b c", "segment_2": "a b"}).row(0, named=True)
    assert row["distance_words"] is None


def test_items_without_segments_keep_their_hash(write) -> None:
    # Each field with its name and its length in bytes: the hash of every run so far.
    expected = hashlib.sha256(b"text:5:hello").hexdigest()
    assert table(write, {"text": "hello"})["content_hash"].item() == expected
    assert content_hash({"text": "hello", "split": "test", "source_id": "s"}) == expected


def test_segments_are_content(write) -> None:
    rows = [TRIAL_ROW, TRIAL_ROW | {"segment_2": "Four five"}, TRIAL_ROW | {"segment_1": "Four five"}]
    assert table(write, *rows)["content_hash"].n_unique() == 3
    assert {"segment_1", "segment_2"} < set(CONTENT)


@pytest.mark.parametrize("value", ["train", 3, 0.5, True])
def test_without_segments_the_names_are_the_users_own(value, write) -> None:
    found = table(write, {"text": "a", "split": value, "source_id": [1], "colour": "red"})
    assert found["split"].to_list() == [value]
    assert found["source_id"].to_list() == ["[1]"]
    assert set(own_columns(found)) == {"split", "source_id", "colour"}


def test_beside_trials_the_names_are_not_the_users_own(write) -> None:
    read = read_items(
        [
            write("a.jsonl", [TRIAL_ROW | {"colour": "red"}]),
            write("b.jsonl", [{"text": "a", "split": "test"}]),
        ]
    )
    assert own_columns(read.table) == ["colour"]
    assert own_columns(read.table.drop(CONTENT)) == ["colour"]
    assert read.table["split"].to_list() == ["test", "test"]


def test_a_table_of_trials_is_known_without_its_texts(write) -> None:
    trials, plain = table(write, TRIAL_ROW), table(write, {"text": "a", "segment_words": 3})
    assert has_trials(trials)
    assert has_trials(trials.drop(CONTENT))
    assert not has_trials(plain)
    assert not has_trials(trials.head(0))


def test_csv_cells_of_a_trial_are_cast(write) -> None:
    header = "text,segment_1,segment_2,excerpt_words,distance_bin,excerpt_start_frac,earlier_first,split"
    read = read_items(
        [
            write(
                "a.csv", f"{header}\n{EXCERPT},One two,Four five,10,3,.5,True,validation\na b,a,b,,,,false,\n"
            )
        ]
    ).table
    told = read.select("excerpt_words", "distance_bin", "excerpt_start_frac", "earlier_first", "split").rows()
    assert told == [(10, 3, 0.5, True, "validation"), (2, None, None, False, "test")]


def test_every_column_of_a_trial_has_a_type_and_a_meaning_of_null(write) -> None:
    found = table(write, {"text": "a"})
    assert {name: found.schema[name] for name in TRIAL} == {n: c.dtype for n, c in TRIAL.items()}
    assert found.select(*TRIAL).null_count().row(0) == (1,) * len(TRIAL)
    assert all(column.null_means for column in TRIAL.values())


def test_trials_that_share_an_excerpt_are_no_near_duplicates(write) -> None:
    rows = [TRIAL_ROW, TRIAL_ROW | {"segment_2": "Four five"}, TRIAL_ROW | {"segment_2": "four FIVE"}]
    found = inspect_items([write("a.jsonl", [r | {"item_id": f"i{n}"} for n, r in enumerate(rows)])])
    assert preview(found.table, found.given)["near_same_content"] == [["i1", "i2"]]


def test_a_preview_counts_trials_and_cells_that_are_not_halved(write) -> None:
    cell = {"source_id": "s", "distance_bin": 0}
    rows = [TRIAL_ROW | cell | {"excerpt_id": f"e{n}", "earlier_first": n < 2} for n in range(4)]
    rows += [
        TRIAL_ROW | cell | {"excerpt_id": f"e{n}", "earlier_first": n < 3, "split": "validation"}
        for n in (2, 4)
    ]
    rows += [
        TRIAL_ROW | cell | {"excerpt_id": f"e{n}", "earlier_first": n < 7, "distance_bin": 1} for n in (5, 6)
    ]
    read = read_items([write("a.jsonl", [r | {"item_id": str(n)} for n, r in enumerate(rows)])])
    found = preview(read.table, read.given)["trials"]
    assert (found["n"], found["n_sources"], found["n_excerpts"]) == (8, 1, 7)
    # test bin 0: 2 of 4; validation bin 0: 1 of 2; test bin 1: 2 of 2.
    assert (found["n_cells"], found["n_uneven_cells"]) == (3, 1)
    assert found["splits"] == {"test": 6, "validation": 2}
    assert preview(table(write, TRIAL_ROW), frozenset())["trials"]["n_uneven_cells"] is None
    assert preview(table(write, {"text": "a"}), frozenset())["trials"] is None


def test_the_schema_takes_trials_beside_other_items(write) -> None:
    found = table(write, TRIAL_ROW, {"prefix": "a", "suffix": "b"})
    assert found["excerpt_words"].to_list() == [10, None]
    assert found.filter(pl.col("segment_1").is_not_null()).height == 1


LONG = "Many words stand here. " * 500


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_an_excerpt_of_many_trials_lies_in_memory_once(tmp_path, suffix) -> None:
    rows = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)]}).with_columns(
        text=pl.lit(LONG), segment_1=pl.lit("Many words"), segment_2=pl.format("stand {}", "item_id")
    )
    file = tmp_path / f"a.{suffix}"
    write = {"jsonl": rows.write_ndjson, "csv": rows.write_csv, "parquet": rows.write_parquet}
    if suffix == "json":
        file.write_text(json.dumps(rows.to_dicts()))
    else:
        write[suffix](file)
    read = read_files([str(file)], limit=None, offline=False)
    texts = [row.values["text"] for row in read.files[0].rows]
    assert texts == [LONG] * 40
    assert len({id(text) for text in texts}) == 1


def test_texts_of_the_table_are_each_items_own(write) -> None:
    rows = [{"item_id": f"i{n}", "text": text} for n, text in enumerate(["b", "a", "b", "c", "a"])]
    rows.insert(2, {"item_id": "ids", "input_ids": [1]})
    rows.insert(3, {"item_id": "cut", "prefix": "a", "suffix": "b"})
    got = table(write, *rows)
    assert got["text"].to_list() == [row.get("text") for row in rows]


def test_the_hash_of_a_trial_does_not_depend_on_what_was_hashed_before() -> None:
    # name:bytes:content of each field in order, as ever; é has two bytes.
    def by_hand(*fields: tuple[str, str]) -> str:
        told = b"".join(f"{name}:{len(text.encode())}:{text}".encode() for name, text in fields)
        return hashlib.sha256(told).hexdigest()

    for text, one in (("é", "x"), ("é", "y"), ("b", "x"), ("é", "x")):
        assert content_hash({"text": text, "segment_1": one}) == by_hand(("text", text), ("segment_1", one))
    assert content_hash({"prefix": "é", "suffix": "b"}) == by_hand(("prefix", "é"), ("suffix", "b"))
    assert content_hash({"text": "é"}) == by_hand(("text", "é"))


def test_trials_that_differ_in_a_segment_alone_are_no_near_duplicates(write) -> None:
    trial = {"text": EXCERPT, "segment_1": "One two", "segment_2": "Seven eight"}
    rows = [
        {"item_id": "a", **trial},
        {"item_id": "other", **trial, "segment_2": "eight nine"},
        {"item_id": "near", **trial, "text": EXCERPT.replace(" Four", "\n\nFOUR")},
        {"item_id": "plain", "text": EXCERPT},
    ]
    assert preview(table(write, *rows), frozenset())["near_same_content"] == [["a", "near"]]
