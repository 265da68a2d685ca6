"""Coverage against hand counts, a loop over characters, and its monotonicity in tau (property P5)."""

import math

import numpy as np
import pytest

from memprobe.stats.coverage import coverage


def of(starts, ends, probabilities, n_chars, tau):
    with np.errstate(divide="ignore"):
        logp = np.log(np.array(probabilities, dtype=np.float64))
    return coverage(np.array(starts, np.int64), np.array(ends, np.int64), logp, n_chars=n_chars, tau=tau)


def by_characters(starts, ends, probabilities, n_chars, tau):
    best = [
        max((p for s, e, p in zip(starts, ends, probabilities, strict=True) if s <= c < e), default=0.0)
        for c in range(n_chars)
    ]
    runs, run = [0], 0
    for value in best:
        run = run + 1 if value >= tau else 0
        runs.append(run)
    return sum(value >= tau for value in best), max(runs)


def test_one_certain_window_covers_exactly_its_suffix_characters() -> None:
    found = of([150], [310], [1.0], 1000, 0.5)
    assert (found.covered_chars, found.longest_run_chars, found.coverage_frac) == (160, 160, 0.16)


def test_overlap_counts_once_and_a_gap_ends_the_run() -> None:
    # [0, 10) and [5, 12) make 12 characters; [20, 24) makes 4 more.
    found = of([0, 5, 20], [10, 12, 24], [0.9, 0.6, 0.7], 30, 0.5)
    assert (found.covered_chars, found.longest_run_chars) == (16, 12)


def test_the_threshold_itself_covers_and_what_is_below_does_not() -> None:
    assert of([0], [10], [0.5], 10, 0.5).covered_chars == 10
    assert of([0], [10], [0.5 - 1e-9], 10, 0.5).covered_chars == 0


def test_an_impossible_suffix_covers_nothing_and_no_window_is_no_coverage() -> None:
    assert of([0], [10], [0.0], 10, 1e-12).covered_chars == 0
    assert of([], [], [], 10, 0.1).longest_run_chars == 0


@pytest.mark.parametrize("seed", range(5))
def test_it_matches_a_loop_over_characters_and_falls_with_tau(seed) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 180, 25)
    ends = starts + rng.integers(1, 20, 25)
    p = rng.random(25) ** 3
    taus = [0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0]
    found = [of(starts, ends, p, 200, tau) for tau in taus]
    assert [(each.covered_chars, each.longest_run_chars) for each in found] == [
        by_characters(starts, ends, p, 200, tau) for tau in taus
    ]
    fractions = [each.coverage_frac for each in found]
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[0] > fractions[-1]


@pytest.mark.parametrize(
    ("starts", "ends", "n_chars", "tau"),
    [
        ([0], [11], 10, 0.5),
        ([-1], [3], 10, 0.5),
        ([4], [3], 10, 0.5),
        ([0], [1], 0, 0.5),
        ([0], [1], 10, 0.0),
        ([0], [1], 10, 1.5),
    ],
)
def test_what_cannot_be_is_refused(starts, ends, n_chars, tau) -> None:
    with pytest.raises(ValueError, match="characters"):
        coverage(np.array(starts), np.array(ends), np.array([math.log(0.5)]), n_chars=n_chars, tau=tau)


def test_an_empty_suffix_covers_nothing() -> None:
    # A window may end within the first character of its suffix.
    assert of([4], [4], [1.0], 10, 0.5).covered_chars == 0
