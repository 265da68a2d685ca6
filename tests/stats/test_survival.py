"""Kaplan-Meier against a textbook, scipy, hand arithmetic, and duplicated items.

The leukaemia remissions (weeks, 6-MP arm of Freireich et al. 1963) and their S with standard errors:
Kleinbaum and Klein (2012), Survival Analysis, table 1.1 and section 2.2; Kalbfleisch and Prentice (2002),
table 1.1.
"""

import numpy as np
import pytest
from scipy import stats

from memprobe.stats.survival import at_times, kaplan_meier

# Float64 rounding of a few products.
EXACT = 1e-12
# Printed with four decimals in the textbook, from rounded standard errors.
PRINTED = 6e-4
REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL_IN_REMISSION = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
TIME = np.array(REMISSION + STILL_IN_REMISSION, dtype=np.float64)
EVENT = np.array([True] * len(REMISSION) + [False] * len(STILL_IN_REMISSION))


def test_the_leukaemia_remissions_have_the_textbooks_curve() -> None:
    curve = kaplan_meier(TIME, EVENT)
    at = curve.n_events > 0
    assert curve.time[at].tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.n_at_risk[at].tolist() == [21, 17, 15, 12, 11, 7, 6]
    expected = [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    assert curve.survival[at] == pytest.approx(expected, abs=PRINTED)
    errors = [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert (curve.survival * curve.se_log)[at] == pytest.approx(errors, abs=PRINTED)
    # A remission still going on at 6 weeks is at risk at 6, and not after.
    assert (curve.median, curve.median_hi) == (23, None)


def test_curve_and_intervals_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    time = rng.integers(0, 30, 200).astype(np.float64)
    event = rng.random(200) < 0.6
    curve = kaplan_meier(time, event)
    other = stats.ecdf(stats.CensoredData(time[event], right=time[~event])).sf
    assert curve.time == pytest.approx(other.quantiles)
    assert curve.survival == pytest.approx(other.probabilities, abs=EXACT)
    ends = other.confidence_interval(method="log-log")
    known = ~np.isnan(curve.lo)
    assert known.sum() > 20
    assert curve.lo[known] == pytest.approx(ends.low.probabilities[known], abs=EXACT)
    assert curve.hi[known] == pytest.approx(ends.high.probabilities[known], abs=EXACT)


def test_a_half_that_is_missed_by_rounding_is_the_median() -> None:
    # 5/6 * 4/5 * 3/4 = 1/2 at the third of six events.
    curve = kaplan_meier(np.arange(1.0, 7.0), np.ones(6, dtype=np.bool_))
    assert curve.median == 3
    assert curve.survival[-1] == 0
    # Nothing is left at 0, so nothing is known of its error.
    assert np.isnan(curve.lo[-1])
    assert np.isnan(curve.hi[-1])


def test_nothing_forgotten_is_a_curve_at_one_without_interval_or_median() -> None:
    curve = kaplan_meier(np.array([5.0, 9.0]), np.zeros(2, dtype=np.bool_))
    assert curve.survival.tolist() == [1, 1]
    assert np.isnan(curve.lo).all()
    assert (curve.median, curve.median_lo, curve.median_hi) == (None, None, None)


def test_the_curve_is_a_step_that_is_read_at_or_before() -> None:
    curve = kaplan_meier(np.array([2.0, 4.0]), np.array([True, True]))
    assert at_times(curve, np.array([0.0, 1.9, 2.0, 3.9, 4.0, 9.0])).tolist() == [1, 1, 0.5, 0.5, 0, 0]


def test_items_that_are_their_own_clusters_have_greenwoods_error() -> None:
    own = kaplan_meier(TIME, EVENT, clusters=np.arange(len(TIME)))
    plain = kaplan_meier(TIME, EVENT)
    n = len(TIME)
    known = plain.se_log > 0
    assert own.se_log[known] == pytest.approx(plain.se_log[known] * np.sqrt(n / (n - 1)), abs=EXACT)
    assert (own.method, plain.method) == ("cluster-log-log-t", "greenwood-log-log")


def test_items_that_are_there_three_times_add_nothing() -> None:
    # One document with three copies of an item says as much as the item: G items, not 3 G.
    clusters = np.arange(len(TIME))
    once = kaplan_meier(TIME, EVENT, clusters=clusters)
    thrice = kaplan_meier(np.tile(TIME, 3), np.tile(EVENT, 3), clusters=np.tile(clusters, 3))
    assert thrice.survival == pytest.approx(once.survival, abs=EXACT)
    assert thrice.se_log == pytest.approx(once.se_log, abs=EXACT)
    blind = kaplan_meier(np.tile(TIME, 3), np.tile(EVENT, 3))
    assert (blind.se_log[:7] < 0.6 * once.se_log[:7]).all()


def test_clusters_in_several_blocks_are_summed_alike(monkeypatch) -> None:
    clusters = np.arange(len(TIME)) // 2
    whole = kaplan_meier(TIME, EVENT, clusters=clusters)
    monkeypatch.setattr("memprobe.stats.survival._BLOCK", 40)
    assert kaplan_meier(TIME, EVENT, clusters=clusters).se_log == pytest.approx(whole.se_log, abs=EXACT)


def test_a_single_cluster_has_no_interval() -> None:
    curve = kaplan_meier(TIME, EVENT, clusters=np.zeros(len(TIME), dtype=np.int64))
    assert curve.median == 23
    assert np.isnan(curve.lo).all()


def test_the_order_of_items_changes_nothing() -> None:
    order = np.random.default_rng(1).permutation(len(TIME))
    clusters = np.arange(len(TIME)) // 4
    one = kaplan_meier(TIME, EVENT, clusters=clusters)
    other = kaplan_meier(TIME[order], EVENT[order], clusters=clusters[order])
    assert other.se_log == pytest.approx(one.se_log, abs=EXACT)
    assert other.lo == pytest.approx(one.lo, abs=EXACT, nan_ok=True)


@pytest.mark.parametrize(("n_times", "n_events"), [(0, 0), (3, 2)])
def test_no_items_or_uneven_ones_are_refused(n_times, n_events) -> None:
    with pytest.raises(ValueError, match="not one of each"):
        kaplan_meier(np.zeros(n_times), np.zeros(n_events, dtype=np.bool_))


def test_events_among_the_items_of_a_single_cluster_are_not_certain() -> None:
    # Two other documents leave at 1 without an event; one of three items of the third has its own at 2.
    time, event = np.array([1.0, 1, 2, 3, 3]), np.array([False, False, True, False, False])
    curve = kaplan_meier(time, event, clusters=np.array([0, 1, 2, 2, 2]))
    assert curve.survival[1] == pytest.approx(2 / 3)
    assert np.isnan(curve.lo).all()
    assert np.isnan(curve.hi).all()
    apart = kaplan_meier(time, event, clusters=np.arange(5))
    assert apart.lo[1] < 2 / 3 < apart.hi[1]
