"""Parts of terminal tables: frames, titles, numbers with intervals, bars."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from memprobe.escape import visible
from memprobe.tables.conditions import one_pair_a_line

_BARS = "▁▂▃▄▅▆▇█"


def plain_table(title: str) -> Table:
    """Return an empty table with a title and a rule below its head."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )


def headed(table: Table) -> RenderableType:
    """Return a table below its title, so that the title is not wrapped to the width of a narrow table."""
    title, table.title = table.title, None
    return Group(Text(str(title), style="table.title"), table)


def at_this_step(step: int | None) -> pl.Expr:
    """Return an expression for the rows at a step, or, for None, the rows without a step."""
    return pl.col("step").eq_missing(pl.lit(step, dtype=pl.Int64))


def number(row: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval, in short form: `0.86 [0.78, 0.92]`.

    An upper end that the data do not reach is `open`, as for the time to an event that most items never had.
    """
    if row is None or row["estimate"] is None:
        return "undefined" if row else ""
    if row["ci_low"] is None:
        return f"{short(row['estimate'])} [no interval]"
    high = "open" if row["ci_high"] is None else short(row["ci_high"])
    return f"{short(row['estimate'])} [{short(row['ci_low'])}, {high}]"


def short(value: float) -> str:
    """Return a number with two decimals, or three significant digits if it is large."""
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
    return "0.00" if text == "-0.00" else text


def folded(label: str, at_most: int) -> str:
    """Return a condition longer than `at_most` characters with one of its pairs per line."""
    return label if len(label) <= at_most else one_pair_a_line(label)


def sparkline(values: Sequence[float | None]) -> str:
    """Return one bar per value, scaled from the smallest to the largest; undefined values are blank."""
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


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose texts hold no terminal control characters: names come from item files."""
    columns = []
    for name in (name for name, dtype in frame.schema.items() if dtype == pl.String()):
        texts = frame[name].unique().drop_nulls().to_list()
        shown = {text: visible(text) for text in texts}
        if any(text != written for text, written in shown.items()):
            columns.append(pl.col(name).replace(shown))
    return frame.with_columns(columns)


def parts_of(rows: pl.DataFrame, column: str) -> dict[Any, pl.DataFrame]:
    """Return the rows for each value of a column, including null; values and rows keep the table's order."""
    return {part[column][0]: part for part in rows.partition_by(column, maintain_order=True)}
