"""The history of a sequence for probes over time: the item rows of all its checkpoints, and the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from memprobe.errors import Problem
from memprobe.items import CONTENT
from memprobe.pipeline.estimate import rng_of
from memprobe.pipeline.plans import SequencePlan, Target
from memprobe.pipeline.signature import condition_prefixes, signature
from memprobe.pipeline.suite import Entry
from memprobe.probes.contract import History, OtherSequence, OverTime, SequenceResult
from memprobe.stats.intervals import LEVEL
from memprobe.tables.conditions import joined
from memprobe.tables.facts import with_trained
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.manifest import Manifest
from memprobe.tables.summary import SUMMARY

_NO_STEP = "needs at least two checkpoints in the order of their training, and this one has no step"


def about_time(plan: SequencePlan) -> pl.DataFrame:
    """Return the items for probes over time: all columns except the texts, and `trained`."""
    return with_trained(plan.lengths.table.drop(CONTENT, strict=False), plan.lengths.given)


def is_control_alone(plan: SequencePlan, manifest: Manifest) -> bool:
    """Return whether the sequence is only the control, which no probe over time is asked about."""
    control = manifest.control
    return control is not None and [(each.model, each.revision) for each in plan.targets] == [control.name]


def parameters_of(target: Target, manifest: Manifest) -> int | None:
    """Return the number of a checkpoint's parameters; None if it is not known."""
    for each in manifest.checkpoints:
        if each.name == (target.model, target.revision):
            return each.n_parameters
    return None


def impossible(plans: Sequence[SequencePlan], manifest: Manifest) -> list[Problem]:
    """Return why entries over time cannot be answered.

    An entry that also uses other sequences is refused only if no sequence of the run has an answer.
    """
    asked = [plan for plan in plans if not is_control_alone(plan, manifest)]
    problems = []
    for place in range(len(asked[0].entries) if asked else 0):
        entry = asked[0].entries[place].entry
        if (over_time := entry.probe.over_time) is None:
            continue
        found = [_problems(plan, asked, entry, over_time, manifest) for plan in asked]
        if over_time.check_predictors is None or all(found):
            problems += [problem for each in found for problem in each]
    return problems


def _problems(
    plan: SequencePlan,
    plans: Sequence[SequencePlan],
    entry: Entry,
    over_time: OverTime,
    manifest: Manifest,
) -> list[Problem]:
    steps = _steps(plan.targets)
    # A checkpoint without a step is alone in its sequence.
    can_ask = steps or over_time.check_predictors is not None
    texts = over_time.problems(steps, about_time(plan), entry.settings) if can_ask else [_NO_STEP]
    if over_time.check_predictors is not None:
        others = (_as_other(each, plan, manifest) for each in plans if each is not plan)
        texts += over_time.check_predictors(_as_other(plan, plan, manifest), tuple(others))
    return [Problem(f"{entry.probe.name}: {text}", plan.targets[0].model) for text in texts]


def _steps(targets: Sequence[Target]) -> tuple[int, ...]:
    """Return the steps, ascending; empty for a checkpoint without one."""
    return tuple(sorted(target.step for target in targets if target.step is not None))


def _as_other(plan: SequencePlan, seen_from: SequencePlan, manifest: Manifest) -> OtherSequence:
    """Return a sequence as probes of other sequences see it, before it is scored."""
    # Items given as ids are the same tokens for every model.
    as_ids = not {"text", "prefix"} & manifest.given
    return OtherSequence(
        model=plan.targets[0].model,
        steps=_steps(plan.targets),
        n_parameters=_n_parameters(plan, manifest),
        same_tokens=as_ids or plan.targets[0].tokenizer == seen_from.targets[0].tokenizer,
    )


def _n_parameters(plan: SequencePlan, manifest: Manifest) -> int | None:
    known = (parameters_of(target, manifest) for target in plan.targets)
    return next((each for each in known if each is not None), None)


@dataclass(frozen=True, slots=True)
class EntryResult:
    """The result of an entry for a sequence.

    Attributes:
        model: The sequence.
        probe: Name of the entry's probe.
        entry: The settings that distinguish it from other entries of its probe; None: it is the only entry.
        result: Result with complete rows.
    """

    model: str
    probe: str
    entry: str | None
    result: SequenceResult


class HistoryBuilder:
    """Collects the rows of one sequence, checkpoint by checkpoint, for entries over time.

    Attributes:
        plan: Plan of the sequence.
        manifest: Manifest of the run, for seed and scoring options.
    """

    def __init__(self, plan: SequencePlan, manifest: Manifest) -> None:
        self.plan, self.manifest = plan, manifest
        self._rows: dict[int, list[pl.DataFrame]] = {
            place: []
            for place, each in enumerate(plan.entries)
            if each.entry.probe.over_time is not None and not is_control_alone(plan, manifest)
        }
        self._seen: list[Target] = []

    def add(self, place: int, target: Target, table: pl.DataFrame) -> None:
        """Add the rows that the entry at `place` measured at one checkpoint."""
        if place in self._rows:
            # Keys and the user's columns are left out: a sequence must fit in memory.
            probe = self.plan.entries[place].entry.probe
            own = [name for name in probe.table.columns if name not in ITEM_KEYS]
            self._rows[place].append(table.select("item_id", "step", *own))
            if target not in self._seen:
                self._seen.append(target)

    def results(self) -> Iterator[EntryResult]:
        """Yield the result of each entry that uses this sequence only, with complete rows.

        The collected rows of these entries are freed.
        """
        for place in list(self._rows):
            if not self._checks_others(place):
                yield from self._results(place, ())
                del self._rows[place]

    def results_with_others(self, histories: "Sequence[HistoryBuilder]") -> Iterator[EntryResult]:
        """Yield the results of the entries whose probe also uses other sequences of the run.

        Args:
            histories: The builders of all sequences of the run, with the rows of all checkpoints.
        """
        for place in self._rows:
            others = [each.as_other(place, self.plan) for each in histories if each is not self]
            yield from self._results(place, tuple(each for each in others if each is not None))

    def _checks_others(self, place: int) -> bool:
        over_time = self.plan.entries[place].entry.probe.over_time
        return over_time is not None and over_time.check_predictors is not None

    def _rows_of(self, place: int) -> pl.DataFrame:
        parts = self._rows[place]
        if len(parts) > 1:
            parts[:] = [pl.concat(parts).sort("step", "item_id")]
        return parts[0]

    def _steps(self) -> tuple[int, ...]:
        return _steps(self._seen)

    def _missing(self) -> tuple[str, ...]:
        return tuple(each.label for each in self.plan.targets if each not in self._seen)

    def as_other(self, place: int, seen_from: SequencePlan) -> OtherSequence | None:
        """Return this sequence as probes of other sequences see it; None if none of it is scored."""
        if not self._rows.get(place):
            return None
        about = _as_other(self.plan, seen_from, self.manifest)
        return replace(about, steps=self._steps(), rows=self._rows_of(place), missing=self._missing())

    def _results(self, place: int, others: tuple[OtherSequence, ...]) -> Iterator[EntryResult]:
        """Yield the result of one entry; nothing if no checkpoint is scored."""
        entry = self.plan.entries[place].entry
        over_time = entry.probe.over_time
        if over_time is None or not self._rows[place]:
            return
        prefix = condition_prefixes(tuple(each.entry for each in self.plan.entries))[place]
        history = History(
            rows=self._rows_of(place),
            steps=self._steps(),
            missing=self._missing(),
            items=about_time(self.plan),
            draws=lambda what: self._rng(entry, prefix, what),
            model=self.plan.targets[0].model,
            n_parameters=_n_parameters(self.plan, self.manifest),
            others=others,
        )
        result = self._completed(entry, prefix, over_time.estimate(history, entry.settings))
        yield EntryResult(history.model, entry.probe.name, prefix, result)

    def _completed(self, entry: Entry, prefix: str | None, result: SequenceResult) -> SequenceResult:
        model = self.plan.targets[0].model
        named = [pl.lit(model).alias("model"), *([pl.lit(prefix).alias("entry")] if prefix else [])]
        tables = {name: table.select(*named, pl.all()) for name, table in result.tables.items()}
        warnings = tuple(f"{model}, {entry.probe.name}: {text}" for text in result.warnings)
        return replace(
            result, tables=tables, estimates=self._summary(entry, prefix, result.estimates), warnings=warnings
        )

    def _rng(self, entry: Entry, prefix: str | None, what: str) -> np.random.Generator:
        return rng_of((str(self.manifest.seed), entry.probe.name, what, str(prefix)))

    def _summary(self, entry: Entry, prefix: str | None, estimates: pl.DataFrame) -> pl.DataFrame:
        target = self.plan.targets[0]
        scoring = self.manifest.scoring_signature(target.tokenizer)
        return SUMMARY.conform(
            estimates.select(
                pl.lit(target.model).alias("model"),
                pl.lit(None, dtype=pl.String).alias("revision"),
                pl.lit(None, dtype=pl.Int64).alias("step"),
                pl.lit(entry.probe.name).alias("probe"),
                "metric",
                "group",
                joined(prefix, pl.col("condition")),
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
