"""`read_items`: item files -> one checked table, or one error that lists all problems."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from memprobe.errors import ItemError, Problem
from memprobe.items.check import Item, check_items, file_problems, to_table
from memprobe.items.read import read_files
from memprobe.items.schema import SKIPPED
from memprobe.tables.content import CONTENT

_MAX_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class ItemFile:
    """One file that items came from.

    Attributes:
        spec: The file as the user named it.
        sha256: Digest of the file's bytes, or, for `hf:`, of the rows read.
        n_items: Items of this file in the table.
        read_as: Published format that its columns were recognised as; None: they mean what their names say.
    """

    spec: str
    sha256: str
    n_items: int
    read_as: str | None = None


@dataclass(frozen=True, slots=True)
class ItemSet:
    """Checked items.

    Attributes:
        table: One row per item, schema ITEMS, then the user's further columns.
        files: The files that were read, in order; a file from which `limit` needed no row is not read.
        skipped: One row per item left out under `on_bad="skip"`, schema SKIPPED.
        given: Columns that at least one file has, even if they hold only nulls.
    """

    table: pl.DataFrame
    files: tuple[ItemFile, ...]
    skipped: pl.DataFrame
    given: frozenset[str]

    @property
    def digest(self) -> str:
        """SHA-256 over all items, hex; the order of rows, columns and files does not matter.

        It covers names, contents and all other columns except the place in a file; null counts as absent.
        """
        left_out = {*CONTENT, "source_file", "source_line"}
        names = sorted(name for name in self.table.columns if name not in left_out)
        rows = sorted(
            json.dumps([pair for pair in zip(names, row, strict=True) if pair[1] is not None])
            for row in self.table.select(names).iter_rows()
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def without(self, reasons: Mapping[str, str], column: Mapping[str, str]) -> "ItemSet":
        """Return the item set without some items, which it lists as skipped.

        Args:
            reasons: Reason for leaving out each item, by `item_id`; ids not in this set are ignored.
            column: Column at fault of each of these items, by `item_id`.

        Raises:
            ItemError: No item is left.
        """
        out = pl.col("item_id").is_in(list(reasons))
        left = self.table.filter(~out)
        if left.is_empty():
            first = next(iter(reasons.values()))
            raise ItemError(f"no item is left: of {self.table.height:,}, all are bad; the first: {first}")
        gone = self.table.filter(out).select(
            "item_id",
            file="source_file",
            line="source_line",
            column=pl.col("item_id").replace_strict(dict(column), return_dtype=pl.String()),
            reason=pl.col("item_id").replace_strict(dict(reasons), return_dtype=pl.String()),
        )
        n_gone = Counter(gone["file"].to_list())
        return ItemSet(
            table=left,
            files=tuple(replace(file, n_items=file.n_items - n_gone[file.spec]) for file in self.files),
            skipped=SKIPPED.conform(pl.concat([self.skipped, gone.select(self.skipped.columns)])),
            given=self.given,
        )


def read_items(
    specs: Sequence[str],
    *,
    limit: int | None = None,
    on_bad: Literal["error", "skip"] = "error",
    offline: bool = False,
    mapping: Sequence[str] = (),
) -> ItemSet:
    """Read and check item files.

    Args:
        specs: Paths ending in .jsonl, .json, .csv, .parquet or .txt, or `hf:NAME[:CONFIG]:SPLIT`.
        limit: Read only this many items of all files together, including bad ones; None: all.
        on_bad: `skip` leaves bad items out and lists them; a problem of a whole file is still an error.
        offline: Refuse the network.
        mapping: `OURS=THEIRS` for columns that are read under another name, see `parse_mapping`.

    Raises:
        InputError: The mapping is wrong.
        ItemError: Files or items are wrong; it lists all problems of files and the first ten of items.
        SafetyError: Under `offline`, a data set would have to be downloaded.
    """
    _check_arguments(specs, limit, on_bad)
    reading = read_files(specs, limit=limit, offline=offline, mapping=mapping)
    problems = [*reading.problems, *(problem for file in reading.files for problem in file_problems(file))]
    items = check_items(reading.files)
    good = [item for item in items if not item.faults]
    bad = [item for item in items if item.faults]
    if on_bad == "error":
        problems += _first_problems(bad)
    elif not good and not problems:
        problems = [Problem(f"no item is left: of {len(items):,}, all are bad"), *_first_problems(bad)]
    if problems:
        raise ItemError(problems)
    n_items = Counter(item.file.spec for item in good)
    return ItemSet(
        table=to_table(good),
        files=tuple(
            ItemFile(file.spec, file.sha256, n_items[file.spec], file.read_as) for file in reading.files
        ),
        skipped=_skipped(bad),
        given=frozenset(name for file in reading.files for name in file.columns),
    )


def _check_arguments(specs: Sequence[str], limit: int | None, on_bad: str) -> None:
    if isinstance(specs, str) or on_bad not in {"error", "skip"}:
        raise ValueError(f"want a list of specs and on_bad error or skip, got {specs!r}, {on_bad!r}")
    if not specs:
        raise ItemError("no item file was given", fix="name one with -d FILE")
    if limit is not None and limit < 1:
        raise ItemError(f"a limit of {limit} items leaves none", fix="give a limit of 1 or more")


def _first_problems(bad: Sequence[Item]) -> list[Problem]:
    """Return the first ten problems of bad items, then one that counts the rest."""
    problems = [problem for item in bad for problem in item.problems()]
    rest = len(problems) - _MAX_SHOWN
    if rest > 0:
        last = Problem(
            f"problems not shown: {rest:,}; bad items in all: {len(bad):,}",
            fix="--on-bad-item skip leaves bad items out and lists them",
        )
        return [*problems[:_MAX_SHOWN], last]
    return problems


def _skipped(bad: Sequence[Item]) -> pl.DataFrame:
    rows = [
        {
            "file": item.file.spec,
            "line": item.line,
            "item_id": item.known.get("item_id"),
            "column": item.faults[0].column or None,
            "reason": "; ".join(
                f"{fault.column}: {fault.what}" if fault.column else fault.what for fault in item.faults
            ),
        }
        for item in bad
    ]
    return SKIPPED.conform(pl.DataFrame(rows, schema=SKIPPED.empty().schema))
