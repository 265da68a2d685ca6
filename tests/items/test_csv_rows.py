"""CSV: true lines, casts of the known columns, and what breaks a file."""

import csv

import polars as pl
import pytest

from memprobe.items import read_items


def test_cells_are_cast_and_empty_ones_are_null(write) -> None:
    path = write("a.csv", "\ufeffitem_id,text,exposures,first_step,group\n007,a,3,,\nb,c,4.0,10,g\n")
    table = read_items([path]).table
    assert table["item_id"].to_list() == ["007", "b"]
    assert table["exposures"].to_list() == [3, 4]
    assert table["first_step"].to_list() == [None, 10]
    assert table["last_step"].to_list() == [None, 10]
    assert table["group"].to_list() == [None, "g"]


def test_a_row_is_named_by_the_line_at_which_it_starts(write) -> None:
    # The first text spans lines 2 to 4, line 5 is blank.
    path = write("a.csv", 'item_id,text\r\na,"one\r\n\r\ntwo"\r\n\r\nb,three\r\n')
    table = read_items([path]).table
    assert table["source_line"].to_list() == [2, 6]
    assert table["text"][0] == "one\r\n\r\ntwo"


def test_token_ids_are_a_json_list(write) -> None:
    table = read_items([write("a.csv", 'item_id,input_ids\na,"[5, 6]"\n')]).table
    assert table["input_ids"].to_list() == [[5, 6]]
    assert table.schema["input_ids"] == pl.List(pl.Int64)


def test_exposure_steps_are_a_json_list_too(write) -> None:
    text = 'text,first_step,exposure_steps\na,5,"[5, 5, 9]"\nb,7,\nc,,\n'
    table = read_items([write("a.csv", text)]).table
    assert table["exposure_steps"].to_list() == [[5, 5, 9], None, None]
    # The last exposure is the last step, where the file does not say it.
    assert table["last_step"].to_list() == [9, 7, None]


def test_the_end_of_a_task_is_a_whole_number(write, message) -> None:
    table = read_items([write("a.csv", "text,group,task_end_step\na,g,100\nb,g,1e2\nc,,\n")]).table
    assert table["task_end_step"].to_list() == [100, 100, None]
    bad = write("b.csv", "text,task_end_step\na,-1\n")
    assert "-1, below 0" in message(bad)
    assert "line 2, column task_end_step" in message(bad)


def test_a_document_longer_than_the_modules_limit_is_read_and_the_limit_stays(write) -> None:
    before = csv.field_size_limit()
    assert len(read_items([write("a.csv", "text\n" + "a" * 200_000)]).table["text"].item()) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "text,exposures\na,3x\n",
            "a string of 2 characters, not a whole number\n  where: a.csv, line 2, column exposures",
            id="count",
        ),
        pytest.param(
            "text,first_step\na,-1\n", "-1, below 0\n  where: a.csv, line 2, column first_step", id="below"
        ),
        pytest.param("text,exposures\na,2.5\n", "2.5, not a whole number", id="fraction"),
        pytest.param(
            "text,exposures\na,nan\n", "a string of 3 characters, not a whole number", id="nan-count"
        ),
        pytest.param(
            "input_ids\n5 6\n",
            "a string, not a list of token ids\n  where: a.csv, line 2, column input_ids",
            id="ids",
        ),
        pytest.param(
            "text,group\na,b,c\n", "3 cells where the header has 2\n  where: a.csv, line 2", id="more-cells"
        ),
        pytest.param("text,group\na\n", "1 cells where the header has 2", id="fewer-cells"),
        pytest.param("text,text\na,b\n", "given 2 times\n  where: a.csv, line 1, column text", id="twice"),
        pytest.param(",text\n0,b\n", "the column has no name (column number 1)", id="no-name"),
        pytest.param("item_id;text\na;b\n", "separated by `;`, not by commas", id="semicolon"),
        pytest.param("item_id\ttext\na\tb\n", "separated by tabs", id="tabs"),
        pytest.param(
            'text\na\n"b\nc\n',
            "broken CSV: unexpected end of data, in the row that starts here\n  where: a.csv, line 3",
            id="open-quote",
        ),
        pytest.param('text\n"a" b\n', "broken CSV: ", id="text-behind-a-quote"),
        pytest.param("text,group\n", "has no items", id="header-alone"),
        pytest.param(
            "text,group\n,g\n", "no content: text null or empty\n  where: a.csv, line 2", id="empty-text"
        ),
    ],
)
def test_a_bad_file_is_told(write, message, text: str, said: str) -> None:
    assert said in message(write("a.csv", text))


def test_both_bad_columns_of_a_header_are_told(write, message) -> None:
    told = message(write("a.csv", "text,a,text,a\n1,2,3,4\n"))
    assert "column text" in told
    assert "column number 2" in told


def test_the_limit_counts_rows(write) -> None:
    path = write("a.csv", "text\na\nb\nc\n")
    assert read_items([path], limit=2).table["text"].to_list() == ["a", "b"]
