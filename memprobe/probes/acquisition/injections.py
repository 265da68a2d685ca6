"""The rise of the level after each injection, and the part of it that acquired items keep."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.tracks import Tracks
from memprobe.stats.acquisition import Windows, highest, windows
from memprobe.tables.facts import is_timed


@dataclass(frozen=True, slots=True)
class Injections:
    """Every known exposure of every item, one row each, by item and step.

    Attributes:
        rows: `item_id, injection, injection_step, n_since_before`; exposures of an item at the same step are
            one row.
        windows: Windows of these rows.
        n_unclear: Number of items whose exposures are not all dated.
    """

    rows: pl.DataFrame
    windows: Windows
    n_unclear: int

    @classmethod
    def of(cls, items: pl.DataFrame, steps: tuple[int, ...], width: int | None) -> Self:
        """Read the exposures; an item seen once needs only first_step, not exposure_steps."""
        once = (pl.col("first_step") == pl.col("last_step")) & (pl.col("exposures").fill_null(1) == 1)
        alone = pl.when(once).then(pl.concat_list("first_step"))
        result = "exposure_steps" in items.columns
        known = pl.coalesce("exposure_steps", alone) if result else alone
        trained = items.filter(is_timed()).select("item_id", injection_step=known)
        rows = (
            trained.drop_nulls("injection_step")
            .with_columns(pl.col("injection_step").list.unique().list.sort())
            .explode("injection_step")
            .sort("item_id", "injection_step")
            .with_columns(
                injection=pl.int_range(1, pl.len() + 1).over("item_id"),
                following=pl.col("injection_step").shift(-1).over("item_id").fill_null(steps[-1] + 1),
            )
        )
        found = windows(
            rows["injection_step"].to_numpy(), rows["following"].to_numpy(), np.asarray(steps), width
        )
        # Injections with the same first checkpoint have no checkpoint between them.
        rows = rows.with_columns(first=pl.Series(found.first, dtype=pl.Int64)).with_columns(
            n_since_before=pl.int_range(1, pl.len() + 1).over("item_id", "first")
        )
        n_unclear = trained["injection_step"].null_count()
        return cls(rows.drop("first", "following"), found, n_unclear)

    @property
    def coverage(self) -> NDArray[np.float64]:
        """Share of each window's steps that have a checkpoint; NaN if the last checkpoint is before it."""
        length = self.windows.end_step - self.rows["injection_step"].to_numpy() + 1
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(length > 0, self.windows.n_checkpoints / length, np.nan)

    @property
    def with_both_sides(self) -> bool:
        """Whether some injection has a checkpoint before it and one in its window."""
        return bool(((self.windows.first > 0) & (self.windows.n_checkpoints > 0)).any())


@dataclass(frozen=True, slots=True)
class Reached:
    """The effect of each injection; arrays of shape (n_injections,), NaN where a level is not known.

    Attributes:
        tracks: The items.
        injections: Injections of these items.
        item: Row of each injection's item.
        lam: Position of the checkpoint with the highest level; -1 for a window without checkpoints.
        pre: Level before the item's first injection.
        before: Level before this injection.
        top: Level at `lam`.
        is_last: Whether this is the item's last injection that a checkpoint has seen.
    """

    tracks: Tracks
    injections: Injections
    item: NDArray[np.int64]
    lam: NDArray[np.int64]
    pre: NDArray[np.float64]
    before: NDArray[np.float64]
    top: NDArray[np.float64]
    is_last: NDArray[np.bool_]

    @classmethod
    def of(cls, tracks: Tracks, width: int | None) -> Self:
        """Find the checkpoint with the highest level after each injection."""
        steps = tuple(tracks.steps.tolist())
        found = Injections.of(tracks.items, steps, width)
        item = found.rows.join(
            tracks.items.select("item_id").with_row_index("row"), on="item_id", maintain_order="left"
        )["row"]
        at = item.to_numpy().astype(np.int64)
        lam = highest(tracks.values, at, found.windows)
        base = found.windows.first - 1
        begin = found.rows["injection"].to_numpy() == 1
        opening = base[np.maximum.accumulate(np.where(begin, np.arange(len(begin)), 0))]
        seen = found.windows.first < len(steps)
        goes_on = np.append(seen[1:] & ~begin[1:], values=False) if len(seen) else seen
        return cls(
            tracks,
            found,
            at,
            lam,
            _levels(tracks.values, at, opening),
            _levels(tracks.values, at, base),
            _levels(tracks.values, at, lam),
            seen & ~goes_on,
        )

    @property
    def effectivity(self) -> NDArray[np.float64]:
        """Rise of the level after each injection."""
        return self.top - self.before

    @property
    def gain(self) -> NDArray[np.float64]:
        """Rise of the level since before the item's first injection."""
        return self.top - self.pre


def _levels(
    values: NDArray[np.float64], row: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the values at the given rows and positions; NaN where the position is -1."""
    return np.where(place >= 0, values[row, np.maximum(place, 0)], np.nan)


@dataclass(frozen=True, slots=True)
class Kept:
    """The gain that acquired items keep after the LAM of their last injection.

    The first six arrays have one entry for each acquired item and later checkpoint.

    Attributes:
        item: Row of the item.
        time: Steps since the LAM.
        share: Retainability, `left` / `gain`.
        left: l - l_pre.
        gain: l_lam - l_pre.
        cluster: Cluster of the item.
        judged: Rows of the items for which it is known whether they were acquired.
        acquired: Rows of the items that were acquired.
    """

    item: NDArray[np.int64]
    time: NDArray[np.int64]
    share: NDArray[np.float64]
    left: NDArray[np.float64]
    gain: NDArray[np.float64]
    cluster: NDArray[np.int64]
    judged: NDArray[np.int64]
    acquired: NDArray[np.int64]

    @classmethod
    def of(cls, found: Reached, min_gain: float) -> Self:
        """Follow the items whose level rose by more than `min_gain` up to the LAM of their last injection."""
        steps, values = found.tracks.steps, found.tracks.values
        judged = found.is_last & ~np.isnan(found.gain)
        chosen = judged & (found.gain > min_gain)
        item, lam = found.item[chosen], found.lam[chosen]
        after = np.arange(len(steps)) > lam[:, None]
        row, place = np.nonzero(after)
        gain = found.gain[chosen][row]
        left = values[item[row], place] - found.pre[chosen][row]
        clusters = found.tracks.items["cluster"].to_numpy()
        return cls(
            item=item[row],
            time=steps[place] - steps[lam[row]],
            share=left / gain,
            left=left,
            gain=gain,
            cluster=clusters[item[row]],
            judged=found.item[judged],
            acquired=item,
        )
