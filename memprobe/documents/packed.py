"""Packed data sets: a column `input_ids`, each row a training sequence, in Parquet or Arrow."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.documents.rows import Pieces, Rows
from memprobe.errors import ItemError

_IDS = "input_ids"
_IN_A_FOLDER = ("state.json", "dataset_info.json", "dataset_dict.json")


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return path.is_dir() and any((path / name).is_file() for name in _IN_A_FOLDER)


def open_parquet(path: Path, spec: str, pieces: Pieces) -> Rows:
    """Open a Parquet file.

    Raises:
        ItemError: It is not such a file, or has no column of ids.
    """
    pieces.refuse(spec, "the rows of the file are the sequences")
    try:
        schema = pl.read_parquet_schema(path)
        n = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise ItemError(f"no Parquet: {str(error).splitlines()[0]}", where=spec) from error
    inner = getattr(schema.get(_IDS), "inner", None)
    _check(spec, n, list(schema), is_ids=inner is not None and inner.is_integer())

    def read(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        wanted = pl.col("place").is_in(places.tolist())
        found = pl.scan_parquet(path, glob=False).select(_IDS).with_row_index("place").filter(wanted)
        rows = found.sort("place").collect(engine="streaming")[_IDS]
        return [_ids(row.to_numpy() if row is not None else None, spec) for row in rows]

    return Rows(int(n), read)


def open_arrow(path: Path, spec: str, pieces: Pieces) -> Rows:
    """Open an Arrow file as `datasets` writes it.

    Raises:
        ItemError: It is not such a file, or has no column of ids.
    """
    from datasets import Dataset

    pieces.refuse(spec, "the rows of the file are the sequences")
    try:
        dataset = Dataset.from_file(str(path))
    except (ValueError, OSError) as error:
        raise ItemError(f"no Arrow file of `datasets`: {str(error).splitlines()[0]}", where=spec) from error
    return _of_dataset(dataset, spec)


def open_saved(path: Path, spec: str, pieces: Pieces) -> Rows:
    """Open a folder that `Dataset.save_to_disk` wrote.

    Raises:
        ItemError: It is not such a folder, or has several splits.
    """
    if not is_saved(path):
        raise ItemError(
            "is not a token stream",
            where=spec,
            fix="give .npy, .bin with .idx, .arrow, .parquet, or a saved data set",
        )
    from datasets import Dataset, load_from_disk

    pieces.refuse(spec, "the rows of the data set are the sequences")
    try:
        dataset = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ItemError(f"cannot be read: {str(error).splitlines()[0]}", where=spec) from error
    if not isinstance(dataset, Dataset):
        raise ItemError(
            f"holds the splits {', '.join(dataset)}", where=spec, fix=f"name one: {spec}/{min(dataset)}"
        )
    return _of_dataset(dataset, spec)


def _of_dataset(dataset: Any, spec: str) -> Rows:  # noqa: ANN401
    feature = getattr(dataset.features.get(_IDS), "feature", None)
    is_ids = "int" in str(getattr(feature, "dtype", ""))
    _check(spec, len(dataset), dataset.column_names, is_ids=is_ids)
    column = dataset.select_columns([_IDS]).with_format("arrow")

    def read(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        rows = column[places.tolist()].column(_IDS)
        return [
            _ids(row.values.to_numpy(zero_copy_only=False) if row.is_valid else None, spec) for row in rows
        ]

    return Rows(len(dataset), read)


def _check(spec: str, n: int, columns: list[str], *, is_ids: bool) -> None:
    if _IDS not in columns:
        raise ItemError(f"has no column `{_IDS}`; the columns are {', '.join(columns)}", where=spec)
    if not is_ids:
        raise ItemError(f"`{_IDS}` is not a column of lists of whole numbers", where=spec)
    if not n:
        raise ItemError("has no sequences", where=spec)


def _ids(row: NDArray[Any] | None, spec: str) -> NDArray[np.int64]:
    if row is None or row.dtype.kind not in "iu":
        raise ItemError("a sequence is null or holds null", where=spec, fix=f"give `{_IDS}` without nulls")
    return row.astype(np.int64)
