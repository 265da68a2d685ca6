"""Types of the user's columns, inferred over all files together."""

import polars as pl
import pytest
from polars.testing import assert_series_equal

from memprobe.items import read_items
from memprobe.items.further import Value, nan_cells, to_series

NULL = Value(None, False)


def typed(*values: object) -> list[Value]:
    return [Value(value, False) for value in values]


def cells(*values: object) -> list[Value]:
    return [Value(value, True) for value in values]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param(typed(1, None, 2), [1, None, 2], id="ints"),
        pytest.param(typed(1, 2.5), [1.0, 2.5], id="ints-and-floats"),
        pytest.param(typed(0.1, float("inf")), [0.1, float("inf")], id="infinity"),
        pytest.param(typed(True, None), [True, None], id="bools"),
        pytest.param(typed(True, 1), ["true", "1"], id="bools-and-ints"),
        pytest.param(typed(1, "a", 0.5), ["1", "a", "0.5"], id="mixed"),
        pytest.param(typed([1, "ä"], {"a": None}), ['[1, "ä"]', '{"a": null}'], id="nested"),
        pytest.param(typed(1, 2**63), ["1", str(2**63)], id="beyond-64-bits"),
        pytest.param(typed("1", "2"), ["1", "2"], id="digits-in-strings-stay-strings"),
        pytest.param(cells("1", "-2", None), [1, -2, None], id="int-cells"),
        pytest.param(cells("1", ".5", "1e3"), [1.0, 0.5, 1000.0], id="float-cells"),
        pytest.param(cells("true", "False"), [True, False], id="bool-cells"),
        pytest.param(cells("01", "2"), ["01", "2"], id="leading-zero"),
        pytest.param(cells("00.5", "2"), ["00.5", "2"], id="leading-zero-float"),
        pytest.param(cells("1", str(2**63)), ["1", str(2**63)], id="long-cells"),
        pytest.param(cells("1", "1e999"), ["1", "1e999"], id="overflow"),
        pytest.param(cells("1", "a"), ["1", "a"], id="mixed-cells"),
        pytest.param(typed(1) + cells("2"), [1, 2], id="cells-follow-ints"),
        pytest.param(typed("1") + cells("2"), ["1", "2"], id="cells-follow-strings"),
        pytest.param(typed(1) + cells("b"), ["1", "b"], id="a-word-makes-all-strings"),
        pytest.param(typed(None, None), pl.Series([None, None], dtype=pl.String), id="nulls"),
    ],
)
def test_one_type_for_all(values: list[Value], want: object) -> None:
    assert_series_equal(to_series("x", values), pl.Series("x", want))


def test_int64_is_exact_at_its_ends() -> None:
    values = [2**63 - 1, -(2**63)]
    assert to_series("x", typed(*values)).to_list() == values
    assert to_series("x", cells(*map(str, values))).to_list() == values


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (cells("1", "nan", "NaN"), [1, 2]),
        (cells("nan", None), [0]),
        (cells("nan", "naan"), []),
        (typed(0.5) + cells("NAN"), [1]),
        (typed("nan") + cells("1"), []),
        (typed("word") + cells("nan"), []),
        (cells("true", "nan"), []),
    ],
)
def test_nan_cells_are_found_among_numbers_and_are_words_among_words(
    values: list[Value], places: list[int]
) -> None:
    assert nan_cells(values) == places


def test_nan_in_a_csv_is_named_and_when_skipped_the_column_keeps_its_type(write, message) -> None:
    path = write("a.csv", "text,score\na,1.5\nb,nan\n")
    assert (
        message(path)
        == "NaN\n  where: a.csv, line 3, column score\n  fix:   an unknown value is an empty cell"
    )
    items = read_items([path], on_bad="skip")
    assert items.table["score"].to_list() == [1.5]
    assert items.skipped["column"].to_list() == ["score"]


def test_a_skipped_item_does_not_shape_a_column(write) -> None:
    path = write("a.csv", "text,exposures,score\na,1,1.5\nb,3x,loss\n")
    assert read_items([path], on_bad="skip").table.schema["score"] == pl.Float64


def test_files_of_both_kinds_share_one_type(write) -> None:
    paths = [
        write("a.csv", "text,n,s\na,1,5\n"),
        write("b.jsonl", [{"text": "b", "n": 2, "s": "x", "only": True}]),
    ]
    table = read_items(paths).table
    assert table["n"].to_list() == [1, 2]
    assert table["s"].to_list() == ["5", "x"]
    assert table["only"].to_list() == [None, True]
    assert table.columns[-3:] == ["n", "s", "only"]
