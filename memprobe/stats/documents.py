"""A confidence bound for a rate whose items come in documents, which may be memorized whole.

Estimates of how much the items of a document agree fail if the memorized document was not drawn, so this
bound does not use them. It adds to the documents that were seen a pseudo-document of typical size, which is
all hits (for the upper bound) or has none (for the lower bound), and gives every document a random weight:

    upper u:  P( sum_i G_i (x_i - u m_i) + G_0 M (1 - u) > 0 ) = (1 - level) / 2

with independent G ~ Exp(1), x_i hits among the m_i items of document i, and M = sum m_i^2 / sum m_i, the
expected size of the document of a random item. With one item per document this is the bound of Clopper and
Pearson. It never falls when a hit is added.

References: Gaffke (2005), Three test statistics for a nonparametric one-sided hypothesis on the mean of
a nonnegative variable, Mathematical Methods of Statistics 14(4); Learned-Miller and Thomas (2019),
https://arxiv.org/abs/1905.06208. The tail of a weighted sum of exponentials: Gil-Pelaez (1951),
https://doi.org/10.1093/biomet/38.3-4.481, as Imhof (1961),
https://doi.org/10.1093/biomet/48.3-4.419, uses it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.enough import FEW, FEW_EFFECTIVE, METHOD, MIN_EFFECTIVE
from memprobe.stats.intervals import Interval

Floats = NDArray[np.float64]

# The trapezoid sum over log t of an analytic integrand has an error of exp(-c / step): below 1e-9 at this
# step if the mean is within 3 standard deviations of 0, and at half this step if it is within 7.
_STEP = 0.1
_LOG_T_MIN, _LOG_T_MAX = -18.0, 20.0
# Where the logarithm of the integrand's size is below this, the integrand is negligible.
_NOTHING = -23.0
# Largest number of nodes times kinds of documents held in memory at once.
_BLOCK = 2_000_000
# Radius and number of terms of the power series of atan and ln; within the radius the rest is below 1e-16.
_RADIUS, _N_POWERS = 0.25, 26
# Largest difference of the angle between two nodes, in radians; from half a turn on, a turn could be missed.
_MOST_TURN = 2.5
# Where the difference is larger, nodes are moved closer, until two differ by this times _STEP, one radian.
_SPEED = 10.0
# With more kinds of documents than this, kinds of nearly equal weight are merged.
_MOST_KINDS = 512
_TOLERANCE = 1e-9
# The search stops when the next step is expected to be below this share of the tolerance.
_SAFE = 0.01


def effective_documents(sizes: Floats) -> float:
    """Return how many documents of equal size would be worth as much: (sum m)^2 / sum m^2.

    Args:
        sizes: Number of items in each document, shape (n_documents,), all positive.
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def document_rate(hits: Floats, sizes: Floats, *, level: float = 0.95) -> Interval | None:
    """Return the interval of sum(hits) / sum(sizes) over documents like these.

    Args:
        hits: Sum of the item values of each document, each value 0 to 1, shape (n_documents,).
        sizes: Number of items in each document, shape (n_documents,).
        level: Nominal coverage; each end misses with a probability of at most (1 - level) / 2.

    Returns:
        The interval, with the method `FEW` below five effective documents; None below two, which do not
        show how documents differ.

    Raises:
        ValueError: There are no documents, or the hits of one are below 0 or above its size.
    """
    if not len(sizes) or len(sizes) != len(hits) or (sizes <= 0).any():
        raise ValueError(f"{len(hits)} sums of hits for {len(sizes)} documents with items")
    if (hits < 0).any() or (hits > sizes).any():
        raise ValueError("a document has more hits than items, or fewer than none")
    effective = effective_documents(sizes)
    if effective < MIN_EFFECTIVE:
        return None
    documents, counts = _distinct(hits, sizes)
    tail = (1 - level) / 2
    upper = _upper(_key(documents[0], documents[1], counts), tail)
    lower = 1 - _upper(_key(documents[1] - documents[0], documents[1], counts), tail)
    return Interval(lower, upper, level, METHOD if effective >= FEW_EFFECTIVE else FEW)


def _distinct(hits: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Return the distinct documents, shape (2, n_kinds), and how often each occurs."""
    order = np.lexsort((sizes, hits))
    ordered = np.stack([hits[order], sizes[order]])
    starts = np.flatnonzero(np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(0)))
    return ordered[:, starts], np.diff(np.append(starts, len(hits))).astype(np.float64)


def _key(hits: Floats, sizes: Floats, counts: Floats) -> bytes:
    """Return the documents as a cache key that does not depend on their order."""
    rows = np.stack([hits, sizes, counts])
    return np.ascontiguousarray(rows[:, np.lexsort(rows[::-1])]).tobytes()


# A key of 16,000 distinct documents takes 400 kB, and there may be thousands of intervals.
@lru_cache(maxsize=256)
def _upper(documents: bytes, tail: float) -> float:
    """Return the upper bound, cached because the same documents recur, such as those without a hit."""
    hits, sizes, counts = np.frombuffer(documents).reshape(3, -1)
    if (hits == sizes).all():
        return 1.0
    weighted = _Weighted.of(hits, sizes, counts)
    last = 1.0 - _TOLERANCE
    # Far from the bound the integrand turns too fast, so Cantelli's inequality limits the search.
    farthest = weighted.rate_at(-math.sqrt(1 / tail - 1))
    if farthest is None or farthest >= last:
        # The bound cannot be told from 1, for example if the values differ from 1 only by rounding.
        if weighted.above(last) >= tail:
            return 1.0
        farthest = last
    return _root(weighted, tail, max(0.0, weighted.rate_at(1.0) or 0.0), farthest)


@dataclass(frozen=True, slots=True)
class _Weighted:
    """The documents and the pseudo-document, with weights that are linear in the rate.

    Attributes:
        hits: Hits x of each kind of document, the pseudo-document last, shape (n,).
        sizes: Size m of each kind.
        counts: How often each kind occurs.
    """

    hits: Floats
    sizes: Floats
    counts: Floats

    @classmethod
    def of(cls, hits: Floats, sizes: Floats, counts: Floats) -> "_Weighted":
        """Add the pseudo-document, which is all hits."""
        typical = float(counts @ sizes**2) / float(counts @ sizes)
        return cls(np.append(hits, typical), np.append(sizes, typical), np.append(counts, 1.0))

    def above(self, rate: float) -> float:
        """Return P(sum_i G_i (x_i - rate m_i) > 0), including the pseudo-document."""
        weights = self.hits - rate * self.sizes
        z = float(self.counts @ weights / np.sqrt(self.counts @ weights**2))
        kinds, shapes = _kinds(weights[:-1], self.counts[:-1])
        weights, shapes = np.append(kinds, weights[-1]), np.append(shapes, 1.0)
        return _probability_above_zero(weights, shapes, _STEP if z > -3 else _STEP / 2)

    def rate_at(self, z: float) -> float | None:
        """Return the rate at which the mean of the sum is z of its standard deviations; None if none exists.

        Mean and variance are A - B u and C - 2 D u + E u^2, so the rate u is a root of a quadratic equation,
        whose other root belongs to -z.
        """
        (a, b), (c, d, e) = self._first(), self._second()
        square, middle, rest = b * b - z * z * e, a * b - z * z * d, a * a - z * z * c
        if square <= 0:
            return None
        return (middle - math.copysign(math.sqrt(max(middle**2 - square * rest, 0.0)), z)) / square

    def start(self, target: float) -> tuple[float, float]:
        """Return about the rate where the normal quantile of `above` is the target, and the slope there.

        By the expansion of Cornish and Fisher, x = z + (z^2 - 1) s / 6 + (z^3 - 3 z) k / 24
        - (2 z^3 - 5 z) s^2 / 36 with skewness s and excess kurtosis k; NaN where there is no such rate.
        """
        z, moved, spread = -target, -target, 1.0
        rate = self.rate_at(target)
        for _ in range(2):
            if rate is None:
                return math.nan, math.nan
            weights = self.hits - rate * self.sizes
            variance = float(self.counts @ weights**2)
            skew = 2 * float(self.counts @ weights**3) / variance**1.5
            kurtosis = 6 * float(self.counts @ weights**4) / variance**2
            moved = z + (z * z - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24
            moved -= (2 * z**3 - 5 * z) * skew**2 / 36
            spread = 1 + z * skew / 3 + (z * z - 1) * kurtosis / 8 - (6 * z * z - 5) * skew**2 / 36
            rate = self.rate_at(-moved)
        return (math.nan, math.nan) if rate is None else (rate, self.slope_at(rate) / max(spread, 0.2))

    def slope_at(self, rate: float) -> float:
        """Return the derivative, with respect to the rate, of the mean over its standard deviation."""
        (a, b), (c, d, e) = self._first(), self._second()
        variance = c - 2 * d * rate + e * rate**2
        return (-b + (a - b * rate) * (d - e * rate) / variance) / math.sqrt(variance)

    def _first(self) -> tuple[float, float]:
        return float(self.counts @ self.hits), float(self.counts @ self.sizes)

    def _second(self) -> tuple[float, float, float]:
        weighted = self.counts * self.sizes
        squares = float(self.counts @ self.hits**2), float(weighted @ self.sizes)
        return squares[0], float(weighted @ self.hits), squares[1]


def _root(weighted: _Weighted, tail: float, low: float, high: float) -> float:
    """Return the rate between `low` and `high` at which the probability `above` equals `tail`.

    The normal quantile of the probability is nearly linear in the rate, so a few secant steps find it; if a
    step leaves the bracket, the bracket is halved instead.
    """
    normal = NormalDist()
    target = normal.inv_cdf(tail)
    rate, slope = weighted.start(target)
    rate = rate if low < rate < high else (low + high) / 2
    before, last_step = (math.nan, math.nan), math.nan
    while high - low > _TOLERANCE:
        found = weighted.above(rate)
        low, high = (rate, high) if found > tail else (low, rate)
        off = normal.inv_cdf(found) - target if 0 < found < 1 else math.nan
        if before[0] == before[0]:
            slope = (off - before[1]) / (rate - before[0])
        step = -off / slope if slope < 0 else math.nan
        # Secant steps shrink ever faster, so the next one is shorter than step^2 / |last_step|.
        if abs(step) < _TOLERANCE or step**2 < _TOLERANCE * _SAFE * abs(last_step):
            return min(max(rate + step, low), high)
        before, last_step = (rate, off), step
        rate = rate + step if low < rate + step < high else (low + high) / 2
    return (low + high) / 2


def _kinds(weights: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return weights and their counts; if there are many, nearly equal ones are merged into their mean."""
    least, width = float(weights.min()), float(np.ptp(weights))
    if len(weights) <= _MOST_KINDS or not width:
        return weights, counts
    place = ((weights - least) * ((_MOST_KINDS - 1) / width)).astype(np.int64)
    often = np.bincount(place, weights=counts)
    sums = np.bincount(place, weights=counts * weights)
    kept = often > 0
    return sums[kept] / often[kept], often[kept].astype(np.float64)


def _probability_above_zero(weights: Floats, shapes: Floats, step: float) -> float:
    """Return P(sum_k w_k X_k > 0) for independent X_k ~ Gamma(h_k).

        1/2 + (1/pi) int_0^inf sin(sum h_k atan(w_k t)) / prod (1 + w_k^2 t^2)^(h_k/2) dt/t

    Args:
        weights: w, shape (n,), not all 0.
        shapes: h, shape (n,).
        step: Distance between nodes, in log t.
    """
    scaled = weights / np.sqrt(shapes @ weights**2)
    last = _last_log_t(scaled, shapes)
    t, powers = (each[..., : math.ceil((last - _LOG_T_MIN) / step)] for each in _nodes(step))
    angle, log_size = _logarithm(scaled, shapes, t, powers)
    turn = np.abs(np.diff(angle))
    missed = (turn >= _MOST_TURN) & (log_size[1:] > _NOTHING)
    if not missed.any():
        return float(0.5 + step * (np.sin(angle) * np.exp(log_size)).sum() / np.pi)
    # With a heavy document among many light ones the integrand turns fast before it becomes negligible, so
    # nodes have to be evenly spaced in t there: with t = ln(1 + e^v) / c, dt / t = dv / (1 + e^-v) / (c t).
    scale = float((turn / np.diff(t))[missed].max()) / _SPEED
    v = np.arange(_LOG_T_MIN + math.log(scale), max(1.0, scale * t[-1]), _STEP)
    grown = np.logaddexp(0.0, v)
    angle, log_size = _logarithm(scaled, shapes, grown / scale, _powers(grown / scale))
    integrand = np.sin(angle) * np.exp(log_size) / (1 + np.exp(-v)) / grown
    return float(0.5 + _STEP * integrand.sum() / np.pi)


@lru_cache(maxsize=2)
def _nodes(step: float) -> tuple[Floats, Floats]:
    """Return nodes t that are evenly spaced in ln t, and their powers."""
    t = np.exp(np.arange(_LOG_T_MIN, _LOG_T_MAX, step))
    return t, _powers(t)


def _powers(t: Floats) -> Floats:
    """Return the powers of t from 1 to _N_POWERS, shape (_N_POWERS, n_nodes)."""
    return np.multiply.accumulate(np.broadcast_to(t, (_N_POWERS, len(t))), axis=0)


def _logarithm(scaled: Floats, shapes: Floats, t: Floats, powers: Floats) -> tuple[Floats, Floats]:
    """Return sum h atan(w t) and -1/2 sum h ln(1 + w^2 t^2) at nodes t, shape (n_nodes,) each.

    Where w t is small, power series are used, which need no function call for every weight and node.
    """
    size = np.abs(scaled)
    light = size * t[-1] <= _RADIUS
    angle, log_size = _near(scaled[light], shapes[light], powers)
    heavy, their = scaled[~light], shapes[~light]
    if len(heavy):
        n_near = int(np.searchsorted(t, _RADIUS / size.max()))
        near, far = _near(heavy, their, powers[:, :n_near]), _far(heavy, their, t[n_near:])
        angle, log_size = angle + np.append(near[0], far[0]), log_size + np.append(near[1], far[1])
    return angle, log_size


def _near(scaled: Floats, shapes: Floats, powers: Floats) -> tuple[Floats, Floats]:
    """Return the sums of `_logarithm` by their power series.

    atan(x) = x - x^3 / 3 + x^5 / 5 - ...,  -1/2 ln(1 + x^2) = -x^2 / 2 + x^4 / 4 - ...
    """
    k = np.arange(1, _N_POWERS + 1)
    sums = _powers(scaled) @ shapes
    terms = sums / k * np.where(k % 4 < 2, 1.0, -1.0)
    return terms[::2] @ powers[::2], terms[1::2] @ powers[1::2]


def _far(scaled: Floats, shapes: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Return the sums of `_logarithm` by calling the functions for every weight and node."""
    angle, log_size = np.zeros_like(t), np.zeros_like(t)
    at_once = max(1, _BLOCK // max(1, len(t)))
    for first in range(0, len(scaled), at_once):
        part = slice(first, first + at_once)
        product = t[:, None] * scaled[part]
        angle += np.arctan(product) @ shapes[part]
        log_size -= 0.5 * (np.log1p(product**2) @ shapes[part])
    return angle, log_size


def _last_log_t(scaled: Floats, shapes: Floats) -> float:
    """Return the log t beyond which the integrand, whose size only falls, is negligible."""
    low, high = 0.0, _LOG_T_MAX
    while high - low > 1:
        middle = (low + high) / 2
        size = -0.5 * (np.log1p((math.exp(middle) * scaled) ** 2) @ shapes)
        low, high = (middle, high) if size > _NOTHING else (low, middle)
    return high
