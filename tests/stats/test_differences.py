"""Intervals for differences of rates.

Rungs: printed values of Newcombe's papers, slow recomputation, invariances, coverage by enumeration,
undefined cases.
"""

import math

import numpy as np
import pytest

from memprobe.stats.differences import (
    difference_interval,
    independent_difference,
    newcombe_paired,
    paired_difference,
)
from memprobe.stats.documents import document_rate
from memprobe.stats.intervals import Interval, wilson

# Printed with four decimals.
PRINTED = 0.00005
RTOL = 1e-12


def newcombe(a: int, n: int, b: int, m: int) -> Interval:
    return independent_difference(a / n, wilson(a, n), b / m, wilson(b, m))


@pytest.mark.parametrize(
    ("counts", "lo", "hi"),
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10.
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ],
)
def test_two_wilson_intervals_give_newcombes(counts, lo, hi) -> None:
    found = newcombe(*counts)
    assert (found.lo, found.hi) == pytest.approx((lo, hi), abs=PRINTED)
    assert found.method == "newcombe"


def test_a_paired_interval_is_the_printed_one() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10, for the counts 36, 12, 2, 0.
    found = newcombe_paired(36, 12, 2, 0)
    assert (found.lo, found.hi) == pytest.approx((0.0569, 0.3404), abs=PRINTED)


def test_other_intervals_are_put_together_by_their_arms() -> None:
    first, second = Interval(0.5, 0.9, 0.95, "a"), Interval(0.1, 0.6, 0.95, "b")
    found = independent_difference(0.8, first, 0.2, second)
    # 0.6 - hypot(0.3, 0.4) and 0.6 + hypot(0.1, 0.1)
    assert (found.lo, found.hi) == pytest.approx((0.1, 0.6 + math.sqrt(0.02)), rel=RTOL)
    assert found.method == "square-and-add (a, b)"


def test_intervals_of_different_levels_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"0\.95 and 0\.9"):
        independent_difference(0.5, wilson(5, 10), 0.5, wilson(5, 10, level=0.9))


def test_exchanging_the_two_turns_both_intervals_round() -> None:
    one, other = newcombe(9, 10, 3, 12), newcombe(3, 12, 9, 10)
    assert (one.lo, one.hi) == pytest.approx((-other.hi, -other.lo), rel=RTOL)
    one, other = newcombe_paired(5, 9, 2, 20), newcombe_paired(5, 2, 9, 20)
    assert (one.lo, one.hi) == pytest.approx((-other.hi, -other.lo), rel=RTOL)


def test_pairs_that_go_together_have_a_narrower_interval_and_opposed_ones_a_wider() -> None:
    unpaired = newcombe(30, 60, 30, 60)
    together, opposed = newcombe_paired(28, 2, 2, 28), newcombe_paired(2, 28, 28, 2)
    assert together.hi - together.lo < unpaired.hi - unpaired.lo < opposed.hi - opposed.lo


@pytest.mark.parametrize(
    ("counts", "phi"),
    [
        # ad - bc = 17 * 23 - 6 * 4 = 367; less 50/2 = 342.
        ((17, 6, 4, 23), 342 / math.sqrt(23 * 27 * 21 * 29)),
        # 6 * 5 - 5 * 5 = 5 is below 21/2: 0.
        ((6, 5, 5, 5), 0.0),
        # 2 * 3 - 9 * 8 = -66, which is not lessened.
        ((2, 9, 8, 3), -66 / math.sqrt(11 * 11 * 10 * 12)),
        # No item with 0 under both and none with 1 under the second alone: a margin is 0.
        ((5, 4, 0, 0), 0.0),
    ],
)
def test_a_paired_interval_is_the_formula_written_out(counts, phi) -> None:
    a, b, c, d = counts
    n = a + b + c + d
    first, second = wilson(a + b, n), wilson(a + c, n)
    p1, p2 = (a + b) / n, (a + c) / n
    low1, high1, low2, high2 = p1 - first.lo, first.hi - p1, p2 - second.lo, second.hi - p2
    lo = p1 - p2 - math.sqrt(low1**2 - 2 * phi * low1 * high2 + high2**2)
    hi = p1 - p2 + math.sqrt(high1**2 - 2 * phi * high1 * low2 + low2**2)
    found = newcombe_paired(*counts)
    assert (found.lo, found.hi) == pytest.approx((lo, hi), rel=1e-9)


def test_a_paired_interval_covers_about_as_often_as_it_says() -> None:
    """All outcomes of 20 pairs with both 0.3, first only 0.2, second only 0.1, neither 0.4."""
    n, shares = 20, (0.3, 0.2, 0.1, 0.4)
    covered = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                counts = (a, b, c, n - a - b - c)
                found = newcombe_paired(*counts)
                if found.lo <= 0.1 <= found.hi:
                    ways = math.factorial(n) / math.prod(map(math.factorial, counts))
                    covered += ways * math.prod(p**k for p, k in zip(shares, counts, strict=True))
    # Twenty pairs are few, so the nominal 0.95 is met only about.
    assert 0.93 < covered < 0.99


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, -1, 0, 2)])
def test_pairs_that_cannot_be_are_refused(counts) -> None:
    with pytest.raises(ValueError, match="counts of pairs"):
        newcombe_paired(*counts)


# From outcomes


FIRST, SECOND = np.array([1.0, 1, 1, 0, 1, 0, 0]), np.array([1.0, 0, 0, 1, 1, 0, 0])


def test_independent_pairs_of_0_and_1_have_newcombes_interval() -> None:
    # both: items 0, 4; first only: 1, 2; second only: 3; neither: 5, 6.
    assert paired_difference(FIRST, SECOND) == newcombe_paired(2, 2, 1, 2)


def test_fractions_have_the_bound_by_items() -> None:
    found = paired_difference(FIRST / 2, SECOND)
    shares = document_rate((FIRST / 2 - SECOND + 1) / 2, np.ones(7))
    assert (found.lo, found.hi) == pytest.approx((2 * shares.lo - 1, 2 * shares.hi - 1), rel=RTOL)
    assert found.method == "pseudo-document-paired"


def test_fractions_that_all_agree_keep_an_interval_of_width() -> None:
    found = paired_difference(FIRST / 2, FIRST / 2)
    # Every (d + 1) / 2 is 1/2: P(G_0 / 2 > e sum G) falls to 0.025 at 2e = 1 - 0.025^(1/7).
    assert (-found.lo, found.hi) == pytest.approx((1 - 0.025 ** (1 / 7),) * 2, abs=1e-6)


def test_one_item_that_differs_a_little_never_narrows_the_bound_below_none() -> None:
    # Resampling 60 differences of which one is 0.05 gives an upper bound of 0.0025.
    difference = np.zeros(60)
    none = difference_interval(difference)
    difference[0] = 0.05
    assert difference_interval(difference).hi > none.hi > 0.05


def test_differences_of_differences_reach_twice_as_far() -> None:
    whole = difference_interval(FIRST - SECOND)
    twice = difference_interval(2 * (FIRST - SECOND), reach=2)
    assert (twice.lo, twice.hi) == pytest.approx((2 * whole.lo, 2 * whole.hi), rel=1e-6)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        difference_interval(2 * (FIRST - SECOND))


def test_documents_have_their_bound_on_the_difference() -> None:
    clusters = np.array([0, 0, 1, 1, 2, 2, 3])
    found = paired_difference(FIRST, SECOND, clusters=clusters)
    # d + 1 over 2: 0.5 1 | 1 0 | 0.5 0.5 | 0.5.
    shares = document_rate(np.array([1.5, 1, 1, 0.5]), np.array([2.0, 2, 2, 1]))
    assert (found.lo, found.hi) == pytest.approx((2 * shares.lo - 1, 2 * shares.hi - 1), rel=RTOL)
    assert found.method == "pseudo-document-few-paired"
    alike = paired_difference(FIRST, FIRST, clusters=clusters)
    assert -alike.lo == pytest.approx(alike.hi, abs=1e-6)
    assert alike.hi > 0.3


def test_one_cluster_has_no_interval() -> None:
    assert paired_difference(FIRST, SECOND, clusters=np.zeros(7, dtype=int)) is None


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="7 and 6 outcomes"):
        paired_difference(FIRST, SECOND[:6])
