"""The interval of the mean of values without known bounds, for independent items or items in clusters.

    mean - se q(t) to mean - se q(-t),  se^2 = (G - 1) / G sum_c (e_c / (1 - m_c / n))^2 / n^2
    q(y) = 3 / k ((1 + k (y - k / 6))^(1/3) - 1),  k = skewness of the e_c / sqrt(K),  e_c = sum_c - m_c mean

over G clusters of m_c items. The error is that of the jackknife that leaves out one cluster at a time. t has
K - 1 degrees of freedom, where K is the number of clusters of equal size that would be worth as much. q
corrects for the skewness of the sampled mean, because of which Student's interval (k = 0) too often misses
the mean of skewed values on one side.

References: Efron and Tibshirani (1993), chapter 11 (jackknife); Cameron and Miller (2015),
https://doi.org/10.3368/jhr.50.2.317, section VI (few clusters); Hall (1992),
https://doi.org/10.1111/j.2517-6161.1992.tb01872.x (the transformation).
"""

import math

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.documents import effective_documents
from memprobe.stats.enough import MIN_EFFECTIVE
from memprobe.stats.intervals import FEW_CLUSTERS, NO_SPREAD, Interval

# An error below this share of the largest value is rounding.
_ROUNDING = 1e-12
# Skewness below this moves the ends by no more than rounding does.
_SYMMETRIC = 1e-9


def mean_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None = None, *, level: float = 0.95
) -> Interval | None:
    """Return the interval of the mean.

    Args:
        values: Value of each item, shape (n_items,), finite.
        clusters: Cluster number of each item, 0 to n_clusters - 1; None if every item is its own cluster.
        level: Nominal coverage.

    Returns:
        The interval; None if the clusters are worth fewer than two of equal size, or if their means agree,
        since this does not show how far others may differ.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    if not len(values) or (clusters is not None and len(clusters) != len(values)):
        n_numbers = 0 if clusters is None else len(clusters)
        raise ValueError(f"{n_numbers} cluster numbers for {len(values)} values")
    if clusters is None:
        return sums_interval(values, np.ones(len(values)), level=level)
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.bincount(clusters, weights=values).astype(np.float64)
    return sums_interval(sums, sizes, level=level)


def sums_interval(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], *, level: float = 0.95
) -> Interval | None:
    """Return the interval of sum(sums) / sum(sizes) over clusters, as `mean_interval` does from values.

    Args:
        sums: Sum of the values of each cluster, shape (n_clusters,).
        sizes: Number of values in each cluster, above 0, shape (n_clusters,).
        level: Nominal coverage.
    """
    from scipy.special import stdtrit

    n, effective = float(sizes.sum()), effective_documents(sizes)
    if effective < MIN_EFFECTIVE:
        return None
    mean = float(sums.sum()) / n
    apart = (sums - mean * sizes) / (1 - sizes / n)
    error = math.sqrt(float((apart**2).sum()) * (1 - 1 / len(sums))) / n
    if error <= _ROUNDING * max(1.0, float(np.abs(sums / sizes).max())):
        return None
    t = float(stdtrit(effective - 1, 0.5 + level / 2))
    skew = float((apart**3).mean() / (apart**2).mean() ** 1.5) / math.sqrt(effective)
    lo, hi = (mean - error * _unskewed(end, skew) for end in (t, -t))
    return Interval(lo, hi, level, "hall-t" if (sizes == 1).all() else "cluster-hall-t")


def _unskewed(y: float, k: float) -> float:
    """Return the T for which T + k T^2 / 3 + k^2 T^3 / 27 + k / 6 equals y."""
    if abs(k) < _SYMMETRIC:
        return y
    inner = 1 + k * (y - k / 6)
    return 3 / k * (math.copysign(abs(inner) ** (1 / 3), inner) - 1)


def why_none(clusters: NDArray[np.int64]) -> str:
    """Return what is reported in place of the method if `mean_interval` returns None.

    Args:
        clusters: Cluster number of each item, 0 to n_clusters - 1.
    """
    effective = effective_documents(np.bincount(clusters).astype(np.float64))
    return FEW_CLUSTERS if effective < MIN_EFFECTIVE else NO_SPREAD
