"""The distribution of a difference of means over its standard error where two variances are estimated.

Rungs: a direct integral over the Beta density, Student's t at both ends, draws from the definition.
"""

import numpy as np
import pytest
from scipy import integrate, stats

from memprobe.stats.behrens_fisher import mixed_quantile, mixed_tail

# The nodes of the integral, see `_NODES`.
RTOL = 1e-3


def arrays(*values: float) -> list[np.ndarray]:
    return [np.array([float(value)]) for value in values]


def integral(value: float, share: float, few: float, many: float) -> float:
    def integrand(beta: float) -> float:
        ratio = share * beta / few + (1 - share) * (1 - beta) / many
        density = stats.beta.pdf(beta, few / 2, many / 2)
        return float(stats.t.sf(value * np.sqrt((few + many) * ratio), few + many) * density)

    points = [1e-6, 1e-4, 1e-2, 0.1, 0.5]
    return float(integrate.quad(integrand, 0, 1, limit=2000, epsabs=0, epsrel=1e-9, points=points)[0])


@pytest.mark.parametrize(
    ("value", "share", "few", "many"),
    [(2, 0.9, 2, 29), (8, 0.9, 2, 29), (12, 0.94, 1, 29), (30, 0.5, 1, 1), (3, 0.1, 2, 29), (4, 0.9, 29, 2)],
)
def test_tails_are_those_of_the_integral_and_quantiles_undo_them(value, share, few, many) -> None:
    expected = integral(value, share, few, many)
    found = float(mixed_tail(*arrays(value, share, few, many))[0])
    assert found == pytest.approx(expected, rel=RTOL)
    assert mixed_quantile(found, *arrays(share, few, many))[0] == pytest.approx(value, rel=1e-5)


def test_of_one_variance_alone_it_is_students_t() -> None:
    for share, few, many in ((1.0, 3, 50), (0.0, 50, 3)):
        assert mixed_tail(*arrays(2.5, share, few, many))[0] == pytest.approx(stats.t.sf(2.5, 3), rel=5e-3)


def test_draws_from_the_definition_exceed_the_quantile_as_often() -> None:
    g = np.random.default_rng(0)
    n = 400_000
    ratio = 0.9 * g.chisquare(2, n) / 2 + 0.1 * g.chisquare(29, n) / 29
    drawn = g.normal(size=n) / np.sqrt(ratio)
    at = float(mixed_quantile(0.005, *arrays(0.9, 2, 29))[0])
    # Five standard errors of a share of 0.01 among 400,000.
    assert (np.abs(drawn) > at).mean() == pytest.approx(0.01, abs=8e-4)
    # Student's t with Satterthwaite's freedom, 2.4, is far beyond it.
    assert stats.t.isf(0.005, 1 / (0.81 / 2 + 0.01 / 29)) > 1.5 * at


def test_quantiles_rise_as_the_tail_falls_down_to_the_smallest() -> None:
    found = [float(mixed_quantile(tail, *arrays(0.8, 1, 1000))[0]) for tail in (0.4, 0.025, 1e-4, 1e-8)]
    assert np.isfinite(found).all()
    assert found == sorted(found)
