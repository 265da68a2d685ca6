"""Fetch checkpoints of the hub during a run, and remove the fetched ones."""

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from memprobe.checkpoints.client import UnreachableError, cache_root, own_blobs, quiet_bars
from memprobe.checkpoints.hub import check_reachable, fetch
from memprobe.checkpoints.identity import Checkpoint
from memprobe.checkpoints.snapshots import Snapshot, cache_lock, marked
from memprobe.errors import InputError
from memprobe.wording import counted, sized

# Room besides the weights: for the units of a run, small files of the snapshots, and other programs.
SPARE_BYTES = 10**9
# The hub's client itself retries for seconds; these longer pauses outlast a router's restart.
PAUSES_S = (20.0,)
_CANNOT_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM)


def run_name(run: Path) -> str:
    """Return the name with which a run directory marks the files that it fetches."""
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12]


@dataclass(slots=True)
class CheckpointCache:
    """The checkpoints that one process of a run uses.

    No process of memprobe removes a checkpoint that is in use. Safe to use from two threads.

    Attributes:
        run: Name of the run, see `run_name`; its processes share the fetched files.
        repos: The repositories of the run.
        keep: Maximum number of fetched revisions on the disk; 0 keeps all.
        offline: Whether the network must not be used.
        bars: Whether the hub's client shows its own progress bars.
        on_fetch: Called before a download begins.
    """

    run: str = ""
    repos: Sequence[str] = ()
    keep: int = 0
    offline: bool = False
    bars: bool = False
    on_fetch: Callable[[Checkpoint], None] = lambda _: None
    _locks: dict[tuple[str, str], IO[bytes]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False
    _is_down: bool = False

    def bring(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Return the checkpoint with its files on this machine until `leave`; None if there is no room now.

        Raises:
            CheckpointError: The download failed after several tries, or the checkpoint cannot be read at all.
            SafetyError: A download is needed and the network may not be used.
        """
        checkpoint.check_loadable()
        if checkpoint.repo is None or checkpoint.commit is None:
            return checkpoint
        snapshot = Snapshot(checkpoint.repo, checkpoint.commit)
        self._use(snapshot)
        brought = None
        try:
            brought = self._brought(checkpoint, snapshot)
        finally:
            # After any failure, the checkpoint must not stay marked as in use.
            if brought is None or self._closed:
                self._let_go(snapshot)
        return brought

    def leave(self, checkpoint: Checkpoint, *, done: bool) -> None:
        """Stop using a checkpoint; with `done`, its fetched files are removed."""
        if checkpoint.repo is None or checkpoint.commit is None:
            return
        snapshot = Snapshot(checkpoint.repo, checkpoint.commit)
        self._let_go(snapshot)
        if done and self.keep and self.run in snapshot.marks():
            with cache_lock():
                snapshot.remove(self.run)

    def close(self) -> None:
        """Stop using all checkpoints; one that is being downloaded is released when its download ends."""
        self._closed = True
        for repo, commit in list(self._locks):
            self._let_go(Snapshot(repo, commit))

    def _brought(self, checkpoint: Checkpoint, snapshot: Snapshot) -> Checkpoint | None:
        if not self.keep:
            _keep_for_good(snapshot)
        elif not self._has_room(checkpoint, snapshot):
            return None
        if snapshot.lacks(checkpoint.weight_files):
            self.on_fetch(checkpoint)
            # If it was here when the run began, it has been removed since.
            checkpoint = replace(checkpoint, folder=None, config_folder=snapshot.folder)
        with nullcontext() if self.bars else quiet_bars(), own_blobs() if self.keep else nullcontext():
            brought = self._fetched(checkpoint)
        if not self.keep:
            # Another run may have marked it in the meantime, to remove it later.
            _keep_for_good(snapshot)
        return brought

    def _fetched(self, checkpoint: Checkpoint) -> Checkpoint:
        """Fetch; if the hub does not answer, retry, unless the fetch before this one failed too."""
        for pause_s in () if self._is_down else PAUSES_S:
            try:
                return fetch(checkpoint, offline=self.offline)
            except UnreachableError:
                time.sleep(pause_s)
        self._is_down = True
        fetched = fetch(checkpoint, offline=self.offline)
        self._is_down = False
        return fetched

    def _has_room(self, checkpoint: Checkpoint, snapshot: Snapshot) -> bool:
        """Return whether the revision may be fetched; makes room, and marks files to remove later."""
        absent = snapshot.lacks(checkpoint.weight_files)
        marks = snapshot.marks()
        if self.run in marks or not (absent or marks):
            return True
        try:
            return self._mark(snapshot, {*absent, *(name for names in marks.values() for name in names)})
        except OSError as error:
            # A cache without write permission can still be read.
            if absent or error.errno not in _CANNOT_WRITE:
                raise
            return True

    def _mark(self, snapshot: Snapshot, names: set[str]) -> bool:
        """Mark files as fetched for the run, which removes them later; return False if there is no room."""
        with cache_lock():
            mine = [each for repo in self.repos for each in marked(repo, self.run)]
            n_here = len(mine)
            for each in mine:
                if n_here >= self.keep and each.remove(self.run):
                    n_here -= 1
            if n_here >= self.keep:
                return False
            # Files fetched by another run are marked for this run too; the last of these runs removes them.
            snapshot.mark(self.run, sorted(names))
        return True

    def _use(self, snapshot: Snapshot) -> None:
        key = snapshot.repo, snapshot.commit
        with self._guard:
            if key in self._locks:
                return
            try:
                self._locks[key] = snapshot.use()
            except OSError as error:
                # A read-only cache cannot lose files; without locks, nothing must be removed.
                if error.errno not in _CANNOT_WRITE:
                    self.keep = 0

    def _let_go(self, snapshot: Snapshot) -> None:
        with self._guard:
            lock = self._locks.pop((snapshot.repo, snapshot.commit), None)
            if lock is not None:
                lock.close()


def check_supply(checkpoints: Iterable[Checkpoint], *, keep: int, offline: bool) -> None:
    """Check, before any work, that missing files can be fetched and have room on the disk.

    Args:
        checkpoints: Checkpoints that are not completely scored yet.
        keep: Maximum number of fetched checkpoints on the disk at once; 0 for all.
        offline: Whether the network must not be used.

    Raises:
        InputError: The hub does not answer, or the disk has too little room.
        SafetyError: A download is needed and the network may not be used.
    """
    missing = {
        (each.repo, each.commit): each
        for each in checkpoints
        if each.repo and each.commit and Snapshot(each.repo, each.commit).lacks(each.weight_files)
    }
    if not missing:
        return
    check_reachable(list(missing.values()), offline=offline)
    largest = sorted((each.n_bytes for each in missing.values()), reverse=True)[: keep or None]
    place = cache_root()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    need = sum(largest) + SPARE_BYTES
    if need > free:
        raise _no_room(need, free, len(largest), len(missing))


def _no_room(need: int, free: int, n_largest: int, n_missing: int) -> InputError:
    of_all = f"{n_largest} of {counted(n_missing, 'checkpoint')} to fetch"
    fix = f"make {sized(need - free)} of room, or name a folder on another disk with HF_HOME"
    return InputError(
        f"the disk of the hub's cache has {sized(free)} free, and {sized(need)} are needed: "
        f"{sized(need - SPARE_BYTES)} for {of_all}, and {sized(SPARE_BYTES)} to spare",
        where=str(cache_root()),
        fix=fix + (", or keep fewer at once with --keep-checkpoints 1" if n_largest > 1 else ""),
    )


def _keep_for_good(snapshot: Snapshot) -> None:
    marks = snapshot.marks()
    if marks:
        with cache_lock():
            for run in marks:
                snapshot.unmark(run)
