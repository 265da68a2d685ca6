"""Write items to a file, completely or not at all."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from memprobe.errors import InputError
from memprobe.tables.files import appearing

_SUFFIXES = (".jsonl", ".parquet")
# Long texts stand in many rows: a group of this size is written out before the next is laid out.
_GROUP_ROWS = 512


def check_out(out: Path, sources: Sequence[str], *, force: bool) -> None:
    """Check, before any work, that the items can be written.

    Raises:
        InputError: An unknown suffix, a folder, a source, or a file that exists without `force`.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"items are written to {' or '.join(_SUFFIXES)}", where=str(out))
    if out.is_dir():
        raise InputError("the file to write is a folder", where=str(out), fix="name a file in it")
    if not out.parent.is_dir():
        raise InputError("the folder to write to does not exist", where=str(out.parent))
    if any(out.resolve() == Path(spec).expanduser().resolve() for spec in sources):
        raise InputError("the items would overwrite their own source", where=str(out))
    if out.exists() and not force:
        raise InputError("the file is there already", where=str(out), fix="name another, or pass --force")


def write_items(out: Path, items: pl.DataFrame) -> None:
    """Write items as JSON lines or Parquet, by the suffix; the file appears when it is complete.

    Raises:
        IncompleteRunError: The disk is full; nothing is left behind.
        OSError: The folder cannot be written to; nothing is left behind.
    """
    with appearing(out) as handle:
        if out.suffix.lower() == ".parquet":
            items.write_parquet(handle, row_group_size=_GROUP_ROWS)
        else:
            items.write_ndjson(handle)
