"""The bound by documents: Clopper and Pearson where documents have one item, draws, and coverage."""

import numpy as np
import pytest

from memprobe.stats.documents import _upper, document_rate, effective_documents
from memprobe.stats.intervals import clopper_pearson

# The integral and the search for the root.
CLOSE = 1e-6


def of(hits, sizes, level=0.95):
    return document_rate(np.array(hits, float), np.array(sizes, float), level=level)


@pytest.mark.parametrize(("n", "k"), [(20, 0), (20, 3), (100, 50), (7, 7), (2000, 3), (16_000, 1)])
def test_documents_of_one_item_have_the_bounds_of_clopper_and_pearson(n, k) -> None:
    found, expected = of([1] * k + [0] * (n - k), [1] * n), clopper_pearson(k, n)
    assert (found.lo, found.hi) == pytest.approx((expected.lo, expected.hi), abs=CLOSE)


def test_no_hit_in_equal_documents_is_no_hit_among_as_many_items() -> None:
    # P(G_0 M (1 - u) > u m sum G_i) with M = m is P(Beta(1, K) > u) = (1 - u)^K: u = 1 - 0.025^(1/K).
    found = of([0] * 20, [3] * 20)
    assert (found.lo, found.hi) == pytest.approx((0, 1 - 0.025 ** (1 / 20)), abs=CLOSE)


@pytest.mark.parametrize("n_documents", [30, 500, 2600, 16_000])
def test_no_hit_in_documents_of_many_sizes_has_the_bound_in_closed_form(n_documents) -> None:
    """One heavy document among many light ones: the integrand turns fast before it is nothing."""
    sizes = np.random.default_rng(n_documents).integers(1, 51, n_documents).astype(float)
    found = document_rate(np.zeros(n_documents), sizes)
    # P(G_0 M (1 - u) > u sum m_i G_i) = E exp(-u sum m_i G_i / (M (1 - u))), a product over the documents of
    # 1 / (1 + u m_i / (M (1 - u))).
    typical = (sizes**2).sum() / sizes.sum()
    above = np.exp(-np.log1p(found.hi * sizes / (typical * (1 - found.hi))).sum())
    assert above == pytest.approx(0.025, abs=CLOSE)
    assert found.lo == 0


def test_the_bound_is_where_random_weights_say_it_is() -> None:
    hits, sizes = np.array([3.0, 0, 1, 9, 0]), np.array([4.0, 2, 7, 9, 30])
    found = of(hits, sizes)
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=(400_000, 6))
    typical = (sizes**2).sum() / sizes.sum()
    above = weights[:, :5] @ (hits - found.hi * sizes) + weights[:, 5] * typical * (1 - found.hi) > 0
    below = weights[:, :5] @ (hits - found.lo * sizes) - weights[:, 5] * typical * found.lo < 0
    # 400,000 draws: a standard error of 0.00025.
    assert above.mean() == pytest.approx(0.025, abs=0.001)
    assert below.mean() == pytest.approx(0.025, abs=0.001)


def test_hits_and_misses_mirror_each_other() -> None:
    found, mirrored = of([3, 0, 1, 9], [4, 2, 7, 9]), of([1, 2, 6, 0], [4, 2, 7, 9])
    assert (found.lo, found.hi) == pytest.approx((1 - mirrored.hi, 1 - mirrored.lo), abs=CLOSE)


def test_the_order_of_documents_does_not_matter() -> None:
    assert of([3, 0, 1], [4, 2, 7]) == of([1, 3, 0], [7, 4, 2])


def test_no_bound_falls_when_a_hit_is_added() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 12, 15).astype(float)
    hits = np.zeros(15)
    before = of(hits, sizes)
    while (hits < sizes).any():
        place = rng.choice(np.flatnonzero(hits < sizes))
        hits[place] += 1
        now = of(hits, sizes)
        assert now.hi >= before.hi - CLOSE
        assert now.lo >= before.lo - CLOSE
        before = now


@pytest.mark.parametrize("little", [1e-300, 1e-16, 1e-12, 1e-9])
def test_values_that_are_nearly_0_or_1_have_the_bound_of_0_and_1(little) -> None:
    n = 20
    low, high = of([little] * n, [1] * n), of([1 - little] * n, [1] * n)
    assert (low.lo, low.hi) == pytest.approx((0, 1 - 0.025 ** (1 / n)), abs=CLOSE)
    assert (high.lo, high.hi) == pytest.approx((0.025 ** (1 / n), 1), abs=CLOSE)


def test_many_kinds_of_documents_are_counted_in_few_without_moving_the_bound(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 30, 900).astype(float)
    hits = sizes * rng.beta(0.2, 2, 900)
    few = of(hits, sizes)
    monkeypatch.setattr("memprobe.stats.documents._MOST_KINDS", 10_000)
    _upper.cache_clear()
    every = of(hits, sizes)
    # A thousandth of the width.
    assert (few.lo, few.hi) == pytest.approx((every.lo, every.hi), abs=(every.hi - every.lo) / 1000)


def test_two_documents_are_the_fewest() -> None:
    assert of([1], [4]) is None
    # 40 and 1 items are worth 41^2 / 1601 = 1.05 documents.
    assert of([1, 0], [40, 1]) is None
    assert effective_documents(np.array([40.0, 1])) == pytest.approx(1681 / 1601)
    assert of([1, 0], [4, 4]) is not None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="0 sums of hits for 0 documents"):
        of([], [])
    with pytest.raises(ValueError, match="more hits than items"):
        of([5, 0], [4, 4])


@pytest.mark.parametrize(
    ("n_documents", "size", "rate", "whole"),
    [(20, 10, 0.02, False), (20, 50, 0.02, False), (50, 10, 0.02, False), (20, 10, 0.05, True)],
)
def test_the_upper_bound_misses_no_more_often_than_it_says(n_documents, size, rate, whole) -> None:
    """Rates drawn by document with an intraclass correlation of 0.3, or documents memorized whole."""
    rng = np.random.default_rng(2)
    sizes = np.full(n_documents, float(size))
    spread = (1 - 0.3) / 0.3
    misses = 0
    for _ in range(400):
        p = (
            rng.random(n_documents) < rate
            if whole
            else rng.beta(rate * spread, (1 - rate) * spread, n_documents)
        )
        hits = rng.binomial(size, p).astype(float)
        misses += of(hits, sizes).hi < rate
    # 400 draws: a standard error of 0.008 at the nominal 0.025.
    assert misses / 400 <= 0.045
