"""Dose-response of item outcomes: linear in log10 of the dose, and by logistic regression.

Standard errors let items of one cluster depend on each other: the sandwich of Liang and Zeger (1986),
https://doi.org/10.1093/biomet/73.1.13, with the small-sample factor G/(G-1) (N-1)/(N-2) and t quantiles
on G-1 degrees of freedom of Cameron and Miller (2015), sections II and VI,
https://doi.org/10.3368/jhr.50.2.317. Separation: Albert and Anderson (1984),
https://doi.org/10.1093/biomet/71.1.1.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.intervals import Interval

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_MAX_STEPS = 100
# Newton's steps shrink quadratically: after a relative step of 1e-10 the error is far below rounding.
_SMALL_STEP = 1e-10
# What rounding leaves of a sum that is 0 in exact arithmetic, as a share of its largest term.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Cells:
    """Item outcomes summed by dose, or by dose and cluster: all that the fits need.

    Attributes:
        log10_x: log10 of the doses that occur, rising, shape (n_levels,).
        level: Index of each cell's dose in `log10_x`, shape (n_cells,).
        n: Number of items in each cell, shape (n_cells,).
        total: Sum of the outcomes in each cell, shape (n_cells,).
        squares: Sum of the squared outcomes in each cell, shape (n_cells,).
        cluster: Cluster number of each cell, 0 to n_clusters - 1; None if every item is its own cluster.
    """

    log10_x: Floats
    level: Whole
    n: Floats
    total: Floats
    squares: Floats
    cluster: Whole | None = None

    @property
    def n_items(self) -> int:
        """Number of items in all cells."""
        return int(self.n.sum())

    @property
    def n_clusters(self) -> int:
        """Number of clusters in all cells."""
        return self.n_items if self.cluster is None else int(self.cluster.max()) + 1

    def by_level(self, values: Floats) -> Floats:
        """Return the sum of a cell value over each dose, shape (n_levels,)."""
        return np.bincount(self.level, weights=values, minlength=len(self.log10_x)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted dose-response.

    Attributes:
        slope: Change of the mean outcome, or of its log odds, per tenfold dose; positive if it rises. None if
            there is none, see `reason`.
        intercept: Value of the fit at a dose of 1.
        se: Standard error of the slope; None if it is not known, see `reason`.
        interval: Interval of the slope.
        p_value: Two-sided p value of the hypothesis of no slope.
        r2_of_means: Share of the variance of the doses' mean outcomes that a line through them explains,
            with equal weight for every dose; None for fewer than three doses or if all means agree.
        reason: Why there is no slope, or no standard error of it; None if both are known.
    """

    slope: float | None = None
    intercept: float | None = None
    se: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    r2_of_means: float | None = None
    reason: str | None = None


def tabulate(x: Floats, y: Floats, clusters: Whole | None = None) -> Cells:
    """Sum outcomes by dose and cluster.

    Args:
        x: Dose of each item, above 0, shape (n_items,).
        y: Outcome of each item, finite, shape (n_items,).
        clusters: Cluster number of each item, 0 to n_clusters - 1; None if every item is its own cluster.

    Raises:
        ValueError: There are fewer than two doses, a dose is not above 0, or the lengths differ.
    """
    if len(x) != len(y) or (clusters is not None and len(clusters) != len(y)):
        raise ValueError(f"{len(x)} doses for {len(y)} outcomes")
    if len(x) and not (np.isfinite(x).all() and x.min() > 0):
        raise ValueError("a dose is not a number above 0, so it has no logarithm")
    levels, level = np.unique(x, return_inverse=True)
    if len(levels) < 2:
        raise ValueError(f"{len(levels)} doses; a slope needs two")
    if clusters is None:
        n, total, squares = (
            np.bincount(level, weights=each).astype(np.float64) for each in (np.ones(len(y)), y, y * y)
        )
        return Cells(np.log10(levels), np.arange(len(levels)), n, total, squares)
    return Cells(np.log10(levels), level.astype(np.int64), np.ones(len(y)), y, y * y, clusters)


def linear(cells: Cells, *, level: float = 0.95) -> Fit:
    """Fit mean outcome = intercept + slope log10(dose) over items by least squares.

    Args:
        cells: Outcomes by dose and cluster.
        level: Nominal coverage of the interval.

    Returns:
        The fit; without a slope if every outcome is the same, since the data then say nothing about it.
    """
    x = cells.log10_x
    n, total = cells.by_level(cells.n), cells.by_level(cells.total)
    if (reason := _no_spread(cells)) is not None:
        return Fit(reason=reason)
    centred = x - (n * x).sum() / n.sum()
    bread = float((n * centred**2).sum())
    slope = float((centred * total).sum() / bread)
    intercept = float((total.sum() - slope * (n * x).sum()) / n.sum())
    se, why = _error(cells, centred, intercept + slope * x, bread)
    return _fit(cells, slope, intercept, se, why, level)


def log_odds(cells: Cells, *, level: float = 0.95) -> Fit:
    """Fit ln(p / (1 - p)) = intercept + slope log10(dose) by maximum likelihood (Newton's method).

    Args:
        cells: Outcomes of 0 and 1 by dose and cluster.
        level: Nominal coverage of the interval.

    Returns:
        The fit; without a slope if a dose separates the outcomes, since the likelihood then rises without
        limit in the slope, or if the search does not converge.

    Raises:
        ValueError: An outcome is neither 0 nor 1.
    """
    if not np.array_equal(cells.squares, cells.total) or (cells.total > cells.n).any():
        raise ValueError("a logistic fit needs outcomes of 0 and 1")
    n, total = cells.by_level(cells.n), cells.by_level(cells.total)
    if (reason := _no_spread(cells) or _separation(cells.log10_x, n, total)) is not None:
        return Fit(reason=reason, r2_of_means=_r2_of_means(cells.log10_x, total / n))
    found = _newton(cells.log10_x, n, total)
    if found is None:
        return Fit(reason=f"Newton's method found no end in {_MAX_STEPS} steps")
    intercept, slope = found
    p = _expit(intercept + slope * cells.log10_x)
    weight = n * p * (1 - p)
    centred = cells.log10_x - (weight * cells.log10_x).sum() / weight.sum()
    se, why = _error(cells, centred, p, float((weight * centred**2).sum()))
    return _fit(cells, slope, intercept, se, why, level)


def _no_spread(cells: Cells) -> str | None:
    mean = cells.total.sum() / cells.n.sum()
    spread = cells.squares.sum() - mean * cells.total.sum()
    if spread > _ROUNDING * max(1.0, float(cells.squares.sum())):
        return None
    return f"every outcome is {mean:.6g}"


def _separation(log10_x: Floats, n: Floats, total: Floats) -> str | None:
    """Return how one dose separates zeros from ones; None if no dose does."""
    x = 10**log10_x
    ones, zeros = x[total > 0], x[total < n]
    if zeros.max() <= ones.min():
        return f"separated: no 1 below {ones.min():.6g}, no 0 above {zeros.max():.6g}"
    if ones.max() <= zeros.min():
        return f"separated: no 0 below {zeros.min():.6g}, no 1 above {ones.max():.6g}"
    return None


def _newton(x: Floats, n: Floats, total: Floats) -> tuple[float, float] | None:
    """Return intercept and slope of the largest likelihood, which is unique without separation."""
    middle, scale = float((n * x).sum() / n.sum()), float(np.ptp(x))
    z = (x - middle) / scale
    rate = total.sum() / n.sum()
    a, b = math.log(rate / (1 - rate)), 0.0
    likelihood = _log_likelihood(a + b * z, n, total)
    for _ in range(_MAX_STEPS):
        p = _expit(a + b * z)
        rest, weight = total - n * p, n * p * (1 - p)
        w0, w1, w2 = weight.sum(), (weight * z).sum(), (weight * z * z).sum()
        g0, g1 = rest.sum(), (rest * z).sum()
        determinant = w0 * w2 - w1 * w1
        step_a, step_b = (w2 * g0 - w1 * g1) / determinant, (w0 * g1 - w1 * g0) / determinant
        share = 1.0
        # Far from the maximum a whole step may overshoot; a loss of up to 1e-9 is only rounding.
        while _log_likelihood(a + share * step_a + (b + share * step_b) * z, n, total) < likelihood - 1e-9:
            share /= 2
        a, b = a + share * step_a, b + share * step_b
        likelihood = _log_likelihood(a + b * z, n, total)
        if max(abs(step_a), abs(step_b)) < _SMALL_STEP * max(1.0, abs(a), abs(b)):
            return a - b * middle / scale, b / scale
    return None


def _log_likelihood(logit: Floats, n: Floats, total: Floats) -> float:
    return float((total * logit - n * np.logaddexp(0.0, logit)).sum())


def _expit(logit: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logit / 2)), dtype=np.float64)


def _error(cells: Cells, centred: Floats, expected: Floats, bread: float) -> tuple[float | None, str | None]:
    """Return the standard error of a slope, or why there is none.

    With the other coefficient projected out, the sandwich is a sum over clusters of squared scores:
    se^2 = factor sum_c (sum_i in c (x_i - centre)(y_i - expected_i))^2 / bread^2.
    """
    n_items, n_clusters = cells.n_items, cells.n_clusters
    if n_clusters < 2 or n_items < 3:
        return None, f"{n_clusters} clusters of {n_items} items show no error"
    at, mean = centred[cells.level], expected[cells.level]
    if cells.cluster is None:
        squared = at**2 * (cells.squares - 2 * mean * cells.total + cells.n * mean**2)
    else:
        scores = np.bincount(cells.cluster, weights=at * (cells.total - cells.n * mean)).astype(np.float64)
        squared = scores**2
    largest = float((at**2 * cells.n).sum()) * float(cells.squares.max())
    meat = float(squared.sum())
    if meat <= _ROUNDING * largest:
        return None, "the clusters do not differ around the fit, so they show no error"
    factor = n_clusters / (n_clusters - 1) * (n_items - 1) / (n_items - 2)
    return math.sqrt(factor * meat) / bread, None


def _fit(
    cells: Cells, slope: float, intercept: float, se: float | None, why: str | None, level: float
) -> Fit:
    means = cells.by_level(cells.total) / cells.by_level(cells.n)
    r2 = _r2_of_means(cells.log10_x, means)
    if se is None:
        return Fit(slope, intercept, r2_of_means=r2, reason=why)
    from scipy.special import stdtr, stdtrit

    freedom = cells.n_clusters - 1
    half = float(stdtrit(freedom, 0.5 + level / 2)) * se
    method = "t-robust" if cells.cluster is None else "t-cluster-robust"
    return Fit(
        slope,
        intercept,
        se,
        Interval(slope - half, slope + half, level, method),
        float(2 * stdtr(freedom, -abs(slope) / se)),
        r2,
    )


def _r2_of_means(x: Floats, means: Floats) -> float | None:
    if len(x) < 3:
        return None
    dx, dy = x - x.mean(), means - means.mean()
    spread = float((dy**2).sum())
    if spread <= _ROUNDING * float((means**2).sum()):
        return None
    return float((dx * dy).sum()) ** 2 / (float((dx**2).sum()) * spread)
