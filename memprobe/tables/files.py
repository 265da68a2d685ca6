"""Files that appear whole or not at all: written beside their place, put on the disk, then renamed."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

from memprobe.errors import IncompleteRunError, InputError, Problem

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
}


def write_file(file: Path, content: bytes | memoryview, *, private: bool = False) -> None:
    """Write a file atomically, and its folder where there is none.

    What is there and is no ordinary file, such as a device or a pipe, is written to as it is; a link
    keeps pointing where it does.

    Args:
        file: Where; what is there is replaced.
        content: All of it.
        private: Readable by its owner alone.

    Raises:
        IncompleteRunError: The disk is full.
        InputError: The place takes no files at all.
        OSError: The system refuses, with the file's name.
    """
    try:
        _write(file, content, 0o600 if private else 0o644)
    except OSError as error:
        if error.errno is None:
            raise
        raise _refusal(error.errno, file) from error


def _write(file: Path, content: bytes | memoryview, mode: int) -> None:
    if file.exists() and not file.is_file() and not file.is_dir():
        with file.open("wb") as handle:
            handle.write(content)
        return
    file = file.resolve() if file.is_symlink() else file
    temporary = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(file)
    finally:
        # Where the folder could not be made, there is nothing to remove.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        InputError: The place takes no folders at all.
        OSError: The system refuses, with the folder's name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise _refusal(errno.ENOENT, folder) from error


def check_out(*files: Path) -> None:
    """Check, before any work, that files which the user named can be written.

    Raises:
        InputError: One is a folder, or its folder is not there or takes no files; all problems at once.
    """
    if problems := [problem for file in files if (problem := _no_place(file))]:
        raise InputError(problems)


def _no_place(file: Path) -> Problem | None:
    """Return why a file cannot be written; None where it can."""
    if file.is_dir():
        return Problem("the file to write is a folder", str(file), "name a file in it")
    if not file.parent.is_dir():
        return Problem("the folder to write to does not exist", str(file.parent))
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return Problem("the file cannot be written here", str(file), "name another place")
    return None


def _refusal(number: int, file: Path) -> Exception:
    """Return what to raise for a write that the system refused."""
    if number == errno.ENOENT:
        # The folder is there or could have been made: this is a place that takes no files, like /proc.
        return InputError("nothing can be written here", where=str(file), fix="name another place")
    if number in _FULL:
        return IncompleteRunError(
            f"{_FULL[number]}: a file could not be written",
            where=str(file),
            fix="make room; what was written is kept, and the same command goes on from here",
        )
    return OSError(number, os.strerror(number), str(file))
