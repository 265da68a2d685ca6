"""What each known column takes, and what it says about the rest."""

import numpy as np
import pytest

from memprobe.items.raw import RefusedError
from memprobe.items.schema import GIVEN
from memprobe.items.values import PARSERS, as_count, as_ids, as_name, as_text, kind, shown


def test_each_column_a_file_may_give_has_its_parser() -> None:
    assert set(PARSERS) == set(GIVEN)


@pytest.mark.parametrize(("value", "number"), [(0, 0), (3, 3), (3.0, 3), (2**63 - 1, 2**63 - 1)])
def test_counts(value: object, number: int) -> None:
    assert as_count(value) == number
    assert type(as_count(value)) is int


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("3", "a string of 1 character, not a whole number"),
        ("3x", "a string of 2 characters, not a whole number"),
        (2.5, "2.5, not a whole number"),
        (True, "true or false, not a whole number"),
        (float("nan"), "NaN, not a whole number"),
        (float("inf"), "inf, not a whole number"),
        ([1], "a list, not a whole number"),
        (-1, "-1, below 0"),
        (2**63, "does not fit 64 bits"),
    ],
)
def test_what_is_no_count(value: object, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        as_count(value)
    assert str(caught.value) == said


def test_names_may_be_whole_numbers() -> None:
    assert as_name(17) == "17"
    assert as_name("a b") == "a b"


@pytest.mark.parametrize("value", [True, 1.0, [], {}, ""])
def test_what_is_no_name(value: object) -> None:
    with pytest.raises(RefusedError):
        as_name(value)


@pytest.mark.parametrize("value", [1, True, ["a"], {"a": 1}, b"a", ""])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(RefusedError):
        as_text(value)


def test_token_ids_are_int64() -> None:
    ids = as_ids([3, 0, 2**40])
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 0, 2**40]
    assert ids.shape == (3,)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "empty"),
        ([1, -2, 3], "token id 2 of 3 is below 0"),
        ([1, 2**63], "beyond 64 bits"),
        ([1, 2**70], "beyond 64 bits"),
        ([2**63, 2**63 + 1], "token id 1 of 2 is below 0 or beyond 64 bits"),
        ([-1, 2**63], "beyond 64 bits"),
        ([1, True], "token id 2 of 2 is true or false"),
        ([1, 2.0], "token id 2 of 2 is a number, not a whole number"),
        ([1, None], "token id 2 of 2 is null"),
        ([[1]], "token id 1 of 1 is a list"),
        ("1 2", "a string, not a list of token ids"),
        (7, "a number, not a list"),
    ],
)
def test_what_is_no_list_of_token_ids(value: object, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        as_ids(value)
    assert said in str(caught.value)


def test_values_are_shown_short_and_lists_not_at_all() -> None:
    assert shown("secret") == "a string of 6 characters"
    assert shown(2**64) == "a number beyond 64 bits"
    assert shown([1, 2]) == "a list"
    assert kind(None) == "null"
