"""Bootstrap of a mean: against all resamples, whole clusters drawn by a loop, invariances, coverage.

Rungs: exact enumeration of every resample (4^4 = 256), brute force over clusters, invariances
(shift, scale, block size), undefined cases, a seeded simulation.
"""

from itertools import product

import numpy as np
import pytest

from memprobe.stats import bootstrap
from memprobe.stats.bootstrap import bootstrap_mean

# Every subset sum is another number, so no two kinds of resample share a mean by chance.
VALUES = np.array([0.0, 1.0, 4.0, 20.0])
# Quantiles of 200,000 draws: a cumulated share is known to 0.0012 (one standard error, at a half).
MANY = 200_000
FOUR_SIGMA = 4 * 0.0012


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def enumerated(sums, sizes) -> np.ndarray:
    """Mean of every resample of as many clusters, sorted; shape (n^n,)."""
    n = len(sums)
    return np.sort(
        [sum(sums[i] for i in drawn) / sum(sizes[i] for i in drawn) for drawn in product(range(n), repeat=n)]
    )


def quantile_atoms(means: np.ndarray, share: float) -> tuple[float, float]:
    """Quantiles of the enumerated means a little below and a little above `share`."""
    lo, hi = np.quantile(
        means, [max(0, share - FOUR_SIGMA), min(1, share + FOUR_SIGMA)], method="inverted_cdf"
    )
    return float(lo), float(hi)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("values", [VALUES, VALUES[:3]], ids=["four", "three"])
def test_ends_are_the_quantiles_of_all_resamples(values, level) -> None:
    means = enumerated(values, np.ones(len(values)))
    interval = bootstrap_mean(values, rng=rng(), level=level, n_draws=MANY)
    below, above = quantile_atoms(means, (1 - level) / 2)
    assert below <= interval.lo <= above
    below, above = quantile_atoms(means, (1 + level) / 2)
    assert below <= interval.hi <= above
    assert (interval.level, interval.method) == (level, "bootstrap")


def test_two_values_by_hand() -> None:
    # Of the four resamples of (0, 1) one has mean 0, two 1/2, one 1: the middle 40% is 1/2 alone,
    # the middle 60% goes from 0 (share 1/4 > 0.2) to 1.
    assert bootstrap_mean(np.array([0.0, 1.0]), rng=rng(), level=0.4).lo == 0.5
    assert bootstrap_mean(np.array([0.0, 1.0]), rng=rng(), level=0.4).hi == 0.5
    assert bootstrap_mean(np.array([0.0, 1.0]), rng=rng(), level=0.6).lo == 0.0
    assert bootstrap_mean(np.array([0.0, 1.0]), rng=rng(), level=0.6).hi == 1.0


# Clusters of sizes 3, 1, 2, items of one cluster not side by side.
CLUSTERS = np.array([0, 1, 0, 2, 2, 0])
CLUSTERED = np.array([1.0, 10.0, 2.0, 5.0, 7.0, 6.0])


def test_clusters_are_resampled_whole() -> None:
    """Equal to drawing clusters one by one, putting their items together and taking the mean."""
    interval = bootstrap_mean(CLUSTERED, rng=rng(3), clusters=CLUSTERS, n_draws=400)
    draws = rng(3).integers(0, 3, size=(400, 3))
    means = [np.concatenate([CLUSTERED[each == CLUSTERS] for each in drawn]).mean() for drawn in draws]
    assert (interval.lo, interval.hi) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), rel=1e-12)
    assert interval.method == "cluster-bootstrap"


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_clusters_reach_the_quantiles_of_all_resamples_of_clusters(level) -> None:
    # Sums 9, 10, 12 of sizes 3, 1, 2.
    means = enumerated([9.0, 10.0, 12.0], [3, 1, 2])
    interval = bootstrap_mean(CLUSTERED, rng=rng(), clusters=CLUSTERS, level=level, n_draws=MANY)
    below, above = quantile_atoms(means, (1 - level) / 2)
    assert below - 1e-9 <= interval.lo <= above + 1e-9
    below, above = quantile_atoms(means, (1 + level) / 2)
    assert below - 1e-9 <= interval.hi <= above + 1e-9


def test_clusters_of_one_item_are_the_plain_bootstrap() -> None:
    plain = bootstrap_mean(VALUES, rng=rng())
    clustered = bootstrap_mean(VALUES, rng=rng(), clusters=np.arange(4))
    assert (plain.lo, plain.hi) == (clustered.lo, clustered.hi)


def test_copies_of_items_in_clusters_do_not_narrow_the_interval() -> None:
    once = bootstrap_mean(VALUES, rng=rng())
    copied = bootstrap_mean(np.repeat(VALUES, 50), rng=rng(), clusters=np.repeat(np.arange(4), 50))
    naive = bootstrap_mean(np.repeat(VALUES, 50), rng=rng())
    assert (copied.lo, copied.hi) == pytest.approx((once.lo, once.hi), rel=1e-12)
    assert naive.hi - naive.lo < (once.hi - once.lo) / 4


def test_shifting_and_scaling_the_values_moves_the_interval_along() -> None:
    one = bootstrap_mean(VALUES, rng=rng())
    other = bootstrap_mean(3 * VALUES - 5, rng=rng())
    assert (other.lo, other.hi) == pytest.approx((3 * one.lo - 5, 3 * one.hi - 5), rel=1e-12)


@pytest.mark.parametrize("block", [1, 7, 5 * 33, 5 * 2000])
def test_how_many_draws_are_made_at_once_changes_nothing(block, monkeypatch) -> None:
    # Five real numbers have 126 means: one draw too many moves an end.
    values = rng(0).normal(size=5)
    whole = [bootstrap_mean(values, rng=rng(seed), level=0.31) for seed in range(5)]
    monkeypatch.setattr(bootstrap, "_BLOCK", block)
    assert [bootstrap_mean(values, rng=rng(seed), level=0.31) for seed in range(5)] == whole


def test_drawing_few_values_is_drawing_many_items(monkeypatch) -> None:
    """The two ways make the same distribution: their ends agree as two runs of one way do."""
    values = np.repeat([0.0, 0.25, 1.0, 7.0], [2048, 1024, 1000, 88])
    ways = []
    for times in (16, 10**9):
        monkeypatch.setattr(bootstrap, "_MANY_TIMES", times)
        ways.append(bootstrap_mean(values, rng=np.random.default_rng(3), n_draws=8_000))
    few, items = ways
    # The mean's standard error is s / sqrt(n); an end of 8,000 draws is within a twentieth of that.
    error = values.std() / np.sqrt(len(values))
    assert few.lo != items.lo
    assert few.lo == pytest.approx(items.lo, abs=error / 8)
    assert few.hi == pytest.approx(items.hi, abs=error / 8)


def test_many_values_that_all_differ_are_drawn_as_items(monkeypatch) -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    drawn = bootstrap_mean(values, rng=np.random.default_rng(3), n_draws=200)
    monkeypatch.setattr(bootstrap, "_MANY", 10**9)
    assert bootstrap_mean(values, rng=np.random.default_rng(3), n_draws=200) == drawn


def test_the_draws_come_from_the_generator_that_is_given() -> None:
    values = rng(0).normal(size=30)
    assert bootstrap_mean(values, rng=rng(1)) == bootstrap_mean(values, rng=rng(1))
    assert bootstrap_mean(values, rng=rng(1)) != bootstrap_mean(values, rng=rng(2))


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = bootstrap_mean(np.full(5, 2.5), rng=rng())
    assert (interval.lo, interval.hi) == (2.5, 2.5)


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values to bootstrap"):
        bootstrap_mean(np.array([]), rng=rng())


def test_a_cluster_number_is_needed_for_every_value() -> None:
    with pytest.raises(ValueError, match="3 cluster numbers for 4 values"):
        bootstrap_mean(VALUES, rng=rng(), clusters=np.array([0, 1, 2]))


def covered(make, *, n_worlds: int = 200, clustered: bool) -> float:
    """Share of simulated samples whose 90% interval holds the true mean, 0."""
    hits = 0
    for world in range(n_worlds):
        values, clusters = make(rng(1000 + world))
        interval = bootstrap_mean(
            values, rng=rng(world), clusters=clusters if clustered else None, level=0.9, n_draws=300
        )
        hits += interval.lo <= 0 <= interval.hi
    return hits / n_worlds


def test_the_interval_covers_the_mean_of_independent_items() -> None:
    # 200 samples: the share has a standard error of 0.021; the percentile interval runs a little short.
    assert 0.82 <= covered(lambda g: (g.normal(size=40), None), clustered=False) <= 0.96


def test_items_that_belong_together_need_their_clusters() -> None:
    def world(g: np.random.Generator):
        clusters = np.repeat(np.arange(40), 5)
        return g.normal(size=40)[clusters] + 0.1 * g.normal(size=200), clusters

    assert 0.82 <= covered(world, clustered=True) <= 0.96
    # Five near-copies of each item: the naive interval is too narrow by sqrt(5), and covers about 54%.
    assert covered(world, clustered=False) < 0.7
