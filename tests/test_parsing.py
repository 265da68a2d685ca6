"""TOML and JSON of others: read as the standard library does, or refused in words; never a Python error."""

import json

import pytest

from memprobe.parsing import MAX_DEPTH, UnreadableError, is_nested_deeper, parse_json, parse_toml

DIGITS = "9" * 5000
DEEP = 2000

BAD_TOML = {
    "no-toml": ("b = 1\na = [", "nvalid"),
    "digits": (f"a = {DIGITS}", "a number of thousands of digits"),
    "hex": (f"\nkey = 0x{'f' * 5000}", "`key` is a whole number beyond 64 bits (line 2)"),
    "65-bits": ("a = 9223372036854775808", "`a` is a whole number beyond 64 bits"),
    "inside": ("[a]\nb = [[1, -9223372036854775809]]", "`b` is a whole number beyond 64 bits (line 2)"),
    "deep-list": ("a = " + "[" * DEEP + "]" * DEEP, "nested more than 64 deep"),
    "deep-table": ("a = " + "{a = " * DEEP + "1" + "}" * DEEP, "nested more than 64 deep"),
    "deep-keys": (".".join("a" * DEEP) + " = 1", "nested more than 64 deep"),
    "latin": (b"a = 1\nb = 'caf\xe9'", "not UTF-8: byte 0xe9 in line 2"),
    "bom-latin": (b"\xef\xbb\xbfa = 'caf\xe9'", "not UTF-8: byte 0xe9 in line 1"),
}
BAD_JSON = {
    "no-json": ('{"a": ', "at column 7"),
    "second-line": ('{"a": 1,\n "b": }', "at line 2, column 7"),
    "digits": (f'{{"a": {DIGITS}}}', "a number of thousands of digits"),
    "65-bits": ('{"a": [9223372036854775808]}', "`a` is a whole number beyond 64 bits"),
    "nan": ('{"a": NaN}', "NaN is not a valid JSON number"),
    "deep": ("[" * 100_000, "nested more than 64 deep"),
    "deep-but-whole": ("[" * 100 + "]" * 100, "nested more than 64 deep"),
    "latin": (b'"caf\xe9"', "not UTF-8: byte 0xe9 in line 1"),
}


@pytest.mark.parametrize("name", BAD_TOML)
def test_toml_that_cannot_be_used_says_why(name):
    text, told = BAD_TOML[name]
    with pytest.raises(UnreadableError) as caught:
        parse_toml(text)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_cannot_be_used_says_why(name):
    text, told = BAD_JSON[name]
    with pytest.raises(UnreadableError) as caught:
        parse_json(text)
    assert told in str(caught.value)


def test_what_fits_is_read_as_it_is():
    assert parse_toml(b"\xef\xbb\xbfa = 9223372036854775807\nb = inf") == {"a": 2**63 - 1, "b": float("inf")}
    document = {"a": [1.5, None, {"b": -(2**63)}], "c": "中"}
    assert parse_json(json.dumps(document)) == parse_json(json.dumps(document).encode()) == document
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(nested) == json.loads(nested)


def test_depth_counts_lists_and_tables():
    value = {"a": [{"b": 1}]}
    assert not is_nested_deeper(value, 3)
    assert is_nested_deeper(value, 2)
