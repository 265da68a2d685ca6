"""Identity and state of processes: machine, namespace of process numbers, number, start, state.

Source: proc(5), /proc/PID/stat.
"""

import os
import socket
from functools import cache
from pathlib import Path

# State letters of processes that a signal or a debugger has stopped, and of those that have ended.
_STOPPED, _ENDED = "Tt", "ZX"


@cache
def host() -> str:
    """Return this machine's name."""
    return socket.gethostname()


@cache
def namespace() -> str:
    """Return the namespace of this machine's process numbers, since containers may share a host name."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def namespace_number() -> str:
    """Return the digits of the namespace's name, `0` if the system does not report it."""
    return "".join(filter(str.isdigit, namespace())) or "0"


def started_at(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None if the system does not report it."""
    found = _stat_of(pid)
    return None if found is None else found[1]


def is_alive(pid: int, started: object = None) -> bool:
    """Return whether a process of this machine exists and, if `started` is known, is still the same one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    found = _stat_of(pid)
    if found is None:
        return True
    # A killed process stays in the list until its parent waits for it, and process numbers are reused.
    return found[0] not in _ENDED and (started is None or started == found[1])


def is_stopped(pid: int) -> bool:
    """Return whether a process of this machine is stopped, for example by Ctrl-Z, SIGSTOP or a debugger."""
    found = _stat_of(pid)
    return found is not None and found[0] in _STOPPED


def _stat_of(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start of a process; None if the system does not report them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name is in brackets and may contain anything; state is field 3, starttime field 22.
    fields = text.rpartition(")")[2].split()
    return (fields[0], int(fields[19])) if len(fields) > 19 else None
