"""Figures of `forecast`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look


def rows_of_forecast(forecast: pl.DataFrame) -> list[Panel]:
    """Return precision and recall of each earlier checkpoint of the same model."""
    rows = forecast.filter(
        pl.col("group").is_null(), pl.col("seen").is_null(), pl.col("predictor_model") == pl.col("model")
    ).sort("model", "predictor_step")
    parts = [
        rows.select(
            "model",
            *curve_columns(
                pl.col("predictor_step"), f"{name}_frac", f"{name}_lo", f"{name}_hi", pl.lit(name)
            ),
        )
        for name in ("precision", "recall")
    ]
    return panels_of(pl.concat(parts), ("model",))


def draw_forecast(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of precision and recall by the predictor's step."""
    return curves(rows, Axes("step of the predictor", "fraction", from_zero=True), look)


FIGURES = (
    Figure(
        "forecast-steps",
        "forecast",
        "Forecast by earlier checkpoints",
        "How well the memorized items of a checkpoint predict those of the last one.",
        rows_of_forecast,
        draw_forecast,
    ),
)
