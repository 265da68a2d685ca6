"""What is told of a whole sequence: names stand once, long conditions are cut, bounds are shown alone."""

import polars as pl
import pytest
from rich.console import Console

from memprobe.report.over_time import sequence_tables
from memprobe.tables.summary import SUMMARY


def told(*rows: dict[str, object], everything: bool = False) -> str:
    common = {"model": "m", "probe": "retention", "metric": "half_life_steps", "unit": "steps"}
    schema = SUMMARY.empty().schema
    frame = pl.DataFrame([{name: (common | row).get(name) for name in schema} for row in rows], schema=schema)
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        for table in sequence_tables(frame, everything=everything):
            console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"estimate": 4.0, "ci_low": 2.0, "ci_high": 9.0}, "4.00 [2.00, 9.00]"),
        ({"estimate": 4.0, "ci_low": 2.0}, "4.00 [2.00, "),
        ({"ci_low": 300.0}, "above 300"),
        ({"ci_high": 40.0}, "below 40.00"),
        ({"ci_low": 0.0, "ci_high": 40.0}, "within [0.00, 40.00]"),
        ({}, "undefined"),
    ],
)
def test_what_is_known_of_a_number_without_an_estimate_is_shown(row, shown) -> None:
    assert shown in told(row)


def test_a_metric_is_named_once_above_its_conditions() -> None:
    lines = [
        line.rstrip()
        for line in told(
            {"condition": "outcome=recall_exact", "estimate": 1.0},
            {"condition": "outcome=recognition_correct;law=exponential", "estimate": 2.0},
        ).splitlines()
    ]
    assert lines[3] == "half_life_steps"
    assert lines[4].startswith(" outcome=recall_exact ")
    assert lines[5].startswith(" outcome=recognition_correct;")
    assert lines[6] == "  law=exponential"


def test_conditions_that_take_some_of_the_items_are_counted_and_shown_when_asked() -> None:
    rows = [{"condition": None, "estimate": 1.0}, {"condition": "exposures=8", "estimate": 2.0}]
    few, all_of_them = told(*rows), told(*rows, everything=True)
    assert "exposures=8" not in few
    assert "1 more condition: memprobe summary RUN --all" in " ".join(few.split())
    assert "exposures=8" in all_of_them
    assert "more condition" not in all_of_them
