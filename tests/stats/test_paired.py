"""Statistics under resampling, McNemar's test and differences of medians and areas, against slow ways.

Rungs: published value (McNemar), hand arithmetic, recomputation of each resample item by item,
invariances, undefined; coverage by simulation is slow.
"""

import numpy as np
import pytest

from memprobe.stats.medians import km_median
from memprobe.stats.paired import (
    auc_statistic,
    bootstrap_difference,
    discordant,
    km_median_statistic,
    median_statistic,
    whole,
)
from memprobe.stats.ranking import auc

# Sums of a few dozen products of float64.
ATOL = 1e-12
# Share of 95% intervals that hold the truth, over 400 simulations: 3 standard errors are 0.033, and
# percentile intervals of 60 items are short of the nominal level by 0.01 or two.
COVERAGE_LO, COVERAGE_HI = 0.90, 0.985


def repeated(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Each value as often as it was drawn."""
    return np.repeat(values, drawn.astype(int))


@pytest.fixture
def drawn() -> np.ndarray:
    return np.random.default_rng(1).multinomial(9, np.full(9, 1 / 9), size=40).astype(float)


# A tie between sides, a tie within, and no order by item.
POSITIVES = np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5])
NEGATIVES = np.array([2.0, 7, 1, 8, 2, 8, 1, 8, 3])


def test_the_area_of_a_resample_is_that_of_its_items(drawn) -> None:
    expected = [auc(repeated(POSITIVES, each), repeated(NEGATIVES, each)) for each in drawn]
    np.testing.assert_allclose(auc_statistic(POSITIVES, NEGATIVES)(drawn), expected, atol=ATOL)


def test_the_median_of_a_resample_is_that_of_its_items(drawn) -> None:
    # 9 items have a middle one, 10 have two.
    even = np.concatenate([drawn, np.ones((40, 1))], axis=1)
    values = np.append(POSITIVES, 2.5)
    expected = [np.median(repeated(values, each)) for each in even]
    assert median_statistic(values)(even).tolist() == expected
    expected = [np.median(repeated(POSITIVES, each)) for each in drawn]
    assert median_statistic(POSITIVES)(drawn).tolist() == expected


def test_the_survival_median_of_a_resample_is_that_of_its_items(drawn) -> None:
    known = np.array([True, False, True, True, False, True, True, False, False])
    expected = [km_median(repeated(POSITIVES, each), repeated(known, each)).median for each in drawn]
    assert None in expected
    found = km_median_statistic(POSITIVES, known)(drawn).tolist()
    assert [None if value == np.inf else value for value in found] == expected


def test_mcnemar_of_agresti_table_10_1() -> None:
    # Agresti (2002), section 10.1.1: approval ratings, 150 fell and 86 rose, z^2 = 64^2 / 236 = 17.36, of
    # which the normal tail is 3.1e-5; the exact one is a little larger. Of a small table by hand, b = 1,
    # c = 6: 2 (1 + 7) / 2^7 = 0.125.
    first = np.repeat([1.0, 0, 1, 0], [150, 86, 794, 570])
    second = np.repeat([0.0, 1, 1, 0], [150, 86, 794, 570])
    found = discordant(first, second)
    assert (found.first_only, found.second_only) == (150, 86)
    assert found.p_value == pytest.approx(3.7e-5, rel=0.03)
    small = discordant(np.array([1.0, 0, 0, 0, 0, 0, 0, 1]), np.array([0.0, 1, 1, 1, 1, 1, 1, 1]))
    assert small.p_value == pytest.approx(0.125)


def test_ties_count_for_neither_side_and_agreement_is_p_1() -> None:
    found = discordant(np.array([0.5, 1, 0.5]), np.array([0.5, 0.5, 1]))
    assert (found.first_only, found.second_only) == (1, 1)
    assert discordant(np.array([1.0, 0]), np.array([1.0, 0])).p_value == 1


def test_the_interval_of_a_difference_is_that_of_the_resampled_items() -> None:
    values, others = np.array([5.0, 1, 4, 2, 8, 3]), np.array([1.0, 1, 2, 5, 3, 2])
    found = bootstrap_difference(
        median_statistic(values), median_statistic(others), 6, rng=np.random.default_rng(3), n_draws=500
    )
    rng = np.random.default_rng(3)
    picks = rng.integers(0, 6, size=(500, 6))
    draws = [np.median(values[each]) - np.median(others[each]) for each in picks]
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=ATOL)
    assert found.method == "bootstrap"


def test_whole_clusters_are_drawn_and_swapping_the_sides_flips_the_interval() -> None:
    values, others = np.array([5.0, 1, 4, 2, 8, 3]), np.array([1.0, 1, 2, 5, 3, 2])
    sides = median_statistic(values), median_statistic(others)
    clusters = np.array([0, 0, 0, 1, 1, 2])
    found = bootstrap_difference(*sides, 6, rng=np.random.default_rng(3), clusters=clusters)
    picks = np.random.default_rng(3).integers(0, 3, size=(2000, 3))
    draws = []
    for each in picks:
        items = np.concatenate([np.flatnonzero(clusters == cluster) for cluster in each])
        draws.append(np.median(values[items]) - np.median(others[items]))
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=ATOL)
    assert found.method == "cluster-bootstrap"
    back = bootstrap_difference(*sides[::-1], 6, rng=np.random.default_rng(3), clusters=clusters)
    assert (back.lo, back.hi) == pytest.approx((-found.hi, -found.lo), abs=ATOL)


def test_no_spread_one_cluster_or_an_infinite_draw_has_no_interval() -> None:
    values = np.array([5.0, 1, 4])
    same = median_statistic(values)
    assert bootstrap_difference(same, same, 3, rng=np.random.default_rng(0)) is None
    other = median_statistic(np.array([1.0, 7, 2]))
    together = np.zeros(3, dtype=np.int64)
    assert bootstrap_difference(same, other, 3, rng=np.random.default_rng(0), clusters=together) is None
    beyond = km_median_statistic(values, np.array([False, True, False]))
    assert bootstrap_difference(beyond, other, 3, rng=np.random.default_rng(0)) is None
    assert whole(beyond, 3) == np.inf


def test_nothing_to_compare_is_an_error() -> None:
    statistic = median_statistic(np.array([1.0]))
    with pytest.raises(ValueError, match="1 cluster numbers for 2 items"):
        bootstrap_difference(
            statistic, statistic, 2, rng=np.random.default_rng(0), clusters=np.zeros(1, dtype=np.int64)
        )
    with pytest.raises(ValueError, match="2 and 1 outcomes"):
        discordant(np.ones(2), np.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["auc", "median"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind) -> None:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        shared = rng.normal(size=60)
        # Both sides of an item share its difficulty; the second run is 0.4 higher throughout.
        base, new = shared + rng.normal(size=60), shared + 0.4 + rng.normal(size=60)
        if kind == "median":
            sides, truth = (median_statistic(new), median_statistic(base)), 0.4
        else:
            foils = rng.normal(size=60)
            sides = auc_statistic(new, foils), auc_statistic(base, foils)
            # Of scores with variance 2 against foils with variance 1: Phi(0.4 / sqrt(3)) - 1/2.
            truth = 0.0914
        found = bootstrap_difference(*sides, 60, rng=rng, n_draws=600)
        held += found.lo <= truth <= found.hi
    assert COVERAGE_LO < held / 400 < COVERAGE_HI
