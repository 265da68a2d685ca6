"""The t interval of means against Student's by hand, a jackknife in a loop, and simulated coverage."""

import numpy as np
import pytest
from scipy.special import stdtrit

from memprobe.stats.intervals import FEW_CLUSTERS, NO_SPREAD
from memprobe.stats.means import mean_interval, sums_interval, why_none

RTOL = 1e-12


def test_items_of_their_own_have_students_interval() -> None:
    # Mean 3, standard deviation sqrt(2.5), n = 5: t_4 = 2.776445, se = sqrt(2.5 / 5).
    found = mean_interval(np.arange(1.0, 6.0))
    assert (found.lo, found.hi) == pytest.approx((3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5), rel=1e-6)
    assert (found.method, found.level) == ("hall-t", 0.95)


def test_clusters_have_the_jackknife_that_leaves_out_one() -> None:
    values, clusters = np.array([1.0, 4, 2, 8, 5, 7, 1]), np.array([0, 0, 1, 1, 1, 2, 3])
    left = np.array([values[clusters != each].mean() for each in range(4)])
    # Around the mean of all, not that of the four: (G - 1) / G sum (mean_(c) - mean)^2.
    se = np.sqrt(3 / 4 * ((left - values.mean()) ** 2).sum())
    found = mean_interval(values, clusters)
    assert found.method == "cluster-hall-t"
    # 49 / (4 + 9 + 1 + 1) = 3.267 clusters of equal size: t with 2.267 degrees of freedom.
    effective = 49 / 15
    t = stdtrit(effective - 1, 0.975)
    apart = np.array([(values[clusters == each] - values.mean()).sum() for each in range(4)])
    apart /= 1 - np.bincount(clusters) / 7
    k = (apart**3).mean() / (apart**2).mean() ** 1.5 / np.sqrt(effective)
    for end, sign in ((found.lo, 1), (found.hi, -1)):
        x = (values.mean() - end) / se
        assert x + k * x**2 / 3 + k**2 * x**3 / 27 + k / 6 == pytest.approx(sign * t, rel=RTOL)


def test_skewed_values_reach_further_to_their_long_side() -> None:
    values = np.array([0.0, 0, 0, 0, 1, 1, 2, 9])
    found = mean_interval(values)
    below, above = values.mean() - found.lo, found.hi - values.mean()
    assert above > 1.5 * below
    turned = mean_interval(-values)
    assert (-turned.hi, -turned.lo) == pytest.approx((found.lo, found.hi), rel=RTOL)


def test_it_holds_the_mean_of_skewed_values_on_both_sides() -> None:
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.exponential(size=20)) for _ in range(600)]
    # Student's interval lies below the truth in 8% of samples.
    assert np.mean([each.hi < 1 for each in found]) < 0.065
    assert np.mean([each.lo > 1 for each in found]) < 0.04


def test_the_order_of_items_and_the_unit_change_nothing() -> None:
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=30), np.arange(30) % 7
    order = rng.permutation(30)
    one, other = mean_interval(values, clusters), mean_interval(5 + 2 * values[order], clusters[order])
    assert (other.lo, other.hi) == pytest.approx((5 + 2 * one.lo, 5 + 2 * one.hi), rel=1e-7)


def test_where_clusters_are_few_or_agree_there_is_none_and_why() -> None:
    lopsided = np.array([0] * 20 + [1])
    assert mean_interval(np.arange(21.0), lopsided) is None
    assert why_none(lopsided) == FEW_CLUSTERS
    assert mean_interval(np.full(6, 0.1)) is None
    assert why_none(np.arange(6)) == NO_SPREAD
    assert sums_interval(np.array([2.0, 4.0]), np.array([1.0, 2.0])) is None


@pytest.mark.parametrize("clusters", [None, np.array([0])])
def test_nothing_to_average_is_refused(clusters) -> None:
    with pytest.raises(ValueError, match="values"):
        mean_interval(np.array([]) if clusters is None else np.array([1.0, 2.0]), clusters)


@pytest.mark.parametrize("documents", [6, 20])
def test_it_holds_the_mean_of_documents_as_often_as_it_says(documents) -> None:
    rng = np.random.default_rng(documents)
    own = np.repeat(np.arange(documents), 10)
    held = 0
    for _ in range(400):
        found = mean_interval(0.6 * rng.normal(size=documents)[own] + rng.normal(size=len(own)), own)
        held += found.lo <= 0 <= found.hi
    # 400 samples: standard error 0.011; resampling documents holds 0.87 of six.
    assert 0.92 <= held / 400 <= 0.98
