"""Where the book is in a Project Gutenberg file: between the marks of its front and back matter.

Files since 2003 frame the book with lines `*** START OF THE PROJECT GUTENBERG EBOOK <title> ***` and
`*** END OF ...`; older ones have `*END*THE SMALL PRINT! ... *END*` in front and `End of the Project
Gutenberg EBook` behind. Source: https://www.gutenberg.org/policy/license.html and the files themselves.
"""

import re
from typing import NamedTuple

_START = re.compile(
    r"\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)[^*]*\*\*\*"
    r"|\*END ?\*? ?THE SMALL PRINT![^\n]*\*END\*",
    re.IGNORECASE,
)
_END = re.compile(
    r"\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)"
    r"|^\W*End of (?:the |this )?Project Gutenberg(?:['’]s)? ",
    re.IGNORECASE | re.MULTILINE,
)


class Body(NamedTuple):
    """The part of a text that is the book, as characters `start` to `end` (exclusive)."""

    start: int
    end: int


def find_body(text: str) -> Body | None:
    """Return start and end of the book, white space around it left out; None if there are no such marks."""
    starts = list(_START.finditer(text))
    start = starts[-1].end() if starts else 0
    ended = _END.search(text, start)
    if not starts and ended is None:
        return None
    end = ended.start() if ended else len(text)
    inner = text[start:end]
    left = len(inner) - len(inner.lstrip())
    return Body(start + left, start + left + len(inner.strip()))
