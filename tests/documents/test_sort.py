"""SORT trials of documents: halves, substrings, no overlap, and what is left out and said."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.documents import Cells, read_documents, sort_trials, write_items
from memprobe.documents.sort import bins_of
from memprobe.documents.sort_draw import Size
from memprobe.documents.source import Document, Documents
from memprobe.errors import InputError, ItemError
from memprobe.items import inspect_items, read_items

CELL = ("source_id", "excerpt_words", "segment_words", "distance_bin", "split")
SHORT = Cells((60,), (8,), per_cell=12, validation=4)


def prose(seed: int, n_sentences: int, *, headings: bool = True) -> str:
    """Sentences of 2 to 12 words that stand nowhere twice, in paragraphs, with a heading now and then."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(n_sentences):
        words = [f"s{seed}n{number}w{each}" for each in range(rng.integers(2, 13))]
        parts.append(" ".join(words).capitalize() + rng.choice([". ", "! ", ".\n", ".\n\n"]))
        if headings and rng.random() < 0.03:
            parts.append("\n\nCHAPTER IX\n\n")
    return "".join(parts)


@pytest.fixture(scope="module")
def random_documents() -> Documents:
    """200 documents of 30 to 180 sentences."""
    sizes = np.random.default_rng(0).integers(30, 180, 200)
    return Documents(
        tuple(
            Document(f"d{seed:03d}", f"d{seed:03d}", prose(seed, int(n)), f"d{seed:03d}.txt, line 1", {})
            for seed, n in enumerate(sizes)
        ),
        {},
    )


@pytest.fixture(scope="module")
def of_random(random_documents) -> pl.DataFrame:
    return sort_trials(random_documents, Cells((60, 250), (8,), per_cell=13, validation=4)).items


def test_every_cell_is_exactly_half_and_half_after_all_drops(of_random) -> None:
    cells = of_random.group_by(CELL).agg(n=pl.len(), first=pl.col("earlier_first").sum())
    # 200 documents, four ranges and two splits, at two lengths; the shortest give none at 250 words.
    assert cells["source_id"].n_unique() == 200
    assert cells.height > 1_800
    assert (cells["first"] * 2 == cells["n"]).all()
    # Full cells and smaller ones are among them.
    assert {2, 8} <= set(cells.filter(pl.col("split") == "test")["n"])


def test_the_halves_are_not_the_same_in_every_range(of_random) -> None:
    per_excerpt = of_random.group_by("doc_id").agg(first=pl.col("earlier_first").sum())
    # Were one order dealt to all four ranges, each excerpt would have 0 or 4.
    assert set(per_excerpt["first"]) == {0, 1, 2, 3, 4}


def test_segments_stand_in_their_document_and_once_in_the_excerpt(of_random, random_documents) -> None:
    texts = {each.name: each.text for each in random_documents.documents}
    for row in of_random.iter_rows(named=True):
        text = texts[row["source_id"]]
        assert row["segment_1"] in text
        assert row["segment_2"] in text
        assert row["text"].count(row["segment_1"]) == row["text"].count(row["segment_2"]) == 1


def test_segments_do_not_overlap_and_lie_as_far_apart_as_their_bin_says(of_random) -> None:
    for row in of_random.iter_rows(named=True):
        size = Size(row["excerpt_words"], row["segment_words"])
        before = [
            len(row["text"][: row["text"].index(row[name])].split()) for name in ("segment_1", "segment_2")
        ]
        assert len(row["text"].split()) == size.excerpt_words
        assert len(row["segment_1"].split()) == len(row["segment_2"].split()) == size.segment_words
        assert before[1] - before[0] == row["distance_words"] > size.segment_words
        assert before[1] + size.segment_words <= size.excerpt_words
        each = bins_of(size)[row["distance_bin"]]
        assert each.low <= row["distance_words"] <= each.high


def test_headings_are_in_no_trial(of_random, random_documents) -> None:
    assert any("CHAPTER IX" in each.text for each in random_documents.documents)
    assert not of_random["text"].str.contains("CHAPTER").any()


def test_an_excerpt_serves_every_range_in_one_split(of_random) -> None:
    clusters = of_random.group_by("doc_id", "segment_words").agg(
        pl.col("distance_bin").sort(), pl.col("split").n_unique(), pl.col("text").n_unique()
    )
    assert clusters["distance_bin"].to_list() == [[0, 1, 2, 3]] * clusters.height
    assert (clusters["split"] == 1).all()
    assert (clusters["text"] == 1).all()
    assert of_random["item_id"].is_unique().all()


def test_a_full_cell_has_the_numbers_asked_for(documents) -> None:
    made = sort_trials(documents(a=prose(1, 400)), Cells((60,), (8,)))
    assert made.sizes.select("n_test", "n_validation", "reason").rows() == [(100, 10, None)]
    counted = made.items.group_by("distance_bin", "split").len().sort("distance_bin", "split")
    assert counted["len"].to_list() == [100, 10] * 4
    assert made.notes == ()


def test_an_odd_number_is_made_even_and_said(documents) -> None:
    made = sort_trials(documents(a=prose(1, 300)), Cells((60,), (8,), per_cell=14, validation=5))
    assert made.sizes.select("n_test", "n_validation").rows() == [(8, 4)]
    assert made.notes == (
        "an odd number cannot be halved: test 9, of which 8 are made",
        "an odd number cannot be halved: validation 5, of which 4 are made",
    )


def test_trials_depend_on_text_and_seed_not_on_names_order_or_company(documents) -> None:
    a, b = prose(1, 200), prose(2, 200)
    both = sort_trials(documents(a=a, b=b), SHORT).items
    assert_frame_equal(both, sort_trials(documents(b=b, a=a), SHORT).items)
    assert_frame_equal(both.filter(pl.col("source_id") == "a"), sort_trials(documents(a=a), SHORT).items)
    named = sort_trials(documents(z=a), SHORT).items
    assert_frame_equal(
        named.drop("item_id", "doc_id", "source_id"),
        both.head(named.height).drop("item_id", "doc_id", "source_id"),
    )
    longer = sort_trials(documents(a=a), Cells((60, 100), (8,), per_cell=12, validation=4)).items
    assert_frame_equal(longer.filter(pl.col("excerpt_words") == 60), named_a(both))
    other = sort_trials(documents(a=a), Cells((60,), (8,), per_cell=12, validation=4, seed=1)).items
    assert not other["segment_1"].equals(named_a(both)["segment_1"])


def named_a(items: pl.DataFrame) -> pl.DataFrame:
    return items.filter(pl.col("source_id") == "a")


def test_a_text_given_twice_is_used_once_and_said(documents) -> None:
    text = prose(1, 200)
    made = sort_trials(documents(b=text, a=text), SHORT)
    assert set(made.items["source_id"]) == {"a"}
    assert made.notes == ("b has the same text as a and is left out",)


def test_line_ends_of_windows_change_nothing(documents) -> None:
    text = prose(1, 200)
    windows = documents(a=text.replace("\n", "\r\n"))
    assert "\r\n\r\n" in windows.documents[0].text
    assert_frame_equal(sort_trials(windows, SHORT).items, sort_trials(documents(a=text), SHORT).items)
    both = Documents((*windows.documents, *documents(b=text).documents), {})
    assert sort_trials(both, SHORT).notes == ("b has the same text as a and is left out",)


def test_a_document_too_short_is_left_out_and_said(documents) -> None:
    made = sort_trials(documents(long=prose(1, 200), short="One two three. Four five."), SHORT)
    assert set(made.items["source_id"]) == {"long"}
    assert made.notes == ("short, excerpts of 60 and segments of 8: left out: the text has 5 words",)


def test_a_short_document_gives_smaller_cells_and_says_why(documents) -> None:
    made = sort_trials(documents(a=prose(3, 16, headings=False)), SHORT)
    told = made.sizes.row(0, named=True)
    assert 2 <= told["n_test"] < 8
    assert "fewer trials" in made.notes[0]
    assert told["reason"] in made.notes[0]


def test_a_text_without_sentence_ends_gives_nothing_and_says_so(documents) -> None:
    endless = " ".join(f"w{i}" for i in range(500))
    with pytest.raises(ItemError) as caught:
        sort_trials(documents(a=endless), SHORT)
    assert "no sentence ends, so no segment can begin anywhere" in str(caught.value)
    assert "w0" not in str(caught.value)
    assert "a.txt, line 1" in str(caught.value)
    made = sort_trials(documents(a=endless, b=prose(1, 200)), SHORT)
    assert "no sentence ends" in made.notes[0]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"excerpt_words": (0,)}, "--excerpt-words is 0, not 1 or more"),
        ({"segment_words": ()}, "--segment-words is empty"),
        ({"per_cell": 11}, "--per-cell is 11, and 10 of them are validation trials"),
        ({"validation": -1}, "--validation is -1, not 0 or more"),
        ({"seed": -1}, "--seed is -1"),
        # Edges 62, 83, 125, 200: from 61 words, no distance above the segment's length is below 62.
        ({"segment_words": (61,)}, "segments of 61 words leave no room in 250"),
        ({"excerpt_words": (250, 8), "segment_words": (20,)}, "segments of 20 words leave no room in 8"),
    ],
)
def test_cells_that_cannot_be_made_are_refused(changes, what) -> None:
    with pytest.raises(InputError) as caught:
        Cells(**changes)
    assert what in str(caught.value)


def test_the_longest_segment_that_leaves_room_is_taken() -> None:
    assert Cells((250,), (60,)).sizes == (Size(250, 60),)


def test_sizes_are_all_pairs_once() -> None:
    assert Cells((250, 1_000, 250), (50, 20)).sizes == tuple(
        itertools.starmap(Size, [(250, 20), (250, 50), (1_000, 20), (1_000, 50)])
    )


def test_what_documents_carry_goes_to_their_trials(tmp_path: Path) -> None:
    rows = [
        {"item_id": name, "text": prose(seed, 100), "group": group, "first_step": step, "colour": "red"}
        for seed, (name, group, step) in enumerate([("a", "seen", 10), ("b", "control", None)])
    ]
    pl.DataFrame(rows).write_ndjson(tmp_path / "d.jsonl")
    made = sort_trials(read_documents([str(tmp_path / "d.jsonl")]), SHORT).items
    told = made.select("source_id", "group", "first_step", "colour").unique(maintain_order=True).rows()
    assert told == [("a", "seen", 10, "red"), ("b", "control", None, "red")]


def test_documents_with_columns_of_trials_are_refused(tmp_path: Path) -> None:
    pl.DataFrame([{"text": prose(1, 100), "split": "train"}]).write_ndjson(tmp_path / "d.jsonl")
    with pytest.raises(ItemError, match="SORT trials have a column of this name"):
        sort_trials(read_documents([str(tmp_path / "d.jsonl")]), SHORT)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_what_is_written_is_read_as_it_was_made(suffix, documents, tmp_path: Path) -> None:
    made = sort_trials(documents(a=prose(1, 200), b=prose(2, 200)), SHORT).items
    file = tmp_path / f"t.{suffix}"
    write_items(file, made)
    assert inspect_items([str(file)]).findings.is_empty()
    read = read_items([str(file)]).table
    assert_frame_equal(read.select(made.columns), made)


def test_where_excerpts_and_segments_lie_is_a_share_of_where_they_could(documents) -> None:
    # Segments of 10 in 50 words may be 40 apart, which leaves one place.
    text = "".join(f"A{i}. " for i in range(300))
    made = sort_trials(documents(a=text), Cells((50,), (10,), per_cell=80, validation=0))
    joined = made.items.join(made.places, on="item_id", maintain_order="left")
    shares = []
    for row in joined.iter_rows(named=True):
        start = round(row["excerpt_start_frac"] * 300)
        assert row["start_share"] == pytest.approx((start + 0.5) / (300 - 50 + 1))
        place = len(row["text"][: row["text"].index(row["segment_1"])].split())
        n_places = 50 - 10 - row["distance_words"] + 1
        shares.append(None if n_places == 1 else pytest.approx((place + 0.5) / n_places))
    assert joined["segment_share"].to_list() == shares
    assert None in shares
    # 52 words leave three places for an excerpt, of which an even number, two, is used.
    shortest = sort_trials(documents(a=text[: text.index("A52.")]), Cells((50,), (10,), 4, 0))
    found = set(shortest.places["start_share"].round(6))
    assert len(found) == 2
    assert found < {round(0.5 / 3, 6), 0.5, round(2.5 / 3, 6)}
