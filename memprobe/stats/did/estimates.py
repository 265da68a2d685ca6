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
        se: Standard error; None if it is not known, for example with a single cluster on one side.
        lo: Lower end of the interval, see `Estimates`; None if `se` is.
        hi: Upper end of the interval; None if `se` is.
        n_cells: Number of cells that it is computed from.
        freedom: Degrees of freedom of the interval; None if `se` is.
    """

    value: float
    se: float | None
    lo: float | None
    hi: float | None
    n_cells: int
    freedom: float | None = None


@dataclass(frozen=True, slots=True)
class Estimates:
    """Estimates that belong together, and bands that cover all of them at once.

    Where `known` is false, the error is not known: `se` and all bands are missing there, whatever their
    values; `nullable` gives None for them.

    Attributes:
        value: The estimates, shape (n,).
        se: Standard errors from influence functions, shape (n,); 0 where no item differs from its group.
            As in the literature, they divide by the number of clusters, not by that number minus one.
        known: Whether the standard error is known, shape (n,).
        lo: Lower ends of the pointwise intervals, shape (n,). Their half width is the unbiased standard
            error times a quantile, see errors.py.
        hi: Upper ends of the pointwise intervals, shape (n,).
        se_boot: Interquartile range of the bootstrap draws over that of a standard normal, shape (n,);
            0 where the quartiles coincide, as they can with few clusters; None without draws.
        lo_sim: Lower ends of the simultaneous band, shape (n,), computed like `lo` with the critical value
            in place of the normal quantile; None without draws.
        hi_sim: Upper ends of the simultaneous band, shape (n,); None without draws.
        critical: Quantile over the draws of the largest |draw| / se, without estimates whose se is 0; None
            without draws, or if no estimate varies.
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
        errors: Standard errors of the estimates.
        known: Whether each standard error is known.
        level: Nominal coverage of one interval, and of the whole band.
        se_boot: Standard errors of the estimates from the draws; None without draws.
        largest: Largest |draw| / se of each draw, shape (n_draws,); None without draws, or if no estimate
            varies.
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
    """Return the smallest draw that a given share of the draws does not exceed."""
    place = place_of(len(draws), share)
    return float(np.partition(draws, place)[place])


def place_of(n_draws: int, share: float) -> int:
    """Return the position, among sorted draws, of the smallest that a given share of them does not exceed."""
    # The product may miss a whole number by a rounding error.
    return max(math.ceil(share * n_draws - 1e-9) - 1, 0)
