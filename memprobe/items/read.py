"""Files -> raw rows: finds the files, picks the reader by suffix, and collects problems."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memprobe.errors import ItemError, Problem
from memprobe.items.booksort import from_booksort
from memprobe.items.csv_rows import read_csv
from memprobe.items.frame_rows import read_parquet
from memprobe.items.hub import HF_PREFIX, parse_hf_spec, read_hf
from memprobe.items.json_rows import read_json, read_jsonl
from memprobe.items.mapping import parse_mapping, renamed
from memprobe.items.raw import RawFile, RawRow, decode_utf8
from memprobe.wording import near_miss


@dataclass(frozen=True, slots=True)
class Reading:
    """All files as read.

    Attributes:
        files: The files that could be read, in the order given.
        problems: Problems of the other files, and files given twice.
    """

    files: tuple[RawFile, ...]
    problems: tuple[Problem, ...]


def read_files(
    specs: Sequence[str], *, limit: int | None, offline: bool, mapping: Sequence[str] = ()
) -> Reading:
    """Read the rows of all files, at most `limit` rows of all files together.

    A file that is not needed to reach the limit must exist but is not read.

    Args:
        specs: Paths, or `hf:` specs.
        limit: Most rows to read from all files together; None: all.
        offline: Refuse the network.
        mapping: `OURS=THEIRS` for columns that are read under another name, see `parse_mapping`.

    Raises:
        InputError: The mapping is wrong.
        SafetyError: Under `offline`, a data set would have to be downloaded.
    """
    names = parse_mapping(mapping)
    files: list[RawFile] = []
    problems = _given_twice(specs)
    for spec in dict.fromkeys(specs):
        left = None if limit is None else limit - sum(len(file.rows) for file in files)
        try:
            file = _read_one(spec, left, offline=offline)
        except ItemError as error:
            problems += error.problems
            continue
        if file is not None:
            files.append(file)
    files, wrong = renamed(files, names)
    return Reading(tuple(from_booksort(file) for file in files), (*problems, *wrong))


def _read_one(spec: str, limit: int | None, *, offline: bool) -> RawFile | None:
    if spec.startswith(HF_PREFIX):
        dataset = parse_hf_spec(spec)
        return None if limit == 0 else read_hf(dataset, limit, offline=offline)
    try:
        path = Path(spec).expanduser()
        reader = _reader(path, spec)
        file = None if limit == 0 else reader(path, spec, limit)
    except (OSError, RuntimeError) as error:
        # RuntimeError: `~name` names a user that this machine does not know.
        raise ItemError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=spec) from error
    if file is not None and not file.rows:
        raise ItemError("has no items", where=spec)
    return file


def _reader(path: Path, spec: str) -> Callable[[Path, str, int | None], RawFile]:
    if path.is_dir():
        files = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
        fix = f"name a file in it, such as {files[0]}" if files else "name a file"
        raise ItemError("a folder, not a file", where=spec, fix=fix)
    if not path.is_file():
        raise ItemError(f"no such file{_neighbour(path)}", where=spec)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        known = ", ".join(READERS)
        what = f"unknown suffix `{suffix}`" if suffix else "no suffix"
        raise ItemError(f"{what}{near_miss(suffix, READERS)}", where=spec, fix=f"item files end in {known}")
    if path.stat().st_size == 0:
        raise ItemError("the file is empty", where=spec)
    return READERS[suffix]


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    return near_miss(path.name, (entry.name for entry in path.parent.iterdir()))


def _given_twice(specs: Sequence[str]) -> list[Problem]:
    return [
        Problem("the file is given twice", spec, "name it once")
        for number, spec in enumerate(specs)
        if spec in specs[:number]
    ]


def _read_text(path: Path, spec: str, limit: int | None) -> RawFile:  # noqa: ARG001 - readers are alike
    data = path.read_bytes()
    # Line ends become \n, as when Python opens a text file: `lab train` trains on that text.
    text = decode_utf8(data, spec).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ItemError("the file is empty", where=spec)
    row = {"item_id": path.stem, "text": text, "doc_id": path.stem}
    return RawFile(spec, hashlib.sha256(data).hexdigest(), "line", tuple(row), (RawRow(1, row),))


READERS: Final[Mapping[str, Callable[[Path, str, int | None], RawFile]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".txt": _read_text,
}
