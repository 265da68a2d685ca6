"""What clusters of unequal size leave of a sample.

Rungs: the matrices as they stand, equal sizes by hand, draws from both working models.
"""

import numpy as np
import pytest

from memprobe.stats.did.sizes import Sizes

RTOL = 1e-9


def of(*sizes: int) -> Sizes:
    return Sizes.of(np.array(sizes, dtype=np.float64), np.array([0]))


@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 2, 7), (80, 10, 10), (1, 5, 9, 9, 30), (1,) * 40])
def test_factor_and_freedom_are_those_of_the_matrices(sizes) -> None:
    p = np.array(sizes) / sum(sizes)
    items = np.diag(p) - np.outer(p, p)
    clusters = items @ items.T
    found = of(*sizes).leverage()
    factor = max(1 / np.trace(items), (p**2).sum() / np.trace(clusters))
    freedom = min(np.trace(a) ** 2 / np.trace(a @ a) for a in (items, clusters))
    assert found.factor == pytest.approx([factor], rel=RTOL)
    assert found.freedom == pytest.approx([freedom], rel=RTOL)


def test_equal_clusters_have_one_less_than_their_number() -> None:
    found = of(7, 7, 7, 7, 7).leverage()
    assert (found.factor, found.freedom) == (pytest.approx([5 / 4]), pytest.approx([4]))
    assert of(7, 7, 7, 7, 7).effective == pytest.approx([5])


def test_one_cluster_shows_nothing_and_changes_nothing() -> None:
    found = of(9).leverage()
    assert (found.factor.tolist(), found.freedom.tolist()) == ([1.0], [1.0])


def test_samples_are_joined_and_parted() -> None:
    sizes = Sizes.of(np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 2, 5]))
    later = sizes.later().take(np.array([0, 1]))
    assert later.n_items.tolist() == [21, 18]
    rest = later.without(sizes.take(np.array([1, 1])), np.array([True, False]))
    assert rest.n_items.tolist() == [9, 18]
    assert rest.squared.tolist() == [1 + 4 + 36, 9 + 16 + 25 + 36]


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_the_variance_of_a_mean_is_not_too_small_under_either_model(shared) -> None:
    g = np.random.default_rng(3)
    sizes = np.array([1, 2, 3, 8, 16])
    p = sizes / sizes.sum()
    means = g.normal(size=(40_000, 5)) * np.sqrt(shared + (1 - shared) / sizes)
    overall = means @ p
    squares = ((p * (means - overall[:, None])) ** 2).sum(1) * of(*sizes).leverage().factor
    # Four standard errors of both sides.
    assert squares.mean() > overall.var() * 0.96
