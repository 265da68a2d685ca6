"""Typed tables, such as Parquet files -> raw rows; token ids stay polars series until they are checked."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from memprobe.errors import ItemError
from memprobe.items.raw import Once, RawFile, RawRow
from memprobe.tables.checked_parquet import UNREADABLE, first_line


def read_parquet(path: Path, spec: str, limit: int | None) -> RawFile:
    """Read the first rows of a Parquet file; the digest covers the whole file.

    Raises:
        ItemError: It is not a Parquet file.
    """
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        frame = pl.read_parquet(path, n_rows=limit, glob=False)
    except UNREADABLE as error:
        raise ItemError(f"no Parquet: {first_line(error)}", where=spec) from error
    return RawFile(spec, sha256, "row", tuple(frame.columns), tuple(rows_from_frame(frame)))


def rows_from_frame(frame: pl.DataFrame) -> Iterator[RawRow]:
    """Yield the rows of a typed table.

    Lists in `input_ids` are polars series, which avoids a Python int for each token.
    """
    ids: Iterator[object] | None = None
    dtype = frame.schema.get("input_ids")
    if isinstance(dtype, pl.List | pl.Array):
        column = frame["input_ids"]
        ids, frame = (
            iter(column.arr.to_list() if isinstance(dtype, pl.Array) else column),
            frame.drop("input_ids"),
        )
        if not frame.width:
            yield from (RawRow(number, {"input_ids": one}) for number, one in enumerate(ids, start=1))
            return
    once = Once()
    for number, values in enumerate(frame.iter_rows(named=True), start=1):
        given = values if ids is None else {**values, "input_ids": next(ids)}
        yield once.row(RawRow(number, given))
