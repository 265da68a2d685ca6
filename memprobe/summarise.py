"""Item-level values to estimates: one row of `SUMMARY` for each metric, group and condition.

Every estimate travels with its interval and its n. Random draws are seeded by the run's seed, probe,
metric, group and condition, and items are taken in the order of their ids, so neither the order of
rows nor what else is summarised matters.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.base import Metric
from memprobe.stats.bootstrap import bootstrap_mean
from memprobe.stats.intervals import Interval, wilson
from memprobe.stats.ranking import auc, paired_auc
from memprobe.suite import Entry, settings_table
from memprobe.tables.catalogue import SUMMARY

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Context:
    """What the rows of one checkpoint have in common.

    Attributes:
        model: Of the keys.
        revision: Of the keys.
        step: Of the keys.
        seed: The run's seed.
        scoring: The part of the signature that all probes share: BOS mode, dtype, tokenizer.
    """

    model: str
    revision: str
    step: int
    seed: int
    scoring: str


def signature(entry: Entry, scoring: str) -> str:
    """Return all that a number depends on but checkpoint and items."""
    settings = settings_table(entry.settings)
    # How many items are verified by generation changes no estimate.
    parts = [f"{name}:{_compact(value)}" for name, value in settings.items() if name != "verify_items"]
    return "|".join([entry.probe.name, f"v{entry.probe.version}", *parts, scoring])


def _compact(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return ",".join(_compact(each) for each in value)
    if isinstance(value, dict):
        return "+".join(f"{name}{each}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def item_values(entry: Entry, table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return each metric's item-level values: `item_id, condition, value`, and `other` for an AUC."""
    return {metric.name: metric.values(table, entry.settings) for metric in entry.probe.metrics}


def summarise(
    entry: Entry,
    values: Mapping[str, pl.DataFrame],
    first: Mapping[str, pl.DataFrame] | None,
    items: pl.DataFrame,
    context: Context,
    prefix: str | None = None,
) -> pl.DataFrame:
    """Return the summary rows of one probe entry at one checkpoint.

    Args:
        entry: The probe and its settings.
        values: From `item_values`.
        first: The same of the sequence's first checkpoint; None for that checkpoint itself.
        items: `item_id, group, exposures, doc_id`.
        context: Keys and seed.
        prefix: Goes in front of every condition: what tells this entry from others of its probe.
    """
    rows: list[dict[str, Any]] = []
    for metric in entry.probe.metrics:
        frame = values[metric.name]
        if metric.since_first:
            if first is None:
                continue
            frame = _change(frame, first[metric.name])
        joined = frame.join(items, on="item_id").sort("item_id")
        for key, block in _blocks(joined, prefix):
            rows.append(_row(metric, entry, key, block, context))
    return SUMMARY.conform(pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row"))


def _change(now: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    return now.join(first, on=["item_id", "condition"], suffix="_first", nulls_equal=True).with_columns(
        value=pl.col("value") - pl.col("value_first")
    )


@dataclass(frozen=True, slots=True)
class _Key:
    group: str | None
    condition: str | None


def _blocks(frame: pl.DataFrame, prefix: str | None) -> Iterator[tuple[_Key, pl.DataFrame]]:
    """Yield all items together, each group, and each exposure count, under every condition."""
    for (condition,), block in frame.group_by("condition", maintain_order=True):
        base = _joined(prefix, str(condition) if condition is not None else None)
        yield _Key(None, base), block
        grouped = block.filter(pl.col("group").is_not_null())
        for (group,), part in sorted(grouped.group_by("group"), key=lambda pair: str(pair[0][0])):
            yield _Key(str(group), base), part
        exposed = block.filter(pl.col("exposures").is_not_null())
        for (count,), part in sorted(exposed.group_by("exposures"), key=lambda pair: int(pair[0][0])):
            yield _Key(None, _joined(base, f"exposures={count}")), part


def _joined(first: str | None, second: str | None) -> str | None:
    return ";".join(part for part in (first, second) if part) or None


def _row(metric: Metric, entry: Entry, key: _Key, block: pl.DataFrame, context: Context) -> dict[str, Any]:
    known = block.filter(pl.col("value").is_not_null())
    if metric.summary == "auc":
        known = known.filter(pl.col("other").is_not_null())
    clusters = _clusters(known)
    rng = _rng(context.seed, entry.probe.name, metric.name, key)
    estimate, interval = _estimate(metric, known, clusters, rng) if known.height else (None, None)
    return {
        "model": context.model,
        "revision": context.revision,
        "step": context.step,
        "probe": entry.probe.name,
        "metric": metric.name,
        "group": key.group,
        "condition": key.condition,
        "estimate": estimate,
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_level": LEVEL,
        "ci_method": interval.method if interval else None,
        "n_items": known.height,
        "n_clusters": int(clusters.max()) + 1 if known.height else 0,
        "n_missing": block.height - known.height,
        "unit": metric.unit,
        "version": entry.probe.version,
        "signature": signature(entry, context.scoring),
    }


def _clusters(block: pl.DataFrame) -> NDArray[np.int64]:
    """Number the clusters: items of one document belong together, any other item is its own."""
    named = block.select(
        pl.when(pl.col("doc_id").is_not_null())
        .then(pl.format("doc {}", "doc_id"))
        .otherwise(pl.format("item {}", "item_id"))
    ).to_series()
    return named.rank("dense").cast(pl.Int64).to_numpy() - 1


def _estimate(
    metric: Metric, known: pl.DataFrame, clusters: NDArray[np.int64], rng: np.random.Generator
) -> tuple[float, Interval | None]:
    values = known["value"].to_numpy()
    n_clusters = int(clusters.max()) + 1
    overlapping = n_clusters < len(values)
    if metric.summary == "auc":
        others = known["other"].to_numpy()
        # One cluster says nothing about how clusters differ: no interval is better than a false one.
        if n_clusters < 2:
            return auc(values, others), None
        area = paired_auc(values, others, clusters=clusters if overlapping else None, level=LEVEL)
        return area.auc, area.interval
    estimate = float(values.mean())
    if metric.summary == "rate" and not overlapping:
        return estimate, wilson(float(values.sum()), len(values), level=LEVEL)
    if n_clusters < 2:
        return estimate, None
    return estimate, bootstrap_mean(values, rng=rng, clusters=clusters if overlapping else None, level=LEVEL)


def _rng(seed: int, probe: str, metric: str, key: _Key) -> np.random.Generator:
    words = "\x1f".join([str(seed), probe, metric, str(key.group), str(key.condition)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big"))


def condition_prefixes(entries: tuple[Entry, ...]) -> list[str | None]:
    """Return, for each entry, the settings that tell it from other entries of the same probe."""
    prefixes = []
    for entry in entries:
        twins = [settings_table(each.settings) for each in entries if each.probe.name == entry.probe.name]
        mine = settings_table(entry.settings)
        differing = [name for name in mine if any(twin.get(name) != mine[name] for twin in twins)]
        prefixes.append(";".join(f"{name}={_compact(mine[name])}" for name in differing) or None)
    return prefixes
