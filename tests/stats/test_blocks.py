"""Moving blocks: closed forms where neighbours do not depend, coverage where they do, and what is refused."""

import math

import numpy as np
import pytest

from memprobe.stats.blocks import Series, block_draws, blocks_interval, moving_blocks, weighted_mean
from memprobe.stats.documents import document_rate

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


# Blocks as documents


def flags(n, *runs):
    """Values of n windows that are 1 in some runs, each with its first place and its length."""
    values = np.zeros(n)
    for first, length in runs:
        values[first : first + length] = 1
    return values


def passages(n, length, rate, rng):
    """Passages of one length, with gaps between them that remember nothing; begun long before the text."""
    end = 0
    values = np.zeros(n + 40 * length)
    while end < len(values):
        end += rng.geometric(1 / (1 + length * (1 - rate) / rate)) - 1
        values[end : end + length] = 1
        end += length
    return values[-n:]


def test_twenty_equal_blocks_are_documents_in_the_bound() -> None:
    found = blocks_interval([series(flags(1000, (0, 60), (500, 10)), overlap=5)]).interval
    # Blocks of 50: the run of 60 fills one and 10 of the next, the other lies within one.
    hits = np.zeros(20)
    hits[[0, 1, 10]] = 50, 10, 10
    expected = document_rate(hits, np.full(20, 50.0))
    assert (found.lo, found.hi) == pytest.approx((expected.lo, expected.hi), abs=1e-12)
    assert found.method == "pseudo-block"


def test_a_run_that_is_too_long_for_blocks_leaves_no_interval() -> None:
    # 1.2 blocks of 50 are 60.
    assert blocks_interval([series(flags(1000, (100, 60)), overlap=5)]).interval is not None
    found = blocks_interval([series(flags(1000, (100, 61)), overlap=5)])
    assert (found.interval, found.why) == (None, "none:long-run")


def test_a_gap_in_what_is_remembered_counts_as_a_passage_does() -> None:
    few, many = flags(1000, (100, 40)), 1 - flags(1000, (100, 40))
    one, other = (blocks_interval([series(each, overlap=5)]).interval for each in (few, many))
    assert (one.lo, one.hi) == pytest.approx((1 - other.hi, 1 - other.lo), abs=1e-6)
    assert blocks_interval([series(1 - flags(1000, (100, 61)), overlap=5)]).interval is None


def test_a_declared_passage_makes_blocks_of_twice_its_length() -> None:
    values = flags(4000, (100, 150), (2000, 150))
    assert blocks_interval([Series(values, np.ones(4000), 5, 150)]).interval.method == "pseudo-block"
    # 4,000 windows hold 13 blocks of 300, which are worth more than those of 400 would be: 10.
    widths = [
        blocks_interval([Series(np.zeros(4000), np.ones(4000), 5, passage)]).interval.hi
        for passage in (150, 200)
    ]
    assert widths == pytest.approx([1 - 0.025 ** (1 / 13), 1 - 0.025 ** (1 / 10)], abs=1e-3)
    # A run that is longer than what was declared allows says that the declaration is wrong.
    assert blocks_interval([Series(flags(4000, (100, 150)), np.ones(4000), 5, 50)]).why == "none:long-run"


def test_blocks_are_no_shorter_than_two_overlaps() -> None:
    found = blocks_interval([series(np.zeros(100), overlap=10)]).interval
    assert found.hi == pytest.approx(1 - 0.025 ** (1 / 5), abs=1e-6)
    assert blocks_interval([series(np.zeros(19), overlap=10)]).why == "none:few-clusters"
    few = blocks_interval([series(np.zeros(60), overlap=10)]).interval
    assert (few.method, few.hi) == ("pseudo-block-few", pytest.approx(1 - 0.025 ** (1 / 3), abs=1e-6))


def test_documents_enough_count_whole_where_one_of_them_is_memorized_whole() -> None:
    texts = [series(flags(200, (0, 200)), overlap=5), *[series(np.zeros(200), overlap=5)] * 19]
    found = blocks_interval(texts).interval
    expected = document_rate(np.array([200.0] + [0.0] * 19), np.full(20, 200.0))
    assert (found.lo, found.hi, found.method) == (expected.lo, expected.hi, "pseudo-document")
    assert blocks_interval(texts[:4]).why == "none:long-run"


def test_many_windows_of_several_documents_say_nothing_of_other_documents() -> None:
    """Documents may be memorized whole, so 5 without a hit have the bound of 5, however long they are."""
    texts = [series(np.zeros(300), overlap=10)] * 5
    five = blocks_interval(texts).interval
    assert five.method == "pseudo-document"
    assert five.hi == pytest.approx(1 - 0.025 ** (1 / 5), abs=1e-6)
    four = blocks_interval(texts[:4]).interval
    assert (four.method, four.hi < 0.1) == ("pseudo-block", True)


def test_documents_that_agree_do_not_hide_how_their_stretches_differ() -> None:
    half = series(np.tile(np.repeat([1.0, 0.0], 20), 10), overlap=1)
    found = blocks_interval([half] * 200).interval
    whole = document_rate(np.full(200, 200.0), np.full(200, 400.0))
    blocks = document_rate(np.tile([20.0, 0.0], 2000), np.full(4000, 20.0))
    assert whole.hi < blocks.hi
    assert (found.lo, found.hi) == (blocks.lo, blocks.hi)


def test_differences_have_their_bound_from_minus_1_to_1() -> None:
    alike = blocks_interval([series(np.zeros(400), overlap=2)], low=-1.0).interval
    assert (-alike.lo, alike.hi) == pytest.approx((1 - 0.025 ** (1 / 20),) * 2, abs=1e-6)
    lost = series(-flags(400, (0, 100)), overlap=2)
    assert blocks_interval([lost], low=-1.0).why == "none:long-run"
    with pytest.raises(ValueError, match="a value is not between 0 and 1"):
        blocks_interval([lost])
    with pytest.raises(ValueError, match="no values"):
        blocks_interval([])


@pytest.mark.parametrize("length", [10, 40, 50])
def test_passages_under_a_twentieth_of_the_document_are_covered(length) -> None:
    """Moving blocks covered 0.69 with passages of 40 windows."""
    source = rng(length)
    found = [
        blocks_interval([series(passages(1000, length, 0.1, source), overlap=5)]).interval for _ in range(150)
    ]
    held = [each.lo <= 0.1 <= each.hi for each in found if each is not None]
    # 150 draws: a standard error of 0.02 at the 0.92 that is promised.
    assert len(held) > 120
    assert np.mean(held) >= 0.88
