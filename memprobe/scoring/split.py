"""Which tokens are before a border between two characters of a text.

A token belongs to the prefix when the prefix alone decides it. A normalizer may join characters across the
border (a letter and its combining mark become one character, two spaces become one) and the offsets of
tokenizers then cover the first of them only; the border is therefore moved to where nothing was joined.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Characters on each side that are looked at; longer runs of combining marks are no writing.
_REACH: Final = 24
# A letter that no combining mark changes; it keeps apart what normalizers do at the ends of a text.
_GUARD: Final = "q"
# What these do to a text of ASCII they do to each character alone; Unicode composes none of them.
_ALONE_IN_ASCII: Final = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"})


def tokens_before(ends: Sequence[int] | NDArray[np.int64], border: int) -> int:
    """Count the tokens that end at or before a character.

    Args:
        ends: One past the last character of each token.
        border: The character, as `unjoined` gives it.
    """
    if isinstance(ends, list):
        return bisect_right(list(accumulate(ends, max)), border)
    return int(np.searchsorted(np.maximum.accumulate(np.asarray(ends)), border, side="right"))


def unjoined(normalizer: Any, text: str, border: int) -> int:  # noqa: ANN401
    """Return the last place at or before a border at which the normalizer joins no characters.

    Args:
        normalizer: Of a tokenizer; None: it has none.
        text: The whole text.
        border: A number of characters of it.
    """
    if normalizer is None or not 0 < border < len(text):
        return border
    if text.isascii() and type(normalizer).__name__ in _ALONE_IN_ASCII:
        return border
    start, stop = max(0, border - _REACH), min(len(text), border + _REACH)
    whole = _inside(normalizer, text[start:stop])
    if whole == text[start:stop]:
        return border
    for place in range(border, start, -1):
        apart = _inside(normalizer, text[start:place]) + _inside(normalizer, text[place:stop])
        if apart == whole:
            return place
    return start


def _inside(normalizer: Any, text: str) -> str:  # noqa: ANN401
    """Return a text as it is normalized inside a longer one."""
    normalized = str(normalizer.normalize_str(f"{_GUARD}{text}{_GUARD}"))
    return normalized[normalized.find(_GUARD) + 1 : -1]
