"""Figures of `acquisition`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look


def rows_of_decay(curve: pl.DataFrame) -> list[Panel]:
    """Return the share of the gain that is kept, by updates since the highest point."""
    rows = curve.filter(pl.col("group").is_null())
    laid = rows.select(
        "model",
        *curve_columns(pl.col("t_since_lam_steps"), "retainability_mean", "lo", "hi", pl.lit("all items")),
    )
    return panels_of(laid, ("model",))


def draw_decay(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of the share of the gain kept over time."""
    return curves(rows, Axes("steps since the highest point", "share of the gain kept", from_zero=True), look)


FIGURES = (
    Figure(
        "acquisition-decay",
        "acquisition_curve",
        "What is kept of a gain",
        "Share of the gain of an exposure that is left, by steps since the highest point.",
        rows_of_decay,
        draw_decay,
    ),
)
