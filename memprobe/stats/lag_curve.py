"""A curve over the time since exposure: the level at each lag, the level of controls, and their difference.

    excess(t) = mean_i [Y_i(s_i) - C_g(i)(s_i)],  s_i the checkpoint at which item i is at lag t

C_g(s) is the mean at that checkpoint of the controls of the item's group, or of all controls if the group
has none: the level that the model has on such texts without exposure. Rates have the interval of all rates.
Their excess has that of Newcombe (1998),
https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, or square-and-add. Other
outcomes have percentiles of a bootstrap that draws whole clusters, the same ones at all lags.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.differences import independent_difference
from memprobe.stats.half_life import expanded
from memprobe.stats.intervals import Interval, wilson
from memprobe.stats.rates import rate_interval

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

# Draws that differ by no more than this share of the number, or of 1, differ only by rounding.
_ROUNDING = 1e-12
# Draws are made in blocks of about this many indices, so that memory stays small.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Controls:
    """Items never trained on, and their mean levels.

    Attributes:
        y: Outcomes at every checkpoint, finite, shape (n_controls, n_steps).
        member: Whether each control counts in each row of `levels`, shape (n_rows, n_controls).
        cluster: Cluster number of each control, shape (n_controls,).
    """

    y: Floats
    member: NDArray[np.bool_]
    cluster: Whole

    @cached_property
    def levels(self) -> Floats:
        """Mean outcome of the controls of each row at each checkpoint, shape (n_rows, n_steps)."""
        means: Floats = self.member.astype(np.float64) @ self.y / self.member.sum(1)[:, None]
        return means


@dataclass(frozen=True, slots=True)
class Exposed:
    """Exposed items with their outcomes at each lag.

    Attributes:
        y: Outcomes, NaN where an item is not seen at a lag, shape (n_items, n_lags).
        lag: Steps since the last exposure, where y is known, shape (n_items, n_lags).
        step: Position of the checkpoint, where y is known, shape (n_items, n_lags).
        row: Row of the controls' levels to compare each item with, shape (n_items,).
        cluster: Cluster number of each item, shape (n_items,), in the same numbering as for the controls.
    """

    y: Floats
    lag: Floats
    step: Whole
    row: Whole
    cluster: Whole

    def part(self, items: NDArray[np.bool_], lags: NDArray[np.bool_]) -> "Exposed":
        """Return some of the items at some of the lags."""
        both = np.ix_(items, lags)
        return Exposed(self.y[both], self.lag[both], self.step[both], self.row[items], self.cluster[items])


@dataclass(frozen=True, slots=True)
class Ends:
    """Numbers with their intervals, one per lag.

    Attributes:
        value: The numbers, shape (n_lags,).
        interval: Interval of each number; None with a single cluster, or draws that do not vary.
    """

    value: Floats
    interval: tuple[Interval | None, ...]


@dataclass(frozen=True, slots=True)
class LagCurve:
    """A curve; all arrays have one entry per lag.

    Attributes:
        lag: Mean steps since the last exposure.
        lag_min: Fewest steps since the last exposure.
        lag_max: Most steps since the last exposure.
        n_items: Number of items.
        n_clusters: Number of clusters of the items.
        n_controls: Number of controls that the items are compared with; 0 without controls.
        level: Mean outcome of the items.
        baseline: Mean outcome of the controls that the items are compared with; None without controls.
        excess: Level minus baseline, or minus the floor without controls; None if there is neither.
        draws: Resampled excess, NaN where no item or no control is drawn, shape (n_draws, n_lags); no rows if
            there is a single cluster.
        is_rate: Whether the outcomes lie between 0 and 1.
    """

    lag: Floats
    lag_min: Floats
    lag_max: Floats
    n_items: Whole
    n_clusters: Whole
    n_controls: Whole
    level: Ends
    baseline: Floats | None
    excess: Ends | None
    draws: Floats
    is_rate: bool

    @property
    def whole_draws(self) -> Floats:
        """Resamples with items and controls at every lag."""
        whole: Floats = self.draws[np.isfinite(self.draws).all(1)]
        return whole

    @property
    def weights(self) -> Floats:
        """Weight of each lag in a fit: 1 over the variance of its excess.

        A rate of 0 or 1 does not vary in resamples, but it is not certain. Therefore the square of one
        cluster's share is added to the variance of rates.
        """
        draws = self.whole_draws
        variance = draws.var(0) if len(draws) else np.zeros(len(self.lag))
        if self.is_rate:
            variance = variance + 1 / self.n_clusters.astype(np.float64) ** 2
        if not variance.any():
            return np.ones(len(self.lag))
        # A lag without variance between resamples would get all the weight.
        found: Floats = 1 / np.maximum(variance, 1e-3 * variance.mean())
        return found


def lag_curve(
    exposed: Exposed,
    controls: Controls | None,
    *,
    rng: np.random.Generator,
    n_draws: int,
    floor: float | None,
    level: float = 0.95,
) -> LagCurve:
    """Return level, baseline and excess at every lag.

    Args:
        exposed: The exposed items, with at least one seen at each lag.
        controls: The items never trained on; None if there are none.
        rng: Source of the draws.
        n_draws: Number of resamples.
        floor: Rate without memory, which replaces the baseline without controls; None if the outcome is not
            a rate.
        level: Nominal coverage.

    Raises:
        ValueError: No item is seen at some lag.
    """
    seen = ~np.isnan(exposed.y)
    n = seen.sum(0)
    if not n.all():
        raise ValueError(f"no item is seen at {int((n == 0).sum())} of {len(n)} lags")
    lags = np.where(seen, exposed.lag, 0)
    by_lag = _Resampled.of(exposed, controls, seen, rng, n_draws)
    mean = np.where(seen, exposed.y, 0).sum(0) / n
    apart = len(np.unique(exposed.cluster)) == len(exposed.cluster)
    n_clusters = n if apart else np.array([len(np.unique(exposed.cluster[here])) for here in seen.T])
    is_rate = floor is not None
    if is_rate:
        own = Ends(mean, _of_rates(exposed, seen, level))
    else:
        own = _intervals(mean, by_lag.level, n_clusters, level)
    baseline = None if controls is None else mean - _excess(exposed, controls, seen).sum(0) / n
    parts = np.zeros((0, len(n))) if controls is None else _parts(exposed, controls, seen)
    curve = LagCurve(
        lag=lags.sum(0) / n,
        lag_min=np.where(seen, exposed.lag, np.inf).min(0),
        lag_max=np.where(seen, exposed.lag, -np.inf).max(0),
        n_items=n,
        n_clusters=n_clusters,
        n_controls=np.count_nonzero(parts, axis=0),
        level=own,
        baseline=baseline,
        excess=None,
        draws=by_lag.excess if floor is None or controls is not None else by_lag.excess - floor,
        is_rate=is_rate,
    )
    if controls is None or baseline is None:
        return curve if floor is None else replace(curve, excess=_over_floor(own, floor))
    return replace(curve, excess=_over_controls(curve, baseline, _n_alike(parts, controls.cluster), level))


def _parts(exposed: Exposed, controls: Controls, seen: NDArray[np.bool_]) -> Floats:
    """Return each control's weight in the baseline at each lag, shape (n_controls, n_lags), summing to 1."""
    n_rows = len(controls.member)
    of_row = np.stack([(seen & (exposed.row == row)[:, None]).sum(0) for row in range(n_rows)]) / seen.sum(0)
    parts: Floats = (controls.member / controls.member.sum(1)[:, None]).T @ of_row
    return parts


def _n_alike(parts: Floats, cluster: Whole) -> Whole:
    """Return how many independent controls of equal weight would vary as much, rounded down, shape (n_lags,).

    The controls recur at every checkpoint, so this is at most the number of their clusters. Kish (1965),
    Survey Sampling: (sum w)^2 / sum w^2.
    """
    number = np.unique(cluster, return_inverse=True)[1]
    squares = (_by_cluster(parts, number, int(number.max()) + 1) ** 2).sum(0)
    # The small term keeps a rounding error from lowering the number.
    return np.asarray(np.maximum(1, (1 / squares + 1e-9).astype(np.int64)))


def _excess(exposed: Exposed, controls: Controls | None, seen: NDArray[np.bool_]) -> Floats:
    """Return outcome minus control level of each item, 0 where it is not seen, shape (n_items, n_lags)."""
    if controls is None:
        return np.where(seen, exposed.y, 0)
    return np.where(seen, exposed.y - controls.levels[exposed.row[:, None], exposed.step], 0)


def _over_floor(own: Ends, floor: float) -> Ends:
    moved = tuple(
        None if each is None else replace(each, lo=each.lo - floor, hi=each.hi - floor)
        for each in own.interval
    )
    return Ends(own.value - floor, moved)


def _over_controls(curve: LagCurve, baseline: Floats, n_alike: Whole, level: float) -> Ends:
    excess = curve.level.value - baseline
    if not curve.is_rate:
        return _intervals(excess, curve.draws, curve.n_clusters, level)
    found = [
        None if own is None else independent_difference(value, own, rate, wilson(rate * n, n, level=level))
        for value, own, rate, n in zip(
            curve.level.value,
            curve.level.interval,
            np.clip(baseline, 0, 1).tolist(),
            n_alike.tolist(),
            strict=True,
        )
    ]
    return Ends(excess, tuple(found))


def _of_rates(exposed: Exposed, seen: NDArray[np.bool_], level: float) -> tuple[Interval | None, ...]:
    """Return the interval of the rate at each lag, by the rule of all rates (`memprobe.stats.rates`)."""
    found = []
    for y, here in zip(exposed.y.T, seen.T, strict=True):
        own = np.unique(exposed.cluster[here], return_inverse=True)[1]
        found.append(rate_interval(y[here], own, level=level))
    return tuple(found)


def _intervals(value: Floats, draws: Floats, n_clusters: Whole, level: float) -> Ends:
    """Return percentiles of the draws, widened where clusters are few."""
    found: list[Interval | None] = [None] * len(value)
    for at, number in enumerate(value.tolist() if len(draws) else []):
        apart = int(n_clusters[at])
        if apart < 2:
            continue
        wide = expanded(level, apart)
        lo, hi = np.nanquantile(draws[:, at], [(1 - wide) / 2, (1 + wide) / 2]).tolist()
        if hi - lo > _ROUNDING * max(1.0, abs(number)):
            found[at] = Interval(lo, hi, level, "expanded-bootstrap")
    return Ends(value, tuple(found))


@dataclass(frozen=True, slots=True)
class _Resampled:
    """Resampled levels and excesses, NaN where a resample has no item, shape (n_draws, n_lags) each.

    There are no rows for a single cluster of items, or of controls, since it does not show how clusters
    differ.

    Clusters with an exposed item are drawn among themselves, together with any controls that they contain.
    Clusters of controls only are drawn among themselves, group by group. The controls' levels are weighted by
    the groups and checkpoints of the original items, not of the drawn ones, which is exact to first order.
    """

    level: Floats
    excess: Floats

    @classmethod
    def of(
        cls,
        exposed: Exposed,
        controls: Controls | None,
        seen: NDArray[np.bool_],
        rng: np.random.Generator,
        n_draws: int,
    ) -> "_Resampled":
        own, number = np.unique(exposed.cluster, return_inverse=True)
        if len(own) < 2 or not n_draws:
            empty = np.empty((0, exposed.y.shape[1]))
            return cls(empty, empty)
        times = _times(rng, n_draws, len(own))
        n = times @ _by_cluster(seen.astype(np.float64), number, len(own))
        with np.errstate(invalid="ignore"):
            raw = times @ _by_cluster(np.where(seen, exposed.y, 0), number, len(own)) / n
            if controls is None:
                return cls(raw, raw)
            if len(np.unique(controls.cluster)) < 2:
                return cls(raw, raw[:0])
            over = times @ _by_cluster(_excess(exposed, controls, seen), number, len(own)) / n
        return cls(raw, over - _control_noise(exposed, controls, seen, own, times, rng))


def _control_noise(
    exposed: Exposed,
    controls: Controls,
    seen: NDArray[np.bool_],
    own: Whole,
    times: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return how far the resampled control levels lie from the real ones, shape (n_draws, n_lags)."""
    clusters, number = np.unique(controls.cluster, return_inverse=True)
    shared = np.isin(clusters, own)
    weight = np.empty((len(times), len(clusters)))
    weight[:, shared] = times[:, np.searchsorted(own, clusters[shared])]
    # Clusters are drawn among those whose first control counts in the same rows.
    _, kind = np.unique(controls.member, axis=1, return_inverse=True)
    first = np.unique(number, return_index=True)[1]
    for each in np.unique(kind):
        alone = ~shared & (kind[first] == each)
        weight[:, alone] = _times(rng, len(times), int(alone.sum()))
    n_steps, n_lags = controls.y.shape[1], seen.shape[1]
    item, at = np.nonzero(seen)
    noise = np.zeros((len(times), n_lags))
    for row in np.unique(exposed.row):
        here = exposed.row[item] == row
        places = at[here] * n_steps + exposed.step[item, at][here]
        share = (
            np.bincount(places, minlength=n_lags * n_steps).reshape(n_lags, n_steps) / seen.sum(0)[:, None]
        )
        kept = controls.member[row]
        sums = _by_cluster(controls.y[kept] - controls.levels[row], number[kept], len(clusters))
        sizes = np.bincount(number[kept], minlength=len(clusters)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            noise += (weight @ (sums @ share.T)) / (weight @ sizes)[:, None]
    return noise


def _by_cluster(values: Floats, cluster: Whole, n_clusters: int) -> Floats:
    """Return the sums of the values of each cluster, shape (n_clusters, n_columns)."""
    sums = np.zeros((n_clusters, values.shape[1]))
    order = np.argsort(cluster, kind="stable")
    present, starts = np.unique(cluster[order], return_index=True)
    if len(present):
        sums[present] = np.add.reduceat(values[order], starts, axis=0)
    return sums


def _times(rng: np.random.Generator, n_draws: int, n: int) -> Floats:
    """Return how often each of n clusters is drawn, shape (n_draws, n)."""
    counts = np.empty((n_draws, n))
    at_once = max(1, _BLOCK // max(n, 1))
    for first in range(0, n_draws, at_once):
        rows = min(at_once, n_draws - first)
        drawn = rng.integers(0, max(n, 1), size=(rows, n)) + n * np.arange(rows)[:, None]
        counts[first : first + rows] = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
    return counts
