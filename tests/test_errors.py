"""The tree in the docstring is the tree of classes, with its exit codes; messages say what, where, fix."""

import inspect
import re

import pytest

from memprobe import errors
from memprobe.errors import InputError, MemprobeError, Problem, interruptible
from memprobe.wording import near_miss

CLASSES = {
    name: member
    for name, member in vars(errors).items()
    if inspect.isclass(member) and issubclass(member, MemprobeError)
}


def drawn_tree() -> dict[str, tuple[str | None, int | None]]:
    """Class to (parent, exit code) as the module's docstring draws them."""
    tree: dict[str, tuple[str | None, int | None]] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        node = re.match(r"^([│ ├└─]*)(\w+Error)\b", line)
        if not node:
            continue
        depth = len(node[1]) // 4
        path = [*path[:depth], node[2]]
        code = re.search(r"\(exit (\d+)\)$", line)
        tree[node[2]] = (path[depth - 1] if depth else None, int(code[1]) if code else None)
    return tree


def test_the_drawing_names_every_class_under_its_parent() -> None:
    parents = {
        name: None if each is MemprobeError else each.__base__.__name__ for name, each in CLASSES.items()
    }
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == parents
    assert len(parents) >= 9


def test_the_drawing_gives_every_branch_its_exit_code() -> None:
    codes = {name: code for name, (_, code) in drawn_tree().items() if code is not None}
    assert codes == {"InputError": 2, "InvalidRunError": 3, "IncompleteRunError": 4, "SafetyError": 5}
    for name, each in CLASSES.items():
        branch = next((b for b in codes if issubclass(each, CLASSES[b])), None)
        assert each.exit_code == (codes[branch] if branch else 70), name


def test_no_expected_failure_exits_as_a_gate_or_a_success_does() -> None:
    assert not {each.exit_code for each in CLASSES.values()} & {0, 1, 130, 143}


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("it broke"), "it broke"),
        (Problem("it broke", "a.toml"), "it broke\n  where: a.toml"),
        (Problem("it broke", fix="mend it"), "it broke\n  fix:   mend it"),
        (Problem("it broke", "a.toml", "mend it"), "it broke\n  where: a.toml\n  fix:   mend it"),
    ],
)
def test_a_problem_reads_what_where_fix(problem, text) -> None:
    assert str(problem) == text
    assert str(InputError(problem.what, where=problem.where, fix=problem.fix)) == text


def test_an_error_carries_all_its_problems_in_order() -> None:
    problems = [Problem("second"), Problem("first", "here")]
    error = InputError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "second\nfirst\n  where: here"
    assert InputError("one").problems == (Problem("one"),)


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("prefix_token", ", did you mean `prefix_tokens`?"),
        ("sufix_tokens", ", did you mean `suffix_tokens`?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_suggested_if_there_is_one(word, suggestion) -> None:
    assert near_miss(word, iter(["suffix_tokens", "prefix_tokens", "align"])) == suggestion


def _second_error() -> None:
    try:
        raise ValueError("first")
    finally:
        raise RuntimeError("second")


def test_other_runtime_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="plain"), interruptible():
        raise RuntimeError("plain")
    with pytest.raises(RuntimeError, match="second"), interruptible():
        _second_error()
