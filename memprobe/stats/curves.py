"""Forgetting curves: power, exponential and logarithmic laws fitted to an excess by lag, and its half-life.

With t the lag, t1 the first lag, and an offset of one step that keeps the laws finite at lag 0:

    power        a ((1 + t) / (1 + t1))^-b
    exponential  a exp(-k (t - t1))
    logarithmic  a - d log10((1 + t) / (1 + t1))

so `a` is always the fitted excess at the first lag, and all three decay towards no excess. Sources: Orhan
(2023), https://arxiv.org/abs/2303.17557, whose curves are fitted on log10(1 + t); Chang et al. (2024),
https://arxiv.org/abs/2406.11813, R = -d log10(t / tau); Wixted and Ebbesen (1991),
https://doi.org/10.1111/j.1467-9280.1991.tb00175.x, for the power law.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Law = Literal["power", "exponential", "logarithmic"]
LAWS: tuple[Law, ...] = get_args(Law)

MIN_LAGS = 3
_N_PARAMETERS = 2
_GRID = 96
_GOLDEN = (math.sqrt(5) - 1) / 2
# Each step shortens the bracket by 0.618: sixty leave less of it than rounding does.
_GOLDEN_STEPS = 60
# A decay in which no more than this is left at the second lag: the lags cannot tell how fast it is.
_GONE = 1e-3
_LARGEST_DECAY = math.log(1e6)
# Residuals this small beside the data, as a share of squares, are rounding.
_ROUNDING = 1e-20


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted number with its percentile interval; None where the draws do not bound it."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True)
class HalfLife:
    """Steps from the first lag to the lag where the fitted excess is half of that at the first lag.

    Attributes:
        steps: The half-life; None where the observed lags do not hold it, see `reason`.
        lo: Lower end of its interval; never beyond the observed lags, so where half is not reached it is
            at most as many steps as were observed; 0 where nothing excludes that half is lost at once.
        hi: Upper end; None where it lies beyond the observed lags.
        reason: Why `steps` or an end is None; None where all are there.
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
        parameters: Name to fitted number: `a` (excess at the first lag) and `exponent`, `decay_per_step`, or
            `decay_per_decade` with `log10_tau` (log10 of offset + lag where nothing is left).
        residual_se: Weighted residual standard error on n - 2 degrees of freedom, in the unit of the excess,
            the weights scaled to a mean of 1.
        aic: n ln(weighted sum of squares / n) + 2 (2 + 1), to be compared between laws on the same
            points only; None where the residuals are no more than rounding.
        half_life: See there.
    """

    law: Law
    parameters: Mapping[str, Parameter]
    residual_se: float
    aic: float | None
    half_life: HalfLife


@dataclass(frozen=True, slots=True)
class _Solved:
    """A law fitted to many curves on the same lags.

    Attributes:
        a: Excess at the first lag, shape (n_curves,).
        fall: Decay in the law's own time; positive falls, shape (n_curves,).
        squares: Weighted sum of squared residuals, shape (n_curves,).
    """

    a: Floats
    fall: Floats
    squares: Floats


def fit_law(
    law: Law,
    lag: Floats,
    excess: Floats,
    *,
    draws: Floats,
    weights: Floats | None = None,
    offset: float = 1.0,
    level: float = 0.95,
) -> CurveFit:
    """Fit a law by weighted least squares, to the curve and to each of its bootstrap draws.

    Args:
        law: Which.
        lag: Steps, rising, shape (n_lags,).
        excess: What is left over the baseline at each lag, finite, shape (n_lags,).
        draws: The same of each resample, shape (n_draws, n_lags); no rows: no intervals.
        weights: Of each lag, above 0, shape (n_lags,); None: all alike.
        offset: Steps added to the lag in the power and logarithmic laws; with 0 the lags must be above 0.
        level: Nominal coverage.

    Raises:
        ValueError: There are fewer than three lags, they do not rise, or the excess is 0 at all of them.
    """
    if len(lag) < MIN_LAGS:
        raise ValueError(f"{len(lag)} {'lag' if len(lag) == 1 else 'lags'}, and a fit needs {MIN_LAGS}")
    if lag[0] + offset <= 0 or (np.diff(lag) <= 0).any():
        raise ValueError("lags must rise from 0 or more")
    if not excess.any():
        raise ValueError("the excess is 0 at every lag")
    w = np.ones(len(lag)) if weights is None else weights / weights.mean()
    x = lag - lag[0] if law == "exponential" else np.log((offset + lag) / (offset + lag[0]))
    solve = _linear if law == "logarithmic" else _exponential
    solved = solve(x, np.vstack([excess, draws]), w)
    squares = float(solved.squares[0])
    rounding = squares <= _ROUNDING * float((w * excess**2).sum())
    n = len(lag)
    return CurveFit(
        law,
        _parameters(law, solved, offset + float(lag[0]), level),
        math.sqrt(squares / (n - _N_PARAMETERS)),
        None if rounding else n * math.log(squares / n) + 2 * (_N_PARAMETERS + 1),
        _half_life(law, solved, lag, x, offset, level),
    )


def best_law(fits: Mapping[Law, CurveFit]) -> Law | None:
    """Return the law with the smallest AIC, a perfect fit before any other; None of no fits."""
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
    """Fit a exp(-fall x) to each row of y: the best a for each fall is linear, fall is searched.

    A grid over both signs finds the bracket, golden section the minimum in it.
    """
    small = 1e-4 / x[-1]
    falls = np.geomspace(small, _LARGEST_DECAY / x[1], _GRID)
    rises = np.geomspace(small, _LARGEST_DECAY / x[-1], _GRID // 4)
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


def _parameters(law: Law, solved: _Solved, first: float, level: float) -> dict[str, Parameter]:
    names = {"power": "exponent", "exponential": "decay_per_step", "logarithmic": "decay_per_decade"}
    found = {"a": solved.a, names[law]: solved.fall}
    if law == "logarithmic" and solved.fall[0] > 0:
        # Where a draw does not fall, nothing is ever lost.
        falling = solved.fall > 0
        decades = np.divide(solved.a, solved.fall, out=np.full_like(solved.a, np.inf), where=falling)
        found["log10_tau"] = decades + math.log10(first)
    return {name: _parameter(values, level) for name, values in found.items()}


def _parameter(values: Floats, level: float) -> Parameter:
    lo, hi = _ends(values[1:], level)
    return Parameter(
        float(values[0]), *(end if end is not None and math.isfinite(end) else None for end in (lo, hi))
    )


def _ends(draws: Floats, level: float) -> tuple[float | None, float | None]:
    """Return the ends of the percentile interval; a draw itself, so that infinities do no harm."""
    if not len(draws):
        return None, None
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(ends[0]), float(ends[1])


def _half_life(law: Law, solved: _Solved, lag: Floats, x: Floats, offset: float, level: float) -> HalfLife:
    """Return the half-life as far as the observed lags hold it."""
    a_lo, _ = _ends(solved.a[1:], level)
    a = float(solved.a[0])
    if min(a, a if a_lo is None else a_lo) <= 0:
        text = f"the excess at the first lag, {a:.2g}, is not clearly above 0"
        return HalfLife(None, None, None, text)
    observed = float(lag[-1] - lag[0])
    # In a power or exponential law less than any lag can tell may be left at the second one.
    gone = (law != "logarithmic") & (np.exp(-solved.fall * x[1]) < _GONE)
    halves = np.where(gone, 0.0, _half(law, solved, float(lag[0]) + offset))
    lo, hi = _ends(halves[1:][solved.a[1:] > 0], level)
    lo = None if lo is None else min(lo, observed)
    beyond = hi is not None and hi > observed
    hi = None if beyond else hi
    half = float(halves[0])
    if gone[0]:
        gap = float(lag[1] - lag[0])
        hi = hi if hi is None else max(hi, gap)
        return HalfLife(None, lo, hi, f"half is lost before the second lag, {gap:,.6g} steps after the first")
    if half > observed:
        falls = solved.fall[0] > 0
        text = f"half is not reached by {observed:,.6g} steps" if falls else "the fitted curve does not fall"
        return HalfLife(None, lo, hi, text)
    if lo is None:
        return HalfLife(half, None, None, "no interval: no draws, or items of a single cluster")
    return HalfLife(
        half, lo, hi, f"its upper end is not reached by {observed:,.6g} steps" if beyond else None
    )


def _half(law: Law, solved: _Solved, first: float) -> Floats:
    """Return the half-lives of the fitted curves in steps, infinite where they do not fall."""
    falling = solved.fall > 0
    fall = np.where(falling, solved.fall, 1.0)
    with np.errstate(over="ignore"):
        if law == "exponential":
            steps = math.log(2) / fall
        elif law == "power":
            steps = first * np.expm1(math.log(2) / fall)
        else:
            steps = first * np.expm1(math.log(10) * solved.a / (2 * fall))
    found: Floats = np.where(falling, steps, np.inf)
    return found
