"""The run directory: manifest, units, tables; atomic writes, one lock.

Whatever is half done stays invisible: a file appears by rename, after its bytes are on disk.
"""

import io
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import polars as pl

from memprobe.errors import BrokenUnitError, InputError, InvalidRunError, near_miss
from memprobe.tables.cells import to_csv
from memprobe.tables.claims import Holder, hold, holder_of, is_alive, release, remove_abandoned
from memprobe.tables.files import make_folder, write_file
from memprobe.tables.spans import SPANS

FORMAT = 1
_TELL_AFTER_S = 5.0
# A half-written file of another machine is left alone so long: nobody writes one for an hour.
_OLD_S = 3_600.0
# What polars raises for a file that is no Parquet, or not all of it; its panics are no Exceptions.
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Claim(NamedTuple):
    """A unit that somebody holds: the context that its file name begins with, and who it is."""

    context: str
    holder: Holder


@dataclass(frozen=True, slots=True)
class RunStore:
    """One run directory.

    Attributes:
        path: The directory; it need not exist before something is written.
        private: Files hold text: they are readable by their owner alone.
    """

    path: Path
    private: bool = False

    @property
    def manifest_file(self) -> Path:
        """Where the manifest lies."""
        return self.path / "manifest.json"

    @property
    def units_folder(self) -> Path:
        """Where the units lie."""
        return self.path / "units"

    def create(self) -> None:
        """Make the directory and the folders in it; what killed processes left half-written goes."""
        for folder in (self.path, self.units_folder, self.path / "tables"):
            make_folder(folder)
        for half_written in self.path.rglob(".*.tmp"):
            if _is_left_behind(half_written):
                half_written.unlink(missing_ok=True)
        remove_abandoned(self.units_folder)

    def check_emptiable(self) -> None:
        """Check that the directory is a run's, empty, or not there.

        Raises:
            InputError: It holds things but no manifest, so it is not ours to empty.
        """
        if self.path.is_dir() and any(self.path.iterdir()) and not self.manifest_file.is_file():
            raise InputError(
                "--fresh empties only a run directory, and this one holds no manifest.json",
                where=str(self.path),
                fix="give another directory with -o, or empty this one yourself",
            )

    def empty(self) -> None:
        """Remove what a run wrote, and nothing else.

        Raises:
            InputError: The directory holds things but no manifest, so it is not ours to empty.
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

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None where there is none.

        Raises:
            InvalidRunError: The manifest cannot be read or is of another format.
        """
        try:
            manifest = json.loads(self.manifest_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InvalidRunError(
                f"the manifest is not JSON: {error}",
                where=str(self.manifest_file),
                fix="move it away: the same `memprobe run` writes it anew and keeps the units",
            ) from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise _other_format(manifest if isinstance(manifest, dict) else {}, self.manifest_file)
        return manifest

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run directory atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self.write_text(name, text)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run directory atomically."""
        self._write(self.path / name, lambda file: file.write(text.encode()))

    def write_lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write a JSONL file, or remove it where there is nothing to write."""
        if rows:
            self.write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            (self.path / name).unlink(missing_ok=True)

    def write_table(self, name: str, frame: pl.DataFrame) -> Path:
        """Write `tables/<name>.parquet`, or a top-level Parquet file for `summary`."""
        file = self._table_file(name)
        self._write(file, frame.write_parquet)
        return file

    def _table_file(self, name: str) -> Path:
        return (
            self.path / "summary.parquet" if name == "summary" else self.path / "tables" / f"{name}.parquet"
        )

    def write_csv(self, name: str, frame: pl.DataFrame) -> None:
        """Write a CSV file beside the summary."""
        self._write(self.path / name, lambda file: file.write(to_csv(frame)))

    def read_table(self, name: str, *, steps: Collection[int | None] | None = None) -> pl.DataFrame:
        """Read a table by its name.

        Args:
            name: Of the table.
            steps: Only the rows of these, so that the others take no memory; None among them: of checkpoints
                without a step. None: all rows.

        Raises:
            InvalidRunError: The run has no such table, and the message lists those that it has; or the
                file cannot be read.
        """
        file = self._table_file(name)
        if not file.is_file():
            there = self.table_names()
            raise InvalidRunError(
                f"the run has no table `{name}`{near_miss(name, there)}",
                where=str(self.path),
                fix=f"tables are: {', '.join(there) or 'none yet'}",
            )
        try:
            if steps is None:
                return pl.read_parquet(file)
            wanted = pl.Series(list(steps), dtype=pl.Int64)
            is_wanted = pl.col("step").is_in(wanted.implode(), nulls_equal=True)
            return pl.scan_parquet(file, glob=False).filter(is_wanted).collect()
        except _UNREADABLE as error:
            raise InvalidRunError(
                f"the table `{name}` cannot be read: {_first_line(error)}",
                where=str(file),
                fix="run the same `memprobe run` again: tables are built anew from the units",
            ) from error

    def table_names(self) -> list[str]:
        """Return the names of the tables that are there, the summary first."""
        names = sorted(file.stem for file in (self.path / "tables").glob("*.parquet"))
        return [*(["summary"] if (self.path / "summary.parquet").is_file() else []), *names]

    # Units

    def unit_file(self, context: str, unit: str) -> Path:
        """Where the unit of work `unit` of the scoring context `context` lies."""
        return self.units_folder / f"{context}-{unit}.parquet"

    def has_unit(self, context: str, unit: str) -> bool:
        """Whether the unit is done."""
        return self.unit_file(context, unit).is_file()

    def write_unit(self, context: str, unit: str, spans: pl.DataFrame, about: Mapping[str, str]) -> None:
        """Write one finished unit; `about` goes into the file's metadata."""
        frame = SPANS.conform(spans)
        self._write(
            self.unit_file(context, unit), lambda file: frame.write_parquet(file, metadata=dict(about))
        )

    def read_units(self, context: str, units: Iterable[str]) -> pl.DataFrame:
        """Return the spans of these units, in their order.

        Raises:
            InvalidRunError: A unit is not there.
            BrokenUnitError: Units are there and cannot be read.
        """
        files = [self.unit_file(context, unit) for unit in units]
        if missing := [file.name for file in files if not file.is_file()]:
            raise InvalidRunError(
                f"units are missing: {len(missing)} of {len(files)}",
                where=str(self.units_folder / missing[0]),
                fix="run the same command again",
            )
        frames, broken = [SPANS.empty()], {}
        for file in files:
            try:
                frames.append(pl.read_parquet(file))
            except _UNREADABLE as error:
                broken[file] = _first_line(error)
        if broken:
            raise BrokenUnitError(broken)
        return pl.concat(frames, how="diagonal")

    def set_aside(self, file: Path) -> Path:
        """Rename a unit that cannot be read, so that it counts as not done; returns its new name."""
        aside = file.with_name(file.name + ".broken")
        file.replace(aside)
        return aside

    def unit_times(self) -> dict[str, list[float]]:
        """Return for each context the times at which its units were written, in seconds since 1970."""
        times: dict[str, list[float]] = {}
        for entry in self._entries(".parquet"):
            # Killed processes and others that tidy up may remove what was listed a moment ago.
            written = _modified(entry)
            if written is not None:
                times.setdefault(entry.name.partition("-")[0], []).append(written)
        return times

    def claims(self) -> list[Claim]:
        """Return the claims that are held or were left behind, by name of their file."""
        files = sorted(Path(entry.path) for entry in self._entries(".claim"))
        held = [(file, holder_of(file)) for file in files]
        return [Claim(file.name.partition("-")[0], holder) for file, holder in held if holder is not None]

    def lock_holder(self) -> Holder | None:
        """Return who holds the run's lock, None where nobody does."""
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
        """Hold the claim on a unit; yields False where another live process holds it."""
        with hold(self.unit_file(context, unit).with_suffix(".claim")) as held:
            yield held

    def release(self) -> None:
        """Remove what this thread still holds or has half-written in the run directory.

        A signal may arrive between the creation of a claim and the block that would remove it: whoever
        handles the signal calls this.
        """
        release(self.path)
        for half_written in self.path.rglob(f".*.{socket.gethostname()}.{os.getpid()}.tmp"):
            half_written.unlink(missing_ok=True)

    @property
    def _lock_file(self) -> Path:
        return self.path / "tables.lock"

    @contextmanager
    def lock(self, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the run's lock, waiting for whoever holds it as long as that process lives.

        Args:
            waiting: Told once, after a few seconds, who is waited for.
        """
        tell_at = time.monotonic() + _TELL_AFTER_S
        while True:
            with hold(self._lock_file) as held:
                if held:
                    yield
                    return
            if waiting is not None and time.monotonic() > tell_at and (holder := self.lock_holder()):
                waiting(f"{holder} builds the tables; waiting for it")
                waiting = None
            time.sleep(0.2)

    def _write(self, file: Path, write: Callable[[IO[bytes]], object]) -> None:
        # In memory first: polars does not always say why the system refused a file.
        content = io.BytesIO()
        write(content)
        write_file(file, content.getbuffer(), private=self.private)


def _other_format(manifest: Mapping[str, Any], file: Path) -> InvalidRunError:
    writer = f", written by memprobe {manifest['memprobe']}" if manifest.get("memprobe") else ""
    return InvalidRunError(
        f"the manifest has format {manifest.get('format', 'none')}{writer}; this memprobe reads {FORMAT}",
        where=str(file),
        fix="use the version of memprobe that wrote it; `memprobe run --fresh` starts over",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _modified(entry: "os.DirEntry[str]") -> float | None:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return None


def _is_left_behind(temporary: Path) -> bool:
    """Whether the process that was writing a temporary file is gone: `.NAME.HOST.PID.tmp`."""
    name, pid = temporary.name, temporary.name.split(".")[-2]
    if pid.isdigit() and name.endswith(f".{socket.gethostname()}.{pid}.tmp"):
        return not is_alive(int(pid))
    try:
        return time.time() - temporary.stat().st_mtime > _OLD_S
    except FileNotFoundError:
        return False
