"""Charts as files: SVG for a page, and SVG, PDF or PNG for a paper."""

import re
from typing import Any, Literal

from memprobe.escape import markup

Format = Literal["svg", "pdf", "png"]
_DPI = 300
# What the SVG carries for scripts and screen readers that a drawing inside a labelled figure does not need.
_NEEDLESS = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|xmlns:xlink|version)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"(?=[ />])'
)
_EMPTY = re.compile(r'<path d="(?:M0,0h0v0h0Z)?"(?: display="none")?/>')
_STYLE = re.compile(r' style="([^"]*)"')
_HEAD = re.compile(r'<svg[^>]*?width="([\d.]+)" height="([\d.]+)"[^>]*>')
_FONT = 'font-family="Liberation Sans"'
# Arial and Helvetica are as wide, so that what was measured here fits there.
_FONTS = 'font-family="Liberation Sans, Arial, Helvetica, sans-serif"'


def svg_in_page(chart: Any, label: str) -> str:  # noqa: ANN401
    """Return an SVG element for an HTML page, styled by presentation attributes only.

    Args:
        chart: An Altair chart.
        label: Text that a screen reader says instead of the drawing.
    """
    drawn = _lean(_svg(chart))
    head = _HEAD.search(drawn)
    if head is None:
        raise ValueError("vl-convert gave no SVG with width and height")
    width, height = head.groups()
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{markup(label)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" {_FONTS}>'
    )
    body = drawn[: head.start()] + opening + drawn[head.end() :]
    return body.replace(f" {_FONT}", "")


def figure_bytes(chart: Any, to: Format, width_mm: float) -> bytes:  # noqa: ANN401
    """Return the bytes of a figure file; one px of the chart is one point, so letters keep their size.

    Args:
        chart: An Altair chart whose width is `width_mm` in points.
        to: The format; PNG has 300 dots per inch.
        width_mm: Width of an SVG, which has no points of its own.
    """
    import vl_convert

    if to == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(chart.to_dict(), allowed_base_urls=[]))
    if to == "png":
        return bytes(
            vl_convert.vegalite_to_png(chart.to_dict(), scale=_DPI / 72, ppi=72, allowed_base_urls=[])
        )
    drawn = _lean(_svg(chart)).replace(_FONT, _FONTS)
    head = _HEAD.search(drawn)
    if head is None:
        raise ValueError("vl-convert gave no SVG with width and height")
    width, height = map(float, head.groups())
    size = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_mm:g}mm" '
        f'height="{width_mm * height / width:.2f}mm" viewBox="0 0 {width:g} {height:g}">'
    )
    return (drawn[: head.start()] + size + drawn[head.end() :] + "\n").encode()


def _svg(chart: Any) -> str:  # noqa: ANN401
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[]))


def _lean(svg: str) -> str:
    """Return an SVG without invisible elements, and with presentation attributes instead of styles."""
    svg = _STYLE.sub(lambda found: _attributes(found[1]), svg)
    return _EMPTY.sub("", _NEEDLESS.sub("", svg))


def _attributes(style: str) -> str:
    pairs = (each.split(":", 1) for each in style.split(";") if ":" in each)
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)
