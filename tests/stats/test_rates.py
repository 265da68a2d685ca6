"""The interval of a rate: which one it is, by how items come in clusters."""

import itertools

import numpy as np
import pytest

from memprobe.stats.documents import document_rate
from memprobe.stats.intervals import wilson
from memprobe.stats.rates import per_cluster, rate_interval


def interval(values, clusters):
    return rate_interval(np.array(values, float), np.array(clusters, np.int64), level=0.9)


def test_items_that_are_their_own_clusters_have_wilsons() -> None:
    assert interval([1, 0, 0.5], [2, 0, 1]) == wilson(1.5, 3, level=0.9)


def test_items_in_documents_have_the_bound_by_documents() -> None:
    # Hits of 1 of 2, 1 of 2, 0 of 1.
    expected = document_rate(np.array([1.0, 1, 0]), np.array([2.0, 2, 1]), level=0.9)
    assert interval([1, 0, 0, 1, 0], [0, 0, 1, 1, 2]) == expected


def test_a_hit_more_never_lowers_the_upper_bound() -> None:
    # 60 items in 20 documents: the case in which no hit gave a wider interval than one.
    clusters = np.repeat(np.arange(20), 3)
    bounds = []
    for n_hits in range(0, 60, 7):
        values = np.zeros(60)
        values[:n_hits] = 1
        bounds.append(rate_interval(values, clusters))
    assert all(one.hi < other.hi and one.lo < other.lo for one, other in itertools.pairwise(bounds))


def test_one_cluster_does_not_show_how_clusters_differ() -> None:
    assert interval([1, 0], [0, 0]) is None


def test_sums_of_fractions_stay_within_their_number() -> None:
    sums, sizes = per_cluster(np.array([1.0 + 1e-16, 1.0, 0.0]), np.array([0, 0, 1]))
    assert (sums.tolist(), sizes.tolist()) == ([2, 0], [2, 1])


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="0 cluster numbers for 0 values"):
        interval([], [])
    with pytest.raises(ValueError, match="1 cluster numbers for 2 values"):
        interval([1, 0], [0])
