"""Forgetting curves: power, exponential and logarithmic laws of the excess by lag, and its half-life.

With t the lag, t1 the first lag, and an offset of one step that keeps the laws finite at lag 0:

    power        a ((1 + t) / (1 + t1))^-b
    exponential  a exp(-k (t - t1))
    logarithmic  a - d log10((1 + t) / (1 + t1))

so `a` is always the fitted excess at the first lag, and all three decay towards no excess. Sources: Orhan
(2023), https://arxiv.org/abs/2303.17557, whose curves are fitted on log10(1 + t); Chang et al. (2024),
https://arxiv.org/abs/2406.11813, R = -d log10(t / tau); Wixted and Ebbesen (1991),
https://doi.org/10.1111/j.1467-9280.1991.tb00175.x, for the power law. Rates are fitted by the binomial
likelihood, averages of other values by weighted least squares. Intervals of half-lives: half_life.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from memprobe.stats.half_life import (
    LARGEST,
    LAWS,
    Binomial,
    Fitted,
    Floats,
    Law,
    Likelihood,
    Normal,
    Shape,
    climb,
    expanded,
    half_life_ends,
    lack_of_fit,
)

MIN_LAGS = 3
UNFIT_P = 0.01
"""Below this p value a curve does not follow a law, and the law says nothing of its half-life."""
_UNFIT = f"the curve does not follow the law (p below {UNFIT_P:g})"
_N_PARAMETERS = 2
_GRID = 96
_GOLDEN = (math.sqrt(5) - 1) / 2
# Each step shortens the bracket to 0.618 of its length; after sixty it is shorter than a rounding error.
_GOLDEN_STEPS = 60
# Residuals whose squares are at most this share of the squares of the data are rounding errors.
_ROUNDING = 1e-20
# Ratio of the mean squared excess to the variance of a lag in ln L, where only differences between laws
# matter; and a number in place of 0.
_SHARP, _TINY = 1e4, 1e-300


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted number with its percentile interval; an end that the draws do not bound is None."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True)
class HalfLife:
    """Steps from the first lag to the lag where the fitted excess is half of that at the first lag.

    Attributes:
        steps: The half-life; None if the observed lags do not show it, see `reason`.
        lo: Lower end of the interval, at most the range of the observed lags, even if half is not reached;
            0 if it cannot be excluded that half is lost at once.
        hi: Upper end of the interval; None if it lies beyond the observed lags.
        reason: Why `steps` or an end is None; None if all are known.
    """

    steps: float | None
    lo: float | None
    hi: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class CurveFit:
    """One law fitted to one curve.

    Attributes:
        law: The law.
        parameters: Fitted numbers by name: `a` (excess at the first lag) and, by law, `exponent`,
            `decay_per_step`, or `decay_per_decade` with `log10_tau` (log10 of offset + lag where nothing is
            left).
        residual_se: Weighted residual standard error on n - 2 degrees of freedom, in the unit of the excess,
            the weights scaled to a mean of 1.
        aic: n ln(weighted sum of squares / n) + 2 (2 + 1), for rates -2 ln L + 2 2; only comparable between
            laws on the same points. None if the residuals are only rounding errors.
        half_life: The half-life, with an interval that takes the law as given.
        half_life_anew: The same half-life, with an interval for which each draw chooses its law; without
            numbers if the curve does not follow the law.
        fit_p: p value of the hypothesis that the curve follows the law; None without draws.
    """

    law: Law
    parameters: Mapping[str, Parameter]
    residual_se: float
    aic: float | None
    half_life: HalfLife
    half_life_anew: HalfLife
    fit_p: float | None

    @property
    def is_unfit(self) -> bool:
        """Whether the half-life is withheld because the curve does not follow the law."""
        return self.half_life_anew.reason == _UNFIT


@dataclass(frozen=True, slots=True)
class _Solved:
    """A law fitted to many curves on the same lags.

    Attributes:
        a: Excess at the first lag, shape (n_curves,).
        fall: Rate of decay on the law's time scale, positive where the curve falls, shape (n_curves,).
        squares: Weighted sum of squared residuals, shape (n_curves,).
    """

    a: Floats
    fall: Floats
    squares: Floats


def fit_laws(
    lag: Floats,
    excess: Floats,
    *,
    draws: Floats,
    weights: Floats | Binomial | None = None,
    n_clusters: int | None = None,
    offset: float = 1.0,
    level: float = 0.95,
    laws: Sequence[Law] = LAWS,
) -> dict[Law, CurveFit]:
    """Fit laws to a curve and its bootstrap draws, by weighted least squares or by the likelihood of rates.

    Args:
        lag: Lags in steps, rising, shape (n_lags,).
        excess: Excess over the baseline at each lag, finite, shape (n_lags,).
        draws: Excess in each resample, shape (n_draws, n_lags); without rows there are no intervals.
        weights: Weight of each lag, above 0, shape (n_lags,), or the likelihood of rates; None for equal
            weights.
        n_clusters: Number of clusters that are resampled; None if it is too large to matter.
        offset: Steps added to the lag in the power and logarithmic laws; with 0 the lags must be above 0.
        level: Nominal coverage.
        laws: Laws to fit.

    Raises:
        ValueError: There are fewer than three lags, they do not rise, or the excess is 0 at all of them.
    """
    if len(lag) < MIN_LAGS:
        raise ValueError(f"{len(lag)} {'lag' if len(lag) == 1 else 'lags'}, and a fit needs {MIN_LAGS}")
    if lag[0] + offset <= 0 or (np.diff(lag) <= 0).any():
        raise ValueError("lags must rise from 0 or more")
    if not excess.any():
        raise ValueError("the excess is 0 at every lag")
    if isinstance(weights, Binomial):
        like: Likelihood = weights
        w = _scaled(weights.score(excess, excess)[1])
    else:
        w = np.ones(len(lag)) if weights is None else _scaled(weights)
        like = Normal(w * (_SHARP / float((w * excess**2).mean())))
    rows = np.vstack([excess, draws])
    shapes = {law: Shape.of(law, lag, offset, stops=isinstance(weights, Binomial)) for law in laws}
    fitted = {law: _fitted(shape, rows, w, like) for law, shape in shapes.items()}
    wide = level if n_clusters is None or n_clusters < 2 else expanded(level, n_clusters)

    def ends_among(among: Sequence[Law]) -> Callable[[], tuple[float, float]]:
        own = {shapes[each]: fitted[each] for each in among}
        return cache(lambda: half_life_ends(own, like, rows, lag, wide))

    again = ends_among(laws)

    def half_life(law: Law, ends: Callable[[], tuple[float, float]]) -> HalfLife:
        return _half_life(float(shapes[law].half(fitted[law].decay[:1])[0]), fitted[law], lag, wide, ends)

    def half_life_anew(law: Law, p: float | None) -> HalfLife:
        found = half_life(law, again)
        # A curve that is not above 0 has nothing to lose half of, whatever its law.
        refused = p is not None and p < UNFIT_P and found.lo is not None
        return HalfLife(None, None, None, _UNFIT) if refused else found

    def fit(law: Law, found: Fitted) -> CurveFit:
        p = None
        if len(draws):
            p = lack_of_fit(shapes[law], like, rows, float(found.a[0]), float(found.decay[0]))
        return CurveFit(
            law,
            _parameters(law, found, offset + float(lag[0]), level),
            **_quality(shapes[law], found, like, excess, w),
            half_life=half_life(law, ends_among((law,))),
            half_life_anew=half_life_anew(law, p),
            fit_p=p,
        )

    return {law: fit(law, each) for law, each in fitted.items()}


def _scaled(weights: Floats) -> Floats:
    found: Floats = weights / weights.mean()
    return found


def _fitted(shape: Shape, rows: Floats, w: Floats, like: Likelihood) -> Fitted:
    """Fit a law to each row by least squares; for rates this is the start of maximizing the likelihood."""
    solved = (_linear if shape.law == "logarithmic" else _exponential)(shape.x, rows, w)
    a, decay = solved.a, solved.fall
    if shape.law == "logarithmic":
        decay = decay / (np.where(a == 0, _TINY, a) * math.log(10))
    if isinstance(like, Binomial):
        return climb(shape, like, rows, Fitted(a, np.clip(decay, shape.least, shape.most), a))
    return Fitted(a, decay, like.value(rows, a[:, None] * shape.left(decay)[0]))


def _quality(shape: Shape, fitted: Fitted, like: Likelihood, excess: Floats, w: Floats) -> dict[str, Any]:
    """Return `residual_se` and `aic` of the fit to the curve itself."""
    n = len(excess)
    residuals = excess - fitted.a[0] * shape.left(fitted.decay[:1])[0][0]
    squares = float(w @ residuals**2)
    if isinstance(like, Binomial):
        aic: float | None = -2 * float(fitted.value[0]) + 2 * _N_PARAMETERS
    else:
        rounding = squares <= _ROUNDING * float((w * excess**2).sum())
        aic = None if rounding else n * math.log(squares / n) + 2 * (_N_PARAMETERS + 1)
    return {"residual_se": math.sqrt(squares / (n - _N_PARAMETERS)), "aic": aic}


def best_law(fits: Mapping[Law, CurveFit]) -> Law | None:
    """Return the law with the smallest AIC, or one that fits perfectly; None without fits."""
    if not fits:
        return None
    return min(fits, key=lambda law: -math.inf if (aic := fits[law].aic) is None else aic)


def _linear(x: Floats, y: Floats, w: Floats) -> _Solved:
    """Fit a - fall x / ln 10 to each row of y: x is a natural logarithm, the slope is per decade."""
    z = x / math.log(10)
    centre = (w * z).sum() / w.sum()
    mean = y @ w / w.sum()
    slope = (y - mean[:, None]) @ (w * (z - centre)) / (w * (z - centre) ** 2).sum()
    a = mean - slope * centre
    residuals = y - a[:, None] - slope[:, None] * z
    return _Solved(a, -slope, (residuals**2) @ w)


def _exponential(x: Floats, y: Floats, w: Floats) -> _Solved:
    """Fit a exp(-fall x) to each row of y: fall is searched, and the best a for it has a closed form.

    A grid over both signs of fall finds a bracket, and golden section the best fall in it.
    """
    small = 1e-4 / x[-1]
    falls = np.geomspace(small, LARGEST / x[1], _GRID)
    rises = np.geomspace(small, LARGEST / x[-1], _GRID // 4)
    grid = np.concatenate([-rises[::-1], [0.0], falls])
    shapes = np.exp(-grid[:, None] * x)
    gained = ((y * w) @ shapes.T) ** 2 / ((shapes**2) @ w)
    best = gained.argmax(1)
    lo, hi = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    fall = _golden(x, y, w, lo, hi)
    shape = np.exp(-fall[:, None] * x)
    a = ((y * w) * shape).sum(1) / ((shape**2) @ w)
    return _Solved(a, fall, ((y - a[:, None] * shape) ** 2) @ w)


def _golden(x: Floats, y: Floats, w: Floats, lo: Floats, hi: Floats) -> Floats:
    """Return where in [lo, hi] the explained sum of squares of each row is largest."""

    def explained(fall: Floats) -> Floats:
        shape = np.exp(-fall[:, None] * x)
        total: Floats = ((y * w) * shape).sum(1) ** 2 / ((shape**2) @ w)
        return total

    inner = hi - _GOLDEN * (hi - lo), lo + _GOLDEN * (hi - lo)
    values = explained(inner[0]), explained(inner[1])
    for _ in range(_GOLDEN_STEPS):
        left = values[0] >= values[1]
        lo, hi = np.where(left, lo, inner[0]), np.where(left, inner[1], hi)
        fresh = np.where(left, hi - _GOLDEN * (hi - lo), lo + _GOLDEN * (hi - lo))
        value = explained(fresh)
        inner = np.where(left, fresh, inner[1]), np.where(left, inner[0], fresh)
        values = np.where(left, value, values[1]), np.where(left, values[0], value)
    middle: Floats = (lo + hi) / 2
    return middle


def _parameters(law: Law, fitted: Fitted, first: float, level: float) -> dict[str, Parameter]:
    names = {"power": "exponent", "exponential": "decay_per_step", "logarithmic": "decay_per_decade"}
    fall = fitted.decay * fitted.a * math.log(10) if law == "logarithmic" else fitted.decay
    found = {"a": fitted.a, names[law]: fall}
    if law == "logarithmic" and fall[0] > 0:
        # If a draw does not fall, nothing is ever lost.
        decades = np.divide(fitted.a, fall, out=np.full_like(fitted.a, np.inf), where=fall > 0)
        found["log10_tau"] = decades + math.log10(first)
    return {name: _parameter(values, level) for name, values in found.items()}


def _parameter(values: Floats, level: float) -> Parameter:
    lo, hi = _ends(values[1:], level)
    return Parameter(
        float(values[0]), *(end if end is not None and math.isfinite(end) else None for end in (lo, hi))
    )


def _ends(draws: Floats, level: float) -> tuple[float | None, float | None]:
    """Return the ends of the percentile interval; each is one of the draws, so infinite draws are allowed."""
    if not len(draws):
        return None, None
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(ends[0]), float(ends[1])


def _half_life(
    half: float, fitted: Fitted, lag: Floats, level: float, ends: Callable[[], tuple[float, float]]
) -> HalfLife:
    """Return the half-life as far as the observed lags show it.

    Args:
        half: Half-life by the reported law; 0 if nothing is left at the second lag.
        fitted: The reported law.
        lag: Lags in steps, shape (n_lags,).
        level: Level of the percentile interval of the draws.
        ends: Returns the ends of the interval of the half-life; called only if there is an interval.
    """
    a_lo, _ = _ends(fitted.a[1:], level)
    a, observed = float(fitted.a[0]), float(lag[-1] - lag[0])
    if min(a, a if a_lo is None else a_lo) <= 0:
        text = f"the excess at the first lag, {a:.2g}, is not clearly above 0"
        return HalfLife(None, None, None, text)
    lo = hi = None
    if a_lo is not None:
        first, last = ends()
        lo, hi = min(first, half, observed), None if max(last, half) > observed else max(last, half)
    if half == 0:
        gap = float(lag[1] - lag[0])
        hi = hi if hi is None else max(hi, gap)
        return HalfLife(None, lo, hi, f"half is lost before the second lag, {gap:,.6g} steps after the first")
    if half > observed:
        falls = fitted.decay[0] > 0
        text = f"half is not reached by {observed:,.6g} steps" if falls else "the fitted curve does not fall"
        return HalfLife(None, lo, hi, text)
    if lo is None:
        return HalfLife(half, None, None, "no interval: no draws, or items of a single cluster")
    beyond = f"its upper end is not reached by {observed:,.6g} steps"
    return HalfLife(half, lo, hi, beyond if hi is None else None)
