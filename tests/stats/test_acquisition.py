"""Windows, their maxima and nulls by slow loops; the decay by check 12 of the methods and by simulation."""

import numpy as np
import pytest

from memprobe.stats.acquisition import (
    highest,
    log_decay,
    mean_curve,
    null_rises,
    resampled_sums,
    windows,
)

EXACT = 1e-9


def rng():
    return np.random.default_rng(0)


def fit(time, kept, clusters=None, weight=None):
    clusters = np.zeros(len(time), dtype=np.int64) if clusters is None else clusters
    weight = np.ones(len(time)) if weight is None else weight
    return log_decay(np.asarray(time, dtype=np.float64), np.asarray(kept), clusters, weight, rng=rng())


def test_check_12_of_the_methods() -> None:
    found = fit([1, 10, 100, 1000], [0.8, 0.6, 0.4, 0.2])
    assert found.decay == pytest.approx(0.2, abs=EXACT)
    assert found.tau == pytest.approx(1e4, rel=EXACT)
    # R(1) = a log10(tau) = 0.8; per e-fold 0.0868589.
    assert found.decay * np.log10(found.tau) == pytest.approx(0.8, abs=EXACT)
    assert found.decay / np.log(10) == pytest.approx(0.0868589, abs=1e-7)
    assert (found.r2, found.n_points, found.reason) == (pytest.approx(1), 4, None)
    assert found.residual_se == pytest.approx(0, abs=EXACT)
    # One fact cannot say how facts differ.
    assert (found.decay_ends.lo, found.tau_ends.hi) == (None, None)


def test_the_line_is_that_of_weighted_least_squares() -> None:
    g = np.random.default_rng(3)
    time, kept, weight = g.integers(1, 5000, 50), g.random(50), g.random(50)
    kept -= 0.2 * np.log10(time)
    slope, intercept = np.polyfit(np.log10(time), kept, 1, w=np.sqrt(weight))
    found = fit(time, kept, weight=weight)
    assert found.decay == pytest.approx(-slope, abs=EXACT)
    assert found.tau == pytest.approx(10 ** (intercept / -slope), rel=1e-6)
    # A weight of two is a point given twice.
    twice = fit(np.append(time, time[:1]), np.append(kept, kept[:1]))
    heavy = fit(time, kept, weight=np.where(np.arange(50) == 0, 2.0, 1.0))
    assert (twice.decay, twice.r2) == pytest.approx((heavy.decay, heavy.r2), abs=EXACT)


def test_what_does_not_fall_has_no_tau() -> None:
    found = fit([1, 10, 100], [0.2, 0.4, 0.6])
    assert found.decay == pytest.approx(-0.2, abs=EXACT)
    assert (found.tau, found.tau_ends.lo) == (None, None)
    assert "does not fall" in found.reason


def test_what_hardly_falls_has_no_tau_either() -> None:
    found = fit([1, 10, 100], [0.9, 0.89, 0.88])
    assert (found.decay, found.tau) == (pytest.approx(0.01), None)
    assert "more than 10^15 steps" in found.reason


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ([], "no item has a checkpoint after"),
        ([5], "a single time"),
        ([5, 5], "a single time"),
        # 4e-5 of a decade apart: 0.1 less kept would be 2,300 less per decade.
        ([99_990, 100_000], "within a tenth"),
        ([1000, 1100], "within a tenth"),
    ],
)
def test_no_line_through_less_than_two_times(time, reason) -> None:
    assert fit([1000, 1101], [0.5, 0.4]).decay is not None
    found = fit(time, [0.5, 0.4][: len(time)])
    assert (found.decay, found.tau, found.r2) == (None, None, None)
    assert reason in found.reason


def drawn(g, n_facts=40, spread=0.1):
    """Facts whose decay and height differ, each seen at the same 12 times."""
    time = np.tile(np.geomspace(1, 2000, 12).round(), n_facts)
    fact = np.repeat(np.arange(n_facts), 12)
    slope = -0.2 + spread * g.normal(size=n_facts)
    height = 0.8 + spread * g.normal(size=n_facts)
    kept = height[fact] + slope[fact] * np.log10(time) + 0.02 * g.normal(size=len(time))
    return time, kept, fact


def test_the_interval_covers_what_least_squares_would_not() -> None:
    g = np.random.default_rng(5)
    covered = naive = 0
    for _ in range(120):
        time, kept, fact = drawn(g)
        found = log_decay(time, kept, fact, np.ones(len(time)), rng=g)
        covered += found.decay_ends.lo <= 0.2 <= found.decay_ends.hi
        x = np.log10(time)
        half = 1.96 * found.residual_se / np.sqrt(((x - x.mean()) ** 2).sum())
        naive += abs(found.decay - 0.2) <= half
    # 120 draws: a standard error of 0.02 at 0.95; points as if independent cover about three quarters.
    assert covered / 120 > 0.88
    assert naive / 120 < covered / 120 - 0.1


def test_the_order_of_points_changes_nothing() -> None:
    time, kept, fact = drawn(np.random.default_rng(6))
    order = np.random.default_rng(7).permutation(len(time))
    one, other = fit(time, kept, fact), fit(time[order], kept[order], fact[order])
    assert other.decay == pytest.approx(one.decay, abs=EXACT)
    assert other.decay_ends.lo == pytest.approx(one.decay_ends.lo, abs=EXACT)
    assert other.tau_ends.hi == pytest.approx(one.tau_ends.hi, rel=1e-6)


STEPS = np.array([0, 10, 20, 30, 40, 50])


def test_a_window_goes_from_the_injection_to_before_the_next() -> None:
    injection, following = np.array([10, 11, 25, 35, 60]), np.array([25, 25, 51, 36, 61])
    found = windows(injection, following, STEPS, None)
    # Exactly at 10: that checkpoint has seen it. 35 to 36 holds none; 60 is behind the last.
    assert found.first.tolist() == [1, 2, 3, 4, 6]
    assert found.last.tolist() == [2, 2, 5, 3, 5]
    assert found.n_checkpoints.tolist() == [2, 1, 3, 0, 0]
    assert found.end_step.tolist() == [24, 24, 50, 35, 50]


def test_a_width_counts_the_steps_from_the_injections_own() -> None:
    # Of 10 steps from 11: 11 to 20. Of 9: 11 to 19, without the checkpoint at 20.
    one, other = (windows(np.array([11]), np.array([51]), STEPS, width) for width in (10, 9))
    assert (one.n_checkpoints[0], other.n_checkpoints[0]) == (1, 0)
    assert one.end_step[0] == 20


def test_the_highest_and_the_null_agree_with_loops() -> None:
    g = np.random.default_rng(1)
    steps = np.arange(0, 200, 10)
    values = np.round(g.normal(size=(12, 20)), 1)
    row = np.repeat(np.arange(12), 3)
    injection = np.sort(g.integers(0, 220, (12, 3)), axis=1).ravel()
    following = np.append(injection[1:], 0)
    following[2::3] = 300
    found = windows(injection, following, steps, 45)
    lam = highest(values, row, found)
    for n, item in enumerate(row):
        inside = [p for p, s in enumerate(steps) if injection[n] <= s < min(following[n], injection[n] + 45)]
        # The first of equal ones: max keeps it.
        assert lam[n] == (max(inside, key=lambda p: values[item, p]) if inside else -1)
    unseen_to = g.integers(-1, 20, 12)
    total, count = null_rises(values, unseen_to, found)
    for item in range(12):
        rises = [
            values[item, first : last + 1].max() - values[item, first - 1]
            for first, last in zip(found.first, found.last, strict=True)
            if 0 < first <= last <= unseen_to[item]
        ]
        assert (count[item], total[item]) == (len(rises), pytest.approx(sum(rises), abs=EXACT))


def test_the_null_is_the_upward_bias_of_a_maximum() -> None:
    # E max of 3 standard normals = 3 / (2 sqrt(pi)) = 0.8463 above the mean of the checkpoint before.
    values = np.random.default_rng(2).normal(size=(4000, 5))
    found = windows(np.array([1]), np.array([4]), np.arange(5), None)
    total, count = null_rises(values, np.full(4000, 4), found)
    assert total.sum() / count.sum() == pytest.approx(1.5 / np.sqrt(np.pi), abs=0.06)
    # Item 0 is trained on before the window ends.
    assert null_rises(values, np.full(4000, 2), found)[1].sum() == 0


def test_resampled_sums_are_sums_over_drawn_clusters(monkeypatch) -> None:
    sums = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    drawn_sums = resampled_sums(sums, rng(), 50)
    assert drawn_sums.shape == (50, 2)
    assert drawn_sums[:, 1] == pytest.approx(10 * drawn_sums[:, 0])
    assert len(set(drawn_sums[:, 0])) > 4
    assert set(drawn_sums[:, 0]) <= {
        float(a + b + c) for a in (1, 2, 4) for b in (1, 2, 4) for c in (1, 2, 4)
    }
    monkeypatch.setattr("memprobe.stats.acquisition._BLOCK", 30)
    assert resampled_sums(sums, rng(), 50).shape == (50, 2)


def test_the_mean_at_each_time_has_the_error_of_its_clusters() -> None:
    # Two facts with means 0 and 1 (two items of the second): mean 2/3, sums apart -2/3 and 2/3.
    curve = mean_curve(np.array([7, 7, 7, 9]), np.array([0.0, 1.0, 1.0, 3.0]), np.array([0, 1, 1, 0]))
    assert curve.time.tolist() == [7, 9]
    assert curve.mean == pytest.approx([2 / 3, 3], abs=EXACT)
    # se = sqrt(2/1 * (4/9 + 4/9)) / 3 = 4/9; t with 1 degree of freedom at 0.975 = 12.7062.
    assert curve.hi[0] - curve.mean[0] == pytest.approx(12.7062 * 4 / 9, abs=1e-4)
    assert np.isnan(curve.lo[1])
    assert (curve.n.tolist(), curve.n_clusters.tolist()) == ([3, 1], [2, 1])
