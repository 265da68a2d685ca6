"""Views: strings to score that are made from an item, such as windows, a chat, targets and questions.

A view is named in a probe's settings, cut once per tokenizer, and recorded as rows of `WINDOWS`, which give
the place of each window in tokens and in characters of the source. Planning and measuring see these rows,
never text or ids.
"""

import hashlib
from dataclasses import dataclass

import polars as pl

from memprobe.tables.prompts import CONDITIONS, Prompt
from memprobe.tables.schema import Column, TableSchema

SLICE_CHARS_PER_TOKEN = 8
"""A slice is cut this many characters long per token that is wanted of it (Cooper et al. 2025)."""


@dataclass(frozen=True, slots=True, order=True)
class _Windows:
    """Windows of a prefix and a suffix at every stride.

    Attributes:
        prefix_tokens: Number of tokens of a window that are only context.
        suffix_tokens: Number of tokens of a window that are scored.
        stride: Distance from one window's start to the next, in tokens or characters.
    """

    prefix_tokens: int
    suffix_tokens: int
    stride: int

    @property
    def n_tokens(self) -> int:
        """Number of tokens of a window."""
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
    """Windows every `stride` characters: the first tokens of the slice that begins there, tokenised alone."""

    @property
    def name(self) -> str:
        """The view's name: `chars-50+50-every-10`."""
        return self._named("chars")

    @property
    def slice_chars(self) -> int:
        """Number of characters of a slice."""
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
    """Targets that a prompt should make a model say: the item, and two controls that nobody trained on.

    Attributes:
        target_tokens: Number of tokens of the item that are used, from the first on; None: all.
        controls: Use two controls as well: as many random tokens, and the target's words shuffled.
        chat: Use each target also as the answer in the tokenizer's chat template.
        lead_in: Words of the answer before the target; the model is given them.
        system: System message of the chat; None if there is none.
    """

    target_tokens: int | None = None
    controls: bool = False
    chat: bool = False
    lead_in: str = ""
    system: str | None = None

    @property
    def name(self) -> str:
        """The view's name: `targets-12-controls`, with a hash of lead-in and system message for a chat."""
        words = ["targets", str(self.target_tokens or "all"), *(["controls"] if self.controls else [])]
        return "-".join([*words, *([self.chat_part] if self.chat else [])])

    @property
    def chat_part(self) -> str:
        """Beginning of the names of strings in the chat template."""
        digest = hashlib.sha256(repr((self.lead_in, self.system)).encode()).hexdigest()[:8]
        return f"{CHAT_PART}-{digest}"


@dataclass(frozen=True, slots=True, order=True)
class Trials:
    """The questions in the trials of SORT: which of two segments comes first?

    Every item with segments has one row for each prompt, condition and order of presentation: `AB` shows
    the earlier segment first, `BA` the later one; `free` has a placeholder instead of excerpt and segments.
    Without a prompt the orders are `12` (the earlier segment, then the later one, as text) and `21`; there
    the two segments are scored.

    Attributes:
        prompts: Templates of the questions.
        conditions: Conditions used: `in_context`, `parametric` or both.
        likelihood: Score also the segments without a question, in both orders.
        shots: Number of answered trials before each question, of other documents in the validation split.
        content_free: Ask also in the order `free`.
        chat: Whether the tokenizer's chat template is used; None: if it has one.
        separator: Text between excerpt and segments if they are scored without a question.

    Raises:
        ValueError: A value is outside its range.
    """

    prompts: tuple[Prompt, ...] = ()
    conditions: tuple[str, ...] = CONDITIONS
    likelihood: bool = False
    shots: int = 0
    content_free: bool = False
    chat: bool | None = None
    separator: str = " "

    def __post_init__(self) -> None:
        names = [prompt.name for prompt in self.prompts]
        problems = [
            f"condition is `{each}`, not one of {', '.join(CONDITIONS)}"
            for each in self.conditions
            if each not in CONDITIONS
        ]
        if len(set(self.conditions)) < len(self.conditions) or not self.conditions:
            problems.append("conditions are empty or have one twice")
        if len(set(names)) < len(names):
            problems.append("two prompts have one name")
        if not names and not self.likelihood:
            problems.append("there is neither a prompt nor likelihood")
        if self.shots < 0:
            problems.append(f"shots is {self.shots}, not 0 or more")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def name(self) -> str:
        """The view's name: `trials-` and 8 hex digits of its fields."""
        return f"trials-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"


View = TokenWindows | CharWindows | Chat | Targets | Trials

CHAT_PART = "chat"
"""Strings of an item that a chat template made begin so: they have their own special tokens in front."""

TRIAL = pl.Struct(
    {
        "prompt_id": pl.String(),
        "condition": pl.String(),
        "order": pl.String(),
        "dropped_tokens": pl.Int32(),
    }
)
"""What a row of a view of trials asks: `prompt_id` is null where the segments stand alone (`12`, `21`);
`dropped_tokens` are those that did not fit the context, 0 where all did."""

LIKELIHOOD_ORDERS = ("12", "21")
"""The earlier segment then the later one, and the other way round, as text without a question."""

FREE = "free"
"""The order of a question without content."""

TARGET_KINDS = ("item", "random", "shuffled")
"""What the rows of a view of targets are, by `window`; in the template they are counted on from there."""

_IDS = "the item was given as token ids, which have no characters"
_SHORT = "the slice holds too few tokens for a window, or the tokenizer cannot represent the target"
_NO_PLACE = f"{_SHORT}; or the question does not fit the context"
_NO_CHARS = f"{_IDS}; or {_SHORT}; or the view is a chat, of targets or of trials"

WINDOWS = TableSchema(
    name="windows",
    key=("view", "item_id", "part", "window"),
    columns={
        "view": Column(pl.String(), "-", "how windows are cut, and their sizes"),
        "item_id": Column(pl.String(), "-", "the document"),
        "window": Column(pl.Int32(), "-", "number of the window, target or question of its item, from 0"),
        "part": Column(
            pl.String(),
            "-",
            "text, slice@<first character>+<length>, chat..., random or shuffled..., "
            "trial-<digest>-<condition>-<order>",
        ),
        "start": Column(pl.Int32(), "tokens", "first token that is read", _NO_PLACE),
        "score_from": Column(pl.Int32(), "tokens", "first token that is scored", _NO_PLACE),
        "stop": Column(pl.Int32(), "tokens", "one past the last token", _NO_PLACE),
        "window_start_char": Column(pl.Int64(), "chars", "first character of the window", _NO_CHARS),
        "suffix_start_char": Column(pl.Int64(), "chars", "first character of the suffix", _NO_CHARS),
        "suffix_end_char": Column(pl.Int64(), "chars", "one past the suffix's last character", _NO_CHARS),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document", _NO_CHARS),
        "trial": Column(TRIAL, "-", "what is asked in a trial of SORT", "the view is not of trials"),
    },
)
"""Windows of documents; offsets count characters of the item's text."""
