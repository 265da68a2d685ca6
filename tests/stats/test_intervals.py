"""Wilson and Clopper-Pearson against published values, the score equation, binomial tails, and coverage.

Rungs: hand values of both formulas, slow recomputation (bisection on the defining equations),
invariances (swapping success and failure, more data), undefined cases, a seeded simulation.
"""

import math

import numpy as np
import pytest

from memprobe.stats.intervals import clopper_pearson, normal_quantile, wilson

# The reference values are given to six decimals.
SIX_DECIMALS = 5.1e-7
# Bisection stops at 1e-13; the closed forms round in the last digits of float64.
BISECTED = 1e-10


@pytest.mark.parametrize(
    ("successes", "n", "lo", "hi"),
    [
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (1, 20, 0.008881, 0.236131),
        (9, 10, 0.595850, 0.982124),
        (50, 100, 0.403832, 0.596168),
        (61, 68, 0.802421, 0.949234),
        (0, 1000, 0.0, 0.003827),
    ],
)
def test_wilson_has_the_published_values(successes, n, lo, hi) -> None:
    interval = wilson(successes, n)
    assert (interval.lo, interval.hi) == pytest.approx((lo, hi), abs=SIX_DECIMALS)
    assert (interval.level, interval.method) == (0.95, "wilson")


def test_wilson_by_hand_at_no_success() -> None:
    # p = 0: centre = half = (z^2/2n) / (1 + z^2/n), so the upper end is z^2 / (n + z^2).
    # n = 10: 3.841458820694124 / 13.841458820694124 = 0.27753279
    assert wilson(0, 10).hi == pytest.approx(3.841458820694124 / 13.841458820694124, rel=1e-12)


def test_73_items_without_a_hit_stay_under_five_percent_and_72_do_not() -> None:
    assert wilson(0, 73).hi < 0.05 < wilson(0, 72).hi


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 29, 1000])
def test_no_success_and_only_successes_end_at_zero_and_one_exactly(n) -> None:
    for method in (wilson, clopper_pearson):
        assert method(0, n).lo == 0.0
        assert method(n, n).hi == 1.0
        assert 0 < method(0, n).hi < 1
        assert 0 < method(n, n).lo < 1


def bisect(function, lo: float, hi: float) -> float:
    """Zero of a function that changes its sign once."""
    rises = function(hi) > 0
    while hi - lo > 1e-13:
        middle = (lo + hi) / 2
        lo, hi = (lo, middle) if (function(middle) > 0) == rises else (middle, hi)
    return (lo + hi) / 2


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(1, 4), (3, 7), (2.5, 9), (19, 20)])
def test_wilson_ends_solve_the_score_equation(successes, n, level) -> None:
    p, z = successes / n, normal_quantile(level)

    def score(q: float) -> float:
        return (p - q) ** 2 - z * z * q * (1 - q) / n

    interval = wilson(successes, n, level=level)
    assert interval.lo == pytest.approx(bisect(score, 0.0, p), abs=BISECTED)
    assert interval.hi == pytest.approx(bisect(score, p, 1.0), abs=BISECTED)
    assert interval.level == level


def upper_tail(k: int, n: int, q: float) -> float:
    """P(X >= k) of a binomial, term by term."""
    return sum(math.comb(n, j) * q**j * (1 - q) ** (n - j) for j in range(k, n + 1))


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("k", "n"), [(1, 5), (4, 5), (7, 20), (19, 20)])
def test_clopper_pearson_ends_leave_half_of_the_rest_in_each_binomial_tail(k, n, level) -> None:
    interval = clopper_pearson(k, n, level=level)
    assert upper_tail(k, n, interval.lo) == pytest.approx((1 - level) / 2, abs=BISECTED)
    assert 1 - upper_tail(k + 1, n, interval.hi) == pytest.approx((1 - level) / 2, abs=BISECTED)
    assert (interval.level, interval.method) == (level, "clopper-pearson")


def test_clopper_pearson_has_the_published_values() -> None:
    # 1 - 0.025^(1/10); and, one-sided at 95%, 1 - 0.05^(1/1000), the end of the two-sided 90% interval.
    assert clopper_pearson(0, 10).hi == pytest.approx(0.308497, abs=SIX_DECIMALS)
    assert clopper_pearson(0, 1000, level=0.9).hi == pytest.approx(0.002991, abs=SIX_DECIMALS)
    assert clopper_pearson(0, 10).hi == pytest.approx(1 - 0.025**0.1, rel=1e-12)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize(("k", "n"), [(0, 6), (1, 6), (3, 7), (20, 61)])
def test_swapping_success_and_failure_mirrors_the_interval(method, k, n) -> None:
    one, other = method(k, n), method(n - k, n)
    assert (one.lo, one.hi) == pytest.approx((1 - other.hi, 1 - other.lo), abs=1e-12)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
def test_more_items_and_less_confidence_narrow_the_interval(method) -> None:
    def width(k: int, n: int, level: float = 0.95) -> float:
        return method(k, n, level=level).hi - method(k, n, level=level).lo

    assert width(3, 10) > width(30, 100) > width(300, 1000)
    assert width(3, 10, 0.99) > width(3, 10, 0.95) > width(3, 10, 0.5)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 5), (1, -1)])
def test_impossible_counts_are_an_error_that_names_them(method, k, n) -> None:
    with pytest.raises(ValueError, match=f"^{k} successes among {n} items$"):
        method(k, n)


def test_the_normal_quantile_is_the_textbook_one() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054, rel=1e-12)
    assert normal_quantile(0.5) == pytest.approx(0.674489750196082, rel=1e-12)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_intervals_cover_as_often_as_they_say(rate) -> None:
    """Exact coverage at n = 60: Wilson near 95% on average, Clopper-Pearson never below."""
    n = 60
    weights = [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]

    def coverage(method) -> float:
        ends = [method(k, n) for k in range(n + 1)]
        return sum(w for w, end in zip(weights, ends, strict=True) if end.lo <= rate <= end.hi)

    # Wilson's coverage oscillates with the lattice of counts; within 4 points of nominal at this n.
    assert coverage(wilson) == pytest.approx(0.95, abs=0.04)
    assert 0.95 <= coverage(clopper_pearson) < 1


def test_wilson_of_halves_lies_between_its_neighbours() -> None:
    lows = np.array([wilson(k / 2, 10).lo for k in range(21)])
    highs = np.array([wilson(k / 2, 10).hi for k in range(21)])
    assert (np.diff(lows) > 0).all()
    assert (np.diff(highs) > 0).all()
