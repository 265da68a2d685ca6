"""Views: other strings of an item than the item as a whole, when a probe reads windows or a chat.

A view is named in a probe's settings, cut once per tokenizer, and written down as rows of `WINDOWS`:
where each window lies in tokens and in characters of the source. Planning and measuring see these
rows, never text or ids.
"""

from dataclasses import dataclass

import polars as pl

from memprobe.tables.schema import Column, TableSchema

SLICE_CHARS_PER_TOKEN = 8
"""A slice is cut this many characters long per token that is wanted of it (Cooper et al. 2025)."""


@dataclass(frozen=True, slots=True, order=True)
class _Windows:
    """Windows of a prefix and a suffix at every stride.

    Attributes:
        prefix_tokens: Tokens of a window that condition.
        suffix_tokens: Tokens of a window that are scored.
        stride: From one window's start to the next, in tokens or characters.
    """

    prefix_tokens: int
    suffix_tokens: int
    stride: int

    @property
    def n_tokens(self) -> int:
        """Tokens of a window."""
        return self.prefix_tokens + self.suffix_tokens

    def _named(self, unit: str) -> str:
        return f"{unit}-{self.prefix_tokens}+{self.suffix_tokens}-every-{self.stride}"


@dataclass(frozen=True, slots=True, order=True)
class TokenWindows(_Windows):
    """Windows over one tokenisation of the item, every `stride` tokens."""

    @property
    def name(self) -> str:
        """The view's name: `tokens-50+50-every-10`."""
        return self._named("tokens")


@dataclass(frozen=True, slots=True, order=True)
class CharWindows(_Windows):
    """Windows at every `stride` characters: the first tokens of the slice there, tokenised alone."""

    @property
    def name(self) -> str:
        """The view's name: `chars-50+50-every-10`."""
        return self._named("chars")

    @property
    def slice_chars(self) -> int:
        """Characters of a slice."""
        return SLICE_CHARS_PER_TOKEN * self.n_tokens


@dataclass(frozen=True, slots=True, order=True)
class Chat:
    """The prefix as a user's message in the tokenizer's chat template, the suffix as the answer."""

    @property
    def name(self) -> str:
        """The view's name."""
        return "chat"


View = TokenWindows | CharWindows | Chat

CHAT_PART = "chat"
"""The string of an item that a chat template made: it has its own special tokens in front."""

_IDS = "the item was given as token ids, which have no characters"
_SHORT = "the slice holds too few tokens for a window"
_NO_CHARS = f"{_IDS}; or {_SHORT}; or the view is a chat"

WINDOWS = TableSchema(
    name="windows",
    key=("view", "item_id", "part", "window"),
    columns={
        "view": Column(pl.String(), "-", "how windows are cut, and their sizes"),
        "item_id": Column(pl.String(), "-", "the document"),
        "window": Column(pl.Int32(), "-", "number of the window in its document, from 0"),
        "part": Column(pl.String(), "-", "which string: text, slice@<first character>+<length>, or chat"),
        "start": Column(pl.Int32(), "tokens", "first token that is read", _SHORT),
        "score_from": Column(pl.Int32(), "tokens", "first token that is scored", _SHORT),
        "stop": Column(pl.Int32(), "tokens", "one past the last token", _SHORT),
        "window_start_char": Column(pl.Int64(), "chars", "first character of the window", _NO_CHARS),
        "suffix_start_char": Column(pl.Int64(), "chars", "first character of the suffix", _NO_CHARS),
        "suffix_end_char": Column(pl.Int64(), "chars", "one past the suffix's last character", _NO_CHARS),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document", _IDS),
    },
)
"""Windows of documents; offsets count characters of the item's text."""
