"""Intervals of the mean of values in series, where neighbours overlap and so depend on each other.

For values between two bounds, such as rates, each document is cut into 20 equal blocks, which take the place
of documents in the bound of `memprobe.stats.documents`. The block length is not estimated from the data,
since a memorized passage that is missing from the data leaves no trace in them. A passage longer than a
block would count as several, so there is no interval by blocks if such a passage is found.

Blocks show which stretches of these documents are memorized, not how documents differ: with few documents
the interval is about these documents only. From five effective documents on, the interval is at least as
wide as the bound over whole documents, since documents may be memorized whole.

For other values, blocks of neighbours are drawn with replacement within each series (moving blocks). The
interval then reflects which stretches of these documents were seen, not which documents.

References: Künsch (1989), Annals of Statistics 17(3); Hall, Horowitz and Jing (1995), Biometrika
82(3), for moving blocks that grow with the cube root of the length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.documents import document_rate, effective_documents
from memprobe.stats.enough import BLOCK_METHOD, FEW_EFFECTIVE, METHOD
from memprobe.stats.intervals import FEW_CLUSTERS, LONG_RUN, Interval

# Fewer stretches than this do not show how stretches differ.
MIN_BLOCKS = 4
N_BLOCKS = 20
"""So many equal blocks is a document cut into, if they do not become shorter than two overlaps."""
LONGEST_RUN = 1.2
"""A run of so many blocks shows a passage that is too long for them."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Series:
    """Values along one document.

    Attributes:
        values: Values in document order, shape (n,), finite.
        weights: Weight of each value in the mean, shape (n,), above 0.
        overlap: Number of consecutive values that share text, counting the value itself, at least 1.
        passage: Number of values in the longest passage that can be memorized; None if it is not known.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    overlap: int
    passage: int | None = None

    @property
    def n_apart(self) -> float:
        """Number of values that fit without overlap."""
        return len(self.values) / self.overlap

    @property
    def block(self) -> int:
        """Number of values in a block: the overlap times the cube root of `n_apart`, at most half of all."""
        longest = max(1, len(self.values) // 2)
        return min(longest, self.overlap * max(1, round(math.cbrt(self.n_apart))))


def weighted_mean(series: Sequence[Series]) -> float:
    """Return the mean of all values of all series.

    Raises:
        ValueError: There are no values.
    """
    total = sum(float(each.weights.sum()) for each in series)
    if not total:
        raise ValueError("no values to average")
    return sum(float(each.values @ each.weights) for each in series) / total


def block_draws(
    series: Sequence[Series], *, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> NDArray[np.float64] | None:
    """Return resampled means over all series, where each series is resampled by its own blocks.

    Args:
        series: One series for each document; the draws depend on their order.
        rng: Source of the draws.
        n_draws: Number of resamples.

    Returns:
        Means, shape (n_draws,), centred on the estimate; None if fewer than four blocks fit in total.
    """
    if sum(len(each.values) // each.block for each in series if len(each.values)) < MIN_BLOCKS:
        return None
    total = sum(float(each.weights.sum()) for each in series)
    means = np.zeros(n_draws)
    for each in series:
        means += _draws_of_one(each, rng, n_draws) * (float(each.weights.sum()) / total)
    return np.asarray(means - means.mean() + weighted_mean(series), dtype=np.float64)


def _draws_of_one(one: Series, rng: np.random.Generator, n_draws: int) -> NDArray[np.float64]:
    """Return resampled means of one series, shape (n_draws,)."""
    n, block = len(one.values), one.block
    sums = np.concatenate([[0.0], np.cumsum(one.values * one.weights)])
    sizes = np.concatenate([[0.0], np.cumsum(one.weights)])
    starts = rng.integers(0, n - block + 1, size=(n_draws, -(-n // block)))
    drawn = (sums[starts + block] - sums[starts]).sum(1)
    return np.asarray(drawn / (sizes[starts + block] - sizes[starts]).sum(1), dtype=np.float64)


def moving_blocks(
    series: Sequence[Series], *, rng: np.random.Generator, level: float = 0.95, n_draws: int = N_DRAWS
) -> Interval | None:
    """Return the percentile interval of the mean by moving blocks; None if too few blocks fit.

    Args:
        series: One series for each document.
        rng: Source of the draws.
        level: Nominal coverage.
        n_draws: Number of resamples.
    """
    draws = block_draws(series, rng=rng, n_draws=n_draws)
    if draws is None:
        return None
    lo, hi = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lo), float(hi), level, "moving-block")


@dataclass(frozen=True, slots=True)
class Blocked:
    """An interval by blocks, or why there is none.

    Attributes:
        interval: The interval; None if there is none.
        why: What is reported in place of the method if there is no interval; else None.
    """

    interval: Interval | None
    why: str | None = None


def blocks_interval(series: Sequence[Series], *, low: float = 0.0, level: float = 0.95) -> Blocked:
    """Return the interval of the mean of values between `low` and 1, by blocks and by whole documents.

    Args:
        series: One series for each document.
        low: Lower bound of the values: 0, or -1 for differences.
        level: Nominal coverage.

    Raises:
        ValueError: There are no values, or one is not between `low` and 1.
    """
    if not sum(len(each.values) for each in series):
        raise ValueError("no values to average")
    if any((each.values < low - _ROUNDING).any() or (each.values > 1 + _ROUNDING).any() for each in series):
        raise ValueError(f"a value is not between {low:g} and 1")
    base = 0.0 if low < 0 else float(weighted_mean(series) > 0.5)
    sizes, sums = _sums([[np.arange(len(each.values))] for each in series], series)
    whole = _bound(sizes, sums, low, level) if effective_documents(sizes) >= FEW_EFFECTIVE else None
    if any(_longest_run(each.values, base) > LONGEST_RUN * len(_parts(each)[0]) for each in series):
        return Blocked(whole, LONG_RUN if whole is None else None)
    found = _bound(*_sums([_parts(each) for each in series], series), low, level)
    if found is None:
        return Blocked(whole, FEW_CLUSTERS if whole is None else None)
    if whole is None:
        return Blocked(replace(found, method=found.method.replace(METHOD, BLOCK_METHOD)))
    return Blocked(replace(whole, lo=min(whole.lo, found.lo), hi=max(whole.hi, found.hi)))


def _bound(
    sizes: NDArray[np.float64], sums: NDArray[np.float64], low: float, level: float
) -> Interval | None:
    """Return the bound over documents for the mean of values between `low` and 1."""
    shares = (sums - low * sizes) / (1 - low)
    found = document_rate(np.clip(shares, 0, sizes), sizes, level=level)
    if found is None:
        return None
    lo, hi = (low + (1 - low) * end for end in (found.lo, found.hi))
    return replace(found, lo=lo, hi=hi)


def _parts(one: Series) -> list[NDArray[np.int64]]:
    """Return the positions of the values in each block of a series, the longest block first."""
    n = len(one.values)
    if one.passage is None:
        n_blocks = min(N_BLOCKS, n // (2 * one.overlap))
    else:
        n_blocks = n // (2 * max(one.passage, one.overlap))
    return np.array_split(np.arange(n), max(1, n_blocks))


def _sums(
    parts: Sequence[Sequence[NDArray[np.int64]]], series: Sequence[Series]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the total weight and the weighted sum of each block."""
    pairs = [
        (each.weights[part], each.values[part])
        for each, own in zip(series, parts, strict=True)
        for part in own
    ]
    pairs = [(weights, values) for weights, values in pairs if len(weights)]
    sizes = np.array([weights.sum() for weights, _ in pairs])
    return sizes, np.array([weights @ values for weights, values in pairs])


def _longest_run(values: NDArray[np.float64], base: float) -> int:
    """Return the length of the longest run of values more than 1/2 from the base, all on the same side."""
    longest = 0
    for side in (values - base > 0.5, base - values > 0.5):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], side, [False]])))
        longest = max(longest, int((edges[1::2] - edges[::2]).max(initial=0)))
    return longest
