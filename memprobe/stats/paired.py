"""Two measurements of the same items: differences of statistics that are not means, and McNemar's test.

Items (or clusters of them) are drawn with replacement, and both measurements of an item stay together, so
what they share cancels out. A resample is stored as the number of times that each item was drawn.

References: Efron and Tibshirani (1993), chapter 13 (percentile interval); McNemar (1947),
https://doi.org/10.1007/BF02295996, in its exact form, Conover (1999), section 3.5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.binomial import binomial_p
from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.intervals import Interval

Floats = NDArray[np.float64]
# Resamples are made in blocks of about this many numbers, so that memory stays small.
_BLOCK = 2_000_000
_ROUNDING = 1e-12

Statistic = Callable[[Floats], Floats]
"""From how often each item was drawn, shape (n_draws, n_items), to the statistic, shape (n_draws,)."""


@dataclass(frozen=True, slots=True)
class Discordant:
    """Items on which two measurements disagree.

    Attributes:
        first_only: Number of items whose value is larger under the first.
        second_only: Number of items whose value is larger under the second.
    """

    first_only: int
    second_only: int

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar p-value for independent items; 1 if the measurements agree on all."""
        n = self.first_only + self.second_only
        return binomial_p(self.first_only, n) if n else 1.0


def discordant(first: Floats, second: Floats) -> Discordant:
    """Count the items on which two measurements disagree; with ties of 0.5 this is the sign test.

    Args:
        first: First outcome of each item, shape (n_items,).
        second: Second outcome of each item, shape (n_items,).

    Raises:
        ValueError: The lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} outcomes, not one of both for each item")
    return Discordant(int((first > second).sum()), int((second > first).sum()))


def auc_statistic(positives: Floats, negatives: Floats) -> Statistic:
    """Return the area under the ROC curve, ties as half, as a function of how often items are drawn.

    Args:
        positives: Score of each item, which should be higher than its partner's, shape (n_items,).
        negatives: Score of each item's partner, shape (n_items,).
    """
    order = np.argsort(negatives, kind="stable")
    ordered = negatives[order]
    below, reached = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))

    def statistic(drawn: Floats) -> Floats:
        counts = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn[:, order], axis=1)], axis=1)
        wins = (counts[:, below] + counts[:, reached]) / 2
        return np.asarray((drawn * wins).sum(axis=1) / drawn.sum(axis=1) ** 2, dtype=np.float64)

    return statistic


def median_statistic(values: Floats) -> Statistic:
    """Return the median as a function of how often items are drawn.

    Args:
        values: Value of each item, shape (n_items,).
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def statistic(drawn: Floats) -> Floats:
        reached = np.cumsum(drawn[:, order], axis=1)
        total = reached[:, -1:]
        low, high = ((reached <= half).sum(axis=1) for half in ((total - 1) // 2, total // 2))
        return np.asarray((ordered[low] + ordered[high]) / 2, dtype=np.float64)

    return statistic


def km_median_statistic(values: Floats, known: NDArray[np.bool_]) -> Statistic:
    """Return the Kaplan-Meier median as a function of how often items are drawn; inf if not reached.

    Args:
        values: Value of each item, or a lower bound of it, shape (n_items,).
        known: Whether the entry of each item is its value, not a lower bound, shape (n_items,).
    """
    at, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(at)))

    def statistic(drawn: Floats) -> Floats:
        ordered = drawn[:, order]
        leaving = np.add.reduceat(ordered, starts, axis=1)
        events = np.add.reduceat(ordered * known[order], starts, axis=1)
        at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
        survival = np.cumprod(1 - events / np.maximum(at_risk, 1), axis=1)
        reached = survival <= 0.5 + _ROUNDING
        return np.where(reached.any(axis=1), at[reached.argmax(axis=1)], np.inf)

    return statistic


def whole(statistic: Statistic, n_items: int) -> float:
    """Return a statistic of the original items, each drawn once."""
    return float(statistic(np.ones((1, n_items)))[0])


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    n_items: int,
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Interval | None:
    """Return the percentile interval of `first - second`, two statistics of the same items.

    Args:
        first: First statistic, a function of how often each item is drawn.
        second: Statistic that is subtracted.
        n_items: Number of items, in a fixed order since the draws depend on it.
        rng: Source of the draws.
        clusters: Cluster number of each item, shape (n_items,), from 0 without gaps; whole clusters are
            drawn. None if every item is its own cluster.
        level: Nominal coverage.
        n_draws: Number of resamples.

    Returns:
        The interval; None if resamples do not vary, there is only one cluster, or a statistic is infinite in
        a resample, so that the difference is not finite.

    Raises:
        ValueError: There are no items, or not one cluster number for each.
    """
    own = np.arange(n_items) if clusters is None else clusters
    if not n_items or len(own) != n_items:
        raise ValueError(f"{len(own)} cluster numbers for {n_items} items; need one for each, at least one")
    n = int(own.max()) + 1
    at_once = max(1, _BLOCK // n_items)
    differences = []
    for done in range(0, n_draws, at_once):
        n_rows = min(at_once, n_draws - done)
        cell = rng.integers(0, n, size=(n_rows, n)) + n * np.arange(n_rows)[:, None]
        drawn = np.bincount(cell.ravel(), minlength=n_rows * n).reshape(n_rows, n)[:, own].astype(np.float64)
        with np.errstate(invalid="ignore"):
            differences.append(first(drawn) - second(drawn))
    draws = np.concatenate(differences)
    if n < 2 or not np.isfinite(draws).all() or np.ptp(draws) == 0:
        return None
    lo, hi = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lo), float(hi), level, "bootstrap" if clusters is None else "cluster-bootstrap")
