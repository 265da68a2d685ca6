"""JSON documents that carry a SHA-256 of their contents, so that an altered document is refused.

The digest is over the values, not the bytes, so a document may be reformatted. A document without a digest
is accepted: one altered letter in the digest's name hides the digest but changes no other value.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

KEY = "sha256"
# Hashes of documents that this process found to be right, since a manifest is read often.
_SEEN: set[bytes] = set()


class AlteredDocumentError(Exception):
    """A document is not JSON or was changed after it was written; the message says which."""


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the digest of its other entries as its last entry."""
    said = {name: value for name, value in document.items() if name != KEY}
    return said | {KEY: _digest(said)}


def unsealed(content: bytes) -> Any:  # noqa: ANN401
    """Return the contents of a document, without its digest.

    Raises:
        AlteredDocumentError: The document is not JSON, or its digest does not match its contents.
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
    # The digest is of the document as JSON reads it back: tuples become lists, and keys become texts.
    plain = json.loads(json.dumps(document, allow_nan=False))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: object) -> object:
    """Return a value with None for every infinity in it, at any depth, since JSON has no infinity."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value
