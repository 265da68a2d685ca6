"""Make estimates of item-level values: one row of `SUMMARY` for each metric, group and condition.

Every estimate comes with its interval and its n. Random draws are seeded by the run's seed, probe,
metric, group and condition, and items are taken in the order of their ids. An estimate depends neither on
the order of rows nor on other summaries.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from memprobe.pipeline.blocks import blocks_of, by_block
from memprobe.pipeline.contrast import Control, about_items, beside_control, over_never, with_control
from memprobe.pipeline.estimate import estimate_of, estimate_series, series_of, why_no_interval
from memprobe.pipeline.signature import signature
from memprobe.pipeline.suite import Entry
from memprobe.probes.contract import Metric, Probe
from memprobe.stats.intervals import LEVEL, NO_SPREAD, Interval
from memprobe.stats.medians import Median
from memprobe.tables.summary import SUMMARY


@dataclass(frozen=True, slots=True)
class Context:
    """The keys that the rows of one checkpoint share.

    Attributes:
        model: Hub id or name of the sequence.
        revision: Git revision or name of the checkpoint's folder.
        step: Training step; None if the checkpoint has none.
        seed: The run's seed.
        scoring: The part of the signature that all probes share: BOS mode, dtype, tokenizer.
    """

    model: str
    revision: str
    step: int | None
    seed: int
    scoring: str


def item_values(entry: Entry, table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return each metric's item-level values: `item_id, condition, value`, and `other` for an AUC."""
    return {
        metric.name: metric.values(table, entry.settings)
        for metric in entry.probe.metrics_for(entry.settings)
    }


def summarise(
    entry: Entry,
    values: Mapping[str, pl.DataFrame],
    first: Mapping[str, pl.DataFrame] | None,
    items: pl.DataFrame,
    context: Context,
    prefix: str | None = None,
    *,
    given: Collection[str] = (),
    control: Control | None = None,
) -> pl.DataFrame:
    """Return the summary rows of one probe entry at one checkpoint.

    Args:
        entry: The probe and its settings.
        values: Values from `item_values`.
        first: The values of the sequence's first checkpoint; None for that checkpoint itself.
        items: `item_id, group, exposures, doc_id`.
        context: Keys and seed.
        prefix: Beginning of every condition: settings in which this entry differs from others of its probe.
        given: Columns that an item file gave; if `first_step` is one of them, `items` has it.
        control: The same entry, measured on a model that was not trained on the items.
    """
    rows: list[dict[str, Any]] = []
    common = {"version": entry.probe.version, "signature": signature(entry, context.scoring)}
    about = about_items(items, given)
    for metric in entry.probe.metrics_for(entry.settings):
        frame = values[metric.name]
        if metric.since_first:
            if first is None:
                continue
            frame = change(frame, first[metric.name])
        made = _rows(metric, entry.probe, frame.join(about, on="item_id"), context, prefix)
        rows += [row | common for row in made]
        if metric.against_never and control is not None:
            pairs = beside_control(frame, control.values[metric.name]).join(about, on="item_id")
            blocks = blocks_of(pairs, prefix).filter(pl.col("part") < 2).iter_rows(named=True)
            signed = common | {"signature": f"{common['signature']}|control:{control.identity}"}
            for block in sorted(blocks, key=by_block):
                block["condition"] = with_control(block["condition"], control.label)
                rows.append(_row(metric.excess(), entry.probe, block, context) | signed)
    return SUMMARY.conform(pl.DataFrame(rows, schema=SUMMARY.empty().schema, orient="row"))


def _rows(
    metric: Metric, probe: Probe, frame: pl.DataFrame, context: Context, prefix: str | None
) -> list[dict[str, Any]]:
    """Return the rows of one metric, and of its excess over never-trained items if it has one."""
    blocks = sorted(blocks_of(frame, prefix, split=metric.against_never).iter_rows(named=True), key=by_block)
    rows = [_row(metric, probe, block, context) for block in blocks]
    alone = [row for row in rows if metric.stands_alone(row["condition"])]
    sides: dict[tuple[str | None, str | None], dict[bool, dict[str, Any]]] = {}
    for block, row in zip(blocks, rows, strict=True):
        if block["trained"] is not None:
            sides.setdefault((block["group"], block["base"]), {})[block["trained"]] = row
    return alone + [over_never(metric, base, both[True], both[False]) for (_, base), both in sides.items()]


def change(now: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Return item values as changes from the values at the first checkpoint."""
    return now.join(first, on=["item_id", "condition"], suffix="_first", nulls_equal=True).with_columns(
        value=pl.col("value") - pl.col("value_first")
    )


def _row(metric: Metric, probe: Probe, block: dict[str, Any], context: Context) -> dict[str, Any]:
    values = np.asarray(block["value"], dtype=np.float64)
    numbers, clusters = np.unique(np.asarray(block["cluster"], dtype=np.int64), return_inverse=True)
    others = np.asarray(block.get("other", ()), dtype=np.float64)
    interval: Interval | Median | None
    seed = (str(context.seed), probe.name, metric.name, str(block["group"]), str(block["condition"]))
    if "position" in block:
        estimate, blocked = estimate_series(metric, series_of(block), seed)
        interval, why = blocked.interval, blocked.why
    else:
        most = max(block.get("most") or [0])
        estimate, interval = estimate_of(metric, values, others, clusters, most)
        why = None if estimate is None else why_no_interval(metric, clusters)
    if (
        isinstance(interval, Interval)
        and interval.lo == interval.hi
        and (metric.summary == "mean" or np.ptp(values) == 0)
    ):
        # Agreement of the items seen does not mean that other items agree.
        interval, why = None, NO_SPREAD
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
        "ci_method": interval.method if interval else why,
        "n_items": len(values),
        "n_clusters": len(numbers),
        "n_missing": block["n_missing"],
        "unit": metric.unit,
    }
