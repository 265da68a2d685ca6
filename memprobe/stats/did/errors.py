"""Standard errors from influence functions, and quantiles that allow for few clusters.

A standard error of few clusters is itself uncertain, so the quantile of an interval is the larger of these:

    estimated: of Student's t with (sum_s v_s)^2 / sum_s (v_s^2 / (f_s + 2)) - 2 degrees of freedom,
               v_s the unbiased variance of sample s
    working:   of the mixture in behrens_fisher.py, with the shares that the v_s are expected to have

The first adapts to a sample that varies more than the others: Welch (1947), https://doi.org/10.2307/2332510.
Alone, it would treat a small sample that varies little by chance as well known. Far out in the tail, where
the band of many cells ends, it would then fail thirty times too often. The second does not depend on chance;
if there are more than two samples, all but the largest are merged into one, with the degrees of freedom of
Satterthwaite (1946), https://doi.org/10.2307/3002019.
"""

from dataclasses import dataclass, replace

import numpy as np

from memprobe.stats.behrens_fisher import mixed_quantile, mixed_tail
from memprobe.stats.did.groups import Floats
from memprobe.stats.did.sizes import Leverage

# From this many degrees of freedom on, the mixture and Student's t differ by less than 1% at 4 errors.
MANY = 60


@dataclass(frozen=True, slots=True)
class Working:
    """How well a standard error is expected to be known.

    Attributes:
        share: Share of the first variance in the sum of both, shape (n,).
        few: Degrees of freedom of the first variance, shape (n,).
        many: Degrees of freedom of the second variance, shape (n,).
    """

    share: Floats
    few: Floats
    many: Floats

    @classmethod
    def of(cls, variances: Floats, freedom: Floats) -> "Working":
        """Merge all samples but the one with the most degrees of freedom into one.

        Args:
            variances: Expected variances of the samples, up to a factor, shape (n_samples, n).
            freedom: Degrees of freedom of the samples, shape (n_samples, n) or (n_samples, 1).
        """
        freedom = np.broadcast_to(freedom, variances.shape)
        present = variances > 0
        largest = np.where(present, freedom, 0.0).argmax(0)
        columns = np.arange(variances.shape[1])
        many, second = freedom[largest, columns], variances[largest, columns]
        others = variances.copy()
        others[largest, columns] = 0.0
        first = others.sum(0)
        few = np.where(first > 0, satterthwaite(others, freedom), many)
        whole = np.where(first + second > 0, first + second, 1.0)
        return cls(first / whole, few, many)

    def part(self, rows: slice) -> "Working":
        """Return the expected shares and degrees of freedom of some estimates."""
        return Working(self.share[rows], self.few[rows], self.many[rows])

    @property
    def freedom(self) -> Floats:
        """Satterthwaite's degrees of freedom, shape (n,)."""
        both = np.stack([self.share, 1 - self.share])
        return satterthwaite(both, np.stack([self.few, self.many]))

    def quantile(self, tail: float) -> Floats:
        """Return the value that estimate / error exceeds with probability `tail`, shape (n,)."""
        from scipy.special import stdtrit

        found: Floats = -stdtrit(self.freedom, tail)
        small = np.minimum(self.few, self.many) < MANY
        if small.any() and tail < 0.5:
            given = np.stack([self.share[small], self.few[small], self.many[small]])
            # Cells of equally large cohorts are alike.
            alike, at = np.unique(given, axis=1, return_inverse=True)
            found[small] = mixed_quantile(tail, *alike)[at.reshape(-1)]
        return found

    def tail(self, value: Floats) -> Floats:
        """Return the probability that estimate / error exceeds a value, shape (n,)."""
        from scipy.special import stdtr

        found: Floats = stdtr(self.freedom, -value)
        small = np.minimum(self.few, self.many) < MANY
        if small.any():
            found[small] = mixed_tail(value[small], self.share[small], self.few[small], self.many[small])
        return found


@dataclass(frozen=True, slots=True)
class Errors:
    """Standard errors, and how well they are known.

    Attributes:
        se: Root of the summed squares of the clusters' influence, shape (n,); 0 if it is rounding.
        inflation: Factor on `se` that makes its square unbiased in each sample, shape (n,).
        freedom: Estimated degrees of freedom, at least 1, shape (n,); 1 where `se` is 0.
        working: How well `se` is expected to be known, for each working model.
    """

    se: Floats
    inflation: Floats
    freedom: Floats
    working: tuple[Working, ...] = ()

    @property
    def unbiased(self) -> Floats:
        """Standard errors whose squares are unbiased, shape (n,)."""
        return self.se * self.inflation

    @property
    def lowest_freedom(self) -> Floats:
        """The smallest degrees of freedom, estimated or expected, shape (n,)."""
        return np.asarray(np.minimum.reduce([self.freedom, *(each.freedom for each in self.working)]))

    def as_unbiased(self) -> "Errors":
        """Return the same errors with `se` itself unbiased."""
        return replace(self, se=self.unbiased, inflation=np.ones_like(self.se))

    def at_most(self, freedom: Floats | None) -> "Errors":
        """Return the same errors with at most these degrees of freedom; None for no limit."""
        if freedom is None:
            return self
        return replace(self, freedom=np.maximum(np.minimum(self.freedom, freedom), 1.0))

    def part(self, rows: slice) -> "Errors":
        """Return the errors of some estimates."""
        working = tuple(each.part(rows) for each in self.working)
        return Errors(self.se[rows], self.inflation[rows], self.freedom[rows], working)

    def half_widths(self, quantile: float) -> Floats:
        """Return the half widths of intervals with this normal quantile, shape (n,)."""
        from scipy.special import ndtr, stdtrit

        tail = float(ndtr(-quantile))
        found = [-stdtrit(self.freedom, tail), *(each.quantile(tail) for each in self.working)]
        return np.asarray(self.unbiased * np.maximum.reduce(found))

    def p_values(self, value: Floats) -> Floats:
        """Return the two-sided p values for each value against 0, shape (n,); 1 where `se` is 0."""
        from scipy.special import stdtr

        over = np.abs(value) / np.where(self.se > 0, self.unbiased, np.inf)
        found = [stdtr(self.freedom, -over), *(each.tail(over) for each in self.working)]
        return np.asarray(2 * np.maximum.reduce(found))

    def normal_scores(self, value: Floats) -> Floats:
        """Return the normal quantiles at which intervals just reach 0, shape (n,); 0 where `se` is 0."""
        from scipy.special import ndtri

        return np.asarray(np.maximum(-ndtri(self.p_values(value) / 2), 0.0))


def errors_from(
    total: Floats, parts: Floats, leverage: Leverage, working: tuple[Floats, ...], noise: float
) -> Errors:
    """Return standard errors from summed squares.

    Args:
        total: Summed squares of clusters, shape (n,).
        parts: Summed squares of independent samples, shape (n_samples, n).
        leverage: Leverage of each sample, shape (n_samples, n) or (n_samples, 1).
        working: Expected variances of the samples, up to a factor, for each working model, each of shape
            (n_samples, n).
        noise: A standard error up to this counts as 0.
    """
    se = np.sqrt(total)
    varies = se > noise
    unbiased = parts * leverage.factor
    raw = np.where(varies, parts.sum(0), 1.0)
    whole = np.where(varies, unbiased.sum(0), 1.0)
    beyond = np.where(varies, (unbiased**2 / (leverage.freedom + 2)).sum(0), 1.0)
    freedom = np.where(varies, whole**2 / beyond - 2, 1.0)
    models = tuple(Working.of(expected, leverage.freedom) for expected in working)
    if len(models) > 1 and all(_same(models[0], each) for each in models[1:]):
        # If every item is its own cluster, the models are identical.
        models = models[:1]
    return Errors(np.where(varies, se, 0.0), np.sqrt(whole / raw), np.maximum(freedom, 1.0), models)


def _same(one: Working, other: Working) -> bool:
    pairs = ((one.share, other.share), (one.few, other.few), (one.many, other.many))
    return all(np.allclose(a, b, rtol=1e-9, atol=0.0) for a, b in pairs)


def satterthwaite(variances: Floats, freedom: Floats) -> Floats:
    """Return the degrees of freedom of a sum of independent variances; infinite where all are 0.

    Args:
        variances: Variances of the samples, shape (n_samples, n).
        freedom: Degrees of freedom of the samples, shape (n_samples, n) or (n_samples, 1).
    """
    squares = (variances**2 / freedom).sum(0)
    found = np.full(variances.shape[1], np.inf)
    np.divide(variances.sum(0) ** 2, squares, out=found, where=squares > 0)
    return found
