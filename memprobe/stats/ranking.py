"""Area under the ROC curve with ties as half, and its standard error from placement values.

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
        interval: Its interval; None where clusters are worth fewer than two of equal size.
    """

    auc: float
    interval: Interval | None


def _half_wins(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return, for each score, twice the number of `others` below it, ties once; whole, so sums are exact."""
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
    """Area under the ROC curve of scores that come in pairs, with an interval.

    The variance is that of the placement values, summed over what belongs together: the two scores
    of an item, and the items of a cluster. The interval is made on the logit scale, so it stays
    within 0 and 1, with a quantile of t: clusters of equal size that weigh the same, less one, are its
    degrees of freedom. Where the placement values do not vary, as at an area of 0 or 1, see `_unvaried`.

    Args:
        positives: Scores of the positives, shape (n_items,); higher means more positive.
        negatives: Scores of their partners, shape (n_items,).
        clusters: Cluster number of each item, 0 to n_clusters - 1; None: every item is its own.
        level: Nominal coverage.

    Raises:
        ValueError: There are no pairs, or the lengths differ.
    """
    from scipy.special import stdtrit

    n = len(positives)
    if n < 1 or len(negatives) != n:
        raise ValueError(f"{n} positives and {len(negatives)} negatives; need as many of both")
    area = auc(positives, negatives)
    # Influence of each pair: how its positive stands among negatives, and its negative among positives.
    # In whole numbers of 1 / 2n^2: in fractions, rounding would hide that a variance is 0.
    wins, losses = _half_wins(positives, negatives), _half_wins(negatives, positives)
    whole: NDArray[np.float64] = (n * (wins - losses) + 2 * n * n - 2 * int(wins.sum())).astype(np.float64)
    if clusters is not None:
        whole = np.bincount(clusters, weights=whole).astype(np.float64)
    influence = whole / (2 * n * n)
    n_clusters = len(influence)
    variance = float((influence**2).sum()) / n**2 * n_clusters / max(1, n_clusters - 1)
    sizes = np.ones(n) if clusters is None else np.bincount(clusters).astype(np.float64)
    effective = effective_documents(sizes)
    if effective < MIN_EFFECTIVE:
        return Auc(area, None)
    if not 0 < area < 1 or variance == 0:
        own = np.arange(n) if clusters is None else clusters
        return Auc(area, _unvaried(area, own, level))
    method = "delong-logit-t" if clusters is None else "cluster-delong-logit-t"
    logit = math.log(area / (1 - area))
    t = float(stdtrit(effective - 1, 0.5 + level / 2))
    half = t * math.sqrt(variance) / (area * (1 - area))
    return Auc(area, Interval(_expit(logit - half), _expit(logit + half), level, method))


def _unvaried(area: float, clusters: NDArray[np.int64], level: float) -> Interval | None:
    """Return an interval where the placement values do not vary.

    If every positive outscores every negative, then so does each the negative of the next item (of the next
    cluster), and these are n comparisons apart: that none of them fails has a chance of at most area^n, as
    in the bound by documents that are all hits. Elsewhere nothing varies more than a rate of whole clusters.
    """
    if area in (0, 1):
        found = share_interval(np.full(len(clusters), area), clusters, level=level)
    else:
        n = int(effective_documents(np.bincount(clusters).astype(np.float64)))
        found = wilson(area * n, n, level=level)
    return found and replace(found, method=f"{found.method}-of-pairs")


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
