"""Figures of single probes: which rows of which table, and how they are drawn.

Each `rows_of_*` takes a table of the run and gives panels, one for each model and whatever else cannot
share a frame; each `draw_*` takes the rows of a panel and gives an Altair chart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.report.escape import visible
from memprobe.report.estimates import last_step, pooled
from memprobe.report.figures.lines import Axes, curves
from memprobe.report.figures.marks import ratios, surface
from memprobe.report.figures.theme import NAME_CHARS, Look
from memprobe.tables.conditions import has, value_of

# A heat map of more cells is neither told apart on paper nor small in a page.
_MAX_CELLS = 36
_MAX_DOCUMENTS = 20


@dataclass(frozen=True, slots=True)
class Panel:
    """What one frame shows.

    Attributes:
        name: What sets it apart from the figure's other panels; empty where there is one.
        rows: As the figure's drawing function wants them.
    """

    name: str
    rows: pl.DataFrame


def short_name(text: object) -> str:
    """Return a user's name as a figure has room for it."""
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


def _laid(x: pl.Expr, estimate: str, lo: str, hi: str, series: pl.Expr) -> list[pl.Expr]:
    """Return the columns of a curve."""
    return [
        x.cast(pl.Float64).alias("x"),
        pl.col(estimate).alias("estimate"),
        pl.col(lo).alias("ci_low"),
        pl.col(hi).alias("ci_high"),
        series.alias("series"),
    ]


# Extraction


def rows_of_samples(summary: pl.DataFrame) -> list[Panel]:
    """Return the extraction rate over the number of samples, for each p; one panel per scheme."""
    rows = last_step(pooled(summary)).filter(pl.col("metric") == "rate_frac", has("n"))
    parts = {key: value_of(key) for key in ("scheme", "n", "p")}
    rows = rows.with_columns(**parts).sort(
        "model", "scheme", pl.col("p").cast(pl.Float64), maintain_order=True
    )
    series = pl.format("p = {}", "p")
    laid = rows.select(
        "model", "scheme", *_laid(pl.col("n").cast(pl.Float64), "estimate", "ci_low", "ci_high", series)
    )
    return panels_of(laid, ("model", "scheme"))


def draw_samples(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return the extraction rate over n on a logarithmic axis."""
    return curves(rows, Axes("samples n", "share of items", log_x=True, from_zero=True), look)


def rows_of_coverage(windows: pl.DataFrame) -> list[Panel]:
    """Return the largest p_z of windows over each part of each document; documents most covered first."""
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
    """Return a map: documents below each other, from their first character to their last."""
    places = pl.DataFrame({"x": rows["x"].unique().sort()})
    ordered = places.join(rows, on="x", maintain_order="left").select("x", "y", "value")
    documents = rows["y"].unique(maintain_order=True)
    ordered = pl.DataFrame({"y": documents}).join(ordered, on="y", maintain_order="left")
    return surface(ordered.sort("x", maintain_order=True), "% of the document", "", "p_z", look)


# Profile


def rows_of_effects(profile: pl.DataFrame) -> list[Panel]:
    """Return the effect on each cohort at each step; of many cohorts or steps, means over neighbours."""
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
    """Return each value's bin, named by its first value."""
    values = rows[column].unique().sort().to_list()
    size = -(-len(values) // _MAX_CELLS)
    return rows[column].replace_strict({value: values[i // size * size] for i, value in enumerate(values)})


def draw_effects(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a heat map of cohort by step; dots mark effects whose simultaneous band excludes 0."""
    return surface(rows, "step", "first trained on (step)", "effect", look)


def rows_of_events(aggregates: pl.DataFrame) -> list[Panel]:
    """Return the mean effect by checkpoints since training, with simultaneous bands where there are."""
    rows = aggregates.filter(pl.col("aggregation") == "event", pl.col("key").is_not_null()).sort("key")
    ends = [pl.coalesce(f"{end}_sim", end).alias(f"{end}_shown") for end in ("lo", "hi")]
    series = pl.when(pl.col("key") < 0).then(pl.lit("before training")).otherwise(pl.lit("after training"))
    laid = rows.with_columns(ends).select(
        "model", "outcome", *_laid(pl.col("key"), "att", "lo_shown", "hi_shown", series)
    )
    return panels_of(laid, ("model", "outcome"))


def draw_events(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return the event study."""
    axes = Axes("checkpoints since training (0: the first that has seen the items)", "effect", rule=0.0)
    return curves(rows, axes, look)


# Compression


def rows_of_ratios(table: pl.DataFrame) -> list[Panel]:
    """Return each item's ratio, or a censored one's bound, by exposures, else by group; then controls."""
    is_item = pl.col("target_kind") == "item" if "target_kind" in table.columns else pl.lit(value=True)
    known = "exposures" in table.columns and table.filter(is_item)["exposures"].null_count() < table.height
    place = pl.col("exposures").cast(pl.String) if known else pl.col("group")
    kind = pl.when(~is_item).then("target_kind") if "target_kind" in table.columns else pl.lit(None)
    number = pl.col("exposures") if known else pl.lit(None, dtype=pl.Int64)
    laid = (
        table.with_columns(x=pl.coalesce(kind, place, pl.lit("unknown")), first=is_item, number=number)
        .with_columns(ratio=pl.when("is_censored").then("acr_upper_bound").otherwise("acr"))
        .filter(pl.col("ratio").is_finite())
        .sort(pl.col("first").not_(), "number", "x", "ratio", nulls_last=True)
        .select("model", "x", "ratio", pl.col("is_censored").alias("censored"))
    )
    return panels_of(laid, ("model",))


def draw_ratios(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return ratios beside exposures."""
    counted = rows["x"].str.contains(r"^\d+$").any()
    return ratios(rows.select("x", "ratio", "censored"), "exposures" if counted else "group", look)


# Over time

_OUTCOMES = {
    "recall_exact": "share recalled",
    "recognition_correct": "share recognised",
    "logprob_mean_nats": "mean ln p (nats per token)",
}


def rows_of_retention(curve: pl.DataFrame) -> list[Panel]:
    """Return what is left by updates since the last exposure, and never-trained items beside it."""
    rows = curve.filter(pl.col("group").is_null(), pl.col("exposures").is_null())
    names = {"all_items": "all items", "same_items": "items seen at all lags"}
    lag = pl.col("lag_mean_steps")
    trained = rows.select(
        "model",
        "outcome",
        *_laid(lag, "estimate", "ci_low", "ci_high", pl.col("sample").replace(names)),
    )
    beside = rows.filter(pl.col("sample") == "all_items", pl.col("baseline").is_not_null()).with_columns(
        none=pl.lit(None, pl.Float64)
    )
    never = beside.select(
        "model", "outcome", *_laid(lag, "baseline", "none", "none", pl.lit("never trained, or chance"))
    )
    return panels_of(pl.concat([trained, never]), ("model", "outcome"))


def draw_retention(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a retention curve."""
    outcome = str(rows["outcome"][0])
    axes = Axes(
        "steps since last trained on", _OUTCOMES.get(outcome, outcome), from_zero="nats" not in outcome
    )
    return curves(rows, axes, look)


def rows_of_survival(survival: pl.DataFrame) -> list[Panel]:
    """Return the share of learned items not yet forgotten."""
    rows = survival.filter(pl.col("group").is_null(), pl.col("condition").is_null())
    series = pl.lit("all items")
    laid = rows.select("model", *_laid(pl.col("t_since_learned_steps"), "survival_frac", "lo", "hi", series))
    return panels_of(laid, ("model",))


def draw_survival(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return a Kaplan-Meier curve."""
    axes = Axes("steps since first learned", "share not yet forgotten", from_zero=True, stairs=True)
    return curves(rows, axes, look)


def rows_of_decay(curve: pl.DataFrame) -> list[Panel]:
    """Return what is kept of a gain by updates since its highest point."""
    rows = curve.filter(pl.col("group").is_null())
    laid = rows.select(
        "model", *_laid(pl.col("t_since_lam_steps"), "retainability_mean", "lo", "hi", pl.lit("all items"))
    )
    return panels_of(laid, ("model",))


def draw_decay(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return the decay of what was acquired."""
    return curves(rows, Axes("steps since the highest point", "share of the gain kept", from_zero=True), look)


def rows_of_forecast(forecast: pl.DataFrame) -> list[Panel]:
    """Return precision and recall of each earlier checkpoint of the same model."""
    rows = forecast.filter(
        pl.col("group").is_null(), pl.col("seen").is_null(), pl.col("predictor_model") == pl.col("model")
    ).sort("model", "predictor_step")
    parts = [
        rows.select(
            "model",
            *_laid(pl.col("predictor_step"), f"{name}_frac", f"{name}_lo", f"{name}_hi", pl.lit(name)),
        )
        for name in ("precision", "recall")
    ]
    return panels_of(pl.concat(parts), ("model",))


def draw_forecast(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return precision and recall over the predictor's step."""
    return curves(rows, Axes("step of the predictor", "fraction", from_zero=True), look)


def rows_of_order(accuracy: pl.DataFrame) -> list[Panel]:
    """Return the accuracy by distance, with the excerpt in the prompt and without."""
    cells = [pl.col(name).is_null() for name in ("group", "excerpt_words", "segment_words", "position_bin")]
    rows = last_step(accuracy).filter(*cells, pl.col("distance_bin").is_not_null()).sort("distance_bin")
    names = {"in_context": "text in the prompt", "parametric": "from memory"}
    laid = rows.select(
        "model",
        "mode",
        *_laid(
            pl.col("distance_bin"), "accuracy_frac", "ci_low", "ci_high", pl.col("condition").replace(names)
        ),
    )
    return panels_of(laid, ("model", "mode"))


def draw_order(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return the accuracy by distance; the line is chance."""
    axes = Axes("distance of the segments (bin)", "share in the right order", rule=0.5, whole_x=True)
    return curves(rows, axes, look)


def rows_of_tasks(scores: pl.DataFrame) -> list[Panel]:
    """Return the score of each set of items over steps, sets in the order of their tasks."""
    rows = scores.sort("model", "task_end_step", "eval_set", "step", nulls_last=True)
    series = pl.col("eval_set")
    laid = rows.select("model", *_laid(pl.col("step"), "score", "lo", "hi", series))
    return panels_of(laid, ("model",))


def draw_tasks(rows: pl.DataFrame, look: Look) -> Any:  # noqa: ANN401
    """Return the scores of each set over steps."""
    return curves(rows, Axes("step", "score"), look)
