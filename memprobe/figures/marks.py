"""Figures that are not curves: surfaces of two axes, and estimates in a column or next to each other."""

from typing import Any

import polars as pl

from memprobe.figures.theme import (
    COLOURS,
    MAX_SERIES,
    SURFACE,
    Look,
    dressed,
    labelled,
    series_scales,
)


def surface(rows: pl.DataFrame, x: str, y: str, value: str, look: Look) -> Any:  # noqa: ANN401
    """Return a heat map; a dot marks cells whose `marked` is true.

    Args:
        rows: `x, y` (ordered categories, in the order of the rows), `value`, and, if there are marks,
            `marked`.
        x: Title below.
        y: Title at the left.
        value: Title of the scale of colours.
        look: Size of the figure.
    """
    import altair as alt

    rows = labelled(rows)
    columns = rows["x"].unique(maintain_order=True).to_list()
    lines = rows["y"].unique(maintain_order=True).to_list()
    base = alt.Chart(alt.Data(values=rows.to_dicts())).encode(
        x=alt.X("x:O", title=x, sort=columns, axis=alt.Axis(labelAngle=0, **_few(columns, look, 4))),
        y=alt.Y("y:O", title=y, sort=lines, axis=alt.Axis(**_few(lines, look, 1.6))),
    )
    bar = alt.Legend(title=value, orient="right", gradientLength=look.height_px * 0.6)
    cells = base.mark_rect().encode(color=alt.Color("value:Q", scale=alt.Scale(scheme=SURFACE), legend=bar))
    if "marked" not in rows.columns:
        return dressed(cells, look)
    dots = (
        base.mark_circle(size=10, stroke="white", strokeWidth=0.8)
        .transform_filter("datum.marked")
        .encode(color=alt.value("black"))
    )
    return dressed(cells + dots, look)


def _few(values: list[Any], look: Look, letters: float) -> dict[str, Any]:
    """Return the ticks that fit an axis, given the letters of each label."""
    room = look.width_px * 0.7 if letters > 2 else look.height_px * 0.8
    every = max(1, round(len(values) * letters * look.font_px / room))
    return {"values": values[::every]} if every > 1 else {}


def column(rows: pl.DataFrame, x: str, look: Look, *, from_zero: bool) -> Any:  # noqa: ANN401
    """Return estimates in a column, each with its interval.

    Args:
        rows: `label, estimate, ci_low, ci_high`, from top to bottom.
        x: Title below.
        look: Size of the figure; the height grows with the rows.
        from_zero: The horizontal axis begins at 0.
    """
    import altair as alt

    rows = labelled(rows)
    labels = rows["label"].to_list()
    base = alt.Chart(alt.Data(values=rows.to_dicts())).encode(
        y=alt.Y("label:N", title=None, sort=labels, axis=alt.Axis(labelLimit=int(look.width_px * 0.45)))
    )
    scale = alt.Scale(zero=from_zero)
    bars = base.mark_rule(color=COLOURS[0], strokeWidth=1.5).encode(
        x=alt.X("ci_low:Q", title=x, scale=scale), x2="ci_high:Q"
    )
    dots = base.mark_point(filled=True, color=COLOURS[0], size=40, opacity=1).encode(
        x=alt.X("estimate:Q", title=x, scale=scale)
    )
    height = 50 + len(labels) * look.font_px * 1.7
    return dressed(bars + dots, Look(look.width_px, height, look.font_px))


def categories(rows: pl.DataFrame, x: str, y: str, look: Look) -> Any:  # noqa: ANN401
    """Return estimates next to each other, each with its interval; models differ in colour and shape.

    Args:
        rows: `model, x` (ordered categories, in the order of the rows)`, estimate, ci_low, ci_high`.
        x: Title below.
        y: Title at the left.
        look: Size of the figure.
    """
    import altair as alt

    rows = labelled(rows)
    models = rows["model"].unique(maintain_order=True).to_list()[:MAX_SERIES]
    rows = rows.filter(pl.col("model").is_in(models)).rename({"model": "series"})
    order = rows["x"].unique(maintain_order=True).to_list()
    scales = series_scales(models, lines=False)
    scales.pop("strokeDash", None)
    beside = {"xOffset": alt.XOffset("series:N", sort=models)} if len(models) > 1 else {}
    base = alt.Chart(alt.Data(values=rows.to_dicts())).encode(
        x=alt.X("x:N", title=x, sort=order, axis=alt.Axis(labelAngle=0, grid=False)), **beside
    )
    scale = alt.Scale(zero=True)
    colour = {name: each for name, each in scales.items() if name == "color"}
    bars = base.mark_rule(strokeWidth=1.5, color=COLOURS[0]).encode(
        y=alt.Y("ci_low:Q", title=y, scale=scale), y2="ci_high:Q", **colour
    )
    dots = base.mark_point(filled=True, size=45, opacity=1, color=COLOURS[0]).encode(
        y=alt.Y("estimate:Q", title=y, scale=scale), **scales
    )
    return dressed(bars + dots, look, models)
