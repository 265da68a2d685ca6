"""Intervals for rates of independent items: Wilson and Clopper-Pearson.

References: Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953; Clopper and Pearson (1934),
https://doi.org/10.1093/biomet/26.4.404.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
"""Coverage of every interval that memprobe writes."""

NO_SPREAD, FEW_CLUSTERS, LONG_RUN = "none:all-equal", "none:few-clusters", "none:long-run"
FEW_FOR_MEDIAN, BIASED, UNFIT = "none:few-for-median", "none:biased", "none:unfit"
"""What stands for the method where there is no interval: the items, or their clusters, agree, and no bound
of their values is known; clusters are worth fewer than two, which does not show how they differ; a
memorized passage is longer than the blocks that a document is cut into; a median may lie beyond all values
seen, as fewer than six items, or documents of equal size, were; a minimum or maximum over checkpoints is
biased by more than a quarter of its error, and no resampling shows how far; or a curve follows none of the
laws that say what is estimated."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval.

    Attributes:
        lo: Lower end.
        hi: Upper end.
        level: Nominal coverage, 0 to 1.
        method: Name of the method by which it was computed.
    """

    lo: float
    hi: float
    level: float
    method: str


def normal_quantile(level: float) -> float:
    """Return z such that a standard normal lies within +-z with probability `level`."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a rate.

        centre = (p + z^2/2n) / (1 + z^2/n),  half = z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n)

    Args:
        successes: Sum of the item values, 0 to n; halves for ties make it slightly too wide.
        n: Number of items.
        level: Nominal coverage.

    Raises:
        ValueError: There are no items, or more successes than items.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} items")
    z2 = normal_quantile(level) ** 2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At p = 0 and p = 1 the ends are 0 and 1 in exact arithmetic.
    lo = 0.0 if successes == 0 else max(0.0, centre - half)
    hi = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(lo, hi, level, "wilson")


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the Clopper-Pearson interval of a rate, which has at least nominal coverage.

    A one-sided bound of level 1 - a is the end of the two-sided interval of level 1 - 2a.

    Raises:
        ValueError: There are no items, or more successes than items.
    """
    from scipy.special import betaincinv

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} items")
    tail = (1 - level) / 2
    lo = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    hi = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(lo, hi, level, "clopper-pearson")
