"""Acquisition and decay: the highest value after an injection, how much of it is kept, and the fitted decay.

    effectivity = l(theta_LAM) - l(theta_before),  R(t) = (l(theta_{LAM+t}) - l_pre) / (l(theta_LAM) - l_pre)
    R(t) = -a log10(t / tau)

LAM is the checkpoint with the highest l in the window after an injection. Source: Chang et al. (2024),
sections 3.2 and 4.3, https://arxiv.org/abs/2406.11813; their code uses log10, so a is the loss per decade.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.half_life import expanded

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
DECAY_METHOD = "expanded-bootstrap"
"""How the intervals of a decay are made."""
# Clusters are drawn in blocks of about this many numbers, so that memory stays small.
_BLOCK = 4_000_000
# If all times are within this factor of each other, no line is fitted: its slope would be noise.
_ALIKE = 1.1
# Draws that differ by no more than this share of their size, or of 1, differ only by rounding.
_ROUNDING = 1e-12
# A line that reaches 0 only after 10^15 steps counts as never reaching it.
_MOST_LOG10 = 15


@dataclass(frozen=True, slots=True)
class Windows:
    """The window of checkpoints after each injection, as positions, computed from the steps alone.

    Attributes:
        first: First checkpoint that has seen the injection, shape (n_injections,); n_steps if none has.
        last: Last checkpoint of the window; first - 1 if the window contains no checkpoint.
        end_step: Last step of the window, whether or not it has a checkpoint.
    """

    first: Whole
    last: Whole
    end_step: Whole

    @property
    def n_checkpoints(self) -> Whole:
        """Number of checkpoints in each window."""
        return np.asarray(np.maximum(self.last - self.first + 1, 0))


def windows(injection: Whole, following: Whole, steps: Whole, width: int | None) -> Windows:
    """Return the window of each injection, which ends before the next one or at the last checkpoint.

    Args:
        injection: Number of updates done just after each injection, shape (n_injections,).
        following: Number of updates done just after the item's next injection; beyond the last checkpoint if
            there is none.
        steps: Steps of the checkpoints, ascending.
        width: Largest number of steps in a window, including the injection's own; None for no limit.
    """
    end = np.minimum(following - 1, steps[-1])
    if width is not None:
        end = np.minimum(end, injection + width - 1)
    first = np.searchsorted(steps, injection, side="left")
    return Windows(first, np.searchsorted(steps, end, side="right") - 1, end)


def highest(values: Floats, row: Whole, found: Windows) -> Whole:
    """Return the position of the highest value in each window: the first of equals, -1 if it is empty.

    Args:
        values: Values at the checkpoints, shape (n_items, n_steps).
        row: The item of each window, shape (n_injections,).
        found: The windows.
    """
    place = np.where(found.n_checkpoints > 0, found.first, -1)
    best = np.where(place >= 0, values[row, np.maximum(place, 0)], -np.inf)
    for offset in range(1, int(found.n_checkpoints.max(initial=0))):
        inside = found.first + offset <= found.last
        at = np.where(inside, found.first + offset, 0)
        higher = inside & (values[row, at] > best)
        place, best = np.where(higher, at, place), np.where(higher, values[row, at], best)
    return place


def null_rises(values: Floats, unseen_to: Whole, found: Windows) -> tuple[Floats, Floats]:
    """Return how far the maximum of windows without an injection is above the checkpoint before them.

    The maximum of several noisy values is biased upwards, so this is the `effectivity` to expect without any
    injection. Each real window with a checkpoint before it and one inside is applied to every item that was
    not yet trained on at the end of the window.

    Args:
        values: Values at the checkpoints, shape (n_items, n_steps).
        unseen_to: Last position at which each item was not yet trained on; n_steps - 1 if it never is.
        found: The real windows; equal windows are counted separately.

    Returns:
        For each item the sum of the rises, and the number of windows; shape (n_items,) each.
    """
    total, count = np.zeros(len(values)), np.zeros(len(values))
    used = (found.first > 0) & (found.n_checkpoints > 0)
    both = np.column_stack([found.first[used], found.last[used]])
    pairs, times = np.unique(both, axis=0, return_counts=True)
    for first in np.unique(pairs[:, 0]):
        of_first = pairs[:, 0] == first
        peak = np.maximum.accumulate(values[:, first:], axis=1) - values[:, first - 1 : first]
        for last, n in zip(pairs[of_first, 1], times[of_first], strict=True):
            unseen = unseen_to >= last
            total[unseen] += n * peak[unseen, last - first]
            count[unseen] += n
    return total, count


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends of an interval; either may be unknown."""

    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True)
class Decay:
    """A fit of R = -a log10(t / tau) to points of items at times.

    Attributes:
        decay: a, the loss per decade of time; None if it is not known, see `reason`.
        decay_ends: Interval of `decay`, by the cluster bootstrap; unknown with fewer than two clusters.
        tau: Time at which the line is 0; None if it does not fall, or too slowly.
        tau_ends: Interval of `tau`; an end beyond 10^15 steps is None.
        r2: Share of the points' weighted variance that the line explains; None if the points do not vary.
        residual_se: Weighted standard deviation of the points around the line; None with only two points.
        n_points: Number of points.
        reason: Why `decay` or `tau` is None; None if both are known.
    """

    decay: float | None
    decay_ends: Ends
    tau: float | None
    tau_ends: Ends
    r2: float | None
    residual_se: float | None
    n_points: int
    reason: str | None


_UNKNOWN = Ends(None, None)


def log_decay(
    time: Floats,
    kept: Floats,
    clusters: Whole,
    weight: Floats,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Decay:
    """Fit the decay by weighted least squares on log10 of the time.

    Points of one item are closely correlated, so the errors of least squares would be far too small.
    Instead, whole clusters are drawn with replacement and the line is fitted to each draw. With few
    clusters the percentiles are widened (`memprobe.stats.half_life.expanded`).

    Args:
        time: Times above 0, shape (n_points,).
        kept: R at these times, shape (n_points,).
        clusters: Cluster of each point, shape (n_points,), numbered in an order that does not depend on
            that of the items.
        weight: Weight of each point, above 0, shape (n_points,).
        rng: Source of the draws.
        level: Nominal coverage.
    """
    if not len(time) or time.max() <= _ALIKE * time.min():
        return Decay(None, _UNKNOWN, None, _UNKNOWN, None, None, len(time), _why_no_decay(time))
    x = np.log10(time)
    middle = float(np.average(x, weights=weight))
    cluster = np.unique(clusters, return_inverse=True)[1]
    terms = (np.ones_like(x), x - middle, kept, (x - middle) ** 2, (x - middle) * kept)
    summed = [np.bincount(cluster, weights=weight * each) for each in terms]
    moments: Floats = np.column_stack(summed).astype(np.float64)
    slope, level_at = (float(each[0]) for each in _lines(moments.sum(axis=0)[None, :]))
    residual = kept - level_at - slope * (x - middle)
    around = kept - np.average(kept, weights=weight)
    squares, spread = (float(np.average(each**2, weights=weight)) for each in (residual, around))
    decay = -slope
    tau = _power(middle + level_at / decay) if decay > 0 else None
    draws = _lines(resampled_sums(moments, rng)) if len(moments) > 1 else None
    wide = expanded(level, len(moments)) if len(moments) > 1 else level
    return Decay(
        decay=decay,
        decay_ends=_UNKNOWN if draws is None else _ends(-draws[0], wide),
        tau=tau,
        tau_ends=_UNKNOWN if draws is None or tau is None else _tau_ends(draws, middle, wide),
        r2=1 - squares / spread if spread > 0 else None,
        residual_se=float(np.sqrt(squares * len(x) / (len(x) - 2))) if len(x) > 2 else None,
        n_points=len(x),
        reason=None if tau is not None else _why_no_tau(decay),
    )


def _why_no_decay(time: Floats) -> str:
    if not len(time):
        return "no item has a checkpoint after its highest one"
    return "a single time" if time.min() == time.max() else "all times are within a tenth of each other"


def _why_no_tau(decay: float) -> str:
    if decay > 0:
        return "what is kept falls so slowly that it reaches 0 in more than 10^15 steps"
    return "what is kept does not fall with time, so it never reaches 0"


def _lines(moments: Floats) -> tuple[Floats, Floats]:
    """Return the slope, and the height at the middle, of the line fitted to each row of summed moments."""
    n, x, y, xx, xy = moments.T
    # A draw of points at a single time has no slope.
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (xy - x * y / n) / (xx - x * x / n)
        return slope, (y - slope * x) / n


def resampled_sums(sums: Floats, rng: np.random.Generator, n_draws: int = N_DRAWS) -> Floats:
    """Return the sums over clusters drawn with replacement.

    Args:
        sums: One row per cluster, shape (n_clusters, n_sums), in an order that does not depend on that of
            the items.
        rng: Source of the draws.
        n_draws: Number of resamples.

    Returns:
        Resampled sums, shape (n_draws, n_sums).
    """
    n = len(sums)
    at_once = max(1, _BLOCK // n)
    drawn = []
    for first in range(0, n_draws, at_once):
        rows = min(at_once, n_draws - first)
        picks = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n)
        drawn.append(counts @ sums)
    return np.concatenate(drawn)


def _ends(values: Floats, level: float) -> Ends:
    known = values[np.isfinite(values)]
    if len(known) < len(values) / 2:
        return _UNKNOWN
    lo, hi = (float(end) for end in np.quantile(known, [(1 - level) / 2, (1 + level) / 2]))
    return Ends(lo, hi) if hi - lo > _ROUNDING * max(1.0, abs(lo)) else _UNKNOWN


def _tau_ends(draws: tuple[Floats, Floats], middle: float, level: float) -> Ends:
    """Return the interval of tau; a draw whose line does not fall counts as infinite."""
    slope, height = draws
    known = np.isfinite(slope)
    falls = slope[known] < 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_tau = np.where(falls, middle - height[known] / slope[known], np.inf)
    lo, hi = np.quantile(log_tau, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Ends(_power(float(lo)), _power(float(hi)))


def _power(log10: float) -> float | None:
    """Return 10 to this power; None if it is too large or too small for a time of training."""
    return 10**log10 if -300 < log10 < _MOST_LOG10 else None


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean of values at each time, with intervals from cluster-robust errors.

    Attributes:
        time: Times, rising, shape (n_times,).
        mean: Mean of the values at each time, shape (n_times,).
        lo: Lower end of the interval; NaN with a single cluster.
        hi: Upper end of the interval; NaN with a single cluster.
        n: Number of values at each time, shape (n_times,).
        n_clusters: Number of clusters at each time, shape (n_times,).
    """

    time: Whole
    mean: Floats
    lo: Floats
    hi: Floats
    n: Whole
    n_clusters: Whole


def mean_curve(time: Whole, values: Floats, clusters: Whole, *, level: float = 0.95) -> Curve:
    """Return the mean of the values at each time, +- t se with n_clusters - 1 degrees of freedom.

    Args:
        time: Time of each value, shape (n_values,), at least one.
        values: Values, shape (n_values,).
        clusters: Cluster of each value, shape (n_values,).
        level: Nominal coverage of each interval.
    """
    from scipy.special import stdtrit

    at, place = np.unique(time, return_inverse=True)
    n = np.bincount(place)
    mean = np.bincount(place, weights=values) / n
    names, cluster = np.unique(clusters, return_inverse=True)
    cells, cell = np.unique(place * len(names) + cluster, return_inverse=True)
    apart = np.bincount(cell, weights=values - mean[place])
    of_cell = cells // len(names)
    n_clusters = np.bincount(of_cell, minlength=len(at))
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.bincount(of_cell, weights=apart**2, minlength=len(at)) * n_clusters / (n_clusters - 1)
        half = stdtrit(n_clusters - 1, (1 + level) / 2) * np.sqrt(squares) / n
    half = np.where(n_clusters > 1, half, np.nan)
    return Curve(at, mean, mean - half, mean + half, n, n_clusters)
