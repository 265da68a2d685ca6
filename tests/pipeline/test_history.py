"""What is gathered of a sequence, when it is told, and when it is let go."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest

from memprobe.pipeline.history import HistoryBuilder, impossible, parameters_of
from memprobe.pipeline.plans import Target
from memprobe.probes.contract import OverTime, SequenceResult, no_estimates
from memprobe.probes.discovery import find
from memprobe.tables.manifest import ControlEntry, ItemsEntry
from tests.manifests import manifest_of

MANIFEST = manifest_of(
    items={"given": ["text"]},
    checkpoints=[
        {"model": "big", "revision": "step10", "n_parameters": None},
        {"model": "big", "revision": "step20", "n_parameters": 100},
        {"model": "small", "revision": "step20", "n_parameters": 10},
        {"model": "old", "revision": "step20"},
    ],
)


def target(model: str, step: int, tokenizer: str = "t") -> Target:
    return Target(model, f"step{step}", step, "context", tokenizer)


def plan(targets, *over_times):
    """A plan of one entry for each of these."""
    recall = find("recall")
    entries = [
        SimpleNamespace(
            entry=SimpleNamespace(
                probe=replace(recall, name=f"probe{place}", over_time=each), settings=recall.settings()
            )
        )
        for place, each in enumerate(over_times)
    ]
    items = pl.DataFrame({"item_id": ["a"], "text": ["hidden"], "group": ["g"], "exposures": [1]})
    lengths = SimpleNamespace(table=items, given=frozenset({"text", "exposures"}))
    return SimpleNamespace(targets=targets, entries=entries, lengths=lengths)


def table(step: int) -> pl.DataFrame:
    full = dict.fromkeys(find("recall").table.columns)
    return pl.DataFrame([full | {"item_id": "a", "step": step, "exact": True}])


@pytest.fixture
def heard():
    return []


@pytest.fixture
def alone(heard):
    def results(history, _):
        heard.append(history)
        return SequenceResult({}, no_estimates(), ("said",))

    return OverTime((), results, lambda *_: [])


@pytest.fixture
def beside(alone):
    return replace(alone, check_predictors=lambda own, others: [] if others else [f"{own.model} is alone"])


def gathered(targets, *over_times, scored=None) -> HistoryBuilder:
    history_builder = HistoryBuilder(plan(targets, *over_times), MANIFEST)
    for place in range(len(over_times)):
        for each in scored or targets:
            history_builder.add(place, each, table(each.step))
    return history_builder


def test_an_entry_over_one_sequence_is_told_at_once_and_its_rows_are_let_go(alone, beside, heard) -> None:
    history_builder = gathered([target("big", 20), target("big", 10)], alone, beside)
    (result,) = history_builder.results()
    assert result.result.warnings == ("big, probe0: said",)
    assert heard[0].steps == (10, 20)
    assert heard[0].rows["step"].to_list() == [10, 20]
    assert heard[0].others == ()
    assert list(history_builder.results()) == []
    assert [each.result.warnings for each in history_builder.results_with_others([history_builder])] == [
        ("big, probe1: said",)
    ]


def test_rows_are_what_was_measured_and_its_step(alone, heard) -> None:
    list(gathered([target("big", 10)], alone).results())
    assert heard[0].rows.columns[:2] == ["item_id", "step"]
    assert "exact" in heard[0].rows.columns
    assert not {"model", "revision", "group", "exposures"} & set(heard[0].rows.columns)
    assert heard[0].items.columns == ["item_id", "group", "exposures", "trained"]


def test_who_looks_beside_sees_the_rows_of_every_other_sequence(beside, heard) -> None:
    big = gathered([target("big", 10), target("big", 20)], beside, scored=[target("big", 20)])
    small = gathered([target("small", 20, tokenizer="other")], beside)
    nothing = HistoryBuilder(plan([target("none", 20)], beside), MANIFEST)
    assert [len(list(each.results_with_others([big, small, nothing]))) for each in (big, small, nothing)] == [
        1,
        1,
        0,
    ]
    (other,) = heard[0].others
    assert (other.model, other.steps, other.n_parameters, other.same_tokens) == ("small", (20,), 10, False)
    assert other.rows.height == 1
    assert (heard[0].model, heard[0].n_parameters, heard[0].missing) == ("big", 100, ("big@step10",))
    assert heard[1].others[0].missing == ("big@step10",)


def test_items_given_as_ids_are_the_same_tokens_for_all(beside, heard) -> None:
    manifest = MANIFEST.changed(items=ItemsEntry(given=("input_ids", "item_id")))
    histories = [
        HistoryBuilder(plan([target(name, 20, tokenizer=name)], beside), manifest)
        for name in ("big", "small")
    ]
    for history_builder in histories:
        history_builder.add(0, history_builder.plan.targets[0], table(20))
    list(histories[0].results_with_others(histories))
    assert heard[0].others[0].same_tokens


def test_the_number_of_parameters_may_be_unknown() -> None:
    assert parameters_of(target("big", 20), MANIFEST) == 100
    assert parameters_of(target("big", 10), MANIFEST) is None
    assert parameters_of(target("old", 20), MANIFEST) is None
    assert parameters_of(target("new", 20), MANIFEST) is None


def test_who_looks_beside_is_refused_only_where_no_sequence_has_an_answer(alone, beside) -> None:
    one, two = (plan([target(name, 20)], alone, beside) for name in ("big", "small"))
    assert impossible([one, two], MANIFEST) == []
    assert [each.what for each in impossible([one], MANIFEST)] == ["probe1: big is alone"]
    lacking = replace(alone, problems=lambda steps, *_: [f"at {steps}"])
    picky = replace(beside, check_predictors=lambda own, _: ["too small"] if own.model == "small" else [])
    both = [plan([target(name, 20)], lacking, picky) for name in ("big", "small")]
    assert [(each.what, each.where) for each in impossible(both, MANIFEST)] == [
        ("probe0: at (20,)", "big"),
        ("probe0: at (20,)", "small"),
    ]


def test_a_control_alone_is_asked_nothing_and_is_beside_nobody(alone, beside, heard) -> None:
    manifest = MANIFEST.changed(control=ControlEntry(model="small", revision="step20", label="small"))
    plans = [plan([target(name, 20)], alone, beside) for name in ("big", "small")]
    assert [each.what for each in impossible(plans, manifest)] == ["probe1: big is alone"]
    assert impossible(plans[1:], manifest) == []
    histories = [HistoryBuilder(each, manifest) for each in plans]
    for history_builder in histories:
        for place in (0, 1):
            history_builder.add(place, history_builder.plan.targets[0], table(20))
    assert list(histories[1].results()) == []
    list(histories[0].results_with_others(histories))
    assert heard[-1].others == ()
