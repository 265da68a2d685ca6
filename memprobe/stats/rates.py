"""The interval of a rate, or of another mean between 0 and 1, whose items may come in documents.

References: Gaffke (2005), see `memprobe.stats.documents`; without documents a rate has Wilson's interval.
"""

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.documents import document_rate
from memprobe.stats.intervals import Interval, wilson

_ROUNDING = 1e-9


def rate_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64], *, level: float = 0.95
) -> Interval | None:
    """Return the interval of the mean of outcomes 0 and 1, ties as half: the one rule for every rate.

    It is Wilson's if every item is its own cluster, else that of `share_interval`.

    Args:
        values: Outcome of each item, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1.
        level: Nominal coverage.

    Returns:
        The interval; None if the clusters are worth fewer than two of equal size, which do not show how
        clusters differ.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    _check(values, clusters)
    if int(clusters.max()) + 1 == len(values):
        return wilson(float(values.sum()), len(values), level=level)
    return share_interval(values, clusters, level=level)


def share_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64], *, level: float = 0.95
) -> Interval | None:
    """Return the interval of the mean of any values between 0 and 1: the bound over documents.

    Items that are their own clusters are documents of one item. Neither bound falls when a value rises.
    Bounds by resampling can fall: with many zeros, the single item that is not 0 is often not drawn.

    Args:
        values: Value of each item, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1.
        level: Nominal coverage.

    Returns:
        The interval; None if the clusters are worth fewer than two of equal size.

    Raises:
        ValueError: There are no values, not one cluster number per value, or a value is not between 0 and 1.
    """
    _check(values, clusters)
    if not (np.abs(values - 0.5) <= 0.5 + _ROUNDING).all():
        raise ValueError(f"values from {values.min():g} to {values.max():g}, not between 0 and 1")
    return document_rate(*per_cluster(values, clusters), level=level)


def _check(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> None:
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(clusters)} cluster numbers for {len(values)} values")


def per_cluster(
    values: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of the values of each cluster.

    Args:
        values: Value of each item, shape (n_items,).
        clusters: Cluster number of each item, from 0 without gaps, shape (n_items,).
    """
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.bincount(clusters, weights=values)
    # Sums of fractions may exceed the number of items by a rounding error.
    return np.clip(sums, 0.0, sizes), sizes
