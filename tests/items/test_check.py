"""What an item must be: each fault by file, line and column, all at once."""

import hashlib
import json

import numpy as np
import pytest

from memprobe.items import read_items
from memprobe.tables.content import content_hash

BAD = [
    pytest.param(
        {"text": "a", "prefix": "b"}, "gives text, prefix at once", "column prefix", id="text-and-prefix"
    ),
    pytest.param(
        {"text": "a", "input_ids": [1]},
        "gives text, input_ids at once",
        "column input_ids",
        id="text-and-ids",
    ),
    pytest.param(
        {"prefix": "a", "suffix": "b", "input_ids": [1]},
        "gives prefix, suffix, input_ids at once",
        "",
        id="three",
    ),
    pytest.param({"prefix": "a"}, "prefix without suffix", "column suffix", id="no-suffix"),
    pytest.param({"suffix": "a"}, "suffix without prefix", "column prefix", id="no-prefix"),
    pytest.param({"group": "g"}, "no content", "line 2\n", id="nothing"),
    pytest.param({"foil": "a"}, "no content", "line 2\n", id="foil-alone"),
    pytest.param({"text": None}, "no content", "line 2\n", id="null"),
    pytest.param({"text": ""}, "empty", "column text", id="empty-text"),
    pytest.param({"prefix": "", "suffix": "a"}, "empty", "column prefix", id="empty-prefix"),
    pytest.param({"prefix": "a", "suffix": ""}, "empty", "column suffix", id="empty-suffix"),
    pytest.param({"text": "a", "foil": ""}, "empty", "column foil", id="empty-foil"),
    pytest.param({"input_ids": []}, "empty", "column input_ids", id="empty-ids"),
    pytest.param({"text": 7}, "a number, not a string", "column text", id="number-as-text"),
    pytest.param({"text": ["a"]}, "a list, not a string", "column text", id="list-as-text"),
    pytest.param(
        {"text": "a", "item_id": 1.5}, "a number, not a string or a whole number", "column item_id", id="id"
    ),
    pytest.param({"text": "a", "item_id": ""}, "empty", "column item_id", id="empty-id"),
    pytest.param({"text": "a", "group": True}, "true or false, not a string", "column group", id="group"),
    pytest.param(
        {"text": "a", "exposures": "3x"},
        "a string of 2 characters, not a whole number",
        "column exposures",
        id="exposures",
    ),
    pytest.param({"text": "a", "exposures": -2}, "-2, below 0", "column exposures", id="negative-exposures"),
    pytest.param(
        {"text": "a", "first_step": 1.5}, "1.5, not a whole number", "column first_step", id="first-step"
    ),
    pytest.param(
        {"text": "a", "first_step": 9, "last_step": 8},
        "last_step 8 comes before first_step 9",
        "column last_step",
        id="order",
    ),
    pytest.param(
        {"text": "a", "last_step": 8}, "last_step 8 without first_step", "column last_step", id="last-alone"
    ),
    pytest.param(
        {"text": "a", "first_step": 5, "exposure_steps": [6, 8]},
        "begins at 6, but first_step is 5",
        "column exposure_steps",
        id="exposures-begin",
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "last_step": 9, "exposure_steps": [6, 8]},
        "ends at 8, but last_step is 9",
        "column exposure_steps",
        id="exposures-end",
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "exposures": 3, "exposure_steps": [6, 8]},
        "holds 2, but exposures is 3",
        "column exposure_steps",
        id="exposures-length",
    ),
    pytest.param(
        {"text": "a", "exposure_steps": [6, 8]},
        "exposure_steps without first_step",
        "column exposure_steps",
        id="exposures-alone",
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "exposure_steps": [6, 9, 8]},
        "step 3 of 3, 8, comes after 9",
        "column exposure_steps",
        id="exposures-fall",
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "exposure_steps": [6, 8.5]},
        "step 2 of 2 is 8.5, not a whole number",
        "column exposure_steps",
        id="exposures-fraction",
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "exposure_steps": []}, "empty", "exposure_steps", id="exposures-empty"
    ),
    pytest.param(
        {"text": "a", "first_step": 6, "exposure_steps": 6},
        "a number, not a list of steps",
        "column exposure_steps",
        id="exposures-no-list",
    ),
    pytest.param(
        {"input_ids": [3, -1]}, "token id 2 of 2 is below 0", "column input_ids", id="negative-token"
    ),
    pytest.param(
        {"input_ids": [3, "a"]}, "token id 2 of 2 is a string", "column input_ids", id="string-token"
    ),
    pytest.param(
        {"input_ids": "3"}, "a string, not a list of token ids", "column input_ids", id="ids-no-list"
    ),
]


@pytest.mark.parametrize(("row", "said", "place"), BAD)
def test_a_bad_item_is_named_by_file_line_and_column(
    write, message, row: dict, said: str, place: str
) -> None:
    path = write("a.jsonl", [{"text": "fine", "item_id": "fine"}, row])
    told = message(path)
    assert said in told.splitlines()[0]
    assert "where: a.jsonl, line 2" in told
    assert place in told
    assert told.count("where:") == 1, "one fault makes one problem"


@pytest.mark.parametrize(("row", "said", "place"), BAD)
def test_a_bad_item_is_left_out_and_listed_when_skipping(write, row: dict, said: str, place: str) -> None:
    path = write("a.jsonl", [row, {"text": "fine", "item_id": "fine"}])
    items = read_items([path], on_bad="skip")
    assert items.table["item_id"].to_list() == ["fine"]
    assert items.skipped["line"].to_list() == [1]
    assert items.skipped["file"].to_list() == [path]
    assert said in items.skipped["reason"].item()
    assert items.files[0].n_items == 1


def test_all_faults_of_all_items_are_told(write, message) -> None:
    told = message(write("a.jsonl", [{"text": "", "exposures": "x"}, {"text": "a", "first_step": -1}]))
    places = [line for line in told.splitlines() if "where" in line]
    assert places == [
        f"  where: a.jsonl, line {at}"
        for at in ("1, column text", "1, column exposures", "2, column first_step")
    ]


def test_the_text_of_an_item_is_in_no_message(write, message) -> None:
    rows = [{"text": "secret", "prefix": "secret"}, {"text": ["secret"]}, {"prefix": "secret"}]
    rows += [{"input_ids": ["secret"]}, {"input_ids": "secret"}, {"text": "secret", "foil": {"a": "secret"}}]
    assert "secret" not in message(write("a.jsonl", rows))


@pytest.mark.parametrize(
    ("row", "miss"),
    [
        ({"preffix": "a", "suffix": "b"}, "column `preffix`, did you mean `prefix`?"),
        ({"TEXT": "a"}, "column `TEXT`, did you mean `text`?"),
        ({"input_id": [1]}, "column `input_id`, did you mean `input_ids`?"),
    ],
)
def test_a_misspelt_column_is_hinted_at_when_the_item_lacks_it(write, message, row: dict, miss: str) -> None:
    assert miss in message(write("a.jsonl", [{"text": "fine"}, row]))


def test_a_column_that_merely_looks_misspelt_is_the_users_own(write) -> None:
    assert read_items([write("a.jsonl", [{"text": "a", "texts": "b"}])]).table["texts"].item() == "b"


def test_a_file_whose_columns_hold_no_items_is_told_once(write, message) -> None:
    told = message(write("a.csv", "item_id,txet\na,b\nc,d\n"))
    assert told == (
        "no column holds the items; the first line, its header, holds item_id and 1 unknown name\n"
        "  where: a.csv\n"
        "  fix:   each item needs text, prefix + suffix, or input_ids; column `txet`, did you mean `text`?; "
        "--map text=COLUMN reads another column"
    )


@pytest.mark.parametrize(
    "name", ["model", "step", "n_tokens", "boundary_shift", "source_line", "content_hash", "n_at_p0.5"]
)
def test_a_column_that_memprobe_writes_is_refused_even_when_skipping(write, message, name: str) -> None:
    told = message(write("a.jsonl", [{"text": "a"}, {"text": "b", name: 1}]), on_bad="skip")
    assert (
        told == f"memprobe writes a column of this name\n  where: a.jsonl, column {name}\n  fix:   rename it"
    )


def test_a_column_without_a_name_is_refused(write, message) -> None:
    assert "a column has no name" in message(write("a.jsonl", [{"text": "a", "": 1}]))


@pytest.mark.parametrize(("text", "told_as"), [("a", "the same content"), ("b", "other content")])
def test_an_id_given_twice_names_both_places(write, message, text: str, told_as: str) -> None:
    first = write("a.jsonl", [{"text": "x"}, {"item_id": "i", "text": "a"}])
    second = write("b.csv", f"item_id,text\ni,{text}\n")
    told = message(first, second)
    assert told.startswith('"i" names ')
    assert f"a.jsonl, line 2 with {told_as}\n" in told
    assert "where: b.csv, line 2, column item_id" in told


def test_a_number_and_its_digits_are_the_same_id(write, message) -> None:
    assert '"7" names' in message(
        write("a.jsonl", [{"item_id": 7, "text": "a"}, {"item_id": "7", "text": "b"}])
    )


def test_content_given_twice_without_ids_names_both_places(write, message) -> None:
    told = message(write("a.jsonl", [{"text": "a"}, {"text": "b"}, {"text": "a"}]))
    assert "the same content as " in told
    assert "a.jsonl, line 1, and no item_id\n  where: a.jsonl, line 3, column item_id" in told
    assert "fix:   remove one, or give ids" in told


def test_the_same_content_under_two_ids_is_fine(write) -> None:
    rows = [{"item_id": "i", "text": "a"}, {"item_id": "j", "text": "a"}, {"text": "a"}]
    hashes = read_items([write("a.jsonl", rows)]).table["content_hash"]
    assert hashes.n_unique() == 1


def test_when_skipping_the_sound_item_keeps_a_name_that_a_bad_one_claims_first(write) -> None:
    rows = [{"item_id": "i", "text": ""}, {"item_id": "i", "text": "a"}, {"item_id": "i", "text": "b"}]
    items = read_items([write("a.jsonl", rows)], on_bad="skip")
    assert items.table["text"].to_list() == ["a"]
    assert items.skipped["line"].to_list() == [1, 3]
    assert items.skipped["item_id"].to_list() == ["i", "i"]


def test_the_content_hash_is_sha256_over_tagged_fields() -> None:
    # "text", 2 bytes of UTF-8 for one letter; ids are little-endian int64.
    assert content_hash({"text": "ä"}) == hashlib.sha256(b"text:2:\xc3\xa4").hexdigest()
    ids = np.array([1, 256])
    want = hashlib.sha256(b"input_ids:16:\1\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0").hexdigest()
    assert content_hash({"input_ids": ids}) == want


def test_the_content_hash_tells_fields_apart_and_leaves_the_rest_out() -> None:
    rows = [
        {"text": "ab"},
        {"prefix": "a", "suffix": "b"},
        {"prefix": "ab", "suffix": "b"},
        {"text": "ab", "foil": "b"},
    ]
    assert len({content_hash(row) for row in rows}) == len(rows)
    assert content_hash({"text": "ab", "group": "g", "exposures": 3}) == content_hash({"text": "ab"})


def test_a_made_id_is_the_start_of_the_content_hash_in_every_format(write) -> None:
    row = {"prefix": "a,", "suffix": "b", "foil": "c"}
    paths = [
        write("a.jsonl", [row]),
        write("a.json", json.dumps([row])),
        write("a.csv", 'prefix,suffix,foil\n"a,",b,c\n'),
    ]
    tables = [read_items([path]).table for path in paths]
    assert {table["item_id"].item() for table in tables} == {f"sha-{tables[0]['content_hash'].item()[:12]}"}
