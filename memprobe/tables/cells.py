"""Tables as CSV: cells that no spreadsheet takes for a formula, and the way back.

A text that begins with `= + - @`, a tab or a line end gets a `'` in front, as spreadsheets themselves
mark text. Numbers stay numbers. `from_csv` takes the quotes away again.

Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
"""

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

_FORMULA = r"^('*)([=+\-@\t\r\n＝＋－＠])"
_QUOTED = r"^'('*[=+\-@\t\r\n＝＋－＠])"


def quoted(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; one already quoted gets one more `'`."""
    return re.sub(_FORMULA, r"'\1\2", text)


def unquoted(text: str) -> str:
    """Return the text that `quoted` was given."""
    return re.sub(_QUOTED, r"\1", text)


def to_csv(frame: pl.DataFrame) -> bytes:
    """Return a table as CSV: texts quoted against formulas, lists as JSON, null as an empty cell."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    flat = frame.with_columns(
        pl.Series(name, [_json(each) for each in frame[name].to_list()], pl.String) for name in nested
    )
    texts = pl.col(pl.String).str.replace(_FORMULA, "'${1}${2}")
    named = flat.with_columns(texts).rename({name: quoted(name) for name in flat.columns})
    return named.write_csv(line_terminator="\n").encode()


def _json(value: Any) -> str | None:  # noqa: ANN401
    return None if value is None else json.dumps(value)


def from_csv(content: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the table of a CSV: texts without the quotes, lists read from JSON.

    Args:
        content: Bytes from `to_csv`.
        types: Types of the columns by name; the types of other columns are guessed.

    Raises:
        PolarsError: The values of a column do not fit its type.
    """
    names = [unquoted(name) for name in pl.read_csv(io.BytesIO(content), n_rows=0).columns]
    known = {name: types[name] for name in names if name in types}
    nested = {name: dtype for name, dtype in known.items() if dtype.is_nested()}
    frame = pl.read_csv(
        io.BytesIO(content),
        new_columns=names,
        schema_overrides={
            **known,
            **dict.fromkeys(nested, pl.String()),
            **{name: pl.Float64() for name in names if name.startswith("n_at_p")},
        },
        infer_schema_length=None,
    )
    texts = frame.with_columns(pl.col(pl.String).str.replace(_QUOTED, "${1}"))
    return texts.with_columns(pl.col(name).str.json_decode(dtype) for name, dtype in nested.items())
