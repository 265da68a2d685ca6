"""`inspect_items`: item files -> the sound items and a table of all faults of the others.

`read_items` raises an error for faults or skips bad items; here each fault is a row, for `memprobe data
check`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from memprobe.errors import Problem
from memprobe.items.check import Item, check_items, file_problems, to_table
from memprobe.items.itemset import ItemFile
from memprobe.items.read import read_files
from memprobe.items.schema import ITEMS
from memprobe.tables.schema import Column, TableSchema

FINDINGS: Final = TableSchema(
    name="findings",
    key=(),
    columns={
        "file": Column(pl.String(), "-", "the file as the user named it", "all files together"),
        "line": Column(pl.Int64(), "-", "line, row or place, as `source_line` of the item table", "the file"),
        "column": Column(pl.String(), "-", "the column", "the row or the file as a whole"),
        "item_id": Column(pl.String(), "-", "the item's name", "it gives none, or none that can be read"),
        "what": Column(pl.String(), "-", "what is wrong"),
        "fix": Column(pl.String(), "-", "what to do about it", "nothing helps"),
        "kind": Column(pl.String(), "-", "`what` without what differs from item to item"),
    },
)
"""All that `memprobe run` would refuse; one row per fault, in the order of the files."""

_PLACE = re.compile(r"(?:, (?:line|row|item) (?P<line>\d+))?(?:, column (?P<column>.+))?")


@dataclass(frozen=True, slots=True)
class Inspected:
    """Result of checking item files in full.

    Attributes:
        table: The sound items, schema ITEMS, then the user's further columns.
        findings: One row per fault, schema FINDINGS.
        files: The files that could be read, in order.
        given: Columns that at least one file has, even if they hold only nulls.
        n_items: Number of rows read, sound or not.
    """

    table: pl.DataFrame
    findings: pl.DataFrame
    files: tuple[ItemFile, ...]
    given: frozenset[str]
    n_items: int


def inspect_items(
    specs: Sequence[str], *, limit: int | None = None, offline: bool = False, mapping: Sequence[str] = ()
) -> Inspected:
    """Read item files and list all their faults; no fault of a file raises an error.

    Args:
        specs: As for `read_items`.
        limit: Read only this many items of all files together; None: all.
        offline: Refuse the network.
        mapping: As for `read_items`.

    Raises:
        InputError: The mapping is wrong.
        SafetyError: Under `offline`, a data set would have to be downloaded.
    """
    reading = read_files(specs, limit=limit, offline=offline, mapping=mapping)
    problems = [*reading.problems, *(each for file in reading.files for each in file_problems(file))]
    items = check_items(reading.files)
    good = [item for item in items if not item.faults]
    counts = dict.fromkeys((file.spec for file in reading.files), 0)
    for item in good:
        counts[item.file.spec] += 1
    rows = [*(problem_row(problem, specs) for problem in problems), *_of_items(items)]
    return Inspected(
        table=to_table(good) if good else ITEMS.empty(),
        findings=findings_of(rows),
        files=tuple(
            ItemFile(file.spec, file.sha256, counts[file.spec], file.read_as) for file in reading.files
        ),
        given=frozenset(name for file in reading.files for name in file.columns),
        n_items=sum(len(file.rows) for file in reading.files),
    )


def findings_of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return rows as a table of schema FINDINGS; columns that a row lacks are null."""
    schema = {name: column.dtype for name, column in FINDINGS.columns.items()}
    columns = {name: [row.get(name) for row in rows] for name in schema}
    return FINDINGS.conform(pl.DataFrame(columns, schema=schema))


def _of_items(items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    for item in items:
        for fault in item.faults:
            yield {
                "file": item.file.spec,
                "line": item.line,
                "column": fault.column or None,
                "item_id": item.known.get("item_id"),
                "what": fault.what,
                "fix": fault.fix or None,
                "kind": fault.kind,
            }


def problem_row(problem: Problem, specs: Sequence[str]) -> dict[str, Any]:
    """Return a problem of a file as a row.

    If its place names more than file, line and column, the place becomes part of `what`.
    """
    spec = max((spec for spec in specs if problem.where.startswith(spec)), key=len, default=None)
    rest = problem.where.removeprefix(spec or "")
    place = _PLACE.fullmatch(rest)
    line, column = (place["line"], place["column"]) if place else (None, None)
    what = problem.what if place else f"{problem.what} ({rest.removeprefix(', ')})"
    return {
        "file": spec,
        "line": int(line) if line else None,
        "column": column,
        "what": what,
        "fix": problem.fix or None,
        "kind": problem.what,
    }
