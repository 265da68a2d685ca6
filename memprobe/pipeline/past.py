"""A sequence as probes over time see it: item rows of all its checkpoints, and what is told of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from memprobe.errors import Problem
from memprobe.items import CONTENT
from memprobe.pipeline.planning import SequencePlan, Target
from memprobe.pipeline.summarise import LEVEL, condition_prefixes, rng_of, signature
from memprobe.probes.base import History, Told
from memprobe.suite import Entry
from memprobe.tables.catalogue import SUMMARY


def about_time(plan: SequencePlan) -> pl.DataFrame:
    """Return what probes over time know of the items: every column but their texts."""
    return plan.lengths.table.drop(CONTENT, strict=False)


def is_control_alone(plan: SequencePlan, manifest: Mapping[str, Any]) -> bool:
    """Whether the sequence is nothing but the control, of which nothing is asked over time."""
    control = manifest.get("control")
    return control is not None and [(each.model, each.revision) for each in plan.targets] == [
        (control["model"], control["revision"])
    ]


def impossible(plan: SequencePlan, manifest: Mapping[str, Any]) -> list[Problem]:
    """Return why an entry over time cannot be answered for this sequence."""
    if is_control_alone(plan, manifest):
        return []
    steps = tuple(sorted(target.step for target in plan.targets))
    return [
        Problem(f"{each.entry.probe.name}: {text}", plan.targets[0].model)
        for each in plan.entries
        if each.entry.probe.over_time is not None
        for text in each.entry.probe.over_time.problems(steps, about_time(plan), each.entry.settings)
    ]


class Past:
    """The rows of one sequence, gathered checkpoint by checkpoint, for the entries that look over time.

    Attributes:
        plan: What is asked of the sequence.
        manifest: Of the run, for its seed and scoring options.
    """

    def __init__(self, plan: SequencePlan, manifest: Mapping[str, Any]) -> None:
        self.plan, self.manifest = plan, manifest
        self._rows: dict[int, list[pl.DataFrame]] = {
            place: []
            for place, each in enumerate(plan.entries)
            if each.entry.probe.over_time is not None and not is_control_alone(plan, manifest)
        }
        self._seen: list[Target] = []

    def add(self, place: int, target: Target, table: pl.DataFrame) -> None:
        """Add what the entry at `place` measured at one checkpoint."""
        if place in self._rows:
            self._rows[place].append(table)
            if target not in self._seen:
                self._seen.append(target)

    def tell(self) -> Iterator[Told]:
        """Yield what each entry says of the sequence; tables and estimates are complete rows."""
        prefixes = condition_prefixes(tuple(each.entry for each in self.plan.entries))
        for place, rows in self._rows.items():
            if rows:
                yield self._told(self.plan.entries[place].entry, prefixes[place], pl.concat(rows))

    def _told(self, entry: Entry, prefix: str | None, rows: pl.DataFrame) -> Told:
        over_time = entry.probe.over_time
        if over_time is None:
            raise ValueError(f"{entry.probe.name} does not look over time")
        ordered = sorted(self._seen, key=lambda target: target.step)
        told = over_time.tell(
            History(
                rows=rows.sort("step", "item_id"),
                steps=tuple(target.step for target in ordered),
                missing=tuple(each.label for each in self.plan.targets if each not in self._seen),
                items=about_time(self.plan),
                draws=lambda what: self._rng(entry, prefix, what),
            ),
            entry.settings,
        )
        model = self.plan.targets[0].model
        named = [pl.lit(model).alias("model"), *([pl.lit(prefix).alias("entry")] if prefix else [])]
        tables = {name: table.select(*named, pl.all()) for name, table in told.tables.items()}
        warnings = tuple(f"{model}, {entry.probe.name}: {text}" for text in told.warnings)
        return Told(tables, self._summary(entry, prefix, told.estimates), warnings)

    def _rng(self, entry: Entry, prefix: str | None, what: str) -> np.random.Generator:
        return rng_of((str(self.manifest["seed"]), entry.probe.name, what, str(prefix)))

    def _summary(self, entry: Entry, prefix: str | None, estimates: pl.DataFrame) -> pl.DataFrame:
        target = self.plan.targets[0]
        scoring = (
            f"bos:{self.manifest['bos']}|{self.manifest['dtype']}|tok:{(target.tokenizer or 'none')[:12]}"
        )
        condition = pl.concat_str(
            pl.lit(prefix, dtype=pl.String), "condition", separator=";", ignore_nulls=True
        )
        return SUMMARY.conform(
            estimates.select(
                pl.lit(target.model).alias("model"),
                pl.lit(None, dtype=pl.String).alias("revision"),
                pl.lit(None, dtype=pl.Int64).alias("step"),
                pl.lit(entry.probe.name).alias("probe"),
                "metric",
                "group",
                pl.when(condition != "").then(condition).alias("condition"),
                "estimate",
                "ci_low",
                "ci_high",
                pl.lit(LEVEL).alias("ci_level"),
                "ci_method",
                "n_items",
                "n_clusters",
                "n_missing",
                "unit",
                pl.lit(entry.probe.version).alias("version"),
                pl.lit(signature(entry, scoring)).alias("signature"),
            )
        )
