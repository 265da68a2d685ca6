"""CSV -> raw rows with their lines; cells are text, empty cells are null, known numbers are cast."""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from memprobe.errors import ItemError, Problem
from memprobe.items.booksort import is_booksort, lacks_excerpts
from memprobe.items.raw import Fault, Once, RawFile, RawRow, decode_utf8
from memprobe.items.schema import GIVEN

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NUMBERS = frozenset({"exposures", "first_step", "last_step", "task_end_step"}) | {
    *("excerpt_words", "segment_words", "distance_words", "distance_bin", "excerpt_start_frac")
}
_TRUTH = {"true": True, "false": False}
_TRUTHS = {"earlier_first": _TRUTH, "trained": _TRUTH}
_LISTS = frozenset({"input_ids", "exposure_steps"})
_MAX_DIGITS = 20


def read_csv(path: Path, spec: str, limit: int | None) -> RawFile:
    """Read a CSV file with a header, separated by commas, quoted as RFC 4180 says.

    Raises:
        ItemError: The file is not UTF-8, has broken quotes, or has a column without a name or given twice.
    """
    data = path.read_bytes()
    text = decode_utf8(data, spec)
    with _any_field_size(len(text)):
        records = _records(text, spec)
        header = next(records, (1, []))[1]
        _check_header(header, spec)
        once = Once()
        rows = tuple(once.row(_row(line, header, cells)) for line, cells in itertools.islice(records, limit))
    return RawFile(spec, hashlib.sha256(data).hexdigest(), "line", tuple(header), rows, untyped=True)


def _records(text: str, spec: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record that is not a blank line, with the line at which it starts."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            # Quoted cells may hold line ends, so a record starts after the last line of the one before.
            line = reader.line_num + 1
    except csv.Error as error:
        raise ItemError(
            f"broken CSV: {error}, in the row that starts here",
            where=f"{spec}, line {line}",
            fix='a cell with a comma, a quote or a line end is put into quotes; a quote in it is written ""',
        ) from error


def _row(line: int, header: list[str], cells: list[str]) -> RawRow:
    if len(cells) != len(header):
        what = f"{len(cells)} cells where the header has {len(header)}"
        fix = "put cells that hold a comma into double quotes"
        return RawRow(line, {}, (Fault("", what, fix, sort="more or fewer cells than the header has"),))
    return RawRow(
        line, {name: typed(name, cell) for name, cell in zip(header, cells, strict=True) if cell != ""}
    )


def typed(name: str, cell: str) -> object:
    """Return the cell cast to the type of its column; the checks report cells that stay text."""
    if name in _TRUTHS:
        return _TRUTHS[name].get(cell.lower(), cell)
    if name in _NUMBERS and len(cell) <= _MAX_DIGITS:
        if WHOLE.fullmatch(cell):
            return int(cell)
        if DECIMAL.fullmatch(cell):
            return float(cell)
    if name in _LISTS:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(cell)
    return cell


def _check_header(header: list[str], spec: str) -> None:
    problems = [
        Problem(f"the column has no name (column number {number})", f"{spec}, line 1", "name it or remove it")
        for number, name in enumerate(header, start=1)
        # The published files have a data frame's index, without a name, as their first column.
        if not name and not (number == 1 and (is_booksort(header) or lacks_excerpts(header)))
    ]
    problems += [
        Problem(f"given {count} times", f"{spec}, line 1, {_column_shown(name, header)}", "keep one of them")
        for name, count in Counter(header).items()
        if name and count > 1
    ]
    if len(header) == 1 and (mark := next((mark for mark in ";\t|" if mark in header[0]), "")):
        shown = "tabs" if mark == "\t" else f"`{mark}`"
        problems.append(Problem(f"separated by {shown}, not by commas", f"{spec}, line 1"))
    if problems:
        raise ItemError(problems)


def _column_shown(name: str, header: list[str]) -> str:
    """Return a known column by name, any other by number: without a header its name is item text."""
    return f"column {name}" if name in GIVEN else f"column number {header.index(name) + 1}"


@contextlib.contextmanager
def _any_field_size(size_chars: int) -> Iterator[None]:
    """Allow cells as long as the file; the csv module's limit of 131,072 is shorter than some documents."""
    before = csv.field_size_limit(max(size_chars, 1) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
