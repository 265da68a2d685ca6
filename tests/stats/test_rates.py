"""The interval of a rate: which one it is, by how items come in clusters."""

import numpy as np
import pytest

from memprobe.stats.bootstrap import bootstrap_mean
from memprobe.stats.intervals import wilson
from memprobe.stats.rates import rate_interval


def interval(values, clusters):
    return rate_interval(
        np.array(values, float), np.array(clusters, np.int64), rng=np.random.default_rng(3), level=0.9
    )


def test_items_that_are_their_own_clusters_have_wilsons() -> None:
    assert interval([1, 0, 0.5], [2, 0, 1]) == wilson(1.5, 3, level=0.9)


def test_clusters_are_drawn_whole() -> None:
    values, clusters = np.array([1.0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2])
    expected = bootstrap_mean(values, rng=np.random.default_rng(3), clusters=clusters, level=0.9)
    assert interval(values, clusters) == expected


@pytest.mark.parametrize("value", [0, 1])
def test_where_all_agree_as_many_rates_as_clusters_stand_in(value) -> None:
    found, of_two = interval([value] * 6, [0, 0, 0, 1, 1, 1]), wilson(2 * value, 2, level=0.9)
    assert (found.lo, found.hi, found.method) == (of_two.lo, of_two.hi, "wilson-stand-in")


def test_one_cluster_does_not_show_how_clusters_differ() -> None:
    assert interval([1, 0], [0, 0]) is None


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="0 cluster numbers for 0 values"):
        interval([], [])
    with pytest.raises(ValueError, match="1 cluster numbers for 2 values"):
        interval([1, 0], [0])
