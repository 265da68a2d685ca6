"""Figures from the summary alone, so that a probe without figures of its own has some."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.marks import categories, column
from memprobe.figures.panels import Panel
from memprobe.figures.theme import MAX_SERIES, Look
from memprobe.report.console import telling
from memprobe.report.estimates import leading_condition
from memprobe.tables.conditions import broken_down, is_exactly, pairs, readable_column
from memprobe.tables.selection import at_last_step, part_of, pooled

_MAX_ROWS = 16
_BESIDE = "never trained"
_NAME = "all items"
_UNPLACED = "without a step"


def rows_of_metric(summary: pl.DataFrame, metric: str) -> list[Panel]:
    """Return panels of a metric over steps, or, if it is about the whole sequence, under each condition.

    Args:
        summary: Rows of `SUMMARY` of one probe.
        metric: Name of the metric.
    """
    of_metric = summary.filter(pl.col("metric") == metric)
    if metric.endswith("_excess_frac"):
        rows = part_of(of_metric.filter(pl.col("group").is_null()), "control")
    else:
        rows = pooled(of_metric)
    if rows.is_empty():
        return []
    placed, others = rows.filter(pl.col("step").is_not_null()), rows.filter(pl.col("step").is_null())
    placeless = _without_step(others)
    is_checkpoint = others["revision"].is_not_null().any()
    if placed.is_empty():
        # A single number about a whole sequence is shown as text, not as a figure.
        return [Panel("", placeless)] if placeless.height > 1 or is_checkpoint else []
    of_steps = of_metric.filter(pl.col("step").is_not_null())
    # Checkpoints without a step have no place on the step axis.
    beside = [Panel(_UNPLACED, placeless)] if is_checkpoint else []
    return [Panel("", _over_steps(placed, of_steps)), *beside]


def _over_steps(rows: pl.DataFrame, of_metric: pl.DataFrame) -> pl.DataFrame:
    """Return one series for each condition worth showing; for several models, one for each model."""
    if rows["model"].n_unique() > 1:
        shown = rows.filter(is_exactly(leading_condition(rows)))
        return _curve(shown, pl.col("model"))
    conditions = rows["condition"].unique(maintain_order=True).to_list()
    few = _alike(broken_down(conditions) or telling(conditions), leading_condition(rows))
    order = pl.DataFrame({"condition": few}, schema={"condition": pl.String})
    shown = order.join(rows, on="condition", nulls_equal=True, maintain_order="left_right")
    parts = [_curve(shown, _readable())]
    never = part_of(of_metric.filter(pl.col("group").is_null()), "trained").filter(pl.col("part") == "false")
    if never.height:
        beside = never.filter(is_exactly(leading_condition(never)))
        parts.append(_curve(beside, pl.lit(_BESIDE)))
    return pl.concat(parts)


def _alike(conditions: list[str | None], leading: str | None) -> list[str | None]:
    """Return conditions few enough for a figure: of many, those with the leading one's first pair."""
    if len(conditions) <= MAX_SERIES - 1 or leading is None:
        return conditions[: MAX_SERIES - 1]
    begin = pairs(leading)[:1]
    return [each for each in conditions if pairs(each)[:1] == begin][: MAX_SERIES - 1]


def _readable() -> pl.Expr:
    """Return conditions as a legend shows them: `top40, n = 100, p = 0.5`."""
    text = readable_column().str.replace_all("scheme=", "")
    return text.fill_null(_NAME)


def _curve(rows: pl.DataFrame, series: pl.Expr) -> pl.DataFrame:
    return rows.select(
        pl.col("step").cast(pl.Float64).alias("x"),
        "estimate",
        "ci_low",
        "ci_high",
        series.alias("series"),
        "unit",
    )


def _without_step(rows: pl.DataFrame) -> pl.DataFrame:
    named = pl.col("model") if rows["model"].n_unique() > 1 else pl.lit("")
    label = pl.concat_str([named, pl.col("condition").fill_null(_NAME)], separator=" ").str.strip_chars()
    return rows.head(_MAX_ROWS).select(
        label.alias("label"),
        "estimate",
        "ci_low",
        "ci_high",
        "unit",
    )


def draw_metric(rows: pl.DataFrame, look: Look, title: str) -> Any:  # noqa: ANN401
    """Return a chart of a metric over steps, or of its estimates one below the other.

    Args:
        rows: Rows of a panel from `rows_of_metric`.
        look: Size of the figure.
        title: Title of the value axis.
    """
    fraction = rows["unit"][0] == "fraction"
    if "label" in rows.columns:
        known = rows.filter(pl.col("estimate").is_finite())
        if known.is_empty():
            raise ValueError("a figure needs at least one finite estimate")
        return column(known, title, look, from_zero=fraction)
    lowest = rows["ci_low"].min()
    return curves(rows, Axes("step", title, from_zero=fraction and _above_zero(lowest)), look)


def _above_zero(value: object) -> bool:
    return not isinstance(value, float) or value >= 0


def rows_of_exposures(summary: pl.DataFrame, metric: str) -> list[Panel]:
    """Return a panel of a metric at the last step by number of exposures; empty if there is nothing to draw.

    Args:
        summary: Rows of `SUMMARY` of one probe.
        metric: Name of the metric.
    """
    rows = summary.filter(pl.col("group").is_null(), pl.col("metric") == metric)
    rows = rows.filter(at_last_step())
    rows = part_of(rows, "exposures").filter(pl.col("estimate").is_finite())
    if rows.is_empty():
        return []
    wanted = pl.lit(leading_condition(rows), dtype=pl.String)
    rows = rows.filter(pl.col("condition").eq_missing(wanted)).sort(
        "model", pl.col("part").cast(pl.Int64, strict=False)
    )
    return [Panel("", rows.select("model", pl.col("part").alias("x"), "estimate", "ci_low", "ci_high"))]


def draw_exposures(rows: pl.DataFrame, look: Look, title: str) -> Any:  # noqa: ANN401
    """Return a chart of a metric by exposures.

    Args:
        rows: Rows of a panel from `rows_of_exposures`.
        look: Size of the figure.
        title: Title of the value axis.
    """
    return categories(rows, "exposures", title, look)
