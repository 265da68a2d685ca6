"""A run whose units are all there and whose tables are not: what is left when scoring has ended.

Units and item table are written by memprobe itself, from token statistics that are drawn instead of
scored. Documents of 1 to 50 items are memorized whole or not at all, and items that were trained on are
recalled better from checkpoint to checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memprobe.options import RunOptions
from memprobe.pipeline.again import write_items
from memprobe.pipeline.manifest import entries_of, new_manifest
from memprobe.pipeline.planning import plans_of
from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.suite import Suite, suite_of, with_settings
from memprobe.tables.manifest import Manifest
from memprobe.tables.requests import Scheme
from memprobe.tables.spans import SPANS
from memprobe.tables.store import RunStore
from memprobe.tables.views import WINDOWS

GROUPS, MOST_IN_DOCUMENT, EVERY = 4, 50, 1000
PREFIX, SUFFIX = 8, 8
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rates": (
        ("recognition", "recall", "extraction"),
        ("extraction.n=[1,1000]", "extraction.p=[0.5]"),
    ),
    "shares": (("recall",), ()),
    "lags": (("forgetting", "retention", "stability"), ("stability.windows=[10]",)),
}
"""Probes and settings of each kind of run. `shares`: items without documents, of 9 possible shares."""


def write_scored_run(folder: Path, kind: str, *, n_items: int, n_steps: int) -> Path:
    """Write a run that is scored and not measured, with one checkpoint every 1,000 steps."""
    probes, settings = KINDS[kind]
    rng = np.random.default_rng(0)
    items = _items(rng, n_items, n_steps, documents=kind != "shares")
    suite = with_settings(suite_of(probes), settings)
    manifest = _manifest(suite, items, n_steps)
    stages = [entries_of(stage) for stage in manifest.stages]
    (plan,) = plans_of(manifest, stages, [(items, WINDOWS.empty())])
    store = RunStore(folder)
    store.create()
    store.write_manifest(manifest.changed(tables=write_items([plan], store, include_text=False) or {}))
    _write_units(store, plan, items, rng)
    return folder


def _items(rng: np.random.Generator, n_items: int, n_steps: int, *, documents: bool) -> pl.DataFrame:
    """Return the item table; a fifth of the documents is never trained on."""
    sizes = rng.integers(1, MOST_IN_DOCUMENT + 1, n_items) if documents else np.ones(n_items, np.int64)
    document = np.repeat(np.arange(n_items), sizes)[:n_items]
    group = rng.integers(0, GROUPS, n_items)[document]
    exposures = rng.integers(0, 5, n_items)[document]
    ends = np.linspace(0, n_steps - 1, GROUPS + 1).astype(int)
    # Each group is a task of its own, which ends at a checkpoint.
    first = EVERY * np.clip(ends[group] + rng.integers(1, 9, n_items)[document], 1, n_steps - 1)
    names = [f"item-{number:06d}" for number in range(n_items)]
    return pl.DataFrame(
        {
            "item_id": names,
            "content_hash": names,
            "group": [f"group-{number}" for number in group],
            "exposures": exposures,
            "first_step": first,
            "task_end_step": EVERY * ends[group + 1],
            "doc_id": [f"doc-{number:05d}" for number in document] if documents else None,
            "foil_kind": "other",
            "source_file": "items.jsonl",
            "source_line": range(1, n_items + 1),
            "n_tokens": PREFIX + SUFFIX,
            "n_prefix_tokens": PREFIX,
            "n_foil_tokens": PREFIX + SUFFIX,
            "boundary_shift": False,
        },
        schema_overrides={"doc_id": pl.String}
        | dict.fromkeys(("n_tokens", "n_prefix_tokens", "n_foil_tokens"), pl.Int32),
    ).with_columns(
        first_step=pl.when(pl.col("exposures") > 0).then("first_step"),
        last_step=pl.when(pl.col("exposures") > 0).then("first_step"),
        trained=pl.lit(None, pl.Boolean),
        batch_id=pl.lit(None, pl.String),
        exposure_steps=pl.lit(None, pl.List(pl.Int64)),
    )


def _manifest(suite: Suite, items: pl.DataFrame, n_steps: int) -> Manifest:
    options = RunOptions(model=("drawn",), data=("items.jsonl",))
    given = ["doc_id", "exposures", "first_step", "foil", "group", "item_id", "last_step", "task_end_step"]
    said = {
        **new_manifest(suite, options).to_json(),
        "device": "cpu",
        "dtype": "float32",
        "bos": "default",
        "seed": 0,
        "include_text": False,
        "batch_tokens": 4096,
        "control": None,
        "items": {
            "files": [],
            "n_items": items.height,
            "n_skipped": 0,
            "n_unfit": 0,
            "n_copies": 0,
            "given": given,
            "digest": "drawn",
        },
        "sequences": [{"model": "drawn", "n_front": 1, "context_tokens": 2048, "vocabulary": 50_000}],
        "checkpoints": [
            {
                "model": "drawn",
                "revision": f"step{EVERY * step}",
                "step": EVERY * step,
                "tokenizer_digest": None,
                "weights_digest": f"weights-{step}",
                "context": f"c{step}",
                "format": "safetensors",
                "n_bytes": 1,
                "n_parameters": 1,
                "folder": "",
            }
            for step in range(n_steps)
        ],
        "failures": [],
        "warnings": [],
        "notes": [],
        "load_notes": [],
        "paths": [],
        "devices": [],
        "timings": {},
        "checks": {},
    }
    return Manifest.from_json(said)


def _write_units(store: RunStore, plan: SequencePlan, items: pl.DataFrame, rng: np.random.Generator) -> None:
    """Write every unit of every checkpoint."""
    document = items["doc_id"].fill_null(items["item_id"]).rank("dense").to_numpy().astype(np.int64) - 1
    whole = rng.random(int(document.max()) + 1)[document]
    start = items["first_step"].fill_null(1 << 40).to_numpy()
    places = items.select("item_id", place=pl.int_range(pl.len()))
    asked = {
        key: (unit, unit.requests.join(places, on="item_id", maintain_order="left"))
        for key, unit in plan.units.items()
    }
    for target in plan.targets:
        since = (target.step - start) / EVERY
        # Memorized when it is trained on, and forgotten by and by; of the others one in fifty is guessed.
        chance = np.where(since >= 0, 0.3 + 0.5 * np.exp(-np.maximum(since, 0) / 40), 0.02)
        memorized = whole < chance
        hits = rng.random((items.height, SUFFIX)) < np.where(memorized, 0.995, 0.35)[:, None]
        logprob = -np.where(hits, 0.2, 2.0) * rng.exponential(size=hits.shape)
        for key, (unit, requests) in asked.items():
            place = requests["place"].to_numpy()
            rows = _answered(requests.drop("place"), hits[place], logprob[place].astype(np.float32), unit)
            rows = pl.concat([SPANS.empty(), rows], how="diagonal_relaxed")
            store.write_unit(target.context, key, rows, {"device": "cpu"})


def _answered(requests: pl.DataFrame, hits: np.ndarray, logprob: np.ndarray, unit: Any) -> pl.DataFrame:
    """Return requests with the statistics of their tokens."""
    detail = pl.col("detail")
    n_hits = hits.sum(1)
    lcp = np.cumprod(hits, axis=1).sum(1)
    lists = {
        "hit": (hits, pl.List(pl.Boolean)),
        "logprob_nats": (logprob, pl.List(pl.Float32)),
        "rank": (np.where(hits, 0, 3), pl.List(pl.Int32)),
        "n_ties": (np.zeros_like(hits, dtype=np.int64), pl.List(pl.Int32)),
        "entropy_nats": (np.ones_like(logprob), pl.List(pl.Float32)),
        "margin_nats": (np.where(hits, 0.5, -1.5), pl.List(pl.Float32)),
        **{
            each.column: (logprob * (0.9 if isinstance(each, Scheme) else -0.9), pl.List(pl.Float32))
            for each in unit.statistics
        },
    }
    tokens, scored = detail == "tokens", detail.is_in(["tokens", "sums"])
    generated = detail.is_in(["generate", "verify"])
    sums = logprob.astype(np.float64).sum(1)
    # A foil is as likely as a text of which nothing is known.
    of_foil = pl.when(pl.col("part") == "foil").then(-1.2 * SUFFIX).otherwise(pl.Series("s", sums))
    return requests.with_columns(
        content_hash=pl.col("item_id"),
        n_scored=pl.when(scored).then(pl.when(tokens).then(SUFFIX).otherwise(PREFIX + SUFFIX)),
        logprob_sum_nats=pl.when(scored).then(of_foil),
        n_hits=pl.when(scored).then(pl.Series("n", n_hits)),
        rank_sum=pl.when(scored).then(pl.Series("r", 3 * (SUFFIX - n_hits))),
        gen_tokens=pl.when(generated).then(pl.Series("g", np.minimum(lcp + 1, SUFFIX))),
        gen_lcp_tokens=pl.when(generated).then(pl.Series("l", lcp)),
        **{
            name: pl.when(tokens).then(pl.Series(name, values).arr.to_list().cast(dtype))
            for name, (values, dtype) in lists.items()
        },
    )
