"""Claims and locks: files that name the one process that holds them, and are touched while it does.

A claim appears with its whole content or not at all. A holder counts as gone if its process has ended (on
this machine), or if its file stays untouched for a minute (on another machine, or if the process is
stopped). The waiting process counts that time on its own monotonic clock and only while it looks, so clocks
of two machines are never compared. A holder whose claim was taken over finds another mark in the file, and
does not write what it was about to write: see `check_held`.
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
# A living process touches its files in a separate thread, so work alone cannot silence it for so long.
STUCK_S = 600.0
_TELL_AFTER_S = 5.0
_MAX_PID = 2**31 - 1
# Errors of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# Claims and locks of this process, which a signal may leave behind: holding thread and file, to the mark.
_HELD: dict[tuple[int, Path], str] = {}


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a file, according to the file.

    Attributes:
        host: Name of the machine; None if the file does not record it.
        pid: Number of the process there; None if the file does not record it.
        since: When the file was taken, in seconds since 1970; None if the file does not record it.
        silent_s: Seconds since the last touch, by the clocks of the file system and this machine.
        gone: Whether the process has ended; on another machine, `silent_s` decides.
        stopped: Whether the process is stopped; False if that cannot be known.
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
        """Machine and process number; None if the claim does not record them."""
        named, pid = self.said.get("host"), self.said.get("pid")
        return (
            (named, pid) if isinstance(named, str) and isinstance(pid, int) and 0 < pid <= _MAX_PID else None
        )

    @property
    def is_here(self) -> bool:
        """Whether the process can be inspected from here: same machine and process namespace."""
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
        # A process that looks rarely, or was stopped itself, knows nothing of the time between two looks.
        self.seconds = self.seconds + min(now - self.at, HEARTBEAT_S) if look == self.look else 0.0
        self.look, self.at = look, now
        return self.seconds


_SILENCES: dict[Path, _Silence] = {}


def holder_of(file: Path) -> Holder | None:
    """Return the holder of the file; None if the file does not exist."""
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
    """Hold an exclusive file while the block runs; yields False if another process holds it.

    The file names host and process and is touched every ten seconds. It is taken over from a holder whose
    process has ended (same machine), or which this process has seen silent for a minute (on another machine,
    or stopped).
    """
    held, done = False, threading.Event()
    # A signal may arrive anywhere from here on, even while the thread starts.
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
            # The note is removed last: a signal may come in between, and its handler gives back noted claims.
            noted = (threading.get_ident(), file)
            _give_back(file, _HELD.get(noted))
            _HELD.pop(noted, None)


def check_held(file: Path) -> None:
    """Check that this thread's claim was not taken over; does nothing if this thread holds none.

    Raises:
        LostClaimError: Another process took it over, while this one was stopped or out of contact.
    """
    mark = _HELD.get((threading.get_ident(), file))
    if mark is None:
        return
    look = _look(file)
    if look is None or look.said.get("mark") != mark:
        raise LostClaimError(file)


def release(folder: Path | None = None) -> None:
    """Remove this thread's claims and locks below a folder; None: all of this process, anywhere.

    A signal may arrive between the creation of a claim and the block that would remove it, so signal
    handlers call this.
    """
    for held, mark in list(_HELD.items()):
        thread, file = held
        if folder is None or (thread == threading.get_ident() and file.is_relative_to(folder)):
            _give_back(file, mark)
            _HELD.pop(held, None)


def remove_abandoned(folder: Path) -> None:
    """Remove claims in the folder whose holders are found gone in a single look."""
    for file in folder.glob("*.claim*"):
        if (look := _abandoned(file)) is not None:
            _remove(file, look)


class Patience:
    """Reports which process is waited for: after a few seconds, and again when the report changes."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._report, self._reported = tell, ""
        self._since = time.monotonic()

    def wait_for(self, text: str) -> None:
        """Report the text if the wait is long and the text is new; an empty text is not reported."""
        long = time.monotonic() - self._since > _TELL_AFTER_S
        if self._report is not None and long and text and text != self._reported:
            self._report(text)
            self._reported = text

    def end(self) -> None:
        """End the wait: the next one is counted from now."""
        self._since = time.monotonic()


def _create(file: Path) -> bool:
    """Make a claim for this thread; returns False if there is one already."""
    mark = os.urandom(8).hex()
    content = json.dumps(_myself() | {"since": time.time(), "mark": mark}).encode()
    # The claim is noted before it exists, since a signal may arrive as soon as it does.
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
    """Create a file with its content in one step; returns False if it exists already."""
    temporary = temporary_for(file)
    try:
        with os.fdopen(open_new(temporary, 0o644), "wb") as claim:
            claim.write(content)
        try:
            file.hardlink_to(temporary)
        except FileExistsError:
            # A file server that repeats a request may report the link that it has just made as an error.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _write_new(file, content)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(file: Path, content: bytes) -> bool:
    """Create a file on a system without hard links, where it is empty for an instant."""
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
        # Opening the file asks a file server again: a client's cache may be a minute old.
        with file.open("rb") as claim:
            return _Look(claim.read(), os.fstat(claim.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None


def _give_back(file: Path, mark: str | None) -> None:
    """Remove a claim unless another process has taken it over meanwhile."""
    look = _look(file)
    if look is None:
        return
    # A forked child knows its parent's marks but must not give back the parent's claims.
    mine = mark is not None and look.said.get("mark") == mark and look.said.get("pid") == os.getpid()
    # Without hard links, a claim is empty if a signal came before its first byte.
    if mine or not look.content:
        file.unlink(missing_ok=True)


def _beat(file: Path, mark: str, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # One failure of a file server must not end the touching for good.
        with suppress(OSError):
            look = _look(file)
            if look is not None and look.said.get("mark") != mark:
                return
            os.utime(file)


def _abandoned(file: Path) -> _Look | None:
    """Return the state of a claim that can be taken over; None if it cannot, or does not exist."""
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
    """Replace an abandoned claim; if several processes try, one wins."""
    look = _abandoned(file)
    return look is not None and _remove(file, look) and _create(file)


def _remove(file: Path, judged: _Look) -> bool:
    """Remove the claim that was judged, but not another one that has taken its place meanwhile."""
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
        # This claim was made since our last look. Without it, its holder would not write, so it is put back.
        with suppress(OSError):
            file.hardlink_to(aside)
        return False
    finally:
        aside.unlink(missing_ok=True)
