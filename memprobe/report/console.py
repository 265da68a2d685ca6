"""Summaries for a terminal: from the summary table to rich renderables; every number with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_MANY_CONDITIONS = 6
_MAX_BARS = 16


def summary_view(
    summary: pl.DataFrame, manifest: Mapping[str, Any], *, everything: bool = False
) -> RenderableType:
    """Return the summary of a run.

    Args:
        summary: Rows of `SUMMARY`.
        manifest: The run's manifest, for the head lines.
        everything: All conditions instead of the telling ones.
    """
    parts: list[RenderableType] = [Text(line) for line in head_lines(manifest)]
    parts += [Text(f"in brackets: {level:.0%} intervals") for level in summary["ci_level"].unique().sort()]
    tables: list[Table] = []
    for model in summary["model"].unique(maintain_order=True):
        of_model = summary.filter(pl.col("model") == model)
        for probe in of_model["probe"].unique(maintain_order=True):
            rows = of_model.filter(pl.col("probe") == probe)
            tables.append(_probe_table(rows, f"{probe} of {model}", everything=everything))
        for column, title in (("exposures", "By number of exposures"), ("group", "By group")):
            table = _breakdown(of_model, column, title)
            tables += [table] if table is not None else []
    for table in tables:
        parts += [Text(""), headed(table)]
    if summary.is_empty():
        parts.append(Text("no estimate: no checkpoint could be scored"))
    return Group(*parts)


def head_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Return the lines above the tables: what was measured, on what, and what was left out."""
    steps: dict[str, list[int]] = {}
    for each in manifest["checkpoints"]:
        steps.setdefault(each["model"], []).append(each["step"])
    sequences = [
        f"{model}: {len(found)} checkpoints, step {min(found):,} to {max(found):,}"
        if len(found) > 1
        else f"{model}: step {found[0]:,}"
        for model, found in steps.items()
    ]
    items = manifest["items"]
    left_out = items["n_skipped"] + items["n_unfit"]
    lines = [
        "; ".join(sequences),
        f"{items['n_items']:,} items"
        + (f", {left_out:,} left out (see skipped.jsonl)" if left_out else "")
        + f"; {manifest['dtype']} on {manifest['device']}, BOS {manifest['bos']}",
    ]
    verified, disagree = (
        manifest.get("checks", {}).get(key) for key in ("greedy_verified", "greedy_tf_disagree")
    )
    if verified:
        lines.append(
            f"{verified} recall results generated for real, {disagree} disagree with teacher forcing"
        )
    if failures := manifest.get("failures"):
        lines.append(f"{len(failures)} checkpoints failed (see errors.jsonl): what follows is incomplete")
    return lines


def _probe_table(rows: pl.DataFrame, title: str, *, everything: bool) -> Table:
    """Return first, last and trend of every metric of a probe, all items together."""
    pooled = rows.filter(
        pl.col("group").is_null(), ~pl.col("condition").fill_null("").str.contains(r"(^|;)exposures=")
    )
    steps = sorted(rows["step"].unique().to_list())
    table = plain_table(title)
    table.add_column("metric, condition", overflow="fold")
    table.add_column(f"step {steps[0]:,}", justify="right", no_wrap=True)
    if len(steps) > 1:
        table.add_column(f"step {steps[-1]:,}", justify="right", no_wrap=True)
        table.add_column("trend", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    hidden = 0
    for metric in pooled["metric"].unique(maintain_order=True):
        of_metric = pooled.filter(pl.col("metric") == metric)
        conditions = of_metric["condition"].unique(maintain_order=True).to_list()
        shown = conditions if everything else telling(conditions)
        hidden += len(conditions) - len(shown)
        if shown and shown[0] is not None:
            table.add_row(metric)
        for condition in shown:
            label = metric if condition is None else f" {condition}"
            table.add_row(label, *_condition_cells(of_metric, condition, steps))
    if hidden:
        table.caption = f"{hidden} more conditions: memprobe summary RUN --all"
        table.caption_justify = "left"
    return table


def plain_table(title: str) -> Table:
    """Return an empty table with a title and no more lines than it needs."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )


def headed(table: Table) -> RenderableType:
    """Return a table whose title stands above it, instead of being folded to a narrow table's width."""
    title, table.title = table.title, None
    return Group(Text(str(title), style="table.title"), table)


def _condition_cells(of_metric: pl.DataFrame, condition: str | None, steps: Sequence[int]) -> list[str]:
    rows = of_metric.filter(pl.col("condition").eq_missing(pl.lit(condition, dtype=pl.String)))
    by_step = {row["step"]: row for row in rows.iter_rows(named=True)}
    first, last = by_step.get(steps[0]), by_step.get(steps[-1])
    cells = [number(first)]
    if len(steps) > 1:
        cells += [
            number(last),
            sparkline([by_step[step]["estimate"] if step in by_step else None for step in spread(steps)]),
        ]
    return [*cells, f"{last['n_items']:,}" if last else ""]


def spread(steps: Sequence[int], at_most: int = _MAX_BARS) -> list[int]:
    """Return so many steps at most, first and last among them, evenly apart by position."""
    if len(steps) <= at_most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (at_most - 1))] for i in range(at_most)]


def telling(conditions: Sequence[str | None]) -> list[str | None]:
    """Return the conditions worth a line: of many, those with p = 0.5, or the first few."""
    if len(conditions) <= _MANY_CONDITIONS:
        return list(conditions)
    half = [each for each in conditions if each and each.endswith("p=0.5")]
    return list(half or conditions[:_MANY_CONDITIONS])


def _breakdown(of_model: pl.DataFrame, column: str, title: str) -> Table | None:
    """Return the leading metric of each probe at the last step, per group or exposure count."""
    last = of_model.filter(pl.col("step") == pl.col("step").max())
    if column == "group":
        split = last.filter(pl.col("group").is_not_null()).with_columns(
            part=pl.col("group"), rest="condition"
        )
    else:
        split = last.filter(
            pl.col("group").is_null(), pl.col("condition").str.contains(r"(^|;)exposures=\d+$")
        )
        split = split.with_columns(
            part=pl.col("condition").str.extract(r"exposures=(\d+)$"),
            rest=pl.col("condition").str.replace(r";?exposures=\d+$", ""),
        ).with_columns(rest=pl.when(pl.col("rest") != "").then("rest"))
    leading = [
        found
        for found in (_leading(split, probe) for probe in split["probe"].unique(maintain_order=True))
        if found
    ]
    if split.is_empty() or not leading:
        return None
    table = plain_table(f"{title}, step {last['step'][0]:,}")
    table.add_column(column, justify="right" if column == "exposures" else "left")
    for probe, metric, condition in leading:
        table.add_column(
            f"{probe}\n{metric}" + (f"\n{condition}" if condition else ""), justify="right", overflow="fold"
        )
    table.add_column("n", justify="right")
    parts = split["part"].unique(maintain_order=True).to_list()
    for part in sorted(parts, key=lambda each: (int(each) if column == "exposures" else 0, each)):
        table.add_row(str(part), *_part_cells(split.filter(pl.col("part") == part), leading))
    return table


def _leading(split: pl.DataFrame, probe: str) -> tuple[str, str, str | None] | None:
    """Return probe, its first metric, and the condition to show: none, else one of the telling ones."""
    rows = split.filter(pl.col("probe") == probe)
    if rows.is_empty():
        return None
    metric = rows["metric"][0]
    conditions = rows.filter(pl.col("metric") == metric)["rest"].unique(maintain_order=True).to_list()
    if None in conditions:
        return probe, metric, None
    shown = telling(conditions)
    return probe, metric, shown[len(shown) // 4]


def _part_cells(rows: pl.DataFrame, leading: Sequence[tuple[str, str, str | None]]) -> list[str]:
    cells, counts = [], []
    for probe, metric, condition in leading:
        found = rows.filter(
            pl.col("probe") == probe,
            pl.col("metric") == metric,
            pl.col("rest").eq_missing(pl.lit(condition, dtype=pl.String)),
        ).to_dicts()
        cells.append(number(found[0]) if found else "")
        counts += [row["n_items"] for row in found]
    return [*cells, f"{max(counts):,}" if counts else ""]


def number(row: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval, as short as it can be read: `0.86 [0.78, 0.92]`."""
    if row is None or row["estimate"] is None:
        return "undefined" if row else ""
    if row["ci_low"] is None:
        return f"{short(row['estimate'])} [no interval]"
    return f"{short(row['estimate'])} [{short(row['ci_low'])}, {short(row['ci_high'])}]"


def short(value: float) -> str:
    """Return a number with two decimals, or three significant digits where it is large."""
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
    return "0.00" if text == "-0.00" else text


def sparkline(values: Sequence[float | None]) -> str:
    """Return one bar per value, from the smallest to the largest; a blank where it is undefined."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = high - low
    return "".join(
        " "
        if value is None or not math.isfinite(value)
        else _BARS[int((value - low) / span * (len(_BARS) - 1) + 0.5)]
        if span
        else _BARS[3]
        for value in values
    )


def forecast_view(checkpoints: pl.DataFrame, totals: Mapping[str, Any]) -> RenderableType:
    """Return what a run would do."""
    table = plain_table("What would be scored")
    for name in ("model", "revision", "step", "units", "left", "tokens left", "bytes"):
        table.add_column(name, justify="left" if name in ("model", "revision") else "right")
    for row in checkpoints.iter_rows(named=True):
        table.add_row(
            row["model"],
            row["revision"],
            f"{row['step']:,}",
            str(row["units"]),
            str(row["units_left"]),
            f"{row['tokens_left']:,}",
            f"{row['bytes']:,}",
        )
    seconds = totals["estimated_s"]
    lines = [
        f"{totals['items']:,} items, {totals['items_skipped']:,} left out",
        f"{totals['dtype']} on {totals['device']}",
        f"{totals['units_left']:,} of {totals['units']:,} units left: {totals['tokens_left']:,} tokens",
        "time: unknown, the checkpoints do not say how many parameters they have"
        if seconds is None
        else f"time: about {seconds:,.0f} s of scoring and reading, without generation",
        f"run directory: {totals['run']}",
    ]
    # Paths are to be copied whole.
    return Group(table, *(Text(line, no_wrap=True, overflow="ignore") for line in lines))
