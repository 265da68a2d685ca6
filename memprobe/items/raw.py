"""Raw rows: what a reader found, with the line, before anything is checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from memprobe.errors import ItemError

Unit = Literal["line", "row", "item"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one item.

    Attributes:
        column: The column; empty where the row as a whole is wrong.
        what: What is wrong; never quotes text of the item.
        fix: What to do about it; may be empty.
        sort: `what` without what differs from item to item, by which faults are counted; empty: as `what`.
    """

    column: str
    what: str
    fix: str = ""
    sort: str = ""

    @property
    def kind(self) -> str:
        """The kind of the fault, shared by faults of other items."""
        return self.sort or self.what


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file.

    Attributes:
        line: Line, row or place in the list, from 1.
        values: Column to value as the file gives it; null and absent mean the same.
        faults: Why the row could not be read, if so.
    """

    line: int
    values: Mapping[str, object]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class RawFile:
    """The rows read from one file.

    Attributes:
        spec: The file as the user named it.
        sha256: Digest of the file's bytes; of the rows read for `hf:`.
        unit: What `RawRow.line` counts.
        columns: All columns given, in order of appearance.
        rows: The rows, in order.
        untyped: All values of the user's columns are text whose type must be inferred (CSV).
        read_as: What the columns were taken for, where not for what they are called.
    """

    spec: str
    sha256: str
    unit: Unit
    columns: tuple[str, ...]
    rows: tuple[RawRow, ...]
    untyped: bool = False
    read_as: str | None = None

    def where(self, line: int, column: str = "") -> str:
        """Return the place of a row, as messages name it."""
        place = f"{self.spec}, {self.unit} {line}"
        return f"{place}, column {column}" if column else place


class RefusedError(ValueError):
    """A value or a row cannot be used; carries the fault."""

    def __init__(self, what: str, fix: str = "", *, column: str = "", sort: str = "") -> None:
        super().__init__(what)
        self.fault = Fault(column, what, fix, sort)


_LONG_CHARS: Final = 256


class Once:
    """Long strings of rows, each kept in memory once: trials of one excerpt share its text."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def row(self, row: RawRow) -> RawRow:
        """Return a row with its long strings as they were met first."""
        return replace(row, values={name: self._one(value) for name, value in row.values.items()})

    def _one(self, value: object) -> object:
        if isinstance(value, str) and len(value) >= _LONG_CHARS:
            return self._kept.setdefault(value, value)
        return value


def decode_utf8(data: bytes, spec: str, *, first_byte: int = 0, first_line: int = 1) -> str:
    """Return `data` as text, without a byte-order mark at the file's start.

    Args:
        data: The file's bytes, or some whole lines of it.
        spec: The file, for the message.
        first_byte: Offset of `data` in the file, in bytes.
        first_line: Line at which `data` starts.

    Raises:
        ItemError: The bytes are not UTF-8; names the byte and the line.
    """
    try:
        return data.decode("utf-8-sig" if first_byte == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark.
        shift = len(data) - len(error.object)
        start = shift + error.start
        line = first_line + data[:start].count(b"\n")
        utf16 = first_byte == 0 and data[:2] in {b"\xff\xfe", b"\xfe\xff"}
        raise ItemError(
            f"not UTF-8: byte 0x{data[start]:02x} at offset {first_byte + start} (bytes)",
            where=f"{spec}, line {line}",
            fix="the file looks like UTF-16; save it as UTF-8" if utf16 else "save the file as UTF-8",
        ) from error
