"""Figures of `extraction`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.lines import Axes, curves
from memprobe.figures.marks import surface
from memprobe.figures.panels import Figure, Panel, curve_columns, panels_of
from memprobe.figures.theme import Look
from memprobe.tables.conditions import has, value_of
from memprobe.tables.selection import last_step, pooled

# With more cells, a heat map is illegible on paper and makes a page large.
_MAX_CELLS = 36
_MAX_DOCUMENTS = 20


def rows_of_samples(summary: pl.DataFrame) -> list[Panel]:
    """Return the extraction rate over the number of samples, for each p; one panel per scheme."""
    rows = last_step(pooled(summary)).filter(pl.col("metric") == "rate_frac", has("n"))
    parts = {key: value_of(key) for key in ("scheme", "n", "p")}
    rows = rows.with_columns(**parts).sort(
        "model", "scheme", pl.col("p").cast(pl.Float64), maintain_order=True
    )
    series = pl.format("p = {}", "p")
    laid = rows.select(
        "model",
        "scheme",
        *curve_columns(pl.col("n").cast(pl.Float64), "estimate", "ci_low", "ci_high", series),
    )
    return panels_of(laid, ("model", "scheme"))


def draw_samples(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of the extraction rate over n, with a logarithmic axis for n."""
    return curves(rows, Axes("samples n", "share of items", log_x=True, from_zero=True), look)


def rows_of_coverage(windows: pl.DataFrame) -> list[Panel]:
    """Return the largest p_z of the windows in each part of each document; most covered documents first."""
    if "window_start_char" not in windows.columns:
        return []
    rows = windows.drop_nulls(["suffix_start_char", "document_chars", "pz"])
    if rows.is_empty():
        return []
    middle = (pl.col("suffix_start_char") + pl.col("suffix_end_char")) / 2
    part = (middle / pl.col("document_chars") * _MAX_CELLS).floor().clip(0, _MAX_CELLS - 1)
    binned = rows.group_by("model", "scheme", "item_id", part.cast(pl.Int64).alias("part")).agg(
        value=pl.col("pz").max()
    )
    order = binned.group_by("model", "scheme", "item_id").agg(most=pl.col("value").mean())
    order = order.sort("most", "item_id", descending=[True, False])
    kept = order.group_by("model", "scheme", maintain_order=True).head(_MAX_DOCUMENTS)
    laid = kept.join(binned, on=["model", "scheme", "item_id"], maintain_order="left").select(
        "model",
        "scheme",
        x=(pl.col("part") / _MAX_CELLS * 100).round().cast(pl.Int64),
        y="item_id",
        value="value",
    )
    return panels_of(laid, ("model", "scheme"))


def draw_coverage(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a heat map: one line per document, from its first character to its last."""
    places = pl.DataFrame({"x": rows["x"].unique().sort()})
    ordered = places.join(rows, on="x", maintain_order="left").select("x", "y", "value")
    documents = rows["y"].unique(maintain_order=True)
    ordered = pl.DataFrame({"y": documents}).join(ordered, on="y", maintain_order="left")
    return surface(ordered.sort("x", maintain_order=True), "% of the document", "", "p_z", look)


FIGURES = (
    Figure(
        "extraction-samples",
        "summary",
        "Rate over the number of samples",
        "Share of items that n samples hold with probability p, at the last step, with its interval.",
        rows_of_samples,
        draw_samples,
    ),
    Figure(
        "coverage-map",
        "extraction",
        "Coverage of documents",
        "Largest p_z of the windows in each part of a document; documents with most on top, last step.",
        rows_of_coverage,
        draw_coverage,
        of_last_step=True,
    ),
)
