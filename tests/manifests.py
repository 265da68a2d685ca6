"""Manifests for tests that need no run."""

from typing import Any

from memprobe.tables.manifest import FORMAT, Manifest

_CHECKPOINT = {"revision": "step0", "step": 0, "tokenizer_digest": None, "context": "c"}
_FAILURE = {"model": "main", "revision": "step0", "step": 0, "error": "corrupt"}
_RUN = {"format": FORMAT, "stages": [], "sequences": [], "bos": "default", "dtype": "float32", "seed": 0}


def said_of(**said: Any) -> dict[str, Any]:
    """Return a manifest as its file holds it; what its checkpoints and failures do not say is as usual."""
    usual = {"checkpoints": _CHECKPOINT, "failures": _FAILURE}
    filled = {name: [each | entry for entry in said[name]] for name, each in usual.items() if name in said}
    return _RUN | said | filled


def manifest_of(**said: Any) -> Manifest:
    """Return a manifest, filled as by `said_of`."""
    return Manifest.from_json(said_of(**said))
