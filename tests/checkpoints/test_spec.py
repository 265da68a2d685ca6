"""The grammar of `-m` and `--steps`: what is accepted, and what each refusal says."""

import pytest

from memprobe.checkpoints.spec import is_glob, parse_hub_spec, parse_steps, step_in_name
from memprobe.errors import CheckpointError


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step1000", 1000),
        ("checkpoint-1000", 1000),
        ("global_step1000", 1000),
        ("iter_0001000", 1000),
        ("epoch_3", 3),
        ("step0", 0),
        ("Step-7", 7),
        ("stage2-step8-tokens4B", 8),
        ("epoch=3-step=1000", 1000),
        ("main", None),
        ("footstep5", None),
        ("step", None),
        ("step-final", None),
        ("v1000", None),
    ],
)
def test_the_step_is_the_number_after_the_word(name: str, step: int | None) -> None:
    assert step_in_name(name) == step


def test_steps_are_single_steps_and_inclusive_ranges_with_a_stride() -> None:
    selection = parse_steps("0, 1000..3000:1000,7..9")
    chosen = [step for step in range(5000) if step in selection]
    assert chosen == [0, 7, 8, 9, 1000, 2000, 3000]
    assert selection.singles() == (0,)


def test_a_range_ends_at_its_last_full_stride() -> None:
    assert [step for step in range(100) if step in parse_steps("0..25:10")] == [0, 10, 20]


def test_a_large_range_is_asked_at_once() -> None:
    assert 10**15 - 1 in parse_steps(f"1..{10**15}:2")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "`` is neither a step nor a range of steps"),
        ("1,,2", "`` is neither a step nor a range of steps"),
        ("last", "`last` is neither a step nor a range of steps"),
        ("-5", "`-5` is neither a step nor a range of steps"),
        ("1..", "`1..` is neither a step nor a range of steps"),
        ("0..9..3", "`0..9..3` is neither a step nor a range of steps"),
        ("9..3", "the range `9..3` falls from 9 to 3"),
        ("3..9:0", "the range `3..9:0` has a stride of 0"),
    ],
)
def test_bad_steps_are_refused_with_an_example(text: str, what: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_steps(text)
    (problem,) = caught.value.problems
    assert problem.what == what
    assert problem.where == f"--steps {text}"
    assert "--steps 0,1000..143000:1000" in problem.fix


@pytest.mark.parametrize(
    ("spec", "revisions"),
    [
        ("org/name", ("main",)),
        ("org/name@v1.0", ("v1.0",)),
        ("org/name@refs/pr/1", ("refs/pr/1",)),
        ("org/name@step{0,1,2,4}", ("step0", "step1", "step2", "step4")),
        ("org/name@step{1000..3000..1000}", ("step1000", "step2000", "step3000")),
        ("org/name@step{8..10}", ("step8", "step9", "step10")),
        ("org/name@step{008..010}", ("step008", "step009", "step010")),
        ("org/name@step{0..10..5}", ("step0", "step5", "step10")),
        ("org/name@step{0,1..3,1..2}", ("step0", "step1", "step2", "step3")),
        ("org/name@{a,b}-{1,2}", ("a-1", "a-2", "b-1", "b-2")),
        ("org/name@step*", ("step*",)),
    ],
)
def test_braces_expand_as_in_a_shell(spec: str, revisions: tuple[str, ...]) -> None:
    parsed = parse_hub_spec(spec)
    assert parsed is not None
    assert (parsed.repo, parsed.revisions) == ("org/name", revisions)


@pytest.mark.parametrize(
    "spec", ["name", "./org/name", "/org/name", "a/b/c", "org/", "../name", "name@x", "~/x"]
)
def test_what_has_not_the_form_of_a_hub_id_is_none(spec: str) -> None:
    assert parse_hub_spec(spec) is None


def test_patterns_are_told_from_names() -> None:
    assert is_glob("step*")
    assert is_glob("step?")
    assert is_glob("step[01]")
    assert not is_glob("step10")


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("org/name@", "there is no revision after `@`"),
        ("org/name@step{1,2", "a brace is not closed"),
        ("org/name@step1}", "`}` has no `{` before it"),
        ("org/name@step{1,{2,3}}", "a brace is inside another"),
        ("org/name@step{1,,2}", "an alternative between braces is empty"),
        ("org/name@step{}", "an alternative between braces is empty"),
        ("org/name@step{9..1}", "the range `9..1` falls from 9 to 1"),
        ("org/name@step{1..9..0}", "the range `1..9..0` has a stride of 0"),
        ("org/name@step1..9", "a range is outside braces"),
        ("org/name@step{a..c}", "`a..c` is not a range of numbers"),
        ("org/name@a,b", "`a,b` is not a revision"),
        ("org/name@a b", "`a b` is not a revision"),
        ("org/name@a@b", "`a@b` is not a revision"),
    ],
)
def test_bad_specs_are_refused_with_the_right_forms(spec: str, what: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_hub_spec(spec)
    (problem,) = caught.value.problems
    assert problem.what == what
    assert problem.where == spec
    assert "'org/name@step{1000..143000..1000}'" in problem.fix
    assert "'org/name@step*'" in problem.fix


@pytest.mark.parametrize("revision", ["step{0..100000}", "{0..999}-{0..999}"])
def test_an_expansion_has_a_limit(revision: str) -> None:
    with pytest.raises(CheckpointError, match="the braces name more than 100,000 revisions"):
        parse_hub_spec(f"org/name@{revision}")
