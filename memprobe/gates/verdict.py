"""Verdicts of rows, of rules and of the run, the last line, and gate.json."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memprobe.errors import InvalidRunError
from memprobe.gates.rules import ABSOLUTE, RELATIVE, Rule
from memprobe.tables.checked_json import sealed
from memprobe.tables.store import RunStore
from memprobe.wording import counted

Verdict = Literal["passed", "failed", "could not judge"]
FORMAT = 1
FILE = "gate.json"
_NOTHING_STRICT = "no rule of severity error"
PASSED, FAILED, COULD_NOT_JUDGE = 0, 1, InvalidRunError.exit_code


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """The verdict of a rule on one estimate or one difference from a baseline.

    Attributes:
        model: Model of the row.
        revision: Revision of the row; None if it is about all checkpoints.
        step: Step of the row; None if it is about all checkpoints.
        group: Group of the row; None for all items together.
        condition: Condition of the row, as in the summary.
        estimate: The estimate or the difference; None if undefined.
        ci_low: Lower end of the interval.
        ci_high: Upper end of the interval.
        n_items: Number of items of the row.
        verdict: The verdict.
        reason: Why it did not pass, with the numbers; empty if it passed.
    """

    model: str
    revision: str | None
    step: int | None
    group: str | None
    condition: str | None
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    n_items: int | None
    verdict: Verdict
    reason: str

    @property
    def name(self) -> str:
        """Model, checkpoint, group and condition in short."""
        at = self.revision if self.revision is not None else None if self.step is None else f"step{self.step}"
        group = None if self.group is None else f"group={self.group}"
        return " ".join(each for each in (self.model, at, group, self.condition) if each)


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """The verdict of one rule on a run.

    Attributes:
        rule: The rule.
        verdict: `failed` if any row failed, else `could not judge` if any row could not be judged.
        reason: Why the rule did not pass, if no single row is the reason; else empty.
        rows: All rows that the rule selects.
        notes: Notes on the rows, whatever the verdict.
    """

    rule: Rule
    verdict: Verdict
    reason: str
    rows: tuple[RowVerdict, ...]
    notes: tuple[str, ...] = ()

    def rows_of(self, verdict: Verdict) -> tuple[RowVerdict, ...]:
        """Return the rows with that verdict."""
        return tuple(row for row in self.rows if row.verdict == verdict)

    @property
    def worst(self) -> tuple[RowVerdict, ...]:
        """Return the rows, failed ones first, then those that could not be judged."""
        return self.rows_of("failed") + self.rows_of("could not judge") + self.rows_of("passed")

    @property
    def summary(self) -> str:
        """The reason in one line: that of the rule, or of its first bad row with the number of bad rows."""
        bad = self.rows_of("failed") or self.rows_of("could not judge")
        if self.verdict == "failed" or (bad and not self.reason):
            more = f"; so for {len(bad):,} of {counted(len(self.rows), 'row')}" if len(self.rows) > 1 else ""
            return f"{bad[0].reason} ({bad[0].name}){more}"
        return self.reason or f"{counted(len(self.rows), 'row')} within the limit"


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict on a run.

    Example:
        result = memprobe.gate("reports/mine", "rules.toml")
        print(result.line)
        raise SystemExit(result.exit_code)

    Attributes:
        run: The run directory.
        rules_file: Path of the rules.
        rules: Verdict of each rule, in the order of the file.
        summary_sha256: SHA-256 of the judged summary.parquet; None if the run had none.
        notes: Notes on the run, whatever the verdict.
    """

    run: Path
    rules_file: Path
    rules: tuple[RuleVerdict, ...]
    summary_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict of all error-level rules: a failed rule decides, then one that could not be judged."""
        verdicts = {each.verdict for each in self.rules if each.rule.severity == "error"}
        return "failed" if "failed" in verdicts else "could not judge" if verdicts - {"passed"} else "passed"

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return {"passed": PASSED, "failed": FAILED, "could not judge": COULD_NOT_JUDGE}[self.verdict]

    @property
    def line(self) -> str:
        """The verdict in one line, with the exit code."""
        strict = [each for each in self.rules if each.rule.severity == "error"]
        words = [f"{counted(len(strict), 'rule')}"] if strict else [_NOTHING_STRICT]
        words += _tally(strict)
        warned = [each for each in self.rules if each.rule.severity == "warn"]
        warnings = f"; {counted(len(warned), 'warning rule')}: {', '.join(_tally(warned))}" if warned else ""
        return (
            f"gate {self.verdict} (exit code {self.exit_code}): {words[0]}: {', '.join(words[1:])}{warnings}"
            if strict
            else f"gate {self.verdict} (exit code {self.exit_code}): {words[0]}{warnings}"
        )

    def document(self) -> dict[str, Any]:
        """Return the contents of gate.json; infinities are null."""
        return {
            "format": FORMAT,
            "rules_file": self.rules_file.name,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "line": self.line,
            "summary_sha256": self.summary_sha256,
            "notes": list(self.notes),
            "rules": [_rule_document(each) for each in self.rules],
        }

    def write(self) -> Path:
        """Write gate.json into the run directory and return its path."""
        RunStore(self.run).write_json(FILE, sealed(self.document()))
        return self.run / FILE


def _tally(rules: list[RuleVerdict]) -> list[str]:
    told = [each.verdict for each in rules]
    words = {"failed": "failed", "could not judge": "could not be judged", "passed": "passed"}
    return [f"{told.count(verdict):,} {said}" for verdict, said in words.items() if verdict in told]


def _rule_document(told: RuleVerdict) -> dict[str, Any]:
    rule = told.rule
    limits: dict[str, float | None] = {limit: rule.limits.get(limit) for limit in (*ABSOLUTE, *RELATIVE)}
    return {
        "id": rule.id,
        "why": rule.why,
        "severity": rule.severity,
        "verdict": told.verdict,
        "reason": told.reason or None,
        "probe": rule.probe,
        "metric": rule.metric,
        "bound": rule.judged(next(iter(rule.limits))),
        **limits,
        "min_n": rule.min_n,
        "untrained": rule.untrained,
        "line": rule.lines.first,
        "notes": list(told.notes),
        "rows": [_row_document(row) for row in told.rows],
    }


def _row_document(row: RowVerdict) -> dict[str, Any]:
    return {
        "model": row.model,
        "revision": row.revision,
        "step": row.step,
        "group": row.group,
        "condition": row.condition,
        "estimate": _finite(row.estimate),
        "ci_low": _finite(row.ci_low),
        "ci_high": _finite(row.ci_high),
        "n_items": row.n_items,
        "verdict": row.verdict,
        "reason": row.reason or None,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
