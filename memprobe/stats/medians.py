"""Medians: the bootstrap interval of a plain one, and the Kaplan-Meier median of values that may be bounds.

References: Efron and Tibshirani (1993), chapter 13 (percentile interval); Davison and Hinkley (1997),
section 3.8 (resampling of clusters); survival.py for the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.intervals import Interval
from memprobe.stats.survival import kaplan_meier

# Resamples are made in blocks of about this many numbers, so that memory stays small.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Median:
    """A median that may lie behind all that was seen.

    Attributes:
        median: None: fewer than half of the values are known to lie at or below any number.
        lo: Lower end of the interval; where not even it is reached, the largest value seen.
        hi: Upper end; None: it is not reached.
        method: How the interval was made; None: there is none.
    """

    median: float | None
    lo: float | None
    hi: float | None
    method: str | None


def bootstrap_median(
    values: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Interval:
    """Percentile bootstrap interval of the median.

    Args:
        values: One value per item, shape (n_items,), finite; sorted by item, as the draws depend on it.
        rng: Source of the draws.
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1; whole clusters are
            drawn. None: every item is its own.
        level: Nominal coverage.
        n_draws: Number of resamples.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    if not len(values):
        raise ValueError("no values to bootstrap")
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} cluster numbers for {len(values)} values")
    own = np.arange(len(values)) if clusters is None else clusters
    order = np.argsort(values, kind="stable")
    medians = _resampled(values[order], own[order], rng, n_draws)
    lo, hi = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lo), float(hi), level, "bootstrap" if clusters is None else "cluster-bootstrap")


def _resampled(
    ordered: NDArray[np.float64], cluster: NDArray[np.int64], rng: np.random.Generator, n_draws: int
) -> NDArray[np.float64]:
    """Return the median of each resample of clusters, shape (n_draws,)."""
    n = int(cluster.max()) + 1
    at_once = max(1, _BLOCK // len(ordered))
    medians = []
    for first in range(0, n_draws, at_once):
        n_rows = min(at_once, n_draws - first)
        cell = rng.integers(0, n, size=(n_rows, n)) + n * np.arange(n_rows)[:, None]
        drawn = np.bincount(cell.ravel(), minlength=n_rows * n).reshape(n_rows, n)
        # How many of a resample are no larger than each value: the middle two are where half are reached.
        reached = np.cumsum(drawn[:, cluster], axis=1)
        total = reached[:, -1:]
        low, high = ((reached <= half).sum(axis=1) for half in ((total - 1) // 2, total // 2))
        medians.append((ordered[low] + ordered[high]) / 2)
    return np.concatenate(medians)


def km_median(
    values: NDArray[np.float64],
    known: NDArray[np.bool_],
    *,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Median:
    """Kaplan-Meier median of values of which some are lower bounds, with Brookmeyer and Crowley's interval.

    Args:
        values: Value, or what it is above, shape (n_items,), 0 or more.
        known: Whether it is the value, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,); None: every item is its own.
        level: Nominal coverage.

    Raises:
        ValueError: There are no values.
    """
    curve = kaplan_meier(values, known, clusters=clusters, level=level)
    if not np.isfinite(curve.lo).any():
        return Median(curve.median, None, None, None)
    # If not even the lower band falls to one half, the median is behind all that was seen.
    lo = curve.median_lo if curve.median_lo is not None else float(curve.time[-1])
    return Median(curve.median, lo, curve.median_hi, curve.method)
