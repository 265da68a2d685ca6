"""Forecast against methods section 22 checks 6 and 14, draws of items one by one, and undefined ratios."""

import numpy as np
import pytest
from scipy.stats import binomtest

from memprobe.stats.documents import document_rate
from memprobe.stats.forecast import Counts, counts_of, f_beta, forecast, mcnemar, phi
from memprobe.stats.intervals import wilson

EXACT = 1e-12
# Quantiles of 4,000 draws of 60 items lie on a grid of about 0.01, and err by less than as much.
DRAWN = 0.03


def items(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    predicted = np.repeat([True, True, False, False], (tp, fp, fn, tn))
    truth = np.repeat([True, False, True, False], (tp, fp, fn, tn))
    return predicted, truth


def judged(tp: int, fp: int, fn: int, tn: int, **more):
    return forecast(*items(tp, fp, fn, tn), rng=np.random.default_rng(0), **more)


def test_the_table_of_check_14() -> None:
    found = judged(8, 2, 12, 78)
    assert found.counts == Counts(8, 2, 12, 78)
    assert found.precision.value == pytest.approx(0.8, abs=EXACT)
    assert found.recall.value == pytest.approx(0.4, abs=EXACT)
    # 2 * 0.8 * 0.4 / 1.2; 5 * 0.8 * 0.4 / (4 * 0.8 + 0.4).
    assert found.f1.value == pytest.approx(0.64 / 1.2, abs=EXACT)
    assert found.f2.value == pytest.approx(1.6 / 3.6, abs=EXACT)
    # (8 * 78 - 2 * 12) / sqrt(10 * 20 * 80 * 90) = 600 / 1200.
    assert found.phi.value == pytest.approx(0.5, abs=EXACT)
    assert found.precision.interval == wilson(8, 10)
    assert found.recall.interval == wilson(8, 20)
    assert [each.n for each in (found.precision, found.recall, found.f1)] == [10, 20, 100]


def test_exchanging_predictor_and_truth_exchanges_precision_and_recall() -> None:
    predicted, truth = items(8, 2, 12, 78)
    rng = np.random.default_rng(0)
    one, other = forecast(predicted, truth, rng=rng), forecast(truth, predicted, rng=rng)
    assert (one.precision, one.recall) == (other.recall, other.precision)
    assert counts_of(truth, predicted) == Counts(8, 12, 2, 78)
    assert one.f1.value == other.f1.value
    assert one.f2.value != other.f2.value
    assert one.phi.value == other.phi.value


def test_f_of_counts_is_f_of_the_ratios() -> None:
    tp, fp, fn = (np.array(each) for each in ([1, 5, 9], [3, 1, 1], [2, 0, 7]))
    p, r = tp / (tp + fp), tp / (tp + fn)
    for beta in (0.5, 1, 2):
        assert f_beta(tp, fp, fn, beta) == pytest.approx((1 + beta**2) * p * r / (beta**2 * p + r), abs=EXACT)


def test_phi_is_the_correlation_of_prediction_and_truth() -> None:
    predicted, truth = items(8, 2, 12, 78)
    assert phi(8, 2, 12, 78) == pytest.approx(np.corrcoef(predicted, truth)[0, 1], abs=EXACT)


@pytest.mark.parametrize(
    ("cells", "undefined"),
    [
        ((0, 0, 5, 20), {"precision", "f1", "f2", "phi"}),
        ((0, 5, 0, 20), {"recall", "f1", "f2", "phi"}),
        ((0, 0, 0, 20), {"precision", "recall", "f1", "f2", "phi"}),
        ((0, 0, 0, 0), {"precision", "recall", "f1", "f2", "phi"}),
        ((4, 0, 0, 0), {"phi"}),
        ((0, 3, 5, 20), set()),
    ],
)
def test_a_ratio_over_nothing_is_undefined_and_never_0(cells, undefined) -> None:
    found = judged(*cells)
    names = ("precision", "recall", "f1", "f2", "phi")
    assert {name for name in names if getattr(found, name).value is None} == undefined
    assert all(getattr(found, name).interval is None for name in undefined)


def test_predictions_that_all_fail_are_0() -> None:
    found = judged(0, 3, 5, 20)
    assert (found.precision.value, found.recall.value, found.f1.value) == (0, 0, 0)
    # No hit among eight items of equal weight: 1 - 0.025^(1/8).
    assert found.f1.interval.lo == 0
    assert found.f1.interval.hi == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-6)
    assert found.f1.interval.method == "pseudo-document-weighted"
    assert found.precision.interval == wilson(0, 3)


def naive(predicted, truth, clusters, n_draws, rng) -> np.ndarray:
    """Interval of phi of clusters drawn one by one, shape (2,)."""
    values = []
    for _ in range(n_draws):
        drawn = rng.choice(np.unique(clusters), size=len(np.unique(clusters)))
        rows = np.concatenate([np.flatnonzero(clusters == each) for each in drawn])
        c = counts_of(predicted[rows], truth[rows])
        values.append(float(phi(c.tp, c.fp, c.fn, c.tn)))
    return np.quantile(values, [0.025, 0.975], axis=0)


@pytest.mark.parametrize("size", [1, 3])
def test_draws_of_kinds_of_clusters_are_draws_of_clusters(size) -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(60) < 0.5
    # More is predicted than is true: precision and recall differ by more than draws do.
    predicted = truth | (rng.random(60) < 0.5)
    predicted &= rng.random(60) < 0.95
    clusters = np.arange(60) // size
    found = forecast(predicted, truth, rng=rng, clusters=clusters, n_draws=4000)
    expected = naive(predicted, truth, clusters, 1500, rng)
    if size == 1:
        alone = forecast(predicted, truth, rng=rng, n_draws=4000)
        assert (found.precision, found.recall) == (alone.precision, alone.recall)
    assert (found.phi.interval.lo, found.phi.interval.hi) == pytest.approx(tuple(expected), abs=DRAWN)
    assert found.phi.interval.method == ("bootstrap" if size == 1 else "cluster-bootstrap")


def test_f_is_the_bound_by_documents_of_weights() -> None:
    predicted, truth = items(12, 4, 8, 76)
    clusters = np.arange(100) // 4
    found = forecast(predicted, truth, rng=np.random.default_rng(0), clusters=clusters, n_draws=2)
    # An item that is hit weighs 5, one that is missed 4, one that is extra 1.
    hits = np.bincount(clusters, weights=5 * (predicted & truth))
    sizes = hits + np.bincount(clusters, weights=4 * (truth & ~predicted) + (predicted & ~truth))
    expected = document_rate(hits[sizes > 0], sizes[sizes > 0])
    assert (found.f2.interval.lo, found.f2.interval.hi) == (expected.lo, expected.hi)
    assert found.f2.value == pytest.approx(hits.sum() / sizes.sum(), abs=EXACT)


def test_items_that_share_a_document_with_others_alone_are_independent() -> None:
    # Predicted are items 0 and 2, true are 0 and 1, in documents 01, 23, 4: only the true ones share one.
    predicted, truth = (np.isin(np.arange(5), each) for each in ((0, 2), (0, 1)))
    found = forecast(
        predicted, truth, rng=np.random.default_rng(0), clusters=np.array([0, 0, 1, 1, 2]), n_draws=200
    )
    assert found.precision.interval == wilson(1, 2)
    assert (found.recall.n, found.recall.n_clusters) == (2, 1)
    assert found.recall.interval is None


def test_clusters_of_equal_items_widen_every_interval() -> None:
    predicted, truth = (np.repeat(each, 8) for each in items(8, 2, 12, 78))
    rng = np.random.default_rng(2)
    alone = forecast(predicted, truth, rng=rng)
    whole = forecast(predicted, truth, rng=rng, clusters=np.arange(800) // 8)
    for name in ("precision", "recall", "f1", "f2", "phi"):
        narrow, wide = getattr(alone, name).interval, getattr(whole, name).interval
        # Eight equal items are one: sqrt(8) = 2.8 times as wide, less near the ends of the scale.
        assert wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    assert (whole.precision.n, whole.precision.n_clusters) == (80, 10)


def test_precision_and_recall_over_documents_have_the_bound_by_documents() -> None:
    found = judged(12, 0, 4, 4, clusters=np.arange(20) // 2)
    assert found.precision.value == 1
    assert found.precision.interval.method == "pseudo-document"
    # All hits of 6 documents: 0.025^(1/6).
    assert found.precision.interval.lo == pytest.approx(0.025 ** (1 / 6), abs=1e-6)


def test_intervals_of_f_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    # Truth 30%, predicted with recall 0.6, and 5% of the rest: precision 0.18 / 0.215.
    p, r = 0.18 / 0.215, 0.6
    true_f1 = 2 * p * r / (p + r)
    held = 0
    for _ in range(300):
        truth = rng.random(300) < 0.3
        predicted = np.where(truth, rng.random(300) < 0.6, rng.random(300) < 0.05)
        interval = forecast(predicted, truth, rng=rng, n_draws=400).f1.interval
        held += interval.lo <= true_f1 <= interval.hi
    # The standard error of a share of 0.95 among 300 is 0.013: four of these.
    assert held / 300 == pytest.approx(0.95, abs=0.052)


def test_the_order_of_items_changes_nothing() -> None:
    predicted, truth = items(8, 2, 12, 78)
    order = np.random.default_rng(4).permutation(100)
    one = forecast(predicted, truth, rng=np.random.default_rng(5))
    other = forecast(predicted[order], truth[order], rng=np.random.default_rng(5))
    assert one == other


def test_mcnemar_of_check_6() -> None:
    first = np.repeat([True, False, True, False], (2, 10, 30, 30))
    second = np.repeat([False, True, True, False], (2, 10, 30, 30))
    assert mcnemar(first, second) == pytest.approx(0.03857421875, abs=EXACT)
    assert mcnemar(first, second) == pytest.approx(binomtest(2, 12).pvalue, abs=EXACT)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="3 predictions and 2 truths"):
        forecast(np.ones(3, bool), np.ones(2, bool), rng=np.random.default_rng(0))
