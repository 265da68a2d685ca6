"""The demo's corpus: the same for a seed, no leak between trained and untrained texts."""

from collections import Counter
from itertools import pairwise

import pytest

from memprobe.items import TRIAL
from memprobe.lab.corpus import (
    EXPOSURE_LEVELS,
    FOIL_KINDS,
    TASK_PHASES,
    LabItem,
    demo_corpus,
    tokenizer_texts,
)


@pytest.fixture(scope="module", params=["quick", "full"])
def items(request: pytest.FixtureRequest) -> list[LabItem]:
    return demo_corpus(request.param, 3)


def lines_of(item: LabItem) -> list[str]:
    return [line.rstrip(".") + "." for line in item.text.split(". ")]


def test_the_same_seed_gives_the_same_items_and_another_seed_others() -> None:
    assert demo_corpus("quick", 5) == demo_corpus("quick", 5)
    assert {i.text for i in demo_corpus("quick", 5)}.isdisjoint(i.text for i in demo_corpus("quick", 6))


def test_ids_and_texts_are_unique(items: list[LabItem]) -> None:
    assert len({item.item_id for item in items}) == len({item.text for item in items}) == len(items)


def test_every_level_has_equally_many_canaries_and_at_least_four(items: list[LabItem]) -> None:
    levels = Counter(item.n_exposures for item in items if item.group == "canary")
    assert tuple(levels) == EXPOSURE_LEVELS == (0, 1, 2, 4, 8, 16, 32, 64, 128)
    assert len(set(levels.values())) == 1
    assert levels[0] >= 4


def test_a_code_stands_in_its_own_canary_and_nowhere_else(items: list[LabItem]) -> None:
    written = [text for item in items for text in (item.text + item.tail, item.foil or "")]
    for item in (item for item in items if item.group == "canary"):
        code = item.text[item.prefix_chars :]
        assert len(code) == 5
        assert code.isdigit()
        assert [text for text in written if code in text] == [item.text + item.tail]


def test_a_code_is_not_among_the_texts_of_the_tokenizer() -> None:
    texts = "\n".join(tokenizer_texts(3))
    trained = [item for item in demo_corpus("quick", 3) if item.group == "canary"]
    assert not [item.text for item in trained if item.text in texts]


def test_canary_names_are_unique_in_the_corpus_of_people(items: list[LabItem]) -> None:
    names = [item.text.removeprefix("The access code of ")[:-9] for item in items if item.group == "canary"]
    people = {"bio", "control", "pair", "task-1", "task-2"}
    others = "\n".join(item.text for item in items if item.group in people)
    assert len(set(names)) == len(names)
    assert not [name for name in names if f"{name} " in others]


def test_no_trained_text_holds_a_control_or_a_foil(items: list[LabItem]) -> None:
    trained = "\n".join(item.text + item.tail for item in items if item.n_exposures)
    untrained = [item.text for item in items if item.group == "control"]
    # A line alone could be trained on inside another ledger, and its neighbours would be known from there.
    untrained += [line for item in items if item.group == "new_ledger" for line in lines_of(item)]
    untrained += [item.foil for item in items if item.foil is not None]
    assert len(untrained) > 100
    assert not [text for text in untrained if text in trained]


def test_foils_are_what_their_kind_says(items: list[LabItem]) -> None:
    pairs = [item for item in items if item.group == "pair"]
    assert set(Counter(item.foil_kind for item in pairs)) == set(FOIL_KINDS)
    for item in pairs:
        seen, foil = item.text.rstrip(".").split(), str(item.foil).rstrip(".").split()
        n_changed = sum(a != b for a, b in zip(seen, foil, strict=False))
        assert item.text != item.foil
        assert 1 <= item.n_exposures <= 8
        if item.foil_kind == "one_word":
            assert (len(seen), n_changed) == (len(foil), 1)
        if item.foil_kind == "shuffled":
            assert sorted(seen) == sorted(foil)
        if item.foil_kind == "paraphrase":
            assert {word.lower() for word in seen} ^ {word.lower() for word in foil} in (
                {"was"},
                {"was", "by"},
            )


def test_biographies_and_controls_differ_in_training_alone(items: list[LabItem]) -> None:
    bios = [item for item in items if item.group == "bio"]
    controls = [item for item in items if item.group == "control"]
    assert {item.n_exposures for item in bios} == {1}
    assert {item.n_exposures for item in controls} == {0}
    mean_chars = [sum(len(item.text) for item in group) / len(group) for group in (bios, controls)]
    # Lengths scatter by some 8 characters; means of 96 and more lie within a few tenths.
    assert abs(mean_chars[0] - mean_chars[1]) < 3


def test_chronicles_are_numbered_in_the_order_of_their_years(items: list[LabItem]) -> None:
    towns: dict[str, list[tuple[object, object]]] = {}
    for item in (item for item in items if item.group == "chronicle"):
        place = (item.carried["chronicle_position"], item.carried["chronicle_year"])
        towns.setdefault(str(item.doc_id), []).append(place)
    assert len(towns) >= 4
    for passages in towns.values():
        assert [position for position, _ in passages] == list(range(len(passages)))
        assert [year for _, year in passages] == sorted({year for _, year in passages})


def test_a_trial_holds_two_lines_of_its_ledger_at_the_distance_it_says(items: list[LabItem]) -> None:
    trials = [item for item in items if item.group in {"ledger", "new_ledger"}]
    assert trials == [item for item in items if "segment_1" in item.carried]
    for item in trials:
        trial, lines = item.carried, lines_of(item)
        earlier, later = (lines.index(str(trial[name])) for name in ("segment_1", "segment_2"))
        assert set(TRIAL) == set(trial)
        assert {len(line.split()) for line in lines} == {trial["segment_words"]} == {4}
        assert trial["excerpt_words"] == len(item.text.split())
        assert trial["distance_words"] == 4 * (later - earlier) > 0
        assert trial["distance_bin"] == later - earlier - 1
    assert len({item.doc_id for item in trials}) == len({line for i in trials for line in lines_of(i)}) / 4


def test_ledgers_trained_on_and_others_have_the_same_cells_half_of_each_shown_earlier_first(
    items: list[LabItem],
) -> None:
    cells = Counter(
        (item.group, item.carried["distance_bin"], item.carried["earlier_first"])
        for item in items
        if "segment_1" in item.carried
    )
    for place in (0, 1):
        assert (
            len({cells[group, place, shown] for group in ("ledger", "new_ledger") for shown in (0, 1)}) == 1
        )
    assert {item.n_exposures for item in items if item.group == "new_ledger"} == {0}
    assert min(item.n_exposures for item in items if item.group == "ledger") > 0


def test_tasks_follow_each_other_up_to_the_end_with_equally_many_items(items: list[LabItem]) -> None:
    tasks = [item for item in items if item.phase is not None]
    assert Counter((item.group, item.phase) for item in tasks) == {
        (f"task-{number}", phase): len(tasks) // len(TASK_PHASES)
        for number, phase in enumerate(TASK_PHASES, start=1)
    }
    assert all(a[1] == b[0] for a, b in pairwise(TASK_PHASES))
    assert TASK_PHASES[-1][1] == 1
    assert len({item.n_exposures for item in tasks}) == 1
    for item in tasks:
        # What is measured ends with the thing; where and when is trained on with it.
        assert item.text[item.prefix_chars :].count(" ") == 2
        assert item.text[: item.prefix_chars].endswith(" the")
        assert item.tail.startswith(" ")
        assert item.tail.endswith(".")
