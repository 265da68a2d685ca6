"""Conditions: what is built is parsed, and columns of them say the same as single ones."""

import re
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.tables import conditions as c

PACKAGE = Path(memprobe.__file__).parent
TEXTS = [None, "a=1", "scheme=top40;n=100;p=0.5", "n=1;exposures=4", "exposures=4", "p=0.5;trained=false"]


def column(expression: pl.Expr, texts=TEXTS) -> list:
    frame = pl.DataFrame({"condition": texts}, schema={"condition": pl.String})
    return frame.select(expression.alias("found"))["found"].to_list()


def test_what_is_built_is_parsed() -> None:
    condition = c.build(scheme="top40", n=100, law=None, seen=True)
    assert condition == "scheme=top40;n=100;seen=true"
    assert c.parse(condition) == {"scheme": "top40", "n": "100", "seen": "true"}
    assert c.build(law=None) is None
    assert c.parse(None) == {}
    assert c.parse(c.build(control="a;b", n=1)) == {"control": "a,b", "n": "1"}


def test_a_separator_in_a_value_of_the_users_stays_in_it() -> None:
    assert c.parse("foil_kind=near;far;n=1") == {"foil_kind": "near;far", "n": "1"}


def test_conditions_are_joined_without_empty_ones() -> None:
    assert c.join(None, "a=1", "", "b=2") == "a=1;b=2"
    assert c.join(None, "") is None
    frame = pl.DataFrame({"own": ["b=2", None, ""]})
    assert frame.select(c.joined("a=1", pl.col("own")))["condition"].to_list() == ["a=1;b=2", "a=1", "a=1"]
    assert frame.select(c.joined(None, pl.col("own")))["condition"].to_list() == ["b=2", None, None]


def test_columns_are_built_key_by_key() -> None:
    frame = pl.DataFrame({"scheme": ["full", None], "trained": [True, False]})
    built = frame.select(c.built(scheme="scheme", n=pl.lit(3)))["condition"].to_list()
    assert built == ["scheme=full;n=3", None]
    assert frame.select(c.built(trained="trained"))["condition"].to_list() == [
        "trained=true",
        "trained=false",
    ]


@pytest.mark.parametrize("key", ["exposures", "n", "p", "scheme", "xposures", "trained"])
def test_keys_are_found_whole(key: str) -> None:
    parsed = [c.parse(each) for each in TEXTS]
    assert column(c.has(key)) == [key in each for each in parsed]
    assert column(c.value_of(key)) == [each.get(key) for each in parsed]
    assert column(c.dropped(key)) == [c.without_key(each, key) for each in TEXTS]


def test_several_keys_are_dropped_at_once() -> None:
    assert column(c.has("exposures", "trained")) == [False, False, False, True, True, True]
    assert column(c.dropped("exposures", "trained")) == [*TEXTS[:3], "n=1", None, "p=0.5"]


def test_pairs_prefixes_and_whole_conditions() -> None:
    assert column(c.has_pair("exposures=4")) == [False, False, False, True, True, False]
    assert column(c.has_pair("exposures=")) == [False] * len(TEXTS)
    assert column(c.is_under("n=1"), ["n=1", "n=10", "n=1;p=0.5", None]) == [True, False, True, False]
    frame = pl.DataFrame({"condition": ["n=1", None]})
    assert frame.filter(c.is_under(None)).height == 2
    assert column(c.is_exactly(None), ["n=1", None]) == [False, True]
    assert column(c.is_exactly("n=1"), ["n=1", None]) == [True, False]


def test_texts_for_readers() -> None:
    assert c.readable("a=1;b=2") == "a=1, b=2"
    assert c.readable(None) == ""
    assert column(c.readable_column(), ["a=1;b=2", None]) == ["a=1, b=2", None]
    assert c.one_pair_a_line("a=1;b=2") == "a=1;\n  b=2"


def test_what_conditions_share_and_break_down() -> None:
    assert c.shared(["a=1;b=2", "a=1;b=3"]) == ("a=1",)
    assert c.shared(["a=1", None]) == ()
    assert c.shared(["a=1"]) == ()
    assert c.broken_down(["a=1", "a=1;b=2", None]) == ["a=1"]


def test_no_other_module_takes_conditions_apart() -> None:
    """A condition is cut, searched or put together by `memprobe.tables.conditions` alone."""
    calls = r"\.(split|partition)\([\"']?[;=]|str\.(contains|extract|replace|split)"
    cut = re.compile(calls + r"|[\"'][;=][\"']|;\w+=")
    offenders = [
        f"{file.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if "condition" in line and cut.search(line) and file.name != "conditions.py"
    ]
    assert offenders == []
