"""What tables on the terminal are made of: frames, titles, numbers with intervals, bars."""

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
    """Return a table whose title is above it, instead of being folded to a narrow table's width."""
    title, table.title = table.title, None
    return Group(Text(str(title), style="table.title"), table)


def at_this_step(step: int | None) -> pl.Expr:
    """Return which rows are at a step, or, without one, have none."""
    return pl.col("step").eq_missing(pl.lit(step, dtype=pl.Int64))


def number(row: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval, as short as it can be read: `0.86 [0.78, 0.92]`.

    An end that the data do not reach, as of the time to an event that most items have not had, is `open`.
    """
    if row is None or row["estimate"] is None:
        return "undefined" if row else ""
    if row["ci_low"] is None:
        return f"{short(row['estimate'])} [no interval]"
    high = "open" if row["ci_high"] is None else short(row["ci_high"])
    return f"{short(row['estimate'])} [{short(row['ci_low'])}, {high}]"


def short(value: float) -> str:
    """Return a number with two decimals, or three significant digits where it is large."""
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
    return "0.00" if text == "-0.00" else text


def folded(label: str, at_most: int) -> str:
    """Return a long condition in lines, one for each of its parts."""
    return label if len(label) <= at_most else one_pair_a_line(label)


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


def harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose texts hold no character that a terminal obeys: names come from item files."""
    columns = []
    for name in (name for name, dtype in frame.schema.items() if dtype == pl.String()):
        texts = frame[name].unique().drop_nulls().to_list()
        shown = {text: visible(text) for text in texts}
        if any(text != written for text, written in shown.items()):
            columns.append(pl.col(name).replace(shown))
    return frame.with_columns(columns)


def parts_of(rows: pl.DataFrame, column: str) -> dict[Any, pl.DataFrame]:
    """Return the rows of each value of a column, null among them, both in the order of the table."""
    return {part[column][0]: part for part in rows.partition_by(column, maintain_order=True)}
