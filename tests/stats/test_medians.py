"""Medians: order statistics and censoring by hand, and simulated coverage."""

import numpy as np
import pytest

from memprobe.stats.medians import km_median, median_interval


def test_items_of_their_own_have_order_statistics_of_the_sign_test() -> None:
    # Of 20 values, P(Bin(20, 1/2) <= 5) = 0.0207 and <= 6 is 0.0577: the 6th and the 15th.
    values = np.random.default_rng(1).permutation(np.arange(1.0, 21.0))
    found = median_interval(values)
    assert (found.lo, found.hi, found.method) == (6, 15, "sign-test")
    # Of nine, P(Bin(9, 1/2) <= 1) = 0.0195: the second and the eighth.
    found = median_interval(np.arange(1.0, 10.0))
    assert (found.lo, found.hi) == (2, 8)


def test_documents_of_equal_items_count_once() -> None:
    values = np.repeat(np.arange(1.0, 21.0), 7)
    found = median_interval(values, np.repeat(np.arange(20), 7))
    assert (found.lo, found.hi, found.method) == (6, 15, "cluster-sign-test")
    assert median_interval(values).hi - median_interval(values).lo < 9


def test_ends_are_values_and_turn_with_the_sign_and_the_order() -> None:
    rng = np.random.default_rng(2)
    values, clusters = np.round(rng.exponential(size=60), 1), np.repeat(np.arange(20), 3)
    order = rng.permutation(60)
    one, other = median_interval(values, clusters), median_interval(-values[order], clusters[order])
    assert (one.lo, one.hi) == (-other.hi, -other.lo)
    assert {one.lo, one.hi} <= set(values.tolist())


@pytest.mark.parametrize("n", [1, 2, 5])
def test_of_fewer_than_six_the_median_may_lie_beyond_all_values(n) -> None:
    # Five values all lie on one side of it with a chance of 2^-5 = 0.031, six with 0.016.
    assert median_interval(np.arange(float(n))) is None
    assert median_interval(np.arange(6.0)) is not None
    assert median_interval(np.arange(50.0), np.arange(50) % n) is None


@pytest.mark.parametrize("size", [1, 10])
def test_it_holds_the_median_at_least_as_often_as_it_says(size) -> None:
    rng = np.random.default_rng(size)
    own = np.repeat(np.arange(20), size)
    held = 0
    for _ in range(150):
        values = np.exp(rng.normal(size=20)[own] + rng.normal(size=len(own)))
        found = median_interval(values, None if size == 1 else own)
        held += found.lo <= 1 <= found.hi
    assert held / 150 >= 0.94


@pytest.mark.parametrize(("values", "clusters"), [([], None), ([1.0, 2.0], [0])])
def test_nothing_to_order_is_refused(values, clusters) -> None:
    with pytest.raises(ValueError, match="values"):
        median_interval(np.array(values), clusters and np.array(clusters))


def test_the_median_of_values_that_are_all_known_is_where_half_are_reached() -> None:
    # S falls by a quarter at 2, 4, 6, 8 and is 1/2 at 4.
    found = km_median(np.array([8.0, 2.0, 6.0, 4.0]), np.ones(4, dtype=bool))
    assert found.median == 4


def test_a_bound_counts_as_longer_and_not_as_a_value() -> None:
    # 3, 5 known, 4 and 9 bounds: S = 3/4 at 3, then 3/4 * (1 - 1/2) = 3/8 at 5: the median is 5.
    values, known = np.array([3.0, 5.0, 4.0, 9.0]), np.array([True, True, False, False])
    assert km_median(values, known).median == 5
    # Taken for values, 3 4 5 9 would have 4; left out, 3 5 would have 3.
    assert km_median(values, np.ones(4, dtype=bool)).median == 4
    assert km_median(values[:2], known[:2]).median == 3


def test_a_median_behind_all_that_was_seen_is_none_with_its_lower_end() -> None:
    # One of six known: S = 5/6, never 1/2.
    values, known = np.array([2.0, 60, 60, 60, 60, 60]), np.arange(6) == 0
    found = km_median(values, known)
    assert (found.median, found.hi) == (None, None)
    # ln S = -0.1823, its error sqrt(1 / 30) = 0.1826: the lower band is (5/6)^exp(1.96 * 1.001) = 0.27.
    assert found.lo == 2
    assert found.method == "greenwood-log-log"
    nothing = km_median(values, np.zeros(6, dtype=bool))
    assert (nothing.median, nothing.lo, nothing.hi, nothing.method) == (None, None, None, None)
