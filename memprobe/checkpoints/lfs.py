"""Git LFS pointers: small text files that stand for large files until `git lfs pull` downloads these.

Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

from pathlib import Path

from memprobe.errors import CheckpointError, UnloadableError

_BEGINNING = b"version https://git-lfs"
# The specification limits the size of a pointer to less than this.
_MAX_BYTES = 1024


def is_pointer(content: bytes) -> bool:
    """Return whether a file that begins with these bytes is a pointer."""
    return content.startswith(_BEGINNING)


def refuse_pointer(name: str, where: str) -> UnloadableError:
    """Return the error for a pointer where the file itself is needed."""
    return UnloadableError(
        f"{name} is a Git LFS pointer, not the file itself",
        where=where,
        fix="git lfs pull (in the folder that was cloned), or download the file",
    )


def refuse_pointers(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse a folder in which one of these files is a pointer.

    Raises:
        UnloadableError: A file is a pointer.
        CheckpointError: A file cannot be read.
    """
    for name in names:
        file = folder / name
        try:
            if file.is_file() and file.stat().st_size <= _MAX_BYTES and is_pointer(file.read_bytes()):
                raise refuse_pointer(name, str(file))
        except OSError as error:
            raise CheckpointError(f"{name} cannot be read: {error.strerror}", where=str(file)) from error
