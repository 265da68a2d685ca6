"""Estimates with standard errors, pointwise intervals and simultaneous bands."""

import math
from dataclasses import dataclass

import numpy as np

from memprobe.stats.did.errors import Errors
from memprobe.stats.did.groups import Bools, Floats
from memprobe.stats.intervals import normal_quantile


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimate.

    Attributes:
        value: The estimate.
        se: Standard error; None: one of its sides has a single cluster, so its error is not known.
        lo: Lower end of the interval, see `Estimates`; None with `se`.
        hi: Its upper end.
        n_cells: Cells that it is made of.
        freedom: Degrees of freedom of the interval; None with `se`.
    """

    value: float
    se: float | None
    lo: float | None
    hi: float | None
    n_cells: int
    freedom: float | None = None


@dataclass(frozen=True, slots=True)
class Estimates:
    """Estimates that belong together, and bands that hold for all of them at once.

    Where `known` is false there is no error: `se` and all bands are to be read as missing there, whatever
    they hold; `nullable` does so.

    Attributes:
        value: The estimates, shape (n,).
        se: Standard errors from influence functions, shape (n,); 0 where no item differs from its group.
            As in the literature they divide by clusters, not by clusters less one.
        known: There is an error, shape (n,).
        lo: Lower ends of the pointwise intervals, shape (n,). Their half width is the unbiased standard
            error times the quantile of Student's t, see did_errors.py.
        hi: Their upper ends.
        se_boot: Interquartile range of the bootstrap draws over that of a standard normal, shape (n,);
            0 where the quartiles of few clusters' draws fall together; None without draws.
        lo_sim: Lower ends of the simultaneous band, shape (n,); None without draws. As the pointwise
            ones, with the critical value in place of the normal quantile.
        hi_sim: Its upper ends.
        critical: Quantile over the draws of the largest |draw| / se, estimates with se 0 left out; None
            without draws, or without any estimate that varies.
        freedom: Degrees of freedom of the intervals, shape (n,).
    """

    value: Floats
    se: Floats
    known: Bools
    lo: Floats
    hi: Floats
    se_boot: Floats | None
    lo_sim: Floats | None
    hi_sim: Floats | None
    critical: float | None
    freedom: Floats

    def __len__(self) -> int:
        """Return the number of estimates."""
        return len(self.value)

    def nullable(self, name: str) -> list[float | None]:
        """Return an attribute with None where it is missing, as a table expects it."""
        values: Floats | None = getattr(self, name)
        if values is None:
            return [None] * len(self)
        known = np.ones_like(self.known) if name == "value" else self.known
        return [float(v) if k else None for v, k in zip(values, known, strict=True)]

    def one(self, index: int, n_cells: int) -> Estimate:
        """Return one of the estimates, with its pointwise interval."""
        value = float(self.value[index])
        if not self.known[index]:
            return Estimate(value, None, None, None, n_cells)
        lo, hi = float(self.lo[index]), float(self.hi[index])
        return Estimate(value, float(self.se[index]), lo, hi, n_cells, float(self.freedom[index]))


def with_bands(
    value: Floats,
    errors: Errors,
    known: Bools,
    level: float,
    se_boot: Floats | None = None,
    largest: Floats | None = None,
) -> Estimates:
    """Put intervals and bands around estimates.

    Args:
        value: The estimates.
        errors: Their errors.
        known: Where there is an error.
        level: Nominal coverage of one interval, and of the whole band.
        se_boot: Their standard errors from the draws.
        largest: Largest |draw| / se of each draw, shape (n_draws,); none of them varies: None.
    """
    half = errors.half_widths(normal_quantile(level))
    critical = None if largest is None else ranked(largest, level)
    lo_sim = hi_sim = None
    if se_boot is not None:
        wide = errors.half_widths(critical or 0.0)
        lo_sim, hi_sim = value - wide, value + wide
    return Estimates(
        value=value,
        se=errors.se,
        known=known,
        lo=value - half,
        hi=value + half,
        se_boot=se_boot,
        lo_sim=lo_sim,
        hi_sim=hi_sim,
        critical=critical,
        freedom=errors.lowest_freedom,
    )


def ranked(draws: Floats, share: float) -> float:
    """Return the smallest draw that a share of the draws does not exceed."""
    place = place_of(len(draws), share)
    return float(np.partition(draws, place)[place])


def place_of(n_draws: int, share: float) -> int:
    """Return the position among sorted draws of the smallest that a share of them does not exceed."""
    # The share times the draws may miss a whole number by rounding alone.
    return max(math.ceil(share * n_draws - 1e-9) - 1, 0)
