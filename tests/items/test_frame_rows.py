"""Parquet: types, row numbers, and token ids without Python lists."""

from pathlib import Path

import polars as pl
import pytest

from memprobe.items import read_items
from memprobe.items.frame_rows import rows_from_frame


def parquet(folder: Path, frame: pl.DataFrame) -> str:
    path = folder / "a[1].parquet"  # brackets are no pattern
    frame.write_parquet(path)
    return str(path)


def test_rows_are_numbered_from_one_and_types_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": pl.Series(["a", "b"], dtype=pl.Categorical),
            "exposures": pl.Series([1, None], dtype=pl.UInt8),
            "first_step": [2.0, None],
            "day": pl.Series(["2024-01-02", None]).str.to_date(),
            "tags": [["x", "y"], None],
        }
    )
    table = read_items([parquet(tmp_path, frame)]).table
    assert table["source_line"].to_list() == [1, 2]
    assert table["exposures"].to_list() == [1, None]
    assert table["first_step"].to_list() == [2, None]
    assert table["day"].to_list() == ["2024-01-02", None]
    assert table["tags"].to_list() == ['["x", "y"]', None]


@pytest.mark.parametrize("dtype", [pl.List(pl.Int32), pl.List(pl.UInt64), pl.Array(pl.Int16, 2)])
def test_token_ids_of_any_width_become_int64(tmp_path: Path, dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"input_ids": pl.Series([[7, 8], [9, 0]], dtype=dtype)})
    table = read_items([parquet(tmp_path, frame)]).table
    assert table["input_ids"].to_list() == [[7, 8], [9, 0]]
    assert table.schema["input_ids"] == pl.List(pl.Int64)


@pytest.mark.parametrize("dtype", [pl.List(pl.Int32), pl.List(pl.Float64), pl.Array(pl.UInt16, 2)])
def test_exposure_steps_are_a_list_of_any_width(tmp_path: Path, dtype: pl.DataType) -> None:
    steps = pl.Series("exposure_steps", [[5, 9], None], dtype=dtype)
    frame = pl.DataFrame({"text": ["a", "b"], "first_step": [5, None]}).with_columns(steps)
    table = read_items([parquet(tmp_path, frame)]).table
    assert table["exposure_steps"].to_list() == [[5, 9], None]
    assert table.schema["exposure_steps"] == pl.List(pl.Int64)


def test_ids_and_text_may_alternate(tmp_path: Path) -> None:
    frame = pl.DataFrame({"input_ids": [None, [1], None, [2, 3]], "text": ["a", None, "b", None]})
    table = read_items([parquet(tmp_path, frame)]).table
    assert table["input_ids"].to_list() == [None, [1], None, [2, 3]]
    assert table["text"].to_list() == ["a", None, "b", None]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        pytest.param(pl.Series("input_ids", [[1], [-1]]), "token id 1 of 1 is below 0", id="negative"),
        pytest.param(
            pl.Series("input_ids", [[1], [None]], dtype=pl.List(pl.Int64)), "has null", id="null-inside"
        ),
        pytest.param(pl.Series("input_ids", [[1.0], [2.5]]), "a fraction", id="fraction"),
        pytest.param(pl.Series("input_ids", [[1], []], dtype=pl.List(pl.Int64)), "empty", id="empty"),
        pytest.param(
            pl.Series("input_ids", [[2**63], [2**63 + 1]], dtype=pl.List(pl.UInt64)), "beyond 64", id="huge"
        ),
        pytest.param(pl.Series("input_ids", ["1", "2"]), "a string, not a list of token ids", id="string"),
        pytest.param(pl.Series("text", [1.0, float("nan")]), "NaN, not a string", id="nan-text"),
        pytest.param(pl.Series("text", [b"a", b"b"]), "raw bytes, not a string", id="bytes"),
    ],
)
def test_a_bad_value_is_named_by_row(tmp_path: Path, message, column: pl.Series, said: str) -> None:
    told = message(parquet(tmp_path, pl.DataFrame([column])))
    assert said in told
    assert f"where: a[1].parquet, row 2, column {column.name}" in told


def test_nan_in_the_users_column_is_bad(tmp_path: Path, message) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", "b", "c"],
            "score": [0.5, float("nan"), float("inf")],
            "l": [[1.0], [2.0], [float("nan")]],
        }
    )
    told = message(parquet(tmp_path, frame))
    assert told.startswith("NaN\n  where: a[1].parquet, row 2, column score\n")
    assert "holds NaN or infinity\n  where: a[1].parquet, row 3, column l" in told
    assert "row 3, column score" not in told, "infinity is a value"


@pytest.mark.parametrize("data", [b"hello world, this is no parquet", b"PAR1\x00\x00\x00\x00PAR1"])
def test_a_file_that_is_no_parquet_is_told(write, message, data: bytes) -> None:
    assert message(write("a.parquet", data)).startswith("no Parquet: ")


def test_no_rows_and_the_limit(tmp_path: Path, message) -> None:
    assert "has no items" in message(
        parquet(tmp_path, pl.DataFrame({"text": []}, schema={"text": pl.String}))
    )
    path = parquet(tmp_path, pl.DataFrame({"text": ["a", "b", "c"]}))
    assert read_items([path], limit=2).table["text"].to_list() == ["a", "b"]


def test_token_ids_stay_series_beside_other_columns() -> None:
    rows = list(rows_from_frame(pl.DataFrame({"input_ids": [[1, 2], [3]], "group": ["g", "h"]})))
    assert [row.values["group"] for row in rows] == ["g", "h"]
    assert isinstance(rows[0].values["input_ids"], pl.Series)
    assert rows[1].values["input_ids"].to_list() == [3]
