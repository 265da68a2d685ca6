"""Lags that cohorts share, and the items seen at all of them.

Rungs: hand counts; a search over all sets of points as slow recomputation; invariance to order.
"""

import itertools

import numpy as np
import pytest

from memprobe.stats.lags import complete_block, lag_points


def shown(steps, counts) -> list[list[int | None]]:
    """The step of each cohort at each point, null where it is not seen."""
    found = lag_points(np.array(steps), np.array(counts))
    return [
        [steps[at] if seen else None for at, seen in zip(row, flags, strict=True)]
        for row, flags, count in zip(found.step, found.seen, counts, strict=True)
        if count
    ]


def test_cohorts_of_evenly_spaced_checkpoints_meet_at_equal_distances() -> None:
    assert shown([0, 10, 20, 30], [5, 0, 2, 1]) == [
        [0, 10, 20, 30],
        [20, 30, None, None],
        [30, None, None, None],
    ]
    assert lag_points(np.array([0, 10, 20]), np.array([1, 1, 0])).distance.tolist() == [0, 10, 20]


def test_one_cohort_keeps_every_checkpoint_apart() -> None:
    # Distances 0, 1, 2, 100, 101: 100 and 101 differ by less than a tenth, but one cohort is at both.
    assert shown([3, 4, 5, 103, 104], [9, 0, 0, 0, 0]) == [[3, 4, 5, 103, 104]]


def test_nearly_equal_distances_of_different_cohorts_are_one_point() -> None:
    # Cohorts 0, 10, 20 and a checkpoint at 1000: 1000, 990 and 980 differ by less than a tenth.
    steps, counts = [0, 10, 20, 1000], [1, 1, 2, 0]
    assert shown(steps, counts) == [[0, 10, 20, 1000], [10, 20, None, 1000], [20, None, None, 1000]]
    # By items: (1000 + 990 + 2 * 980) / 4.
    assert lag_points(np.array(steps), np.array(counts)).distance.tolist() == [0, 10, 20, 987.5]
    # 120 is more than a tenth beyond 100, from the smallest of the point.
    assert shown([0, 10, 20, 120], [1, 1, 1, 0])[0] == [0, 10, 20, None, 120]


def test_a_point_never_joins_two_checkpoints_of_a_cohort() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        steps = np.unique(rng.integers(0, 300, 12))
        counts = rng.integers(0, 3, len(steps))
        counts[0] = 1
        found = lag_points(steps, counts)
        for row in np.flatnonzero(counts):
            assert found.step[row][found.seen[row]].tolist() == list(range(row, len(steps)))


def test_the_block_with_the_most_values_is_chosen() -> None:
    # Nine items at the first lag, six at two more, two at a fourth: 9, 12, 18 or 8 values.
    present = np.zeros((9, 4), dtype=bool)
    present[:, 0] = present[:6, 1] = present[:6, 2] = present[:2, 3] = True
    items, points = complete_block(present)
    assert items.tolist() == [True] * 6 + [False] * 3
    assert points.tolist() == [True, True, True, False]


def test_of_equal_blocks_the_one_with_more_lags_is_chosen() -> None:
    # Four items at one lag, two of them at another: 4 values either way.
    present = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=bool)
    items, points = complete_block(present)
    assert (items.sum(), points.sum()) == (2, 2)


def test_nothing_seen_is_an_empty_block() -> None:
    items, points = complete_block(np.zeros((3, 2), dtype=bool))
    assert not items.any()
    assert not points.any()


def test_where_later_lags_are_seen_of_fewer_items_no_set_of_lags_holds_more_values() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        followed = rng.integers(1, 7, 12)
        present = np.arange(6) < followed[:, None]
        best = max(
            present[:, list(lags)].all(1).sum() * n
            for n in range(1, 7)
            for lags in itertools.combinations(range(6), n)
        )
        items, points = complete_block(present)
        assert items.sum() * points.sum() == best
        assert present[items][:, points].all()


def test_the_order_of_items_does_not_matter() -> None:
    present = np.random.default_rng(1).random((20, 7)) < 0.8
    turn = np.random.default_rng(2).permutation(20)
    items, points = complete_block(present)
    turned_items, turned_points = complete_block(present[turn])
    assert (turned_points == points).all()
    assert (turned_items == items[turn]).all()


@pytest.mark.parametrize("n", [1, 2])
def test_a_cohort_at_the_last_checkpoint_has_one_point(n) -> None:
    assert shown([0, 7], [0, n]) == [[7]]
