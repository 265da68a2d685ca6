"""Item-level values to estimates: one row of `SUMMARY` for each metric, group and condition.

Every estimate travels with its interval and its n. Random draws are seeded by the run's seed, probe,
metric, group and condition, and items are taken in the order of their ids, so neither the order of
rows nor what else is summarised matters.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.pipeline.contrast import Control, about_items, beside_control, over_never, with_control
from memprobe.pipeline.suite import Entry, settings_table
from memprobe.probes.contract import Metric, Probe
from memprobe.stats.blocks import Blocked, Series, blocks_interval, moving_blocks, weighted_mean
from memprobe.stats.differences import difference_interval, paired_difference
from memprobe.stats.intervals import FEW_CLUSTERS, FEW_FOR_MEDIAN, LEVEL, NO_SPREAD, Interval
from memprobe.stats.means import mean_interval, why_none
from memprobe.stats.medians import Median, km_median, median_interval
from memprobe.stats.ranking import auc, paired_auc
from memprobe.stats.rates import rate_interval, share_interval
from memprobe.tables.conditions import build, built, joined
from memprobe.tables.summary import SUMMARY

# An item's values in a block: of a metric, its partner in a pair, and both of them in another run.
VALUES = ("value", "other", "value_base", "other_base")
# What there is more of values in a series, and of ones that cannot pass a known number.
SERIES = ("item", "position", "overlap", "weight", "passage", "most")
# Settings that are longer, or hold what parts signatures and conditions, stand there as their digest.
_LONGEST = 200
_SEPARATORS = ";|\n"


@dataclass(frozen=True, slots=True)
class Context:
    """The keys that the rows of one checkpoint share.

    Attributes:
        model: Of the keys.
        revision: Of the keys.
        step: Of the keys; None where the checkpoint has none.
        seed: The run's seed.
        scoring: The part of the signature that all probes share: BOS mode, dtype, tokenizer.
    """

    model: str
    revision: str
    step: int | None
    seed: int
    scoring: str


def signature(entry: Entry, scoring: str) -> str:
    """Return all that a number depends on but checkpoint and items."""
    settings = settings_table(entry.settings)
    probe = entry.probe
    parts = [f"{name}:{_short(value)}" for name, value in settings.items() if name not in probe.cosmetic]
    return "|".join([probe.name, f"v{probe.version}", *parts, scoring])


def _short(value: Any) -> str:  # noqa: ANN401
    """Return a setting as signatures and conditions hold it; of one that they cannot hold, its digest."""
    text = _compact(value)
    if len(text) <= _LONGEST and not set(_SEPARATORS) & set(text):
        return text
    return f"sha-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _compact(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list):
        return ",".join(_compact(each) for each in value)
    if isinstance(value, dict):
        return "+".join(f"{name}{each}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        values: From `item_values`.
        first: The same of the sequence's first checkpoint; None for that checkpoint itself.
        items: `item_id, group, exposures, doc_id`.
        context: Keys and seed.
        prefix: Goes in front of every condition: what tells this entry from others of its probe.
        given: Columns that an item file gave; with `first_step`, `items` holds it.
        control: The same entry, measured on a model that did not train on the items.
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
    """Return the rows of one metric, and its excess over never-trained items where it has one."""
    blocks = sorted(blocks_of(frame, prefix, split=metric.against_never).iter_rows(named=True), key=by_block)
    rows = [_row(metric, probe, block, context) for block in blocks]
    alone = [row for row in rows if metric.stands_alone(row["condition"])]
    sides: dict[tuple[str | None, str | None], dict[bool, dict[str, Any]]] = {}
    for block, row in zip(blocks, rows, strict=True):
        if block["trained"] is not None:
            sides.setdefault((block["group"], block["base"]), {})[block["trained"]] = row
    return alone + [over_never(metric, base, both[True], both[False]) for (_, base), both in sides.items()]


def by_block(block: Mapping[str, Any]) -> tuple[list[tuple[float, str]], int, str, int]:
    """Order by condition with its numbers as numbers, then pooled, groups, exposure counts, never-trained."""
    return natural(block["of"]), block["part"], block["group"] or "", block["number"] or 0


def natural(condition: str | None) -> list[tuple[float, str]]:
    """Return what conditions are ordered by: their numbers count as numbers."""
    pieces = re.split(r"(\d+(?:\.\d+)?)", condition or "")
    return [(float(piece), "") if piece[:1].isdigit() else (-1.0, piece) for piece in pieces]


def change(now: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Return item values as the change from those of the first checkpoint."""
    return now.join(first, on=["item_id", "condition"], suffix="_first", nulls_equal=True).with_columns(
        value=pl.col("value") - pl.col("value_first")
    )


def blocks_of(frame: pl.DataFrame, prefix: str | None, *, split: bool = False) -> pl.DataFrame:
    """Return one row per block: all items together, each group, each exposure count, per condition.

    With `split` also the trained and the never-trained items, of all and of each group that has both.
    Values are lists in the order of item ids, and of `position` in an item; where one of a pair is
    undefined, both are left out.
    """
    by: list[tuple[int, list[str]]] = [(0, []), (1, ["group"]), (2, ["exposures"])]
    by += [(3, ["trained"]), (3, ["group", "trained"])] if split else []
    keys = frame.clear().select("group", "exposures", "trained")
    position = ["position"] if "position" in frame.columns else []
    # Numbers are quicker to sort and to group by than strings, and there are few conditions.
    ordered = frame.with_columns(pl.col("condition").cast(pl.Categorical)).sort("item", *position)
    blocks = pl.concat(
        [keys, *(_gathered(ordered, columns).with_columns(part=pl.lit(part)) for part, columns in by)],
        how="diagonal",
    )
    last = (
        pl.when(pl.col("part") == 2)
        .then(built(exposures="exposures"))
        .when(pl.col("part") == 3)
        .then(built(trained="trained"))
    )
    # What a condition is made of goes from the general to the particular.
    of = pl.col("condition").cast(pl.String)
    return blocks.with_columns(of=of, base=joined(prefix, of), last=last).with_columns(
        joined(pl.col("base"), pl.col("last")),
        number=pl.coalesce("exposures", pl.col("trained").cast(pl.Int64)),
    )


def _gathered(ordered: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return the values of each block of one kind as lists; of never-trained items only beside trained."""
    columns = [name for name in VALUES if name in ordered.columns]
    known = pl.all_horizontal(pl.col(name).is_not_null() for name in columns)
    series = [name for name in SERIES if name in ordered.columns]
    rows = ordered.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in by)) if by else ordered
    blocks = rows.group_by("condition", *by).agg(
        *(pl.col(name).filter(known) for name in (*columns, *series, "cluster")),
        n_missing=(~known).sum(),
    )
    if "trained" not in by:
        return blocks
    whole = [name for name in ("condition", *by) if name != "trained"]
    return blocks.filter(pl.col("trained").n_unique().over(whole) == 2)


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
        estimate, interval = _estimate(metric, values, others, clusters, most)
        why = None if estimate is None else _why_none(metric, clusters)
    if (
        isinstance(interval, Interval)
        and interval.lo == interval.hi
        and (metric.summary == "mean" or np.ptp(values) == 0)
    ):
        # That the items seen agree does not say that all others do.
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


def _estimate(
    metric: Metric,
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    clusters: NDArray[np.int64],
    most: float,
) -> tuple[float | None, Interval | Median | None]:
    """Return estimate and interval; `most` is what no value can pass, 0 where that is not known.

    One cluster says nothing about how clusters differ, and one value nothing about how values do:
    then no interval is better than a false one.
    """
    if not len(values):
        return None, None
    n_clusters = int(clusters.max()) + 1
    together = clusters if n_clusters < len(values) else None
    if metric.summary == "difference":
        return float((values - others).mean()), paired_difference(
            values, others, clusters=together, level=LEVEL
        )
    if metric.summary == "auc":
        if n_clusters < 2:
            return auc(values, others), None
        area = paired_auc(values, others, clusters=together, level=LEVEL)
        return area.auc, area.interval
    if metric.summary == "km_median":
        found = km_median(values, others > 0, clusters=together, level=LEVEL)
        return found.median, found
    if metric.summary == "median":
        return float(np.median(values)), median_interval(values, together, level=LEVEL)
    estimate = float(values.mean())
    if metric.summary == "rate":
        return estimate, rate_interval(values, clusters, level=LEVEL)
    if metric.within_0_and_1:
        return estimate, share_interval(values, clusters, level=LEVEL)
    if metric.within_1_of_0:
        return estimate, difference_interval(values, clusters=clusters, level=LEVEL)
    if most > 0:
        share = share_interval(values / most, clusters, level=LEVEL)
        return estimate, share and replace(share, lo=most * share.lo, hi=most * share.hi)
    return estimate, mean_interval(values, together, level=LEVEL)


def _why_none(metric: Metric, clusters: NDArray[np.int64]) -> str:
    """Return what stands for the method where `_estimate` has no interval."""
    why = why_none(clusters)
    if why != FEW_CLUSTERS and metric.summary == "median":
        return FEW_FOR_MEDIAN
    return why if metric.summary == "mean" else FEW_CLUSTERS


def series_of(block: Mapping[str, Any]) -> list[Series]:
    """Return the values of a block as one series for each item."""
    values, weights = (np.asarray(block[name], dtype=np.float64) for name in ("value", "weight"))
    items = np.asarray(block["item"])
    borders = np.flatnonzero(items[1:] != items[:-1]) + 1
    starts = [0, *borders.tolist()] if len(items) else []
    passage = block["passage"][0] if len(items) and "passage" in block else None
    known = None if passage is None or np.isnan(passage) else int(passage)
    return [
        Series(values[start:stop], weights[start:stop], int(block["overlap"][start]), known)
        for start, stop in zip(starts, [*starts[1:], len(items)], strict=True)
    ]


def estimate_series(
    metric: Metric, series: list[Series], seed: tuple[str, ...]
) -> tuple[float | None, Blocked]:
    """Return estimate and interval of values that overlap their neighbours."""
    if not series:
        return None, Blocked(None)
    estimate = weighted_mean(series)
    if metric.unit == "fraction":
        return estimate, blocks_interval(series, low=-1.0 if metric.within_1_of_0 else 0.0, level=LEVEL)
    interval = moving_blocks(series, rng=rng_of(seed), level=LEVEL)
    if interval is not None and interval.lo == interval.hi:
        return estimate, Blocked(None, NO_SPREAD)
    return estimate, Blocked(interval, FEW_CLUSTERS if interval is None else None)


def rng_of(seed: tuple[str, ...]) -> np.random.Generator:
    """Return a source of draws that depends on these words alone."""
    digest = hashlib.sha256("\x1f".join(seed).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def condition_prefixes(entries: tuple[Entry, ...]) -> list[str | None]:
    """Return, for each entry, the settings that tell it from other entries of the same probe."""
    prefixes = []
    for entry in entries:
        twins = [settings_table(each.settings) for each in entries if each.probe.name == entry.probe.name]
        mine = settings_table(entry.settings)
        differing = [name for name in mine if any(twin.get(name) != mine[name] for twin in twins)]
        prefixes.append(build(**{name: _short(mine[name]) for name in differing}))
    return prefixes
