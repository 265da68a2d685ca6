"""The differences of a run from a baseline, as rows that rules select from: paired by item, by `compare`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from memprobe.errors import InputError, InvalidRunError
from memprobe.gate.known import Known
from memprobe.gate.rules import Rule
from memprobe.reading import Run

# A probe, and whether the last checkpoints are compared whatever their steps.
_Asked = tuple[str, bool]
_NONE_GIVEN = "the rule compares with a baseline, and none was given: --baseline RUN"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run is compared with.

    Attributes:
        rows: By question, differences with the summary's keys, `estimate` being the difference.
        reasons: By question, why there are none.
        reason: Why there are none of any question; empty where that is not so.
        unplaced: A run has a model without a step, which is compared with the last step of another alone.
    """

    rows: Mapping[_Asked, pl.DataFrame] = field(default_factory=dict)
    reasons: Mapping[_Asked, str] = field(default_factory=dict)
    reason: str = _NONE_GIVEN
    unplaced: bool = False

    def missing(self, rule: Rule) -> str:
        """Return why there is nothing to compare a rule's rows with; empty where there is."""
        return self.reason or self.reasons.get(_asked(rule, self.unplaced), "")

    def of(self, rule: Rule) -> pl.DataFrame:
        """Return the rows of a rule's metric."""
        return self.rows[_asked(rule, self.unplaced)].filter(metric=rule.metric)


def against(
    base: Run | None, new: Run, rules: Iterable[Rule], known: Known, *, allow_incomplete: bool
) -> Baseline:
    """Compare a run with its baseline, item by item, as far as rules ask.

    Args:
        base: The baseline; None: none was given.
        new: The run.
        rules: Those of them that are relative count.
        known: What the run holds.
        allow_incomplete: Compare with a baseline some of whose checkpoints failed.
    """
    unplaced = base is not None and any(
        each["step"] is None for run in (base, new) for each in run.manifest["checkpoints"]
    )
    asked: dict[_Asked, list[Rule]] = {}
    for rule in rules:
        if rule.is_relative:
            asked.setdefault(_asked(rule, unplaced), []).append(rule)
    if base is None or not asked:
        return Baseline()
    if not base.finished or not new.finished:
        return Baseline(reason="the baseline is not finished" if new.finished else known.incomplete)
    if base.failures and not allow_incomplete:
        return Baseline(reason="checkpoints of the baseline failed; --allow-incomplete judges the rest")
    from memprobe.compare.runs import LAST, compare

    rows, reasons = {}, {}
    for (probe, last), of_probe in asked.items():
        metrics = {rule.metric for rule in of_probe}
        steps = LAST if last else _steps(of_probe, base, new, known)
        # Each by itself: what makes one probe's numbers incomparable leaves those of the others alone.
        try:
            found = compare(base, new, probes=[probe], metrics=metrics, steps=steps).differences
        except (InvalidRunError, InputError) as error:
            reasons[probe, last] = f"not comparable with the baseline: {error.problems[0].what}"
        else:
            rows[probe, last] = _like_summary(found, known)
    return Baseline(rows, reasons, "", unplaced)


def _asked(rule: Rule, unplaced: bool) -> _Asked:
    """Return what a rule asks of the comparison."""
    return rule.probe, unplaced and rule.where.get("step") == "last"


def _steps(rules: Iterable[Rule], base: Run, new: Run, known: Known) -> list[int]:
    """Return the steps that rules are about; none, which means all, where that is not known beforehand."""
    controls = {(run.manifest.get("control") or {}).get("model") for run in (base, new)}
    wanted: set[int | None] = set()
    for rule in rules:
        step = rule.where.get("step")
        if step in ("first", "last"):
            end = 0 if step == "first" else -1
            wanted |= {steps[end] for model, steps in known.steps.items() if model not in controls}
        elif isinstance(step, int):
            wanted.add(step)
        else:
            return []
    failed = [*base.failures, *new.failures]
    both = [
        {each["step"] for each in run.manifest["checkpoints"] if each["model"] not in controls}
        for run in (base, new)
    ]
    if failed or not wanted <= both[0] & both[1]:
        return []
    # Nothing but `last` names a checkpoint without a step.
    known_steps = [step for step in wanted if step is not None]
    return sorted(known_steps) if len(known_steps) == len(wanted) else []


def _like_summary(differences: pl.DataFrame, known: Known) -> pl.DataFrame:
    revisions = pl.DataFrame(
        [(model, step, revision) for (model, step), revision in known.revisions.items()],
        schema={"model": pl.String, "step": pl.Int64, "revision": pl.String},
        orient="row",
    )
    return differences.rename({"model_new": "model", "difference": "estimate"}).join(
        revisions, on=["model", "step"], how="left", nulls_equal=True, maintain_order="left"
    )
