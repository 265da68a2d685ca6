"""Area under the ROC curve with ties as half, and its interval from placement values.

References: DeLong, DeLong and Clarke-Pearson (1988), https://doi.org/10.2307/2531595; Obuchowski (1997),
https://doi.org/10.2307/2533958, for pairs and clusters.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.documents import effective_documents
from memprobe.stats.enough import MIN_EFFECTIVE
from memprobe.stats.intervals import Interval, wilson
from memprobe.stats.rates import share_interval


@dataclass(frozen=True, slots=True)
class Auc:
    """Area under the ROC curve.

    Attributes:
        auc: Probability that a positive outscores a negative, ties as half; chance is 0.5.
        interval: Interval of the area; None if the clusters are worth fewer than two of equal size.
    """

    auc: float
    interval: Interval | None


def _half_wins(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return twice the number of `others` below each score, ties once; integers, so sums are exact."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left").astype(np.int64)
    return below + np.searchsorted(ordered, scores, side="right")


def auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve over all pairs, ties as half.

    Raises:
        ValueError: One side is empty.
    """
    if not len(positives) or not len(negatives):
        raise ValueError(f"{len(positives)} positives and {len(negatives)} negatives; need one of each")
    return int(_half_wins(positives, negatives).sum()) / (2 * len(positives) * len(negatives))


def paired_auc(
    positives: NDArray[np.float64],
    negatives: NDArray[np.float64],
    *,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Auc:
    """Return the area under the ROC curve of scores that come in pairs, with an interval.

    For independent items the variance is that of the placement values, with the two scores of an item taken
    together. The interval is computed on the logit scale with a quantile of t, so it stays within 0 and 1.
    For placement values that do not vary, as at an area of 0 or 1, see `_unvaried`; for clusters see
    `_over_clusters`.

    Args:
        positives: Scores of the positives, shape (n_items,); higher means more positive.
        negatives: Scores of their partners, shape (n_items,).
        clusters: Cluster number of each item, 0 to n_clusters - 1; None if every item is its own cluster.
        level: Nominal coverage.

    Raises:
        ValueError: There are no pairs, or the lengths differ.
    """
    n = len(positives)
    if n < 1 or len(negatives) != n:
        raise ValueError(f"{n} positives and {len(negatives)} negatives; need as many of both")
    area = auc(positives, negatives)
    wins, losses = _half_wins(positives, negatives), _half_wins(negatives, positives)
    if clusters is not None:
        if effective_documents(np.bincount(clusters).astype(np.float64)) < MIN_EFFECTIVE:
            return Auc(area, None)
        if 0 < area < 1:
            return Auc(area, _over_clusters(wins / (2 * n), 1 - losses / (2 * n), clusters, level))
        return Auc(area, _unvaried(area, clusters, level))
    if n < MIN_EFFECTIVE:
        return Auc(area, None)
    # Influence of each pair: how its positive ranks among negatives, and its negative among positives.
    # In whole multiples of 1 / 2n^2, since with fractions rounding would hide that a variance is 0.
    whole: NDArray[np.float64] = (n * (wins - losses) + 2 * n * n - 2 * int(wins.sum())).astype(np.float64)
    variance = float(((whole / (2 * n * n)) ** 2).sum()) / n / (n - 1)
    if not 0 < area < 1 or variance == 0:
        return Auc(area, _unvaried(area, np.arange(n), level))
    return Auc(area, _on_logits(area, variance, n, level))


def _on_logits(area: float, variance: float, n: int, level: float) -> Interval:
    """Return the interval of DeLong et al. on the logit scale, with a quantile of t."""
    from scipy.special import stdtrit

    logit = math.log(area / (1 - area))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * math.sqrt(variance) / (area * (1 - area))
    return Interval(_expit(logit - half), _expit(logit + half), level, "delong-logit-t")


def _over_clusters(
    wins: NDArray[np.float64], losses: NDArray[np.float64], clusters: NDArray[np.int64], level: float
) -> Interval | None:
    """Return an interval that is valid even if clusters are memorized whole and no such cluster was drawn.

    The area is the mean of either kind of placement values, which lie between 0 and 1: of each positive among
    the negatives, and of each negative among the positives. Each mean has a bound over documents, and the
    squared distances of the two bounds from the area are added, as for the difference of two rates.

    Args:
        wins: Share of the negatives that each positive outscores, shape (n_items,).
        losses: Share of the positives that outscore each negative, shape (n_items,).
        clusters: Cluster number of each item.
        level: Nominal coverage.
    """
    area = float(wins.mean())
    one, other = (share_interval(each, clusters, level=level) for each in (wins, losses))
    if one is None or other is None:
        return None
    lo = area - math.hypot(area - one.lo, area - other.lo)
    hi = area + math.hypot(one.hi - area, other.hi - area)
    names = ", ".join(dict.fromkeys((one.method, other.method)))
    return Interval(max(lo, 0.0), min(hi, 1.0), level, f"square-and-add ({names})")


def _unvaried(area: float, clusters: NDArray[np.int64], level: float) -> Interval | None:
    """Return an interval where the placement values do not vary.

    If every positive outscores every negative, each positive outscores the negative of the next item (of the
    next cluster). These are n separate comparisons, and the probability that none fails is at most area^n, as
    in the bound over documents that are all hits. For other areas, the interval is that of a rate of whole
    clusters, since nothing varies more than such a rate.
    """
    if area in (0, 1):
        found = share_interval(np.full(len(clusters), area), clusters, level=level)
    else:
        n = int(effective_documents(np.bincount(clusters).astype(np.float64)))
        found = wilson(area * n, n, level=level)
    return found and replace(found, method=f"{found.method}-of-pairs")


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
