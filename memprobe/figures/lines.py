"""Curves with bands: estimates over steps, samples, lags or distances."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.figures.theme import (
    COLOURS,
    GREY,
    LETTER_WIDTH,
    MAX_SERIES,
    Look,
    dressed,
    labelled,
    series_scales,
)

# Above so many places on the axis the markers would touch.
_MANY_POINTS = 30
_BANDS = 3
# Of the width of the axis.
_DODGE = 0.007
# From here on steps are shown as 20k.
_LONG_NUMBER = 10_000
_THOUSANDS = "datum.value == 0 ? '0' : format(datum.value, '~s')"


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a curve.

    Attributes:
        x: Title below.
        y: Title at the left.
        log_x: The horizontal axis is logarithmic.
        from_zero: The vertical axis begins at 0.
        rule: Height of a thin horizontal line, as at chance or at no effect; None: no line.
        stairs: Each value holds until the next x, drawn as steps.
        whole_x: Values of x are whole numbers, each with a tick.
    """

    x: str
    y: str
    log_x: bool = False
    from_zero: bool = False
    rule: float | None = None
    stairs: bool = False
    whole_x: bool = False


def curves(rows: pl.DataFrame, axes: Axes, look: Look) -> Any:  # noqa: ANN401
    """Return lines with bands; with more than three series, or at a single x, bars instead of bands.

    Args:
        rows: `x, estimate, ci_low, ci_high, series`, series in the order of the legend; null and infinite
            estimates are left out, as are ends of intervals that are not there.
        axes: Titles and scales.
        look: Size of the figure.

    Raises:
        ValueError: No estimate is finite.
    """
    import altair as alt

    rows = labelled(_drawable(rows, axes))
    names = rows["series"].unique(maintain_order=True).to_list()
    places = rows["x"].unique().sort().to_list()
    dotted = len(places) <= _MANY_POINTS
    barred = len(places) == 1 or (dotted and len(names) > _BANDS)
    scales = series_scales(names, lines=not dotted)
    scale = alt.Scale(zero=axes.from_zero, nice=True)
    base = alt.Chart(alt.Data(values=_plain(_dodged(rows, names, axes) if barred else rows))).encode(
        x=_x_axis(places, axes, look)
    )
    ends = {"y": alt.Y("ci_low:Q", title=axes.y, scale=scale), "y2": alt.Y2("ci_high:Q")}
    y = alt.Y("estimate:Q", title=axes.y, scale=scale)
    # Of a single series, which has no scales.
    paint = {} if scales else {"color": COLOURS[0]}
    shape = {"interpolate": "step-after" if axes.stairs else "linear", **paint}
    drawn = [_rule(axes.rule)] if axes.rule is not None else []
    spans = base.mark_rule(opacity=0.7, **paint) if barred else base.mark_area(opacity=_veil(names), **shape)
    drawn.append(spans.encode(**ends, **_only(scales, "color")))
    drawn.append(base.mark_line(strokeWidth=1.8, **shape).encode(y=y, **_only(scales, "color", "strokeDash")))
    if dotted:
        dots = base.mark_point(filled=True, size=28, opacity=1, **paint)
        drawn.append(dots.encode(y=y, **_only(scales, "color", "shape")))
    return dressed(alt.layer(*drawn), look, names)


def _drawable(rows: pl.DataFrame, axes: Axes) -> pl.DataFrame:
    """Return the rows that can be drawn, of as many series as can be distinguished."""
    rows = rows.filter(pl.col("estimate").is_finite(), pl.col("x").is_finite()).with_columns(
        pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in ("ci_low", "ci_high")
    )
    if axes.log_x:
        rows = rows.filter(pl.col("x") > 0)
    if rows.is_empty():
        raise ValueError("a curve needs at least one finite estimate")
    names = rows["series"].unique(maintain_order=True).to_list()
    return rows.filter(pl.col("series").is_in(names[:MAX_SERIES]))


def _veil(names: Sequence[str]) -> float:
    return 0.18 if len(names) <= _BANDS else 0.08


def _only(scales: Mapping[str, Any], *wanted: str) -> dict[str, Any]:
    return {name: each for name, each in scales.items() if name in wanted}


def _dodged(rows: pl.DataFrame, names: Sequence[str], axes: Axes) -> pl.DataFrame:
    """Return rows with x shifted a little for each series, so that bars do not overlap."""
    at = pl.col("x").log10() if axes.log_x else pl.col("x")
    rank = rows["series"].replace_strict({name: i for i, name in enumerate(names)}, return_dtype=pl.Float64)
    shift = (rank - (len(names) - 1) / 2) * _DODGE * (at.max() - at.min())
    return rows.with_columns(x=10.0 ** (at + shift) if axes.log_x else at + shift)


def _rule(at: float) -> Any:  # noqa: ANN401
    import altair as alt

    return alt.Chart(alt.Data(values=[{"at": at}])).mark_rule(color=GREY, strokeDash=[2, 2]).encode(y="at:Q")


def _x_axis(places: Sequence[float], axes: Axes, look: Look) -> Any:  # noqa: ANN401
    import altair as alt

    if axes.log_x:
        ends = [math.floor(math.log10(places[0])), math.ceil(math.log10(places[-1]))]
        ticks = alt.Axis(format="~s", values=[10.0**k for k in range(ends[0], ends[1] + 1)])
        return alt.X("x:Q", title=axes.x, scale=alt.Scale(type="log", nice=False), axis=ticks)
    letters = max(len(f"{place:.0f}") for place in places) + 2
    room = max(2, int(0.8 * look.width_px / (letters * look.font_px * LETTER_WIDTH)))
    given: dict[str, Any] = {"tickCount": room}
    if axes.whole_x:
        given = {"values": list(places[:: math.ceil(len(places) / room)])}
    elif len(places) <= room and all(float(place).is_integer() for place in places):
        given = {"values": list(places)}
    if max(map(abs, places)) < _LONG_NUMBER:
        ticks = alt.Axis(format="~d", grid=False, **given)
    else:
        ticks = alt.Axis(labelExpr=_THOUSANDS, grid=False, **given)
    return alt.X("x:Q", title=axes.x, scale=alt.Scale(zero=False, nice=False), axis=ticks)


def _plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return rows.select("x", "estimate", "ci_low", "ci_high", "series").to_dicts()
