"""Claims and locks: files that one process has at a time, which say who it is and are touched while held.

A claim appears with all that it says, under its name or not at all. A holder is gone when its process is
(on this machine), or when its file stays untouched for a minute (elsewhere, or where the process is
stopped). That time is counted by whoever waits, on its own monotonic clock and only while it looks, so
clocks of two machines are never compared. A holder that was taken over finds another's mark in the file,
and what it was about to write is not written: see `check_held`.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memprobe.errors import LostClaimError, interruptible
from memprobe.tables.files import open_new, temporary_for
from memprobe.tables.processes import host, is_alive, is_stopped, namespace, started_at

HEARTBEAT_S = 10.0
SILENT_S = 60.0
# A living process beats its heart in a thread of its own: what silences it for so long is no work.
STUCK_S = 600.0
_TELL_AFTER_S = 5.0
_MAX_PID = 2**31 - 1
# What a file system says that knows no hard links.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# Claims and locks of this process: what a signal may leave behind. The thread that holds each, and its mark.
_HELD: dict[tuple[int, Path], str] = {}


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a file, according to the file.

    Attributes:
        host: Name of the machine; None if the file does not record it.
        pid: Number of the process there; None likewise.
        since: When it was taken, in seconds since 1970; None likewise.
        silent_s: Seconds since the holder touched it last, by the clocks of the file system and this machine.
        gone: Whether its process has ended; of another machine: whether it seems so by `silent_s`.
        stopped: Whether its process is stopped; False where that cannot be known.
    """

    host: str | None
    pid: int | None
    since: float | None
    silent_s: float
    gone: bool
    stopped: bool = False

    def __str__(self) -> str:
        if self.host is None or self.pid is None:
            return "an unknown process"
        return f"process {self.pid} on {self.host}{' (stopped)' if self.stopped else ''}"


@dataclass(frozen=True, slots=True)
class _Look:
    """The state of a claim when it was read."""

    content: bytes
    modified_ns: int

    @property
    def said(self) -> dict[str, Any]:
        """The contents of the claim; empty if it cannot be read."""
        try:
            said = json.loads(self.content.decode("utf-8", errors="replace") or "{}")
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    @property
    def name(self) -> tuple[str, int] | None:
        """Machine and number of the process; None if the claim does not record it."""
        named, pid = self.said.get("host"), self.said.get("pid")
        return (
            (named, pid) if isinstance(named, str) and isinstance(pid, int) and 0 < pid <= _MAX_PID else None
        )

    @property
    def is_here(self) -> bool:
        """Whether the process can be looked at from here."""
        named = self.name
        return (
            named is not None
            and named[0] == host()
            and self.said.get("namespace", namespace()) == namespace()
        )


@dataclass(slots=True)
class _Silence:
    """How long this process has seen a claim untouched."""

    look: _Look
    at: float
    seconds: float = 0.0

    def after(self, look: _Look) -> float:
        """Return the seconds of silence, counting this look."""
        now = time.monotonic()
        # Who looks rarely, or was stopped itself, knows nothing of the time between.
        self.seconds = self.seconds + min(now - self.at, HEARTBEAT_S) if look == self.look else 0.0
        self.look, self.at = look, now
        return self.seconds


_SILENCES: dict[Path, _Silence] = {}


def holder_of(file: Path) -> Holder | None:
    """Return who holds the file; None where it is not there."""
    if (look := _look(file)) is None:
        return None
    silent_s = max(time.time() - look.modified_ns / 1e9, 0.0)
    if look.name is None:
        return Holder(None, None, None, silent_s, gone=silent_s > SILENT_S)
    named, pid = look.name
    gone = not is_alive(pid, look.said.get("started")) if look.is_here else silent_s > SILENT_S
    since = look.said.get("since")
    return Holder(
        named,
        pid,
        float(since) if isinstance(since, int | float) else None,
        silent_s,
        gone,
        stopped=look.is_here and not gone and is_stopped(pid),
    )


@contextmanager
def hold(file: Path) -> Iterator[bool]:
    """Hold an exclusive file while the block runs; yields False where another process holds it.

    The file names host and process and is touched every ten seconds. A holder whose process is gone
    (same machine), or that this process has seen silent for a minute (another one, or a stopped one), is
    taken over.
    """
    held, done = False, threading.Event()
    # A signal may arrive anywhere from here on, also while the thread starts.
    try:
        held = _create(file) or _take_over(file)
        if held:
            mark = _HELD[threading.get_ident(), file]
            with interruptible():
                threading.Thread(target=_beat, args=(file, mark, done), daemon=True).start()
        yield held
    finally:
        done.set()
        if held:
            # Forgotten last: a signal may come in between, and who handles it gives back what is noted.
            noted = (threading.get_ident(), file)
            _give_back(file, _HELD.get(noted))
            _HELD.pop(noted, None)


def check_held(file: Path) -> None:
    """Check that a claim which this thread holds was not taken over; one that it does not hold is no matter.

    Raises:
        LostClaimError: Another process took it over, while this one was stopped or could not be heard.
    """
    mark = _HELD.get((threading.get_ident(), file))
    if mark is None:
        return
    look = _look(file)
    if look is None or look.said.get("mark") != mark:
        raise LostClaimError(file)


def release(folder: Path | None = None) -> None:
    """Remove what this thread holds below a folder; None: all that this process holds anywhere.

    A signal may arrive between the creation of a claim and the block that would remove it: whoever
    handles the signal calls this.
    """
    for held, mark in list(_HELD.items()):
        thread, file = held
        if folder is None or (thread == threading.get_ident() and file.is_relative_to(folder)):
            _give_back(file, mark)
            _HELD.pop(held, None)


def remove_abandoned(folder: Path) -> None:
    """Remove claims in the folder whose holders are gone, as far as one look shows."""
    for file in folder.glob("*.claim*"):
        if (look := _abandoned(file)) is not None:
            _remove(file, look)


class Patience:
    """Reports which process is waited for: after a few seconds, and again when that changes."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._report, self._reported = tell, ""
        self._since = time.monotonic()

    def wait_for(self, text: str) -> None:
        """Keep waiting; an empty text reports nothing."""
        long = time.monotonic() - self._since > _TELL_AFTER_S
        if self._report is not None and long and text and text != self._reported:
            self._report(text)
            self._reported = text

    def end(self) -> None:
        """There is something to do again."""
        self._since = time.monotonic()


def _create(file: Path) -> bool:
    """Make a claim of this thread's, unless there is one."""
    mark = os.urandom(8).hex()
    content = json.dumps(_myself() | {"since": time.time(), "mark": mark}).encode()
    # Noted before it exists: a signal may arrive as soon as it does.
    noted = (threading.get_ident(), file)
    before = _HELD.get(noted)
    _HELD[noted] = mark
    try:
        made = _link_new(file, content)
    except OSError:
        _restore(noted, before)
        raise
    if not made:
        # This thread may hold it already, under its earlier mark.
        _restore(noted, before)
    return made


def _restore(noted: tuple[int, Path], mark: str | None) -> None:
    if mark is None:
        _HELD.pop(noted, None)
    else:
        _HELD[noted] = mark


def _link_new(file: Path, content: bytes) -> bool:
    """Create a file with its content in one step; False where there is one."""
    temporary = temporary_for(file)
    try:
        with os.fdopen(open_new(temporary, 0o644), "wb") as claim:
            claim.write(content)
        try:
            file.hardlink_to(temporary)
        except FileExistsError:
            # A file server that repeats a request may refuse what it has just done.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _write_new(file, content)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(file: Path, content: bytes) -> bool:
    """Create a file where no hard links are known: it is empty for an instant."""
    try:
        handle = open_new(file, 0o644)
    except FileExistsError:
        return False
    written = False
    try:
        with os.fdopen(handle, "wb") as claim:
            claim.write(content)
        written = True
    finally:
        # A signal may come in between: a claim that names nobody would be waited for.
        if not written:
            file.unlink(missing_ok=True)
    return True


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    me = {"host": host(), "pid": pid, "namespace": namespace()}
    started = started_at(pid)
    return me if started is None else me | {"started": started}


def _look(file: Path) -> _Look | None:
    """Read a claim; None if it does not exist."""
    try:
        # Opening it asks a file server again: what a client remembers may be a minute old.
        with file.open("rb") as claim:
            return _Look(claim.read(), os.fstat(claim.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None


def _give_back(file: Path, mark: str | None) -> None:
    """Remove a claim unless another process has taken it over meanwhile."""
    look = _look(file)
    if look is None:
        return
    # A forked child knows its parent's marks, and gives back nothing of the parent's.
    mine = mark is not None and look.said.get("mark") == mark and look.said.get("pid") == os.getpid()
    # Without hard links it names nobody where a signal came before its first byte.
    if mine or not look.content:
        file.unlink(missing_ok=True)


def _beat(file: Path, mark: str, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # A file server that stumbles once must not silence the heart for good.
        with suppress(OSError):
            look = _look(file)
            if look is not None and look.said.get("mark") != mark:
                return
            os.utime(file)


def _abandoned(file: Path) -> _Look | None:
    """Return what a claim says that may be taken over; None where it may not or is not there."""
    look = _look(file)
    if look is None:
        _SILENCES.pop(file, None)
        return None
    patience_s = SILENT_S
    if look.is_here and look.name is not None:
        pid = look.name[1]
        if not is_alive(pid, look.said.get("started")):
            return look
        patience_s = SILENT_S if is_stopped(pid) else STUCK_S
    silence = _SILENCES.setdefault(file, _Silence(look, time.monotonic()))
    return look if silence.after(look) > patience_s else None


def _take_over(file: Path) -> bool:
    """Replace an abandoned claim; of several that try, one wins."""
    look = _abandoned(file)
    return look is not None and _remove(file, look) and _create(file)


def _remove(file: Path, judged: _Look) -> bool:
    """Remove the claim that was judged, and no other that took its place meanwhile."""
    aside = temporary_for(file)
    if _look(file) != judged:
        return False
    try:
        file.rename(aside)
    except FileNotFoundError:
        return False
    try:
        if _look(aside) == judged:
            _SILENCES.pop(file, None)
            return True
        # Made since our last look. Who holds it would notice its absence and write nothing.
        with suppress(OSError):
            file.hardlink_to(aside)
        return False
    finally:
        aside.unlink(missing_ok=True)
