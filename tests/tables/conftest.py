"""Builds requests and scored spans by hand, one row at a time."""

from collections.abc import Callable

import polars as pl
import pytest

from memprobe.tables.requests import REQUESTS
from memprobe.tables.spans import SPANS

Row = tuple[str, str, int, int, int, str]


@pytest.fixture
def requests_of() -> Callable[..., pl.DataFrame]:
    """Return a function from rows (item, part, start, score_from, stop, detail) to `REQUESTS`."""

    def build(*rows: Row) -> pl.DataFrame:
        frame = pl.DataFrame(list(rows), schema=list(REQUESTS.columns), orient="row")
        return REQUESTS.conform(frame) if rows else REQUESTS.empty()

    return build


@pytest.fixture
def spans_of() -> Callable[..., pl.DataFrame]:
    """Return a function from dicts of `SPANS` columns to a frame; what is left out is null."""

    def build(*rows: dict[str, object]) -> pl.DataFrame:
        names = {name: None for row in rows for name in row if name not in SPANS.columns}
        schema = {
            **{name: column.dtype for name, column in SPANS.columns.items()},
            **dict.fromkeys(names, pl.List(pl.Float32)),
        }
        full = [{name: row.get(name) for name in schema} | {"content_hash": "h"} for row in rows]
        return SPANS.conform(pl.DataFrame(full, schema=schema, orient="row"))

    return build
