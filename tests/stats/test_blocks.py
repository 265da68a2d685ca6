"""Moving blocks: closed forms where neighbours do not depend, coverage where they do, and what is refused."""

import math

import numpy as np
import pytest

from memprobe.stats.blocks import Series, block_draws, moving_blocks, weighted_mean

# 2,000 draws: the standard deviation of a bootstrap standard error is about 1.6%.
SPREAD_TOLERANCE = 0.08


def series(values, overlap=1, weights=None) -> Series:
    values = np.asarray(values, dtype=np.float64)
    return Series(
        values, np.ones(len(values)) if weights is None else np.asarray(weights, np.float64), overlap
    )


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_mean_is_weighted_by_length_over_all_documents() -> None:
    # (1 * 1 + 0 * 3 + 0.5 * 4) / 8 = 0.375
    assert weighted_mean([series([1, 0], weights=[1, 3]), series([0.5], weights=[4])]) == 0.375


def test_a_block_is_the_overlap_times_the_cube_root_of_what_fits_without_overlap() -> None:
    # 8,000 windows of which 8 overlap: 1,000 apart, cube root 10.
    assert series(np.zeros(8000), overlap=8).block == 80
    assert series(np.zeros(27)).block == 3
    # Never longer than half of the document.
    assert series(np.zeros(10), overlap=9).block == 5


def test_draws_are_centred_on_the_estimate() -> None:
    # A ramp: plain moving blocks would see the ends less often than the middle.
    ramp = series(np.arange(100.0) ** 2, overlap=5)
    draws = block_draws([ramp], rng=rng())
    assert draws.shape == (2000,)
    assert draws.mean() == pytest.approx(weighted_mean([ramp]), rel=1e-12)


def test_blocks_of_independent_values_have_the_standard_error_of_the_mean() -> None:
    values = rng(1).normal(size=4000)
    draws = block_draws([series(values)], rng=rng(2))
    assert draws.std() == pytest.approx(values.std() / math.sqrt(4000), rel=SPREAD_TOLERANCE * 2)


def test_values_that_repeat_have_the_error_of_the_values_without_repeats() -> None:
    # Each value stands 10 times, so 4,000 values are worth 400: ten times as wide as if they were not.
    values = rng(3).normal(size=400)
    repeated = block_draws([series(np.repeat(values, 10), overlap=10)], rng=rng(4))
    assert repeated.std() == pytest.approx(values.std() / math.sqrt(400), rel=2 * SPREAD_TOLERANCE)
    naive = np.repeat(values, 10).std() / math.sqrt(4000)
    assert repeated.std() > 2.5 * naive


def test_two_documents_are_drawn_each_from_its_own_blocks() -> None:
    # One constant at 0, one at 1: whatever is drawn, the mean is 1/4.
    draws = block_draws([series(np.zeros(300)), series(np.ones(100))], rng=rng())
    np.testing.assert_allclose(draws, 0.25, atol=1e-12)


def test_the_interval_covers_the_mean_of_a_moving_average_about_as_often_as_it_says() -> None:
    # A moving average of 8 independent normals, mean 0: true mean known, neighbours depend.
    covered = 0
    for seed in range(200):
        noise = rng(seed).normal(size=1607)
        values = np.convolve(noise, np.ones(8) / 8, mode="valid")
        interval = moving_blocks([series(values, overlap=8)], rng=rng(seed + 1000), n_draws=400)
        covered += interval.lo <= 0 <= interval.hi
    # 95% of 200 is 190; block bootstraps fall a little short. Three standard errors of 0.92 are 0.058.
    assert 0.86 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_a_different_one() -> None:
    values = [series(rng(5).normal(size=300), overlap=3)]
    one, same, other = (moving_blocks(values, rng=rng(seed)) for seed in (7, 7, 8))
    assert one == same
    assert one != other
    assert (one.method, one.level) == ("moving-block", 0.95)
    assert one.lo < weighted_mean(values) < one.hi


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = [series(rng(5).normal(size=300), overlap=3)]
    narrow, wide = (moving_blocks(values, rng=rng(), level=level) for level in (0.5, 0.99))
    assert wide.lo < narrow.lo < narrow.hi < wide.hi


def test_fewer_than_four_blocks_give_no_interval() -> None:
    # Blocks of 2, the cube root of 8: three of them in 7 values, four in 8.
    assert moving_blocks([series([0.0, 1.0] * 3 + [0.0])], rng=rng()) is None
    assert moving_blocks([series([0.0, 1.0] * 4)], rng=rng()) is not None
    # Two documents of two blocks each make four.
    long = series(rng(6).normal(size=100), overlap=60)
    assert long.block == 50
    assert moving_blocks([long], rng=rng()) is None
    assert moving_blocks([long, long], rng=rng()) is not None


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        weighted_mean([])
