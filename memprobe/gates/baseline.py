"""Compute the differences of a run from a baseline, paired by item, as rows that rules select."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from memprobe.errors import InputError, InvalidRunError
from memprobe.gates.known import Known
from memprobe.gates.rules import Rule
from memprobe.pipeline.reading import Run
from memprobe.wording import counted

if TYPE_CHECKING:
    from memprobe.comparison.match import MatchedItems

_PARTNER = ("model", "step", "group", "condition")
_NO_CHECKPOINT = "the baseline has no checkpoint that is this one's partner"
_NO_NUMBER = "the baseline has no such number of the same items"
_ITSELF = "the baseline is this run itself, so nothing could differ: name another run"
# Smallest share of paired items; below it, the difference does not describe most items.
PAIRED_MIN = 0.5
# A question for the comparison: a probe, and whether last checkpoints are compared whatever their steps.
_Asked = tuple[str, bool]
_NONE_GIVEN = "the rule compares with a baseline, and none was given: --baseline RUN"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline that a run is compared with.

    Attributes:
        rows: Differences by question (`_Asked`), with the summary's keys; `estimate` is the difference.
        reasons: Why there are no differences, by question.
        reason: Why there are no differences at all; empty if there are some.
        notes: How many items are paired, by question, if most but not all are.
        failed: Model and step of failed checkpoints of the baseline, which need no partner.
        models: Models of the baseline.
        unplaced: Whether a checkpoint of either run has no step, so only rules for the last step use it.
    """

    rows: Mapping[_Asked, pl.DataFrame] = field(default_factory=dict)
    reasons: Mapping[_Asked, str] = field(default_factory=dict)
    reason: str = _NONE_GIVEN
    notes: Mapping[_Asked, str] = field(default_factory=dict)
    failed: frozenset[tuple[str, int | None]] = frozenset()
    models: frozenset[str] = frozenset()
    unplaced: bool = False

    def missing(self, rule: Rule) -> str:
        """Return why there is nothing to compare a rule's rows with; empty if there is something."""
        return self.reason or self.reasons.get(_asked(rule, self.unplaced), "")

    def of(self, rule: Rule) -> pl.DataFrame:
        """Return the differences of a rule's metric."""
        return self.rows[_asked(rule, self.unplaced)].filter(metric=rule.metric)

    def note(self, rule: Rule) -> str:
        """Return a note on items of a rule's rows without a partner; empty if all have one."""
        return self.notes.get(_asked(rule, self.unplaced), "") if rule.is_relative else ""

    def with_own(self, found: pl.DataFrame, own: pl.DataFrame, rule: Rule) -> pl.DataFrame:
        """Return rows of a comparison with `n_own`, and rows of the run that have no partner.

        `n_own` is the number of the row's items in the run. Rows without a partner have a `reason`.

        Args:
            found: Rows of the comparison that a rule selects.
            own: Rows of the run's summary that the rule selects.
            rule: The rule.
        """
        held = own.select(*_PARTNER, n_own="n_items")
        paired = found.join(held, on=_PARTNER, how="left", nulls_equal=True, maintain_order="left")
        return pl.concat([paired, self._alone(own, paired, rule)])

    def _alone(self, own: pl.DataFrame, found: pl.DataFrame, rule: Rule) -> pl.DataFrame:
        rows = own.join(found, on=_PARTNER, how="anti", nulls_equal=True, maintain_order="left")
        there = set(self.rows[_asked(rule, self.unplaced)].select("model", "step").rows())
        reasons = [
            _NO_NUMBER if (model, step) in there else _NO_CHECKPOINT
            for model, step in rows.select("model", "step").iter_rows()
        ]
        about = rows.select(*_PARTNER, "revision", "ci_level", "unit").with_columns(
            pl.Series("reason", reasons, dtype=pl.String)
        )
        return pl.concat([found.clear(), about], how="diagonal_relaxed").select(found.columns)

    def may_be_alone(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row may lack its partner because the baseline's checkpoint failed."""
        if row["reason"] != _NO_CHECKPOINT or row["revision"] is None:
            return False
        # If the baseline lacks a model of this name, the partner has another name.
        named = row["model"] in self.models
        return any(
            step == row["step"] and (model == row["model"] or not named) for model, step in self.failed
        )


def against(
    base: Run | None, new: Run, rules: Iterable[Rule], known: Known, *, allow_incomplete: bool
) -> Baseline:
    """Compare a run with its baseline, item by item, for the rules that need it.

    Args:
        base: The baseline; None if none was given.
        new: The run.
        rules: The rules; only relative ones need a comparison.
        known: Contents of the run.
        allow_incomplete: Whether to compare even if some checkpoints of the baseline failed.
    """
    unplaced = base is not None and any(
        each.step is None for run in (base, new) for each in run.about.checkpoints
    )
    asked: dict[_Asked, list[Rule]] = {}
    for rule in rules:
        if rule.is_relative:
            asked.setdefault(_asked(rule, unplaced), []).append(rule)
    if base is None or not asked:
        return Baseline()
    if base.path.resolve() == new.path.resolve():
        return Baseline(reason=_ITSELF)
    if not base.finished or not new.finished:
        return Baseline(reason="the baseline is not finished" if new.finished else known.incomplete)
    if base.failures and not allow_incomplete:
        return Baseline(reason="checkpoints of the baseline failed; --allow-incomplete judges the rest")
    from memprobe.comparison.runs import LAST, compare

    rows, reasons, notes = {}, {}, {}
    for question, of_probe in asked.items():
        probe, last = question
        metrics = {rule.metric for rule in of_probe}
        steps = LAST if last else _steps(of_probe, base, new, known)
        # Probes are compared one by one, so that one that cannot be compared does not affect the others.
        try:
            found = compare(base, new, probes=[probe], metrics=metrics, steps=steps)
        except (InvalidRunError, InputError) as error:
            reasons[question] = f"not comparable with the baseline: {error.problems[0].what}"
            continue
        rows[question] = _like_summary(found.differences, known)
        n_paired, text = _paired(found.items)
        if text and n_paired < PAIRED_MIN:
            reasons[question] = f"not comparable with the baseline: {text}"
        elif text:
            notes[question] = f"baseline: {text}"
    failed = frozenset((each["model"], each.get("step")) for each in base.failures)
    models = frozenset(each.model for each in base.about.checkpoints)
    return Baseline(rows, reasons, "", notes, failed, models, unplaced)


def _paired(items: "MatchedItems") -> tuple[float, str]:
    """Return the share of the larger run's items with a partner, and a note; empty if all have one."""
    n_both = len(items.both)
    n_base = n_both + len(items.base_only) + len(items.changed)
    n_new = n_both + len(items.new_only) + len(items.changed)
    most = max(n_base, n_new)
    if n_both == most:
        return 1.0, ""
    changed = f", {len(items.changed):,} have other content" if items.changed else ""
    return n_both / most, (
        f"{counted(n_both, 'item')} paired of {n_base:,} in the baseline and {n_new:,} in the run{changed}"
    )


def _asked(rule: Rule, unplaced: bool) -> _Asked:
    """Return the question that a rule asks of the comparison."""
    return rule.probe, unplaced and rule.where.get("step") == "last"


def _steps(rules: Iterable[Rule], base: Run, new: Run, known: Known) -> list[int]:
    """Return the steps that the rules name; empty, which means all, if they cannot be known beforehand."""
    controls = {run.about.control.model for run in (base, new) if run.about.control}
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
        {each.step for each in run.about.checkpoints if each.model not in controls} for run in (base, new)
    ]
    if failed or not wanted <= both[0] & both[1]:
        return []
    # A checkpoint without a step cannot be listed, so all steps are compared.
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
