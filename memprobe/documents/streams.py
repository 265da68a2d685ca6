"""Token streams as trained: how to recognise one, and its sequences, read one by one.

Formats: `.npy` (rows are sequences, or one stream that is cut), Megatron's `.bin` with `.idx` (see
megatron.py), and packed data sets with a column `input_ids` (`.parquet`, `.arrow`, or the folder that
`Dataset.save_to_disk` writes; see packed.py). No file is read as a whole, so files may be larger than memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.documents import megatron, packed
from memprobe.documents.rows import Flat, Pieces, Rows
from memprobe.errors import ItemError, MemprobeError, Problem
from memprobe.wording import near_miss

_SUFFIXES: Final = (".npy", ".bin", ".idx", ".arrow")


@dataclass(frozen=True, slots=True)
class Stream:
    """The sequences of all files, in the order of the files.

    Attributes:
        rows: The sequences of each file.
        names: Name of each file, after which its items are named.
    """

    rows: tuple[Rows, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    def read(self, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the sequences at these places, in rising order; place 0 is the first of the first file."""
        found, start = [], 0
        for rows in self.rows:
            inside = places[(places >= start) & (places < start + len(rows))] - start
            found += rows.read(inside) if len(inside) else []
            start += len(rows)
        return found

    def name(self, places: NDArray[np.int64]) -> list[str]:
        """Return `<file>-<number in the file, from 0>` of each sequence."""
        starts = np.cumsum([0, *(len(rows) for rows in self.rows)])
        files = np.searchsorted(starts, places, side="right") - 1
        return [
            f"{self.names[file]}-{place - starts[file]}"
            for file, place in zip(files, places.tolist(), strict=True)
        ]


def is_stream(spec: str) -> bool:
    """Return whether a file is a token stream, by its suffix or by its column `input_ids`."""
    path = Path(spec).expanduser()
    if path.suffix.lower() in _SUFFIXES or packed.is_saved(path):
        return True
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        columns = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return "input_ids" in columns and "text" not in columns


def open_streams(specs: Sequence[str], pieces: Pieces, *, doc_order: str | None = None) -> Stream:
    """Open token streams.

    Args:
        specs: The files, in training order.
        pieces: How a file that is one stream is cut into sequences; see `Pieces`.
        doc_order: A .npy file: the documents of one .bin in the order in which they were laid out.

    Raises:
        ItemError: Files cannot be used, or two have the same name; all problems at once.
    """
    found: list[Rows] = []
    problems: list[Problem] = []
    if doc_order is not None and (len(specs) > 1 or Path(specs[0]).suffix not in {".bin", ".idx"}):
        raise ItemError("--doc-order is for one Megatron file, .bin with .idx", where=", ".join(specs))
    for spec in specs:
        try:
            found.append(_open(spec, pieces, doc_order))
        except MemprobeError as error:
            problems += error.problems
        except OSError as error:
            problems.append(Problem(f"cannot be read: {error.strerror or error}", spec))
    paths = [Path(spec).expanduser().resolve() for spec in specs]
    names = [path.name if path.is_dir() else path.stem for path in paths]
    problems += [
        Problem(f"two files are named {name}, and items take their names from it", spec, "rename one")
        for number, (name, spec) in enumerate(zip(names, specs, strict=True))
        if name in names[:number]
    ]
    if problems:
        raise ItemError(problems)
    return Stream(tuple(found), tuple(names))


def _open(spec: str, pieces: Pieces, doc_order: str | None) -> Rows:
    path = Path(spec).expanduser()
    if not path.exists():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ItemError(f"no such file{near_miss(path.name, there)}", where=spec)
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader(path, spec, pieces)
    if path.suffix.lower() in {".bin", ".idx"}:
        return megatron.open_rows(path, spec, pieces, None if doc_order is None else load_numbers(doc_order))
    return packed.open_saved(path, spec, pieces)


def _open_npy(path: Path, spec: str, pieces: Pieces) -> Rows:
    array = _load(path, spec)
    if array.dtype.kind not in "iu":
        raise ItemError(f"holds {array.dtype}, and token ids are whole numbers", where=spec)
    if array.ndim == 1:
        return pieces.cut(_flat(array), spec)
    if array.ndim != 2:
        raise ItemError(
            f"has {array.ndim} dimensions, {' x '.join(map(str, array.shape))}",
            where=spec,
            fix="a stream has one, rows of sequences have two",
        )
    pieces.refuse(spec, "the rows of the file are the sequences")
    if not array.size:
        raise ItemError("has no tokens", where=spec)
    if not array.flags.c_contiguous:
        return Rows(len(array), lambda places: [array[place].astype(np.int64) for place in places])
    n, size = array.shape
    return _flat(array).rows(n, size, size)


def _flat(array: np.memmap[Any, Any]) -> Flat:
    return Flat(Path(str(array.filename)), array.dtype, array.offset, array.size)


def load_numbers(spec: str) -> NDArray[np.int64]:
    """Read a one-dimensional .npy file of whole numbers, such as an order.

    Raises:
        ItemError: The file is something else.
    """
    path = Path(spec).expanduser()
    if not path.is_file():
        raise ItemError("no such file", where=spec)
    array = _load(path, spec)
    if array.dtype.kind not in "iu" or array.ndim != 1 or not array.size:
        raise ItemError(
            f"holds {array.dtype} in {array.ndim} dimensions, not a list of whole numbers", where=spec
        )
    return np.asarray(array, dtype=np.int64)


def _load(path: Path, spec: str) -> np.memmap[Any, Any]:
    """Map a .npy file into memory.

    Raises:
        ItemError: It is not a .npy file, holds a pickle, or is cut off.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        what = f"is not a complete .npy file of numbers: {str(error).splitlines()[0]}"
        raise ItemError(
            what, where=spec, fix="write it with numpy.save; copy it again if it was cut off"
        ) from error
    if not isinstance(array, np.memmap):
        raise ItemError("is an archive of several arrays", where=spec, fix="give one .npy file")
    return array


_READERS: Final[dict[str, Callable[[Path, str, Pieces], Rows]]] = {
    ".npy": _open_npy,
    ".parquet": packed.open_parquet,
    ".arrow": packed.open_arrow,
}
