"""A figure: the table of a run that it shows, its panels, and the function that draws a panel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.escape import visible
from memprobe.figures.theme import NAME_CHARS, Look


@dataclass(frozen=True, slots=True)
class Panel:
    """One frame of a figure.

    Attributes:
        name: What distinguishes it from the figure's other panels; empty if there is only one.
        rows: As the figure's drawing function wants them.
    """

    name: str
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of figure.

    Attributes:
        kind: Name of the kind, as in `--kind`.
        table: Name of the table that it shows.
        title: Title of the figure.
        caption: How to read it.
        panels: Function from the table to panels; returns none if there is nothing to draw.
        draw: Function from a panel's rows to an Altair chart.
        of_last_step: Only the rows of each model's last step are needed.
    """

    kind: str
    table: str
    title: str
    caption: str
    panels: Callable[[pl.DataFrame], list[Panel]]
    draw: Callable[[pl.DataFrame, Look], Any]
    of_last_step: bool = False


def short_name(text: object) -> str:
    """Return a user's name, shortened to what a figure has room for."""
    return visible(str(text), NAME_CHARS)


def panels_of(rows: pl.DataFrame, keys: Sequence[str]) -> list[Panel]:
    """Return one panel for each value of the keys, named by the keys that differ."""
    if rows.is_empty():
        return []
    telling = [key for key in keys if rows[key].n_unique() > 1]
    if not telling:
        return [Panel("", rows)]
    parts = rows.partition_by(telling, as_dict=True, maintain_order=True)
    return [Panel(", ".join(map(short_name, values)), part) for values, part in parts.items()]


def curve_columns(x: pl.Expr, estimate: str, lo: str, hi: str, series: pl.Expr) -> list[pl.Expr]:
    """Return the columns that `lines.curves` needs, besides the keys of panels."""
    return [
        x.cast(pl.Float64).alias("x"),
        pl.col(estimate).alias("estimate"),
        pl.col(lo).alias("ci_low"),
        pl.col(hi).alias("ci_high"),
        series.alias("series"),
    ]
