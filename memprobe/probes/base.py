"""What a probe is: settings, plan, measure, declared metrics; and how probes are found.

A probe never sees a model. `plan` turns item lengths into requests; `measure` turns the answered
requests of one checkpoint into item-level rows. The metrics it declares carry their own values per
item and condition, so summary, report, compare and gate serve a new probe unseen.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal

import polars as pl

from memprobe.errors import SuiteError, near_miss
from memprobe.tables.requests import Plan
from memprobe.tables.schema import TableSchema

# How item values become an estimate: `rate` of values in {0, 0.5, 1} by Wilson, `mean` by bootstrap,
# `auc` of `value` against `other`. Where items overlap in clusters, rates and means take the cluster
# bootstrap instead.
SummaryKind = Literal["rate", "mean", "auc"]


@dataclass(frozen=True, slots=True)
class Scores:
    """What `measure` gets for one checkpoint.

    Attributes:
        spans: One answered row of `SPANS` per request of the plan.
        items: The items' table, keyed by `item_id`, with lengths; no text, no ids.
    """

    spans: pl.DataFrame
    items: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a probe.

    Attributes:
        name: Its name, with the unit at the end.
        unit: Unit of the estimate.
        more_means: What a larger value says; empty for a metric whose sign says nothing.
        summary: How item values become an estimate.
        values: From the item-level table and the settings to `item_id, condition, value` (and
            `other` for `auc`): `condition` is `key=value;...` or null, `value` Float64, null where
            undefined.
        since_first: The value is taken as the change from the sequence's first checkpoint.
        more_is_memorized: Direction: True where more means more memorized.
    """

    name: str
    unit: str
    more_means: str
    summary: SummaryKind
    values: Callable[[pl.DataFrame, Any], pl.DataFrame]
    since_first: bool = False
    more_is_memorized: bool = True


def no_checks(_: pl.DataFrame) -> dict[str, int]:
    """Count nothing."""
    return {}


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe.

    Attributes:
        name: As in suites and tables.
        version: Of the definition: a number that could change raises it.
        title: What it asks, in one line.
        formula: The definition, in one or two lines.
        source: The paper.
        settings: A frozen dataclass of the options, checked when made.
        needs: Item columns that an item must have to be measured.
        plan: From the items' table and the settings to the requests.
        measure: From the scores of one checkpoint and the settings to rows of `table`, keyed by
            `item_id` and what the schema adds.
        table: The schema of the item-level table.
        metrics: What is summarised.
        checks: Counts for the manifest, from the item's spans.
        over_time: Two checkpoints with the same weights are an error, not a warning.
    """

    name: str
    version: int
    title: str
    formula: str
    source: str
    settings: type
    needs: tuple[str, ...]
    plan: Callable[[pl.DataFrame, Any], Plan]
    measure: Callable[[Scores, Any], pl.DataFrame]
    table: TableSchema
    metrics: tuple[Metric, ...]
    checks: Callable[[pl.DataFrame], dict[str, int]] = field(default=no_checks)
    over_time: bool = False

    def metric(self, name: str) -> Metric:
        """Return the metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def options(self) -> Mapping[str, Any]:
        """Return setting names and their defaults."""
        defaults = self.settings()
        return {each.name: getattr(defaults, each.name) for each in fields(self.settings)}


@cache
def discover() -> dict[str, Probe]:
    """Return all probes by name: every module of this package that has `PROBE`."""
    package = importlib.import_module("memprobe.probes")
    modules = (
        importlib.import_module(f"memprobe.probes.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    )
    found = [module.PROBE for module in modules if hasattr(module, "PROBE")]
    return {probe.name: probe for probe in sorted(found, key=lambda probe: str(probe.name))}


def find(name: str) -> Probe:
    """Return the probe of that name.

    Raises:
        SuiteError: There is none; the message suggests the nearest.
    """
    probes = discover()
    if name not in probes:
        raise SuiteError(
            f"unknown probe `{name}`{near_miss(name, probes)}", fix=f"probes are {', '.join(probes)}"
        )
    return probes[name]


def whole(values: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return `item_id, condition, value` of one column under no condition."""
    return values.select(
        "item_id", condition=pl.lit(None, dtype=pl.String), value=pl.col(column).cast(pl.Float64)
    )
