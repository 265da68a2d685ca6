"""The view of a comparison, rendered to 80 columns."""

import io

import polars as pl
from rich.console import Console

from memprobe.report.comparison import comparison_view
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
        **{"n_clusters": 1200, "n_missing": 0, "n_base_only": 0, "n_new_only": 300, "p_value": 0.0001},
        **{"outcome": "worse", "reason": None, "unit": "fraction", "signature": "s"},
    }
    return about | changes


def rendered(view) -> list[str]:
    console = Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)
    console.print(view, crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def view(*rows: dict, **more) -> list[str]:
    frame = DIFFERENCES.conform(pl.DataFrame(rows, schema=DIFFERENCES.empty().schema, orient="row"))
    return rendered(comparison_view(frame, ["base: a", "new:  b"], **more))


UNCLEAR = {"difference": -0.03125, "ci_low": -0.25, "ci_high": 0.25, "outcome": "unclear", "p_value": 0.03125}
NOT = {"difference": None, "ci_low": None, "ci_high": None, "outcome": None, "p_value": None}


def test_each_difference_stands_with_both_estimates_its_interval_and_n() -> None:
    lines = view(row(), row(metric="hit_frac", **UNCLEAR), row(probe="forecast", **NOT, reason="it is told"))
    assert [" ".join(line.split()) for line in lines] == [
        "base: a",
        "new: b",
        "difference: new - base; in brackets: 95% intervals",
        "",
        "recall of main, step 10",
        "metric, condition base new difference p n",
        lines[6],
        "exact_frac 0.25 0.50 0.25 [0.12, 0.38] <.001 1,200 worse",
        "hit_frac 0.25 0.50 -0.03 [-0.25, 0.25] .031 1,200",
        "",
        "Worse beyond the interval",
        "where base new difference p n",
        lines[12],
        "recall exact_frac 0.25 0.50 0.25 [0.12, 0.38] <.001 1,200 worse",
        "step 10",
        "",
        "1 of 2 differences worse (more memorized) beyond the interval, 0 better",
        "if nothing differed, about 2.5% of each would be found by chance",
        "not compared: 1 row of forecast: it is told",
    ]
    assert set(lines[6]) == set(lines[12]) == {"─"}


def test_only_the_last_step_and_all_items_are_shown_unless_all_is_asked_for() -> None:
    rows = [row(step=0, step_base=0, **UNCLEAR), row(**UNCLEAR), row(group="canary", **UNCLEAR)]
    short, full = view(*rows), view(*rows, everything=True)
    assert [line for line in short if " of main, " in line] == ["recall of main, step 10"]
    assert [line for line in full if " of main, " in line] == [
        "recall of main, step 0",
        "recall of main, step 10",
    ]
    assert any("group canary" in line for line in full)
    assert not any("canary" in line for line in short)


def test_the_clearest_differences_come_first_and_those_of_few_items_last() -> None:
    rows = [
        row(condition="k=few", n_clusters=19, ci_low=0.2499, ci_high=0.2501),
        row(condition="k=wide"),
        row(condition="k=narrow", ci_low=0.2, ci_high=0.3),
    ]
    lines = view(*rows)
    listed = [line.strip() for line in lines[lines.index("Worse beyond the interval") :] if "k=" in line]
    assert listed == ["k=narrow", "k=wide", "k=few"]


def test_steps_that_differ_are_both_named() -> None:
    assert "recall of main, step 10 beside step 700" in view(row(step_base=700, **UNCLEAR))


def test_everything_fits_80_columns_and_no_control_code_gets_through() -> None:
    long = {"condition": "scheme=nucleus0.9;n=10000;p=0.999", "metric": "greedy_rate_excess_frac"}
    lines = view(row(**long), row(group="\x1b[31mred\u202e", metric="hit_frac"))
    assert all(len(line) <= 80 for line in lines)
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    assert any("group \\x1b[31mred\\u202e" in line for line in lines)
