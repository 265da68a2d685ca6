"""Items with one value per checkpoint, and the groups of items that are summarised together."""

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
    """The items that have a value at every checkpoint, in the order of their ids.

    Attributes:
        items: All columns of a history's items, and `cluster` (Int64, number of the cluster; items of one
            doc_id are in one cluster).
        steps: Steps of the checkpoints, ascending, shape (n_steps,).
        values: Values of the items, shape (n_items, n_steps), no NaN.
        broken: Items without a value at some checkpoint, with the columns of `items` and `n_checkpoints`, the
            number of checkpoints with a value.
    """

    items: pl.DataFrame
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    broken: pl.DataFrame

    @classmethod
    def of(cls, history: History, column: str, *, finite: bool = False) -> Self:
        """Take the values of one column of a history's rows; items that were not measured are left out.

        Args:
            history: The history.
            column: Name of the column.
            finite: Whether an infinite value counts as missing, as differences and means require.
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
        # In this copy null is NaN; the rows of the history keep null.
        values[placed["row"].to_numpy(), at] = placed["value"].to_numpy()
        known = np.isfinite(values) if finite else ~np.isnan(values)
        whole = known.all(axis=1)
        broken = items.with_columns(n_checkpoints=pl.Series(known.sum(axis=1))).filter(~whole)
        return cls(items.filter(whole), steps, values[whole], broken)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Items that are summarised together.

    Attributes:
        group: Group of the items; None for all groups.
        condition: Condition of the items, as in the summary; None if there is no condition.
        rows: Whether each item belongs to the stratum, shape (n_items,).
        broken: Items without a value at some checkpoint that belong to the stratum.
    """

    group: str | None
    condition: str | None
    rows: NDArray[np.bool_]
    broken: pl.DataFrame


def strata(tracks: Tracks, split: Sequence[str] = ("exposures", "trained")) -> list[Stratum]:
    """Return the strata: all items, each group, and each value of the columns in `split`.

    Trained and never-trained items become strata only if there are both.
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
    """Return the numbers as a list, with None in place of NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]
