"""Kaplan-Meier survival with right-censoring, Greenwood or cluster-robust errors, and the median time.

    S(t) = prod_{s <= t} (1 - d_s / Y_s),  d_s events at time s among the Y_s still at risk

Sources: Kaplan and Meier (1958), https://doi.org/10.2307/2281868; log-log intervals: Kalbfleisch and
Prentice (2002), section 1.4; clusters: Ying and Wei (1994), https://doi.org/10.1006/jmva.1994.1031;
median: Brookmeyer and Crowley (1982), https://doi.org/10.2307/2530286.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.intervals import normal_quantile

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
# Products of fractions such as 5/6 * 4/5 * 3/4 miss 1/2 by a few units in the last place.
_ROUNDING = 1e-12
# Influences of clusters on the curve are held in blocks of about this many numbers.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Survival:
    """A survival curve: one entry for each time at which an item has its event or leaves.

    Attributes:
        time: Times, rising, shape (n_times,).
        n_at_risk: Number of items at risk just before each time, shape (n_times,).
        n_events: Number of events at each time, shape (n_times,).
        survival: S just after each time, shape (n_times,).
        se_log: Standard error of ln S; NaN where S is 0 or there is a single cluster.
        lo: Lower end of the pointwise interval; NaN where S is 0 or 1, or its error is NaN or 0.
        hi: Upper end of the pointwise interval; NaN where `lo` is.
        median: First time at which S is 1/2 or less; None if there is none.
        median_lo: First time at which `lo` is 1/2 or less; None if there is none.
        median_hi: First time at which `hi` is 1/2 or less; None if there is none.
        method: Name of the method of the intervals.
    """

    time: Floats
    n_at_risk: Whole
    n_events: Whole
    survival: Floats
    se_log: Floats
    lo: Floats
    hi: Floats
    median: float | None
    median_lo: float | None
    median_hi: float | None
    method: str


def kaplan_meier(
    time: Floats, event: NDArray[np.bool_], *, clusters: Whole | None = None, level: float = 0.95
) -> Survival:
    """Estimate a survival curve.

    Intervals are exp(-exp(ln(-ln S) -+ z se(ln S) / ln S)). With clusters the variance of ln S is the sum of
    squares of the clusters' summed influences, times G / (G - 1), and z is a quantile of t with G - 1 degrees
    of freedom. If each item is its own cluster, that sum is Greenwood's sum of d / (Y (Y - d)).

    Args:
        time: Time of the event, or of leaving without one, shape (n_items,), 0 or more. An item that leaves
            at a time is still at risk at that time.
        event: Whether each item has the event at its time, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,), from 0; None if every item is its own
            cluster.
        level: Nominal coverage of the pointwise intervals.

    Raises:
        ValueError: There are no items, or not one time, event and cluster for each.
    """
    if not len(time) or len(time) != len(event) or (clusters is not None and len(clusters) != len(time)):
        raise ValueError(f"{len(time)} times and {len(event)} events, not one of each for one or more items")
    at, place = np.unique(time.astype(np.float64), return_inverse=True)
    n_events = np.bincount(place, weights=event, minlength=len(at)).astype(np.int64)
    leaving = np.bincount(place, minlength=len(at))
    at_risk = np.cumsum(leaving[::-1])[::-1].astype(np.int64)
    hazard = n_events / at_risk
    survival = np.cumprod(1 - hazard, dtype=np.float64)
    # If all remaining items have the event, ln S is -inf and has no error.
    with np.errstate(divide="ignore", invalid="ignore"):
        if clusters is None:
            variance = np.cumsum(n_events / (at_risk * (at_risk - n_events)))
        else:
            variance = _clustered(place, event, clusters, hazard, at_risk)
    se_log = np.where((survival > 0) & np.isfinite(variance), np.sqrt(variance), np.nan)
    lo, hi = _log_log(survival, se_log, _quantile(clusters, level))
    return Survival(
        time=at,
        n_at_risk=at_risk,
        n_events=n_events,
        survival=survival,
        se_log=se_log,
        lo=lo,
        hi=hi,
        median=_first_at_half(at, survival),
        median_lo=_first_at_half(at, lo),
        median_hi=_first_at_half(at, hi),
        method="greenwood-log-log" if clusters is None else "cluster-log-log-t",
    )


def _quantile(clusters: Whole | None, level: float) -> float:
    n = 0 if clusters is None else len(np.unique(clusters))
    if n < 2:
        return normal_quantile(level)
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + level / 2))


def at_times(curve: Survival, times: Floats) -> Floats:
    """Return S at given times: the value of the last entry at or before each, 1 before the first entry."""
    place = np.searchsorted(curve.time, times, side="right") - 1
    return np.where(place < 0, 1.0, curve.survival[np.maximum(place, 0)])


def _clustered(
    place: Whole, event: NDArray[np.bool_], clusters: Whole, hazard: Floats, at_risk: Whole
) -> Floats:
    """Return the variance of ln S from summed influences of clusters, shape (n_times,).

    Item i changes ln S(t) by -sum_{s <= t} (dN_i(s) - at risk_i(s) h_s) / (Y_s (1 - h_s)).
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return np.full(len(hazard), np.nan)
    order = np.argsort(cluster, kind="stable")
    place, event, cluster = place[order], event[order], cluster[order]
    n_times = len(hazard)
    scale = 1 / (at_risk * (1 - hazard))
    per_block = max(1, _BLOCK // n_times)
    total = np.zeros(n_times)
    for first in range(0, len(names), per_block):
        inside = slice(*np.searchsorted(cluster, (first, first + per_block)))
        n_rows = int(min(per_block, len(names) - first))
        cell = (cluster[inside] - first) * n_times + place[inside]
        events = np.bincount(cell, weights=event[inside], minlength=n_rows * n_times)
        leaving = np.bincount(cell, minlength=n_rows * n_times)
        risk = np.cumsum(leaving.reshape(n_rows, n_times)[:, ::-1], axis=1)[:, ::-1]
        moved = np.cumsum((events.reshape(n_rows, n_times) - risk * hazard) * scale, axis=1)
        total += (moved**2).sum(axis=0)
    return np.asarray(total * len(names) / (len(names) - 1))


def _log_log(survival: Floats, se_log: Floats, z: float) -> tuple[Floats, Floats]:
    """Return the ends of intervals that are symmetric for ln(-ln S), which keeps them between 0 and 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(survival)
        shift = np.exp(z * se_log / np.abs(log))
        lo, hi = np.exp(log * shift), np.exp(log / shift)
    # Events while only one cluster is at risk have no influence: S then seems certain, but is not.
    inside = (survival > 0) & (survival < 1) & (se_log > _ROUNDING)
    return np.where(inside, lo, np.nan), np.where(inside, hi, np.nan)


def _first_at_half(time: Floats, values: Floats) -> float | None:
    below = np.flatnonzero(values <= 0.5 + _ROUNDING)
    return float(time[below[0]]) if len(below) else None
