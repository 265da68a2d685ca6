"""The run directory: manifest, units, tables; atomic writes, one lock.

Half-written files stay invisible: a file appears by rename, after its bytes are on disk. Alterations are
detected: units and tables carry a SHA-256 of their bytes, the manifest carries one of its contents, and the
manifest of a finished run names the digests of its tables.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from memprobe.errors import BrokenUnitError, InputError, InvalidRunError, TableError
from memprobe.tables import checked_parquet
from memprobe.tables.cells import to_csv
from memprobe.tables.checked_json import AlteredDocumentError, sealed, unsealed
from memprobe.tables.checked_parquet import AlteredFileError, Checked
from memprobe.tables.claims import (
    Holder,
    Patience,
    check_held,
    hold,
    holder_of,
    release,
    remove_abandoned,
)
from memprobe.tables.files import appearing, is_left_behind, is_mine, make_folder
from memprobe.tables.manifest import WRITTEN_AGAIN, Manifest
from memprobe.tables.possible import impossible, other_columns, other_requests, same_requests
from memprobe.tables.requests import Unit
from memprobe.tables.spans import SPANS
from memprobe.wording import near_miss

_ANEW = "run the same `memprobe run` again: tables are rebuilt from the units"


class Claim(NamedTuple):
    """A claim on a unit: the scoring context that its file name begins with, and the holder."""

    context: str
    holder: Holder


@dataclass(frozen=True, slots=True)
class RunStore:
    """One run directory.

    Attributes:
        path: The directory; it need not exist before something is written.
        private: Whether files hold text and so are readable by their owner alone.
    """

    path: Path
    private: bool = False

    @property
    def manifest_file(self) -> Path:
        """The file of the manifest."""
        return self.path / "manifest.json"

    @property
    def units_folder(self) -> Path:
        """The folder of the units."""
        return self.path / "units"

    def create(self) -> None:
        """Make the directory and its folders, and remove the half-written files of killed processes."""
        for folder in (self.path, self.units_folder, self.path / "tables"):
            make_folder(folder)
        for half_written in self.path.rglob(".*.tmp"):
            if is_left_behind(half_written):
                half_written.unlink(missing_ok=True)
        remove_abandoned(self.units_folder)
        for claim in self.units_folder.glob("*.claim"):
            # The claim is of a machine that died after its last write: nobody will ask for that unit again.
            if claim.with_suffix(".parquet").is_file():
                claim.unlink(missing_ok=True)

    def check_emptiable(self) -> None:
        """Check that the directory is a run's, empty, or not there.

        Raises:
            InputError: The directory holds files but no manifest, so it is not ours to empty.
        """
        if self.path.is_dir() and any(self.path.iterdir()) and not self.manifest_file.is_file():
            raise InputError(
                "--fresh empties only a run directory, and this one has no manifest.json",
                where=str(self.path),
                fix="give another directory with -o, or empty this one yourself",
            )

    def empty(self) -> None:
        """Remove what a run wrote, and nothing else.

        Raises:
            InputError: The directory holds files but no manifest, so it is not ours to empty.
        """
        self.check_emptiable()
        for name in ("units", "tables", "figures"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (
            "suite.toml",
            "summary.parquet",
            "summary.csv",
            "skipped.jsonl",
            "errors.jsonl",
            "gate.json",
            "report.html",
            "tables.lock",
            "manifest.json",
        ):
            (self.path / name).unlink(missing_ok=True)

    def read_manifest(self) -> Manifest | None:
        """Return the manifest; None if there is none.

        Raises:
            InvalidRunError: The manifest cannot be read, was altered, or has another format.
        """
        where = str(self.manifest_file)
        try:
            return _manifest(self.manifest_file.read_bytes(), where)
        except FileNotFoundError:
            return None
        except AlteredDocumentError as error:
            what = f"the manifest cannot be used: {error}"
            raise InvalidRunError(what, where=where, fix=WRITTEN_AGAIN) from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest with a digest of its contents."""
        self.write_json(self.manifest_file.name, sealed(manifest.to_json()))

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run directory atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self.write_text(name, text)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run directory atomically."""
        self._write(self.path / name, text.encode())

    def write_lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write a JSONL file, or remove it if there are no rows."""
        if rows:
            self.write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            check_held(self._lock_file)
            (self.path / name).unlink(missing_ok=True)

    def write_table(self, name: str, frame: pl.DataFrame) -> str:
        """Write `tables/<name>.parquet`, or a top-level Parquet file for `summary`; returns its SHA-256."""
        content, digest = checked_parquet.to_bytes(frame, {"table": name})
        self._write(self.table_file(name), content)
        return digest

    def table_file(self, name: str) -> Path:
        """Return the file of a table."""
        return (
            self.path / "summary.parquet" if name == "summary" else self.path / "tables" / f"{name}.parquet"
        )

    def write_csv(self, name: str, frame: pl.DataFrame) -> None:
        """Write a CSV file next to the summary."""
        self._write(self.path / name, to_csv(frame))

    def read_table(self, name: str, *, steps: Collection[int | None] | None = None) -> pl.DataFrame:
        """Read a table by its name.

        Args:
            name: Name of the table.
            steps: Read only the rows of these steps, so that the others take no memory; None among them
                stands for checkpoints without a step. None: all rows.

        Raises:
            InvalidRunError: The run has no such table, and the message lists those that it has; or the
                file is not as it was written, or is not from this run.
        """
        if steps is not None:
            wanted = pl.Series(list(steps), dtype=pl.Int64)
            is_wanted = pl.col("step").is_in(wanted.implode(), nulls_equal=True)
            return self.scan_table(name).filter(is_wanted).collect()
        with self._refusing(name):
            found = checked_parquet.read(self.table_file(name))
            self._check_name(name, found.about, found.digest)
        return found.frame

    def scan_table(self, name: str) -> pl.LazyFrame:
        """Return a table to be read in part; the whole file is checked first, without holding it in memory.

        Raises:
            InvalidRunError: As `read_table`.
        """
        file = self.table_file(name)
        with self._refusing(name):
            digest = checked_parquet.check(file)
            self._check_name(name, pl.read_parquet_metadata(file), digest)
        return pl.scan_parquet(file, glob=False)

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Raise InvalidRunError, with advice, for a table that is missing or not as it was written."""
        try:
            yield
        except FileNotFoundError as error:
            there = self.table_names()
            raise InvalidRunError(
                f"the run has no table `{name}`{near_miss(name, there)}",
                where=str(self.path),
                fix=f"tables are: {', '.join(there) or 'none yet'}",
            ) from error
        except AlteredFileError as error:
            file = str(self.table_file(name))
            raise InvalidRunError(
                f"the table `{name}` cannot be used: {error}", where=file, fix=_ANEW
            ) from error

    def _check_name(self, name: str, about: Mapping[str, str], digest: str) -> None:
        """Check that a file is the table of this name, and of this run if the manifest has its digest.

        Raises:
            AlteredFileError: It is another table, or one of another run.
        """
        if (named := about.get("table", name)) != name:
            raise AlteredFileError(f"it is the table `{named}` under another name")
        manifest = self.read_manifest()
        if manifest is not None and manifest.tables.get(name, digest) != digest:
            raise AlteredFileError("it is another one than this run wrote")

    def table_names(self) -> list[str]:
        """Return the names of the run's tables, the summary first."""
        names = sorted(file.stem for file in (self.path / "tables").glob("*.parquet"))
        return [*(["summary"] if (self.path / "summary.parquet").is_file() else []), *names]

    # Units

    def unit_file(self, context: str, unit: str) -> Path:
        """Return the file of the unit `unit` of the scoring context `context`."""
        return self.units_folder / f"{context}-{unit}.parquet"

    def has_unit(self, context: str, unit: str) -> bool:
        """Return whether the unit is done."""
        return self.unit_file(context, unit).is_file()

    def write_unit(
        self,
        context: str,
        unit: str,
        spans: pl.DataFrame,
        about: Mapping[str, str],
        *,
        vocabulary: int | None = None,
    ) -> None:
        """Write one finished unit.

        Args:
            context: Scoring context of the unit.
            unit: Key of the unit.
            spans: Rows of `SPANS`.
            about: Further entries for the file's metadata.
            vocabulary: Number of tokens that the model scores; None if it is not known.

        Raises:
            TableError: The rows do not fit `SPANS`, or hold impossible values.
            LostClaimError: This thread's claim on the unit was taken over.
        """
        frame = SPANS.conform(spans)
        if problems := impossible(frame, vocabulary):
            raise TableError(f"{SPANS.name}: {'; '.join(problems)}")
        named = {"context": context, "unit": unit, "vocabulary": str(vocabulary or "")}
        content, _ = checked_parquet.to_bytes(frame, {**about, **named})
        file = self.unit_file(context, unit)
        self._write(file, content, under=file.with_suffix(".claim"))

    def read_units(self, context: str, units: Mapping[str, Unit]) -> pl.DataFrame:
        """Return the spans of these units, in their order.

        Args:
            context: Scoring context of the units.
            units: Key of each unit to its requests.

        Raises:
            InvalidRunError: A unit is missing.
            BrokenUnitError: Units are not as they were written, or do not hold what is asked.
        """
        files = {self.unit_file(context, key): key for key in units}
        if missing := [file.name for file in files if not file.is_file()]:
            raise InvalidRunError(
                f"units are missing: {len(missing)} of {len(files)}",
                where=str(self.units_folder / missing[0]),
                fix="run the same command again",
            )
        found, broken = {}, {}
        for file, key in files.items():
            try:
                found[file] = _checked_unit(file, context, key)
            except AlteredFileError as error:
                broken[file] = str(error)
        asked = [units[files[file]] for file in found]
        # One check of all units is fast; they are checked one by one only if one of them is wrong.
        if not _all_right(list(found.values()), asked):
            reasons = {
                file: _wrong(each, unit) for (file, each), unit in zip(found.items(), asked, strict=True)
            }
            broken |= {file: reason for file, reason in reasons.items() if reason}
        if broken:
            raise BrokenUnitError(broken)
        return pl.concat([SPANS.empty(), *(each.frame for each in found.values())], how="diagonal")

    def set_aside(self, file: Path) -> Path:
        """Rename a unit that cannot be used, so that it counts as not done; returns its new name."""
        aside = file.with_name(file.name + ".broken")
        file.replace(aside)
        return aside

    def unit_times(self) -> dict[str, list[float]]:
        """Return for each context the times at which its units were written, in seconds since 1970."""
        times: dict[str, list[float]] = {}
        for entry in self._entries(".parquet"):
            # Other processes that tidy up may remove a file that was listed a moment ago.
            written = _modified(entry)
            if written is not None:
                times.setdefault(entry.name.partition("-")[0], []).append(written)
        return times

    def claims(self) -> list[Claim]:
        """Return the claims that are held or were left behind, in the order of their file names."""
        files = sorted(Path(entry.path) for entry in self._entries(".claim"))
        held = [(file, holder_of(file)) for file in files]
        return [Claim(file.name.partition("-")[0], holder) for file, holder in held if holder is not None]

    def lock_holder(self) -> Holder | None:
        """Return the holder of the run's lock; None if there is none."""
        return holder_of(self._lock_file)

    def _entries(self, suffix: str) -> "list[os.DirEntry[str]]":
        try:
            with os.scandir(self.units_folder) as entries:
                return [
                    each for each in entries if each.name.endswith(suffix) and not each.name.startswith(".")
                ]
        except FileNotFoundError:
            return []

    @contextmanager
    def claim(self, context: str, unit: str) -> Iterator[bool]:
        """Hold the claim on a unit; yields False if another live process holds it."""
        with hold(self.unit_file(context, unit).with_suffix(".claim")) as held:
            yield held

    def release(self) -> None:
        """Remove this thread's claims and locks and this process's half-written files from the directory.

        A signal may arrive between the creation of a claim and the block that would remove it, so signal
        handlers call this.
        """
        release(self.path)
        for half_written in self.path.rglob(".*.tmp"):
            if is_mine(half_written):
                half_written.unlink(missing_ok=True)

    @property
    def _lock_file(self) -> Path:
        return self.path / "tables.lock"

    @contextmanager
    def lock(self, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the run's lock; waits while another live process holds it.

        Args:
            waiting: Called after a few seconds with a text that names the process waited for, and again
                when the text changes.
        """
        patience = Patience(waiting)
        while True:
            with hold(self._lock_file) as held:
                if held:
                    yield
                    return
            holder = self.lock_holder()
            patience.wait_for(f"{holder} builds the tables; waiting for it" if holder else "")
            time.sleep(0.2)

    def holders(self, units: Iterable[tuple[str, str]]) -> list[Holder]:
        """Return the live holders of these units, given as (context, unit); each process once."""
        held = (holder_of(self.unit_file(*each).with_suffix(".claim")) for each in units)
        return list({str(each): each for each in held if each is not None and not each.gone}.values())

    def _write(self, file: Path, content: bytes | bytearray, *, under: Path | None = None) -> None:
        """Write a file, unless this thread's claim for it (`under`, or the run's lock) was taken over."""
        with appearing(
            file,
            private=self.private,
            tidy=False,
            allowed=lambda: check_held(under or self._lock_file),
        ) as handle:
            handle.write(content)


def _checked_unit(file: Path, context: str, unit: str) -> Checked:
    """Read a unit and check its bytes, its name and its columns.

    Raises:
        AlteredFileError: One of them is wrong.
    """
    found = checked_parquet.read(file)
    named = found.about.get("context"), found.about.get("unit")
    if named != (context, unit):
        raise AlteredFileError(f"it is the unit {named[0]}-{named[1]} under another name")
    if reason := other_columns(found.frame.schema):
        raise AlteredFileError(reason)
    return found


def _all_right(found: Sequence[Checked], asked: Sequence[Unit]) -> bool:
    """Return whether all of these units are right, checked together because there may be thousands."""
    if not same_requests(asked, [each.frame for each in found]):
        return False
    alike: dict[tuple[object, ...], list[pl.DataFrame]] = {}
    for each in found:
        alike.setdefault((_vocabulary(each), *each.frame.columns), []).append(each.frame)
    return not any(impossible(pl.concat(frames), key[0]) for key, frames in alike.items())  # type: ignore[arg-type]


def _wrong(found: Checked, unit: Unit) -> str | None:
    """Return what is wrong with a unit that can be read; None if nothing is wrong."""
    if reason := other_requests(unit, found.frame):
        return reason
    problems = impossible(found.frame, _vocabulary(found))
    return "; ".join(problems) if problems else None


def _vocabulary(found: Checked) -> int | None:
    """Return the number of tokens that the model of a unit scores; None if the unit does not record it."""
    said = found.about.get("vocabulary", "")
    return int(said) if said.isdecimal() else None


# A manifest is read often; several runs are read side by side.
@lru_cache(maxsize=4)
def _manifest(content: bytes, where: str) -> Manifest:
    return Manifest.from_json(unsealed(content), where)


def _modified(entry: "os.DirEntry[str]") -> float | None:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return None
