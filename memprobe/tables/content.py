"""What an item is: the columns that hold its content, and their hash, by which items are matched."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, Final

CONTENT: Final = ("text", "prefix", "suffix", "input_ids", "foil", "segment_1", "segment_2")
"""Columns that hold text or token ids; they leave the item table only under `--include-text`."""


def content_hash(known: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an item's content, hex: each field with its name and its length in bytes."""
    # Trials of one excerpt come one after the other and share its text, the first of their contents.
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
    # Token ids are an array; asking so spares a gate numpy, which it needs for nothing else.
    data = value.encode() if isinstance(value, str) else value.astype("<i8").tobytes()
    digest.update(f"{name}:{len(data)}:".encode())
    digest.update(data)
