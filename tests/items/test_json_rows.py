"""JSONL and JSON: true lines, strict values, messages without text."""

import pytest

from memprobe.items import read_items


def test_lines_are_counted_over_blank_ones_and_unusual_line_ends(write) -> None:
    # U+2028 and U+0085 end a line for str.splitlines, not in JSONL; \r\n is one end.
    path = write("a.jsonl", '\ufeff{"text": "one\u2028\u0085"}\r\n\n  \n{"text": "two"}')
    table = read_items([path]).table
    assert table["source_line"].to_list() == [1, 4]
    assert table["text"].to_list() == ["one\u2028\u0085", "two"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param('{"text": "secret", }', "no JSON: ", id="syntax"),
        pytest.param('{"text": "secret"', "no JSON: ", id="cut-short"),
        pytest.param('{"text": "secret"} {}', "no JSON: Extra data at character 20", id="two-objects"),
        pytest.param('["secret"]', "no JSON object", id="list"),
        pytest.param('"secret"', "no JSON object", id="string"),
        pytest.param('{"text": "secret", "score": NaN}', "NaN is not a number", id="nan"),
        pytest.param('{"text": "secret", "score": -Infinity}', "-Infinity is not a number", id="infinity"),
        pytest.param('{"text": "secret", "score": 1e999}', "too large for float64", id="overflow"),
        pytest.param('{"text": "secret", "m": {"a": NaN}}', "NaN is not a number", id="nested-nan"),
        pytest.param('{"text": "\\ud800 secret"}', "surrogate", id="half-a-surrogate-pair"),
        pytest.param('{"text": "secret", "n": ' + "[" * 100_000, "nested too deeply", id="deep"),
        pytest.param('{"text": "secret", "n": ' + "9" * 5000 + "}", "thousands of digits", id="long-number"),
    ],
)
def test_a_bad_line_is_named_and_its_text_is_not_shown(write, message, line: str, said: str) -> None:
    told = message(write("a.jsonl", f'{{"text": "fine"}}\n{line}\n'))
    assert said in told
    assert "where: a.jsonl, line 2" in told
    assert "secret" not in told


def test_a_key_given_twice_is_named(write, message) -> None:
    told = message(write("a.jsonl", '{"text": "a", "group": "x", "group": "y"}'))
    assert told.startswith("given twice\n  where: a.jsonl, line 1, column group\n")


def test_a_whole_surrogate_pair_is_text(write) -> None:
    table = read_items([write("a.jsonl", '{"text": "\\ud83d\\ude00"}')]).table
    assert table["text"].item() == "\U0001f600"


def test_bytes_that_are_not_utf8_stop_the_file_even_when_skipping(write, message) -> None:
    path = write("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n')
    # 14 bytes on line 1; ten before the byte on line 2: {"text": "
    assert "0xe9 at offset 24 (bytes)\n  where: a.jsonl, line 2" in message(path, on_bad="skip")


def test_a_json_list_counts_places(write) -> None:
    path = write("a.json", '[{"text": "a"},\n\n{"text": "b"} , {"text": "c"}]\n')
    assert read_items([path]).table["source_line"].to_list() == [1, 2, 3]


def test_a_bad_element_of_a_json_list_is_named_by_its_place(write, message) -> None:
    told = message(write("a.json", '[{"text": "a"}, {"text": "b", "x": NaN}, 7, {"text": ""}]'))
    assert "NaN is not a number" in told
    for place in ("where: a.json, item 2", "where: a.json, item 3", "where: a.json, item 4, column text"):
        assert place in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('{"text": "a"}', "no list of objects", id="object"),
        pytest.param(
            '[{"text": "a"}\n{"text": "b"}]', "expecting ',' or ']'\n  where: a.json, line 2", id="comma"
        ),
        pytest.param('[{"text": "a"},\n{"text" "b"}]', "a.json, line 2, character 9", id="syntax"),
        pytest.param('[{"text": "a"}', "expecting ',' or ']'", id="open"),
        pytest.param('[{"text": "a"}] x', "there is more text after the list", id="rest"),
        pytest.param("[]", "has no items", id="empty-list"),
        pytest.param("  ", "no list of objects", id="blank"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
    ],
)
def test_a_broken_json_file_is_told(write, message, text: str, said: str) -> None:
    assert said in message(write("a.json", text))


def test_the_limit_stops_before_what_lies_behind_it(write) -> None:
    path = write("a.jsonl", b'{"text": "a"}\nnot json \xff\n')
    limited = read_items([path], limit=1)
    assert limited.table.height == 1
    whole = write("b.jsonl", b'{"text": "a"}\n')
    assert limited.files[0].sha256 != read_items([whole]).files[0].sha256, "the digest covers the whole file"
