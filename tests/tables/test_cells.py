"""CSV that no spreadsheet runs, and the way back to the same texts and types."""

import csv
import io
import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import InvalidRunError
from memprobe.exporting import read_csv
from memprobe.tables.cells import quoted, to_csv, unquoted
from memprobe.tables.summary import SUMMARY

TEXTS = (
    "=1+1",
    "+x",
    "-x",
    "@x",
    "\t=x",
    "\r=x",
    "＝x",
    "'=x",
    "''=x",
    "'x",
    "x=1",
    "",
    "a,b",
    'say "x"',
    "l\nm",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_quoted_text_is_no_formula_and_comes_back(text) -> None:
    assert quoted(text)[:1] not in set("=+-@\t\r\n＝＋－＠")
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("=1", "'=1"), ("-1", "'-1"), ("'=1", "''=1"), ("'x", "'x"), ("x", "x"), ("a=1", "a=1")],
)
def test_only_what_could_be_a_formula_is_quoted(text, shown) -> None:
    assert quoted(text) == shown


def test_a_table_comes_back_with_its_texts_types_infinities_and_nulls() -> None:
    frame = pl.DataFrame(
        {
            "item_id": [*TEXTS, None],
            "=user's": [*TEXTS[::-1], None],
            "n": [-1.5, math.inf, -math.inf, None, 1e-300, *map(float, range(len(TEXTS) - 4))],
            "whole": pl.Series([-3, None, *range(len(TEXTS) - 1)], dtype=pl.Int64),
            "ok": [True, False, None, *[True] * (len(TEXTS) - 2)],
            "list": [[1, 2], [], None, *[[3]] * (len(TEXTS) - 2)],
        }
    )
    content = to_csv(frame)
    assert_frame_equal(read_csv(content, schema={"list": pl.List(pl.Int64())}), frame)
    cells = list(csv.reader(io.StringIO(content.decode(), newline="")))
    # Numbers are numbers: a negative one begins with its sign.
    assert cells[1][2] == "-1.5"
    assert cells[0][1] == "'=user's"


def test_a_table_of_ours_needs_no_types_said() -> None:
    row = dict.fromkeys(SUMMARY.columns) | {
        **{
            "model": "=m",
            "revision": "007",
            "step": 7,
            "probe": "recall",
            "metric": "exact_frac",
            "group": "-5",
        },
        **{"estimate": 1.0, "ci_level": 0.95, "n_items": 3, "n_clusters": 3, "n_missing": 0},
        **{"unit": "fraction", "version": 1, "signature": "recall|v1"},
    }
    frame = SUMMARY.conform(pl.DataFrame([row], schema=SUMMARY.empty().schema))
    # Guessed, the revision would be the number 7.
    assert_frame_equal(read_csv(to_csv(frame), "summary"), frame)
    assert read_csv(to_csv(frame))["revision"].to_list() == [7]


def test_what_is_no_such_table_is_said(tmp_path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("step,model\nnine,m\n")
    with pytest.raises(InvalidRunError, match="not a CSV of the table summary"):
        read_csv(file, "summary")
