"""Run directories made by hand, without a model: what is compared are numbers that the test wrote."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from memprobe.pipeline.reading import Run, open_run
from memprobe.probes.recall import RECALL
from memprobe.probes.recognition import RECOGNITION
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY
from tests.manifests import said_of

RECALL_ENTRY = {"probe": "recall", "version": 1, "settings": {"align": "start", "verify_items": 4}}
RECOGNITION_ENTRY = {"probe": "recognition", "version": 1, "settings": {}}


def manifest(model: str, steps: Sequence[int], changes: Mapping) -> dict:
    made = {
        "format": 1,
        "state": "done",
        "bos": "default",
        "dtype": "float32",
        "seed": 0,
        "items": {"given": ["item_id", "text", "exposures"]},
        "sequences": [{"model": model, "n_front": 1, "context_tokens": None}],
        "stages": [[RECOGNITION_ENTRY, RECALL_ENTRY]],
        "checkpoints": [
            {"model": model, "revision": f"step{step}", "step": step, "tokenizer_digest": "a" * 64}
            for step in steps
        ],
        "failures": [],
        "control": None,
        "probes": {},
    }
    return said_of(**made | dict(changes))


def items(ids: Sequence[str], model: str, columns: Mapping[str, Sequence]) -> pl.DataFrame:
    n = len(ids)
    about = {
        "model": [model] * n,
        "item_id": list(ids),
        "content_hash": [f"hash of {item}" for item in ids],
        "group": ["even" if place % 2 == 0 else "odd" for place in range(n)],
        "exposures": pl.Series([place % 3 for place in range(n)], dtype=pl.Int64),
        "first_step": pl.Series([None] * n, dtype=pl.Int64),
        "doc_id": pl.Series([None] * n, dtype=pl.String),
    }
    return pl.DataFrame(about | dict(columns))


def _rows(ids: Sequence[str], model: str, step: int, values: Mapping[str, Sequence]) -> pl.DataFrame:
    keys = {"model": model, "revision": f"step{step}", "step": step, "item_id": list(ids)}
    return pl.DataFrame(keys | dict(values))


def recall_rows(
    ids: Sequence[str], model: str, step: int, exact: Sequence, margins: Sequence
) -> pl.DataFrame:
    lcp = [None if each is None else 3 + int(each) for each in exact]
    frac = [None if each is None else 0.5 + 0.5 * each for each in exact]
    values = {"exact": exact, "lcp_tokens": lcp, "hit_frac": frac, "es_frac": frac}
    frame = _rows(ids, model, step, values)
    empty = RECALL.empty()
    return pl.concat(
        [empty, frame.select(pl.col(name).cast(empty.schema[name]) for name in frame.columns)], how="diagonal"
    )


def recognition_rows(
    ids: Sequence[str], model: str, step: int, exact: Sequence, margins: Sequence[float]
) -> pl.DataFrame:
    values = {
        "foil_kind": ["near"] * len(ids),
        "seen_nll_mean_nats": [2.0] * len(ids),
        "foil_nll_mean_nats": [2.0 + margin for margin in margins],
        "margin_nats": margins,
        "correct": [0.5 if margin == 0 else float(margin > 0) for margin in margins],
    }
    frame = _rows(ids, model, step, values)
    empty = RECOGNITION.empty()
    return pl.concat(
        [empty, frame.select(pl.col(name).cast(empty.schema[name]) for name in frame.columns)], how="diagonal"
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a maker of runs: ids, then by step which are exact and by how much the seen text is likelier."""

    def make(
        name: str,
        ids: Sequence[str],
        exact: Mapping[int, Sequence],
        margins: Mapping[int, Sequence[float]] | None = None,
        *,
        model: str = "main",
        columns: Mapping[str, Sequence] | None = None,
        summary: Sequence[Mapping] = (),
        **changes: object,
    ) -> Run:
        folder = tmp_path / name
        (folder / "tables").mkdir(parents=True)
        margins = margins or {step: [0.25] * len(ids) for step in exact}
        store = RunStore(folder)
        store.write_table("items", items(ids, model, columns or {}))
        for table, rows in (("recall", recall_rows), ("recognition", recognition_rows)):
            parts = [rows(ids, model, step, exact[step], margins[step]) for step in exact]
            store.write_table(table, pl.concat(parts))
        rows = pl.DataFrame([dict(row) for row in summary], schema=SUMMARY.empty().schema, orient="row")
        store.write_table("summary", SUMMARY.conform(rows))
        (folder / "manifest.json").write_text(json.dumps(manifest(model, list(exact), changes)))
        return open_run(folder)

    return make
