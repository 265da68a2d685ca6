"""The interval of a half-life: profile likelihood over the laws, with a cut calibrated by a bootstrap.

Let D(h) be twice the loss of log-likelihood if the half-life is held at h, with the best law and the best
excess at the first lag. The interval is the hull of {h: D(h) <= c} and of the percentiles of the resampled
half-lives, where each resample chooses its own law. The cut c is a quantile of D*(h), the value of D in the
resamples at the half-life of the curve itself. It is not a quantile of chi-squared, since rates of the same
items at several lags are not independent.

Sources: Venzon and Moolgavkar (1988), https://doi.org/10.2307/2347496, for the profile; Davison and
Hinkley (1997), sections 4.4 and 5.2, for the calibration and the percentiles; Hesterberg (2015),
https://doi.org/10.1080/00031305.2015.1089789, section 4.3, for `expanded`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Law = Literal["power", "exponential", "logarithmic"]
LAWS: tuple[Law, ...] = get_args(Law)

# Number of half-lives at which the likelihood is profiled, and the largest over the range of observed lags.
_N_HALVES, _BEYOND = 96, 100.0
# If no more than this share is left at the second lag, the lags cannot tell how fast the decay is.
GONE = 1e-3
LARGEST = math.log(1e6)
_MOST_STEPS = 25
# A row is done if another step gains no more than this, in nats, and at an edge from this damping on.
_DONE, _STUCK = 1e-6, 1e3
_TINY = 1e-300


class Likelihood(Protocol):
    """Log-likelihood ln L of curves, given fitted excesses."""

    def value(self, excess: Floats, fitted: Floats) -> Floats:
        """Return ln L of each row up to a constant; both arguments have shape (n_rows, n_lags)."""

    def score(self, excess: Floats, fitted: Floats) -> tuple[Floats, Floats]:
        """Return the slope of ln L in the fitted excess and its expected curvature, both (n_rows, n_lags)."""


@dataclass(frozen=True, slots=True)
class Binomial:
    """Rates of items that are remembered or not.

    Attributes:
        floor: Rate without memory at each lag, shape (n_lags,).
        n_items: Number of items of the curve.
    """

    floor: Floats
    n_items: int

    def value(self, excess: Floats, fitted: Floats) -> Floats:
        """Return ln L of each row."""
        (y, _), (p, _) = self._rate(excess), self._rate(fitted)
        found: Floats = self.n_items * (y * np.log(p) + (1 - y) * np.log1p(-p)).sum(-1)
        return found

    def score(self, excess: Floats, fitted: Floats) -> tuple[Floats, Floats]:
        """Return the slope of ln L in the fitted excess, and its expected curvature."""
        (y, _), (p, slope) = self._rate(excess), self._rate(fitted)
        weight = self.n_items * slope / (p * (1 - p))
        return weight * (y - p), weight * slope

    def _rate(self, excess: Floats) -> tuple[Floats, float]:
        """Return the rate of an excess, kept half an item away from 0 and 1, and its slope in the excess.

        Thus no observed rate is impossible. Observed and fitted rates are moved in the same way, so a curve
        that follows a law exactly is fitted exactly.
        """
        edge = 0.5 / (self.n_items + 1)
        return edge + (1 - 2 * edge) * np.clip(self.floor + excess, 0, 1), 1 - 2 * edge


@dataclass(frozen=True, slots=True)
class Normal:
    """Means whose errors are normal and independent between lags.

    Attributes:
        weights: 1 over the variance at each lag, shape (n_lags,).
    """

    weights: Floats

    def value(self, excess: Floats, fitted: Floats) -> Floats:
        """Return ln L of each row."""
        found: Floats = -0.5 * ((excess - fitted) ** 2 @ self.weights)
        return found

    def score(self, excess: Floats, fitted: Floats) -> tuple[Floats, Floats]:
        """Return the slope of ln L in the fitted excess, and its expected curvature."""
        return self.weights * (excess - fitted), np.broadcast_to(self.weights, excess.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Share of the excess at the first lag that is left by one law, as a function of its relative decay.

    Attributes:
        law: The law.
        x: Time on the law's own scale at each lag, 0 at the first, shape (n_lags,).
        first: Offset plus first lag, in steps.
        stops: Whether the share stays at 0 once it has reached 0.
    """

    law: Law
    x: Floats
    first: float
    stops: bool

    @classmethod
    def of(cls, law: Law, lag: Floats, offset: float, *, stops: bool) -> "Shape":
        """Return the shape of a law over these lags."""
        first = offset + float(lag[0])
        x = lag - lag[0] if law == "exponential" else np.log((offset + lag) / first)
        return cls(law, x, first, stops)

    def left(self, decay: Floats) -> tuple[Floats, Floats]:
        """Return the share that is left, and its slope in the decay, shape (n_rows, n_lags) each."""
        if self.law != "logarithmic":
            left = np.exp(-decay[:, None] * self.x)
            return left, -self.x * left
        left = 1 - decay[:, None] * self.x
        slope = np.broadcast_to(-self.x, left.shape)
        return (np.maximum(left, 0), np.where(left > 0, slope, 0)) if self.stops else (left, slope)

    def decay(self, half: Floats) -> Floats:
        """Return the decays that give these half-lives."""
        own = half if self.law == "exponential" else np.log1p(half / self.first)
        found: Floats = (0.5 if self.law == "logarithmic" else math.log(2)) / own
        return found

    def half(self, decay: Floats) -> Floats:
        """Return the half-lives in steps: infinite without decay, 0 if next to nothing is left at lag two."""
        falling = decay > 0
        own = (0.5 if self.law == "logarithmic" else math.log(2)) / np.where(falling, decay, 1.0)
        with np.errstate(over="ignore"):
            steps = own if self.law == "exponential" else self.first * np.expm1(own)
        gone = (self.law != "logarithmic") & (np.exp(-np.maximum(decay, 0) * self.x[1]) < GONE)
        found: Floats = np.where(gone, 0.0, np.where(falling, steps, np.inf))
        return found

    @property
    def most(self) -> float:
        """Largest decay that is considered: it leaves next to nothing at the second lag."""
        return LARGEST / float(self.x[1])

    @property
    def least(self) -> float:
        """Largest rise that is considered, as a negative decay."""
        return -LARGEST / float(self.x[-1])


@dataclass(frozen=True, slots=True)
class Fitted:
    """A law fitted to rows of curves; shape (n_rows,) each.

    Attributes:
        a: Excess at the first lag.
        decay: Decay relative to `a`, on the law's own time scale.
        value: ln L up to a constant that all laws share.
    """

    a: Floats
    decay: Floats
    value: Floats


def expanded(level: float, n_clusters: int) -> float:
    """Return the level at which percentiles of a bootstrap of few clusters have coverage `level`.

        1 - 2 Phi(-t_(n-1) sqrt(n / (n - 1))),  t the quantile of Student's distribution at `level`

    This corrects for two faults: the variance of resamples is (n - 1) / n of that of samples, and their tails
    are those of a normal distribution.
    """
    from scipy.special import ndtr, stdtrit

    t = float(stdtrit(n_clusters - 1, 0.5 + level / 2))
    return 1 - 2 * float(ndtr(-t * math.sqrt(n_clusters / (n_clusters - 1))))


def climb(shape: Shape, like: Likelihood, excess: Floats, start: Fitted, *, held: bool = False) -> Fitted:
    """Maximize ln L of each row by damped Fisher scoring.

    Args:
        shape: The law.
        like: The likelihood.
        excess: Curves, shape (n_rows, n_lags).
        start: Where to begin; its `value` is not used.
        held: Whether to keep the decay and to search `a` only.
    """
    a, decay = start.a.copy(), start.decay.copy()
    value = like.value(excess, a[:, None] * shape.left(decay)[0])
    damping = np.full(len(a), 1e-3)
    going = np.arange(len(a))
    for _ in range(_MOST_STEPS):
        y, at = excess[going], Fitted(a[going], decay[going], value[going])
        step = _step(shape, like, y, at, damping[going], held=held)
        new_a, new_decay = at.a + step.a, np.clip(at.decay + step.decay, shape.least, shape.most)
        new = like.value(y, new_a[:, None] * shape.left(new_decay)[0])
        better = new > at.value
        a[going], decay[going] = np.where(better, new_a, at.a), np.where(better, new_decay, at.decay)
        value[going] = np.maximum(new, at.value)
        damping[going] = np.maximum(damping[going] * np.where(better, 1 / 8, 6), 1e-9)
        # A step promises twice the distance to the maximum, unless damping or an edge limits it.
        going = going[(step.value > _DONE) & (damping[going] < _STUCK)]
        if not len(going):
            break
    return Fitted(a, decay, value)


def _step(
    shape: Shape, like: Likelihood, excess: Floats, at: Fitted, damping: Floats, *, held: bool
) -> Fitted:
    """Return the damped step of each row, with the gain that the slope promises as `value`."""
    left, slope = shape.left(at.decay)
    score, curvature = like.score(excess, at.a[:, None] * left)
    by_decay = at.a[:, None] * slope
    g_a, g_d = (score * left).sum(1), (score * by_decay).sum(1)
    h_aa = (curvature * left**2).sum(1) * (1 + damping)
    if held:
        up = g_a / np.maximum(h_aa, _TINY)
        return Fitted(up, np.zeros_like(up), g_a * up)
    h_dd, h_ad = (curvature * by_decay**2).sum(1) * (1 + damping), (curvature * left * by_decay).sum(1)
    # If nothing depends on the decay, it does not move.
    h_dd = np.where(h_dd > 0, h_dd, 1.0)
    det = np.maximum(h_aa * h_dd - h_ad**2, _TINY)
    up_a, up_decay = (g_a * h_dd - g_d * h_ad) / det, (g_d * h_aa - g_a * h_ad) / det
    return Fitted(up_a, up_decay, g_a * up_a + g_d * up_decay)


def held_at(shapes: Sequence[Shape], like: Likelihood, excess: Floats, half: Floats) -> Floats:
    """Return the largest ln L of each row over all laws, with its half-life held fixed.

    Args:
        shapes: The laws.
        like: The likelihood.
        excess: Curves, shape (n_rows, n_lags).
        half: Half-lives above 0, shape (n_rows,).
    """
    values = []
    for shape in shapes:
        decay = shape.decay(half)
        left = shape.left(decay)[0]
        # Everything is left at the first lag, so the divisor is never 0.
        a = (excess * left).sum(1) / (left**2).sum(1)
        values.append(climb(shape, like, excess, Fitted(a, decay, a), held=True).value)
    found: Floats = np.max(values, axis=0)
    return found


def half_life_ends(
    fits: Mapping[Shape, Fitted], like: Likelihood, excess: Floats, lag: Floats, level: float
) -> tuple[float, float]:
    """Return the ends of the interval of the half-life, in steps; an open end is 0 or infinite.

    Args:
        fits: Laws fitted to the curve (row 0) and to its resamples (all other rows).
        like: The likelihood.
        excess: The curve and its resamples, shape (1 + n_draws, n_lags).
        lag: Lags in steps, shape (n_lags,).
        level: Nominal coverage.
    """
    shapes = tuple(fits)
    values = np.stack([fits[shape].value for shape in shapes])
    halves = np.stack([shape.half(fits[shape].decay) for shape in shapes])
    # A curve that is not above 0 at the first lag has nothing to lose half of.
    values = np.where(np.stack([fits[shape].a for shape in shapes]) > 0, values, -np.inf)
    above = np.isfinite(values).any(0)
    half = np.take_along_axis(halves, values.argmax(0)[None], 0)[0]
    top = values.max(0)
    grid = _grid(shapes, lag)
    held = float(np.clip(half[0], grid[0], grid[-1]))
    drawn = above & (np.arange(len(top)) > 0)
    lost = 2 * (top[drawn] - held_at(shapes, like, excess[drawn], np.full(int(drawn.sum()), held)))
    cut = float(np.quantile(lost, level, method="higher"))
    lo, hi = _accepted(shapes, like, excess[0], np.unique(np.append(grid, held)), cut, float(top[0]))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(half[drawn], tails, method="inverted_cdf").tolist()
    return min(lo, low, float(half[0])), max(hi, high, float(half[0]))


def lack_of_fit(shape: Shape, like: Likelihood, excess: Floats, a: float, decay: float) -> float:
    """Return the p value of the hypothesis that a curve follows the law that was fitted to it.

    The statistic is the weighted sum of squared residuals. Under the hypothesis, the residuals are the part
    of the noise that the fit does not absorb, and the resamples show the noise:
    r = (I - J (J' W J)^-1 J' W) noise, with J the slopes of the law in its parameters, as in a linear model.
    The statistic is not chi-squared distributed, since lags of the same items depend on each other.

    Args:
        shape: The law.
        like: The likelihood.
        excess: The curve and its resamples, shape (1 + n_draws, n_lags), at least one resample.
        a: Fitted excess at the first lag.
        decay: Fitted decay.
    """
    left, slope = (each[0] for each in shape.left(np.array([decay])))
    slopes = np.stack([left, a * slope], axis=1)
    weights = like.score(excess[:1], a * left[None])[1][0]
    projected = slopes @ np.linalg.pinv(slopes.T @ (weights[:, None] * slopes)) @ (slopes.T * weights)
    noise = (excess[1:] - excess[0]) @ (np.eye(len(left)) - projected).T
    found = (excess[0] - a * left) ** 2 @ weights
    # The curve counts as one of the resamples, so that a few resamples cannot reject a law.
    return float(((noise**2 @ weights >= found).sum() + 1) / (len(noise) + 1))


def _grid(shapes: Sequence[Shape], lag: Floats) -> Floats:
    """Return half-lives from one that leaves nothing at the second lag to one far beyond the last lag."""
    least = min(
        float(shape.first * math.expm1(shape.x[1] / 10)) if shape.law != "exponential" else shape.x[1] / 10
        for shape in shapes
    )
    return np.geomspace(least, _BEYOND * (lag[-1] - lag[0]), _N_HALVES)


def _accepted(
    shapes: Sequence[Shape], like: Likelihood, curve: Floats, grid: Floats, cut: float, top: float
) -> tuple[float, float]:
    """Return the least and largest half-life whose loss is within the cut; 0 or infinite at a grid's end."""
    lost = 2 * (top - held_at(shapes, like, np.tile(curve, (len(grid), 1)), grid))
    inside = np.flatnonzero(lost <= max(cut, float(lost.min())))
    first, last = int(inside[0]), int(inside[-1])
    # The square root of the loss is nearly linear in ln h.
    root, at = np.sqrt(np.maximum(lost, 0)), np.log(grid)

    def crossing(within: int, beyond: int) -> float:
        share = (math.sqrt(max(cut, 0)) - root[within]) / (root[beyond] - root[within])
        return math.exp(at[within] + min(max(share, 0.0), 1.0) * (at[beyond] - at[within]))

    lo = 0.0 if first == 0 else crossing(first, first - 1)
    hi = math.inf if last == len(grid) - 1 else crossing(last, last + 1)
    return lo, hi
