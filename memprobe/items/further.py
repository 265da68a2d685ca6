"""The user's further columns: one type each, inferred over all files together.

A column holds whole numbers, numbers, true/false or text; a column of several kinds, or of lists and
objects, becomes text. Cells of CSV files have no type: it is inferred from their text and the other files.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from memprobe.items.csv_rows import DECIMAL, WHOLE
from memprobe.items.raw import RefusedError
from memprobe.items.values import kind
from memprobe.parsing import INT64, MAX_DEPTH, is_nested_deeper

_TRUTH = re.compile(r"true|false|True|False|TRUE|FALSE")
_NAN = frozenset({"nan", "NaN", "NAN"})
_MAX_DIGITS = 20


class Value(NamedTuple):
    """A value of the user's own column, and whether it is a cell of a file without types."""

    value: object
    untyped: bool


def check_value(value: object) -> None:
    """Refuse a value that cannot be carried through to tables.

    Raises:
        RefusedError: The value holds NaN at any depth, is raw bytes, or is nested too deeply.
    """
    if isinstance(value, float):
        if math.isnan(value):
            raise RefusedError("NaN", "an unknown value is null")
    elif isinstance(value, bytes):
        raise RefusedError(f"{kind(value)}, which cannot be shown in a table")
    elif isinstance(value, list | dict):
        if is_nested_deeper(value):
            raise RefusedError(f"nested more than {MAX_DEPTH} deep")
        try:
            json.dumps(value, allow_nan=False, default=str)
        except ValueError as error:
            raise RefusedError("holds NaN or infinity", "an unknown value is null") from error


def nan_cells(values: Sequence[Value]) -> list[int]:
    """Return the indices of untyped cells that say NaN, if all other values are numbers.

    In a column of words, `nan` is a word.
    """
    places = [place for place, (value, untyped) in enumerate(values) if untyped and value in _NAN]
    others = {_kind(*entry) for entry in values if not (entry.untyped and entry.value in _NAN)}
    return places if others - {"null"} <= {"int", "float"} else []


def to_series(name: str, values: Sequence[Value]) -> pl.Series:
    """Return the column with its inferred type; nulls stay null, and a column of only nulls is text."""
    kinds = {_kind(*entry) for entry in values} - {"null"}
    if kinds == {"bool"}:
        return _series(name, (_truth(entry.value) for entry in values), pl.Boolean())
    if kinds == {"int"}:
        return _series(name, (None if v.value is None else int(str(v.value)) for v in values), pl.Int64())
    if kinds and kinds <= {"int", "float"}:
        return _series(name, (None if v.value is None else float(str(v.value)) for v in values), pl.Float64())
    return _series(name, (_as_string(entry.value) for entry in values), pl.String())


def _series(name: str, values: Iterable[object], dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, list(values), dtype=dtype)


def _kind(value: object, untyped: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _cell_kind(value) if untyped else "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in INT64 else "text"
    return "float" if isinstance(value, float) else "text"


def _cell_kind(cell: str) -> str:
    if WHOLE.fullmatch(cell):
        # Python refuses to convert a number with thousands of digits.
        return "int" if len(cell) <= _MAX_DIGITS and int(cell) in INT64 else "text"
    # A leading zero, as in a postal code, marks a name, not a number.
    if DECIMAL.fullmatch(cell) and not re.match(r"[-+]?0[0-9]", cell) and math.isfinite(float(cell)):
        return "float"
    return "bool" if _TRUTH.fullmatch(cell) else "text"


def _truth(value: object) -> bool | None:
    return None if value is None else str(value).lower() == "true"


def _as_string(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
