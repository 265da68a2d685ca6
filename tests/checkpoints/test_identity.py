"""Troubles: many problems become one report, and permissions alone become a SafetyError."""

import pytest

from memprobe.checkpoints.identity import ProblemCollector, listed
from memprobe.errors import CheckpointError, SafetyError


def test_three_names_are_listed_and_the_rest_counted() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_equal_problems_become_one_that_lists_the_places() -> None:
    troubles = ProblemCollector()
    for place in "abcde":
        with troubles.noted():
            raise CheckpointError("no weights", where=place, fix="copy them")
    with troubles.noted():
        raise CheckpointError("no config", where="f")
    with pytest.raises(CheckpointError) as caught:
        troubles.raise_any()
    assert [(p.what, p.where, p.fix) for p in caught.value.problems] == [
        ("no weights", "a, b, c and 2 more", "copy them"),
        ("no config", "f", ""),
    ]


def test_permissions_alone_are_a_safety_error() -> None:
    troubles = ProblemCollector()
    troubles.add(SafetyError("pickle", where="a"))
    troubles.add(SafetyError("remote code", where="a"))
    with pytest.raises(SafetyError) as caught:
        troubles.raise_any()
    assert caught.value.exit_code == 5
    assert len(caught.value.problems) == 2


def test_wrong_input_outweighs_a_missing_permission() -> None:
    troubles = ProblemCollector()
    troubles.add(SafetyError("pickle", where="a"))
    troubles.add(CheckpointError("no weights", where="b"))
    with pytest.raises(CheckpointError) as caught:
        troubles.raise_any()
    assert {problem.what for problem in caught.value.problems} == {"pickle", "no weights"}


def test_nothing_found_raises_nothing() -> None:
    ProblemCollector().raise_any()


def test_other_errors_pass_through() -> None:
    troubles = ProblemCollector()
    with pytest.raises(ZeroDivisionError), troubles.noted():
        _ = 1 / 0
