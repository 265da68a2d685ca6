"""Views: other strings of an item than the item as a whole: windows, a chat, targets and their controls.

A view is named in a probe's settings, cut once per tokenizer, and written down as rows of `WINDOWS`:
where each window lies in tokens and in characters of the source. Planning and measuring see these
rows, never text or ids.
"""

import hashlib
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


@dataclass(frozen=True, slots=True, order=True)
class Targets:
    """What a model is to be made to say: the item, and two strings that nobody trained on.

    Attributes:
        target_tokens: Only so many tokens, from the first on; None: all.
        controls: Also as many random tokens, and the target's words shuffled.
        chat: Each of them also as the answer in the tokenizer's chat template.
        lead_in: Words of the answer before the target; they are given.
        system: The system message of the chat; None: none.
    """

    target_tokens: int | None = None
    controls: bool = False
    chat: bool = False
    lead_in: str = ""
    system: str | None = None

    @property
    def name(self) -> str:
        """The view's name: `targets-12-controls`, or with 8 hex digits of what a chat says around it."""
        words = ["targets", str(self.target_tokens or "all"), *(["controls"] if self.controls else [])]
        return "-".join([*words, *([self.chat_part] if self.chat else [])])

    @property
    def chat_part(self) -> str:
        """The beginning of the names of strings in the chat template."""
        told = hashlib.sha256(repr((self.lead_in, self.system)).encode()).hexdigest()[:8]
        return f"{CHAT_PART}-{told}"


View = TokenWindows | CharWindows | Chat | Targets

CHAT_PART = "chat"
"""Strings of an item that a chat template made begin so: they have their own special tokens in front."""

TARGET_KINDS = ("item", "random", "shuffled")
"""What the rows of a view of targets are, by `window`; in the template they are counted on from there."""

_IDS = "the item was given as token ids, which have no characters"
_SHORT = "the slice holds too few tokens for a window, or the tokenizer cannot represent the target"
_NO_CHARS = f"{_IDS}; or {_SHORT}; or the view is a chat or of targets"

WINDOWS = TableSchema(
    name="windows",
    key=("view", "item_id", "part", "window"),
    columns={
        "view": Column(pl.String(), "-", "how windows are cut, and their sizes"),
        "item_id": Column(pl.String(), "-", "the document"),
        "window": Column(pl.Int32(), "-", "number of the window in its document, or of the target, from 0"),
        "part": Column(
            pl.String(), "-", "text, slice@<first character>+<length>, chat..., random or shuffled..."
        ),
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
