"""A comparison as papers print it: base, new, difference; what is clear is bold."""

import polars as pl

from memprobe.report.paper_differences import difference_tables
from memprobe.report.papers import Style
from memprobe.tables.differences import DIFFERENCES


def row(**changes) -> dict:
    about = {
        **{"model_base": "main", "model_new": "main", "step_base": 10, "step": 10, "probe": "recall"},
        **{
            "metric": "exact_frac",
            "group": None,
            "condition": None,
            "base": 0.25,
            "new": 0.5,
            "difference": 0.25,
        },
        **{
            "ci_low": 0.125,
            "ci_high": 0.375,
            "ci_level": 0.95,
            "ci_method": "newcombe-paired",
            "n_items": 1200,
        },
        **{"n_clusters": 1200, "n_missing": 0, "outcome": "worse", "reason": None, "unit": "fraction"},
        **{"signature": "s"},
    }
    return about | changes


def tables(*rows: dict, style: Style | None = None):
    frame = pl.DataFrame(rows, schema=DIFFERENCES.empty().schema, orient="row")
    return difference_tables(DIFFERENCES.conform(frame), style or Style())


def test_a_difference_beyond_its_interval_is_bold_whichever_way_it_points() -> None:
    (table,) = tables(
        row(),
        row(metric="down", difference=-0.25, ci_low=-0.5, ci_high=-0.125),
        row(metric="across", ci_low=-0.125),
        row(metric="touches", ci_low=0.0),
        row(metric="none", ci_low=None, ci_high=None),
    )
    cells = {line.label: line.cells for line in table.lines if line.cells}
    assert [(cell.estimate, cell.interval) for cell in cells["exact_frac"]] == [
        ("0.25", ""),
        ("0.50", ""),
        ("0.25", "[0.12, 0.38]"),
    ]
    assert {name: each[2].best for name, each in cells.items()} == {
        **{"exact_frac": True, "down": True, "across": False, "touches": False, "none": False}
    }
    assert not any(cell.best for each in cells.values() for cell in each[:2])
    assert table.columns == ("base", "new", "difference")
    assert table.caption.startswith("main at step 10: both runs over the same items, and new minus base.")


def test_each_step_is_a_table_of_pooled_rows_that_were_compared() -> None:
    found = tables(
        row(),
        row(step=20, step_base=700),
        row(group="canary"),
        row(condition="exposures=2"),
        row(metric="told", difference=None, ci_low=None, ci_high=None, reason="told of the sequence"),
    )
    assert [each.label for each in found] == ["tab:memprobe-differences", "tab:memprobe-differences-2"]
    assert [len(each.lines) for each in found] == [2, 2]
    assert "at step 20 (base: step 700):" in found[1].caption
    assert tables() == []
