"""Summaries for a terminal: from the summary table to rich renderables; every number with its interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memprobe.escape import visible
from memprobe.report.grid import grid_tables
from memprobe.report.over_time import sequence_tables
from memprobe.report.plain import (
    at_this_step,
    folded,
    harmless,
    headed,
    number,
    parts_of,
    plain_table,
    sparkline,
)
from memprobe.tables.conditions import (
    NEVER_TRAINED,
    OF_COMPARISON,
    broken_down,
    dropped,
    has,
    has_pair,
    value_of,
)
from memprobe.tables.manifest import LeftOutEntry, Manifest
from memprobe.tables.selection import at_last_step, of_checkpoints
from memprobe.wording import at_step, counted

_MANY_CONDITIONS = 6
# Width that 80 columns leave for a label next to two intervals, a trend and a count.
_LABEL_CHARS = 27
_MAX_BARS = 16
# Number of bars that 80 columns leave room for next to two rates with their intervals.
_FEW_BARS = 8
_Step = TypeVar("_Step")
# Names of a probe and its metric, and the condition that is shown.
_Leading = tuple[str, str, str | None]
# The metric's row for each part of the items.
_ByPart = dict[str, dict[str, Any]]


def summary_view(
    summary: pl.DataFrame,
    manifest: Manifest,
    doses: pl.DataFrame | None = None,
    grids: Mapping[str, pl.DataFrame] | None = None,
    *,
    everything: bool = False,
) -> RenderableType:
    """Return a view of the summary of a run.

    Args:
        summary: Rows of `SUMMARY`.
        manifest: The run's manifest, for the head lines.
        doses: Rows of `DOSE_RESPONSE`; None if there are none.
        grids: The tables that the grids of the run's probes show, by name; None if there are none.
        everything: Show all conditions instead of a selection.
    """
    parts: list[RenderableType] = [Text(visible(line)) for line in head_lines(manifest)]
    summary, doses = harmless(summary), None if doses is None else harmless(doses)
    parts += [Text(f"in brackets: {level:.0%} intervals") for level in summary["ci_level"].unique().sort()]
    tables: list[Table] = []
    beside = has(*OF_COMPARISON)
    plain = summary.filter(~beside, of_checkpoints())
    over_sequence = summary.filter(~of_checkpoints())
    for model in summary["model"].unique(maintain_order=True):
        of_model, contrasts = (
            each.filter(pl.col("model") == model) for each in (plain, summary.filter(beside))
        )
        beside_of = parts_of(contrasts, "probe")
        for probe, rows in parts_of(of_model, "probe").items():
            others = beside_of.get(probe, contrasts.clear())
            tables += _probe_tables(rows, others, f"{probe} of {model}", everything=everything)
        tables += grid_tables(manifest, grids or {}, model)
        excess = _excess_table(contrasts, everything=everything)
        tables += [excess] if excess is not None else []
        for column, title in (("exposures", "By number of exposures"), ("group", "By group")):
            tables += _breakdowns(of_model, column, title)
        tables += sequence_tables(over_sequence.filter(pl.col("model") == model), everything=everything)
        tables += _dose_tables(doses, model)
    tables += _dose_tables(doses, None)
    for table in tables:
        parts += [Text(""), headed(table)]
    if summary.is_empty():
        scored = len(manifest.failures) < len(manifest.checkpoints)
        why = "see the warnings" if scored and manifest.warnings else "no checkpoint could be scored"
        parts.append(Text(f"no estimate: {why}"))
    return Group(*parts)


def head_lines(run: Manifest) -> list[str]:
    """Return the lines above the tables: what was measured, on what, and what was left out."""
    steps: dict[str, list[int | None]] = {}
    for each in run.checkpoints:
        steps.setdefault(each.model, []).append(each.step)
    sequences = [
        f"{model}: {len(found)} checkpoints, step {_known(found, min):,} to {_known(found, max):,}"
        if len(found) > 1
        else f"{model}: {at_step(found[0])}"
        for model, found in steps.items()
    ]
    items = run.measured
    left_out = items.n_skipped + items.n_unfit
    lines = [
        "; ".join(sequences),
        counted(items.n_items, "item")
        + (f", {left_out:,} left out (see skipped.jsonl)" if left_out else "")
        + f"; {run.dtype} on {run.device}, BOS {run.bos}",
    ]
    lines += left_out_lines(run)
    verified, disagree = (run.checks.get(key) for key in ("greedy_verified", "greedy_tf_disagree"))
    if verified:
        lines.append(
            f"{counted(verified, 'continuation')} generated to check teacher forcing: {disagree} disagree"
        )
    lines += [f"note: {text}" for text in notes(run)]
    lines += [f"warning: {text}" for text in run.warnings]
    if run.control:
        lines.append(f"control: {run.control.model}, {run.control.revision}")
    if run.failures:
        n_failed = counted(len(run.failures), "checkpoint")
        lines.append(f"{n_failed} failed (see errors.jsonl): what follows is incomplete")
    return lines


def _known(steps: Sequence[int | None], end: Callable[[Iterable[int]], int]) -> int:
    return end(step for step in steps if step is not None)


def left_out_lines(run: Manifest) -> list[str]:
    """Return a line for each probe that leaves items out: how many, and why."""
    of_probe: dict[tuple[str, str, str], list[LeftOutEntry]] = {}
    for each in run.left_out:
        of_probe.setdefault((each.probe, each.model, each.entry or ""), []).append(each)
    several = len({each.model for each in run.checkpoints}) > 1
    lines = []
    for (probe, model, entry), found in of_probe.items():
        name = " ".join(part for part in (probe, entry, f"of {model}" if several else "") if part)
        total = counted(sum(each.n_items for each in found), "item")
        reasons = ", ".join(f"{each.n_items:,} {each.reason}" for each in found)
        lines.append(f"{name}: {total} left out ({reasons})")
    return lines


def notes(run: Manifest) -> list[str]:
    """Return the notes on the question and on loading, the latter with the checkpoints that they concern."""
    of_loading = []
    for each in run.load_notes:
        names = [f"{model}@{revision}" for model, revision in each.checkpoints]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        of_loading.append(f"{', '.join(names[:3])}{more}: {each.text}")
    return [*run.notes, *of_loading]


def _probe_tables(rows: pl.DataFrame, others: pl.DataFrame, title: str, *, everything: bool) -> list[Table]:
    """Return tables of a probe's metrics over all items; metrics known for never-trained items come first.

    Args:
        rows: Rows of `SUMMARY` of one probe and model.
        others: Such rows for trained or never-trained items alone, and in excess of a control.
        title: Title of the first table.
        everything: Show all conditions instead of a selection.
    """
    pooled = rows.filter(pl.col("group").is_null(), ~has("exposures"))
    never = others.filter(pl.col("group").is_null(), has_pair(NEVER_TRAINED)).with_columns(
        dropped(*OF_COMPARISON)
    )
    rates = pl.col("metric").is_in(never["metric"].unique().to_list())
    tables = [
        _probe_table(part, beside, title, everything=everything)
        for part, beside in ((pooled.filter(rates), never), (pooled.filter(~rates), None))
        if part.height
    ]
    for table in tables[1:]:
        table.title = f"{title}, further"
    return tables


def _probe_table(pooled: pl.DataFrame, never: pl.DataFrame | None, title: str, *, everything: bool) -> Table:
    """Return a table of first step, last step and trend; the rates in `never` replace the first step."""
    steps = sorted(pooled["step"].unique().to_list())
    table = plain_table(title)
    table.add_column("metric, condition", overflow="fold")
    if never is None or len(steps) == 1:
        table.add_column(at_step(steps[0]), justify="right", no_wrap=True)
    if len(steps) > 1:
        table.add_column(at_step(steps[-1]), justify="right", no_wrap=True)
    if never is not None:
        of = _n_items(never.filter(at_this_step(steps[-1])), everything=everything)
        table.add_column(f"never trained\n(n = {of})", justify="right", no_wrap=True)
    if len(steps) > 1:
        table.add_column("trend", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    hidden = 0
    never_of = None if never is None else parts_of(never, "metric")
    for metric, of_metric in parts_of(pooled, "metric").items():
        under = parts_of(of_metric, "condition")
        beside = None if never_of is None else parts_of(never_of[metric], "condition")
        conditions = list(under)
        shown = conditions if everything else telling(conditions)
        hidden += len(conditions) - len(shown)
        if shown and shown[0] is not None:
            table.add_row(metric)
        for condition in shown:
            label = metric if condition is None else folded(f" {condition}", _LABEL_CHARS)
            table.add_row(label, *_condition_cells(under, beside, condition, steps))
    if hidden:
        table.caption = f"{counted(hidden, 'more condition')}: memprobe summary RUN --all"
        table.caption_justify = "left"
    return table


def _n_items(rows: pl.DataFrame, *, everything: bool) -> str:
    """Return the number of items of the rows that are shown, or the smallest and largest number."""
    # Rows about a part of the items are shown only if all conditions are.
    few = telling(rows["condition"].unique(maintain_order=True).to_list())
    few_only = pl.col("condition").is_null() | pl.col("condition").is_in([each for each in few if each])
    counts = rows.filter(few_only | pl.lit(everything))["n_items"].unique().sort().to_list()
    return "-".join(f"{n:,}" for n in counts[:1] + counts[1:][-1:])


def _condition_cells(
    under: Mapping[str | None, pl.DataFrame],
    never: Mapping[str | None, pl.DataFrame] | None,
    condition: str | None,
    steps: Sequence[int | None],
) -> list[str]:
    by_step, never_by_step = (
        {row["step"]: row for row in parts[condition].to_dicts()} if parts and condition in parts else {}
        for parts in (under, never)
    )
    last = by_step.get(steps[-1])
    cells = [number(by_step.get(steps[0]))] if never is None or len(steps) == 1 else []
    if len(steps) > 1:
        cells.append(number(last))
    if never is not None:
        cells.append(number(never_by_step.get(steps[-1])))
    if len(steps) > 1:
        shown = spread(steps, _MAX_BARS if never is None else _FEW_BARS)
        cells.append(sparkline([by_step[step]["estimate"] if step in by_step else None for step in shown]))
    return [*cells, f"{last['n_items']:,}" if last else ""]


def _excess_table(contrasts: pl.DataFrame, *, everything: bool) -> Table | None:
    """Return a table of last-step rates in excess of never-trained items and the control; None if empty."""
    rows = contrasts.filter(pl.col("group").is_null(), has("control"))
    rows = rows.filter(of_checkpoints(), at_last_step()).with_columns(
        dropped(*OF_COMPARISON), control=value_of("control")
    )
    if rows.is_empty():
        return None
    controls = rows["control"].unique(maintain_order=True).to_list()
    table = plain_table(f"In excess, {at_step(rows['step'][0])}")
    table.add_column("metric, condition", overflow="fold")
    for control in controls:
        table.add_column(f"over {control}", justify="right", overflow="fold")
    for probe, metric in rows.select("probe", "metric").unique(maintain_order=True).iter_rows():
        under = parts_of(rows.filter(pl.col("probe") == probe, pl.col("metric") == metric), "condition")
        conditions = list(under)
        few = telling(conditions)
        shown = conditions if everything else few if len(few) <= _MANY_CONDITIONS else [few[len(few) // 4]]
        if shown[0] is not None:
            table.add_row(f"{probe} {metric}")
        for condition in shown:
            by_control = {row["control"]: row for row in under[condition].to_dicts()}
            label = f"{probe} {metric}" if condition is None else f" {condition}"
            table.add_row(label, *(number(by_control.get(control)) for control in controls))
    return table


def _dose_tables(doses: pl.DataFrame | None, model: str | None) -> list[Table]:
    """Return a table of the change of each probe's first rate per tenfold dose, at the model's last step."""
    if doses is None:
        return []
    rows = doses.filter(
        pl.col("group").is_null(), pl.col("model").eq_missing(pl.lit(model, dtype=pl.String))
    ).filter(at_last_step() | ~of_checkpoints())
    if rows.is_empty():
        return []
    step = rows["step"][0]
    table = plain_table("Change per tenfold" + ("" if model is None else f", {at_step(step)}"))
    for name in ("dose", "rate"):
        table.add_column(name, overflow="fold")
    for name in ("of the rate", "of its log odds", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for dose, probe in rows.select("dose", "probe").unique(maintain_order=True).iter_rows():
        of_probe = rows.filter(pl.col("dose") == dose, pl.col("probe") == probe)
        metric = of_probe["metric"][0]
        of_metric = of_probe.filter(pl.col("metric") == metric)
        under = parts_of(of_metric, "condition")
        few = telling(list(under))
        condition = few[len(few) // 4]
        fits = {row["fit"]: row for row in under[condition].to_dicts()}
        label = f"{probe} {metric}" + (f"\n {condition}" if condition else "")
        n = max(row["n_items"] for row in fits.values())
        cells = (_slope(fits.get(fit)) for fit in ("linear_log10", "logistic"))
        table.add_row(f"{dose} ({of_metric['n_levels'][0]})", label, *cells, f"{n:,}")
    return [table]


def _slope(fit: Mapping[str, Any] | None) -> str:
    if fit is None:
        return ""
    if fit["slope"] is None:
        return str(fit["reason"]).split(":", maxsplit=1)[0]
    return number({"estimate": fit["slope"], **fit})


def spread(steps: Sequence[_Step], at_most: int = _MAX_BARS) -> list[_Step]:
    """Return at most `at_most` steps, evenly spaced by position, including the first and the last."""
    if len(steps) <= at_most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (at_most - 1))] for i in range(at_most)]


def telling(conditions: Sequence[str | None]) -> list[str | None]:
    """Return the conditions that are worth a line: all if there are few.

    Of many, return those that others break down further; else those with p = 0.5; else a few, evenly spaced.
    """
    if len(conditions) <= _MANY_CONDITIONS:
        return list(conditions)
    if wholes := broken_down(conditions):
        return wholes
    half = [each for each in conditions if each and each.endswith("p=0.5")]
    return list(half) or [conditions[i] for i in spread(range(len(conditions)), _MANY_CONDITIONS)]


def _breakdowns(of_model: pl.DataFrame, column: str, title: str) -> list[Table]:
    """Return tables of the leading metric of each probe at the last step, per group or exposure count.

    Probes that measure the same number of items in each part share one table with one n.
    """
    last = of_model.filter(at_last_step())
    if column == "group":
        split = last.filter(pl.col("group").is_not_null()).with_columns(
            part=pl.col("group"), rest="condition"
        )
    else:
        split = last.filter(pl.col("group").is_null(), has("exposures")).with_columns(
            part=value_of("exposures"), rest=dropped("exposures")
        )
    together: list[tuple[dict[str, int], dict[_Leading, _ByPart]]] = []
    for rows in parts_of(split, "probe").values():
        leading, found = _leading(rows)
        counts = {part: row["n_items"] for part, row in found.items()}
        for known, beside in together:
            if all(known.get(part, n) == n for part, n in counts.items()):
                known.update(counts)
                beside[leading] = found
                break
        else:
            together.append((counts, {leading: found}))
    full_title = f"{title}, {at_step(last['step'][0])}" if last.height else title
    return [_breakdown(column, full_title, beside) for _, beside in together]


def _breakdown(column: str, title: str, leading: Mapping[_Leading, _ByPart]) -> Table:
    table = plain_table(title)
    table.add_column(column, justify="right" if column == "exposures" else "left")
    for probe, metric, condition in leading:
        table.add_column(
            f"{probe}\n{metric}" + (f"\n{condition}" if condition else ""), justify="right", overflow="fold"
        )
    table.add_column("n", justify="right")
    parts = dict.fromkeys(part for found in leading.values() for part in found)
    for part in sorted(parts, key=lambda each: (int(each) if column == "exposures" else 0, each)):
        rows = [found.get(part) for found in leading.values()]
        n = next(row["n_items"] for row in rows if row)
        table.add_row(str(part), *(number(row) for row in rows), f"{n:,}")
    return table


def _leading(rows: pl.DataFrame) -> tuple[_Leading, _ByPart]:
    """Return a probe's first metric with the condition to show, and the metric's rows by part.

    The condition is None if the metric has rows without one; else one of those that `telling` selects.
    """
    metric, of_metric = next(iter(parts_of(rows, "metric").items()))
    under = parts_of(of_metric, "rest")
    few = [None] if None in under else telling(list(under))
    condition = few[len(few) // 4]
    return (rows["probe"][0], metric, condition), {row["part"]: row for row in under[condition].to_dicts()}
