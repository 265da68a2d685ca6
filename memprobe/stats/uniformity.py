"""Are places spread evenly? The one-sample Kolmogorov-Smirnov test against the uniform distribution.

References: Kolmogorov (1933); Massey (1951), https://doi.org/10.1080/01621459.1951.10500769; the exact
distribution is that of `scipy.stats.kstest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Uniformity:
    """How far places are from an even spread.

    Attributes:
        distance: Largest difference between the distribution function of the places and that of U(0, 1), 0
            to 1.
        p: Probability of a distance at least as large if the places were uniform and independent.
        n: Number of places.
    """

    distance: float
    p: float
    n: int


def uniformity(shares: Sequence[float]) -> Uniformity:
    """Test places, each as a share of the range open to it, against the uniform distribution.

        D = max |F_n(x) - x| over 0 <= x <= 1

    Args:
        shares: Shares from 0 to 1; equal ones, which occur if places are whole words, make the test strict.

    Raises:
        ValueError: There are no shares, or one lies outside 0 to 1.
    """
    values = np.asarray(shares, dtype=np.float64)
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"want shares from 0 to 1, got {len(values)} values")
    from scipy.stats import kstest

    found = kstest(values, "uniform")
    return Uniformity(float(found.statistic), float(found.pvalue), len(values))
