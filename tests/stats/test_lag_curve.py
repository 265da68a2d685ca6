"""The curve over controls: hand arithmetic, intervals against their own definition, and coverage.

Rungs: hand arithmetic; the naive bootstrap of one lag as slow recomputation; simulation; invariances.
"""

import numpy as np
import pytest

from memprobe.stats.differences import independent_difference
from memprobe.stats.intervals import wilson
from memprobe.stats.lag_curve import Controls, Exposed, lag_curve

EXACT = 1e-12
NAN = np.nan


def exposed(y, *, step=None, lag=None, row=None, cluster=None) -> Exposed:
    y = np.array(y, dtype=float)
    at = np.broadcast_to(np.arange(y.shape[1]), y.shape) if step is None else np.array(step)
    lag = 10.0 * at if lag is None else np.array(lag, dtype=float)
    row = np.zeros(len(y), dtype=np.int64) if row is None else np.array(row)
    cluster = np.arange(len(y)) if cluster is None else np.array(cluster)
    return Exposed(y, lag, at, row, cluster)


def controls(y, *, member=None, cluster=None) -> Controls:
    y = np.array(y, dtype=float)
    member = np.ones((1, len(y)), dtype=bool) if member is None else np.array(member, dtype=bool)
    return Controls(y, member, np.arange(1000, 1000 + len(y)) if cluster is None else np.array(cluster))


def curve(items, against=None, *, floor=None, n_draws=200, seed=0):
    return lag_curve(items, against, rng=np.random.default_rng(seed), n_draws=n_draws, floor=floor)


def test_excess_is_item_by_item_over_controls_at_the_same_checkpoint() -> None:
    # Item a is at lag 0 at checkpoint 0 and at lag 10 at 1; b a checkpoint later; c is seen once.
    items = exposed(
        [[5, 4], [6, 3], [9, NAN]],
        step=[[0, 1], [1, 2], [2, 0]],
        lag=[[0, 10], [2, 12], [4, 0]],
        row=[1, 0, 0],
    )
    # Row 0: all controls, means 1.5, 2.5, 4; row 1: the first alone, 1, 2, 4.
    against = controls([[1, 2, 4], [2, 3, 4]], member=[[1, 1], [1, 0]])
    found = curve(items, against)
    # Lag 0: 5 - 1, 6 - 2.5, 9 - 4 -> 12.5 / 3. Lag 1: 4 - 2, 3 - 4 -> 1 / 2.
    assert found.excess.value == pytest.approx([12.5 / 3, 0.5], abs=EXACT)
    assert found.baseline == pytest.approx([7.5 / 3, 3], abs=EXACT)
    assert found.level.value == pytest.approx([20 / 3, 3.5], abs=EXACT)
    assert found.n_items.tolist() == [3, 2]
    assert found.lag == pytest.approx([2, 11])
    assert (found.lag_min.tolist(), found.lag_max.tolist()) == ([0, 10], [4, 12])


def test_rates_of_items_of_their_own_have_wilsons_and_newcombes_intervals() -> None:
    items = exposed([[1, 0]] * 12 + [[1, 1]] * 8)
    against = controls([[0, 0]] * 9 + [[1, 0]])
    found = curve(items, against, floor=0.0)
    assert found.level.interval[1] == wilson(8, 20)
    expected = independent_difference(1.0, wilson(20, 20), 0.1, wilson(1, 10))
    assert found.excess.interval[0] == expected
    assert found.excess.value == pytest.approx([0.9, 0.4], abs=EXACT)


def test_a_rate_is_as_uncertain_as_the_controls_that_it_is_set_against() -> None:
    # Row 1: the two controls of the items' group, of ten.
    member = [[1] * 10, [1, 1] + [0] * 8]
    against = controls([[0], [1]] + [[0]] * 8, member=member)
    found = curve(exposed([[1]] * 20, row=[1] * 20), against, floor=0.0)
    assert found.n_controls.tolist() == [2]
    assert found.excess.interval[0] == independent_difference(1, wilson(20, 20), 0.5, wilson(1, 2))
    # Half of the items in each row: parts (1/10 + 1/2) / 2 = 0.3 twice, 1/20 eight times; squares 0.2.
    mixed = curve(exposed([[1]] * 20, row=[0, 1] * 10), against, floor=0.0)
    assert mixed.n_controls.tolist() == [10]
    expected = independent_difference(1, wilson(20, 20), 0.3, wilson(0.3 * 5, 5))
    assert mixed.excess.interval[0].lo == pytest.approx(expected.lo, abs=EXACT)
    # Two documents of five controls each are two controls.
    whole = controls([[0]] * 10, cluster=[1000] * 5 + [1001] * 5)
    found = curve(exposed([[1]] * 20), whole, floor=0.0)
    assert found.excess.interval[0] == independent_difference(1, wilson(20, 20), 0.0, wilson(0, 2))


def test_without_controls_a_rate_is_set_against_its_floor() -> None:
    found = curve(exposed([[1, 0.5]] * 3 + [[1, 0]]), floor=0.5)
    # 1 - .5, and (3 * .5) / 4 - .5.
    assert found.excess.value == pytest.approx([0.5, -0.125], abs=EXACT)
    assert found.excess.interval[0].hi == pytest.approx(0.5)
    assert found.draws.max() <= 0.5
    assert found.draws.mean(0) == pytest.approx([0.5, -0.125], abs=0.05)
    assert found.baseline is None


def test_without_controls_a_log_probability_has_no_excess() -> None:
    found = curve(exposed([[-1, -2], [-2, -3]]))
    assert found.excess is None
    assert found.level.interval[0].method == "expanded-bootstrap"


def test_outcomes_that_are_all_alike_have_no_interval_of_no_width() -> None:
    found = curve(exposed([[-0.3, -1], [-0.3, -2], [-0.1 - 0.2, -3]]), controls([[-4, -4], [-4, -4]]))
    assert (found.level.interval[0], found.excess.interval[0]) == (None, None)
    assert found.level.interval[1].lo < -2 < found.level.interval[1].hi


def test_the_draws_are_those_of_a_naive_bootstrap_of_items_and_controls() -> None:
    rng = np.random.default_rng(1)
    y, other = rng.normal(1, 1, (30, 3)), rng.normal(0, 2, (20, 3))
    found = curve(exposed(y), controls(other), n_draws=4000)
    # Two independent means: the variances add, s^2 over n in the bootstrap.
    expected = np.sqrt(y.var(0) / 30 + other.var(0) / 20)
    # The relative error of a standard deviation of 4,000 draws is 1 / sqrt(8000) = 1.1%.
    assert found.draws.std(0) == pytest.approx(expected, rel=0.05)
    assert found.draws.mean(0) == pytest.approx(y.mean(0) - other.mean(0), abs=0.05)
    # One draw holds for all lags: what is common to an item's lags is common to the draws.
    same = curve(exposed(y[:, [0, 0]]), controls(other[:, [0, 0]]))
    assert (same.draws[:, 0] == same.draws[:, 1]).all()


def test_whole_clusters_are_drawn() -> None:
    rng = np.random.default_rng(2)
    y = np.repeat(rng.normal(0, 1, (12, 2)), 5, axis=0)
    cluster = np.repeat(np.arange(12), 5)
    clustered, alone = curve(exposed(y, cluster=cluster), n_draws=2000), curve(exposed(y), n_draws=2000)
    width = [each.level.interval[0].hi - each.level.interval[0].lo for each in (clustered, alone)]
    # Five copies of each: the error is sqrt(5) times that of independent items, and t of 11 degrees of
    # freedom, 2.201 sqrt(12 / 11), is 1.139 times that of 59, 2.001 sqrt(60 / 59).
    assert width[0] / width[1] == pytest.approx(1.139 * np.sqrt(5), rel=0.1)
    assert clustered.level.interval[0].method == "expanded-bootstrap"
    assert clustered.n_clusters.tolist() == [12, 12]


def test_controls_of_the_items_own_documents_are_drawn_with_them() -> None:
    # Item and control of one document are equal: their difference never varies.
    y = np.random.default_rng(3).normal(0, 1, (15, 2))
    found = curve(exposed(y), controls(y, cluster=np.arange(15)))
    assert found.excess.value == pytest.approx([0, 0], abs=EXACT)
    assert found.draws == pytest.approx(np.zeros_like(found.draws), abs=1e-9)


@pytest.mark.parametrize("side", ["items", "controls"])
def test_a_single_cluster_gives_no_interval_of_an_excess(side) -> None:
    y, other = [[1.0, 2], [2, 3], [4, 1]], [[0.0, 0], [1, 0]]
    one = {"items": ([7, 7, 7], None), "controls": (None, [5, 5])}[side]
    found = curve(exposed(y, cluster=one[0]), controls(other, cluster=one[1]))
    assert found.excess.interval == (None, None)
    assert not len(found.draws)
    assert found.weights.tolist() == [1, 1]


def test_controls_are_drawn_within_their_groups() -> None:
    # Levels 0 and 100: drawn within their groups, the mean of all of them never moves.
    other = [[0.0]] * 10 + [[100.0]] * 2
    member = [[1] * 12, [1] * 10 + [0, 0], [0] * 10 + [1, 1]]
    found = curve(exposed([[1.0], [2.0]]), controls(other, member=member))
    assert found.baseline == pytest.approx([200 / 12])
    # Of the two items, none, one or both draws may be the first.
    assert set(np.round(found.draws[:, 0] + 200 / 12, 9)) == {1, 1.5, 2}


def test_a_rate_of_clusters_has_the_bound_by_documents() -> None:
    found = curve(exposed([[0, 1]] * 6, cluster=[0, 0, 1, 1, 2, 2]), floor=0.0)
    first = found.level.interval[0]
    # No hit in three documents: 1 - 0.025^(1/3).
    assert (first.lo, first.method) == (0, "pseudo-document-few")
    assert first.hi == pytest.approx(1 - 0.025 ** (1 / 3), abs=1e-6)
    assert found.excess.interval == found.level.interval


def test_draws_of_few_clusters_are_read_wider() -> None:
    y = np.random.default_rng(3).normal(size=(60, 1))
    few = curve(exposed(y.tolist(), cluster=[i % 6 for i in range(60)])).level.interval[0]
    draws = curve(exposed(y.tolist(), cluster=[i % 6 for i in range(60)]))
    assert few.method == "expanded-bootstrap"
    # t_5 sqrt(6 / 5) = 2.816 standard errors of a resample, where percentiles of 95% are 1.96.
    means = np.array([y[i::6].mean() for i in range(6)])
    se = means.std() / np.sqrt(6)
    assert few.hi - few.lo == pytest.approx(2 * 2.816 * se, rel=0.25)
    assert few.hi - few.lo > 2 * 2.2 * se
    assert draws.level.interval[0] == few


def test_weights_are_one_over_the_variance_and_never_infinite() -> None:
    # Of 10 items: all, half, none. Variances .0, .025, .0, and .01 = 1/10^2 on each.
    found = curve(exposed([[1, i % 2, 0] for i in range(10)]), floor=0.0, n_draws=20000)
    assert found.weights / found.weights[0] == pytest.approx([1, 0.01 / 0.035, 1], rel=0.05)
    flat = curve(exposed([[1.0, 2], [1, 2]]), controls([[0.0, 0], [0, 0]]))
    assert flat.weights.tolist() == [1, 1]


def test_the_order_of_items_changes_nothing_but_the_draws() -> None:
    rng = np.random.default_rng(4)
    y, other, turn = rng.normal(0, 1, (9, 2)), rng.normal(0, 1, (6, 2)), rng.permutation(9)
    one, two = curve(exposed(y), controls(other)), curve(exposed(y[turn]), controls(other[::-1]))
    assert one.excess.value == pytest.approx(two.excess.value, abs=EXACT)
    # Clusters are drawn in the order of their numbers, so even the draws are the same.
    three = curve(exposed(y[turn], cluster=turn), controls(other))
    assert three.draws == pytest.approx(one.draws, abs=EXACT)


def test_what_is_common_to_a_checkpoint_cancels() -> None:
    rng = np.random.default_rng(5)
    y, other, shift = rng.normal(0, 1, (9, 3)), rng.normal(0, 1, (6, 3)), np.array([1.0, -4, 9])
    one, two = curve(exposed(y), controls(other)), curve(exposed(y + shift), controls(other + shift))
    assert two.excess.value == pytest.approx(one.excess.value, abs=1e-9)
    assert two.draws == pytest.approx(one.draws, abs=1e-9)


def test_a_lag_at_which_nobody_is_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="no item is seen at 1 of 2 lags"):
        curve(exposed([[1, NAN], [2, NAN]]))


def test_intervals_of_the_excess_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(300):
        items = exposed(rng.normal(1, 1, (40, 1)))
        found = lag_curve(items, controls(rng.normal(0, 1, (40, 1))), rng=rng, n_draws=300, floor=None)
        interval = found.excess.interval[0]
        inside += interval.lo <= 1 <= interval.hi
    # Four standard errors of 300 trials, 5%, around the 94% of percentiles at 40 items.
    assert 0.89 < inside / 300 < 0.99
