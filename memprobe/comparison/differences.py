"""The differences of one metric between two checkpoints, block by block: all items, groups, exposures.

For means and rates, the differences of the items are averaged. Other statistics are computed for both runs
in every resample. A metric without item values gives a row with the reason. Values that differ by rounding
only count as the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.pipeline.blocks import VALUES, blocks_of, by_block
from memprobe.pipeline.contrast import NEVER, beside_control, with_control
from memprobe.pipeline.estimate import estimate_series, rng_of, series_of
from memprobe.probes.contract import Metric
from memprobe.stats.bootstrap import bootstrap_mean
from memprobe.stats.differences import difference_interval, independent_difference, paired_difference
from memprobe.stats.intervals import LEVEL, Interval
from memprobe.stats.paired import (
    Statistic,
    auc_statistic,
    bootstrap_difference,
    discordant,
    km_median_statistic,
    median_statistic,
    whole,
)

Floats = NDArray[np.float64]
_KEYS = ("item_id", "condition")
# Equal weights score an item some 1e-6 nats apart where it lies in another batch, and for some shapes always
# to one side, so that resampling would find a difference. Shares of tokens and ranks differ by far more.
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Found:
    """A difference of one block, without its keys.

    Attributes:
        base: Estimate in the base run.
        new: Estimate in the new run.
        difference: New minus base; None if there is none, see `reason`.
        interval: Interval of the difference; None if there is none.
        reason: Why there is no difference.
    """

    base: float | None = None
    new: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    reason: str | None = None


def of_metric(
    metric: Metric,
    base: pl.DataFrame,
    new: pl.DataFrame,
    about: pl.DataFrame,
    prefix: str | None,
    seed: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    """Yield the differences of a metric, and of its excess over never-trained items where it has one.

    Args:
        metric: The metric; it must have item values.
        base: Item values of the metric in the base run.
        new: Item values in the new run.
        about: Facts of the items that both runs hold: `item_id, item, group, exposures, cluster, trained`.
        prefix: Beginning of every condition.
        seed: Words that the draws depend on.
    """
    pairs = _pairs(base, new).join(about, on="item_id")
    blocks = sorted(_arrays(blocks_of(pairs, prefix, split=metric.against_never)), key=by_block)
    sides: dict[tuple[str | None, str | None], dict[bool, dict[str, Any]]] = {}
    for block in blocks:
        row = _row(metric, block, seed)
        if block["trained"] is not None:
            sides.setdefault((block["group"], block["base"]), {})[block["trained"]] = row
        if metric.stands_alone(block["condition"]):
            yield row
    for (_, condition), both in sides.items():
        yield _over_never(metric, condition, both[True], both[False])


def _arrays(blocks: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield blocks with their lists as arrays, which is ten times as fast as with lists of numbers."""
    lists = [name for name, dtype in blocks.schema.items() if dtype == pl.List]
    columns = {name: blocks[name] for name in lists}
    for place, row in enumerate(blocks.drop(lists).iter_rows(named=True)):
        yield row | {name: column[place].to_numpy() for name, column in columns.items()}


def _pairs(base: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return each item's values in both runs; for values in a series, their differences."""
    if "position" in new.columns:
        apart = pl.col("value").abs() > ROUNDING
        return beside_control(new, base).with_columns(
            value=pl.when(apart | pl.col("value").is_null()).then("value").otherwise(0.0)
        )
    if "other" not in new.columns:
        return beside_control(new, base).with_columns(_settled("value", "other"))
    there = base.select(*_KEYS, value_base="value", other_base="other")
    joined = new.join(there, on=list(_KEYS), how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(_settled("value", "value_base"), _settled("other", "other_base"))


def _settled(now: str, was: str) -> pl.Expr:
    """Return the new value, or the base value if they differ by rounding only."""
    # Two infinities have no distance, and are the same already.
    same = (pl.col(now) - pl.col(was)).abs() <= ROUNDING
    return pl.when(same).then(was).otherwise(now).alias(now)


def _row(metric: Metric, block: Mapping[str, Any], seed: tuple[str, ...]) -> dict[str, Any]:
    numbers, clusters = np.unique(np.asarray(block["cluster"], dtype=np.int64), return_inverse=True)
    values = np.asarray(block["value"], dtype=np.float64)
    together = clusters if len(numbers) < len(values) else None
    words = (*seed, metric.name, str(block["group"]), str(block["condition"]))
    found = _found(metric, block, together, words)
    row = {
        "metric": metric.name,
        "group": block["group"],
        "condition": block["condition"],
        "n_items": len(values),
        "n_clusters": len(numbers),
        "n_missing": block["n_missing"],
        "n_changed": _changed(block),
        "unit": metric.unit,
        **_described(metric, found),
    }
    if metric.summary == "rate" and "position" not in block and len(values):
        counts = discordant(np.asarray(block["other"], dtype=np.float64), values)
        row |= {"n_base_only": counts.first_only, "n_new_only": counts.second_only}
        row |= {"p_value": counts.p_value if together is None else None}
    return row


def _changed(block: Mapping[str, Any]) -> int:
    """Return the number of items whose values differ between the runs."""
    columns = {name: np.asarray(block[name], dtype=np.float64) for name in VALUES if name in block}
    if "position" in block:
        return int(np.count_nonzero(columns["value"]))
    if "value_base" not in columns:
        return int((columns["value"] != columns["other"]).sum())
    first, second = (columns[name] != columns[f"{name}_base"] for name in ("value", "other"))
    return int((first | second).sum())


def _described(metric: Metric, found: Found) -> dict[str, Any]:
    interval = found.interval
    return {
        "base": found.base,
        "new": found.new,
        "difference": found.difference,
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_level": LEVEL,
        "ci_method": interval.method if interval else None,
        "outcome": _outcome(metric, interval),
        "reason": found.reason,
    }


def _outcome(metric: Metric, interval: Interval | None) -> str | None:
    """Return the outcome that the interval supports; more memorized is worse."""
    if interval is None or not metric.more_means or metric.more_is_memorized is None:
        return None
    if interval.lo <= 0 <= interval.hi:
        return "unclear"
    return "worse" if (interval.lo > 0) == metric.more_is_memorized else "better"


def _found(
    metric: Metric, block: Mapping[str, Any], clusters: NDArray[np.int64] | None, words: tuple[str, ...]
) -> Found:
    if not len(block["value"]):
        return Found(reason="no item has a value in both runs")
    rng = rng_of(words)
    if "position" in block:
        difference, blocked = estimate_series(metric.excess(), series_of(block), words)
        return Found(difference=difference, interval=blocked.interval)
    columns = [np.asarray(block[name], dtype=np.float64) for name in VALUES if name in block]
    if metric.summary == "difference":
        value, other, value_base, other_base = columns
        return _of_means(metric, value - other, value_base - other_base, clusters, rng)
    if metric.summary in ("rate", "mean"):
        return _of_means(metric, columns[0], columns[1], clusters, rng)
    new, base = _statistics(metric, columns)
    n = len(columns[0])
    now, was = whole(new, n), whole(base, n)
    if not (np.isfinite(now) and np.isfinite(was)):
        which = [name for name, value in (("base", was), ("new", now)) if not np.isfinite(value)]
        return Found(
            base=was if np.isfinite(was) else None,
            new=now if np.isfinite(now) else None,
            reason=f"the median is not reached in the {' and the '.join(which)} run",
        )
    interval = bootstrap_difference(new, base, n, rng=rng, clusters=clusters, level=LEVEL)
    return Found(was, now, now - was, interval)


def _statistics(metric: Metric, columns: list[Floats]) -> tuple[Statistic, Statistic]:
    if metric.summary == "median":
        return median_statistic(columns[0]), median_statistic(columns[1])
    value, other, value_base, other_base = columns
    if metric.summary == "km_median":
        return km_median_statistic(value, other > 0), km_median_statistic(value_base, other_base > 0)
    return auc_statistic(value, other), auc_statistic(value_base, other_base)


def _of_means(
    metric: Metric, new: Floats, base: Floats, clusters: NDArray[np.int64] | None, rng: np.random.Generator
) -> Found:
    if not (np.isfinite(new).all() and np.isfinite(base).all()):
        return Found(reason="an item's value is infinite, so there is no mean")
    difference = new - base
    found = Found(float(base.mean()), float(new.mean()), float(difference.mean()))
    interval: Interval | None
    if metric.within_0_and_1:
        interval = paired_difference(new, base, clusters=clusters, level=LEVEL)
    elif metric.within_1_of_0:
        interval = difference_interval(difference, clusters=clusters, reach=2, level=LEVEL)
    else:
        n_clusters = len(new) if clusters is None else int(clusters.max()) + 1
        # Where all differences are the same, resampling shows no spread.
        spread = n_clusters > 1 and np.ptp(difference) > 0
        interval = bootstrap_mean(difference, rng=rng, clusters=clusters, level=LEVEL) if spread else None
    return Found(found.base, found.new, found.difference, interval)


def _over_never(
    metric: Metric, condition: str | None, trained: Mapping[str, Any], never: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how much more a rate rose on trained items than on never-trained ones."""
    excess = metric.excess()
    if trained["reason"] or never["reason"]:
        found = Found(reason=trained["reason"] or never["reason"])
    else:
        sides = [_interval(side) for side in (trained, never)]
        interval = None
        if sides[0] is not None and sides[1] is not None:
            interval = independent_difference(trained["difference"], sides[0], never["difference"], sides[1])
        found = Found(
            None if trained["base"] is None else trained["base"] - never["base"],
            None if trained["new"] is None else trained["new"] - never["new"],
            trained["difference"] - never["difference"],
            interval,
        )
    return {
        "metric": excess.name,
        "group": trained["group"],
        "condition": with_control(condition, NEVER),
        **{name: trained[name] + never[name] for name in ("n_items", "n_clusters", "n_missing", "n_changed")},
        "unit": excess.unit,
        **_described(excess, found),
    }


def _interval(row: Mapping[str, Any]) -> Interval | None:
    if row["ci_low"] is None:
        return None
    return Interval(row["ci_low"], row["ci_high"], row["ci_level"], row["ci_method"])


def not_compared(rows: pl.DataFrame, metrics: Iterable[str], reason: str) -> Iterator[dict[str, Any]]:
    """Yield summary rows of some metrics, marked as not compared.

    Args:
        rows: Rows of `SUMMARY`.
        metrics: Only rows of these metrics are yielded.
        reason: Why they are not compared.
    """
    for row in rows.filter(pl.col("metric").is_in(list(metrics))).iter_rows(named=True):
        same = {name: row[name] for name in ("metric", "group", "condition", "ci_level", "unit")}
        yield same | {"n_items": 0, "n_clusters": 0, "n_missing": 0, "reason": reason}
