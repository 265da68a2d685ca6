"""A run directory of any size, with numbers that are drawn and tables as the probes would write them."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from memprobe.pipeline.manifest import describe_probes
from memprobe.pipeline.suite import Entry, Suite
from memprobe.probes.discovery import find
from memprobe.probes.extraction.tables import EXTRACTION
from memprobe.probes.profile.tables import PROFILE, PROFILE_AGG
from memprobe.probes.recall import RECALL
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY
from tests.manifests import manifest_of

PROBES = ("recall", "extraction", "profile")
SCHEMES, SAMPLES, CHANCES = ("top40", "full"), (1, 10, 100, 1000, 10_000), (0.1, 0.5, 0.9, 0.999)


def write_big_run(folder: Path, *, n_items: int, n_steps: int, n_groups: int = 4) -> Path:
    """Write a finished run of three probes: 16,000 items x 154 steps are five million item-level rows."""
    rng = np.random.default_rng(0)
    (folder / "tables").mkdir(parents=True)
    steps = [1000 * i for i in range(n_steps)]
    groups = [f"group-{i}" for i in range(n_groups)]
    items = pl.DataFrame(
        {
            "model": "pythia",
            "item_id": [f"item-{i:06d}" for i in range(n_items)],
            "group": [groups[i % n_groups] for i in range(n_items)],
            "exposures": [i % 5 for i in range(n_items)],
            "n_tokens": 64,
        }
    )
    RunStore(folder).write_table("items", items)
    _write_recall(folder, items, steps, rng)
    _write_extraction(folder, items, steps, rng)
    RunStore(folder).write_table("profile", _profile(steps))
    RunStore(folder).write_table("profile_agg", _events(steps))
    summary = _summary(steps, groups, n_items)
    RunStore(folder).write_table("summary", summary)
    (folder / "manifest.json").write_text(json.dumps(manifest(steps, n_items).to_json()))
    return folder


def _stream(folder: Path, name: str, parts: list[pl.DataFrame]) -> None:
    RunStore(folder).write_table(name, pl.concat(parts))


def _keyed(items: pl.DataFrame, step: int) -> pl.DataFrame:
    return items.select(
        "model",
        pl.lit(f"step{step}").alias("revision"),
        pl.lit(step, pl.Int64).alias("step"),
        "item_id",
        "group",
        "exposures",
    )


def _write_recall(folder: Path, items: pl.DataFrame, steps: list[int], rng: np.random.Generator) -> None:
    parts = []
    for step in steps:
        hits = pl.Series(rng.random(items.height))
        columns = {
            name: pl.Series([None] * items.height, dtype=column.dtype)
            for name, column in RECALL.columns.items()
            if name not in RECALL.key
        }
        known = {
            "exact": hits > 0.97,
            "lcp_tokens": (hits * 32).cast(pl.Int32),
            "hit_frac": hits,
            "es_frac": hits,
            "min_margin_nats": hits - 0.97,
        }
        kept = {name: each for name, each in (columns | known).items() if name not in items.columns}
        parts.append(
            _keyed(items, step)
            .with_columns(prefix_tokens=pl.lit(32, pl.Int32), suffix_tokens=pl.lit(32, pl.Int32))
            .with_columns(
                **{n: v for n, v in kept.items() if n not in ("model", "revision", "step", "item_id")}
            )
        )
    _stream(folder, "recall", parts)


def _write_extraction(folder: Path, items: pl.DataFrame, steps: list[int], rng: np.random.Generator) -> None:
    parts = []
    for step in steps:
        for scheme in SCHEMES:
            logp = pl.Series(-60 * rng.random(items.height))
            parts.append(
                _keyed(items, step).with_columns(
                    scheme=pl.lit(scheme),
                    prefix_tokens=pl.lit(32, pl.Int32),
                    suffix_tokens=pl.lit(32, pl.Int32),
                    logp_nats=logp,
                    pz=logp.exp(),
                    max_rank=pl.lit(3, pl.Int32),
                    in_support=True,
                    greedy=logp > -1,
                )
            )
    assert set(parts[0].columns) <= set(EXTRACTION.columns) | {"exposures"}
    _stream(folder, "extraction", parts)


def _profile(steps: list[int]) -> pl.DataFrame:
    cells = [(g, t) for g in range(1, len(steps)) for t in range(1, len(steps))]
    att = pl.Series([0.5 * 0.97 ** (t - g) if t >= g else 0.01 * ((g * t) % 3 - 1) for g, t in cells])
    frame = pl.DataFrame(
        {
            "model": "pythia",
            "outcome": "logprob_mean_nats",
            "cohort_step": [steps[g] for g, _ in cells],
            "step": [steps[t] for _, t in cells],
            "base_step": [steps[g - 1] for g, _ in cells],
            "event_time": [t - g for g, t in cells],
            "att": att,
            "se_analytic": 0.02,
            "se_boot": 0.02,
            "lo": att - 0.04,
            "hi": att + 0.04,
            "lo_sim": att - 0.06,
            "hi_sim": att + 0.06,
            "n_treated": 100,
            "n_control": 500,
            "is_post": [t >= g for g, t in cells],
            "diff": att,
            "diff_se": 0.02,
        }
    )
    return PROFILE.conform(frame)


def _events(steps: list[int]) -> pl.DataFrame:
    times = list(range(-len(steps) + 2, len(steps) - 1))
    att = pl.Series([0.5 * 0.97**each if each >= 0 else 0.0 for each in times])
    frame = pl.DataFrame(
        {
            "model": "pythia",
            "outcome": "logprob_mean_nats",
            "aggregation": "event",
            "key": times,
            "att": att,
            "se": 0.02,
            "lo": att - 0.04,
            "hi": att + 0.04,
            "lo_sim": att - 0.06,
            "hi_sim": att + 0.06,
            "n_cells": 10,
        }
    )
    return PROFILE_AGG.conform(frame)


def _summary(steps: list[int], groups: list[str], n_items: int) -> pl.DataFrame:
    rates = [f"scheme={s};n={n};p={p}" for s in SCHEMES for n in SAMPLES for p in CHANCES]
    named = [
        ("recall", m, None, m == "lcp_tokens") for m in ("exact_frac", "lcp_tokens", "hit_frac", "es_frac")
    ]
    named += [("extraction", "rate_frac", each, False) for each in rates]
    asked = pl.DataFrame(named, schema=["probe", "metric", "condition", "long"], orient="row")
    kinds = [(None, ""), *((None, f"exposures={e}") for e in range(5)), *((g, "") for g in groups)]
    parts = pl.DataFrame(kinds, schema=["group", "part"], orient="row")
    at = pl.DataFrame(
        {"step": steps, "revision": [f"step{s}" for s in steps], "level": np.linspace(0, 0.8, len(steps))}
    )
    rows = at.join(asked, how="cross").join(parts, how="cross")
    both = pl.concat_str(
        [pl.col("condition"), pl.when(pl.col("part") != "").then("part")], separator=";", ignore_nulls=True
    )
    rows = rows.with_columns(condition=pl.when(both != "").then(both), estimate=pl.col("level"))
    told = pl.DataFrame(
        {"probe": "profile", "metric": ["instantaneous", "persistent", "residual"], "estimate": 0.2}
    )
    rows = pl.concat([rows, told], how="diagonal_relaxed").with_columns(
        model=pl.lit("pythia"),
        ci_low=pl.col("estimate") - 0.01,
        ci_high=pl.col("estimate") + 0.01,
        ci_level=0.95,
        ci_method=pl.lit("wilson"),
        n_items=n_items,
        n_clusters=n_items,
        n_missing=0,
        unit=pl.lit("fraction"),
        version=1,
        signature=pl.lit("s"),
    )
    return SUMMARY.conform(rows.drop("level", "long", "part"))


def manifest(steps: list[int], n_items: int) -> Manifest:
    entries = tuple(Entry(find(name), find(name).settings()) for name in PROBES)
    said = {
        "memprobe": "0",
        "state": "done",
        "suite": {"name": "big", "title": "", "source": ""},
        "stages": [[{"probe": e.probe.name, "version": e.probe.version, "settings": {}} for e in entries]],
        "device": "cpu",
        "items": {"files": [], "n_items": n_items, "n_skipped": 0, "n_unfit": 0},
        "checkpoints": [{"model": "pythia", "revision": f"step{s}", "step": s} for s in steps],
        "failures": [],
    }
    return manifest_of(**said).changed(probes=describe_probes(Suite("big", "", "", entries)))
