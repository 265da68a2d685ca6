"""SORT trials as texts, and the choice of answered trials to put in front of a question."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from memprobe.errors import ItemError
from memprobe.tables.prompts import ORDERS
from memprobe.wording import counted

VALIDATION = "validation"


@dataclass(frozen=True, slots=True)
class Trial:
    """An item with two segments.

    Attributes:
        item_id: The item.
        source_id: The document that the item is from; None if unknown.
        cell: Number of words of the excerpt and of each segment.
        split: `test` or `validation`; None if not given.
        excerpt: The text that contains the segments.
        earlier: The segment that comes first in the excerpt.
        later: The other segment.
        title: Title of the document; None if not given.
    """

    item_id: str
    source_id: str | None
    cell: tuple[int | None, int | None]
    split: str | None
    excerpt: str
    earlier: str
    later: str
    title: str | None = None

    @property
    def content(self) -> tuple[str | None, ...]:
        """Everything that a prompt shows of the trial."""
        return (self.excerpt, self.earlier, self.later, self.title)


def trials_in(table: pl.DataFrame) -> list[Trial]:
    """Return the items that have an excerpt and two segments, in order."""
    if not {"segment_1", "segment_2"} <= set(table.columns):
        return []
    given = {
        name: pl.col(name) if name in table.columns else pl.lit(None)
        for name in ("source_id", "excerpt_words", "segment_words", "split", "title")
    }
    rows = table.select(
        "item_id",
        "segment_1",
        "segment_2",
        excerpt=pl.coalesce("text", pl.concat_str("prefix", "suffix")),
        **given,
    ).drop_nulls(["segment_1", "segment_2", "excerpt"])
    return [
        Trial(
            item_id=row["item_id"],
            source_id=row["source_id"],
            cell=(row["excerpt_words"], row["segment_words"]),
            split=row["split"],
            excerpt=row["excerpt"],
            earlier=row["segment_1"],
            later=row["segment_2"],
            title=None if row["title"] is None else str(row["title"]),
        )
        for row in rows.iter_rows(named=True)
    ]


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Answered trials for each document and cell.

    Attributes:
        chosen: Document and cell to the answered trials, each with the order in which its segments are shown.
    """

    chosen: dict[tuple[str | None, tuple[int | None, int | None]], tuple[tuple[Trial, str], ...]]

    @classmethod
    def of(cls, trials: Sequence[Trial], n: int) -> "Exemplars":
        """Choose n validation trials of other documents for each document and cell, by hashes alone.

        Orders alternate, so that each label is right equally often if n is even; a hash also decides which
        order comes first. Trials with different excerpts are preferred to several with the same one.

        Raises:
            ItemError: A document or cell has fewer than n trials to choose from, or a trial has no document.
        """
        keys = dict.fromkeys((trial.source_id, trial.cell) for trial in trials)
        if not n:
            return cls(dict.fromkeys(keys, ()))
        if any(source is None for source, _ in keys):
            raise ItemError(
                "shots are trials of other documents, and the items do not say which they are of",
                where="column source_id",
                fix="give the items a column source_id, or ask without shots",
            )
        pools = defaultdict(list)
        for trial in trials:
            if trial.split == VALIDATION:
                pools[trial.cell].append(trial)
        return cls({(source, cell): _chosen(source, cell, pools[cell], n) for source, cell in keys})

    def before(self, trial: Trial) -> tuple[tuple[Trial, str], ...]:
        """Return the answered trials that go in front of a trial."""
        return self.chosen[trial.source_id, trial.cell]


def _chosen(
    source: str | None, cell: tuple[int | None, int | None], pool: Sequence[Trial], n: int
) -> tuple[tuple[Trial, str], ...]:
    others = [trial for trial in pool if trial.source_id != source]
    if len(others) < n:
        raise ItemError(
            f"{counted(n, 'shot')} asked for, and beside the document {source} there are "
            f"{counted(len(others), 'trial')} to choose from",
            where=f"excerpts of {cell[0]} words, segments of {cell[1]}, split {VALIDATION}",
            fix="give trials of more documents with a validation split, or ask for fewer shots",
        )
    ordered = sorted(others, key=lambda trial: (_hash(source, trial.source_id, trial.item_id), trial.item_id))
    seen: dict[tuple[str | None, str], int] = defaultdict(int)
    ranked = []
    for place, trial in enumerate(ordered):
        excerpt = (trial.source_id, trial.excerpt)
        ranked.append((seen[excerpt], place, trial))
        seen[excerpt] += 1
    chosen = [trial for _, _, trial in sorted(ranked, key=lambda each: each[:2])[:n]]
    begin = int(_hash(source, "begins"), 16)
    return tuple((trial, ORDERS[(begin + number) % 2]) for number, trial in enumerate(chosen))


def _hash(*names: str | None) -> str:
    return hashlib.sha256("\x1f".join(map(str, names)).encode()).hexdigest()
