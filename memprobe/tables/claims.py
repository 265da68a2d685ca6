"""Claims and locks: files created exclusively, which say who holds them and are touched while held.

A holder is gone when its process is (on this machine), or when it was silent for a minute (elsewhere).
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HEARTBEAT_S = 10.0
SILENT_S = 60.0
_MAX_PID = 2**31 - 1

# Claims and locks of this process, each with the thread that holds it: what a signal may leave behind.
_HELD: set[tuple[int, Path]] = set()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a file, as the file says.

    Attributes:
        host: Name of the machine; None where the file does not say.
        pid: Number of the process there; None likewise.
        since: When it was taken, in seconds since 1970; None likewise.
        silent_s: Seconds since the holder touched it last.
        gone: Whether it may be taken over.
    """

    host: str | None
    pid: int | None
    since: float | None
    silent_s: float
    gone: bool

    def __str__(self) -> str:
        if self.host is None or self.pid is None:
            return "a process that has not said its name"
        return f"process {self.pid} on {self.host}"


def holder_of(file: Path) -> Holder | None:
    """Return who holds the file; None where it is not there."""
    try:
        silent_s = max(time.time() - file.stat().st_mtime, 0.0)
        said = _read(file)
    except FileNotFoundError:
        return None
    host, pid, since = said.get("host"), said.get("pid"), said.get("since")
    if not (isinstance(host, str) and isinstance(pid, int) and 0 < pid <= _MAX_PID):
        # A claim is empty for an instant between its creation and its first byte.
        return Holder(None, None, None, silent_s, gone=silent_s > SILENT_S)
    here = host == socket.gethostname() and said.get("namespace", _namespace()) == _namespace()
    gone = not is_alive(pid, said.get("started")) if here else silent_s > SILENT_S
    return Holder(host, pid, float(since) if isinstance(since, int | float) else None, silent_s, gone)


def is_alive(pid: int, started: object = None) -> bool:
    """Whether a process of this machine is there and, if `started` is known, is still the same one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    found = _stat_of(pid)
    if found is None:
        return True
    # A killed process whose parent never asks for it stays in the list; numbers are given again.
    return found[0] not in "ZX" and (started is None or started == found[1])


@contextmanager
def hold(file: Path) -> Iterator[bool]:
    """Hold an exclusive file while the block runs; yields False where another live process holds it.

    The file names host and process and is touched every ten seconds. A holder whose process is gone
    (same machine) or that was silent for a minute (another one) is taken over.
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
            _give_back(file)
            _HELD.discard((threading.get_ident(), file))


def release(folder: Path | None = None) -> None:
    """Remove what this thread holds below a folder; None: all that this process holds anywhere.

    A signal may arrive between the creation of a claim and the block that would remove it: whoever
    handles the signal calls this.
    """
    for held in list(_HELD):
        thread, file = held
        if folder is None or (thread == threading.get_ident() and file.is_relative_to(folder)):
            _give_back(file)
            _HELD.discard(held)


def remove_abandoned(folder: Path) -> None:
    """Remove claims in the folder whose holders are gone."""
    for file in folder.glob("*.claim*"):
        with hold(file):
            # Taking it over and leaving it removes it.
            pass


def _create(file: Path) -> bool:
    # Noted before it exists: a signal may arrive as soon as it does.
    noted = (threading.get_ident(), file)
    _HELD.add(noted)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        _HELD.discard(noted)
        if isinstance(error, FileExistsError):
            return False
        raise
    written = False
    try:
        with os.fdopen(handle, "w") as claim:
            json.dump(_myself() | {"since": time.time()}, claim)
        written = True
    finally:
        # A signal may come in between: a claim that names nobody would be waited for.
        if not written:
            file.unlink(missing_ok=True)
    return True


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    found = _stat_of(pid)
    me = {"host": socket.gethostname(), "pid": pid, "namespace": _namespace()}
    return me if found is None else me | {"started": found[1]}


@cache
def _namespace() -> str:
    """Return the space in which process numbers count: containers may share a host's name."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _stat_of(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start, in ticks since boot; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the name stands in brackets and may hold anything; state is field 3, starttime field 22.
    fields = text.rpartition(")")[2].split()
    return (fields[0], int(fields[19])) if len(fields) > 19 else None


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8", errors="replace") or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _give_back(file: Path) -> None:
    """Remove the file unless another process has taken it over meanwhile."""
    with suppress(FileNotFoundError):
        said = _read(file)
        # It names nobody where a signal came before its first byte.
        if not said or (said.get("pid"), said.get("host")) == (os.getpid(), socket.gethostname()):
            file.unlink(missing_ok=True)


def _beat(file: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # A file server that stumbles once must not silence the heart for good.
        with suppress(OSError):
            os.utime(file)


def _abandoned(file: Path) -> bool:
    holder = holder_of(file)
    return holder is None or holder.gone


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
        _HELD.discard((threading.get_ident(), guard))
