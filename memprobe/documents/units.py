"""Where the units of a text are: characters, words, sentences, as offsets into the source.

A sentence ends with a blank line, or with `.`, `!`, `?`, `…` (one or several, with the quotes or brackets
that close after them) before white space and something that is not a lower-case letter; `。`, `！` and `？`
need no white space. A full stop does not end a sentence after a known abbreviation, after a single capital
(`J. Smith`), inside a number, or after the number of a list item. Known limits: the abbreviations are
English; a sentence that begins with a lower-case letter joins the one before; an abbreviation that ends a
sentence joins the next; verse is not cut at its line ends. A plain rule, because the light libraries made
for it (pysbd, syntok) saw their last release in 2022.
"""

import re
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["tokens", "words", "sentences", "chars"]
Spans = NDArray[np.int64]
"""First and one past the last character of each unit, shape (n_units, 2)."""

_WORD: Final = re.compile(r"\S+")
_CLOSERS: Final = "\"'”’»)\\]}」』"
_END: Final = re.compile(
    rf"(?P<blank>\r?\n[ \t]*(?:\r?\n[ \t]*)+)"
    rf"|(?P<wide>[。！？]+[{_CLOSERS}]*)"
    rf"|(?P<stop>[.!?…]+)[{_CLOSERS}]*(?=\s)"
)
_LAST_WORD: Final = re.compile(r"[\w.]*\Z")
_SHORT_WORDS: Final = """
mr mrs ms messrs mme mlle dr prof st sr jr rev hon gen col capt lt sgt maj gov sen rep pres supt mt ft vs etc
e.g i.e cf viz al eds trans approx est dept inc ltd co corp bros ave blvd jan feb apr jun jul aug sept sep oct
nov dec a.m p.m
"""
_ABBREVIATIONS: Final = frozenset(_SHORT_WORDS.split())
# Words of their own, unless a number follows: `No. 7`, `Vol. II`.
_BEFORE_NUMBERS: Final = frozenset(
    ("no", "nos", "vol", "vols", "fig", "figs", "ch", "chap", "sec", "art", "p", "pp", "ed", "mar")
)
_NUMBER: Final = re.compile(r"[0-9]|[IVXLC]+\b")
# What may stand between the end of one sentence and the first letter of the next.
_OPENERS: Final = "\"'“‘«([{—–-_*「『"


def chars(text: str) -> Spans:
    """Return the characters of a text: Unicode code points, so a combining mark counts as one."""
    starts = np.arange(len(text), dtype=np.int64)
    return np.stack([starts, starts + 1], axis=1)


def words(text: str) -> Spans:
    """Return the words of a text, separated by white space; without white space, the text is one word."""
    return _spans([match.span() for match in _WORD.finditer(text)])


def sentences(text: str) -> Spans:
    """Return the sentences of a text, without the white space around them; see the module."""
    found, start = [], 0
    for match in _END.finditer(text):
        if match.start() >= start and _ends(text, match, start):
            found.append((start, match.end()))
            start = match.end()
    found.append((start, len(text)))
    return _spans([span for one in found if (span := _stripped(text, *one)) is not None])


def _ends(text: str, match: re.Match[str], start: int) -> bool:
    """Return whether the sentence that begins at `start` ends at this match."""
    if match["stop"] is None:
        return True
    following = text[match.end() : match.end() + 80].lstrip().lstrip(_OPENERS).lstrip()
    if following[:1].islower():
        return False
    if match["stop"] != ".":
        return True
    before = _LAST_WORD.search(text, max(0, match.start() - 20), match.start())
    word = before[0] if before else ""
    is_initial = len(word) == 1 and word.isalpha() and word.isupper() and word != "I"
    heads_item = word.isdigit() and not text[start : match.start() - len(word)].strip()
    is_short = word.lower() in _ABBREVIATIONS
    numbers = word.lower() in _BEFORE_NUMBERS and _NUMBER.match(following) is not None
    return not (is_initial or heads_item or is_short or numbers)


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    inner = text[start:end]
    left = len(inner) - len(inner.lstrip())
    stripped = inner.strip()
    return (start + left, start + left + len(stripped)) if stripped else None


def _spans(found: list[tuple[int, int]]) -> Spans:
    return np.array(found, dtype=np.int64).reshape(-1, 2)
