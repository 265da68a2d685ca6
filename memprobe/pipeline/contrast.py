"""Excess of a rate over the rate on items never trained on, or over the rate of a control model.

A rate is no evidence of memory if a model that never saw the text reaches it too, as Carlini et al. (2022),
section 3, https://arxiv.org/abs/2202.07646, show with a control.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.probes.contract import Metric
from memprobe.stats.differences import independent_difference
from memprobe.stats.intervals import Interval
from memprobe.tables.clusters import cluster_names
from memprobe.tables.conditions import build, join
from memprobe.tables.facts import TRAINED, with_trained

NEVER = "never-trained"


@dataclass(frozen=True, slots=True)
class Control:
    """The values of one probe entry on the control model.

    Attributes:
        label: Name of the control in conditions.
        identity: Model, revision and score key of the control, for signatures.
        values: Each metric's item-level values, as `item_values` gives them.
    """

    label: str
    identity: str
    values: Mapping[str, pl.DataFrame]


def about_items(items: pl.DataFrame, given: Collection[str]) -> pl.DataFrame:
    """Return the facts of items that summaries use: `item_id, item, group, exposures, cluster, trained`.

    Clusters are those of `cluster_names`. `item` and `cluster` are numbers in the order of their names.
    """
    return with_trained(items, given).select(
        "item_id",
        "group",
        "exposures",
        item=pl.col("item_id").rank("dense"),
        cluster=cluster_names(items).rank("dense"),
        trained=TRAINED,
    )


def over_never(
    metric: Metric, condition: str | None, trained: Mapping[str, Any], never: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the summary row of a rate on trained items in excess of the rate on never-trained ones.

    Args:
        metric: The rate.
        condition: Condition that both rows share.
        trained: The row of the trained items.
        never: The row of the never-trained items.
    """
    excess = metric.excess()
    estimate = interval = None
    if trained["estimate"] is not None and never["estimate"] is not None:
        estimate = trained["estimate"] - never["estimate"]
        sides = _interval(trained), _interval(never)
        if sides[0] is not None and sides[1] is not None:
            interval = independent_difference(trained["estimate"], sides[0], never["estimate"], sides[1])
    return {
        **trained,
        "metric": excess.name,
        "condition": with_control(condition, NEVER),
        "estimate": estimate,
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_method": interval.method if interval else _why_none(trained, never),
        **{name: trained[name] + never[name] for name in ("n_items", "n_clusters", "n_missing")},
        "unit": excess.unit,
    }


def with_control(condition: str | None, label: str) -> str:
    """Return a condition that names the control of an excess."""
    return join(condition, build(control=label)) or ""


def beside_control(frame: pl.DataFrame, control: pl.DataFrame) -> pl.DataFrame:
    """Return item values with the control's values as `other`, null if it has none.

    Values in a series become differences instead: neighbours overlap under both models.
    """
    series = "position" in frame.columns
    keys = ["item_id", "condition", *(["position"] if series else [])]
    other = control.select(*keys, other="value")
    joined = frame.join(other, on=keys, how="left", nulls_equal=True, maintain_order="left")
    if not series:
        return joined
    return joined.with_columns(value=pl.col("value") - pl.col("other")).drop("other")


def _why_none(trained: Mapping[str, Any], never: Mapping[str, Any]) -> str | None:
    """Return why a side has no interval; None if both have one."""
    found = next((side["ci_method"] for side in (trained, never) if side["ci_low"] is None), None)
    return None if found is None else str(found)


def _interval(row: Mapping[str, Any]) -> Interval | None:
    if row["ci_low"] is None:
        return None
    return Interval(row["ci_low"], row["ci_high"], row["ci_level"], row["ci_method"])
