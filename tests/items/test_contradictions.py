"""Columns that contradict each other are bad input, named by file, line and column."""

import pytest

from memprobe.items import inspect_items, read_items
from memprobe.items.contradictions import contradictions, doubts


@pytest.mark.parametrize(
    ("row", "column", "what"),
    [
        ({"exposures": 0, "first_step": 100}, "first_step", "first_step 100, but exposures is 0"),
        ({"exposures": 0, "first_step": 0}, "first_step", "first_step 0, but exposures is 0"),
        ({"exposures": 0, "first_step": 5, "exposure_steps": [5]}, "first_step", "exposures is 0"),
        ({"exposures": 1, "first_step": 5, "last_step": 9}, "exposures", "are two times"),
        ({"exposures": 2, "trained": False}, "trained", "trained is false, but exposures is 2"),
        ({"exposures": 0, "trained": True}, "trained", "trained is true, but exposures is 0"),
        ({"first_step": 5, "trained": False}, "trained", "trained is false, but first_step is given"),
        ({"first_step": 9, "last_step": 5}, "last_step", "last_step 5 comes before first_step 9"),
        ({"last_step": 5}, "last_step", "last_step 5 without first_step"),
        ({"exposure_steps": [5]}, "exposure_steps", "exposure_steps without first_step"),
        ({"first_step": 4, "exposure_steps": [5]}, "exposure_steps", "begins at 5, but first_step is 4"),
        (
            {"first_step": 5, "last_step": 6, "exposure_steps": [5, 9]},
            "exposure_steps",
            "ends at 9, but last_step is 6",
        ),
        (
            {"first_step": 5, "exposures": 3, "exposure_steps": [5, 9]},
            "exposure_steps",
            "holds 2, but exposures is 3",
        ),
        ({"first_step": -1}, "first_step", "-1, below 0"),
        ({"trained": "maybe"}, "trained", "a string of 5 characters, not true or false"),
    ],
)
def test_what_cannot_be_true_together_is_named_with_its_place(row, column, what, write, message):
    good = {"text": "nothing is said of it"}
    found = message(write("a.jsonl", [good, {"text": "a contradiction"} | row]))
    assert f"a.jsonl, line 2, column {column}" in found
    assert what in found
    assert "line 1" not in found


@pytest.mark.parametrize(
    "row",
    [
        {"exposures": 0, "first_step": None},
        {"exposures": 3, "first_step": None},
        {"exposures": 3, "first_step": 5, "last_step": 9},
        # One batch may hold an item twice.
        {"exposures": 2, "first_step": 5, "exposure_steps": [5, 5]},
        {"exposures": 1, "first_step": 5, "last_step": 5, "trained": True},
        {"trained": True, "first_step": None},
        {"trained": False},
        {"first_step": 0},
    ],
)
def test_what_can_be_true_together_is_taken(row, write):
    assert read_items([write("a.jsonl", [{"text": "a text"} | row])]).table.height == 1


def test_trained_is_read_from_csv(write):
    file = write("a.csv", "text,trained\none,true\ntwo,False\nthree,\n")
    assert read_items([file]).table["trained"].to_list() == [True, False, None]


def test_a_value_that_cannot_be_read_is_named_once():
    assert contradictions({"exposures": 0, "first_step": 4}, {"last_step"}) == []


def test_a_contradiction_is_left_out_and_counted_where_that_is_asked_for(write):
    file = write("a.jsonl", [{"text": "good"}, {"text": "bad", "exposures": 0, "first_step": 3}])
    items = read_items([file], on_bad="skip")
    assert (items.table.height, items.skipped["column"].to_list()) == (1, ["first_step"])


def test_a_first_step_of_0_is_told_of(write):
    file = write("a.jsonl", [{"item_id": "a", "text": "x", "first_step": 0}, {"text": "y", "first_step": 3}])
    (text,) = doubts(inspect_items([file]).table)
    assert text.startswith("1 item of first_step 0 (a) count as trained on before the first update")
