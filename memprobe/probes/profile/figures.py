"""Figures of `profile`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.marks import surface
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look

# With more cells, a heat map is illegible on paper and makes a page large.
_MAX_CELLS = 36


def rows_of_effects(profile: pl.DataFrame) -> list[Panel]:
    """Return the effect on each cohort at each step; means over neighbours if there are many."""
    rows = profile.filter(pl.col("att").is_finite())
    marked = pl.col("is_post") & ((pl.col("lo_sim") > 0) | (pl.col("hi_sim") < 0))
    return [
        Panel(panel.name, _thinned(panel.rows.with_columns(marked=marked.fill_null(value=False))))
        for panel in panels_of(rows, ("model", "outcome"))
    ]


def _thinned(rows: pl.DataFrame) -> pl.DataFrame:
    binned = rows.with_columns(x=_binned(rows, "step"), y=_binned(rows, "cohort_step"))
    cells = binned.group_by("x", "y").agg(value=pl.col("att").mean(), marked=pl.col("marked").all())
    return cells.sort("y", "x")


def _binned(rows: pl.DataFrame, column: str) -> pl.Series:
    """Return the bin of each value; a bin is named by its first value."""
    values = rows[column].unique().sort().to_list()
    size = -(-len(values) // _MAX_CELLS)
    return rows[column].replace_strict({value: values[i // size * size] for i, value in enumerate(values)})


def draw_effects(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a heat map of cohort by step; dots mark later effects whose simultaneous band excludes 0."""
    return surface(rows, "step", "first trained on (step)", "effect", look)


def rows_of_events(aggregates: pl.DataFrame) -> list[Panel]:
    """Return the mean effect by checkpoints since training, with simultaneous bands, or else intervals."""
    rows = aggregates.filter(pl.col("aggregation") == "event", pl.col("key").is_not_null()).sort("key")
    ends = [pl.coalesce(f"{end}_sim", end).alias(f"{end}_shown") for end in ("lo", "hi")]
    series = pl.when(pl.col("key") < 0).then(pl.lit("before training")).otherwise(pl.lit("after training"))
    laid = rows.with_columns(ends).select(
        "model", "outcome", *curve_columns(pl.col("key"), "att", "lo_shown", "hi_shown", series)
    )
    return panels_of(laid, ("model", "outcome"))


def draw_events(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of the event study."""
    axes = Axes("checkpoints since training (0: the first that has seen the items)", "effect", rule=0.0)
    return curves(rows, axes, look)


FIGURES = (
    Figure(
        "profile-heatmap",
        "profile",
        "Effect by cohort and step",
        "Effect on the items first trained on at a step (down), measured at each step (across). Dots: after "
        "training, and the simultaneous band excludes 0.",
        rows_of_effects,
        draw_effects,
    ),
    Figure(
        "event-study",
        "profile_agg",
        "Event study",
        "Mean effect by checkpoints since training. Bands hold for all points at once. Points before "
        "training should lie around 0.",
        rows_of_events,
        draw_events,
    ),
)
