"""Files that appear whole or not at all: written under a temporary name, synced to disk, then renamed.

A temporary file has a random name, is created exclusively and follows no link. Its name says which
process writes it, so that files left by a killed process can be distinguished from those being written.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from memprobe.errors import IncompleteRunError, InputError, Problem
from memprobe.tables.processes import host, is_alive, namespace_number

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
}
# `.NAME.HOST.SPACE.PID.RANDOM.tmp`; a host's name may hold dots.
_TEMPORARY = re.compile(r"^\..*\.(?P<space>\d+)\.(?P<pid>\d+)\.[0-9a-f]{12}\.tmp$", re.DOTALL)
# Bytes of a file's name that are kept in its temporary name: most systems allow 255 in all.
_NAME_BYTES = 100
# A half-written file of another machine is kept for this long: no file takes an hour to write.
_OLD_S = 3_600.0


def write_file(file: Path, content: bytes | bytearray | memoryview, *, private: bool = False) -> None:
    """Write a file that the user named, atomically, and create its folder if missing.

    Files that a killed process left half-written in the same place are removed.

    Args:
        file: The file to write; an existing one is replaced.
        content: All bytes of the file.
        private: Make the file readable by its owner alone.

    Raises:
        IncompleteRunError: The disk is full.
        InputError: The place takes no files at all.
        OSError: The system refuses for another reason; the error names the file.
    """
    with appearing(file, private=private) as handle:
        handle.write(content)


@contextmanager
def appearing(
    file: Path, *, private: bool = False, tidy: bool = True, allowed: Callable[[], None] = lambda: None
) -> Iterator[IO[bytes]]:
    """Yield a handle whose file appears when the block ends, or not at all if the block fails.

    If the file exists and is not an ordinary one, such as a device or a pipe, it is written to directly; a
    link is kept, and its target is replaced.

    Args:
        file: The file to write; an existing one is replaced, and a missing folder is made.
        private: Make the file readable by its owner alone.
        tidy: Remove files that killed processes left half-written in the same place.
        allowed: Called when all bytes are on the disk; if it raises an error, the file does not appear.

    Raises:
        IncompleteRunError: The disk is full.
        InputError: The place takes no files at all.
        OSError: The system refuses for another reason; the error names the file.
    """
    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            with file.open("wb") as handle:
                yield handle
            return
        place = file.resolve() if file.is_symlink() else file
        place.parent.mkdir(parents=True, exist_ok=True)
        if tidy:
            _remove_leftovers(place)
        with _replacing(place, 0o600 if private else 0o644, allowed) as handle:
            yield handle
    except OSError as error:
        if error.errno is None:
            raise
        raise _refusal(error.errno, file) from error


@contextmanager
def _replacing(file: Path, mode: int, allowed: Callable[[], None]) -> Iterator[IO[bytes]]:
    temporary = temporary_for(file)
    try:
        with os.fdopen(open_new(temporary, mode), "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        allowed()
        temporary.replace(file)
    finally:
        # If the folder takes no files, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def open_new(file: Path, mode: int) -> int:
    """Create a file and return its descriptor; an existing file or link is an error."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def temporary_for(file: Path) -> Path:
    """Return a new name next to a file, for what this process writes before it replaces the file."""
    return file.with_name(f"{_beginning(file)}{host()}{_of_process()}{os.urandom(6).hex()}.tmp")


def is_mine(temporary: Path) -> bool:
    """Return whether a temporary file is from this process."""
    return _TEMPORARY.match(temporary.name) is not None and f"{host()}{_of_process()}" in temporary.name


def is_left_behind(temporary: Path) -> bool:
    """Return whether the writer of a temporary file has ended; on another machine: wrote an hour ago."""
    found = _TEMPORARY.match(temporary.name)
    if found and f".{host()}.{namespace_number()}.{found['pid']}." in temporary.name:
        return not is_alive(int(found["pid"]))
    try:
        return time.time() - temporary.lstat().st_mtime > _OLD_S
    except FileNotFoundError:
        return False


def _beginning(file: Path) -> str:
    """Return the beginning of the names of a file's temporary files, with at most 100 bytes of its name."""
    return f".{os.fsdecode(os.fsencode(file.name)[:_NAME_BYTES])}."


def _of_process() -> str:
    return f".{namespace_number()}.{os.getpid()}."


def _remove_leftovers(file: Path) -> None:
    """Remove the temporary files of a file that killed processes left behind."""
    beginning = _beginning(file)
    # Some folders can be written to but not listed.
    with suppress(OSError), os.scandir(file.parent) as entries:
        for entry in entries:
            if entry.name.startswith(beginning) and _TEMPORARY.match(entry.name):
                temporary = Path(entry.path)
                if is_left_behind(temporary):
                    temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents.

    Raises:
        InputError: The place takes no folders at all.
        OSError: The system refuses for another reason; the error names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise _refusal(errno.ENOENT, folder) from error


def check_out(*files: Path) -> None:
    """Check, before any work, that the files that the user named can be written.

    Raises:
        InputError: A file is a folder, or its folder is missing or not writable; all problems at once.
    """
    if problems := [problem for file in files if (problem := _no_place(file))]:
        raise InputError(problems)


def _no_place(file: Path) -> Problem | None:
    """Return the reason why a file cannot be written; None if it can."""
    if file.is_dir():
        return Problem("the file to write is a folder", str(file), "name a file in it")
    if not file.parent.is_dir():
        return Problem("the folder to write to does not exist", str(file.parent))
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return Problem("the file cannot be written here", str(file), "name another place")
    return None


def _refusal(number: int, file: Path) -> Exception:
    """Return the exception to raise for a write that the system refused."""
    if number == errno.ENOENT:
        # The folder exists or could have been made, so this is a place that takes no files, like /proc.
        return InputError("nothing can be written here", where=str(file), fix="name another place")
    if number in _FULL:
        return IncompleteRunError(
            f"{_FULL[number]}: a file could not be written",
            where=str(file),
            fix="make room; what was written is kept, and the same command goes on from here",
        )
    return OSError(number, os.strerror(number), str(file))
