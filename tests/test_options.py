"""Values from TOML to the types of options and settings; what is wrong is said in the user's words."""

from dataclasses import dataclass
from typing import Literal

import pytest

from memprobe.options import RunOptions, check_table, convert
from memprobe.tables.requests import Scheme


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (0.5, float, 0.5),
        (True, bool, True),
        ("x", str, "x"),
        (3, int | None, 3),
        (None, int | None, None),
        (2, float | str, 2.0),
        ("gzip", float | str, "gzip"),
        ("auto", Literal["auto", "cpu"], "auto"),
        ([1, 10], tuple[int, ...], (1, 10)),
        ([1, 0.5], tuple[float, ...], (1.0, 0.5)),
        ([], tuple[int, ...], ()),
        ((1, 2), tuple[int, ...], (1, 2)),
        ({"top_k": 40}, Scheme, Scheme(top_k=40)),
        ({"temperature": 1, "top_p": 0.9}, Scheme, Scheme(temperature=1.0, top_p=0.9)),
        (Scheme(top_k=3), Scheme, Scheme(top_k=3)),
        ([{}, {"top_k": 1}], tuple[Scheme, ...], (Scheme(), Scheme(top_k=1))),
    ],
)
def test_a_value_becomes_the_type_that_is_asked(value, hint, expected) -> None:
    converted = convert(value, hint)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("3", int, 'is "3", not a whole number'),
        (3.0, int, "is 3.0, not a whole number"),
        (True, int, "is true, not a whole number"),
        (False, float, "is false, not a number"),
        ("0.5", float, 'is "0.5", not a number'),
        (1, bool, "is 1, not true or false"),
        ("true", bool, 'is "true", not true or false'),
        (3, str, "is 3, not a string"),
        ("3", int | None, 'is "3", not a whole number'),
        (True, float | str, "is true, not a number"),
        ("gpu", Literal["auto", "cpu"], 'is "gpu", allowed: auto, cpu'),
        (7, tuple[int, ...], "is 7, not a list"),
        ("12", tuple[int, ...], 'is "12", not a list'),
        ([1, "2"], tuple[int, ...], 'is "2", not a whole number'),
        ("top40", Scheme, 'is "top40", not a table like { key = value }'),
        (
            {"topk": 40},
            Scheme,
            "has the unknown key `topk`, did you mean `top_k`?; allowed: temperature, top_k, top_p",
        ),
        ({"top_k": 0}, Scheme, "holds a table in which top_k is 0, not 1 or more"),
        ({"top_k": "40"}, Scheme, 'holds a table in which `top_k` is "40", not a whole number'),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_is_allowed(value, hint, message) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        convert(value, hint)
    assert str(caught.value) == message


@dataclass(frozen=True)
class Toy:
    n_items: int = 1
    rate: float = 0.5
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Bare:
    pass


def test_a_table_is_checked_as_a_whole() -> None:
    table = {"n_item": 3, "rate": "x", "mode": "c", "n_items": 4}
    good, problems = check_table(table, Toy, "suite.toml [[probe]] 1")
    assert good == {"n_items": 4}
    assert [problem.what for problem in problems] == [
        "unknown setting `n_item`, did you mean `n_items`?",
        '`rate` is "x", not a number',
        '`mode` is "c", allowed: a, b',
    ]
    assert {problem.where for problem in problems} == {"suite.toml [[probe]] 1"}
    assert problems[0].fix == "settings are n_items, rate, mode"


def test_a_class_without_settings_says_so() -> None:
    _, (problem,) = check_table({"x": 1}, Bare, "here")
    assert (problem.what, problem.fix) == ("unknown setting `x`", "there are no settings here")


def test_nothing_given_is_nothing_wrong() -> None:
    assert check_table({}, Toy, "here") == ({}, [])


def test_what_is_given_goes_over_what_was_there() -> None:
    suite = RunOptions().overlaid({"seed": 3, "model": ("a",), "limit": 5})
    flags = suite.overlaid({"seed": 0, "model": (), "limit": None, "offline": False, "device": "cpu"})
    # Null and empty mean not given; 0 and false are values.
    assert (flags.seed, flags.model, flags.limit, flags.device) == (0, ("a",), 5, "cpu")
    assert suite.overlaid({"offline": True}).overlaid({"offline": False}).offline is False


def test_every_option_is_documented() -> None:
    for name in RunOptions.__dataclass_fields__:
        assert f"\n        {name}: " in RunOptions.__doc__
