"""The order of training: stages, methods, positions, units; in folders and on the hub."""

import pytest

from memprobe.checkpoints import resolve
from memprobe.checkpoints.survey import survey
from memprobe.checkpoints.verify import verify
from memprobe.errors import CheckpointError, Problem

STAGES = (
    "stage1-step0",
    "stage1-step2000",
    "stage1-step4000-tokens9B",
    "stage2-ingredient1-step1000-tokens5B",
)


def refused(*specs: str, **options) -> tuple[Problem, ...]:
    with pytest.raises(CheckpointError) as caught:
        resolve(specs, **options)
    return caught.value.problems


def steps_of(spec: str, **options) -> list[tuple[str, int | None]]:
    (sequence,) = resolve([spec], **options)
    return [(each.revision, each.step) for each in sequence.checkpoints]


@pytest.fixture(params=["folder", "hub"])
def place(request, make, hub):
    """Return a maker of named checkpoints, which gives their spec: a folder, or a pattern on the hub."""

    def of(*names: str) -> str:
        for i, name in enumerate(names):
            if request.param == "folder":
                make(f"main/{name}", fill=i)
            else:
                hub.add("org/main", name)
        return "main" if request.param == "folder" else "org/main@*"

    return of


def test_stages_are_refused_with_their_names(place) -> None:
    (problem,) = refused(place(*STAGES))
    assert "stage1 (stage1-step0, stage1-step2000, stage1-step4000-tokens9B)" in problem.what
    assert "stage2-ingredient1 (stage2-ingredient1-step1000-tokens5B)" in problem.what
    assert "--stages" in problem.fix


def test_stages_given_count_the_steps_on(place) -> None:
    (sequence,) = resolve([place(*STAGES)], stages="stage1,stage2-ingredient1")
    assert [(each.revision, each.step) for each in sequence.checkpoints] == [
        ("stage1-step0", 0),
        ("stage1-step2000", 2000),
        ("stage1-step4000-tokens9B", 4000),
        ("stage2-ingredient1-step1000-tokens5B", 5000),
    ]
    note = "stage2-ingredient1 starts at step 4,000, the last of stage1: its steps are counted on from there"
    assert note in sequence.notes


def test_the_order_is_the_users(place) -> None:
    spec = place("sft-step100", "sft-step200", "dpo-step100", "dpo-step0")
    assert steps_of(spec, stages="sft,dpo") == [
        ("sft-step100", 100),
        ("sft-step200", 200),
        ("dpo-step100", 300),
    ]
    assert [name for name, _ in steps_of(spec, stages="dpo, sft")][:2] == ["dpo-step0", "dpo-step100"]


def test_step_0_of_a_later_stage_is_the_end_of_the_one_before(place) -> None:
    spec = place("sft-step100", "dpo-step0", "dpo-step50")
    (sequence,) = resolve([spec], stages="sft,dpo")
    assert [each.step for each in sequence.checkpoints] == [100, 150]
    assert "left out, as step 0 of dpo is the end of the stage before: dpo-step0" in sequence.notes


def test_three_stages_count_on_from_each_other(place) -> None:
    spec = place("a-step10", "b-step20", "c-step5")
    assert [step for _, step in steps_of(spec, stages="c,a,b")] == [5, 15, 35]


def test_stages_that_are_not_named_are_left_out_and_listed(place) -> None:
    spec = place(*STAGES)
    (sequence,) = resolve([spec], stages="stage1")
    assert [each.step for each in sequence.checkpoints] == [0, 2000, 4000]
    note = "left out, as --stages does not name their stage: stage2-ingredient1-step1000-tokens5B"
    assert note in sequence.notes


def test_steps_may_choose_one_stage(place) -> None:
    assert [step for _, step in steps_of(place(*STAGES), steps="0,2000,4000")] == [0, 2000, 4000]


def test_steps_are_those_that_are_counted_on(place) -> None:
    found = steps_of(place(*STAGES), stages="stage1,stage2", steps="4000..5000")
    assert [step for _, step in found] == [4000, 5000]


def test_a_stage_may_be_named_by_its_beginning_where_one_has_it(place) -> None:
    spec = place("stage1-step10", "stage2-a-step1", "stage2-b-step1")
    (problem,) = refused(spec, stages="stage1,stage2")
    assert "`stage2` of --stages names stage2-a, stage2-b" in problem.what
    assert [step for _, step in steps_of(spec, stages="stage1,stage2-b")] == [10, 11]


def test_an_unknown_stage_is_refused_with_the_labels(place) -> None:
    (problem,) = refused(place(*STAGES), stages="stage1,stage3")
    assert problem.what == "no checkpoint has `stage3` in its name, did you mean `stage1`?"
    assert problem.fix == "labels are stage1, stage2-ingredient1"


@pytest.mark.parametrize(("stages", "what"), [("a,,b", "a label is empty"), ("a,b,a", "a is given twice")])
def test_badly_formed_stages_are_refused(place, stages: str, what: str) -> None:
    (problem,) = refused(place("a-step1", "b-step1"), stages=stages)
    assert (problem.what, problem.where) == (what, f"--stages {stages}")


@pytest.mark.parametrize(
    "names",
    [
        ("step-4000", "lc-4k-to-32k-step-4000"),
        ("lc-4k-to-32k-step-4000", "lc-32k-to-64k-step-20000"),
        ("stage1-step1000", "stage2-step2000"),
        ("step100", "checkpoint-200"),
        ("qwen-7B-step1000", "qwen-14B-step2000"),
        ("ckpt_001", "amber-ckpt_002"),
    ],
)
def test_other_text_around_the_number_is_refused(place, names: tuple[str, ...]) -> None:
    (problem,) = refused(place(*names))
    assert "differ in more than their step" in problem.what


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("step-1M", "step-900K", "step-50"), [50, 900_000, 1_000_000]),
        (("step0010", "step9", "step_8"), [8, 9, 10]),
        (("step2000-tokens8B", "step1000-tokens4B", "step0-tokens0B"), [0, 1000, 2000]),
        (("epoch=0-step=10", "epoch=0-step=20", "epoch=1-step=30"), [10, 20, 30]),
        (("step10-loss2.5", "step20-loss1.5"), [10, 20]),
        (("epoch2.0", "epoch1.0"), [1, 2]),
    ],
)
def test_numbers_are_compared_by_value(place, names: tuple[str, ...], steps: list[int]) -> None:
    assert [step for _, step in steps_of(place(*names))] == steps


def test_a_counter_that_falls_is_refused(place) -> None:
    (problem,) = refused(place("step1000-tokens5B", "step2000-tokens3B"))
    assert "the step rises from step1000-tokens5B to step2000-tokens3B" in problem.what


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("ckpt_010", "ckpt_002", "ckpt_000"), ("ckpt_000", "ckpt_002", "ckpt_010")),
        (("ckpt_10", "ckpt_9"), ("ckpt_9", "ckpt_10")),
        (("train_00220B", "train_900M", "train_0040B"), ("train_900M", "train_0040B", "train_00220B")),
    ],
)
def test_positions_are_the_steps_where_no_name_has_one(place, names, ordered) -> None:
    (sequence,) = resolve([place(*names)])
    assert [(each.revision, each.step) for each in sequence.checkpoints] == [
        (name, position) for position, name in enumerate(ordered)
    ]
    note = f"no step in the name, so the position from 0 is the step: {', '.join(ordered)}"
    assert note in sequence.notes


def test_fractional_epochs_take_positions(place) -> None:
    (sequence,) = resolve([place("epoch1.5", "epoch0.5", "epoch2")])
    assert [(each.revision, each.step) for each in sequence.checkpoints] == [
        ("epoch0.5", 0),
        ("epoch1.5", 1),
        ("epoch2", 2),
    ]
    assert any("not whole numbers, so the position from 0 is the step" in note for note in sequence.notes)


def test_two_names_of_one_number_are_refused(place) -> None:
    assert "have one number: ckpt_1, ckpt_01" in refused(place("ckpt_1", "ckpt_01", "ckpt_2"))[
        0
    ].what.replace("ckpt_01, ckpt_1", "ckpt_1, ckpt_01")


def test_a_step_beyond_64_bits_is_refused(place) -> None:
    (problem,) = refused(place("step1", "step99999999T"))
    assert problem.what == "the step of step99999999T is above 2^63 - 1"


def test_a_name_without_a_step_among_steps_is_left_out_and_noted(place) -> None:
    (sequence,) = resolve([place("step1", "step2", "main", "ckpt_7")])
    assert [each.step for each in sequence.checkpoints] == [1, 2]
    (note,) = sequence.notes
    assert "as their names have no step: " in note
    assert "ckpt_7" in note
    assert "main" in note


@pytest.mark.parametrize("name", ["finished", "ckpt_100", "epoch1.5"])
def test_a_single_checkpoint_without_a_step_has_none(make, name: str) -> None:
    make(f"runs/{name}")
    assert steps_of(f"runs/{name}") == [(name, None)]


def test_single_checkpoints_of_one_folder_are_models_of_their_own(make) -> None:
    for name in ("a", "b"):
        make(f"runs/{name}")
    assert [(each.model, each.checkpoints[0].step) for each in resolve(["runs/a", "runs/b"])] == [
        ("a", None),
        ("b", None),
    ]


def test_models_of_several_sizes_are_no_sequence(make) -> None:
    for name in ("pythia-70m", "pythia-160m"):
        make(f"zoo/{name}")
    assert "not a checkpoint sequence itself" in refused("zoo")[0].what


def test_revisions_named_one_by_one_have_the_order_that_is_given(hub) -> None:
    for name in ("sft", "base", "step5"):
        hub.add("org/name", name)
    assert steps_of("org/name@{base,sft}") == [("base", 0), ("sft", 1)]
    assert "there is no step in a name among others" in refused("org/name@{base,step5}")[0].what
    assert "have no step, so their order" in refused("org/name@base", "org/name@sft")[0].what
    assert "there is no number in the names" in refused("org/name@[bs]*[et]")[0].what
    assert steps_of("org/name@base") == [("base", None)]


def test_stages_of_braces_are_refused_too(hub) -> None:
    for name in STAGES:
        hub.add("org/name", name)
    spec = "org/name@{stage1-step2000,stage2-ingredient1-step1000-tokens5B}"
    assert "differ in more than their step" in refused(spec)[0].what
    assert [step for _, step in steps_of(spec, stages="stage1,stage2-ingredient1")] == [2000, 3000]


def test_stages_of_one_model_leave_another_alone(make) -> None:
    for name in STAGES:
        make(f"main/{name}")
    for step in (5, 10):
        make(f"other/step{step}")
    found = resolve(["main", "other"], stages="stage1,stage2")
    assert [[each.step for each in sequence.checkpoints] for sequence in found] == [
        [0, 2000, 4000, 5000],
        [5, 10],
    ]


def test_no_gap_is_found_across_stages(make) -> None:
    """stage1: 0 to 5 by 1; stage2: 2, 4, 6, 10 of its own, of which 8 is missing: 5 + 8 = 13."""
    names = [*(f"stage1-step{i}" for i in range(6)), *(f"stage2-step{i}" for i in (2, 4, 6, 10, 12, 14))]
    for i, name in enumerate(names):
        make(f"main/{name}", fill=i)
    (found,) = survey(["main"], stages="stage1,stage2")
    gaps = [each for each in verify(found) if each.kind == "gap"]
    assert [each.steps for each in gaps] == [(13,)]
    assert gaps[0].what == "1 step of a regular schedule missing after step 11"
