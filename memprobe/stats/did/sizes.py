"""Corrections for clusters of unequal size: a factor for an unbiased variance, and its degrees of freedom.

A sample of clusters has the mean sum_c p_c m_c, with p_c = n_c / N the share of cluster c in its items. Its
variance is estimated from the squares of p_c (m_c - mean), the entries of A m with A = diag(p) - p p'.

    items alone differ:     Cov = A,     target 1,        E sum of squares = 1 - S2
    clusters alone differ:  Cov = A A,   target S2,       E sum of squares = S2 - 2 S3 + S2^2
    factor = the larger target / E,      freedom = the smaller tr(Cov)^2 / tr(Cov^2),   S_k = sum_c p_c^k

For C clusters of equal size, factor and freedom are C / (C - 1) and C - 1. The factor has the role of CR2 for
the mean of one sample, and the freedom is Satterthwaite's under each of two working models: Bell and
McCaffrey (2002), Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples, Survey
Methodology 28 (2); Pustejovsky and Tipton (2018), https://doi.org/10.1080/07350015.2016.1247004.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_POWERS = 5


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the clusters of each sample, as sums of their powers.

    Attributes:
        powers: Sum over clusters of n_c^k for k = 1 to 5, shape (5, n_samples).
    """

    powers: Floats

    @classmethod
    def of(cls, n_items: Floats, start: Whole) -> "Sizes":
        """Sum the powers over the clusters of each sample.

        Args:
            n_items: Number of items in each cluster, shape (n_clusters,), sample by sample.
            start: First cluster of each sample, shape (n_samples,).
        """
        raised = n_items[None, :] ** np.arange(1, _POWERS + 1)[:, None]
        return cls(np.add.reduceat(raised, start, axis=1))

    def later(self) -> "Sizes":
        """Return the sizes of each sample together with all samples after it."""
        return Sizes(np.cumsum(self.powers[:, ::-1], axis=1)[:, ::-1])

    def take(self, at: Whole) -> "Sizes":
        """Return the sizes of some samples."""
        return Sizes(self.powers[:, at])

    def without(self, others: "Sizes", where: NDArray[np.bool_]) -> "Sizes":
        """Return the sizes without the clusters of `others`, in samples where `where` is true."""
        return Sizes(self.powers - others.powers * where)

    @property
    def n_items(self) -> Floats:
        """Number of items in each sample, shape (n_samples,)."""
        return np.asarray(self.powers[0])

    @property
    def squared(self) -> Floats:
        """Sum of squared sizes of each sample, shape (n_samples,); `n_items` if clusters are items."""
        return np.asarray(self.powers[1])

    @property
    def effective(self) -> Floats:
        """Number of clusters of equal size that would be worth as much, 1 / S2, shape (n_samples,)."""
        return np.asarray(self.powers[0] ** 2 / self.powers[1])

    def leverage(self) -> "Leverage":
        """Return factor and freedom of each sample; both are 1 for a single cluster."""
        several = self.powers[0] ** 2 > self.powers[1]
        shares = np.where(several, self.powers / np.maximum(self.powers[0], 1.0) ** _EXPONENTS, 0.0)
        s2, s3, s4, s5 = shares[1:]
        items, clusters = 1 - s2, s2 - 2 * s3 + s2**2
        fourth = s2**4 + 4 * s2 * s4 - 4 * s2**2 * s3 + 2 * s3**2 + s4 - 4 * s5
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.maximum(1 / items, s2 / clusters)
            freedom = np.minimum(items**2 / clusters, clusters**2 / fourth)
        # The ratio of a squared sum of eigenvalues to the sum of their squares is at least 1.
        return Leverage(np.where(several, factor, 1.0), np.where(several, np.maximum(freedom, 1.0), 1.0))


_EXPONENTS = np.arange(1, _POWERS + 1)[:, None]


@dataclass(frozen=True, slots=True)
class Leverage:
    """Corrections for small samples, of shape (n_samples,) or what a caller broadcasts it to.

    Attributes:
        factor: Factor that makes the sum of squares unbiased.
        freedom: Degrees of freedom of the sum of squares, at least 1.
    """

    factor: Floats
    freedom: Floats
