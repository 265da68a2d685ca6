"""How every figure looks: size, letters, and series that differ in colour, dash and shape at once.

Colours: Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, without its yellow, which is hard to see on
white paper, in an order in which neighbours differ in lightness. Surfaces: viridis, lightness rises with the
value, so that it can be read in grey and by colour-blind readers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.escape import visible

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (12, 3), (4, 1), (1, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
SURFACE = "viridis"
# Nobody can distinguish more lines than this in one frame.
MAX_SERIES = len(COLOURS)
GREY = "#666666"
NAME_CHARS = 28
# Of a letter, in units of its size.
LETTER_WIDTH = 0.56
_LEGEND_MARK_PX = 42


@dataclass(frozen=True, slots=True)
class Look:
    """The size of a figure.

    Attributes:
        width_px: Width of the whole figure; one px is 1/96 inch in a page and one point in a PDF.
        height_px: Height of the frame without its legend.
        font_px: Size of all letters.
    """

    width_px: float = 420
    height_px: float = 240
    font_px: float = 11

    def in_paper(self, width_mm: float, font_pt: float = 8) -> "Look":
        """Return the size for a column of a paper, one px being one point."""
        points = width_mm / 25.4 * 72
        return Look(width_px=points, height_px=self.height_px / self.width_px * points, font_px=font_pt)


def labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with texts shortened and control characters removed; different texts stay different.

    Every text that is drawn must pass through here: vl-convert ends the whole process at a control character.
    """
    return rows.with_columns(
        rows[name].replace_strict(_labels(rows[name].unique(maintain_order=True)), return_dtype=pl.String)
        for name, dtype in rows.schema.items()
        if dtype == pl.String and rows[name].null_count() < rows.height
    )


def _labels(values: Iterable[str | None]) -> dict[str | None, str | None]:
    labels: dict[str | None, str | None] = {}
    taken: set[str | None] = set()
    for value in values:
        label = None if value is None else visible(value, NAME_CHARS)
        number = 1
        while label in taken:
            number += 1
            label = f"{visible(str(value), NAME_CHARS - 5)} ({number})"
        taken.add(label)
        labels[value] = label
    return labels


def series_scales(names: Sequence[str], *, lines: bool = True) -> dict[str, Any]:
    """Return the encodings that distinguish series; none if there is only one series.

    Args:
        names: Names of the series, in the order of the legend.
        lines: The legend shows strokes with their dashes, else shapes.
    """
    import altair as alt

    if len(names) <= 1:
        return {}
    field, n = "series:N", len(names)
    kind = "stroke" if lines else alt.Undefined
    legend = alt.Legend(
        title=None,
        symbolType=kind,
        symbolSize=350 if lines else 60,
        symbolStrokeWidth=1.8 if lines else 0,
        symbolOpacity=1,
    )
    scales = [alt.Scale(domain=names, range=each[:n]) for each in (COLOURS, _DASHES, SHAPES)]
    return {
        "color": alt.Color(field, scale=scales[0], legend=legend, sort=names),
        "strokeDash": alt.StrokeDash(field, scale=scales[1], legend=legend if lines else None, sort=names),
        "shape": alt.Shape(field, scale=scales[2], legend=None if lines else legend, sort=names),
    }


def legend_columns(names: Sequence[str], look: Look) -> int:
    """Return how many columns of the legend fit the width."""
    longest = max((len(name) for name in names), default=1)
    entry = longest * look.font_px * LETTER_WIDTH + _LEGEND_MARK_PX
    return max(1, min(len(names), int(look.width_px // entry)))


def dressed(chart: Any, look: Look, legend: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """Return a chart with the size, letters and lines that all figures share.

    Args:
        chart: An Altair chart without a size.
        look: Size of the figure.
        legend: Number of entries of the legend below the frame.
    """
    import altair as alt

    columns = legend_columns(legend, look)
    rows = -(-len(legend) // columns) if len(legend) > 1 else 0
    size = look.font_px
    return (
        chart.properties(
            width=look.width_px,
            height=look.height_px + rows * (size + 5),
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
            padding=4,
        )
        .configure(aria=False, font="Liberation Sans", background="white")
        .configure_axis(**_axis(size))
        .configure_view(stroke=None)
        .configure_legend(
            orient="bottom",
            columns=columns,
            labelFontSize=size,
            titleFontSize=size,
            titleFontWeight="normal",
            labelLimit=int(look.width_px - _LEGEND_MARK_PX),
            offset=6,
        )
    )


def _axis(size: float) -> Mapping[str, Any]:
    return {
        "labelFontSize": size,
        "titleFontSize": size,
        "titleFontWeight": "normal",
        "titlePadding": 6,
        "labelColor": "#222222",
        "titleColor": "#222222",
        "domainColor": "#444444",
        "tickColor": "#444444",
        "gridColor": "#e4e4e4",
        "labelLimit": 160,
        "labelOverlap": True,
    }
