"""Terminal view of two runs: estimates, differences with intervals, and what is worse."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memprobe.escape import visible
from memprobe.report.console import telling
from memprobe.report.plain import harmless, headed, number, parts_of, plain_table, short
from memprobe.tables.selection import at_last_step, pooled
from memprobe.wording import at_step, counted

_WORST = 10
# Resampling a few items that happen to agree makes an interval far too narrow.
_FEW = 20


def comparison_view(
    differences: pl.DataFrame, head: Sequence[str], *, everything: bool = False
) -> RenderableType:
    """Return a view of a comparison.

    Args:
        differences: Rows of `DIFFERENCES`.
        head: Lines above the tables: the runs, what was matched, and what was not.
        everything: Show all conditions, steps and groups instead of a selection at the last step.
    """
    parts: list[RenderableType] = [Text(visible(line)) for line in head]
    differences = harmless(differences)
    levels = differences["ci_level"].unique().sort()
    parts += [Text(f"difference: new - base; in brackets: {level:.0%} intervals") for level in levels]
    compared = differences.filter(pl.col("reason").is_null())
    shown = compared if everything else _last(pooled(compared))
    tables: list[Table] = []
    for model in shown["model_new"].unique(maintain_order=True):
        of_model = shown.filter(pl.col("model_new") == model)
        for probe in of_model["probe"].unique(maintain_order=True):
            rows = of_model.filter(pl.col("probe") == probe)
            tables += _tables(rows, f"{probe} of {model}", everything=everything)
    if not everything:
        tables += _worst(compared)
    for table in tables:
        parts += [Text(""), headed(table)]
    parts += [Text(""), *(Text(line) for line in closing_lines(differences))]
    return Group(*parts)


def closing_lines(differences: pl.DataFrame) -> list[str]:
    """Return lines on the worse differences, those expected by chance, and what was not compared and why."""
    with_interval = differences.filter(pl.col("ci_low").is_not_null())
    counts = {word: with_interval.filter(pl.col("outcome") == word).height for word in ("worse", "better")}
    lines = [
        f"{counts['worse']:,} of {counted(with_interval.height, 'difference')} worse (more memorized) beyond "
        f"the interval, {counts['better']:,} better"
    ]
    if with_interval.height > 1:
        chance = (1 - with_interval["ci_level"].max()) / 2  # type: ignore[operator]
        lines.append(f"if nothing differed, about {chance:.1%} of each would be found by chance")
    left = differences.filter(pl.col("reason").is_not_null())
    for probe, reason, n in left.group_by("probe", "reason", maintain_order=True).agg(pl.len()).iter_rows():
        lines.append(f"not compared: {counted(n, 'row')} of {probe}: {reason}")
    return lines


def _last(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(at_last_step("model_new"))


def _tables(rows: pl.DataFrame, title: str, *, everything: bool) -> list[Table]:
    return [
        _table(of_step, f"{title}, {_step(of_step.row(0, named=True))}", everything=everything)
        for of_step in rows.partition_by("step", maintain_order=True)
    ]


def _step(row: Mapping[str, Any]) -> str:
    if row["step"] == row["step_base"]:
        return at_step(row["step"])
    return f"{at_step(row['step'])} beside {at_step(row['step_base'])}"


def _empty(title: str, first: str) -> Table:
    table = plain_table(title)
    table.add_column(first, overflow="fold")
    for name in ("base", "new", "difference", "p", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def _table(rows: pl.DataFrame, title: str, *, everything: bool) -> Table:
    table = _empty(title, "metric, condition")
    for metric, of_metric in parts_of(rows, "metric").items():
        under = parts_of(of_metric, "condition")
        conditions = list(under)
        shown = conditions if everything else telling(conditions)
        if shown and shown[0] is not None:
            table.add_row(metric)
        for condition in shown:
            for row in under[condition].to_dicts():
                parts = [row["condition"] or "", f"group {row['group']}" if row["group"] else ""]
                label = ", ".join(part for part in parts if part)
                table.add_row(f" {label}" if label else metric, *cells(row))
    return table


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return base, new, difference with interval, p, n and outcome, as shown."""
    both = ["" if row[side] is None else short(row[side]) for side in ("base", "new")]
    p = "" if row["p_value"] is None else _probability(row["p_value"])
    direction = row["outcome"] if row["outcome"] in ("worse", "better") else ""
    return [*both, number({"estimate": row["difference"], **row}), p, f"{row['n_items']:,}", direction]


def _probability(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _worst(compared: pl.DataFrame) -> list[Table]:
    """Return a table of the worst differences of all steps and groups, in widths of their intervals.

    Differences over few items come last.
    """
    worse = compared.filter(pl.col("outcome") == "worse").with_columns(
        by=pl.col("difference").abs() / (pl.col("ci_high") - pl.col("ci_low")),
        few=pl.col("n_clusters") < _FEW,
    )
    if worse.is_empty():
        return []
    shown = worse.sort("few", "by", descending=[False, True], maintain_order=True).head(_WORST)
    title = "Worse beyond the interval" + (
        f", the clearest {_WORST} of {worse.height:,}" if worse.height > _WORST else ""
    )
    table = _empty(title, "where")
    for row in shown.iter_rows(named=True):
        words = [
            f"{row['probe']} {row['metric']}",
            row["condition"],
            row["group"] and f"group {row['group']}",
            _step(row),
        ]
        table.add_row("\n ".join(word for word in words if word), *cells(row))
    return [table]
