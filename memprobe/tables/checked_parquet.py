"""Parquet files that carry a SHA-256 of all their own bytes, which is checked before anything parses them.

The digest is an entry of the file's metadata, so it always travels with the file, and other readers see an
ordinary Parquet file. It is computed over the whole file with 64 zeros in place of the digest: no byte is
left out, and the digest does not depend on how a program would encode the data again.

Source: the Parquet format, https://parquet.apache.org/docs/file-format/ (the last 8 bytes are the length of
the metadata and `PAR1`), and Thrift's compact protocol, in which the metadata is written.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from memprobe.wording import counted

KEY = "memprobe_sha256"
_DIGITS = 64
_BLANK = b"0" * _DIGITS
# A pair of strings in Thrift's compact protocol: fields 1 and 2, each a type byte, a length and the bytes.
_MARK = b"\x18" + bytes([len(KEY)]) + KEY.encode() + b"\x18" + bytes([_DIGITS])
_MAGIC = b"PAR1"
_CHUNK_BYTES = 1 << 20
# Errors of polars for a file that is not Parquet; its panics do not derive from Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
# Digests that this process found to be right, by file and by the file's size, time and inode.
_SEEN: dict[tuple[Path, tuple[int, int, int]], str] = {}


class AlteredFileError(Exception):
    """A file is not as it was written; the message says how it differs."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose digest is right.

    Attributes:
        frame: Rows of the file.
        digest: SHA-256 of the file, 64 hex digits.
        about: Further metadata of the file.
    """

    frame: pl.DataFrame
    digest: str
    about: Mapping[str, str]


def to_bytes(frame: pl.DataFrame, about: Mapping[str, str] | None = None) -> tuple[bytearray, str]:
    """Return a frame as Parquet with its digest, and the digest.

    Args:
        frame: The rows.
        about: Further entries of the file's metadata.

    Raises:
        ValueError: The place of the digest is not found in the bytes that polars wrote.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={**(about or {}), KEY: _BLANK.decode()})
    content = bytearray(buffer.getbuffer())
    place = _place(content, len(content))
    if place is None or content[place : place + _DIGITS] != _BLANK:
        raise ValueError(f"no entry {KEY} of 64 zeros in the metadata that polars wrote")
    digest = hashlib.sha256(content).hexdigest()
    content[place : place + _DIGITS] = digest.encode()
    return content, digest


def read(file: Path) -> Checked:
    """Read a whole file and check it.

    Raises:
        AlteredFileError: The file is not as it was written.
        OSError: The file cannot be read.
    """
    content = file.read_bytes()
    with io.BytesIO(content) as opened:
        digest = _check(opened, len(content))
    try:
        about = pl.read_parquet_metadata(io.BytesIO(content))
        return Checked(pl.read_parquet(content), digest, about)
    except UNREADABLE as error:
        raise AlteredFileError(f"this polars cannot read it: {first_line(error)}") from error


def check(file: Path) -> str:
    """Check a file without decoding its rows, and return its digest; results are cached per file.

    Raises:
        AlteredFileError: The file is not as it was written.
        OSError: The file cannot be read.
    """
    with file.open("rb") as opened:
        found = os.fstat(opened.fileno())
        key = file, (found.st_size, found.st_mtime_ns, found.st_ino)
        if key not in _SEEN:
            _SEEN[key] = _check(opened, found.st_size)
        return _SEEN[key]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check(opened: IO[bytes], n_bytes: int) -> str:
    footer = _footer(opened, n_bytes)
    place = _place(footer, n_bytes)
    if place is None:
        raise AlteredFileError("it carries no checksum: an earlier memprobe or another program wrote it")
    said = footer[place - n_bytes + len(footer) :][:_DIGITS]
    found = _sha256(opened, place)
    if said != found.encode():
        raise AlteredFileError("its checksum is wrong: its bytes are not those that were written")
    return found


def _footer(opened: IO[bytes], n_bytes: int) -> bytes:
    """Return the file's metadata and the 8 bytes after it."""
    if n_bytes == 0:
        raise AlteredFileError("it is empty")
    opened.seek(max(0, n_bytes - 8))
    tail = opened.read(8)
    length = int.from_bytes(tail[:4], "little") + 8
    if len(tail) < 8 or tail[4:] != _MAGIC or length + len(_MAGIC) > n_bytes:
        raise AlteredFileError(f"it ends after {counted(n_bytes, 'byte')}, not as Parquet does")
    opened.seek(n_bytes - length)
    return opened.read(length)


def _place(content: bytes | bytearray, n_bytes: int) -> int | None:
    """Return the digest's offset in a file of `n_bytes` that ends with `content`; None if there is none."""
    # The search is from the end: in the metadata, entries come after the columns and their values.
    mark = content.rfind(_MARK)
    start = mark + len(_MARK)
    return None if mark < 0 or start + _DIGITS > len(content) else n_bytes - len(content) + start


def _sha256(opened: IO[bytes], place: int) -> str:
    """Return the digest of a file with zeros in place of the stored digest."""
    digest, left = hashlib.sha256(), place
    opened.seek(0)
    while left and (chunk := opened.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(_BLANK)
    opened.seek(place + _DIGITS)
    while chunk := opened.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
