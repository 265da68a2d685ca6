"""Intervals for a difference of two rates or means, from independent groups or from pairs.

References: Newcombe (1998), https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I,
method 10, for independent groups; Newcombe (1998),
https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, method 10, for pairs;
Zou and Donner (2008), https://doi.org/10.1002/sim.3095, for combining intervals of other kinds.
"""

import math

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.intervals import Interval, wilson
from memprobe.stats.rates import share_interval


def independent_difference(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> Interval:
    """Return the interval of `first - second`, two independent estimates, from the interval of each.

        lo = d - sqrt((p1 - l1)^2 + (u2 - p2)^2),  hi = d + sqrt((u1 - p1)^2 + (p2 - l2)^2)

    For two Wilson intervals this is Newcombe's hybrid score interval.

    Args:
        first: First estimate.
        first_interval: Interval of `first`.
        second: Estimate that is subtracted.
        second_interval: Interval of `second`.

    Raises:
        ValueError: The intervals have different levels.
    """
    if first_interval.level != second_interval.level:
        raise ValueError(f"intervals of levels {first_interval.level} and {second_interval.level}")
    difference = first - second
    below = math.hypot(first - first_interval.lo, second_interval.hi - second)
    above = math.hypot(first_interval.hi - first, second - second_interval.lo)
    both_wilson = first_interval.method == second_interval.method == "wilson"
    names = dict.fromkeys((first_interval.method, second_interval.method))
    method = "newcombe" if both_wilson else f"square-and-add ({', '.join(names)})"
    return Interval(difference - below, difference + above, first_interval.level, method)


def newcombe_paired(
    both: float, first_only: float, second_only: float, neither: float, *, level: float = 0.95
) -> Interval:
    """Return the interval of the difference of two rates over the same items.

        lo = d - sqrt((p1-l1)^2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)^2), and hi likewise with l and u exchanged,

    with Wilson's ends l and u of each rate, and phi = (ad - bc) / sqrt((a+b)(c+d)(a+c)(b+d)). If ad - bc is
    positive, it is reduced by n/2, but not below 0; phi is 0 if a margin is 0.

    Args:
        both: Number a of items with 1 under both.
        first_only: Number b of items with 1 under the first only.
        second_only: Number c of items with 1 under the second only.
        neither: Number d of items with 0 under both.
        level: Nominal coverage.

    Raises:
        ValueError: There are no items, or a count is below 0.
    """
    a, b, c, d = both, first_only, second_only, neither
    n = a + b + c + d
    if min(a, b, c, d) < 0 or n < 1:
        raise ValueError(f"counts of pairs {a}, {b}, {c}, {d}")
    first, second = wilson(a + b, int(n), level=level), wilson(a + c, int(n), level=level)
    p1, p2 = (a + b) / n, (a + c) / n
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    phi = 0.0 if margins == 0 else (max(excess - n / 2, 0.0) if excess > 0 else excess) / math.sqrt(margins)

    def half(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    lo = p1 - p2 - half(p1 - first.lo, second.hi - p2)
    hi = p1 - p2 + half(first.hi - p1, p2 - second.lo)
    return Interval(lo, hi, level, "newcombe-paired")


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """Return the interval of the mean of `first - second` over pairs of outcomes between 0 and 1.

    It is Newcombe's interval if all outcomes are 0 or 1 and every pair is its own cluster. For fractions, and
    for pairs in clusters, it is the bound over documents (`memprobe.stats.documents`) on (d + 1) / 2, where d
    is the difference of a pair.

    Args:
        first: First outcome of each item, shape (n_items,).
        second: Second outcome of each item, shape (n_items,).
        clusters: Cluster number of each item; None if every item is its own cluster.
        level: Nominal coverage.

    Returns:
        The interval; None with a single pair of fractions, or if the clusters are worth fewer than two of
        equal size.

    Raises:
        ValueError: There are no pairs, or the lengths differ.
    """
    if not len(first) or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} outcomes; need as many of both, at least one")
    if clusters is None and _is_binary(first) and _is_binary(second):
        one, other = first > 0, second > 0
        counts = (one & other, one & ~other, ~one & other, ~one & ~other)
        return newcombe_paired(*(float(each.sum()) for each in counts), level=level)
    return difference_interval(first - second, clusters=clusters, level=level)


def difference_interval(
    differences: NDArray[np.float64],
    *,
    clusters: NDArray[np.int64] | None = None,
    reach: float = 1.0,
    level: float = 0.95,
) -> Interval | None:
    """Return the bound over documents for the mean of differences between -reach and reach.

    Args:
        differences: Difference of each item, shape (n_items,).
        clusters: Cluster number of each item; None if every item is its own cluster.
        reach: Largest possible distance of a difference from 0.
        level: Nominal coverage.

    Returns:
        The interval; None if the clusters are worth fewer than two of equal size.

    Raises:
        ValueError: There are no differences, or one is farther from 0 than `reach`.
    """
    own = np.arange(len(differences)) if clusters is None else clusters
    found = share_interval((differences / reach + 1) / 2, own, level=level)
    if found is None:
        return None
    return Interval(reach * (2 * found.lo - 1), reach * (2 * found.hi - 1), level, f"{found.method}-paired")


def _is_binary(values: NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())
