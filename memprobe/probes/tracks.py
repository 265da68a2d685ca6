"""One value per item and checkpoint, and the sets of items that are summarised together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History
from memprobe.probes.panel import cluster_numbers
from memprobe.tables.conditions import build


@dataclass(frozen=True, slots=True)
class Tracks:
    """The items that have a number at every checkpoint, in the order of their ids.

    Attributes:
        items: All columns of a history's items, and `cluster` (Int64: items of one doc_id belong
            together).
        steps: Of the checkpoints, ascending, shape (n_steps,).
        values: The number, shape (n_items, n_steps), no NaN.
        broken: Items, as in `items`, without a number at some checkpoint, and `n_checkpoints` with one.
    """

    items: pl.DataFrame
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    broken: pl.DataFrame

    @classmethod
    def of(cls, history: History, column: str, *, finite: bool = False) -> Self:
        """Take one column of a history's rows; items that were not measured are not part of it.

        Args:
            history: The history.
            column: Which.
            finite: An infinite number is none, where differences and means of it are to be taken.
        """
        measured = history.rows.select("item_id").unique()
        items = history.items.join(measured, on="item_id").sort("item_id")
        items = items.with_columns(cluster=pl.Series(cluster_numbers(items), dtype=pl.Int64))
        steps = np.asarray(history.steps, dtype=np.int64)
        placed = history.rows.select("item_id", "step", value=pl.col(column).cast(pl.Float64)).join(
            items.select("item_id").with_row_index("row"), on="item_id"
        )
        values = np.full((items.height, len(steps)), np.nan)
        at = np.searchsorted(steps, placed["step"].to_numpy())
        # A writable copy: null is NaN in it, and nowhere else.
        values[placed["row"].to_numpy(), at] = placed["value"].to_numpy()
        known = np.isfinite(values) if finite else ~np.isnan(values)
        whole = known.all(axis=1)
        broken = items.with_columns(n_checkpoints=pl.Series(known.sum(axis=1))).filter(~whole)
        return cls(items.filter(whole), steps, values[whole], broken)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Items that are summarised together.

    Attributes:
        group: Their group; None: of all groups.
        condition: What else they share, as in the summary; None: nothing.
        rows: Whether each item belongs, shape (n_items,).
        broken: Those of the items without a number at some checkpoint that belong.
    """

    group: str | None
    condition: str | None
    rows: NDArray[np.bool_]
    broken: pl.DataFrame


def strata(tracks: Tracks, split: Sequence[str] = ("exposures", "trained")) -> list[Stratum]:
    """Return all items, each group, and what `split` names: exposure counts, trained and never trained on.

    Trained and never-trained items stand apart only where there are both.
    """
    items = tracks.items
    found = [Stratum(None, None, np.ones(items.height, dtype=np.bool_), tracks.broken)]
    for column in ("group", *split):
        values = sorted(items[column].drop_nulls().unique().to_list())
        if column == "trained" and len(values) < 2:
            continue
        for value in values:
            group, condition = (value, None) if column == "group" else (None, build(**{column: value}))
            rows = (items[column] == value).fill_null(value=False).to_numpy()
            found.append(Stratum(group, condition, rows, tracks.broken.filter(pl.col(column) == value)))
    return found


def nullable(values: NDArray[np.float64]) -> list[float | None]:
    """Return the numbers with None in place of NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]
