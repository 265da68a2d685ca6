"""The interval of a rate whose items may come in clusters, by the rule that every rate is told with."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.bootstrap import bootstrap_mean
from memprobe.stats.intervals import Interval, wilson


def rate_interval(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Interval | None:
    """Interval of the mean of values in {0, 0.5, 1}.

    Wilson's where every item is a cluster of its own, else the bootstrap over clusters. Where all are 0 or
    all are 1, resampling shows no spread: Wilson's interval of as many rates as clusters stands in.

    Args:
        values: One value per item, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1.
        rng: Source of the draws.
        level: Nominal coverage.

    Returns:
        The interval; None for one cluster of several items, which does not show how clusters differ.

    Raises:
        ValueError: There are no values, or not one cluster number per value.
    """
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(clusters)} cluster numbers for {len(values)} values")
    n_clusters = int(clusters.max()) + 1
    if n_clusters == len(values):
        return wilson(float(values.sum()), len(values), level=level)
    estimate = float(values.mean())
    if estimate in (0, 1):
        return replace(wilson(estimate * n_clusters, n_clusters, level=level), method="wilson-stand-in")
    if n_clusters < 2:
        return None
    return bootstrap_mean(values, rng=rng, clusters=clusters, level=level)
