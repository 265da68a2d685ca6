"""Grouping of requests into forwards, batches and units of work; it depends only on the requests.

A forward reads one (item, part, start) up to the furthest token that any of its spans needs. Forwards are
sorted by length to keep right padding small. Ties are broken by item, so that the same requests give the
same batches in whatever order they arrive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import polars as pl

from memprobe.tables.requests import is_search

# A unit is big enough to amortise its file and small enough that a killed run loses little.
UNIT_TOKENS_MIN, UNIT_TOKENS_MAX, UNITS_AIM = 8_192, 262_144, 16

# Reading a common beginning separately costs one more forward, so it has to save this many tokens.
CALL_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Forward:
    """One sequence to read.

    Attributes:
        item_id: The item.
        part: Name of the item's string.
        start: First token read.
        stop: One past the last token read.
        spans: The (score_from, stop, detail) of each span to score.
    """

    item_id: str
    part: str
    start: int
    stop: int
    spans: tuple[tuple[int, int, str], ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens read, without BOS."""
        return self.stop - self.start


def forwards(requests: pl.DataFrame) -> list[Forward]:
    """Return one forward for each (item, part, start) of scored requests, longest last."""
    scored = requests.filter(pl.col("detail").is_in(["tokens", "sums"]))
    grouped = (
        scored.sort("score_from", "stop", "detail")
        .group_by("item_id", "part", "start")
        .agg("score_from", pl.col("stop"), "detail", furthest=pl.col("stop").max())
        .sort(pl.col("furthest") - pl.col("start"), "item_id", "part", "start")
    )
    return [
        Forward(
            item_id=row["item_id"],
            part=row["part"],
            start=row["start"],
            stop=row["furthest"],
            spans=tuple(zip(row["score_from"], row["stop"], row["detail"], strict=True)),
        )
        for row in grouped.iter_rows(named=True)
    ]


class Sized(Protocol):
    """Anything with a number of tokens."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""


_S = TypeVar("_S", bound=Sized)


def pack(sequences: list[_S], batch_tokens: int) -> list[list[_S]]:
    """Cut a list sorted by length into batches of at most `batch_tokens` tokens, padding included."""
    batches: list[list[_S]] = []
    for sequence in sequences:
        # The list is sorted: this sequence is the longest of its batch so far, so it sets the padded width.
        if batches and (len(batches[-1]) + 1) * sequence.n_tokens <= batch_tokens:
            batches[-1].append(sequence)
        else:
            batches.append([sequence])
    return batches


def cut_units(requests: pl.DataFrame, documents: Mapping[str, str] | None = None) -> list[pl.DataFrame]:
    """Cut the requests of one checkpoint into units of work.

    Requests that share a forward stay together. Units follow the order of lengths, so that each unit
    packs well. Choices after the same excerpt stay together, so that the excerpt is read only once.
    Every search is a unit of its own, after all others.

    Args:
        requests: Rows of `REQUESTS`.
        documents: Item to its document, i.e. the cluster whose items may begin alike; if None, each item is
            a document of its own.
    """
    searches = requests.filter(is_search()).sort(requests.columns)
    choices = requests.filter(pl.col("detail") == "choice")
    scored = requests.filter(~is_search() & (pl.col("detail") != "choice"))
    return [*_cut_scored(scored), *_cut_choices(choices, documents or {}), *searches.iter_slices(1)]


def _cut_choices(requests: pl.DataFrame, documents: Mapping[str, str]) -> list[pl.DataFrame]:
    if requests.is_empty():
        return []
    # Parts with the same template, condition and exemplars have names that differ only in the last word.
    family = ["form", "document"]
    placed = requests.with_columns(
        form=pl.col("part").str.replace(r"-[^-]*$", ""),
        document=pl.col("item_id").replace_strict(
            dict(documents), default=pl.col("item_id"), return_dtype=pl.String
        ),
    )
    n_tokens = (pl.col("stop") - pl.col("start")).cast(pl.Int64)
    sizes = placed.group_by(family).agg(n_tokens=n_tokens.max() + CALL_TOKENS * (pl.len() - 1)).sort(family)
    keyed = placed.join(_in_units(sizes).select(*family, "unit"), on=family)
    return _by_unit(keyed.drop(family), requests.columns)


def _cut_scored(requests: pl.DataFrame) -> list[pl.DataFrame]:
    if requests.is_empty():
        return []
    sequence = ["item_id", "part", "start"]
    sizes = (
        requests.group_by(sequence)
        .agg(n_tokens=(pl.col("stop") - pl.col("start")).max().cast(pl.Int64))
        .sort("n_tokens", *sequence)
    )
    keyed = requests.join(_in_units(sizes).select(*sequence, "unit"), on=sequence)
    return _by_unit(keyed, requests.columns)


def _in_units(sizes: pl.DataFrame) -> pl.DataFrame:
    """Add a column `unit` to rows with `n_tokens`, keeping their order."""
    total = int(sizes["n_tokens"].sum())
    unit_tokens = min(max(total // UNITS_AIM, UNIT_TOKENS_MIN), UNIT_TOKENS_MAX)
    return sizes.with_columns(unit=(pl.col("n_tokens").cum_sum() - pl.col("n_tokens")) // unit_tokens)


def _by_unit(keyed: pl.DataFrame, columns: list[str]) -> list[pl.DataFrame]:
    return [
        part.drop("unit").sort(columns)
        for part in keyed.sort("unit").partition_by("unit", maintain_order=True)
    ]
