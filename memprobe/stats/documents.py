"""A confidence bound for a rate whose items come in documents, which may be memorized whole.

Estimates of how much items of a document agree fail where the memorized document was not drawn, so
this bound uses none. To the documents that were seen it adds a pseudo-document of typical size that
is all hits (for the upper bound) or none (for the lower), and lets random weights decide:

    upper u:  P( sum_i G_i (x_i - u m_i) + G_0 M (1 - u) > 0 ) = (1 - level) / 2

with independent G ~ Exp(1), x_i hits among the m_i items of document i, and M = sum m_i^2 / sum m_i, the
size of the document of a random item. With one item per document this is the bound of Clopper and Pearson.
It never falls when a hit is added.

References: Gaffke (2005), Three test statistics for a nonparametric one-sided hypothesis on the mean of
a nonnegative variable, Mathematical Methods of Statistics 14(4); Learned-Miller and Thomas (2019),
https://arxiv.org/abs/1905.06208. The tail of a weighted sum of exponentials: Gil-Pelaez (1951),
https://doi.org/10.1093/biomet/38.3-4.481, as Imhof (1961),
https://doi.org/10.1093/biomet/48.3-4.419, uses it.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.enough import FEW, FEW_EFFECTIVE, METHOD, MIN_EFFECTIVE
from memprobe.stats.intervals import Interval

Floats = NDArray[np.float64]

# The trapezoid sum over log t of an analytic integrand is off by exp(-c / step): below 1e-9 at this step
# where the mean is within 3 standard deviations of 0, and at half of it within 7.
_STEP = 0.1
_LOG_T_MIN, _LOG_T_MAX = -18.0, 20.0
# Below this the logarithm of the integrand's size leaves nothing to add.
_NOTHING = -23.0
# Nodes times kinds of documents that are held at once.
_BLOCK = 2_000_000
# Kinds of documents that are told apart; of more, those of nearly equal weight count as one kind.
_MOST_KINDS = 512
_TOLERANCE = 1e-9


def effective_documents(sizes: Floats) -> float:
    """Return how many documents of equal size would weigh the same: (sum m)^2 / sum m^2.

    Args:
        sizes: Items of each document, shape (n_documents,), all positive.
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def document_rate(hits: Floats, sizes: Floats, *, level: float = 0.95) -> Interval | None:
    """Return the interval of sum(hits) / sum(sizes) over documents like these.

    Args:
        hits: Sum of the item values of each document, each value 0 to 1, shape (n_documents,).
        sizes: Items of each document.
        level: Nominal coverage; each side misses with at most half of what is left.

    Returns:
        The interval, with the method `FEW` below five effective documents; None below two, which do not
        show how documents differ.

    Raises:
        ValueError: There are no documents, or hits outside 0 to the size.
    """
    if not len(sizes) or len(sizes) != len(hits) or (sizes <= 0).any():
        raise ValueError(f"{len(hits)} sums of hits for {len(sizes)} documents with items")
    if (hits < 0).any() or (hits > sizes).any():
        raise ValueError("a document has more hits than items, or fewer than none")
    effective = effective_documents(sizes)
    if effective < MIN_EFFECTIVE:
        return None
    documents, counts = np.unique(np.column_stack([hits, sizes]), axis=0, return_counts=True)
    tail = (1 - level) / 2
    upper = _upper(_key(documents[:, 0], documents[:, 1], counts), tail)
    lower = 1 - _upper(_key(documents[:, 1] - documents[:, 0], documents[:, 1], counts), tail)
    return Interval(lower, upper, level, METHOD if effective >= FEW_EFFECTIVE else FEW)


_Key = tuple[tuple[float, float, int], ...]


def _key(hits: Floats, sizes: Floats, counts: NDArray[np.int64]) -> _Key:
    """Return the documents as a key, in an order that does not depend on how they were given."""
    rows = zip(hits.tolist(), sizes.tolist(), counts.tolist(), strict=True)
    return tuple(sorted(rows))


@lru_cache(maxsize=4096)
def _upper(documents: _Key, tail: float) -> float:
    """Return the upper bound; the same documents come up at many checkpoints."""
    from scipy.optimize import brentq

    hits, sizes, counts = (np.array(each, dtype=np.float64) for each in zip(*documents, strict=True))
    if (hits == sizes).all():
        return 1.0
    total = float(counts @ sizes)
    typical = float(counts @ sizes**2) / total

    def beyond(rate: float) -> float:
        weights, shapes = _kinds(hits - rate * sizes, counts)
        weights, shapes = np.append(weights, typical * (1 - rate)), np.append(shapes, 1.0)
        z = float(shapes @ weights / np.sqrt(shapes @ weights**2))
        # Cantelli's inequality decides far from the bound, where the integrand turns too fast.
        if z > 1:
            return 0.5
        if z < 0 and 1 / (1 + z**2) < tail:
            return -tail
        return _probability_above_zero(weights, shapes, _STEP if z > -3 else _STEP / 2) - tail

    last = 1.0 - _TOLERANCE
    # Of values that differ from 1 by rounding, say, no bound can be told from 1.
    return 1.0 if beyond(last) >= 0 else float(brentq(beyond, 0.0, last, xtol=_TOLERANCE))


def _kinds(weights: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return weights and how often each occurs, of many with the mean of those in one narrow range."""
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
        step: Between nodes, in log t.
    """
    scaled = weights / np.sqrt(shapes @ weights**2)
    t = np.exp(np.arange(_LOG_T_MIN, _last_log_t(scaled, shapes), step))
    angle, log_size = np.zeros_like(t), np.zeros_like(t)
    at_once = max(1, _BLOCK // len(t))
    for first in range(0, len(scaled), at_once):
        part = slice(first, first + at_once)
        product = t[:, None] * scaled[part]
        angle += np.arctan(product) @ shapes[part]
        log_size -= 0.5 * (np.log1p(product**2) @ shapes[part])
    integrand = np.sin(angle) * np.exp(log_size)
    return float(0.5 + step * integrand.sum() / np.pi)


def _last_log_t(scaled: Floats, shapes: Floats) -> float:
    """Return where the integrand, whose size only falls, has become nothing."""
    low, high = 0.0, _LOG_T_MAX
    while high - low > 1:
        middle = (low + high) / 2
        size = -0.5 * (np.log1p((math.exp(middle) * scaled) ** 2) @ shapes)
        low, high = (middle, high) if size > _NOTHING else (low, middle)
    return high
