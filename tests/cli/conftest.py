"""Files written on the spot."""

import json
import shutil

import pytest

from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore


@pytest.fixture
def write(tmp_path):
    """Return a writer of files: write("items.jsonl", content) -> path."""

    def to_file(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return to_file


@pytest.fixture
def unfinished(finished, tmp_path):
    """A run that was killed after its first checkpoint: no units of the others, no tables but the items."""
    run = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    kept = manifest["checkpoints"][0]["context"]
    for file in (run / "units").glob("*.parquet"):
        if not file.name.startswith(kept):
            file.unlink()
    for name in ("extraction", "recall", "recognition"):
        (run / "tables" / f"{name}.parquet").unlink()
    for name in ("summary.parquet", "summary.csv"):
        (run / name).unlink()
    for name in ("checks", "failures", "probes", "timings"):
        del manifest[name]
    RunStore(run).write_manifest(Manifest.from_json(manifest | {"state": "scoring"}))
    return run
