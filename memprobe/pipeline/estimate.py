"""Estimate and interval of the values of one block."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memprobe.probes.contract import Metric
from memprobe.stats.blocks import Blocked, Series, blocks_interval, moving_blocks, weighted_mean
from memprobe.stats.differences import difference_interval, paired_difference
from memprobe.stats.intervals import FEW_CLUSTERS, FEW_FOR_MEDIAN, LEVEL, NO_SPREAD, Interval
from memprobe.stats.means import mean_interval, why_none
from memprobe.stats.medians import Median, km_median, median_interval
from memprobe.stats.ranking import auc, paired_auc
from memprobe.stats.rates import rate_interval, share_interval


def estimate_of(
    metric: Metric,
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    clusters: NDArray[np.int64],
    most: float,
) -> tuple[float | None, Interval | Median | None]:
    """Return estimate and interval; `most` is the largest possible value, 0 if it is not known.

    One cluster does not show how clusters differ, and one value does not show how values do: then there is
    no interval, which is better than a false one.
    """
    if not len(values):
        return None, None
    n_clusters = int(clusters.max()) + 1
    together = clusters if n_clusters < len(values) else None
    if metric.summary == "difference":
        return float((values - others).mean()), paired_difference(
            values, others, clusters=together, level=LEVEL
        )
    if metric.summary == "auc":
        if n_clusters < 2:
            return auc(values, others), None
        area = paired_auc(values, others, clusters=together, level=LEVEL)
        return area.auc, area.interval
    if metric.summary == "km_median":
        found = km_median(values, others > 0, clusters=together, level=LEVEL)
        return found.median, found
    if metric.summary == "median":
        return float(np.median(values)), median_interval(values, together, level=LEVEL)
    estimate = float(values.mean())
    if metric.summary == "rate":
        return estimate, rate_interval(values, clusters, level=LEVEL)
    if metric.within_0_and_1:
        return estimate, share_interval(values, clusters, level=LEVEL)
    if metric.within_1_of_0:
        return estimate, difference_interval(values, clusters=clusters, level=LEVEL)
    if most > 0:
        share = share_interval(values / most, clusters, level=LEVEL)
        return estimate, share and replace(share, lo=most * share.lo, hi=most * share.hi)
    return estimate, mean_interval(values, together, level=LEVEL)


def why_no_interval(metric: Metric, clusters: NDArray[np.int64]) -> str:
    """Return the reason, given as the method, why `estimate_of` has no interval."""
    why = why_none(clusters)
    if why != FEW_CLUSTERS and metric.summary == "median":
        return FEW_FOR_MEDIAN
    return why if metric.summary == "mean" else FEW_CLUSTERS


def series_of(block: Mapping[str, Any]) -> list[Series]:
    """Return the values of a block as one series for each item."""
    values, weights = (np.asarray(block[name], dtype=np.float64) for name in ("value", "weight"))
    items = np.asarray(block["item"])
    borders = np.flatnonzero(items[1:] != items[:-1]) + 1
    starts = [0, *borders.tolist()] if len(items) else []
    passage = block["passage"][0] if len(items) and "passage" in block else None
    known = None if passage is None or np.isnan(passage) else int(passage)
    return [
        Series(values[start:stop], weights[start:stop], int(block["overlap"][start]), known)
        for start, stop in zip(starts, [*starts[1:], len(items)], strict=True)
    ]


def estimate_series(
    metric: Metric, series: list[Series], seed: tuple[str, ...]
) -> tuple[float | None, Blocked]:
    """Return estimate and interval of values that overlap their neighbours."""
    if not series:
        return None, Blocked(None)
    estimate = weighted_mean(series)
    if metric.unit == "fraction":
        return estimate, blocks_interval(series, low=-1.0 if metric.within_1_of_0 else 0.0, level=LEVEL)
    interval = moving_blocks(series, rng=rng_of(seed), level=LEVEL)
    if interval is not None and interval.lo == interval.hi:
        return estimate, Blocked(None, NO_SPREAD)
    return estimate, Blocked(interval, FEW_CLUSTERS if interval is None else None)


def rng_of(seed: tuple[str, ...]) -> np.random.Generator:
    """Return a random generator that depends only on these words."""
    digest = hashlib.sha256("\x1f".join(seed).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
