"""Item-level values to estimates: one row of `SUMMARY` for each metric, group and condition.

Every estimate travels with its interval and its n. Random draws are seeded by the run's seed, probe,
metric, group and condition, and items are taken in the order of their ids, so neither the order of
rows nor what else is summarised matters.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.base import Metric, Probe
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
    common = {"version": entry.probe.version, "signature": signature(entry, context.scoring)}
    about = items.select("item_id", "group", "exposures", cluster=_clusters())
    for metric in entry.probe.metrics:
        frame = values[metric.name]
        if metric.since_first:
            if first is None:
                continue
            frame = _change(frame, first[metric.name])
        blocks = _blocks(frame.join(about, on="item_id"), prefix)
        ordered = sorted(blocks.iter_rows(named=True), key=_natural)
        rows += [_row(metric, entry.probe, block, context) | common for block in ordered]
    return SUMMARY.conform(pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row"))


def _natural(block: Mapping[str, Any]) -> tuple[list[tuple[int, str]], int, str, int]:
    """Order by condition with its numbers as numbers, then pooled, groups, exposure counts."""
    pieces = re.split(r"(\d+)", block["of"] or "")
    words = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
    return words, block["part"], block["group"] or "", block["number"] or 0


def _clusters() -> pl.Expr:
    """Items of one document belong together; any other item is a cluster of its own."""
    return (
        pl.when(pl.col("doc_id").is_not_null())
        .then(pl.format("doc {}", "doc_id"))
        .otherwise(pl.format("item {}", "item_id"))
    )


def _change(now: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    return now.join(first, on=["item_id", "condition"], suffix="_first", nulls_equal=True).with_columns(
        value=pl.col("value") - pl.col("value_first")
    )


def _blocks(frame: pl.DataFrame, prefix: str | None) -> pl.DataFrame:
    """Return one row per block: all items together, each group, each exposure count, per condition.

    Values are lists in the order of item ids; where one of a pair is undefined, both are left out.
    """
    none = pl.lit(None, dtype=pl.String)
    pooled = frame.with_columns(part=pl.lit(0), group=none, exposed=none)
    grouped = frame.filter(pl.col("group").is_not_null()).with_columns(part=pl.lit(1), exposed=none)
    exposed = frame.filter(pl.col("exposures").is_not_null()).with_columns(
        part=pl.lit(2), group=none, exposed=pl.format("exposures={}", "exposures")
    )
    columns = [name for name in ("value", "other") if name in frame.columns]
    known = pl.all_horizontal(pl.col(name).is_not_null() for name in columns)
    # What a condition is made of goes from the general to the particular.
    condition = pl.concat_str(
        pl.lit(prefix, dtype=pl.String), "condition", "exposed", separator=";", ignore_nulls=True
    )
    return (
        pl.concat([pooled, grouped, exposed])
        .with_columns(number=pl.when(pl.col("part") == 2).then("exposures"), full=condition)
        .sort("item_id")
        .group_by("condition", "part", "group", "number", "full")
        .agg(
            *(pl.col(name).filter(known) for name in columns),
            cluster=pl.col("cluster").filter(known),
            n_missing=(~known).sum(),
        )
        .with_columns(of="condition", condition=pl.when(pl.col("full") != "").then("full"))
    )


def _row(metric: Metric, probe: Probe, block: dict[str, Any], context: Context) -> dict[str, Any]:
    values = np.asarray(block["value"], dtype=np.float64)
    numbers = {name: number for number, name in enumerate(sorted(set(block["cluster"])))}
    clusters = np.array([numbers[name] for name in block["cluster"]], dtype=np.int64)
    others = np.asarray(block.get("other", ()), dtype=np.float64)
    seed = (str(context.seed), probe.name, metric.name, str(block["group"]), str(block["condition"]))
    estimate, interval = _estimate(metric, values, others, clusters, seed)
    return {
        "model": context.model,
        "revision": context.revision,
        "step": context.step,
        "probe": probe.name,
        "metric": metric.name,
        "group": block["group"],
        "condition": block["condition"],
        "estimate": estimate,
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_level": LEVEL,
        "ci_method": interval.method if interval else None,
        "n_items": len(values),
        "n_clusters": len(numbers),
        "n_missing": block["n_missing"],
        "unit": metric.unit,
    }


def _estimate(
    metric: Metric,
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    clusters: NDArray[np.int64],
    seed: tuple[str, ...],
) -> tuple[float | None, Interval | None]:
    """Return estimate and interval.

    One cluster says nothing about how clusters differ, and one value nothing about how values do:
    then no interval is better than a false one.
    """
    if not len(values):
        return None, None
    n_clusters = int(clusters.max()) + 1
    together = clusters if n_clusters < len(values) else None
    if metric.summary == "auc":
        if n_clusters < 2:
            return auc(values, others), None
        area = paired_auc(values, others, clusters=together, level=LEVEL)
        return area.auc, area.interval
    estimate = float(values.mean())
    if metric.summary == "rate" and together is None:
        return estimate, wilson(float(values.sum()), len(values), level=LEVEL)
    if estimate in (0, 1) and _is_fraction(metric):
        # Where all values are 0 or all are 1, resampling shows no spread; no variable between 0 and 1
        # varies more than a rate does, so Wilson's interval of as many rates is wide enough.
        stand_in = wilson(estimate * n_clusters, n_clusters, level=LEVEL)
        return estimate, replace(stand_in, method="wilson-stand-in")
    if n_clusters < 2:
        return estimate, None
    return estimate, bootstrap_mean(values, rng=_rng(seed), clusters=together, level=LEVEL)


def _is_fraction(metric: Metric) -> bool:
    return metric.unit == "fraction" and not metric.since_first


def _rng(seed: tuple[str, ...]) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(seed).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def condition_prefixes(entries: tuple[Entry, ...]) -> list[str | None]:
    """Return, for each entry, the settings that tell it from other entries of the same probe."""
    prefixes = []
    for entry in entries:
        twins = [settings_table(each.settings) for each in entries if each.probe.name == entry.probe.name]
        mine = settings_table(entry.settings)
        differing = [name for name in mine if any(twin.get(name) != mine[name] for twin in twins)]
        prefixes.append(";".join(f"{name}={_compact(mine[name])}" for name in differing) or None)
    return prefixes
