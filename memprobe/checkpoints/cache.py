"""Cache files in `~/.cache/memprobe`: each is one JSON object that maps keys to results.

A missing, damaged or read-only file only costs time; readers check every entry.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from memprobe.errors import MemprobeError
from memprobe.tables.files import write_file


def cache_file(name: str) -> Path:
    """Return the path of a cache; XDG_CACHE_HOME changes the folder of all caches.

    Raises:
        RuntimeError: There is no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification says that relative paths are ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path("~/.cache").expanduser()
    return base / "memprobe" / name


def read_cache(name: str) -> dict[str, object]:
    """Return the entries of a cache; empty if it cannot be read."""
    try:
        entries = json.loads(cache_file(name).read_bytes())
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def write_cache(name: str, entries: Mapping[str, object]) -> None:
    """Replace a cache; failures are ignored."""
    # A full disk must not fail the command; only the cached results are lost.
    with contextlib.suppress(OSError, RuntimeError, MemprobeError):
        write_file(cache_file(name), json.dumps(entries, indent=0).encode(), private=True)
