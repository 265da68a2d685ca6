"""One commit in the hub's cache: its file list, its users, and the run that fetched its weights.

These are stored in `.memprobe/` next to the cache's own folders. A process that uses the files holds a lock
that ends with the process, so no lock is ever left behind. A mark lists the weights that a run fetched for
itself.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from memprobe.checkpoints.client import HubFile, cache_of, cache_root
from memprobe.tables.files import write_file

_NOTES = ".memprobe"
# A partial file that has not changed for this long was left by a killed download.
_SILENT_S = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit of a repository in the hub's cache; its files need not exist."""

    repo: str
    commit: str

    @property
    def folder(self) -> Path:
        """Folder of the commit's files."""
        return cache_of(self.repo) / "snapshots" / self.commit

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Return those of the named files that are not on this machine."""
        return [name for name in names if not (self.folder / name).is_file()]

    # Facts listed by the hub

    def listed(self) -> dict[str, HubFile] | None:
        """Return the files as the hub listed them, or None if the list was not stored."""
        try:
            rows = json.loads(self._note("json").read_bytes())
            return {str(name): HubFile(int(n_bytes), sha256) for name, (n_bytes, sha256) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write_listed(self, files: Mapping[str, HubFile]) -> None:
        """Store the hub's list of files, which never changes for a commit."""
        rows = {name: [file.n_bytes, file.sha256] for name, file in files.items()}
        with suppress(OSError):
            _write(self._note("json"), rows)

    def numbers(self) -> dict[str, int] | None:
        """Return the count of numbers in the weights by dtype, or None if it was not stored."""
        try:
            return {str(dtype): int(n) for dtype, n in json.loads(self._note("numbers").read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write_numbers(self, numbers: Mapping[str, int]) -> None:
        """Store the count of numbers in the weights by dtype."""
        with suppress(OSError):
            _write(self._note("numbers"), dict(numbers))

    # Processes that use the files

    def use(self) -> IO[bytes]:
        """Open a lock that marks the files as used until it is closed or the process ends.

        Raises:
            OSError: The cache cannot be written to, or has no locks.
        """
        return _locked(self._note("lock"), fcntl.LOCK_SH)

    # Runs that fetched the weights

    def marks(self) -> dict[str, list[str]]:
        """Return the runs that fetched weights for themselves, each with the names of the files to remove."""
        marks = {}
        for file in cache_of(self.repo).glob(f"{_NOTES}/{self.commit}.*.run"):
            with suppress(OSError, ValueError):
                marks[file.name.split(".")[1]] = [str(name) for name in json.loads(file.read_bytes())]
        return marks

    def mark(self, run: str, names: Sequence[str]) -> None:
        """Mark these files as fetched for a run, which removes them later."""
        _write(self._note(f"{run}.run"), list(names))

    def unmark(self, run: str) -> None:
        """Remove the mark of a run."""
        self._note(f"{run}.run").unlink(missing_ok=True)

    def remove(self, run: str) -> bool:
        """Remove the files that the run fetched; return False if a process uses them.

        The caller must hold `cache_lock`. Files that another run marked, files that were there before, and
        blobs that other snapshots link to are kept.
        """
        marks = self.marks()
        if run not in marks:
            return True
        if len(marks) > 1:
            self.unmark(run)
            return True
        try:
            alone = _locked(self._note("lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        with alone:
            for name in marks[run]:
                self._remove_file(name)
            self._remove_halves(marks[run])
            self.unmark(run)
        return True

    def _remove_file(self, name: str) -> None:
        pointer = self.folder / name
        blob = pointer.parent / pointer.readlink() if pointer.is_symlink() else None
        pointer.unlink(missing_ok=True)
        if blob is not None and blob.parent.name == "blobs" and blob.name not in self._linked():
            blob.unlink(missing_ok=True)

    def _linked(self) -> set[str]:
        """Return the names of the blobs that snapshots of the repository link to."""
        links = (cache_of(self.repo) / "snapshots").rglob("*")
        return {path.readlink().name for path in links if path.is_symlink()}

    def _remove_halves(self, names: Sequence[str]) -> None:
        """Remove partial files left by killed downloads."""
        listed = self.listed() or {}
        for sha256 in {listed[name].sha256 for name in names if name in listed} - {None}:
            for half in (cache_of(self.repo) / "blobs").glob(f"{sha256}*.incomplete"):
                with suppress(FileNotFoundError):
                    if time.time() - half.stat().st_mtime > _SILENT_S:
                        half.unlink()

    def _note(self, ending: str) -> Path:
        return cache_of(self.repo) / _NOTES / f"{self.commit}.{ending}"


def marked(repo: str, run: str) -> list[Snapshot]:
    """Return the snapshots of a repository whose weights a run fetched."""
    files = cache_of(repo).glob(f"{_NOTES}/*.{run}.run")
    return [Snapshot(repo, file.name.split(".")[0]) for file in files]


@contextmanager
def cache_lock() -> Iterator[None]:
    """Hold the cache's lock, which is required to make marks and to remove files.

    Raises:
        OSError: The cache cannot be written to, or has no locks.
    """
    with _locked(cache_root() / ".locks" / "memprobe.lock", fcntl.LOCK_EX):
        yield


def _locked(file: Path, how: int) -> IO[bytes]:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened: IO[bytes] = file.open("ab")
    except PermissionError:
        # Another user's file in a shared cache can still be opened for reading, and locked.
        opened = file.open("rb")
    with ExitStack() as unless_locked:
        unless_locked.callback(opened.close)
        fcntl.flock(opened, how)
        unless_locked.pop_all()
    return opened


def _write(file: Path, value: object) -> None:
    write_file(file, json.dumps(value).encode())
