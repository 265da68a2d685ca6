"""Raw rows: the rows of a file as read, with their lines, before any check."""

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
        sort: `what` without the details of one item, to count like faults together; empty: as `what`.
    """

    column: str
    what: str
    fix: str = ""
    sort: str = ""

    @property
    def kind(self) -> str:
        """Kind under which like faults of several items are counted together."""
        return self.sort or self.what


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file.

    Attributes:
        line: Line, row or place in the list, from 1.
        values: Values by column, as the file gives them; a missing key means the same as null.
        faults: Reasons why the row could not be read; empty if it could.
    """

    line: int
    values: Mapping[str, object]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class RawFile:
    """The rows read from one file.

    Attributes:
        spec: The file as the user named it.
        sha256: Digest of the file's bytes, or, for `hf:`, of the rows read.
        unit: What `RawRow.line` counts.
        columns: All columns given, in order of appearance.
        rows: The rows, in order.
        untyped: Whether all values of the user's columns are text whose type must be inferred (CSV).
        read_as: Published format that the columns were recognised as; None: they mean what their names say.
    """

    spec: str
    sha256: str
    unit: Unit
    columns: tuple[str, ...]
    rows: tuple[RawRow, ...]
    untyped: bool = False
    read_as: str | None = None

    def where(self, line: int, column: str = "") -> str:
        """Return the place of a row as shown in messages."""
        place = f"{self.spec}, {self.unit} {line}"
        return f"{place}, column {column}" if column else place


class RefusedError(ValueError):
    """A value or a row cannot be used; holds the fault."""

    def __init__(self, what: str, fix: str = "", *, column: str = "", sort: str = "") -> None:
        super().__init__(what)
        self.fault = Fault(column, what, fix, sort)


_LONG_CHARS: Final = 256


class Once:
    """Keeps equal long strings of rows in memory once: trials of one excerpt share its text."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def row(self, row: RawRow) -> RawRow:
        """Return a row whose long strings are replaced by equal ones that were met before."""
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
        # utf-8-sig counts from the end of the byte-order mark.
        shift = len(data) - len(error.object)
        start = shift + error.start
        line = first_line + data[:start].count(b"\n")
        utf16 = first_byte == 0 and data[:2] in {b"\xff\xfe", b"\xfe\xff"}
        raise ItemError(
            f"not UTF-8: byte 0x{data[start]:02x} at offset {first_byte + start} (bytes)",
            where=f"{spec}, line {line}",
            fix="the file looks like UTF-16; save it as UTF-8" if utf16 else "save the file as UTF-8",
        ) from error
