"""The canary file: good lines become items, bad ones are listed by line."""

import json

import pytest

from memprobe.errors import ItemError
from memprobe.lab.canaries import check_lengths, read_canaries
from memprobe.lab.tokenizer import train_tokenizer


def write(path, *rows: object):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_good_lines_become_items_with_further_columns_carried(tmp_path) -> None:
    path = write(
        tmp_path / "c.jsonl",
        {"prefix": "The key is ", "suffix": "77", "exposures": 3, "owner": "Mara"},
        "",
        {"prefix": "The pin is ", "suffix": "12", "exposures": 0, "item_id": "pin"},
    )
    first, second = read_canaries(path, {})
    assert (first.item_id, first.text, first.prefix_chars, first.n_exposures) == (
        "canary-0000",
        "The key is 77",
        11,
        3,
    )
    assert first.carried == {"owner": "Mara"}
    assert (second.item_id, second.n_exposures, second.group) == ("pin", 0, "canary")


def test_every_bad_line_is_named_at_once(tmp_path) -> None:
    path = write(
        tmp_path / "c.jsonl",
        '{"prefix": ',
        [1],
        {"prefix": "a", "sufix": "b", "exposures": 1},
        {"prefix": "", "suffix": 5, "exposures": True},
        {"prefix": "a ", "suffix": "b", "exposures": -1, "first_step": 4, "step": 1, "tags": ["x"]},
        {"prefix": "c ", "suffix": "d", "exposures": 1, "item_id": "x"},
        {"prefix": "c", "suffix": " d", "exposures": 1, "item_id": "x"},
        {"prefix": "in the ", "suffix": "text", "exposures": 1},
    )
    with pytest.raises(ItemError) as caught:
        read_canaries(path, {"book.txt": "it stands in the text."})
    found = [(problem.where.rpartition(" ")[2], problem.what) for problem in caught.value.problems]
    assert found == [
        ("1", "not JSON: Expecting value at column 12"),
        ("2", "not a JSON object"),
        ("3", "`suffix` is missing, did you mean `sufix`?"),
        ("4", "`prefix` is empty"),
        ("4", "`suffix` is a number"),
        ("4", "`exposures` is true or false"),
        ("5", "`exposures` is -1"),
        ("5", "`first_step` cannot be given for a canary"),
        ("5", "`step` cannot be given for a canary"),
        ("5", "`tags` is a list or an object"),
        ("7", "`item_id` x is given twice"),
        ("7", "the same canary is given twice"),
        ("8", "the canary also occurs in book.txt, so its exposures would be wrong"),
    ]
    assert str(path) in caught.value.problems[0].where


def test_a_missing_an_empty_and_a_latin_file_are_refused(tmp_path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(ItemError, match="No such file"):
        read_canaries(tmp_path / "none.jsonl", {})
    with pytest.raises(ItemError, match="no canary in the file"):
        read_canaries(write(tmp_path / "c.jsonl", "", ""), {})
    with pytest.raises(ItemError, match="not UTF-8: byte 0"):
        read_canaries(tmp_path / "latin.jsonl", {})


def test_a_canary_longer_than_the_context_is_named_with_its_length(tmp_path) -> None:
    path = write(tmp_path / "c.jsonl", {"prefix": "1234", "suffix": "5678", "exposures": 1})
    canaries = read_canaries(path, {})
    tokenizer = train_tokenizer(["a"], 300)
    check_lengths(canaries, tokenizer, 8, path)
    with pytest.raises(ItemError, match="canary canary-0000 has 8 tokens, the context 7"):
        check_lengths(canaries, tokenizer, 7, path)
