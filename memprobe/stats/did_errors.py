"""Standard errors from influence functions, and what few clusters beneath them mean for quantiles.

A standard error of few clusters is itself uncertain, and estimate over error is more like Student's t than
normal, with the degrees of freedom of Welch and Satterthwaite (1946), https://doi.org/10.2307/3002019. Far
out, where the band of many cells ends, the two part soon: of 10 clusters at 3 standard errors.
"""

from dataclasses import dataclass

import numpy as np

from memprobe.stats.did_groups import Floats


@dataclass(frozen=True, slots=True)
class Errors:
    """Standard errors, and how well they are known.

    Attributes:
        se: Root of the summed squares of the clusters' influence, shape (n,); 0 up to rounding.
        inflation: Factor on `se` of dividing by clusters less one in each sample, shape (n,).
        freedom: Degrees of freedom, at least 1, shape (n,); 1 where `se` is 0.
    """

    se: Floats
    inflation: Floats
    freedom: Floats

    def part(self, rows: slice) -> "Errors":
        """Return the errors of some estimates."""
        return Errors(self.se[rows], self.inflation[rows], self.freedom[rows])

    def half_widths(self, quantile: float) -> Floats:
        """Return how far an interval reaches whose normal quantile this is, shape (n,)."""
        from scipy.special import ndtr, stdtrit

        students = -stdtrit(self.freedom, ndtr(-quantile))
        return np.asarray(self.se * self.inflation * students)

    def normal_scores(self, value: Floats) -> Floats:
        """Return the normal quantiles at which intervals would just reach 0, shape (n,); 0 where `se` is."""
        from scipy.special import ndtri, stdtr

        spread = np.where(self.se > 0, self.se, np.inf)
        return np.asarray(-ndtri(stdtr(self.freedom, -np.abs(value) / (spread * self.inflation))))


def errors_from(total: Floats, parts: Floats, n_clusters: Floats, noise: float) -> Errors:
    """Return standard errors from summed squares.

    Args:
        total: Of clusters, shape (n,).
        parts: Of independent samples, shape (n_samples, n).
        n_clusters: Clusters of each sample, shape (n_samples, n) or (n_samples, 1).
        noise: A standard error up to this is 0.
    """
    se = np.sqrt(total)
    varies = se > noise
    # A sample of one cluster has no freedom; what it adds through the weights is taken as of one.
    freedom = np.maximum(n_clusters - 1, 1)
    unbiased = parts * (1 + (n_clusters > 1) / freedom)
    raw = np.where(varies, parts.sum(0), 1.0)
    whole = np.where(varies, unbiased.sum(0), 1.0)
    per_freedom = np.where(varies, (unbiased**2 / freedom).sum(0) / whole**2, 1.0)
    return Errors(np.where(varies, se, 0.0), np.sqrt(whole / raw), 1 / per_freedom)
