"""Every fault is a row: with file, line, column, name, and a kind that counts like with like."""

import json

import polars as pl
import pytest

from memprobe.errors import ItemError, Problem
from memprobe.items import FINDINGS, inspect_items, problem_row, read_items


def places(found: pl.DataFrame) -> list[tuple]:
    return found.select("line", "column", "what").rows()


def test_all_faults_of_all_files_are_rows_with_their_places(write) -> None:
    rows = [
        {"item_id": "a", "text": "x"},
        {"item_id": "b", "text": 7, "exposures": -1},
        {"item_id": "a", "text": "y"},
    ]
    first = write("a.jsonl", rows)
    second = write("b.csv", "text,text\n1,2\n")
    found = inspect_items([first, second, first + "x"]).findings
    by_file = {name: places(part) for (name,), part in found.group_by("file", maintain_order=True)}
    assert by_file[first] == [
        (2, "text", "a number, not a string"),
        (2, "exposures", "-1, below 0"),
        (3, "item_id", f'"a" names {first}, line 1 with other content'),
    ]
    assert by_file[second] == [(1, "text", "given 2 times")]
    (missing,) = found.filter(pl.col("file") == first + "x").to_dicts()
    assert missing["line"] is None
    assert missing["what"].startswith("no such file, did you mean `a.jsonl`?")
    assert list(found.columns) == list(FINDINGS.columns)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"text": "a", "exposures": "3x"}, {"text": "b", "exposures": 1.5}], "not a whole number"),
        ([{"text": "a", "exposures": -1}, {"text": "b", "exposures": -2}], "below 0"),
        ([{"input_ids": [-1]}, {"input_ids": [3, -2]}], "a token id is below 0 or beyond 64 bits"),
        (
            [{"input_ids": ["a"]}, {"input_ids": [1, "b"]}],
            "a token id is a string, not a whole number",
        ),
        ([{"text": "a", "last_step": 1}, {"text": "b", "last_step": 2}], "last_step without first_step"),
        (
            [{"text": "a", "first_step": 3, "last_step": 1}, {"text": "b", "first_step": 4, "last_step": 2}],
            "last_step before first_step",
        ),
        ([{"text": "z"}, {"text": "z"}, {"text": "z"}], "content given twice, and no item_id"),
        (
            [{"item_id": "k", "text": c} for c in "abc"],
            "a name given twice, with other content",
        ),
    ],
)
def test_faults_that_differ_in_a_value_are_of_one_kind(rows, kind, write) -> None:
    found = inspect_items([write("a.jsonl", rows)]).findings
    assert found["kind"].to_list() == [kind] * 2
    assert found["what"].n_unique() + found["line"].n_unique() >= 3


def test_rows_that_cannot_be_read_are_of_one_kind(write) -> None:
    found = inspect_items([write("a.jsonl", 'x\n  y\n{"text": "a"}\n')]).findings
    assert found["kind"].unique().to_list() == ["no JSON: Expecting value"]
    found = inspect_items([write("a.csv", "text,x\na\na,b,c\n")]).findings
    assert found["kind"].unique().to_list() == ["more or fewer cells than the header has"]


def test_what_is_no_fault_is_what_read_items_takes(write) -> None:
    path = write("a.jsonl", [{"text": "a"}, {"text": ""}, {"prefix": "p", "suffix": "s"}, {"text": "a"}])
    inspected = inspect_items([path])
    assert inspected.table.equals(read_items([path], on_bad="skip").table)
    assert (inspected.n_items, inspected.files[0].n_items) == (4, 2)
    assert inspected.given == {"text", "prefix", "suffix"}


def test_findings_are_empty_exactly_where_reading_succeeds(write) -> None:
    good = write("good.jsonl", [{"text": "a"}])
    assert inspect_items([good]).findings.is_empty()
    read_items([good])
    bad = write("bad.jsonl", [{"text": "a", "step": 1}])
    assert inspect_items([bad]).findings["column"].to_list() == ["step"]
    with pytest.raises(ItemError):
        read_items([bad])


def test_no_text_of_an_item_is_quoted(write) -> None:
    secret = "Zanzibar code 4711"
    rows = [{"text": [secret]}, {"text": secret, "prefix": secret}, {"text": secret}, {"text": secret}]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + secret)
    found = inspect_items([path]).findings
    assert found.height == 4
    assert "Zanzibar" not in found.drop("file").write_json()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a.jsonl", (None, None, "broken")),
        ("a.jsonl, line 7", (7, None, "broken")),
        ("a.jsonl, row 7, column x, y", (7, "x, y", "broken")),
        ("a.jsonl, column x", (None, "x", "broken")),
        ("a.jsonl, line 3, character 9", (None, None, "broken (line 3, character 9)")),
    ],
)
def test_a_problem_of_a_file_is_taken_apart_into_its_place(where, expected) -> None:
    row = problem_row(Problem("broken", where), ["a.jsonl", "a"])
    assert (row["line"], row["column"], row["what"]) == expected
    assert row["file"] == "a.jsonl"


def test_a_problem_without_a_file_has_none() -> None:
    assert problem_row(Problem("broken"), ["a.jsonl"])["file"] is None
