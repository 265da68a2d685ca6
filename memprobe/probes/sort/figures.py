"""Figures of `sort`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look
from memprobe.tables.selection import last_step


def rows_of_order(accuracy: pl.DataFrame) -> list[Panel]:
    """Return the accuracy by distance, with the excerpt in the prompt and without."""
    cells = [pl.col(name).is_null() for name in ("group", "excerpt_words", "segment_words", "position_bin")]
    rows = last_step(accuracy).filter(*cells, pl.col("distance_bin").is_not_null()).sort("distance_bin")
    names = {"in_context": "text in the prompt", "parametric": "from memory"}
    laid = rows.select(
        "model",
        "mode",
        *curve_columns(
            pl.col("distance_bin"), "accuracy_frac", "ci_low", "ci_high", pl.col("condition").replace(names)
        ),
    )
    return panels_of(laid, ("model", "mode"))


def draw_order(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of the accuracy by distance, with a line at chance."""
    axes = Axes("distance of the segments (bin)", "share in the right order", rule=0.5, whole_x=True)
    return curves(rows, axes, look)


FIGURES = (
    Figure(
        "sort-distance",
        "sort_accuracy",
        "Accuracy by distance",
        "Share of pairs put in the right order, by their distance in the text, at the last step. The line "
        "is chance.",
        rows_of_order,
        draw_order,
    ),
)
