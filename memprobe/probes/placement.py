"""Where prefix and suffix are in an item: the rule shared by recall and extraction.

Items given as prefix and suffix are cut there; others start at their first token. Lengths count
tokens without BOS. Given, exactly that many tokens are used; left out, the prefix is all of it (or
floor(n / 2) of an item without one) and the suffix is all that follows.
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
        prefix_tokens: Tokens that condition; None: all there are.
        suffix_tokens: Tokens to be produced; None: all that follow.
        align: `start`, or `end`: the last suffix_tokens, and the prefix_tokens before them.
    """

    prefix_tokens: int | None
    suffix_tokens: int | None
    align: Align


class HasLengths(Protocol):
    """Settings that place a span, among others."""

    @property
    def prefix_tokens(self) -> int | None:
        """Tokens that condition; None: all there are."""

    @property
    def suffix_tokens(self) -> int | None:
        """Tokens to be produced; None: all that follow."""

    @property
    def align(self) -> Align:
        """Whether `suffix_tokens` counts from the border or from the end."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Spans of the items that are long enough, and why the others are not.

    Attributes:
        spans: `item_id, start, score_from, stop` in tokens.
        unfit: `item_id, reason`.
    """

    spans: pl.DataFrame
    unfit: pl.DataFrame


def place(items: pl.DataFrame, lengths: Lengths) -> Placed:
    """Place prefix and suffix in each item.

    Args:
        items: With `item_id, n_tokens, n_prefix_tokens` (null where the item has no border).
        lengths: Where to cut.
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
    """Ask for the sums over each item's suffix, which a `recall` of the same lengths answers."""
    placed = place(items, Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align))
    return Plan(request_frame(placed.spans, detail="sums"), unfit=placed.unfit)


def text_sums(items: pl.DataFrame) -> Plan:
    """Ask for the sums over all tokens of each item; an item without tokens does not fit."""
    spans = items.filter(pl.col("n_tokens") > 0).select(
        "item_id", start=pl.lit(0), score_from=pl.lit(0), stop="n_tokens"
    )
    unfit = items.filter(pl.col("n_tokens") < 1).select("item_id", reason=pl.lit("has no tokens"))
    return Plan(request_frame(spans, detail="sums"), unfit=unfit)


def foil_sums(items: pl.DataFrame) -> pl.DataFrame:
    """Return requests for the sums over all tokens of each item's foil; every item has one."""
    spans = items.select("item_id", start=0, score_from=0, stop="n_foil_tokens")
    return request_frame(spans, detail="sums", part="foil")


def chat_problems(chat: bool, prefix_tokens: int | None, align: str) -> list[str]:
    """Return what is wrong with the settings next to `chat`."""
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
        chats: Items with their row of `WINDOWS`; nulls where the item has no prefix to put into a chat.
        lengths: Where to cut the suffix.
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
    """Return `1 token`, `24 tokens` for numbers of tokens."""
    return pl.format("{} token{}", n, pl.when(n == 1).then(pl.lit("")).otherwise(pl.lit("s")))


def _reason(a: int | None, k: int | None) -> pl.Expr:
    """Why an item is too short, or null."""
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
    """Return what is wrong with the settings that place a span."""
    problems = []
    if prefix_tokens is not None and prefix_tokens < 0:
        problems.append(f"prefix_tokens is {prefix_tokens}, not 0 or more")
    if suffix_tokens is not None and suffix_tokens < 1:
        problems.append(f"suffix_tokens is {suffix_tokens}, not 1 or more")
    if align == "end" and suffix_tokens is None:
        problems.append('align = "end" needs suffix_tokens')
    return problems
