"""The published Book-SORT columns, row by row as its data card shows them."""

import csv
import io

import pytest

from memprobe.items import read_items
from memprobe.items.booksort import paper_edges

COLUMNS = ("book_idx", "excerpt_idx", "excerpt_text", "segment_1", "segment_2", "seg1_pos", "seg2_pos")
COLUMNS += ("distance_bin", "present_seg1_first", "book_title")
WORDS = [f"w{i}." if i % 10 == 9 else f"w{i}" for i in range(250)]


def row(number: int = 0, edge: int = 62, first: int = 0, second: int = 40, **changes) -> dict[str, object]:
    segments = [f"*{' '.join(WORDS[place : place + 20])}*" for place in (first, second)]
    text = f"*{' '.join(WORDS)}*\n\n"
    values = (69087, number, text, *segments, first, second, edge, 1, "The Murder Of Roger Ackroyd")
    return dict(zip(COLUMNS, values, strict=True)) | changes


def as_csv(*rows: dict[str, object], index: bool = True) -> str:
    out = io.StringIO()
    names = ([""] if index else []) + list(rows[0])
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows([({"": n} if index else {}) | each for n, each in enumerate(rows)])
    return out.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_published_row_becomes_a_trial(kind, write) -> None:
    rows = [row(3, present_seg1_first=0, excerpt_pos=0.396943)]
    read = read_items([write(f"a.{kind}", rows if kind == "jsonl" else as_csv(*rows))])
    found = read.table.row(0, named=True)
    # The asterisks around each text are the file's, not the book's.
    assert found["text"] == " ".join(WORDS)
    assert found["segment_1"] == " ".join(WORDS[:20])
    assert found["segment_2"] == " ".join(WORDS[40:60])
    expected = {
        **{"item_id": "69087/250-20-3/0", "source_id": "69087", "excerpt_id": "250-20-3"},
        **{"doc_id": "69087/250-20-3", "excerpt_words": 250, "segment_words": 20, "distance_words": 40},
        **{"distance_bin": 0, "earlier_first": False, "split": "test", "excerpt_start_frac": 0.396943},
        **{"title": "The Murder Of Roger Ackroyd"},
    }
    assert {name: found[name] for name in expected} == expected
    assert read.files[0].read_as == "published Book-SORT trials"
    assert not set(COLUMNS) & set(read.table.columns) - {"segment_1", "segment_2", "distance_bin"}


def test_the_last_ten_excerpts_choose_the_prompt(write) -> None:
    found = read_items([write("a.jsonl", [row(number) for number in (0, 99, 100, 109)])]).table
    assert found["split"].to_list() == ["test", "test", "validation", "validation"]


@pytest.mark.parametrize(
    ("size", "edges"),
    [
        # config.yaml of the paper's repository: L_E / 4, / 3, / 2 and L_E / 1.25, rounded down.
        ((250, 20), (20, 62, 83, 125, 200)),
        ((1_000, 50), (50, 250, 333, 500, 800)),
        ((2_500, 20), (20, 625, 833, 1_250, 2_000)),
        ((10_000, 50), (50, 1_000, 2_500, 5_000, 8_000)),
        ((20_000, 20), (20, 1_000, 5_000, 10_000, 16_000)),
    ],
)
def test_the_papers_edges(size, edges) -> None:
    assert paper_edges(*size) == edges


@pytest.mark.parametrize(("edge", "number"), [(62, 0), (83, 1), (125, 2), (200, 3)])
def test_a_bin_is_published_as_its_upper_edge(edge, number, write) -> None:
    found = read_items([write("a.jsonl", [row(edge=edge)])]).table
    assert found["distance_bin"].to_list() == [number]
    assert found["item_id"].item().endswith(f"/{number}")


def test_lengths_that_are_given_are_taken(write) -> None:
    lengths = {"excerpt_length": 1_000, "segment_length": 50}
    found = read_items([write("a.jsonl", [row(edge=333, **lengths)])]).table
    assert found.select("excerpt_words", "segment_words", "distance_bin").row(0) == (1_000, 50, 1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"distance_bin": 70}, "70 is none of the upper edges for excerpts of 250 words: 62, 83, 125, 200"),
        ({"excerpt_idx": "x"}, "not a whole number"),
        ({"seg1_pos": 1.5}, "not a whole number"),
    ],
)
def test_a_published_row_that_is_wrong_is_named(changes, what, write, message) -> None:
    told = message(write("a.jsonl", [row(**changes)]))
    assert what in told
    assert f"column {next(iter(changes))}" in told


def test_an_index_without_a_name_is_passed_over_only_here(write, message) -> None:
    assert read_items([write("a.csv", as_csv(row(), row(1)))]).table.height == 2
    assert read_items([write("b.csv", as_csv(row(), index=False))]).table.height == 1
    assert "the column has no name" in message(write("c.csv", ",text\n0,a\n"))


def test_segments_without_their_excerpts_are_told_what_to_join(write, message) -> None:
    apart = {name: value for name, value in row().items() if name != "excerpt_text"}
    told = message(write("a.csv", as_csv(apart)))
    assert "put excerpt_text beside the segments: join both files on book_idx and excerpt_idx" in told
    assert "no name" not in told


def test_other_columns_are_carried_and_a_name_stands(write) -> None:
    found = read_items([write("a.jsonl", [row(item_id="mine", num_words=69720, group="g")])]).table
    assert found.select("item_id", "num_words", "group").row(0) == ("mine", 69720, "g")
