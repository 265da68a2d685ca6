"""Figures of `stability`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look


def rows_of_tasks(scores: pl.DataFrame) -> list[Panel]:
    """Return the score of each set of items by step, with sets in the order of their tasks."""
    rows = scores.sort("model", "task_end_step", "eval_set", "step", nulls_last=True)
    series = pl.col("eval_set")
    laid = rows.select("model", *curve_columns(pl.col("step"), "score", "lo", "hi", series))
    return panels_of(laid, ("model",))


def draw_tasks(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of the scores of each set by step."""
    return curves(rows, Axes("step", "score"), look)


FIGURES = (
    Figure(
        "task-scores",
        "stability",
        "Scores of each task's items",
        "Mean score of the items of each task at every checkpoint, tasks in the order of training.",
        rows_of_tasks,
        draw_tasks,
    ),
)
