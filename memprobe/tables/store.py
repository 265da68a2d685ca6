"""The run directory: manifest, units, tables; atomic writes, claims on units, one lock.

Whatever is half done stays invisible: a file appears by rename, after its bytes are on disk. Claims
and the lock are files created exclusively; they say who holds them and are renewed while held.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl

from memprobe.errors import InputError, InvalidRunError
from memprobe.tables.spans import SPANS

FORMAT = 1
HEARTBEAT_S = 10.0
SILENT_S = 60.0

# Claims and locks of this process, each with the thread that holds it: what a signal may leave behind.
_HELD: set[tuple[int, Path]] = set()


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
            folder.mkdir(parents=True, exist_ok=True)
        for half_written in self.path.rglob(f".*.{socket.gethostname()}.*.tmp"):
            pid = half_written.name.split(".")[-2]
            if pid.isdigit() and not _alive(int(pid)):
                half_written.unlink(missing_ok=True)

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
                fix="pass --fresh to start over",
            ) from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            found = manifest.get("format") if isinstance(manifest, dict) else "none"
            raise InvalidRunError(
                f"the manifest has format {found}, this memprobe reads {FORMAT}",
                where=str(self.manifest_file),
                fix="use the version of memprobe that wrote it, or pass --fresh",
            )
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
        file = (
            self.path / "summary.parquet" if name == "summary" else self.path / "tables" / f"{name}.parquet"
        )
        self._write(file, frame.write_parquet)
        return file

    def write_csv(self, name: str, frame: pl.DataFrame) -> None:
        """Write a CSV file beside the summary."""
        self._write(self.path / name, frame.write_csv)

    def read_table(self, name: str) -> pl.DataFrame:
        """Read a table by its name.

        Raises:
            InvalidRunError: The run has no such table; the message lists those that it has.
        """
        file = (
            self.path / "summary.parquet" if name == "summary" else self.path / "tables" / f"{name}.parquet"
        )
        if not file.is_file():
            there = ", ".join(self.table_names()) or "none yet"
            raise InvalidRunError(
                f"the run has no table `{name}`", where=str(self.path), fix=f"tables are: {there}"
            )
        return pl.read_parquet(file)

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
        """
        files = [self.unit_file(context, unit) for unit in units]
        if missing := [file.name for file in files if not file.is_file()]:
            raise InvalidRunError(
                f"{len(missing)} of {len(files)} units are missing",
                where=str(self.units_folder / missing[0]),
                fix="run the same command again",
            )
        return pl.concat([SPANS.empty(), *(pl.read_parquet(file) for file in files)], how="diagonal")

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
        mine = [held for held in _HELD if held[0] == threading.get_ident()]
        for held in mine:
            if held[1].is_relative_to(self.path):
                if _is_ours(held[1]):
                    held[1].unlink(missing_ok=True)
                _HELD.discard(held)
        for half_written in self.path.rglob(f".*.{socket.gethostname()}.{os.getpid()}.tmp"):
            half_written.unlink(missing_ok=True)

    @contextmanager
    def lock(self, *, wait_s: float = 600.0) -> Iterator[None]:
        """Hold the run's lock, waiting for whoever holds it.

        Raises:
            InvalidRunError: It was held for longer than `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with hold(self.path / "tables.lock") as held:
                if held:
                    yield
                    return
            time.sleep(0.2)
        raise InvalidRunError(f"the run was locked for {wait_s:g} s", where=str(self.path / "tables.lock"))

    def _write(self, file: Path, write: Callable[[IO[bytes]], object]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        mode = 0o600 if self.private else 0o644
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
                write(handle)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def hold(file: Path) -> Iterator[bool]:
    """Hold an exclusive file while the block runs; yields False where another live process holds it.

    The file names host and process and is touched every ten seconds. A holder whose process is gone
    (same host) or that was silent for a minute (another host) is taken over.
    """
    held, done = False, threading.Event()
    # A signal may arrive anywhere from here on, also while the thread starts.
    try:
        held = _create(file) or (_abandoned(file) and _take_over(file))
        if held:
            threading.Thread(target=_beat, args=(file, done), daemon=True).start()
        yield held
    finally:
        done.set()
        if held:
            file.unlink(missing_ok=True)
            _HELD.discard((threading.get_ident(), file))


def _create(file: Path) -> bool:
    # Noted before it exists: a signal may arrive as soon as it does.
    noted = (threading.get_ident(), file)
    _HELD.add(noted)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        _HELD.discard(noted)
        return False
    written = False
    try:
        with os.fdopen(handle, "w") as claim:
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}, claim)
        written = True
    finally:
        # A signal may come in between: a claim that names nobody would be waited for.
        if not written:
            file.unlink(missing_ok=True)
    return True


def _is_ours(file: Path) -> bool:
    """Whether the file names this process, or nobody yet: a signal came before its first byte."""
    try:
        text = file.read_text()
        holder = json.loads(text) if text else None
    except (FileNotFoundError, ValueError):
        return False
    return not text or (
        isinstance(holder, dict)
        and holder.get("pid") == os.getpid()
        and holder.get("host") == socket.gethostname()
    )


def _beat(file: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        with suppress(FileNotFoundError):
            os.utime(file)


def _abandoned(file: Path) -> bool:
    try:
        silent_s = time.time() - file.stat().st_mtime
        holder = json.loads(file.read_text() or "{}")
    except FileNotFoundError:
        return True
    except ValueError:
        holder = None
    if not isinstance(holder, dict):
        holder = {}
    if holder.get("host") == socket.gethostname() and "pid" in holder:
        return not _alive(int(holder["pid"]))
    # A claim is empty for an instant between its creation and its first byte.
    return silent_s > SILENT_S


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _take_over(file: Path) -> bool:
    """Replace an abandoned claim; of several that try, one wins."""
    # The guard makes look and removal one step: else a claim made in between would be removed.
    guard = file.with_name(f"{file.name}.taken-over")
    if not _create(guard):
        if _abandoned(guard):
            guard.unlink(missing_ok=True)
        return False
    try:
        if not _abandoned(file):
            return False
        file.unlink(missing_ok=True)
        return _create(file)
    finally:
        guard.unlink(missing_ok=True)
