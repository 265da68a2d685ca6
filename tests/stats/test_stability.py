"""Measures of stability against methods section 22 check 9, loops over the formulas, and invariances."""

import numpy as np
import pytest

from memprobe.stats.stability import Design, gaps, largest_drop, measures, task_checkpoints

# Sums of a few float64 numbers.
EXACT = 1e-12


def check_9(unseen: float = 0.0) -> tuple[np.ndarray, Design]:
    """Scores of three sets at steps 1 to 5; `unseen` is where a set is not yet trained on."""
    curves = np.full((3, 5), unseen)
    curves[0] = 0.9, 0.4, 0.7, 0.6, 0.65
    curves[1, 2:] = 0.8, 0.5, 0.75
    curves[2, 4] = 0.95
    return curves, Design((1, 2, 3, 4, 5), (0, 2, 4), untrained=False, windows=(2,))


def pooled(curves, design) -> dict:
    return {
        each.name if each.window is None else (each.name, each.window): float(each.pooled)
        for each in measures(curves, design)
        if each.reason is None
    }


@pytest.mark.parametrize("unseen", [0.0, 0.99, -7.0])
def test_the_scores_of_check_9_have_its_measures_whatever_was_before_a_task(unseen) -> None:
    found = pooled(*check_9(unseen))
    # Lowest after their task: 0.4 and 0.5.
    assert found["min_acc"] == pytest.approx(0.45, abs=EXACT)
    # 0.95 / 3 + (1 - 1/3) 0.45.
    assert found["wc_acc"] == pytest.approx(0.95 / 3 + 0.3, abs=EXACT)
    assert found["wc_acc"] == pytest.approx(0.6166667, abs=1e-7)
    assert found["acc"] == pytest.approx((0.65 + 0.75 + 0.95) / 3, abs=EXACT)
    # (0.65 - 0.9 + 0.75 - 0.8) / 2.
    assert found["bwt"] == pytest.approx(-0.15, abs=EXACT)
    # (max(0.9, 0.7) - 0.65 + 0.8 - 0.75) / 2; the 0.6 at step 4 is no end of a task.
    assert found["forgetting_chaudhry"] == pytest.approx(0.15, abs=EXACT)


def test_the_windows_of_check_9() -> None:
    curve = check_9()[0][0]
    assert largest_drop(curve, 2) == pytest.approx(0.5, abs=EXACT)
    assert largest_drop(-curve, 2) == pytest.approx(0.3, abs=EXACT)
    # The largest rise begins at the trough, not at the highest value so far.
    assert largest_drop(-np.array([0.5, 0.1, 0.9]), 3) == pytest.approx(0.8, abs=EXACT)


def test_a_drop_is_that_of_two_loops_over_a_window_and_needs_no_floor() -> None:
    rng = np.random.default_rng(0)
    curves = rng.random((4, 3, 12))
    for window in (2, 3, 7, 12, 40):
        found = largest_drop(curves, window)
        for at in np.ndindex(4, 3):
            one = curves[at]
            by_hand = max(one[m] - one[n] for n in range(12) for m in range(max(0, n - window + 1), n))
            assert found[at] == pytest.approx(by_hand, abs=EXACT)
    # A curve that only rises falls by less than nothing: its smallest rise.
    assert largest_drop(np.array([0.1, 0.2, 0.5]), 3) == pytest.approx(-0.1, abs=EXACT)
    with pytest.raises(ValueError, match="1 checkpoints in windows of 2"):
        largest_drop(np.array([0.5]), 2)
    with pytest.raises(ValueError, match="3 checkpoints in windows of 1"):
        largest_drop(np.zeros(3), 1)


def test_measures_are_those_of_loops_over_their_formulas() -> None:
    rng = np.random.default_rng(1)
    ends, n_steps = (2, 3, 6, 8), 10
    a = rng.random((4, n_steps))
    found = pooled(a, Design(tuple(range(n_steps)), ends, untrained=True, windows=(3,)))
    r = [[a[i, ends[j]] for i in range(4)] for j in range(4)]
    assert found["acc"] == pytest.approx(sum(r[3]) / 4)
    assert found["bwt"] == pytest.approx(sum(r[3][i] - r[i][i] for i in range(3)) / 3)
    assert found["fwt"] == pytest.approx(sum(r[i - 1][i] - a[i, 0] for i in (1, 2, 3)) / 3)
    fallen = [max(r[j][i] for j in range(i, 3)) - r[3][i] for i in range(3)]
    assert found["forgetting_chaudhry"] == pytest.approx(sum(fallen) / 3)
    lowest = [min(a[i, n] for n in range(ends[i] + 1, 9)) for i in range(3)]
    assert found["min_acc"] == pytest.approx(sum(lowest) / 3)
    assert found["wc_acc"] == pytest.approx(r[3][3] / 4 + 3 / 4 * sum(lowest) / 3)
    begins = (0, 2, 3, 6)
    drops = [
        max(a[i, m] - a[i, n] for n in range(b, 9) for m in range(max(b, n - 2), n))
        for i, b in enumerate(begins)
    ]
    assert found["wf", 3] == pytest.approx(sum(drops) / 4)


def test_draws_in_front_give_each_the_measures_of_its_own_curves() -> None:
    rng = np.random.default_rng(2)
    draws = rng.random((5, 3, 6))
    design = Design((0, 10, 20, 30, 40, 50), (1, 3, 5), untrained=True, windows=(2, 4))
    together = measures(draws, design)
    for b in range(5):
        for whole, alone in zip(together, measures(draws[b], design), strict=True):
            assert whole.pooled[b] == pytest.approx(alone.pooled, abs=EXACT)
            assert whole.each[b] == pytest.approx(alone.each, abs=EXACT)
    assert gaps(draws, design).depth[3] == pytest.approx(gaps(draws[3], design).depth, abs=EXACT)


def test_a_constant_shifts_scores_and_no_difference_and_a_factor_scales_all() -> None:
    curves, design = check_9(0.1)
    plain, moved, scaled = (pooled(each, design) for each in (curves, curves + 5, curves * 3))
    for name in ("acc", "min_acc", "wc_acc"):
        assert moved[name] == pytest.approx(plain[name] + 5, abs=EXACT)
    for name in ("bwt", "forgetting_chaudhry", ("wf", 2), ("wp", 2)):
        assert moved[name] == pytest.approx(plain[name], abs=EXACT)
    assert scaled == pytest.approx({name: 3 * value for name, value in plain.items()}, abs=EXACT)


def test_sets_that_only_get_better_lose_nothing() -> None:
    curves = np.linspace(0, 1, 5) * np.array([[0.5], [0.6], [0.7]])
    found = pooled(curves, Design((0, 1, 2, 3, 4), (1, 2, 4), untrained=True))
    assert found["bwt"] > 0
    assert found["fwt"] > 0
    assert found["forgetting_chaudhry"] < 0


def test_what_comes_after_the_last_task_counts_nowhere() -> None:
    curves, design = check_9()
    longer = np.concatenate([curves, np.zeros((3, 2))], axis=1)
    after = Design((*design.steps, 6, 7), design.ends, untrained=False, windows=(2,))
    assert pooled(longer, after) == pooled(curves, design)


def test_one_task_alone_has_a_score_and_reasons() -> None:
    found = {each.name: each for each in measures(np.array([[0.2, 0.4]]), Design((0, 9), (1,), True, (2,)))}
    assert found["acc"].pooled == 0.4
    assert found["wp"].pooled == pytest.approx(0.2)
    for name in ("bwt", "fwt", "forgetting_chaudhry", "min_acc", "wc_acc"):
        assert "one task alone" in found[name].reason
    with pytest.raises(ValueError, match="no switch"):
        gaps(np.array([[0.2, 0.4]]), Design((0, 9), (1,), True))


def test_transfer_needs_an_untrained_model_and_windows_as_many_checkpoints() -> None:
    curves, design = check_9()
    found = {(each.name, each.window): each for each in measures(curves, design)}
    assert found["fwt", None].reason == "the first checkpoint, at step 1, is not an untrained model"
    wide = Design(design.steps, design.ends, untrained=True, windows=(5, 6))
    found = {(each.name, each.window): each for each in measures(curves, wide)}
    assert found["wf", 5].reason is None
    assert "5 checkpoints up to the end of the last task, fewer than the window" in found["wf", 6].reason
    # Set 1 had 0 at step 1, as untrained; set 2 has 0 at step 3.
    assert found["fwt", None].pooled == 0


def test_a_gap_has_its_depth_its_trough_and_the_time_until_the_score_is_back() -> None:
    steps = (0, 10, 20, 25, 40, 60, 80)
    #         task 0 ends at 10 | task 1 to 60 | task 2 to 80
    curves = np.array(
        [
            [0.0, 0.8, 0.3, 0.5, 0.8, 0.9, 0.7],
            [0.0, 0.0, 0.2, 0.3, 0.4, 0.6, 0.6],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9],
        ]
    )
    design = Design(steps, (1, 5, 6), untrained=True)
    assert design.pairs == ((0, 0), (1, 0), (1, 1))
    found = gaps(curves, design)
    # 0.8 - 0.3; 0.9 - 0.7; 0.6 - 0.6.
    assert found.depth == pytest.approx([0.5, 0.2, 0.0], abs=EXACT)
    assert [steps[place] for place in found.trough] == [20, 80, 80]
    # Back at 0.8 at step 40, exactly: 30 updates after the switch at 10; never back; never below.
    assert found.recovery_steps.tolist() == [30.0, np.inf, 0.0]


def test_a_score_that_is_back_before_its_lowest_is_not_back() -> None:
    curves = np.array([[0.5, 0.4, 0.6, 0.1, 0.55], [0.0, 0.0, 0.0, 0.0, 1.0]])
    found = gaps(curves, Design((0, 1, 2, 3, 4), (0, 4), untrained=False))
    assert found.recovery_steps.tolist() == [4.0]
    assert found.depth == pytest.approx([0.4])


@pytest.mark.parametrize(
    ("steps", "ends", "expected"),
    [
        # Exactly at the boundary; between two; beyond the last.
        ((0, 10, 20, 30), (10, 25, 99), [1, 2, 3]),
        # Step 11 is above 10, so task 2 has one; nothing lies above 11 and up to 12.
        ((0, 10, 11, 30), (10, 11, 12), [1, 2, None]),
        # The checkpoint at step 0 has seen nothing of a task that ends later.
        ((0, 10, 20), (5, 10), [None, 1]),
        # Where the first task is what came before step 0, its checkpoint is that of step 0.
        ((0, 10, 20), (0, 20), [0, 2]),
        ((10, 20), (5, 20), [None, 1]),
    ],
)
def test_the_checkpoint_of_a_task_is_the_last_that_saw_nothing_of_the_next(steps, ends, expected) -> None:
    assert task_checkpoints(steps, ends) == expected
