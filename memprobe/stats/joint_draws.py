"""Bootstrap of scores over a sequence of checkpoints, and intervals: items are drawn once for all of them.

An item is asked the same question at every checkpoint, so its outcomes rise and fall together. Drawing items
with all their outcomes preserves this; drawing separately at each checkpoint would not.

References: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 2.4 (basic limits),
3.8 (clusters); Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 10.3 (bias).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

# Number of indices drawn at once.
_BLOCK = 4_000_000
# Draws that differ by no more than this share of the estimate, or of 1, differ only by rounding.
_ROUNDING = 1e-12
# A bias below a quarter of the standard error can be ignored: Efron and Tibshirani (1993), section 10.3.
SMALL_BIAS_SE = 0.25


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its bootstrap interval, bias and standard error.

    Attributes:
        value: The estimate.
        lo: Lower end of the interval; None if the draws do not vary, or it would be infinite.
        hi: Upper end of the interval; None if `lo` is.
        bias: Mean of the draws minus the estimate; None without an interval, or with a percentile interval.
        se: Standard deviation of the draws; None if `bias` is.
    """

    value: float
    lo: float | None = None
    hi: float | None = None
    bias: float | None = None
    se: float | None = None

    @property
    def is_biased(self) -> bool:
        """Whether the bias is too large to be ignored."""
        return self.bias is not None and self.se is not None and abs(self.bias) > SMALL_BIAS_SE * self.se


def curves_of(values: Floats, sets: Whole) -> Floats:
    """Return the mean outcome of each set at each checkpoint.

    Args:
        values: Outcomes, shape (n_items, n_steps), finite.
        sets: Set number of each item, shape (n_items,), 0 to n_sets - 1; every set has an item.

    Returns:
        Curves, shape (n_sets, n_steps).
    """
    n_sets = int(sets.max()) + 1
    return np.stack([values[sets == i].mean(0) for i in range(n_sets)])


def drawn_curves(
    values: Floats, sets: Whole, clusters: Whole, *, n_draws: int, rng: np.random.Generator
) -> Floats:
    """Return the curves of resampled items.

    Clusters are drawn among those that have items in the same sets, so every set keeps its number of
    clusters. A cluster is drawn with all its items.

    Args:
        values: Outcomes, shape (n_items, n_steps), finite; the draws depend on the order of items.
        sets: As in `curves_of`.
        clusters: Cluster number of each item, shape (n_items,), 0 to n_clusters - 1.
        n_draws: Number of resamples.
        rng: Source of the draws.

    Returns:
        Curves, shape (n_draws, n_sets, n_steps).
    """
    n_sets, n_clusters = int(sets.max()) + 1, int(clusters.max()) + 1
    held = np.zeros((n_clusters, n_sets), dtype=np.bool_)
    held[clusters, sets] = True
    strata = np.unique(held, axis=0, return_inverse=True)[1].reshape(-1)
    sums = [_sums(values[sets == i], clusters[sets == i]) for i in range(n_sets)]
    drawn = np.empty((n_draws, n_sets, values.shape[1]))
    at_once = max(1, _BLOCK // n_clusters)
    for first in range(0, n_draws, at_once):
        block = slice(first, min(first + at_once, n_draws))
        times = _times_drawn(strata, block.stop - first, rng)
        for i, (which, total, size) in enumerate(sums):
            own = times[:, which]
            drawn[block, i] = (own @ total) / (own @ size)[:, None]
    return drawn


def _sums(values: Floats, clusters: Whole) -> tuple[Whole, Floats, Floats]:
    """Return the clusters that occur, their sums of outcomes, and their sizes."""
    which, place = np.unique(clusters, return_inverse=True)
    total = np.zeros((len(which), values.shape[1]))
    np.add.at(total, place, values)
    return which, total, np.bincount(place).astype(np.float64)


def _times_drawn(strata: Whole, n_draws: int, rng: np.random.Generator) -> Floats:
    """Return how often each cluster is drawn among those of its stratum, shape (n_draws, n_clusters)."""
    times = np.empty((n_draws, len(strata)))
    row = np.arange(n_draws)[:, None]
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        drawn = rng.integers(0, n, size=(n_draws, n)) + n * row
        times[:, members] = np.bincount(drawn.ravel(), minlength=n * n_draws).reshape(n_draws, n)
    return times


def basic_estimate(value: float, draws: Floats, *, level: float = 0.95) -> Estimate:
    """Return an estimate with its basic bootstrap interval, [2 value - q_hi, 2 value - q_lo].

    For a minimum over noisy scores, draws lie about as far below the estimate as the estimate lies below the
    truth. The basic limits are shifted up by as much, which corrects for this; quantiles of the draws would
    double the error. If both quantiles lie on one side of the estimate, both limits lie on the other side,
    and the interval is widened to contain the estimate.

    Args:
        value: The estimate.
        draws: Estimates from resampled items, shape (n_draws,).
        level: Nominal coverage.
    """
    if len(draws) < 2 or np.ptp(draws) <= _ROUNDING * max(1.0, abs(value)):
        return Estimate(value)
    low, high = (float(end) for end in np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    lo, hi = min(value, 2 * value - high), max(value, 2 * value - low)
    return Estimate(value, lo, hi, float(draws.mean()) - value, float(draws.std(ddof=1)))


def percentile_estimate(value: float, draws: Floats, *, level: float = 0.95) -> Estimate:
    """Return an estimate with the percentile interval, for draws that may be infinite.

    Args:
        value: The estimate.
        draws: Estimates from resampled items, shape (n_draws,).
        level: Nominal coverage.
    """
    if len(draws) < 2 or len(np.unique(draws)) == 1:
        return Estimate(value)
    quantiles = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    if not np.isfinite(quantiles).all():
        return Estimate(value)
    return Estimate(value, float(quantiles[0]), float(quantiles[1]))
