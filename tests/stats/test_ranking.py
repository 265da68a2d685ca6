"""Area under the ROC curve and its interval: loops over pairs, naive DeLong, invariances, coverage.

Rungs: hand values, slow double loops for the area and for the variance, invariances (rank,
sign, order, relabelled clusters), degenerate cases, a seeded simulation.
"""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from memprobe.stats.intervals import wilson
from memprobe.stats.ranking import auc, paired_auc
from memprobe.stats.rates import share_interval

# Both sides are short sums of fractions in float64.
RTOL = 1e-9


def slow_kernel(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def slow_auc(xs, ys) -> float:
    return sum(slow_kernel(x, y) for x in xs for y in ys) / (len(xs) * len(ys))


def slow_variance(xs, ys, clusters) -> float:
    """DeLong's structural components by double loop, summed over clusters as Obuchowski (1997) does.

    With S10, S01 and S11 the sums over clusters of products of the centred components, the variance
    is K/(K-1) (S10/n^2 + S01/n^2 + 2 S11/n^2), as both sides have n items.
    """
    n, area = len(xs), slow_auc(xs, ys)
    v10 = [sum(slow_kernel(x, y) for y in ys) / n - area for x in xs]
    v01 = [sum(slow_kernel(x, y) for x in xs) / n - area for y in ys]
    names = sorted(set(clusters))
    a = [sum(v for v, c in zip(v10, clusters, strict=True) if c == name) for name in names]
    b = [sum(v for v, c in zip(v01, clusters, strict=True) if c == name) for name in names]
    s10, s01 = sum(u * u for u in a), sum(u * u for u in b)
    s11 = sum(u * v for u, v in zip(a, b, strict=True))
    return len(names) / (len(names) - 1) * (s10 + s01 + 2 * s11) / n**2


def variance_of(result, clusters=range(12)) -> float:
    """Undo the logit interval: its half width is t sqrt(variance) / (area (1 - area))."""
    logit = [math.log(p / (1 - p)) for p in (result.interval.lo, result.interval.hi)]
    half = (logit[1] - logit[0]) / 2
    sizes = np.bincount(clusters)
    t = stdtrit(sizes.sum() ** 2 / (sizes**2).sum() - 1, 0.975)
    return (half * result.auc * (1 - result.auc) / t) ** 2


def drawn(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Correlated pairs on a coarse grid, so that ties occur within and across the sides."""
    g = np.random.default_rng(seed)
    shared = g.normal(size=n)
    return np.round(shared + g.normal(size=n) + 0.5, 1), np.round(shared + g.normal(size=n), 1)


def test_area_by_hand() -> None:
    # -1 beats all 3; -2 ties -2 and beats -2.5 and -4: 2.5; -3 beats -4: 1; (3 + 2.5 + 1) / 9.
    area = auc(np.array([-1.0, -2.0, -3.0]), np.array([-2.0, -2.5, -4.0]))
    assert area == pytest.approx(0.7222222222, abs=5e-11)
    assert area == pytest.approx(6.5 / 9, rel=RTOL)


def test_area_of_the_forced_choice_with_ties_is_a_half() -> None:
    # Seen NLL 1, 2, 3 against foils 2, 2, 2: one win, one tie, one loss, over all 9 pairs alike.
    assert auc(-np.array([1.0, 2.0, 3.0]), -np.array([2.0, 2.0, 2.0])) == 0.5


def test_sides_of_unlike_length() -> None:
    # 3 beats both, 0 none, 1 ties one: (2 + 0 + 0.5) / 6.
    assert auc(np.array([3.0, 0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(2.5 / 6, rel=RTOL)


@pytest.mark.parametrize("seed", range(5))
def test_area_equals_a_loop_over_all_pairs(seed) -> None:
    positives, negatives = drawn(seed)
    assert auc(positives, negatives) == pytest.approx(slow_auc(positives, negatives), rel=RTOL)
    assert paired_auc(positives, negatives).auc == auc(positives, negatives)


@pytest.mark.parametrize("seed", range(5))
def test_variance_equals_naive_delong_of_pairs(seed) -> None:
    positives, negatives = drawn(seed)
    result = paired_auc(positives, negatives)
    expected = slow_variance(positives, negatives, range(12))
    assert variance_of(result) == pytest.approx(expected, rel=RTOL)
    assert result.interval.method == "delong-logit-t"


CLUSTERS = np.array([0, 1, 1, 2, 3, 3, 3, 0, 4, 2, 4, 1])


@pytest.mark.parametrize("seed", range(5))
def test_over_documents_the_bounds_of_both_placements_are_added_as_squares(seed) -> None:
    positives, negatives = drawn(seed)
    result = paired_auc(positives, negatives, clusters=CLUSTERS)
    above = positives[:, None] - negatives[None, :]
    wins = (above > 0) + 0.5 * (above == 0)
    one, other = (share_interval(wins.mean(axis), CLUSTERS) for axis in (1, 0))
    area = wins.mean()
    lo = area - math.hypot(area - one.lo, area - other.lo)
    hi = area + math.hypot(one.hi - area, other.hi - area)
    assert result.interval.lo == pytest.approx(max(lo, 0), abs=1e-9)
    assert result.interval.hi == pytest.approx(min(hi, 1), abs=1e-9)
    assert result.interval.method == f"square-and-add ({one.method})"


def test_an_area_over_documents_allows_for_one_memorized_whole_that_was_not_drawn() -> None:
    """Of 20 documents none is known: one in ten may be, of whose items nearly all outscore their foils."""
    g = np.random.default_rng(0)
    positives, negatives = g.normal(size=1000), g.normal(size=1000)
    documents = np.arange(1000) // 50
    found = paired_auc(positives, negatives, clusters=documents).interval
    assert found.hi > 0.1 * 1 + 0.9 * 0.5
    # Taken for items of their own, they seem to exclude that.
    assert paired_auc(positives, negatives).interval.hi < 0.55


def test_the_interval_is_even_on_the_logit_scale_and_holds_the_area() -> None:
    result = paired_auc(*drawn(1), level=0.8)
    lo, mid, hi = (math.log(p / (1 - p)) for p in (result.interval.lo, result.auc, result.interval.hi))
    assert hi - mid == pytest.approx(mid - lo, rel=RTOL)
    # The 80% interval is narrower by the ratio of the quantiles of t with 11 degrees of freedom.
    whole = paired_auc(*drawn(1)).interval
    ratio = (hi - mid) / (math.log(whole.hi / (1 - whole.hi)) - mid)
    assert ratio == pytest.approx(stdtrit(11, 0.9) / stdtrit(11, 0.975), rel=RTOL)
    assert result.interval.level == 0.8


def test_only_ranks_matter() -> None:
    positives, negatives = drawn(2)
    assert paired_auc(np.exp(positives), np.exp(negatives)) == paired_auc(positives, negatives)


def test_exchanging_the_sides_mirrors_area_and_interval() -> None:
    positives, negatives = drawn(3)
    one, other = paired_auc(positives, negatives), paired_auc(negatives, positives)
    assert other.auc == pytest.approx(1 - one.auc, rel=RTOL)
    assert other.interval.lo == pytest.approx(1 - one.interval.hi, rel=RTOL)


def test_the_order_of_pairs_and_the_numbers_of_clusters_do_not_matter() -> None:
    positives, negatives = drawn(4)
    order = np.random.default_rng(0).permutation(12)
    renamed = np.array([3, 0, 4, 1, 2])[CLUSTERS]
    one = paired_auc(positives, negatives, clusters=CLUSTERS)
    other = paired_auc(positives[order], negatives[order], clusters=renamed[order])
    assert (other.auc, other.interval.lo, other.interval.hi) == pytest.approx(
        (one.auc, one.interval.lo, one.interval.hi), rel=RTOL
    )


def test_shared_variation_of_pairs_narrows_the_interval() -> None:
    """What an item has in common with its foil cancels: breaking up the pairs widens the interval."""
    g = np.random.default_rng(5)
    shared = g.normal(size=60)
    positives, negatives = shared + 0.1 * g.normal(size=60) + 0.2, shared + 0.1 * g.normal(size=60)
    assert variance_of(paired_auc(positives, negatives)) < 0.2 * variance_of(
        paired_auc(positives, np.roll(negatives, 1))
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_at_zero_and_one_as_many_comparisons_are_apart_as_there_are_items(sign) -> None:
    high, low = np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])
    result = paired_auc(sign * high, sign * low)
    # area^4 = 0.025.
    end = 0.025**0.25
    assert result.auc == (1.0 if sign > 0 else 0.0)
    expected = (end, 1) if sign > 0 else (0, 1 - end)
    assert (result.interval.lo, result.interval.hi) == pytest.approx(expected, abs=1e-6)
    assert result.interval.method == "pseudo-document-few-of-pairs"


def test_at_one_clusters_count_and_not_items() -> None:
    high, low = np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])
    result = paired_auc(high, low, clusters=np.array([0, 0, 1, 1]))
    # All hits of 2 documents: 0.025^(1/2).
    assert result.interval.lo == pytest.approx(0.025**0.5, abs=1e-6)
    assert result.interval.method == "pseudo-document-few-of-pairs"


@pytest.mark.parametrize("n", range(2, 60))
def test_a_foil_that_equals_its_text_gives_a_half_with_a_real_interval(n) -> None:
    """The negative control: no pair varies, which rounding must not hide (20 items are one such case)."""
    scores = np.linspace(-7, -1, n)
    result = paired_auc(scores, scores)
    assert result.auc == 0.5
    assert result.interval.method == "wilson-of-pairs"
    assert result.interval.hi - result.interval.lo == pytest.approx(
        wilson(n / 2, n).hi - wilson(n / 2, n).lo, rel=RTOL
    )


def test_ends_stay_within_zero_and_one_where_the_area_is_close_to_one() -> None:
    positives = np.array([10.0, 11.0, 12.0, 13.0, 0.5])
    negatives = np.array([0.0, 1.0, 2.0, 3.0, 0.25])
    interval = paired_auc(positives, negatives).interval
    assert 0 < interval.lo < interval.hi < 1


@pytest.mark.parametrize(
    ("positives", "negatives", "counts"),
    [([], [1.0], "0 positives and 1 negatives"), ([1.0, 2.0], [], "2 positives and 0 negatives")],
)
def test_an_empty_side_is_an_error_with_the_counts(positives, negatives, counts) -> None:
    for function in (auc, paired_auc):
        with pytest.raises(ValueError, match=counts):
            function(np.array(positives), np.array(negatives))


def test_unpaired_scores_are_an_error_with_the_counts() -> None:
    with pytest.raises(ValueError, match="3 positives and 2 negatives; need as many of both"):
        paired_auc(np.arange(3.0), np.arange(2.0))


def test_the_interval_covers_the_true_area_of_correlated_pairs() -> None:
    # x = s + e + 1, y = s + f: x - y' of different pairs has variance 4, so the area is Phi(1 / 2).
    truth = 0.6914624612740131
    hits = 0
    for world in range(300):
        g = np.random.default_rng(world)
        shared = g.normal(size=50)
        interval = paired_auc(shared + g.normal(size=50) + 1, shared + g.normal(size=50), level=0.9).interval
        hits += interval.lo <= truth <= interval.hi
    # 300 samples: standard error 0.017.
    assert 0.85 <= hits / 300 <= 0.95
