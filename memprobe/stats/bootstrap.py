"""Bootstrap intervals of a mean: items, or clusters of items that overlap, drawn with replacement.

References: Efron and Tibshirani (1993), chapter 13 (percentile interval); Davison and Hinkley (1997),
section 3.8 (resampling of clusters).
"""

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.intervals import Interval

N_DRAWS = 2000
# Draws are made in blocks of about this many indices, so that memory stays small.
_BLOCK = 4_000_000
# With at least this many items, if each value occurs this many times on average, values are drawn, not items.
_MANY, _MANY_TIMES = 1_024, 16


def bootstrap_mean(
    values: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Interval:
    """Return the percentile bootstrap interval of the mean.

    Args:
        values: One value per item, shape (n_items,), finite; the order matters for the draws, so sort
            by item for a result that does not depend on it.
        rng: Source of the draws.
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1; whole clusters are
            drawn. None if every item is its own cluster.
        level: Nominal coverage.
        n_draws: Number of resamples.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    if not len(values):
        raise ValueError("no values to bootstrap")
    sizes = None
    if clusters is None:
        sums = values
    elif len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} cluster numbers for {len(values)} values")
    else:
        sums = np.bincount(clusters, weights=values).astype(np.float64)
        sizes = np.bincount(clusters).astype(np.float64)
    means = _resampled_means(sums, sizes, rng, n_draws)
    lo, hi = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    method = "bootstrap" if clusters is None else "cluster-bootstrap"
    return Interval(float(lo), float(hi), level, method)


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64] | None, rng: np.random.Generator, n_draws: int
) -> NDArray[np.float64]:
    """Return the mean of each resample of clusters, shape (n_draws,); without `sizes` each is one item."""
    n = len(sums)
    if sizes is None and n >= _MANY:
        distinct, counts = np.unique(sums, return_counts=True)
        if len(distinct) * _MANY_TIMES <= n:
            # Only how often each value is drawn matters, and these counts are multinomial.
            return np.asarray(rng.multinomial(n, counts / n, size=n_draws) @ distinct / n, dtype=np.float64)
    at_once = max(1, _BLOCK // n)
    means = []
    for first in range(0, n_draws, at_once):
        drawn = rng.integers(0, n, size=(min(at_once, n_draws - first), n), dtype=np.int32)
        means.append(sums[drawn].sum(1) / (n if sizes is None else sizes[drawn].sum(1)))
    return np.concatenate(means)
