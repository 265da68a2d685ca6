"""Order and truth against a small case by hand."""

import json
import stat

import polars as pl
import pytest

from memprobe.lab.corpus import LabItem
from memprobe.lab.truth import (
    phase_steps,
    swap,
    training_order,
    truth_table,
    with_task_ends,
    write_items,
)

ITEMS = [
    LabItem("a", "canary", "code 12", 2, prefix_chars=5),
    LabItem("b", "bio", "life", 1),
    LabItem("c", "control", "other life", 0),
    LabItem("d", "pair", "seen", 1, foil="foil", foil_kind="novel", doc_id="doc", carried={"year": 1200}),
]
# Updates 1, 2, 3; item a in updates 1 and 3, at places 1 and 0.
BATCHES = [[1, 0], [3], [0]]


def test_every_exposure_is_a_row_and_an_untrained_item_has_one_without_step() -> None:
    truth = truth_table(ITEMS, BATCHES, frozenset({"b"}))
    assert truth.rows() == [
        ("a", "canary", 1, 1, 1, False),
        ("a", "canary", 2, 3, 0, False),
        ("b", "bio", 1, 1, 0, True),
        ("d", "pair", 1, 2, 0, False),
        ("c", "control", 0, None, None, False),
    ]


def test_items_beyond_those_listed_leave_no_row() -> None:
    truth = truth_table(ITEMS[:3], BATCHES, frozenset())
    assert truth["item_id"].unique().sort().to_list() == ["a", "b", "c"]


def test_the_item_file_says_first_and_last_step_and_exposures_of_canaries_alone(tmp_path) -> None:
    path = tmp_path / "items.jsonl"
    write_items(ITEMS, truth_table(ITEMS, BATCHES, frozenset()), path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            **{"item_id": "a", "prefix": "code ", "suffix": "12", "group": "canary", "exposures": 2},
            **{"first_step": 1, "last_step": 3, "exposure_steps": [1, 3]},
        },
        {
            **{"item_id": "b", "text": "life", "group": "bio"},
            **{"first_step": 1, "last_step": 1, "exposure_steps": [1]},
        },
        {
            **{"item_id": "c", "text": "other life", "group": "control"},
            **{"first_step": None, "last_step": None, "exposure_steps": None},
        },
        {
            **{"item_id": "d", "text": "seen", "foil": "foil", "foil_kind": "novel", "group": "pair"},
            **{"first_step": 2, "last_step": 2, "exposure_steps": [2], "doc_id": "doc", "year": 1200},
        },
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_with_a_twin_the_trained_items_say_whether_they_are_left_out(tmp_path) -> None:
    path = tmp_path / "items.jsonl"
    write_items(ITEMS, truth_table(ITEMS, BATCHES, frozenset({"b"})), path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row.get("left_out") for row in rows] == [False, True, None, False]


def test_the_order_holds_every_exposure_once_in_full_batches() -> None:
    counts = [0, 1, 7, 128, 3]
    batches = training_order(counts, 4, seed=1)
    flat = [index for batch in batches for index in batch]
    assert [flat.count(index) for index in range(5)] == counts
    assert [len(batch) for batch in batches] == [4] * 34 + [3]


def test_the_order_depends_on_the_seed_alone() -> None:
    assert training_order([5, 9, 2], 2, seed=1) == training_order([5, 9, 2], 2, seed=1)
    assert training_order([5, 9, 2], 2, seed=1) != training_order([5, 9, 2], 2, seed=2)


def test_exposures_are_spread_over_the_training() -> None:
    # 100 items of 4 exposures: one in each quarter, up to the few places that a random draw shifts.
    truth = truth_table(
        [LabItem(f"{i:03d}", "bio", str(i), 4) for i in range(100)],
        training_order([4] * 100, 4, 0),
        frozenset(),
    )
    first_half = truth.filter(pl.col("exposure_index") <= 2)["step"]
    assert first_half.max() == pytest.approx(50, abs=2)
    assert first_half.n_unique() == pytest.approx(50, abs=2)


def test_a_phase_is_told_in_updates_and_its_end_in_the_item_file() -> None:
    early = LabItem("a", "task-1", "x", 3, phase=(1 / 7, 4 / 7), carried={"year": 1200})
    # 489 / 7 = 69.9, 4 * 489 / 7 = 279.4.
    assert phase_steps(early, 489) == (70, 279)
    assert phase_steps(ITEMS[0], 489) is None
    told = with_task_ends([early, ITEMS[3]], 489)
    assert told[0].carried == {"year": 1200, "task_end_step": 279}
    assert told[1] == ITEMS[3]


def test_exposures_of_a_phase_fall_inside_it_and_nowhere_else() -> None:
    # 5 items of 8 exposures in updates 11 to 20, 5 in 21 to 30, 10 anywhere: 160 in 40 updates of 4.
    phases = dict.fromkeys(range(5), (10, 20)) | dict.fromkeys(range(5, 10), (20, 30))
    batches = training_order([8] * 20, 4, 3, phases)
    steps = {i: [step for step, batch in enumerate(batches, 1) if i in batch] for i in range(20)}
    assert sorted(index for batch in batches for index in batch) == sorted([*range(20)] * 8)
    early, late = ([step for i in part for step in steps[i]] for part in (range(5), range(5, 10)))
    assert (min(early), max(early)) == (11, 20)
    assert (min(late), max(late)) == (21, 30)
    # The j-th exposure of eight falls into the j-th eighth of its phase, give or take what others displace.
    assert all(steps[i][0] <= 13 for i in range(5))
    assert all(steps[i][-1] >= 18 for i in range(5))


def test_items_without_a_phase_keep_their_order() -> None:
    with_phase = training_order([4] * 10, 1, 5, {0: (8, 20), 3: (8, 20)})
    alone = [batch for batch in training_order([4] * 10, 1, 5) if batch[0] not in (0, 3)]
    assert [batch for batch in with_phase if batch[0] not in (0, 3)] == alone


def test_a_phase_without_room_is_an_error_with_both_counts() -> None:
    with pytest.raises(ValueError, match="9 exposures in a phase with room for 8"):
        training_order([9, 9], 4, 0, {0: (1, 3)})


def test_a_swap_replaces_items_and_keeps_everything_else_in_place() -> None:
    assert swap(BATCHES, {0: 9}) == [[1, 9], [3], [9]]
