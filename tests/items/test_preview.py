"""Counts of an item table against tables that a reader can count."""

import polars as pl
import pytest

from memprobe.items import inspect_items
from memprobe.items.preview import duplicates, preview, quantiles, samples


@pytest.fixture
def seen(write):
    """Return the preview of rows."""

    def look(rows):
        inspected = inspect_items([write("a.jsonl", rows)])
        assert inspected.findings.is_empty()
        return preview(inspected.table, inspected.given)

    return look


def test_shapes_groups_and_lengths_are_counted(seen) -> None:
    found = seen(
        [
            {"text": "abc", "group": "b"},
            {"prefix": "ab", "suffix": "cde", "group": "a", "exposures": 8},
            {"prefix": "x", "suffix": "y", "group": "b", "exposures": 8, "foil": "z", "foil_kind": "near"},
            {"input_ids": [1, 2, 3, 4], "doc_id": "d", "batch_id": "7", "exposures": 0},
        ]
    )
    assert found["n_items"] == 4
    assert found["shapes"] == {"prefix + suffix": 2, "input_ids": 1, "text": 1}
    assert found["groups"] == {"b": 2, "a": 1}
    assert found["n_without_group"] == 1
    assert found["exposures"] == {"8": 2, "0": 1}
    assert (found["n_foils"], found["foil_kinds"]) == (1, {"near": 1})
    assert (found["n_documents"], found["n_batches"]) == (1, 1)
    # Characters: 3, 5, 2.
    assert found["length_chars"] == {"min": 2, "p5": 2, "median": 3, "p95": 3, "max": 5}
    assert found["length_ids"]["max"] == 4
    assert found["steps"] is None


def test_steps_tell_never_trained_on_from_not_said(seen) -> None:
    found = seen(
        [{"text": "a", "first_step": 5}, {"text": "b", "first_step": 9, "last_step": 12}, {"text": "c"}]
    )
    assert found["steps"] == {
        "n_trained_on": 2,
        "n_never": 1,
        "n_untimed": 0,
        "first_step_min": 5,
        "first_step_max": 9,
        "last_step_max": 12,
        "n_with_exposure_steps": 0,
    }
    assert seen([{"text": "a", "first_step": None}])["steps"]["n_never"] == 1
    assert seen([{"text": "a"}])["steps"] is None
    known = seen([{"text": "a", "first_step": 5, "exposure_steps": [5, 7]}, {"text": "b"}])["steps"]
    assert (known["n_with_exposure_steps"], known["last_step_max"]) == (1, 7)


def test_equal_contents_and_near_ones_are_told_apart(write) -> None:
    rows = [
        {"item_id": "one", "text": "The  cat sat."},
        {"item_id": "same", "text": "The  cat sat."},
        {"item_id": "near", "text": " the cat\tSAT.\n"},
        {"item_id": "split", "prefix": "The cat", "suffix": " sat."},
        {"item_id": "other", "text": "The cat sat!"},
        {"item_id": "ids", "input_ids": [1]},
        {"item_id": "ids2", "input_ids": [2]},
    ]
    found = duplicates(inspect_items([write("a.jsonl", rows)]).table)
    assert found.same == (("one", "same"),)
    assert found.near == (("one", "near", "split"),)


def test_further_columns_come_with_type_nulls_and_distinct_values(seen) -> None:
    found = seen([{"text": "a", "year": 1851, "who": "x"}, {"text": "b", "year": 1851}])
    assert found["further_columns"] == [
        {"column": "year", "type": "Int64", "n_null": 0, "n_distinct": 1},
        {"column": "who", "type": "String", "n_null": 1, "n_distinct": 1},
    ]


def test_quantiles_are_values_that_are_there() -> None:
    assert quantiles(pl.Series([1, 2, 9, None])) == {"min": 1, "p5": 1, "median": 2, "p95": 2, "max": 9}
    assert quantiles(pl.Series([4])) == dict.fromkeys(("min", "p5", "median", "p95", "max"), 4)
    assert quantiles(pl.Series([None], dtype=pl.Int64)) is None


def test_the_preview_holds_no_text_and_samples_do(write) -> None:
    inspected = inspect_items(
        [write("a.jsonl", [{"text": "Zanzibar", "foil": "Quokka"}] + [{"text": f"t{i}"} for i in range(9)])]
    )
    assert "Zanzibar" not in str(preview(inspected.table, inspected.given))
    shown = samples(inspected.table)
    assert len(shown) == 3
    assert shown[0]["text"] == "Zanzibar"
    assert shown[0]["foil"] == "Quokka"
    assert set(shown[1]) == {"item_id", "text"}


def test_nothing_can_be_counted_too() -> None:
    from memprobe.items import ITEMS

    found = preview(ITEMS.empty(), frozenset())
    assert found["n_items"] == 0
    assert found["length_chars"] is None
    assert found["same_content"] == found["near_same_content"] == []
