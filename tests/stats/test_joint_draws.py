"""Bootstrap of whole curves: what is drawn together stays together; intervals, bias, and their coverage."""

import numpy as np
import pytest

from memprobe.stats.joint_draws import (
    Estimate,
    basic_estimate,
    curves_of,
    drawn_curves,
    percentile_estimate,
)

EXACT = 1e-12
# Standard errors of a share of 0.95 among 200 simulated samples are 0.015: four of them.
COVERAGE_SLACK = 0.06


def test_curves_are_means_of_their_sets() -> None:
    values = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert curves_of(values, np.array([0, 0, 1])).tolist() == [[0.5, 0.0], [1.0, 1.0]]


def test_an_item_is_drawn_with_all_its_outcomes() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((30, 1)) + np.array([0.0, 2.0, 5.0])
    drawn = drawn_curves(values, np.zeros(30, int), np.arange(30), n_draws=50, rng=rng)
    assert drawn.shape == (50, 1, 3)
    assert drawn[:, 0, 1] - drawn[:, 0, 0] == pytest.approx(2, abs=EXACT)
    assert np.ptp(drawn[:, 0, 0]) > 0


def test_draws_have_the_spread_of_a_mean() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 1))
    drawn = drawn_curves(values, np.zeros(400, int), np.arange(400), n_draws=2000, rng=rng)
    # A standard error from 2,000 draws is good to 1.6%: four of these.
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.064)


def test_a_document_is_drawn_whole_over_all_sets_that_it_is_in() -> None:
    # Four documents, each with the same outcome in both sets: both curves must move as one.
    values = np.array([[0.0], [0.3], [0.6], [1.0]] * 2)
    sets, clusters = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    drawn = drawn_curves(values, sets, clusters, n_draws=40, rng=np.random.default_rng(2))
    assert drawn[:, 0] == pytest.approx(drawn[:, 1], abs=EXACT)
    apart = drawn_curves(values, sets, np.arange(8), n_draws=40, rng=np.random.default_rng(2))
    assert not np.allclose(apart[:, 0], apart[:, 1])


def test_no_set_is_ever_without_items() -> None:
    sets = np.array([0] * 50 + [1])
    drawn = drawn_curves(np.ones((51, 2)), sets, np.arange(51), n_draws=200, rng=np.random.default_rng(3))
    assert (drawn == 1).all()


def test_blocks_of_draws_change_nothing_but_memory(monkeypatch) -> None:
    values = np.random.default_rng(4).random((20, 3))
    asked = (values, np.arange(20) % 2, np.arange(20))
    monkeypatch.setattr("memprobe.stats.joint_draws._BLOCK", 60)
    small = drawn_curves(*asked, n_draws=10, rng=np.random.default_rng(5))
    assert small.shape == (10, 2, 3)
    assert np.isfinite(small).all()
    # The last block holds one draw: 3 at once of 10.
    assert len(np.unique(small[:, 0, 0])) > 5


def test_basic_limits_mirror_the_quantiles_of_the_draws() -> None:
    draws = np.linspace(0.0, 1.0, 41)
    found = basic_estimate(0.8, draws, level=0.9)
    # Quantiles 0.05 and 0.95: [1.6 - 0.95, 1.6 - 0.05]; the draws' mean is 0.5.
    assert (found.lo, found.hi) == pytest.approx((0.65, 1.55), abs=EXACT)
    assert found.bias == pytest.approx(-0.3, abs=EXACT)
    assert found.is_biased


def test_a_bias_below_a_quarter_of_the_error_is_ignored() -> None:
    draws = np.array([-1.0, 1.0] * 500)
    assert not basic_estimate(0.2, draws).is_biased
    assert basic_estimate(0.3, draws).is_biased
    assert not Estimate(0.3).is_biased


def test_draws_that_do_not_vary_show_no_interval() -> None:
    assert basic_estimate(1.0, np.ones(9)) == Estimate(1.0)
    assert percentile_estimate(3.0, np.full(9, 3.0)) == Estimate(3.0)


def test_draws_that_are_infinite_too_often_show_no_interval() -> None:
    mostly = np.array([10.0] * 50 + [20.0] * 49 + [np.inf])
    found = percentile_estimate(10.0, mostly)
    assert (found.lo, found.hi, found.bias) == (10.0, 20.0, None)
    often = np.array([10.0] * 90 + [np.inf] * 10)
    assert percentile_estimate(10.0, often) == Estimate(10.0)


def test_an_interval_holds_its_estimate_where_all_draws_lie_far_on_one_side() -> None:
    # 0.99 and draws of 0.95 to 0.97: mirrored, they would be 1.01 to 1.03, above any share.
    found = basic_estimate(0.99, np.linspace(0.95, 0.97, 401))
    assert (found.lo, found.hi) == pytest.approx((0.99, 1.98 - 0.9505), abs=EXACT)
    found = basic_estimate(0.01, np.linspace(0.03, 0.05, 401))
    assert (found.lo, found.hi) == pytest.approx((0.02 - 0.0495, 0.01), abs=EXACT)


def test_draws_that_differ_by_rounding_alone_have_no_interval_and_no_bias() -> None:
    third = 0.1 + 0.2
    assert third != 0.3
    assert basic_estimate(0.3, np.array([0.3, third] * 50)) == Estimate(0.3)


def coverage(truth: np.ndarray, n_items: int, *, basic: bool) -> float:
    """Share of simulated samples in which the interval of the minimum holds the true minimum."""
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(200):
        values = (rng.random((n_items, len(truth))) < truth).astype(float)
        drawn = drawn_curves(values, np.zeros(n_items, int), np.arange(n_items), n_draws=200, rng=rng)
        lowest, draws = values.mean(0).min(), drawn[:, 0].min(-1)
        if basic:
            found = basic_estimate(float(lowest), draws)
            lo, hi = found.lo, found.hi
        else:
            lo, hi = np.quantile(draws, [0.025, 0.975])
        held += lo - EXACT <= truth.min() <= hi + EXACT
    return held / 200


def test_intervals_of_a_clear_minimum_cover_as_often_as_they_say() -> None:
    dip = np.array([0.7, 0.4, 0.6, 0.65, 0.7])
    assert coverage(dip, 200, basic=True) == pytest.approx(0.95, abs=COVERAGE_SLACK)


def test_of_a_flat_curve_mirrored_limits_cover_far_more_often_than_quantiles() -> None:
    # Ten scores of one height: the minimum is below all of them, and draws are below that again.
    flat = np.full(10, 0.6)
    assert coverage(flat, 100, basic=True) > 0.75
    assert coverage(flat, 100, basic=False) < 0.3
