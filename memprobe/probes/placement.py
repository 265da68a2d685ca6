"""Places of prefix and suffix in an item: the rule shared by recall, extraction and other probes.

Items given as prefix and suffix are cut between the two; in other items the prefix starts at the first token,
or the suffix is at the end with `align = "end"`. Lengths count tokens without BOS. If a length is given,
exactly that many tokens are used. If it is left out, the prefix is the whole given prefix (in an item without
one, the first floor(n / 2) tokens, or all before a suffix at the end) and the suffix is all that follows.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from memprobe.tables.requests import Plan, request_frame

Align = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """The settings that place a span.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None for the whole given
            prefix, or half of the tokens of an item without one.
        suffix_tokens: Number of tokens to be produced; None for all that follow.
        align: `start`, or `end` for the last suffix_tokens and the prefix_tokens before them; it makes a
            difference only in items without a given prefix.
    """

    prefix_tokens: int | None
    suffix_tokens: int | None
    align: Align


class HasLengths(Protocol):
    """Settings that include those that place a span."""

    @property
    def prefix_tokens(self) -> int | None:
        """Number of tokens before the suffix that the model is given; None as in `Lengths`."""

    @property
    def suffix_tokens(self) -> int | None:
        """Number of tokens to be produced; None for all that follow."""

    @property
    def align(self) -> Align:
        """Whether items without a given prefix are cut from the start or the end."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Spans of the items that are long enough, and the reasons why other items are not.

    Attributes:
        spans: `item_id, start, score_from, stop` in tokens.
        unfit: `item_id, reason`.
    """

    spans: pl.DataFrame
    unfit: pl.DataFrame


def place(items: pl.DataFrame, lengths: Lengths) -> Placed:
    """Place prefix and suffix in each item.

    Args:
        items: Items with `item_id, n_tokens, n_prefix_tokens` (null if the item has no given prefix).
        lengths: Settings that place the span.
    """
    a, k = lengths.prefix_tokens, lengths.suffix_tokens
    n = pl.col("n_tokens")
    at_end = lengths.align == "end" and k is not None
    free_cut = n - k if at_end else pl.lit(a) if a is not None else n // 2
    border = pl.col("n_prefix_tokens")
    cut = pl.when(border.is_not_null()).then(border).otherwise(free_cut)
    frame = items.select("item_id", "n_tokens", cut=cut.cast(pl.Int32)).with_columns(
        start=pl.col("cut") - (pl.lit(a) if a is not None else pl.col("cut")),
        stop=(pl.col("cut") + k) if k is not None else pl.col("n_tokens"),
    )
    reason = _reason(a, k)
    judged = frame.with_columns(reason=reason)
    return Placed(
        spans=judged.filter(pl.col("reason").is_null()).select(
            "item_id",
            pl.col("start").cast(pl.Int32),
            pl.col("cut").cast(pl.Int32).alias("score_from"),
            pl.col("stop").cast(pl.Int32),
        ),
        unfit=judged.filter(pl.col("reason").is_not_null()).select("item_id", "reason"),
    )


def suffix_sums(items: pl.DataFrame, settings: HasLengths) -> Plan:
    """Request the sums over each item's suffix; `recall` with the same lengths scores the same tokens."""
    placed = place(items, Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align))
    return Plan(request_frame(placed.spans, detail="sums"), unfit=placed.unfit)


def text_sums(items: pl.DataFrame) -> Plan:
    """Request the sums over all tokens of each item; items without tokens are unfit."""
    spans = items.filter(pl.col("n_tokens") > 0).select(
        "item_id", start=pl.lit(0), score_from=pl.lit(0), stop="n_tokens"
    )
    unfit = items.filter(pl.col("n_tokens") < 1).select("item_id", reason=pl.lit("has no tokens"))
    return Plan(request_frame(spans, detail="sums"), unfit=unfit)


def foil_sums(items: pl.DataFrame) -> pl.DataFrame:
    """Return requests for the sums over all tokens of each item's foil; every item must have one."""
    spans = items.select("item_id", start=0, score_from=0, stop="n_foil_tokens")
    return request_frame(spans, detail="sums", part="foil")


def chat_problems(chat: bool, prefix_tokens: int | None, align: str) -> list[str]:
    """Return the problems of settings that cannot be combined with `chat`."""
    if not chat:
        return []
    problems = []
    if prefix_tokens is not None:
        problems.append("chat takes the whole prefix, so prefix_tokens has no meaning beside it")
    if align == "end":
        problems.append('align = "end" has no meaning beside chat')
    return problems


def place_chats(chats: pl.DataFrame, lengths: Lengths) -> Placed:
    """Place the suffix in each chat.

    Args:
        chats: Items with their row of `WINDOWS`; its places are null if the item has no prefix for a chat.
        lengths: Settings that place the suffix.
    """
    none = chats.filter(pl.col("stop").is_null()).select(
        "item_id", reason=pl.lit("has no prefix and suffix, and chat needs them")
    )
    whole = chats.drop_nulls("stop").select("item_id", "part", n_tokens="stop", n_prefix_tokens="score_from")
    placed = place(whole, lengths)
    parts = whole.select("item_id", "part")
    return Placed(
        placed.spans.join(parts, on="item_id", maintain_order="left"), pl.concat([none, placed.unfit])
    )


def tokens_shown(n: pl.Expr) -> pl.Expr:
    """Return numbers of tokens as text, such as `1 token` or `24 tokens`."""
    return pl.format("{} token{}", n, pl.when(n == 1).then(pl.lit("")).otherwise(pl.lit("s")))


def _reason(a: int | None, k: int | None) -> pl.Expr:
    """Return the reason why an item is too short; null if it is not."""
    cut, n = pl.col("cut"), pl.col("n_tokens")
    prefix = pl.format("has {} before the suffix, prefix_tokens is {}", tokens_shown(cut), pl.lit(a))
    suffix = pl.format("has {} after the prefix, suffix_tokens is {}", tokens_shown(n - cut), pl.lit(k))
    return (
        pl.when(cut < 0)
        .then(pl.format("has {}, suffix_tokens is {}", tokens_shown(n), pl.lit(k)))
        .when(pl.col("start") < 0)
        .then(prefix)
        .when((pl.col("stop") > n) & (cut < n))
        .then(suffix)
        .when(cut >= n)
        .then(pl.format("has {}, so none is left after a prefix of {}", tokens_shown(n), cut))
    )


def length_problems(prefix_tokens: int | None, suffix_tokens: int | None, align: str) -> list[str]:
    """Return the problems of the settings that place a span."""
    problems = []
    if prefix_tokens is not None and prefix_tokens < 0:
        problems.append(f"prefix_tokens is {prefix_tokens}, not 0 or more")
    if suffix_tokens is not None and suffix_tokens < 1:
        problems.append(f"suffix_tokens is {suffix_tokens}, not 1 or more")
    if align == "end" and suffix_tokens is None:
        problems.append('align = "end" needs suffix_tokens')
    return problems
