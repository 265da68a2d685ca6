"""Figures of `retention`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look

_OUTCOMES = {
    "recall_exact": "share recalled",
    "recognition_correct": "share recognised",
    "logprob_mean_nats": "mean ln p (nats per token)",
}


def rows_of_retention(curve: pl.DataFrame) -> list[Panel]:
    """Return the outcome by updates since the last exposure, and that of never-trained items, or chance."""
    rows = curve.filter(pl.col("group").is_null(), pl.col("exposures").is_null())
    names = {"all_items": "all items", "same_items": "items seen at all lags"}
    lag = pl.col("lag_mean_steps")
    trained = rows.select(
        "model",
        "outcome",
        *curve_columns(lag, "estimate", "ci_low", "ci_high", pl.col("sample").replace(names)),
    )
    beside = rows.filter(pl.col("sample") == "all_items", pl.col("baseline").is_not_null()).with_columns(
        none=pl.lit(None, pl.Float64)
    )
    never = beside.select(
        "model",
        "outcome",
        *curve_columns(lag, "baseline", "none", "none", pl.lit("never trained, or chance")),
    )
    return panels_of(pl.concat([trained, never]), ("model", "outcome"))


def draw_retention(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a retention curve."""
    outcome = str(rows["outcome"][0])
    axes = Axes(
        "steps since last trained on", _OUTCOMES.get(outcome, outcome), from_zero="nats" not in outcome
    )
    return curves(rows, axes, look)


FIGURES = (
    Figure(
        "retention-curve",
        "retention_curve",
        "What is left, by time since training",
        "Items by steps since they were last trained on, beside never-trained items at the same "
        "checkpoints, or chance.",
        rows_of_retention,
        draw_retention,
    ),
)
