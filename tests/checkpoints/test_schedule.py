"""Gaps of regular schedules: what is taken out of a published one is found, and nothing else is."""

import numpy as np
import pytest

from memprobe.checkpoints.schedule import missing_steps

# arXiv:2304.01373, section 2.1: 154 checkpoints.
PYTHIA = [0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)]


def test_the_published_schedule_has_no_gap() -> None:
    assert len(PYTHIA) == 154
    assert missing_steps(PYTHIA) == []


@pytest.mark.parametrize(
    "taken",
    [
        [64],
        [256],
        # The borders of the pieces: the last power of two, the first multiple of 1000, and both.
        [512],
        [1000],
        [512, 1000],
        [1000, 2000],
        [5000, 6000, 7000],
        [2, 142_000],
        [64, 5000, 77_000, 78_000],
        list(range(40_000, 80_000, 1000)),
    ],
    ids=lambda taken: f"{taken[0]}..{taken[-1]}",
)
def test_steps_taken_out_of_it_are_named(taken: list[int]) -> None:
    assert missing_steps([step for step in PYTHIA if step not in taken]) == taken


def test_any_three_steps_taken_out_of_it_are_named() -> None:
    rng = np.random.default_rng(3)
    # 0 and 1 begin the powers of two: without them these begin later. After 143000 nothing is known.
    inner = PYTHIA[2:-1]
    for _ in range(100):
        taken = sorted(rng.choice(inner, 3, replace=False).tolist())
        assert missing_steps([step for step in PYTHIA if step not in taken]) == taken


@pytest.mark.parametrize("taken", [[0], [1], [143_000]])
def test_what_a_schedule_begins_and_ends_with_cannot_be_missed(taken: list[int]) -> None:
    assert missing_steps([step for step in PYTHIA if step not in taken]) == []


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([0, 10, 20, 40, 50], [30]),
        # 20 once is a hole, 20 twice between tens are two holes, 20 to the end is a new stride.
        ([0, 10, 20, 30, 50, 60, 80, 90], [40, 70]),
        ([0, 10, 20, 30, 50, 70, 90], []),
        # Dense at first, then every 1000.
        ([*range(0, 501, 100), *range(1000, 4001, 1000), 6000, 7000], [5000]),
        ([1, 10, 100, 1000, 100_000], [10_000]),
        # The same stride on both sides of a long gap.
        ([0, 1, 2, 3, 40, 41, 42, 43], []),
        ([0, 1, 2, 3, 4, 7, 8, 9, 10], [5, 6]),
    ],
)
def test_holes_of_other_schedules(steps: list[int], missing: list[int]) -> None:
    assert missing_steps(steps) == missing


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [7],
        [0, 1000],
        [0, 10, 30],
        # Both of these could be powers of two, which are whole.
        [0, 1, 2, 4],
        [0, 1000, 2000, 4000],
        # A base and a late window; a rounded geometric schedule.
        [0, 100_000, 101_000, 102_000],
        [1, 3, 10, 32, 100, 316, 1000],
        [3, 17, 29, 58, 102, 230],
    ],
)
def test_what_may_be_meant_is_no_gap(steps: list[int]) -> None:
    assert missing_steps(steps) == []


def test_evenly_spaced_steps_that_were_rounded_have_no_gap() -> None:
    for updates in range(50, 700, 7):
        for n in range(3, 20):
            assert missing_steps([round(updates * i / n) for i in range(n + 1)]) == []


def test_order_and_repetition_do_not_matter() -> None:
    steps = [step for step in PYTHIA if step != 9000]
    assert missing_steps([*reversed(steps), 8000, 8000]) == [9000]


def test_scaling_a_linear_schedule_scales_its_gaps() -> None:
    steps = [0, 1, 2, 3, 5, 6, 7, 9]
    assert missing_steps(steps) == [4, 8]
    assert missing_steps([250 * step for step in steps]) == [1000, 2000]
