"""Medians: draws against numpy's own median of resamples made slowly, and censoring by hand."""

import numpy as np
import pytest

from memprobe.stats.bootstrap import N_DRAWS
from memprobe.stats.medians import bootstrap_median, km_median

VALUES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0])


@pytest.mark.parametrize("clusters", [None, np.array([0, 0, 1, 2, 2, 2, 3])])
def test_the_interval_is_that_of_medians_of_resamples_made_one_by_one(clusters) -> None:
    own = np.arange(len(VALUES)) if clusters is None else clusters
    n = own.max() + 1
    drawn = np.random.default_rng(5).integers(0, n, size=(N_DRAWS, n))
    slow = [np.median(np.concatenate([VALUES[own == each] for each in row])) for row in drawn]
    found = bootstrap_median(VALUES, rng=np.random.default_rng(5), clusters=clusters)
    assert (found.lo, found.hi) == tuple(np.quantile(slow, [0.025, 0.975]))
    assert found.method == ("bootstrap" if clusters is None else "cluster-bootstrap")


def test_draws_in_blocks_are_the_same_draws(monkeypatch) -> None:
    whole = bootstrap_median(VALUES, rng=np.random.default_rng(1))
    monkeypatch.setattr("memprobe.stats.medians._BLOCK", 20)
    assert bootstrap_median(VALUES, rng=np.random.default_rng(1)) == whole


def test_the_interval_covers_the_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    # The median of an exponential is ln 2; 400 samples of 40: the share has a standard error of 0.011.
    covers = [
        (found := bootstrap_median(rng.exponential(size=40), rng=rng, n_draws=300)).lo
        <= np.log(2)
        <= found.hi
        for _ in range(400)
    ]
    assert 0.91 <= np.mean(covers) <= 0.99


@pytest.mark.parametrize(("values", "clusters"), [([], None), ([1.0, 2.0], [0])])
def test_nothing_to_draw_is_refused(values, clusters) -> None:
    with pytest.raises(ValueError, match="values"):
        bootstrap_median(
            np.array(values), rng=np.random.default_rng(0), clusters=clusters and np.array(clusters)
        )


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
