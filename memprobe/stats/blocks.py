"""Moving-block bootstrap: the mean of values in series, where neighbours overlap and so depend.

Blocks of neighbours are drawn with replacement within each series, so what is random is which
stretches of these documents were seen, not which documents. Draws are centred on the estimate, since
moving blocks see the ends of a series less often than its middle.

References: Künsch (1989), Annals of Statistics 17(3); Hall, Horowitz and Jing (1995), Biometrika
82(3), for blocks that grow with the cube root of the length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.intervals import Interval

# Fewer stretches than these say nothing about how stretches differ.
MIN_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Series:
    """Values along one document.

    Attributes:
        values: In their order, shape (n,), finite.
        weights: Of each value in the mean, shape (n,), above 0.
        overlap: So many neighbours share text with a value, at least 1.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    overlap: int

    @property
    def n_apart(self) -> float:
        """How many values fit without overlap."""
        return len(self.values) / self.overlap

    @property
    def block(self) -> int:
        """Values of one block: the overlap, times the cube root of how many values fit without."""
        longest = max(1, len(self.values) // 2)
        return min(longest, self.overlap * max(1, round(math.cbrt(self.n_apart))))


def weighted_mean(series: Sequence[Series]) -> float:
    """Return the mean of all values of all series.

    Raises:
        ValueError: There are none.
    """
    total = sum(float(each.weights.sum()) for each in series)
    if not total:
        raise ValueError("no values to average")
    return sum(float(each.values @ each.weights) for each in series) / total


def block_draws(
    series: Sequence[Series], *, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> NDArray[np.float64] | None:
    """Draw the mean of all series anew, each from blocks of its own.

    Args:
        series: One for each document; the order matters for the draws.
        rng: Source of the draws.
        n_draws: Number of resamples.

    Returns:
        Shape (n_draws,), centred on the estimate; None where fewer than four blocks fit in all.
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
    """Return the percentile interval of the mean by moving blocks; None where too few blocks fit.

    Args:
        series: One for each document.
        rng: Source of the draws.
        level: Nominal coverage.
        n_draws: Number of resamples.
    """
    draws = block_draws(series, rng=rng, n_draws=n_draws)
    if draws is None:
        return None
    lo, hi = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(lo), float(hi), level, "moving-block")
