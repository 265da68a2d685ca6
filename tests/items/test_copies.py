"""Copies under other ids: what counts as the same content, and what is said of it. Rungs: by hand."""

import polars as pl

from memprobe.items import copies, copy_notes, n_copies, read_items
from memprobe.items.copies import copy_groups


def table(write, *rows: dict[str, object]) -> pl.DataFrame:
    named = [{"item_id": f"i{n}"} | row for n, row in enumerate(rows)]
    return read_items([write("a.jsonl", named)]).table


def found(items: pl.DataFrame, ids=()) -> list[list[str]]:
    return copy_groups(items.with_columns(copies(items, ids)))


def test_the_same_text_is_the_same_content_however_it_is_given(write) -> None:
    items = table(
        write,
        {"text": "The cat sat."},
        {"prefix": "The cat", "suffix": " sat."},
        {"prefix": "The", "suffix": " cat sat."},
        {"text": "The cat sat.", "foil": "The dog ran."},
        {"text": "the cat sat."},
        {"text": "The cat sat. "},
    )
    # Case and white space are other contents: other tokens are scored.
    assert found(items) == [["i0", "i1", "i2", "i3"]]
    assert n_copies(copies(items)) == 3


def test_equal_token_ids_are_copies_and_so_is_a_text_of_these_ids(write) -> None:
    items = table(write, {"input_ids": [5, 6]}, {"input_ids": [5, 6]}, {"input_ids": [6, 5]}, {"text": "ab"})
    assert found(items) == [["i0", "i1"]]
    ids = pl.Series(["x", "x", "y", "y"])
    assert found(items, [ids]) == [["i0", "i1"], ["i2", "i3"]]


def test_tokenizers_join_what_one_of_them_sees_as_the_same(write) -> None:
    items = table(write, {"text": "a"}, {"text": "b"}, {"text": "c"})
    assert found(items, [pl.Series(["1", "1", "2"]), pl.Series(["1", "2", "2"])]) == [["i0", "i1", "i2"]]


def test_trials_of_one_excerpt_are_no_copies(write) -> None:
    trial = {"text": "One two three. Four five six.", "segment_1": "One two", "segment_2": "Four five"}
    items = table(write, trial, trial | {"segment_2": "five six"}, trial, {"text": trial["text"]})
    same_ids = pl.Series(["x"] * 4)
    assert found(items) == found(items, [same_ids]) == [["i0", "i2"]]


def test_the_note_counts_items_and_contents_and_names_few(write) -> None:
    items = table(write, *[{"text": "same"}] * 5, {"text": "b"}, {"text": "b"}, {"text": "c"})
    (note,) = copy_notes(items.with_columns(copies(items)), ())
    assert note.startswith("7 items hold 2 contents under several ids (i0 = i1 = i2 = ..., i5 = i6): ")
    assert copy_notes(items.tail(2).with_columns(copies(items.tail(2))), ()) == []


def test_a_content_that_is_trained_on_and_a_control_is_said(write) -> None:
    items = table(
        write,
        {"text": "a", "first_step": 5},
        {"text": "a"},
        {"text": "b"},
        {"text": "b"},
        {"text": "c", "first_step": 5},
        {"text": "c", "first_step": 9},
    )
    notes = copy_notes(items.with_columns(copies(items)), ("first_step",))
    assert len(notes) == 2
    assert notes[1].startswith("1 content stands under trained and never-trained ids (i0 = i1): ")
