"""A comparison of two runs as papers print it: base, new and their difference, a row for each metric."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from memprobe.report.console import telling
from memprobe.report.papers import Cell, Line, PaperTable, Style, cut_pages, shown_number
from memprobe.report.plain import parts_of
from memprobe.tables.conditions import readable
from memprobe.tables.selection import pooled
from memprobe.wording import at_step

_COLUMNS = ("base", "new", "difference")


def difference_tables(differences: pl.DataFrame, style: Style) -> list[PaperTable]:
    """Return the pooled differences of a comparison as tables that each fit a page, one or more per step.

    A difference whose interval does not hold 0 is bold.

    Args:
        differences: Rows of `DIFFERENCES`.
        style: Style of the tables; `bold` matters only if it is `none`.
    """
    rows = pooled(differences).filter(pl.col("reason").is_null())
    tables: list[PaperTable] = []
    for part in rows.partition_by("model_new", "step", maintain_order=True):
        blocks = [_probe_lines(each, style) for each in part.partition_by("probe", maintain_order=True)]
        first = part.row(0, named=True)
        caption = style.caption or _caption(first)
        for page in cut_pages(blocks):
            ending = f"-{len(tables) + 1}" if tables else ""
            label = (style.label or "tab:memprobe-differences") + ending
            tables.append(PaperTable(_COLUMNS, tuple(page), caption, label))
    return tables


def _caption(row: Mapping[str, Any]) -> str:
    at = at_step(row["step"])
    if row["step"] != row["step_base"]:
        at += f" (base: {at_step(row['step_base'])})"
    return (
        f"{row['model_new']} at {at}: both runs over the same items, and new minus base. In brackets: "
        f"{row['ci_level']:.0%} intervals; n: items. Bold: a difference whose interval does not hold 0."
    )


def _probe_lines(rows: pl.DataFrame, style: Style) -> list[Line]:
    lines = [Line(str(rows["probe"][0]), 0)]
    for metric, of_metric in parts_of(rows, "metric").items():
        under = parts_of(of_metric, "condition")
        conditions = list(under)
        shown = conditions if style.everything else telling(conditions)
        if shown and shown[0] is not None:
            lines.append(Line(metric, 1))
        for condition in shown:
            for row in under[condition].to_dicts():
                label = metric if condition is None else readable(condition)
                lines.append(
                    Line(label, 1 if condition is None else 2, _cells(row, style), f"{row['n_items']:,}")
                )
    return lines


def _cells(row: Mapping[str, Any], style: Style) -> tuple[Cell, ...]:
    sides = [
        Cell("" if row[side] is None else shown_number(row[side], style.decimals), "")
        for side in _COLUMNS[:2]
    ]
    interval = "[no interval]"
    if row["ci_low"] is not None:
        interval = f"[{', '.join(shown_number(row[end], style.decimals) for end in ('ci_low', 'ci_high'))}]"
    clear = row["ci_low"] is not None and not row["ci_low"] <= 0 <= row["ci_high"]
    difference = shown_number(row["difference"], style.decimals)
    return (*sides, Cell(difference, interval, best=clear and style.bold != "none"))
