"""Report how many items each rule needs and has, before a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memprobe.gates.baseline import Baseline, against
from memprobe.gates.behind import RunItems, items_of
from memprobe.gates.judge import checked, judge_rule, rows_of
from memprobe.gates.known import Declared, Known
from memprobe.gates.need import needs_items
from memprobe.gates.rules import Rule
from memprobe.pipeline.reading import Run, open_run
from memprobe.wording import counted


@dataclass(frozen=True, slots=True)
class RowNeeds:
    """One row that a rule selects.

    Attributes:
        name: Model, checkpoint, group and condition.
        n_items: Number of items that the row has.
        n_needed: Number needed: with fewer, the row is not judged or no outcome passes.
        noun: What is counted: `item`, `document` if items share documents, or `block` of windows.
    """

    name: str
    n_items: int
    n_needed: int
    noun: str


@dataclass(frozen=True, slots=True)
class RuleNeeds:
    """The number of items that a rule needs.

    Attributes:
        rule: The rule.
        reason: Why the rule, or part of it, cannot be judged; empty if it can.
        rows: Needs of the selected rows.
        notes: Notes on the rows.
    """

    rule: Rule
    reason: str
    rows: tuple[RowNeeds, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Return whether all selected rows have enough items and can be judged."""
        return bool(self.rows) and not self.short and not self.reason

    @property
    def short(self) -> tuple[RowNeeds, ...]:
        """Return the rows with too few items, the largest gap first."""
        return tuple(
            sorted(
                (row for row in self.rows if row.n_items < row.n_needed),
                key=lambda row: row.n_items - row.n_needed,
            )
        )

    @property
    def summary(self) -> str:
        """Number of needed and available items, in one line."""
        if not self.rows:
            return self.reason
        needed = max(row.n_needed for row in self.rows)
        least = min(row.n_items for row in self.rows)
        noun = self.rows[0].noun if len({row.noun for row in self.rows}) == 1 else "item"
        have = "has" if len(self.rows) == 1 else f"its {len(self.rows):,} rows have at least"
        return f"needs {counted(needed, noun)}, {have} {least:,}"


@dataclass(frozen=True, slots=True)
class DryRun:
    """The numbers of items that all rules need.

    Attributes:
        rules_file: Path of the rules.
        rules: The needs of each rule, in the order of the file.
    """

    rules_file: Path
    rules: tuple[RuleNeeds, ...]

    @property
    def line(self) -> str:
        """Number of rules, and of those that could not be judged, in one line."""
        n_short = sum(1 for each in self.rules if each.short or not each.rows)
        n_stuck = sum(1 for each in self.rules if not each.is_ready) - n_short
        rules = counted(len(self.rules), "rule")
        stuck = f", {n_stuck:,} that could not be judged otherwise" if n_stuck else ""
        return f"dry run: {rules}, {n_short:,} with too few items or none{stuck}; nothing was judged"

    def document(self) -> dict[str, Any]:
        """Return the needs as JSON values."""
        return {
            "rules_file": self.rules_file.name,
            "dry_run": True,
            "line": self.line,
            "rules": [
                {
                    "id": each.rule.id,
                    "probe": each.rule.probe,
                    "metric": each.rule.metric,
                    "reason": each.reason or None,
                    "notes": list(each.notes),
                    "rows": [
                        {"row": row.name, "n_items": row.n_items, "n_needed": row.n_needed, "of": row.noun}
                        for row in each.rows
                    ],
                }
                for each in self.rules
            ],
        }


def dry_run(run: str | Path | Run, rules: str | Path, *, baseline: str | Path | Run | None = None) -> DryRun:
    """Return how many items each rule needs and has, without judging.

    Raises:
        RuleError: The rules are wrong; all problems at once.
        InvalidRunError: There is no run, or no baseline, in its directory.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    compared = baseline if isinstance(baseline, Run) or baseline is None else open_run(baseline)
    ruleset, known = checked(opened, Path(rules), unfinished=True)
    base = against(compared, opened, ruleset.rules, known, allow_incomplete=True)
    items = items_of(opened, known.steps)
    return DryRun(ruleset.file, tuple(_of_rule(rule, known, base, items) for rule in ruleset.rules))


def _of_rule(rule: Rule, known: Known, base: Baseline, items: RunItems) -> RuleNeeds:
    selected = rows_of(rule, known, base)
    metric = known.metrics[rule.probe][rule.metric]
    rows = list(selected.rows.iter_rows(named=True))
    needs = tuple(_needs(rule, row, metric) for row in rows if not row.get("reason"))
    judged = judge_rule(rule, known, base, items)
    # Too few items are reported separately; whether rows pass or fail is left to the gate.
    stuck = next((row.reason for row in judged.rows if row.verdict == "could not judge"), "")
    few = any(row.n_items < row.n_needed for row in needs)
    reason = judged.reason or selected.reason or ("" if few and needs else stuck)
    return RuleNeeds(rule, reason, needs, judged.notes)


def _needs(rule: Rule, row: Mapping[str, Any], metric: Declared) -> RowNeeds:
    group = None if row["group"] is None else f"group={row['group']}"
    parts = (row["model"], row["revision"], group, row["condition"])
    name = " ".join(each for each in parts if each)
    found = [each for limit in rule.limits if (each := needs_items(rule, limit, row, metric))]
    hardest = max(found, key=lambda each: each.needed - each.has, default=None)
    n_items = row["n_items"] or 0
    if hardest is None or hardest.needed - hardest.has < rule.min_n - n_items:
        return RowNeeds(name, n_items, rule.min_n, "item")
    return RowNeeds(name, hardest.has, hardest.needed, hardest.noun)
