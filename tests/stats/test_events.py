"""Learning and forgetting events: check 13 of the methods, a loop over items, and rates of clusters."""

import numpy as np
import pytest

from memprobe.stats.events import events, learned_states, rate
from memprobe.stats.intervals import wilson
from memprobe.stats.rates import rate_interval

EXACT = 1e-12


def of(*rows: list[int], start: list[int] | None = None, steps: list[int] | None = None):
    states = np.array(rows, dtype=np.bool_)
    n = states.shape[1]
    return events(states, np.array(start or [0] * len(rows)), np.array(steps or range(n)))


def test_check_13_of_the_methods() -> None:
    found = of([0, 1, 1, 0, 1, 0, 0, 1], [0] * 8, [0, 1, 1, 1, 1, 1, 1, 1])
    assert found.n_learning.tolist() == [3, 0, 1]
    assert found.n_forgetting.tolist() == [2, 0, 0]
    assert found.first_learned.tolist() == [1, -1, 1]
    assert found.first_forgotten.tolist() == [3, -1, -1]
    assert found.was_learned.tolist() == [True, False, True]
    assert found.last_state.tolist() == [True, False, True]


def test_what_is_learned_at_the_first_checkpoint_has_a_learning_event_there() -> None:
    found = of([1, 1, 0])
    assert (found.n_learning[0], found.first_learned[0], found.first_forgotten[0]) == (1, 0, 2)


def test_what_was_known_before_the_training_has_none() -> None:
    # First counted checkpoint 2: known at 1, so nothing is learned at 2; forgotten at 3, learned at 4.
    known, unknown = of([0, 1, 1, 0, 1], start=[2]), of([1, 0, 1, 0, 1], start=[2])
    assert (known.known_before[0], known.n_learning[0], known.n_forgetting[0]) == (True, 1, 1)
    # Known at 0 but not at 1, the last before the training: what comes is learned.
    assert (unknown.known_before[0], unknown.n_learning[0], unknown.n_forgetting[0]) == (False, 2, 1)
    assert unknown.first_learned[0] == 2
    assert unknown.counted[0] == 3


def test_before_training_and_after_the_last_checkpoint_nothing_counts() -> None:
    found = of([1, 0, 1], start=[3])
    assert (found.counted[0], found.n_learning[0], found.n_forgetting[0]) == (0, 0, 0)
    assert not found.was_learned[0]


def test_the_longest_run_is_by_steps_not_by_checkpoints() -> None:
    # Three checkpoints over 2 steps, then two over 96.
    found = of([1, 1, 1, 0, 1, 1], steps=[1, 2, 3, 4, 5, 101])
    assert (found.longest_from[0], found.longest_to[0]) == (4, 5)
    # A single checkpoint is a run of 0 steps; the first of equal runs is taken.
    assert (of([0, 1, 0, 1]).longest_from[0], of([0, 1, 0, 1]).longest_to[0]) == (1, 1)
    assert of([0, 0]).longest_to[0] == -1


def test_events_agree_with_a_loop_over_items() -> None:
    rng = np.random.default_rng(0)
    states = rng.random((60, 9)) < 0.5
    start = rng.integers(0, 10, 60)
    found = events(states, start, np.arange(9))
    for item in range(60):
        before = bool(start[item]) and bool(states[item, start[item] - 1])
        learning = forgetting = 0
        for now in states[item, start[item] :]:
            learning += bool(now) and not before
            forgetting += before and not bool(now)
            before = bool(now)
        assert (found.n_learning[item], found.n_forgetting[item]) == (learning, forgetting)


def test_hysteresis_ignores_what_trembles_around_one_threshold() -> None:
    values = np.array([[0.2, 0.55, 0.45, 0.55, 0.45, 0.1, 0.45]])
    plain = learned_states(values, 0.5, 0.5)
    assert plain[0].tolist() == [False, True, False, True, False, False, False]
    # Entered at 0.5, left below 0.3: learned until 0.1, and 0.45 does not enter again.
    wide = learned_states(values, 0.5, 0.3)
    assert wide[0].tolist() == [False, True, True, True, True, False, False]


def test_thresholds_are_reached_exactly_at_them() -> None:
    assert learned_states(np.array([[0.5, 0.3, 0.29]]), 0.5, 0.3)[0].tolist() == [True, True, False]
    assert learned_states(np.array([[-np.inf, 0.0]]), 0.0, 0.0)[0].tolist() == [False, True]


def test_a_rate_of_single_items_has_wilsons_interval() -> None:
    found = rate(np.array([True] + [False] * 19), np.arange(20))
    assert (found.value, found.n, found.n_clusters) == (0.05, 20, 20)
    # Check 5 of the methods: 1/20.
    assert (found.interval.lo, found.interval.hi) == pytest.approx((0.008881, 0.236131), abs=1e-6)
    assert found.interval.method == "wilson"


def test_items_in_documents_have_the_interval_of_all_rates() -> None:
    yes, clusters = np.repeat(np.arange(40) < 10, 2), np.repeat(np.arange(40), 2)
    assert rate(yes, clusters).interval == rate_interval(yes.astype(float), clusters)
    assert rate(yes, clusters).interval.method == "pseudo-document"


def test_the_interval_covers_where_clusters_differ() -> None:
    # 30 clusters of 8 whose rates are drawn around 0.3. Independent items would cover about 80%.
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(400):
        p = np.repeat(rng.beta(1.5, 3.5, 30), 8)
        yes = rng.random(240) < p
        found = rate(yes, np.repeat(np.arange(30), 8)).interval
        covered += found.lo <= 0.3 <= found.hi
        alone = wilson(float(yes.sum()), 240)
        naive += alone.lo <= 0.3 <= alone.hi
    # 400 draws: a standard error of 0.011 at 0.95.
    assert covered / 400 > 0.92
    assert naive / 400 < 0.88


def test_what_no_rate_can_say_is_none() -> None:
    assert rate(np.zeros(0, dtype=np.bool_), np.zeros(0)).value is None
    assert rate(np.array([True, False]), np.zeros(2)).interval is None
    assert rate(np.ones(9, dtype=np.bool_), np.repeat(np.arange(3), 3)).interval.hi == 1
