"""The running text of a document: its words and sentence starts, without headings and front matter.

Left out are Project Gutenberg's marks and all text outside them, title pages and tables of contents,
headings (CHAPTER IV, XII, a line in capitals, and the title below one), ornaments, captions, footnotes, and
all text after THE END, an index or a transcriber's note. Headings are recognised by their shape, as blocks
between blank lines; a text without blank lines has none.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memprobe.documents.gutenberg import find_body
from memprobe.documents.units import Spans, sentences, words

_BLANK: Final = re.compile(r"(?:\n[ \t]*){2,}")
_HEADING_WORDS, _TITLE_WORDS, _PROSE_WORDS, _LONG_WORDS = 14, 12, 8, 40
_EDGE_FRAC: Final = 0.2
_NAMED: Final = re.compile(
    r"(?:chapter|book|part|section|volume|canto|act|scene|stave|letter)\s+"
    r"(?:[IVXLCDM]+|\d+|(?:the\s+)?[a-z]+)\b"
    r"|(?:preface|prologue|epilogue|introduction|foreword|afterword|conclusion|appendix|interlude)\W*$",
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(r"(?:[IVXLCDM]+|\d{1,3})\W*")
_CAPTION: Final = re.compile(
    r"\[[^\]]*illustration|\[the end of|\[(?:\d+|footnote[^\]]*)\]|fig(?:ure|\.)?\s*\d+\W*$", re.IGNORECASE
)
_OPEN_CAPTION_BLOCKS: Final = 20
_CONTENTS: Final = re.compile(r"(?:table of )?contents\b", re.IGNORECASE)
_BACK: Final = re.compile(
    r"(?:the end|finis|index|notes|footnotes|endnotes|bibliography|transcriber\W{0,2}s?\W+notes?)\W*$",
    re.IGNORECASE,
)
_IMPRINT: Final = re.compile(
    r"copyright|©|all rights reserved|printed in|printing,|publishers?\b|published by|produced by|transcri"
    r"|author of|edition\b|\bisbn\b|^\W*by\s+[A-Z]",
    re.IGNORECASE,
)
_STOPS: Final = re.compile(r"[.!?…:;,—–-][\"'”’»)\]_*]*$|[”’\"']$")
_OPENS_SPEECH: Final = re.compile(r"[_*]*[\"'“‘«]")


@dataclass(frozen=True, slots=True)
class Prose:
    """The running text of a document.

    Attributes:
        text: The document's whole text.
        words: First and one past the last character of each word that is kept, shape (n_words, 2).
        stretch: For each word, the number of its stretch; between two stretches text was left out.
        starts: Words at which a sentence begins, in rising order.
        n_blocks_left_out: Headings, captions and blocks of front and back matter.
        n_words_left_out: Words in these blocks.
    """

    text: str
    words: Spans
    stretch: NDArray[np.int64]
    starts: NDArray[np.int64]
    n_blocks_left_out: int
    n_words_left_out: int

    def slice(self, first: int, n: int) -> str:
        """Return the text of `n` words from word `first`; a blank line separates stretches."""
        inside = self.stretch[first : first + n]
        # Stretches are numbered in the order of the text.
        if inside[0] == inside[-1]:
            return self.text[self.words[first, 0] : self.words[first + n - 1, 1]]
        cuts = [0, *(np.flatnonzero(np.diff(inside)) + 1).tolist(), n]
        spans = self.words[first : first + n]
        pieces = [self.text[spans[low, 0] : spans[high - 1, 1]] for low, high in itertools.pairwise(cuts)]
        return "\n\n".join(pieces)


def read_prose(text: str) -> Prose:
    """Find the running text of a document, unchanged; its line ends must be plain."""
    body = find_body(text)
    start, end = body if body is not None else (0, len(text))
    blocks = _blocks(text, start, end)
    kept = _kept([text[low:high] for low, high in blocks])
    found, stretch, number = [], [], 0
    for (low, high), keep in zip(blocks, kept, strict=True):
        number += not keep
        if keep:
            spans = words(text[low:high]) + low
            found.append(spans)
            stretch.append(np.full(len(spans), number, dtype=np.int64))
    spans = np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)
    firsts = sentences(text[start:end])[:, 0] + start
    places = np.searchsorted(spans[:, 0], firsts)
    inside = places < len(spans)
    inside[inside] = spans[places[inside], 0] == firsts[inside]
    left = sum(
        len(text[low:high].split()) for (low, high), keep in zip(blocks, kept, strict=True) if not keep
    )
    return Prose(
        text,
        spans,
        np.concatenate(stretch) if stretch else np.empty(0, dtype=np.int64),
        np.unique(places[inside]).astype(np.int64),
        kept.count(False),
        left,
    )


def _blocks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return where the blocks between blank lines are."""
    found, low = [], start
    for match in _BLANK.finditer(text, start, end):
        found.append((low, match.start()))
        low = match.end()
    return [(low, high) for low, high in [*found, (low, end)] if text[low:high].strip()]


def _kept(blocks: list[str]) -> list[bool]:
    """Return which blocks are running text."""
    plain = [" ".join(block.split()) for block in blocks]
    ends = np.cumsum([len(each) for each in plain])
    total = int(ends[-1]) if len(ends) else 0
    first = _front(plain, [int(each) for each in ends], total)
    last = len(plain)
    for place in range(first, len(plain)):
        if ends[place] >= (1 - _EDGE_FRAC) * total and _BACK.match(plain[place]):
            last = place
            break
    kept, below, caption = [], False, 0
    for place, block in enumerate(plain):
        heading = is_heading(block) or (below and _is_title(block)) or place < caption
        kept.append(first <= place < last and not heading)
        below = bool(_NAMED.match(block) or _NUMBERED.fullmatch(block)) and heading
        if _CAPTION.match(block) and block[0] == "[" and "]" not in block:
            caption = _caption_end(plain, place)
    return kept


def _caption_end(plain: list[str], place: int) -> int:
    """Return one past the block with the bracket that closes the one opened at `place`."""
    following = plain[place + 1 : place + 1 + _OPEN_CAPTION_BLOCKS]
    return next((place + 2 + n for n, block in enumerate(following) if "]" in block), place + 1)


def _front(plain: list[str], ends: list[int], total: int) -> int:
    """Return the first block after the title page and the table of contents."""
    first = 0
    for place, block in enumerate(plain):
        if ends[place] > _EDGE_FRAC * total:
            break
        if _CONTENTS.match(block) and not _STOPS.search(block) and (place == 0 or _n_words(block) < 3):
            first = place + 1
    # Without a prose block among the first, what looks like a title page is the text itself.
    for place in range(first, len(plain)):
        if ends[place] > _EDGE_FRAC * total and place > first:
            return first
        if _is_prose(plain[place]):
            return place
    return first


def _n_words(block: str) -> int:
    return len(block.split())


def _is_prose(block: str) -> bool:
    """Return whether a block reads like sentences, not like a title, an imprint or a list."""
    n = _n_words(block)
    if n >= _LONG_WORDS and sum(word[0].islower() for word in block.split()) > n / 2:
        return True
    if n < _PROSE_WORDS or _IMPRINT.search(block) or is_heading(block):
        return False
    return re.search(r"[.!?…][\"'”’»)\]_*]*$", block) is not None


def is_heading(block: str) -> bool:
    """Return whether a block, its white space made single, is a heading, an ornament or a caption."""
    if not any(letter.isalnum() for letter in block) or _CAPTION.match(block):
        return True
    if _n_words(block) > _HEADING_WORDS or _OPENS_SPEECH.match(block):
        return False
    if _NUMBERED.fullmatch(block):
        return True
    if _NAMED.match(block):
        return not _STOPS.search(block) or _n_words(block) <= 3
    letters = [letter for letter in block if letter.isalpha()]
    return len(letters) > 1 and not any(letter.islower() for letter in letters) and block[-1] not in "!?"


def _is_title(block: str) -> bool:
    """Return whether the block after a heading is the title of that heading."""
    short = _n_words(block) <= _TITLE_WORDS and not block[:1].islower()
    return short and not _STOPS.search(block) and not _OPENS_SPEECH.match(block)
