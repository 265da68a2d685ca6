"""`read_items` as a whole: the table, the digest, what is skipped, and the cap of the message."""

import polars as pl
import pytest

from memprobe.items import ITEMS, SKIPPED, ItemSet, read_items

ROWS = [
    {
        "item_id": "a",
        "text": "one",
        "group": "g",
        "exposures": 2,
        "first_step": 10,
        "last_step": 30,
        "src": "web",
    },
    {
        "item_id": "b",
        "prefix": "t",
        "suffix": "wo",
        "foil": "tw",
        "foil_kind": "cut",
        "batch_id": 5,
        "doc_id": "d",
    },
    {"item_id": "c", "input_ids": [1, 2], "first_step": 7, "src": None, "score": 1},
]


@pytest.fixture
def items(write) -> ItemSet:
    return read_items([write("a.jsonl", ROWS)])


def test_the_table_has_the_schema_and_then_the_users_columns(items: ItemSet) -> None:
    ITEMS.check(items.table)
    assert items.table.columns == [*ITEMS.columns, "src", "score"]
    assert items.table.schema["score"] == pl.Int64


def test_values_and_defaults(items: ItemSet) -> None:
    columns = ("item_id", "exposures", "first_step", "last_step", "batch_id", "doc_id", "foil_kind", "src")
    assert items.table.select(columns).rows() == [
        ("a", 2, 10, 30, None, None, None, "web"),
        ("b", None, None, None, "5", "d", "cut", None),
        ("c", None, 7, 7, None, None, None, None),
    ]
    assert items.table["input_ids"].to_list() == [None, None, [1, 2]]
    assert items.table["source_line"].to_list() == [1, 2, 3]


def test_nothing_skipped_is_an_empty_table(items: ItemSet) -> None:
    SKIPPED.check(items.skipped)
    assert items.skipped.is_empty()


def test_given_tells_columns_that_hold_only_nulls_from_those_left_out(write) -> None:
    given = read_items(
        [write("a.csv", "text,first_step\na,\n"), write("b.jsonl", [{"text": "b", "x": 1}])]
    ).given
    assert given == {"text", "first_step", "x"}


def test_the_digest_is_blind_to_order_files_and_formats(write, items: ItemSet) -> None:
    backward = [dict(reversed(row.items())) for row in reversed(ROWS)]
    assert read_items([write("b.jsonl", backward)]).digest == items.digest
    parts = [write(f"{n}.jsonl", [row]) for n, row in enumerate(ROWS)]
    assert read_items(parts).digest == items.digest
    items.table.drop("content_hash", "source_file", "source_line").write_parquet(
        path := write("c.parquet", "")
    )
    assert read_items([path]).digest == items.digest
    assert len(items.digest) == 64


@pytest.mark.parametrize(
    "change",
    [{"text": "One"}, {"item_id": "z"}, {"group": "h"}, {"exposures": 3}, {"last_step": 31}, {"src": "book"}],
)
def test_the_digest_sees_each_change(write, items: ItemSet, change: dict) -> None:
    assert read_items([write("b.jsonl", [ROWS[0] | change, *ROWS[1:]])]).digest != items.digest


def test_the_digest_of_a_file_is_that_of_its_bytes(write) -> None:
    # sha256 of `{"text": "a"}` and a newline, by sha256sum
    items = read_items([write("a.jsonl", '{"text": "a"}\n')])
    assert items.files[0].sha256 == "7c24616314d4c7ddcc755cd2cb42baf4e49ac41b1492fa02c30adc34e1cb2e5d"
    assert items.files[0].n_items == 1


def test_the_message_shows_ten_problems_and_counts_the_rest(write, message) -> None:
    told = message(write("a.jsonl", [{"text": ""}] * 12 + [{"text": "a"}]))
    assert told.count("where: ") == 10
    assert "problems not shown: 2; bad items in all: 12" in told
    assert "--on-bad-item skip" in told
    assert "not shown" not in message(write("b.jsonl", [{"text": ""}] * 10))


def test_skipped_items_keep_their_name_and_all_reasons(write) -> None:
    path = write("a.jsonl", [{"text": "a"}, {"item_id": "i", "text": "", "exposures": -1}, "text"])
    skipped = read_items([path], on_bad="skip").skipped
    SKIPPED.check(skipped)
    assert skipped.drop("file").rows() == [
        (2, "i", "text", "text: empty; exposures: -1, below 0"),
        (3, None, None, "no JSON object"),
    ]


def test_no_item_left_is_an_error_that_says_why(write, message) -> None:
    told = message(write("a.jsonl", [{"text": ""}, {"text": ""}]), on_bad="skip")
    assert told.startswith("no item is left: of 2, all are bad\n")
    assert "line 2, column text" in told


def test_a_bad_file_is_an_error_even_when_skipping(tmp_path, write, message) -> None:
    told = message(write("a.jsonl", [{"text": "a"}, {"text": ""}]), str(tmp_path / "no.csv"), on_bad="skip")
    assert told == "no such file\n  where: no.csv"


def test_the_limit_counts_bad_items_too(write) -> None:
    path = write("a.jsonl", [{"text": "a"}, {"text": ""}, {"text": "b"}])
    items = read_items([path], limit=2, on_bad="skip")
    assert items.table["text"].to_list() == ["a"]
    assert items.skipped.height == 1


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_told(message, limit: int) -> None:
    assert f"a limit of {limit} items leaves none" in message("a.jsonl", limit=limit)


def test_no_files_is_told(message) -> None:
    assert message() == "no item file was given\n  fix:   name one with -d FILE"


def test_a_programmers_mistake_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="want a list of specs"):
        read_items("a.jsonl")
    with pytest.raises(ValueError, match="on_bad error or skip"):
        read_items(["a.jsonl"], on_bad="ignore")
