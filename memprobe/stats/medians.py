"""Intervals of medians: by the sign test for plain values, by Kaplan-Meier if some values are lower bounds.

References: Conover (1999), section 3.2 (interval of a quantile by order statistics); documents.py for items
in clusters; survival.py for the Kaplan-Meier median.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.enough import FEW
from memprobe.stats.intervals import Interval, clopper_pearson
from memprobe.stats.rates import share_interval
from memprobe.stats.survival import kaplan_meier

# A bound this close to one half counts as one half.
_HALF = 0.5 - 1e-9


@dataclass(frozen=True, slots=True)
class Median:
    """A median that may lie beyond all values seen.

    Attributes:
        median: The median; None if it lies beyond all values seen.
        lo: Lower end of the interval; the largest value seen if the lower end lies beyond it; None without
            an interval.
        hi: Upper end of the interval; None if it lies beyond all values seen.
        method: Name of the interval's method; None without an interval.
    """

    median: float | None
    lo: float | None
    hi: float | None
    method: str | None


def median_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None = None, *, level: float = 0.95
) -> Interval | None:
    """Return the interval of the median, from the least to the largest value that cannot be excluded.

        lower end: the least y for which the share of values <= y has an upper bound of one half or more
        upper end: the largest y for which the share of values >= y has an upper bound of one half or more

    The bound is that of all rates over documents (`memprobe.stats.documents`). For independent items it is
    that of Clopper and Pearson, so the ends are the order statistics of the sign test.

    Args:
        values: Value of each item, shape (n_items,).
        clusters: Cluster number of each item, 0 to n_clusters - 1; None if every item is its own cluster.
        level: Nominal coverage; each end misses with a probability of at most (1 - level) / 2.

    Returns:
        The interval; None with so few clusters that the median may lie beyond all values seen: at 95%, fewer
        than six independent items.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    if not len(values) or (clusters is not None and len(clusters) != len(values)):
        n_numbers = 0 if clusters is None else len(clusters)
        raise ValueError(f"{n_numbers} cluster numbers for {len(values)} values")
    own = np.arange(len(values)) if clusters is None else clusters
    none = share_interval(np.zeros(len(values)), own, level=level)
    if none is None or none.hi >= _HALF:
        return None
    lo = _least(np.unique(values), lambda y: values <= y, own, level)
    hi = -_least(np.unique(-values), lambda y: -values <= y, own, level)
    kind = "sign-test" if clusters is None else "cluster-sign-test"
    return Interval(lo, hi, level, f"{kind}-few" if none.method == FEW else kind)


def _least(
    ordered: NDArray[np.float64],
    up_to: Callable[[float], NDArray[np.bool_]],
    clusters: NDArray[np.int64],
    level: float,
) -> float:
    """Return the least value at which the bound is one half or more, by bisection since the bound rises."""
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        reached = _bound(up_to(float(ordered[middle])), clusters, level)
        low, high = (low, middle) if reached >= _HALF else (middle + 1, high)
    return float(ordered[low])


def _bound(yes: NDArray[np.bool_], clusters: NDArray[np.int64], level: float) -> float:
    """Return the upper bound of a share; Clopper and Pearson's is faster and used for independent items."""
    if int(clusters.max()) + 1 == len(clusters):
        return clopper_pearson(int(yes.sum()), len(yes), level=level).hi
    found = share_interval(yes.astype(np.float64), clusters, level=level)
    return 1.0 if found is None else found.hi


def km_median(
    values: NDArray[np.float64],
    known: NDArray[np.bool_],
    *,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Median:
    """Return the Kaplan-Meier median if some values are lower bounds, with Brookmeyer and Crowley's interval.

    Args:
        values: Value of each item, or a lower bound of it, shape (n_items,), 0 or more.
        known: Whether the entry of each item is its value, not a lower bound, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,); None if every item is its own cluster.
        level: Nominal coverage.

    Raises:
        ValueError: There are no values.
    """
    curve = kaplan_meier(values, known, clusters=clusters, level=level)
    if not np.isfinite(curve.lo).any():
        return Median(curve.median, None, None, None)
    # If not even the lower band falls to one half, the median lies beyond all values seen.
    lo = curve.median_lo if curve.median_lo is not None else float(curve.time[-1])
    return Median(curve.median, lo, curve.median_hi, curve.method)
