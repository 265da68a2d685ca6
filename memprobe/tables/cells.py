"""Tables as CSV: cells that no spreadsheet takes for a formula, and the way back.

A text that begins with `= + - @` (or a tab or line end before it is read) gets a `'` in front, as
spreadsheets themselves write text. Numbers stay numbers. `read_csv` takes the quotes away again.

Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from memprobe.errors import InvalidRunError
from memprobe.tables.catalogue import EXTRACTION_WINDOWS, TABLES
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.schema import TableSchema

_FORMULA = r"^('*)([=+\-@\t\r\n＝＋－＠])"
_QUOTED = r"^'('*[=+\-@\t\r\n＝＋－＠])"


def quoted(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; texts that begin so already get one more `'`."""
    return re.sub(_FORMULA, r"'\1\2", text)


def unquoted(text: str) -> str:
    """Return what `quoted` was given."""
    return re.sub(_QUOTED, r"\1", text)


def to_csv(frame: pl.DataFrame) -> bytes:
    """Return a table as CSV: texts quoted against formulas, each list as JSON, null as an empty cell."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    flat = frame.with_columns(
        pl.Series(name, [_json(each) for each in frame[name].to_list()], pl.String) for name in nested
    )
    texts = pl.col(pl.String).str.replace(_FORMULA, "'${1}${2}")
    named = flat.with_columns(texts).rename({name: quoted(name) for name in flat.columns})
    return named.write_csv(line_terminator="\n").encode()


def _json(value: Any) -> str | None:  # noqa: ANN401
    return None if value is None else json.dumps(value)


def read_csv(
    source: str | Path | bytes, table: str | None = None, *, schema: Mapping[str, pl.DataType] | None = None
) -> pl.DataFrame:
    """Read a CSV that memprobe wrote, with the types and texts that the table had.

    Example:
        memprobe.read_csv("reports/mine/summary.csv", "summary")

    Args:
        source: The file, or its content.
        table: Name of the table: its columns get their types. None: types are guessed.
        schema: Types of further columns, such as the user's own, which are guessed otherwise.

    Raises:
        InvalidRunError: The file does not hold such a table.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    known = {**_types(table), **(schema or {})}
    try:
        names = [unquoted(name) for name in pl.read_csv(io.BytesIO(content), n_rows=0).columns]
        given = {
            name: pl.String() if known[name].is_nested() else known[name] for name in names if name in known
        }
        given |= {name: pl.Float64() for name in names if name.startswith("n_at_p")}
        frame = pl.read_csv(
            io.BytesIO(content),
            new_columns=names,
            schema_overrides=given,
            infer_schema_length=None,
        )
        texts = frame.with_columns(pl.col(pl.String).str.replace(_QUOTED, "${1}"))
        lists = {name: known[name] for name in names if name in known and known[name].is_nested()}
        return texts.with_columns(pl.col(name).str.json_decode(dtype) for name, dtype in lists.items())
    except pl.exceptions.PolarsError as error:
        where = "" if isinstance(source, bytes) else str(source)
        raise InvalidRunError(f"this is no CSV of the table {table}: {error}", where=where) from error


def _types(table: str | None) -> dict[str, pl.DataType]:
    schemas: dict[str, tuple[TableSchema, ...]] = {
        "extraction": (EXTRACTION_WINDOWS,),
        DIFFERENCES.name: (DIFFERENCES,),
    }
    known = (*((TABLES[table],) if table in TABLES else ()), *schemas.get(table or "", ()))
    return {name: column.dtype for schema in known for name, column in schema.columns.items()}
