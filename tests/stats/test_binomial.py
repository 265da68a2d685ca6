"""The binomial test against chance: published values, all outcomes counted out, symmetry, the undefined."""

from math import comb

import pytest

from memprobe.stats.binomial import binomial_p

# A regularised incomplete beta function against a sum of exact fractions.
TOL = 1e-12


@pytest.mark.parametrize(
    ("successes", "n", "p"),
    [
        (5, 5, 0.0625),  # 2 / 32
        (0, 5, 0.0625),
        (7, 10, 0.34375),  # 2 (120 + 45 + 10 + 1) / 1024
        (3, 6, 1.0),
        (1, 1, 1.0),
    ],
)
def test_known_values(successes, n, p) -> None:
    assert binomial_p(successes, n) == pytest.approx(p, abs=TOL)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 101])
def test_all_outcomes_as_extreme_or_more_are_counted(n) -> None:
    for k in range(n + 1):
        extreme = sum(comb(n, j) for j in range(n + 1) if abs(2 * j - n) >= abs(2 * k - n))
        assert binomial_p(k, n) == pytest.approx(extreme / 2**n, abs=TOL)
        assert binomial_p(k, n) == binomial_p(n - k, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_impossible_counts_are_refused(successes, n) -> None:
    with pytest.raises(ValueError, match="successes among"):
        binomial_p(successes, n)
