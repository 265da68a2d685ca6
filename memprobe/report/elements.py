"""HTML from Python values: anything that is not `Html` is treated as a user's text and escaped."""

from collections.abc import Iterable
from typing import NewType

from memprobe.escape import markup

Html = NewType("Html", str)
"""HTML as it stands; made by `element`, `raw` and `join` alone."""

Content = Html | str
# Maximum number of characters that a page shows of one text.
_MOST_CHARS = 2_000
_VOID = ("meta", "link", "hr", "br")


class _Raw(str):
    """A string that is HTML already."""

    __slots__ = ()


def raw(html: str) -> Html:
    """Return trusted HTML, such as a figure drawn by us, as it stands."""
    return Html(_Raw(html))


def text(value: object, at_most: int = _MOST_CHARS) -> Html:
    """Return any value as harmless text, cut in the middle if it is longer than `at_most`."""
    return raw(markup(str(value), at_most))


def user_text(value: object, at_most: int = 60) -> Html:
    """Return a user's text, isolated so that it cannot change the writing direction of the text around it."""
    return element("bdi", text(value, at_most))


def join(parts: Iterable[Content], between: str = "") -> Html:
    """Return parts one after the other."""
    return raw(between.join(_safe(part) for part in parts))


def element(name: str, /, *content: Content, **attributes: str) -> Html:
    """Return an element; attributes are given as Python names: `class_`, `aria_label`.

    Example:
        element("a", "to the top", href="#top")
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{markup(value, _MOST_CHARS)}"'
        for key, value in attributes.items()
    )
    inner = "".join(_safe(part) for part in content)
    return raw(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{inner}</{name}>")


def table(head: Iterable[Content], rows: Iterable[Iterable[Content]], caption: Content = "") -> Html:
    """Return a table that scrolls in its own frame if it is too wide; the first column names the rows."""
    top = element("tr", *(element("th", each, scope="col") for each in head))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", each) for each in rest))
        for first, *rest in map(list, rows)
    ]
    said = [element("caption", caption)] if caption else []
    whole = element("table", *said, element("thead", top), element("tbody", *body))
    return element("div", whole, class_="scroll")


def details(summary: Content, *content: Content, opened: bool = False) -> Html:
    """Return content that opens on demand, and is open in print."""
    given = {"open": ""} if opened else {}
    return element("details", element("summary", summary), *content, **given)


def _safe(part: Content) -> str:
    return part if isinstance(part, _Raw) else markup(part, _MOST_CHARS)
