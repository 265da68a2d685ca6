"""Rules to verdicts: `gate` reads a run, its rules and perhaps a baseline, and judges row by row.

Whatever cannot be judged is never a pass. With a number of items with which no outcome could pass, only
what lies beyond the limit with its whole interval is a failure. See contract.md, section 5.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memprobe.errors import RuleError, counted
from memprobe.gate.baseline import Baseline, against
from memprobe.gate.known import Declared, Known, know, problems_of
from memprobe.gate.need import needs_items
from memprobe.gate.rules import Limit, Rule, RuleSet, read_rules
from memprobe.gate.select import Selected, select
from memprobe.gate.verdict import GateResult, RowVerdict, RuleVerdict, Verdict
from memprobe.reading import Run, open_run

_ENDS = {"lo": "ci_low", "hi": "ci_high", "estimate": "estimate"}
_WORDS = {"lo": "lower bound", "hi": "upper bound", "estimate": "estimate"}


def gate(
    run: str | Path | Run,
    rules: str | Path,
    *,
    baseline: str | Path | Run | None = None,
    allow_incomplete: bool = False,
) -> GateResult:
    """Judge a run by a file of rules; writes nothing.

    Example:
        result = memprobe.gate("reports/mine", "rules.toml")
        print(result.line, result.exit_code)
        result.write()

    Args:
        run: The run, or its directory.
        rules: A TOML file of `[[rule]]` tables.
        baseline: The run that `max_increase` and `max_decrease` compare with.
        allow_incomplete: Judge a run some of whose checkpoints failed, or that is not finished, by what it
            holds.

    Raises:
        RuleError: The rules are wrong, or ask for what no run could hold; all problems at once.
        InvalidRunError: There is no run, or no baseline, in its directory.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    compared = baseline if isinstance(baseline, Run) or baseline is None else open_run(baseline)
    # Before the rows are read: what is measured in between makes this verdict one about an earlier state.
    digest = opened.summary_digest
    ruleset, known = checked(opened, Path(rules), unfinished=allow_incomplete)
    base = against(compared, opened, ruleset.rules, known, allow_incomplete=allow_incomplete)
    incomplete = "" if allow_incomplete else known.incomplete
    told = tuple(_judge(rule, known, base, incomplete) for rule in ruleset.rules)
    return GateResult(opened.path, ruleset.file, told, digest)


def checked(run: Run, rules: Path, *, unfinished: bool) -> tuple[RuleSet, Known]:
    """Read the rules and what the run holds.

    Raises:
        RuleError: Anything is wrong with the rules; all problems at once.
    """
    ruleset = read_rules(rules)
    known = know(run, ruleset, unfinished=unfinished)
    if problems := [*ruleset.problems, *problems_of(ruleset, known)]:
        raise RuleError(problems)
    return ruleset, known


def rows_of(rule: Rule, known: Known, base: Baseline) -> Selected:
    """Return the rows that a rule selects, of the summary or of the comparison."""
    if not rule.is_relative:
        return select(rule, known.of(rule), known)
    if reason := base.missing(rule):
        return Selected(known.rows.clear(), reason)
    return select(rule, base.of(rule), known)


def _judge(rule: Rule, known: Known, base: Baseline, incomplete: str) -> RuleVerdict:
    selected = rows_of(rule, known, base)
    metric = known.metrics[rule.probe][rule.metric]
    judged = tuple(_judge_row(rule, row, metric) for row in selected.rows.iter_rows(named=True))
    told = {each.verdict for each in judged}
    if "failed" in told:
        return RuleVerdict(rule, "failed", "", judged)
    if reason := incomplete or selected.reason:
        return RuleVerdict(rule, "could not judge", reason, judged)
    return RuleVerdict(rule, "could not judge" if "could not judge" in told else "passed", "", judged)


def _judge_row(rule: Rule, row: Mapping[str, Any], metric: Declared) -> RowVerdict:
    keys = ("model", "revision", "step", "group", "condition", "estimate", "ci_low", "ci_high", "n_items")
    doubt = _doubt(rule, row)
    found = [] if doubt else [_judge_limit(rule, limit, row, metric) for limit in rule.limits]
    # Both ends of a range: one that is left decides, whatever the other says.
    bad = sorted((each for each in found if each[0] != "passed"), key=lambda each: each[0] != "failed")
    verdict, reason = ("could not judge", doubt) if doubt else bad[0] if bad else ("passed", "")
    return RowVerdict(**{key: row[key] for key in keys}, verdict=verdict, reason=reason)  # type: ignore[arg-type]


def _doubt(rule: Rule, row: Mapping[str, Any]) -> str:
    """Return why a row cannot be judged whatever the limit is; empty where it can be."""
    if row.get("reason"):
        return f"not compared: {row['reason']}"
    n_items = row["n_items"]
    if n_items is None or n_items < rule.min_n:
        return f"{counted(n_items or 0, 'item')}, and min_n asks for {rule.min_n:,}"
    if row["estimate"] is None or math.isnan(row["estimate"]):
        return "the estimate is undefined for these items"
    return ""


def _judge_limit(rule: Rule, limit: Limit, row: Mapping[str, Any], metric: Declared) -> tuple[Verdict, str]:
    """Return the verdict of one limit on one row, with the reason where it is no pass."""
    bound = rule.judged(limit)
    value = 0.0 if _unchanged(row) else row[_ENDS[bound]]
    if bound != "estimate" and not _unchanged(row):
        if value is None or math.isnan(value):
            is_open = row["ci_low" if bound == "hi" else "ci_high"] is not None
            why = "the interval is open: it has" if is_open else "there is no interval, so"
            return "could not judge", f"{why} no {_WORDS[bound]}"
        if row["ci_low"] == row["ci_high"]:
            return "could not judge", "the interval has no width: the items show no spread"
    above = limit in ("max", "max_increase")
    most = -rule.limits[limit] if limit == "max_decrease" else rule.limits[limit]
    if value <= most if above else value >= most:
        return "passed", ""
    if need := _too_few(rule, limit, row, metric):
        return "could not judge", need
    shown, asked = apart(value, most)
    of = " of the difference" if rule.is_relative else ""
    return "failed", f"{_WORDS[bound]}{of} {shown} is {'above' if above else 'below'} {asked}"


def _unchanged(row: Mapping[str, Any]) -> bool:
    """Whether a difference has no interval because no item has another value than in the baseline.

    The bootstrap of ever smaller differences shrinks to 0, so 0 is what is judged: whatever a change of the
    smallest size passes, none at all passes too. Rates have an interval even then, and so min_n of their own.
    """
    open_ended = row["ci_low"] is None and row["ci_high"] is None
    return row.get("n_changed") == 0 and open_ended and row["estimate"] == 0 and row["n_clusters"] > 1


def _too_few(rule: Rule, limit: Limit, row: Mapping[str, Any], metric: Declared) -> str:
    """Return what is missing where no outcome could have met the limit; empty where one could.

    Of a difference, that is no change at all. What lies beyond the limit with its whole interval fails
    with any number of items.
    """
    needs = needs_items(rule, limit, row, metric)
    if needs is None or needs.has >= needs.needed:
        return ""
    value = rule.limits[limit]
    above = limit in ("max", "max_increase")
    far = row["ci_low" if above else "ci_high"]
    if far is not None and (far > value if above else far < (value if limit == "min" else -value)):
        return ""
    enough = counted(needs.needed, needs.noun)
    if rule.is_relative:
        return f"even no change at all needs {enough} to pass, here are {needs.has:,}"
    best = "no hit needs" if above else "all hits need"
    return f"no outcome could pass: even {best} {enough}, here are {needs.has:,}"


def apart(value: float, limit: float) -> tuple[str, str]:
    """Return two numbers that differ with as few digits as show it: `0.0501`, `0.05`."""
    for digits in (3, 6, 10):
        shown, asked = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if shown != asked:
            return shown, asked
    return repr(value), repr(limit)
