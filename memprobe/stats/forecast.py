"""Does what one model memorizes predict what another one memorizes? Counts, ratios and their intervals.

    precision = TP / (TP + FP),  recall = TP / (TP + FN)
    F_b = (1 + b^2) P R / (b^2 P + R) = (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)

A ratio over 0 is undefined: precision if nothing is predicted, recall if nothing is true.

References: Biderman et al. (2023), section 3, https://arxiv.org/abs/2304.11158; van Rijsbergen (1979),
Information Retrieval, chapter 7 (F); McNemar (1947), https://doi.org/10.1007/BF02295996.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memprobe.stats.documents import document_rate
from memprobe.stats.intervals import Interval
from memprobe.stats.rates import rate_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Items by prediction and truth.

    Attributes:
        tp: Number of items that are predicted and true.
        fp: Number of items that are predicted, but not true.
        fn: Number of items that are true, but not predicted.
        tn: Number of items that are neither predicted nor true.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n(self) -> int:
        """Number of all items."""
        return self.tp + self.fp + self.fn + self.tn


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of counts with its interval.

    Attributes:
        value: The ratio; None if it is undefined.
        interval: Interval of the ratio; None if the ratio is undefined, the draws do not vary, or the
            clusters are worth fewer than two of equal size.
        n: Number of items that the ratio is taken over.
        n_clusters: Number of clusters of these items.
    """

    value: float | None
    interval: Interval | None
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """How well one prediction does.

    Attributes:
        counts: Items by prediction and truth.
        precision: Share of the predicted items that are true.
        recall: Share of the true items that are predicted.
        f1: Harmonic mean of precision and recall; undefined if either of them is.
        f2: Harmonic mean in which recall has four times the weight of precision; undefined as `f1`.
        phi: Correlation of prediction and truth, -1 to 1; undefined if either of them does not vary.
    """

    counts: Counts
    precision: Ratio
    recall: Ratio
    f1: Ratio
    f2: Ratio
    phi: Ratio


def counts_of(predicted: Bools, truth: Bools) -> Counts:
    """Count items by prediction and truth; swapping the arguments swaps `fp` and `fn`."""
    parts = (predicted & truth, predicted & ~truth, ~predicted & truth, ~predicted & ~truth)
    return Counts(*(int(part.sum()) for part in parts))


def forecast(
    predicted: Bools,
    truth: Bools,
    *,
    rng: np.random.Generator,
    clusters: Whole | None = None,
    n_draws: int = 1000,
    level: float = 0.95,
) -> Forecast:
    """Judge one prediction.

    Precision and recall have the interval of all rates (`memprobe.stats.rates`). F is the share of
    (1 + b^2) TP in the sum of (1 + b^2) TP, b^2 FN and FP; its interval is the bound over documents
    (`memprobe.stats.documents`) with these weights of the items. The interval of phi is between quantiles of
    the bootstrap.

    Args:
        predicted: Whether each item is predicted, shape (n_items,).
        truth: Whether each item is true, shape (n_items,).
        rng: Source of the draws.
        clusters: Cluster number of each item, shape (n_items,); None if every item is its own cluster.
        n_draws: Number of resamples.
        level: Nominal coverage.

    Raises:
        ValueError: The lengths differ.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} predictions and {len(truth)} truths")
    counts = counts_of(predicted, truth)
    drawn = _drawn_counts(predicted, truth, clusters, n_draws, rng)
    n_all = _n_clusters(np.ones_like(truth), clusters)
    method = "cluster-bootstrap" if n_all < counts.n else "bootstrap"
    tp, fp, fn, tn = (np.asarray(each) for each in (counts.tp, counts.fp, counts.fn, counts.tn))

    def f_of(beta: float) -> Ratio:
        if not (predicted.any() and truth.any()):
            return Ratio(None, None, counts.n, n_all)
        found = _f_interval(predicted, truth, clusters, beta, level)
        return Ratio(float(f_beta(tp, fp, fn, beta)), found, counts.n, n_all)

    value = float(phi(tp, fp, fn, tn))
    spread = _percentile(phi(*drawn), level, method) if math.isfinite(value) else None
    return Forecast(
        counts=counts,
        precision=_rate(truth, predicted, clusters, level),
        recall=_rate(predicted, truth, clusters, level),
        f1=f_of(1),
        f2=f_of(2),
        phi=Ratio(value if math.isfinite(value) else None, spread, counts.n, n_all),
    )


def _f_interval(
    predicted: Bools, truth: Bools, clusters: Whole | None, beta: float, level: float
) -> Interval | None:
    """Return the bound over documents for F, the share of hits in the sum of weights."""
    square = beta * beta
    hits = (1 + square) * (predicted & truth)
    weights = hits + square * (~predicted & truth) + (predicted & ~truth)
    own = np.arange(len(weights)) if clusters is None else clusters
    sums, sizes = (np.bincount(own, weights=each).astype(np.float64) for each in (hits, weights))
    found = document_rate(sums[sizes > 0], sizes[sizes > 0], level=level)
    return found and replace(found, method=f"{found.method}-weighted")


def f_beta(tp: Whole, fp: Whole, fn: Whole, beta: float) -> Floats:
    """Return F from counts of any shape; NaN where nothing is predicted and nothing is true."""
    square = beta * beta
    hits = (1 + square) * tp
    return _over(hits, hits + square * fn + fp)


def phi(tp: Whole, fp: Whole, fn: Whole, tn: Whole) -> Floats:
    """Return (TP TN - FP FN) / sqrt of the product of all margins; NaN where a margin is 0."""
    a, b, c, d = (np.asarray(each, dtype=np.float64) for each in (tp, fp, fn, tn))
    return _over(a * d - b * c, np.sqrt((a + b) * (a + c) * (b + d) * (c + d)))


def _over(above: ArrayLike, below: ArrayLike) -> Floats:
    """Return `above / below`, NaN where `below` is 0."""
    over = np.asarray(below, dtype=np.float64)
    result = np.full(over.shape, np.nan)
    np.divide(above, over, out=result, where=over > 0)
    return result


def _drawn_counts(
    predicted: Bools, truth: Bools, clusters: Whole | None, n_draws: int, rng: np.random.Generator
) -> Whole:
    """Return TP, FP, FN and TN of resampled clusters, shape (4, n_draws).

    Clusters with the same four counts are interchangeable, so only the number of draws of each kind matters,
    and this is multinomial.
    """
    kind = np.where(truth, np.where(predicted, 0, 2), np.where(predicted, 1, 3))
    if not len(kind):
        return np.zeros((4, n_draws), dtype=np.int64)
    if clusters is None:
        kinds, often = np.eye(4, dtype=np.int64), np.bincount(kind, minlength=4)
    else:
        each = np.bincount(4 * clusters + kind, minlength=4 * (int(clusters.max()) + 1)).reshape(-1, 4)
        kinds, often = _distinct(each[each.any(1)])
    n = int(often.sum())
    drawn = rng.multinomial(n, often / n, size=n_draws) @ kinds
    return np.asarray(drawn.T, dtype=np.int64)


def _distinct(rows: Whole) -> tuple[Whole, Whole]:
    """Return the distinct rows of four counts and how often each occurs, faster than `np.unique` by rows."""
    base = int(rows.max()) + 1
    left, right = (
        np.unique(rows[:, i] * base + rows[:, i + 1], return_inverse=True)[1].reshape(-1) for i in (0, 2)
    )
    _, first, often = np.unique(left * len(rows) + right, return_index=True, return_counts=True)
    return rows[first], often


def _n_clusters(chosen: Bools, clusters: Whole | None) -> int:
    return int(chosen.sum()) if clusters is None else int(np.count_nonzero(np.bincount(clusters[chosen])))


def _rate(hit: Bools, among: Bools, clusters: Whole | None, level: float) -> Ratio:
    """Return the share of hits among some of the items, with the interval of all rates."""
    n = int(among.sum())
    if n == 0:
        return Ratio(None, None, 0, 0)
    values = hit[among].astype(np.float64)
    names = np.arange(n) if clusters is None else clusters[among]
    numbers, own = np.unique(names, return_inverse=True)
    return Ratio(float(values.mean()), rate_interval(values, own, level=level), n, len(numbers))


def _percentile(draws: Floats, level: float, method: str) -> Interval | None:
    """Return the percentile interval of the defined draws; None where they do not vary."""
    known = draws[np.isfinite(draws)]
    if len(known) < 2 or np.ptp(known) == 0:
        return None
    lo, hi = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lo), float(hi), level, method)


def mcnemar(first: Bools, second: Bools) -> float:
    """Return the exact two-sided p value of the hypothesis that two predictions hit equally often.

    Args:
        first: Whether the first prediction hits each item, shape (n_items,).
        second: Whether the second prediction does; items on which both agree do not count.
    """
    from scipy.special import bdtr

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * float(bdtr(fewer, n, 0.5))) if n else 1.0
