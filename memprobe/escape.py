"""What makes a user's text harmless: one function for each format that is written.

Item ids, groups, conditions and texts come from files of anybody. Whatever they hold, a page, a figure,
a table or a spreadsheet shows it as text and runs none of it. The cells of a CSV are quoted where they
are written, in `memprobe.tables.cells`, since the run directory holds a CSV too.
"""

import html
import re
import unicodedata

MAX_CHARS = 200
"""Longer texts are cut in the middle where a place has room for a name only."""

# Joiners that scripts and emoji are written with; all other invisible marks could hide or turn text.
_JOINERS = "\u200c\u200d"
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKDOWN = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        # Formulas, mentions, issue numbers and templates: a backslash does not stop those.
        "$": "&#36;",
        "@": "&#64;",
        "#": "&#35;",
        "{": "&#123;",
        "}": "&#125;",
        **{mark: f"\\{mark}" for mark in "\\`*[]|~!"},
    }
)
_LATEX = {
    **{mark: f"\\{mark}" for mark in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Babel makes a shorthand of it, and ligatures something else of these.
    '"': r"{\char34}",
    "`": r"\textasciigrave{}",
    "'": r"{\char39}",
    "-": "{-}",
    # Behind the end of a table's line these are its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "×": r"\texttimes{}",
    "…": r"\ldots{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def visible(text: str, at_most: int | None = None) -> str:
    r"""Return text with every invisible character written out, like `\u202e`, on one line.

    Line ends and tabs become spaces. Marks that turn the direction of what follows, control characters
    and halves of characters are what could make a reader see something else than is there.

    Args:
        text: Anything.
        at_most: Characters of the result, above 1; what is longer loses its middle to `…`. None: all.
    """
    if at_most is not None and len(text) > at_most:
        # Cut first: ten thousand characters cost no more than the few that are shown.
        text = text[:at_most] + "\0" + text[-at_most:]
    # Nearly every text is printable as a whole, which the interpreter tells without looking at each in turn.
    shown = (
        text
        if text.isprintable()
        else "".join(_shown(each) for each in re.sub(r"[\r\n\t\v\f\x85]+", " ", text))
    )
    if at_most is None or len(shown) <= at_most:
        return shown
    front = at_most // 2
    return f"{shown[:front]}…{shown[len(shown) - (at_most - front - 1) :]}"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE or character in _JOINERS:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markup(text: str, at_most: int | None = None) -> str:
    """Return text for HTML or SVG, between tags or inside a quoted attribute; see `visible`."""
    return html.escape(visible(text, at_most), quote=True)


def markdown(text: str, at_most: int | None = None) -> str:
    """Return text for a line or a table's cell of GitHub's Markdown, which shows it as it is.

    Underscores inside words mean nothing there, so names such as `exact_frac` stay as they are.
    Addresses are shown and not linked. See `visible` for `at_most`.
    """
    harmless = visible(text, at_most).translate(_MARKDOWN)
    harmless = re.sub(r"(?<![A-Za-z0-9_])_|_(?![A-Za-z0-9_])", r"\\_", harmless)
    harmless = re.sub(r"://", "&#58;//", harmless)
    harmless = re.sub(r"(?i)\b(www)\.", r"\1&#46;", harmless)
    # What begins a list, a heading or a rule, where the text begins a line.
    harmless = re.sub(r"^(\s*)([-+=])", r"\1\\\2", harmless)
    return re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", harmless)


def latex(text: str, at_most: int | None = None) -> str:
    """Return text for LaTeX that compiles with pdflatex and no further package.

    Accented Latin letters are composed; what the standard fonts do not hold is shown as its code, like
    `[U+4E2D]`. See `visible` for `at_most`.
    """
    return "".join(_latex_of(each) for each in unicodedata.normalize("NFC", visible(text, at_most)))


def _latex_of(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        letter, accent = parts[0], parts[1]
        base = f"\\{letter}" if letter in "ij" and accent != "\u0327" else letter
        return f"\\{_ACCENTS[accent]}{{{base}}}"
    return f"{{[U+{ord(character):04X}]}}"
