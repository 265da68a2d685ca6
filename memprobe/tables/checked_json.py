"""JSON documents that carry a SHA-256 of what they say, so that one that rotted is not believed.

The digest is over the values, not over the bytes: to reformat a document changes nothing. One without
a digest is taken as it is, since no single altered letter makes one out of the other.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

KEY = "sha256"
# Bytes, by their hash, of documents that this process has seen to be right: a manifest is read often.
_SEEN: set[bytes] = set()


class AlteredDocumentError(Exception):
    """A document is not JSON or was changed after it was written; the message says which."""


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the digest of all else that it says, as its last entry."""
    said = {name: value for name, value in document.items() if name != KEY}
    return said | {KEY: _digest(said)}


def unsealed(content: bytes) -> Any:  # noqa: ANN401
    """Return what a document says, without its digest.

    Raises:
        AlteredDocumentError: It is not JSON, or its digest does not match its content.
    """
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AlteredDocumentError(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or KEY not in document:
        return document
    said = document.pop(KEY)
    name = hashlib.sha256(content).digest()
    if name not in _SEEN:
        if said != _digest(document):
            raise AlteredDocumentError("its checksum is wrong: it was changed after it was written")
        _SEEN.add(name)
    return document


def _digest(document: Mapping[str, Any]) -> str:
    # As it is after a round through JSON, so that a tuple is a list and a number as a key a text.
    plain = json.loads(json.dumps(document, allow_nan=False))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: object) -> object:
    """Return a value with null for every infinity in it, at any depth, as JSON can hold it."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value
