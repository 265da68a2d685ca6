"""The content of an item: the columns that hold it, and their hash, by which items are matched."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, Final

CONTENT: Final = ("text", "prefix", "suffix", "input_ids", "foil", "segment_1", "segment_2")
"""Columns that hold text or token ids; they leave the item table only under `--include-text`."""


def content_hash(known: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of an item's content: name, length in bytes and value of each field."""
    # Trials of one excerpt follow each other and share its text, so the hash of that first field is cached.
    text = known.get(CONTENT[0])
    digest = hashlib.sha256() if text is None else _begun(text).copy()
    for name in CONTENT[1:]:
        if (value := known.get(name)) is not None:
            _add(digest, name, value)
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _begun(text: str) -> "hashlib._Hash":
    digest = hashlib.sha256()
    _add(digest, CONTENT[0], text)
    return digest


def _add(digest: "hashlib._Hash", name: str, value: Any) -> None:  # noqa: ANN401
    # Token ids are an array. This test needs no import of numpy, which gates do not need otherwise.
    data = value.encode() if isinstance(value, str) else value.astype("<i8").tobytes()
    digest.update(f"{name}:{len(data)}:".encode())
    digest.update(data)
