"""Figures of `forgetting`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look


def rows_of_survival(survival: pl.DataFrame) -> list[Panel]:
    """Return the share of learned items that are not yet forgotten."""
    rows = survival.filter(pl.col("group").is_null(), pl.col("condition").is_null())
    series = pl.lit("all items")
    laid = rows.select(
        "model", *curve_columns(pl.col("t_since_learned_steps"), "survival_frac", "lo", "hi", series)
    )
    return panels_of(laid, ("model",))


def draw_survival(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a Kaplan-Meier curve."""
    axes = Axes("steps since first learned", "share not yet forgotten", from_zero=True, stairs=True)
    return curves(rows, axes, look)


FIGURES = (
    Figure(
        "survival",
        "forgetting_survival",
        "Survival of what was learned",
        "Share of learned items not yet forgotten (Kaplan-Meier) by steps since they were first learned.",
        rows_of_survival,
        draw_survival,
    ),
)
