"""The contents of a run that rules use: its rows, its checkpoints, and the metrics that probes declare."""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

import polars as pl

from memprobe.errors import Problem
from memprobe.gates.rules import Limit, Rule, RuleSet, place
from memprobe.pipeline.reading import Run
from memprobe.tables.conditions import parse
from memprobe.tables.manifest import Manifest
from memprobe.tables.summary import SUMMARY
from memprobe.wording import counted, near_miss

KEYS = ("model", "revision", "step", "group")
"""What `where` may name of the summary's columns; all else is part of a condition."""
POOLED = ("group", "exposures", "trained", "control", "target")
"""Left out of `where`, these select the row over all their values, not each value."""
# Units of counts, which are 0 or more.
_COUNTED = ("tokens", "steps", "events", "characters", "chars")


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as its probe declares it.

    Attributes:
        unit: Unit of the estimate.
        summary: How item values become an estimate, as in `memprobe.probes.contract`.
        more_is_memorized: Whether more means more memorized; None if the metric has no direction.
    """

    unit: str
    summary: str
    more_is_memorized: bool | None = True

    @property
    def is_rate(self) -> bool:
        """Return whether the metric is always between 0 and 1."""
        return self.unit == "fraction" and self.summary in ("rate", "auc")

    def caps_memory(self, limit: Limit) -> bool:
        """Return whether a limit bounds memorization, so that items that are not memorized meet it."""
        above = limit in ("max", "max_increase")
        return self.more_is_memorized is not None and above == self.more_is_memorized

    def range(self, *, relative: bool) -> tuple[float, float, str]:
        """Return the range of possible values of the metric or its difference from a baseline, and why."""
        if self.unit == "fraction":
            low, what = (0, "a rate") if self.is_rate else (-1, "a share or a difference of shares")
            if not relative:
                return low, 1, f"{what} lies between {low} and 1"
            # The difference of two values between low and 1.
            widest = 1 - low
            return -widest, widest, f"a difference of this lies between {-widest} and {widest}"
        if self.unit in _COUNTED and not relative and self.summary != "difference":
            return 0, math.inf, f"a number of {self.unit} is 0 or more"
        return -math.inf, math.inf, ""


@dataclass(frozen=True, slots=True)
class Known:
    """The contents of a run that rules use.

    Attributes:
        rows: The summary; empty if the run is not finished.
        steps: For each model, the steps of all requested checkpoints, ascending; a single None for a
            checkpoint without a step.
        revisions: Revisions of the checkpoints, by model and step.
        metrics: Metrics by probe and name: those of the run, and of all probes if a rule names another one.
        incomplete: Why the run is incomplete; empty if it is complete.
    """

    rows: pl.DataFrame
    steps: Mapping[str, tuple[int | None, ...]]
    revisions: Mapping[tuple[str, int | None], str]
    metrics: Mapping[str, Mapping[str, Declared]]
    incomplete: str

    def of(self, rule: Rule) -> pl.DataFrame:
        """Return the rows of a rule's metric."""
        return self.rows.filter(probe=rule.probe, metric=rule.metric)


def know(run: Run, rules: RuleSet, *, unfinished: bool) -> Known:
    """Read the contents of a run that rules use.

    Args:
        run: The run.
        rules: The rules.
        unfinished: Whether to read the summary of a run that is not finished, too.
    """
    about = run.about
    rows = run.summary if run.finished or unfinished else SUMMARY.empty()
    # A checkpoint that failed has no rows, but may still be the last one.
    steps: dict[str, set[int | None]] = {}
    for each in about.checkpoints:
        steps.setdefault(each.model, set()).add(each.step)
    return Known(
        rows=rows,
        steps={model: _ascending(found) for model, found in steps.items()},
        revisions={(each.model, each.step): each.revision for each in about.checkpoints},
        metrics=_metrics(about, rules),
        incomplete=_incomplete(run),
    )


def _ascending(steps: Set[int | None]) -> tuple[int | None, ...]:
    """Return the steps in ascending order, without None; `(None,)` if there are no others."""
    return tuple(sorted(step for step in steps if step is not None)) or (None,)


def _incomplete(run: Run) -> str:
    if not run.finished:
        return "the run is not finished: repeat the same `memprobe run` to continue it"
    if not run.failures:
        return ""
    first = run.failures[0]
    return (
        f"{counted(len(run.failures), 'checkpoint')} of the run failed, the first {first.get('model')} "
        f"{first.get('revision')}; --allow-incomplete judges the rest"
    )


def _metrics(about: Manifest, rules: RuleSet) -> dict[str, dict[str, Declared]]:
    """Return the metrics of the run, and of all probes if rules name others."""
    metrics = {
        probe: {
            each.name: Declared(each.unit, each.summary, each.more_is_memorized) for each in declared.metrics
        }
        for probe, declared in about.probes.items()
    }
    if all(rule.metric in metrics.get(rule.probe, {}) for rule in rules.rules):
        return metrics
    # Imported only if needed: discovery takes longer than the rest of a gate.
    from memprobe.probes.discovery import discover

    for name, probe in discover().items():
        metrics[name] = {
            each.name: Declared(each.unit, each.summary, each.more_is_memorized) for each in probe.all_metrics
        } | metrics.get(name, {})
    return metrics


def problems_of(rules: RuleSet, known: Known) -> list[Problem]:
    """Return the faults of rules: unknown names, and limits that every value or no value meets."""
    return [problem for rule in rules.rules for problem in _problems_of_rule(rule, rules, known)]


def _problems_of_rule(rule: Rule, rules: RuleSet, known: Known) -> list[Problem]:
    metrics = known.metrics.get(rule.probe)
    if metrics is None:
        what = f"unknown probe `{rule.probe}`{near_miss(rule.probe, known.metrics)}"
        where = place(rules.file, rule.lines, rule.id, "probe")
        return [Problem(what, where, f"probes are {', '.join(known.metrics)}")]
    problems = []
    if rule.metric not in metrics:
        what = f"{rule.probe} has no metric `{rule.metric}`{near_miss(rule.metric, metrics)}"
        where = place(rules.file, rule.lines, rule.id, "metric")
        problems.append(Problem(what, where, f"its metrics are {', '.join(metrics)}"))
    else:
        problems += [
            Problem(f"`{limit}` is {value:g}: {wrong}", place(rules.file, rule.lines, rule.id, limit), fix)
            for limit, value in rule.limits.items()
            if (found := _pointless(rule, limit, value, metrics[rule.metric]))
            for wrong, fix in [found]
        ]
    return problems + _problems_of_where(rule, rules, known)


def _pointless(rule: Rule, limit: Limit, value: float, metric: Declared) -> tuple[str, str] | None:
    """Return why a limit decides nothing, and the fix; None if it decides something."""
    low, high, why = metric.range(relative=rule.is_relative)
    above = limit in ("max", "max_increase")
    most = -value if limit == "max_decrease" else value
    if (above and most >= high) or (not above and most <= low):
        return f"{why}, so nothing fails this", ""
    if (above and most < low) or (not above and most > high):
        return f"{why}, so nothing passes this", ""
    strict = (limit, value, rule.judged(limit)) in (("max", 0, "hi"), ("min", 1, "lo"))
    if strict and metric.summary == "rate":
        what = f"with bound = {rule.judged(limit)!r} no number of items passes this"
        return what, 'give bound = "estimate", or leave room'
    return None


def _problems_of_where(rule: Rule, rules: RuleSet, known: Known) -> list[Problem]:
    of_probe = known.rows.filter(probe=rule.probe)
    if of_probe.is_empty():
        return []
    conditions = of_probe["condition"].drop_nulls().unique().to_list()
    keys = {key for each in conditions for key in parse(each)}
    unknown = [key for key in rule.where if key not in {*KEYS, *POOLED, *keys}]
    if not unknown:
        return []
    from memprobe.probes.discovery import discover

    # A setting is part of conditions only if a run has the probe with several values of it.
    settings = set(discover()[rule.probe].options()) if rule.probe in discover() else set()
    allowed = [*KEYS, *sorted({*keys, *POOLED[1:]})]
    return [
        Problem(
            f"unknown key `{key}` in `where`{near_miss(key, allowed)}",
            place(rules.file, rule.lines, rule.id, key, "where"),
            f"keys are {', '.join(allowed)}",
        )
        for key in unknown
        if key not in settings
    ]
