"""Figures of `compression`: rows of each panel, and functions that draw them."""

from typing import Any

import polars as pl

from memprobe.figures.panels import Figure, Panel, panels_of
from memprobe.figures.theme import COLOURS, GREY, Look, dressed, labelled

_FOUND, _CENSORED = "prompt found", "none found: the ratio is below this"
_FILLS = {_FOUND: None, _CENSORED: "white"}


def rows_of_ratios(table: pl.DataFrame) -> list[Panel]:
    """Return the ratio, or bound if censored, of each item by exposures, else by group; then controls."""
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
    """Return a chart of ratios by exposures or by group."""
    counted = rows["x"].str.contains(r"^\d+$").any()
    return _ratios(rows.select("x", "ratio", "censored"), "exposures" if counted else "group", look)


def _ratios(rows: pl.DataFrame, x: str, look: Look) -> Any:  # noqa: ANN401
    """Return a chart of compression ratios by category: filled marks for ratios, hollow ones for bounds.

    Args:
        rows: `x` (ordered categories, in the order of the rows), `ratio`, `censored`.
        x: Title of the horizontal axis.
        look: Size of the figure.
    """
    import altair as alt

    rows = labelled(rows)
    kind = pl.when("censored").then(pl.lit(_CENSORED)).otherwise(pl.lit(_FOUND))
    rank = pl.int_range(pl.len()).over("x", "ratio", "censored") + 1
    rows = rows.with_columns(kind=kind, rank=rank, of=pl.len().over("x", "ratio", "censored"))
    rows = rows.with_columns(shift=(pl.col("rank") - (pl.col("of") + 1) / 2))
    kinds = [each for each in (_FOUND, _CENSORED) if each in rows["kind"].to_list()]
    order = rows["x"].unique(maintain_order=True).to_list()
    styles = {_FOUND: (COLOURS[0], "circle"), _CENSORED: (COLOURS[1], "triangle-down")}
    legend = alt.Legend(title=None, symbolSize=60)
    spread = max(1.0, float(rows["of"].max() or 1) / 2)  # type: ignore[arg-type]
    points = (
        alt.Chart(alt.Data(values=rows.to_dicts()))
        .mark_point(size=45, strokeWidth=1.5, opacity=1)
        .encode(
            x=alt.X("x:N", title=x, sort=order, axis=alt.Axis(labelAngle=0, grid=False)),
            xOffset=alt.XOffset("shift:Q", scale=alt.Scale(domain=[-spread, spread])),
            y=alt.Y("ratio:Q", title="compression ratio (acr)", scale=alt.Scale(zero=True)),
            color=alt.Color(
                "kind:N", scale=alt.Scale(domain=kinds, range=[styles[k][0] for k in kinds]), legend=legend
            ),
            fill=alt.Fill(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[_FILLS[k] or styles[k][0] for k in kinds]),
                legend=legend,
            ),
            shape=alt.Shape(
                "kind:N", scale=alt.Scale(domain=kinds, range=[styles[k][1] for k in kinds]), legend=legend
            ),
        )
    )
    one = alt.Chart(alt.Data(values=[{"at": 1.0}])).mark_rule(color=GREY, strokeDash=[2, 2]).encode(y="at:Q")
    return dressed(one + points, look, kinds)


FIGURES = (
    Figure(
        "compression-ratios",
        "compression",
        "Ratios by exposures",
        "One mark per target at the last step. Above the line a prompt shorter than the text was found; a "
        "hollow triangle bounds a ratio from above, as far as the search went.",
        rows_of_ratios,
        draw_ratios,
        of_last_step=True,
    ),
)
