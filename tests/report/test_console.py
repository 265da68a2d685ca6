"""The terminal views, rendered to strings: what every number carries, and what fits 80 columns."""

import io
import math

import polars as pl
import pytest
from rich.console import Console

from memprobe.report.console import head_lines, spread, summary_view, telling
from memprobe.report.expected import forecast_view
from memprobe.report.plain import number, short, sparkline
from memprobe.tables.manifest import Manifest
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY
from tests.manifests import manifest_of

WIDTH = 80


def rendered(view, width: int = WIDTH) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(view, crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(**changes) -> dict:
    about = {
        "model": "main",
        "revision": "step0",
        "step": 0,
        "probe": "recall",
        "metric": "exact_frac",
        "group": None,
        "condition": None,
        "estimate": 0.25,
        "ci_low": 0.1,
        "ci_high": 0.5,
        "ci_level": 0.95,
        "ci_method": "wilson",
        "n_items": 12,
        "n_clusters": 12,
        "n_missing": 0,
        "unit": "fraction",
        "version": 1,
        "signature": "s",
    }
    return about | changes


def summary(*rows: dict) -> pl.DataFrame:
    return SUMMARY.conform(pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row"))


def manifest(**changes) -> Manifest:
    about = {
        "checkpoints": [{"model": "main", "step": 0}, {"model": "main", "step": 1000}],
        "items": {"n_items": 1200, "n_skipped": 0, "n_unfit": 0},
        "dtype": "float32",
        "device": "cpu",
        "bos": "default",
    }
    return manifest_of(**about | changes)


def test_a_summary_shows_first_and_last_step_with_interval_and_n():
    frame = summary(
        row(),
        row(step=500, revision="step500", estimate=0.5, ci_low=0.25, ci_high=0.75),
        row(step=1000, revision="step1000", estimate=1.0, ci_low=0.75, ci_high=1.0, n_items=11),
    )
    assert rendered(summary_view(frame, manifest())) == [
        "main: 2 checkpoints, step 0 to 1,000",
        "1,200 items; float32 on cpu, BOS default",
        "in brackets: 95% intervals",
        "",
        "recall of main",
        "metric, condition             step 0         step 1,000  trend   n",
        "─" * 66,
        # Bars by thirds of the way from 0.25 to 1, in sevenths: 0, 2.33, 7.
        "exact_frac         0.25 [0.10, 0.50]  1.00 [0.75, 1.00]  ▁▃█    11",
    ]


def test_the_head_counts_what_was_left_out_verified_and_failed():
    items = {"n_items": 7, "n_skipped": 2, "n_unfit": 1}
    checks = {"greedy_verified": 12, "greedy_tf_disagree": 1}
    lines = head_lines(manifest(items=items, checks=checks, failures=[{}, {}]))
    assert lines[1] == "7 items, 3 left out (see skipped.jsonl); float32 on cpu, BOS default"
    assert "12 continuations generated to check teacher forcing: 1 disagree" in lines
    assert "2 checkpoints failed (see errors.jsonl): what follows is incomplete" in lines


def test_the_head_names_every_sequence_and_one_checkpoint_by_its_step():
    checkpoints = [{"model": "a", "step": 2000}, {"model": "b", "step": 10}, {"model": "b", "step": 5}]
    assert head_lines(manifest(checkpoints=checkpoints))[0] == "a: step 2,000; b: 2 checkpoints, step 5 to 10"


def test_each_sequence_has_its_own_tables():
    frame = summary(row(), row(model="other", estimate=0.75, ci_low=0.5, ci_high=0.9))
    lines = rendered(summary_view(frame, manifest()))
    first, second = lines.index("recall of main"), lines.index("recall of other")
    assert any("0.25 [0.10, 0.50]" in line for line in lines[first:second])
    assert any("0.75 [0.50, 0.90]" in line for line in lines[second:])
    assert not any("0.75 [" in line for line in lines[first:second])


def test_groups_and_exposures_are_broken_down_at_the_last_step_in_order_of_number():
    frame = summary(
        row(),
        row(step=9, estimate=0.4),
        *(
            row(step=9, group=name, estimate=value, n_items=n)
            for name, value, n in (("b", 0.3, 5), ("a", 0.6, 7))
        ),
        *(
            row(step=9, condition=f"exposures={count}", estimate=value)
            for count, value in ((10, 0.9), (2, 0.2), (0, 0.05))
        ),
        row(step=0, group="a", estimate=0.01),
    )
    lines = rendered(summary_view(frame, manifest()))
    exposed = lines[lines.index("By number of exposures, step 9") :]
    assert [line.split()[0] for line in exposed if "[" in line][:3] == ["0", "2", "10"]
    grouped = lines[lines.index("By group, step 9") :]
    assert [line.split()[:2] for line in grouped if "[" in line] == [["a", "0.60"], ["b", "0.30"]]
    assert [line.split()[-1] for line in grouped if "[" in line] == ["7", "5"]


def test_probes_that_measure_other_numbers_of_items_have_a_table_with_an_n_of_their_own() -> None:
    """Recall of 7 and 5 items, recognition of 7 of them, compression of 2: two tables, each n its own."""
    frame = summary(
        *(row(step=9, group=name, estimate=0.1, n_items=n) for name, n in (("a", 7), ("b", 5))),
        row(step=9, group="a", estimate=0.2, n_items=7, probe="recognition", metric="accuracy_frac"),
        row(step=9, group="a", estimate=0.3, n_items=2, probe="compression", metric="memorized_frac"),
    )
    lines = rendered(summary_view(frame, manifest()))
    places = [number for number, line in enumerate(lines) if line == "By group, step 9"]
    assert len(places) == 2
    both, alone = lines[places[0] : places[1]], lines[places[1] :]
    assert [line.split()[-1] for line in both if "[" in line] == ["7", "5"]
    assert [line.split()[-1] for line in alone if "[" in line] == ["2"]


def test_many_conditions_show_the_telling_ones_and_count_the_rest():
    conditions = [f"scheme=full;n={n};p={p}" for n in (1, 10, 100) for p in (0.1, 0.5, 0.9)]
    frame = summary(*(row(probe="extraction", metric="rate_frac", condition=each) for each in conditions))
    lines = rendered(summary_view(frame, manifest()))
    assert [line.split()[0] for line in lines if "scheme=" in line] == [
        c for c in conditions if c.endswith("0.5")
    ]
    assert "6 more conditions: memprobe summary RUN --all" in lines
    everything = rendered(summary_view(frame, manifest(), everything=True))
    assert [line.split()[0] for line in everything if "scheme=" in line] == conditions


def test_a_long_sequence_fits_80_columns_with_its_numbers_whole():
    steps = range(0, 154_000, 1000)
    frame = summary(
        *(
            row(
                step=step, revision=f"step{step}", probe="extraction", metric="rate_frac", condition=condition
            )
            for step in steps
            for condition in ("scheme=top40-nucleus0.9-t0.7;n=1000000;p=0.999", "scheme=full;n=1;p=0.5")
        )
    )
    lines = rendered(summary_view(frame, manifest()))
    assert max(map(len, lines)) <= WIDTH
    assert sum("0.25 [0.10, 0.50]  0.25 [0.10, 0.50]" in line for line in lines) == 2
    assert not any("…" in line for line in lines)


def contrasts(step: int, *, never: float, excess: float, twin: float | None = None, **about) -> list[dict]:
    """The rows beside a rate: trained, never-trained, and in excess of both."""
    prefix = f"{about.pop('condition')};" if "condition" in about else ""
    metric = about.get("metric", "exact_frac")
    less = {"metric": metric.replace("_frac", "_excess_frac"), "ci_low": -0.5, "ci_high": 0.75}
    rows = [
        row(step=step, **about | {"condition": f"{prefix}trained=true", "n_items": 8}),
        row(step=step, **about | {"condition": f"{prefix}trained=false", "estimate": never, "n_items": 4}),
        row(step=step, **about | less | {"condition": f"{prefix}control=never-trained", "estimate": excess}),
    ]
    if twin is not None:
        rows.append(row(step=step, **about | less | {"condition": f"{prefix}control=twin", "estimate": twin}))
    return rows


def test_the_rate_on_never_trained_items_stands_in_a_column_of_its_own():
    frame = summary(
        row(),
        row(metric="lcp_tokens", estimate=3.0, ci_low=2.0, ci_high=4.0),
        row(step=1000, estimate=0.5, ci_low=0.25, ci_high=0.75),
        row(step=1000, metric="lcp_tokens", estimate=5.0, ci_low=4.0, ci_high=6.0),
        *contrasts(0, never=0.0, excess=0.1),
        *contrasts(1000, never=0.125, excess=0.375),
    )
    lines = rendered(summary_view(frame, manifest()))
    start = lines.index("recall of main")
    assert lines[start + 1 : start + 5] == [
        f"{'never trained':>55}",
        f"metric, condition{'step 1,000':>19}{'(n = 4)':>19}  trend   n",
        "─" * 66,
        "exact_frac         0.50 [0.25, 0.75]  0.12 [0.10, 0.50]  ▁█     12",
    ]
    # What has no never-trained rate keeps its first step.
    further = lines[lines.index("recall of main, further") :]
    assert any("lcp_tokens         3.00 [2.00, 4.00]  5.00 [4.00, 6.00]" in line for line in further)
    assert not any("exact_frac" in line and "trained=" in line for line in lines)


def test_the_excess_over_never_trained_items_and_the_control_is_shown_at_the_last_step():
    frame = summary(
        row(step=9),
        *contrasts(0, never=0.0, excess=0.11, twin=0.22),
        *contrasts(9, never=0.0, excess=0.33, twin=0.44),
    )
    lines = rendered(summary_view(frame, manifest()))
    table = lines[lines.index("In excess, step 9") :]
    assert table[1].split() == ["metric,", "condition", "over", "never-trained", "over", "twin"]
    assert table[3] == "recall exact_excess_frac  0.33 [-0.50, 0.75]  0.44 [-0.50, 0.75]"


def test_a_rate_with_many_conditions_shows_one_excess_unless_all_are_asked_for():
    conditions = [f"scheme=full;n={10**k};p=0.5" for k in range(7)]
    about = {"probe": "extraction", "metric": "rate_frac"}
    frame = summary(
        *(row(condition=each, **about) for each in conditions),
        *(each for c in conditions for each in contrasts(0, never=0.0, excess=0.5, condition=c, **about)),
    )
    lines = rendered(summary_view(frame, manifest()))
    excess = lines[lines.index("In excess, step 0") :]
    assert sum("[-0.50, 0.75]" in line for line in excess) == 1
    lines = rendered(summary_view(frame, manifest(), everything=True))
    excess = lines[lines.index("In excess, step 0") :]
    assert sum("[-0.50, 0.75]" in line for line in excess) == 7


def test_rates_beside_never_trained_items_fit_80_columns_over_many_steps():
    about = {"probe": "extraction", "metric": "rate_frac"}
    condition = "scheme=top40;n=10000;p=0.5"
    frame = summary(
        *(row(step=step, condition=condition, n_items=512, **about) for step in range(0, 154_000, 1000)),
        *(
            each
            for step in range(0, 154_000, 1000)
            for each in contrasts(step, never=0.0, excess=0.1, condition=condition, **about)
        ),
    )
    lines = rendered(summary_view(frame, manifest()))
    assert max(map(len, lines)) <= WIDTH
    # Eight bars leave room for the longest condition of the defaults on one line.
    assert any(condition in line and line.endswith("512") for line in lines)


def doses(*rows: dict) -> pl.DataFrame:
    about = dict.fromkeys(DOSE_RESPONSE.columns) | {
        **{"model": "main", "revision": "step9", "step": 9, "probe": "recall", "metric": "exact_frac"},
        **{"dose": "exposures", "fit": "linear_log10", "slope": 0.25, "ci_low": 0.1, "ci_high": 0.4},
        **{"ci_level": 0.95, "n_items": 40, "n_outcomes": 40, "n_clusters": 40, "n_levels": 5},
        **{"unit": "fraction per tenfold", "version": 1, "signature": "s"},
    }
    rows = [about | each for each in rows]
    return DOSE_RESPONSE.conform(pl.DataFrame(rows, schema=DOSE_RESPONSE.empty().schema, orient="row"))


def test_each_dose_has_a_line_with_both_slopes_at_the_last_step():
    log_odds = {"fit": "logistic", "slope": 2.5, "ci_low": 1.0, "ci_high": 4.0}
    none = {"fit": "logistic", "slope": None, "ci_low": None, "ci_high": None}
    table = doses(
        {"step": 0, "slope": 0.99},
        {},
        log_odds,
        {"group": "a", "slope": 0.77},
        {"dose": "prefix_tokens", "n_levels": 9},
        {"dose": "prefix_tokens"} | none | {"reason": "separated: no 1 below 8, no 0 above 4"},
        {"model": None, "revision": None, "step": None, "dose": "parameters", "n_levels": 2},
    )
    lines = rendered(summary_view(summary(row(step=9)), manifest(), table))
    found = lines[lines.index("Change per tenfold, step 9") :]
    cells = [" ".join(line.split()) for line in found]
    assert cells[3] == "exposures (5) recall exact_frac 0.25 [0.10, 0.40] 2.50 [1.00, 4.00] 40"
    assert cells[4] == "prefix_tokens (9) recall exact_frac 0.25 [0.10, 0.40] separated 40"
    # What is about all models stands behind them, and has no step.
    last = cells[cells.index("Change per tenfold") :]
    assert last[3] == "parameters (2) recall exact_frac 0.25 [0.10, 0.40] 40"
    assert not any("0.99" in line or "0.77" in line for line in lines)


def test_without_doses_there_is_no_table_of_them():
    for given in (None, doses()):
        assert not any(
            "tenfold" in line for line in rendered(summary_view(summary(row()), manifest(), given))
        )


def test_the_head_names_the_control():
    control = {"model": "twin", "revision": "step9", "label": "twin"}
    assert "control: twin, step9" in head_lines(manifest(control=control))
    assert not any("control" in line for line in head_lines(manifest(control=None)))


def test_an_empty_summary_says_that_there_is_no_estimate():
    assert rendered(summary_view(summary(), manifest()))[-1].startswith("no estimate: no checkpoint")
    # Scored, but for one, and a question over time has no answer.
    told = manifest(warnings=["main, profile: 2 items"], failures=[{}])
    assert rendered(summary_view(summary(), told))[-1] == "no estimate: see the warnings"
    failed = told.changed(failures=told.failures * len(told.checkpoints))
    assert rendered(summary_view(summary(), failed))[-1].startswith("no estimate: no checkpoint")


@pytest.mark.parametrize(
    ("estimate", "low", "high", "shown"),
    [
        (0.857, 0.78, 0.92, "0.86 [0.78, 0.92]"),
        (0.0, 0.0, 0.004, "0.00 [0.00, 0.00]"),
        (-0.001, -0.2, 0.2, "0.00 [-0.20, 0.20]"),
        (12345.6, 9999.4, 20000.0, "1.23e+04 [1e+04, 2e+04]"),
        (math.inf, 3.0, math.inf, "inf [3.00, inf]"),
        (-math.inf, -math.inf, -1.5, "-inf [-inf, -1.50]"),
    ],
)
def test_an_estimate_is_never_shown_without_its_interval(estimate, low, high, shown):
    assert number(row(estimate=estimate, ci_low=low, ci_high=high)) == shown


def test_what_has_no_estimate_is_undefined_and_what_has_no_row_is_blank():
    assert number(row(estimate=None, ci_low=None, ci_high=None)) == "undefined"
    assert number(None) == ""
    # One item says nothing about how items differ.
    assert number(row(ci_low=None, ci_high=None)) == "0.25 [no interval]"
    assert number(row(estimate=40.0, ci_low=10.0, ci_high=None)) == "40.00 [10.00, open]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.005, "0.01"), (0.004, "0.00"), (-0.004, "0.00"), (-0.006, "-0.01"), (99.99, "99.99"), (123.4, "123")],
)
def test_numbers_are_short_and_zero_has_no_sign(value, text):
    assert short(value) == text


def test_a_sparkline_reaches_from_the_smallest_to_the_largest():
    # Seven steps between the lowest and the highest bar: 0, 3.5 -> 4, 7.
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([-2.0, -1.0]) == "▁█"
    # Nothing rises and nothing falls: a line in the middle, which is no lowest value.
    assert sparkline([0.3, 0.3]) == "▄▄"


def test_a_sparkline_leaves_a_gap_where_nothing_is_known():
    assert sparkline([None, 0.0, math.inf, 1.0]) == " ▁ █"
    assert sparkline([None, None]) == ""


def test_steps_are_spread_evenly_with_first_and_last():
    assert spread([0, 70, 140, 210, 280, 350, 420, 490], 6) == [0, 70, 210, 280, 420, 490]
    assert spread([1, 2], 6) == [1, 2]
    long = spread(list(range(154)))
    assert (long[0], long[-1], len(long), len(set(long))) == (0, 153, 16, 16)


def test_few_conditions_are_all_telling():
    assert telling([None]) == [None]
    assert telling(list("abcdef")) == list("abcdef")
    # Of more, six evenly apart with first and last: the longest context is not the one to hide.
    assert telling(list("abcdefghi")) == list("acdfgi")


def test_a_forecast_shows_what_is_left_and_for_how_long():
    rows = [
        {
            "model": "main",
            "revision": f"step{s}",
            "step": s,
            "units": 4,
            "units_left": left,
            "tokens_left": 9000 * left,
            "bytes": 5,
        }
        for s, left in ((0, 0), (1000, 3))
    ]
    totals = {
        "items": 1234,
        "items_skipped": 5,
        "dtype": "bfloat16",
        "device": "cuda:0",
        "units": 8,
        "units_left": 3,
        "tokens_left": 27000,
        "estimated_s": 1234.4,
        "run": "reports/" + "long-" * 20,
    }
    lines = rendered(forecast_view(pl.DataFrame(rows), totals))
    assert [line.split() for line in lines if line.startswith("main")] == [
        ["main", "step0", "0", "4", "0", "0", "5"],
        ["main", "step1000", "1,000", "4", "3", "27,000", "5"],
    ]
    assert "1,234 items, 5 left out" in lines
    assert "bfloat16 on cuda:0" in lines
    assert "3 of 8 units left: 27,000 tokens" in lines
    assert "time: about 1,234 s of scoring and reading, without generation" in lines
    # A path is never broken over lines: it is there to be copied.
    assert f"run directory: {totals['run']}" in lines
    unknown = rendered(forecast_view(pl.DataFrame(rows), totals | {"estimated_s": None}))
    assert any(line.startswith("time: unknown") for line in unknown)
