"""Tables as CSV: cells that no spreadsheet takes for a formula, and the way back.

A text that begins with `= + - @` (or a tab or line end before it is read) gets a `'` in front, as
spreadsheets themselves write text. Numbers stay numbers. `from_csv` takes the quotes away again.

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


def from_csv(content: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the table that a CSV holds: texts without the quotes, lists from their JSON.

    Args:
        content: What `to_csv` returned.
        types: Of the columns that are known; the others are guessed.

    Raises:
        PolarsError: The columns do not hold what their types say.
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
