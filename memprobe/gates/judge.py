"""Judge a run: `gate` reads a run, rules and perhaps a baseline, and judges row by row.

A row that cannot be judged never passes. If there are so few items that no outcome could pass, a row
fails only if its whole interval is beyond the limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memprobe.errors import RuleError
from memprobe.gates.baseline import PAIRED_MIN, Baseline, against
from memprobe.gates.behind import Behind, RunItems, items_of
from memprobe.gates.known import Declared, Known, know, problems_of
from memprobe.gates.need import needs_items
from memprobe.gates.notes import MISSING_MAX, missing_share, notes_of_rule, notes_of_run
from memprobe.gates.rules import Limit, Rule, RuleSet, read_rules
from memprobe.gates.select import Selected, select
from memprobe.gates.verdict import GateResult, RowVerdict, RuleVerdict, Verdict
from memprobe.pipeline.reading import Run, open_run
from memprobe.stats.enough import BLOCK_METHOD, FEW_EFFECTIVE, is_few
from memprobe.stats.intervals import BIASED, FEW_CLUSTERS, FEW_FOR_MEDIAN, LONG_RUN, NO_SPREAD, UNFIT
from memprobe.wording import at_step, counted

_ENDS = {"lo": "ci_low", "hi": "ci_high", "estimate": "estimate"}
_WORDS = {"lo": "lower bound", "hi": "upper bound", "estimate": "estimate"}
_ROUNDING = 1e-9
_OF_ITEMS = ("rate", "mean", "difference")
_RETIRED = ("bootstrap", "cluster-bootstrap", "wilson-design-effect", "moving-block")


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
        allow_incomplete: Judge a run that is not finished, or has failed checkpoints, by the rows it has.

    Raises:
        RuleError: The rules are wrong, or have limits that decide nothing; all problems at once.
        InvalidRunError: There is no run, or no baseline, in its directory.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    compared = baseline if isinstance(baseline, Run) or baseline is None else open_run(baseline)
    # Taken before the rows are read: if the run changes in between, this verdict counts as outdated.
    digest = opened.summary_digest
    ruleset, known = checked(opened, Path(rules), unfinished=allow_incomplete)
    base = against(compared, opened, ruleset.rules, known, allow_incomplete=allow_incomplete)
    items = items_of(opened, known.steps)
    incomplete = items.reason or ("" if allow_incomplete else known.incomplete)
    reached = tuple(
        judge_rule(rule, known, base, items, incomplete=incomplete, allow_incomplete=allow_incomplete)
        for rule in ruleset.rules
    )
    strict = any(rule.severity == "error" for rule in ruleset.rules)
    notes = notes_of_run(opened, known, allow_incomplete=allow_incomplete, strict=strict)
    return GateResult(opened.path, ruleset.file, reached, digest, notes)


def checked(run: Run, rules: Path, *, unfinished: bool) -> tuple[RuleSet, Known]:
    """Read and check the rules, and read the contents of the run.

    Raises:
        RuleError: Anything is wrong with the rules; all problems at once.
    """
    ruleset = read_rules(rules)
    known = know(run, ruleset, unfinished=unfinished)
    if problems := [*ruleset.problems, *problems_of(ruleset, known)]:
        raise RuleError(problems)
    return ruleset, known


def rows_of(rule: Rule, known: Known, base: Baseline) -> Selected:
    """Return the rows that a rule selects, from the summary or from the comparison with the baseline.

    Rows of the summary without a partner in the baseline have a `reason`.
    """
    own = select(rule, known.of(rule), known)
    if not rule.is_relative:
        return own
    if reason := base.missing(rule):
        return Selected(known.rows.clear(), reason)
    found = select(rule, base.of(rule), known)
    rows = base.with_own(found.rows, own.rows, rule)
    return Selected(rows, found.reason if rows.is_empty() else "")


def judge_rule(
    rule: Rule,
    known: Known,
    base: Baseline,
    items: RunItems,
    *,
    incomplete: str = "",
    allow_incomplete: bool = False,
) -> RuleVerdict:
    """Judge the rows that one rule selects.

    Args:
        rule: The rule.
        known: Contents of the run.
        base: Differences from the baseline.
        items: Items of the run, to count those behind each row.
        incomplete: Why the run cannot be judged as a whole; empty if it can.
        allow_incomplete: Whether rows may lack a partner if the baseline's checkpoint failed.
    """
    selected = rows_of(rule, known, base)
    notes = notes_of_rule(rule, selected.rows, known, items)
    notes += [text] if (text := base.note(rule)) else []
    found = list(selected.rows.iter_rows(named=True))
    if allow_incomplete and rule.is_relative:
        found, left_out = _without_partner(found, base)
        notes += left_out
    metric = known.metrics[rule.probe][rule.metric]
    counts = [items.of(row) for row in found]
    judged = [_judge_row(rule, row, metric, behind) for row, behind in zip(found, counts, strict=True)]
    judged = _vacuous(rule, metric, judged, counts)
    reason = incomplete or selected.reason or _model_left_out(rule, judged, known)
    if not judged and not reason:
        reason = "no row is left to judge"
    reached = {each.verdict for each in judged}
    verdict: Verdict = "could not judge" if reason or "could not judge" in reached else "passed"
    if "failed" in reached:
        # A row beyond a limit fails the rule, whatever else could not be judged.
        verdict, reason = "failed", ""
    return RuleVerdict(rule, verdict, reason, tuple(judged), tuple(notes))


def _without_partner(rows: list[dict[str, Any]], base: Baseline) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows except those whose partner failed in the baseline, and a note on these."""
    left_out = [row for row in rows if row["reason"] and base.may_be_alone(row)]
    if not left_out:
        return rows, []
    steps = ", ".join(dict.fromkeys(f"{row['model']} {at_step(row['step'])}" for row in left_out))
    kept = [row for row in rows if row not in left_out]
    return kept, [f"not judged, as the checkpoint failed in the baseline: {steps}"]


def _model_left_out(rule: Rule, judged: Sequence[RowVerdict], known: Known) -> str:
    """Return a reason if the rule names no model and some models have numbers but no judged row."""
    if {"model", "revision"} & set(rule.where) or isinstance(rule.where.get("step"), int) or not judged:
        return ""
    there = known.of(rule)["model"].unique(maintain_order=True).to_list()
    seen = {row.model for row in judged}
    lacking = [model for model in there if model not in seen]
    if not lacking:
        return ""
    return f"no row of {', '.join(lacking)} is selected: name `model` in `where` if that is intended"


def _vacuous(
    rule: Rule, metric: Declared, judged: list[RowVerdict], counts: Sequence[Behind]
) -> list[RowVerdict]:
    """Return the rows, with a pass changed to `could not judge` if nothing could have been learned.

    The pass of an early checkpoint or base model stands if another row with the same group and condition
    could have learned its items. With `untrained`, rows whose items may have been trained on do not pass.
    """
    learnable = {
        (row.group, row.condition)
        for row, behind in zip(judged, counts, strict=True)
        if not behind.is_unlearned
    }
    capped = any(metric.caps_memory(limit) for limit in rule.limits)
    found = []
    for row, behind in zip(judged, counts, strict=True):
        reason = ""
        if row.verdict == "passed" and capped:
            if rule.untrained and behind.n > 0 and not behind.is_unlearned:
                n = behind.n - behind.n_unlearned
                of = counted(behind.n, "item")
                reason = f"the rule says untrained, and {n:,} of {of} may have been trained on"
            elif (row.group, row.condition) not in learnable and not rule.asks_for_untrained:
                reason = _unlearned(behind)
        found.append(replace(row, verdict="could not judge", reason=reason) if reason else row)
    return found


def _unlearned(behind: Behind) -> str:
    items = "its only item was" if behind.n == 1 else f"none of its {behind.n:,} items was"
    not_yet = "its only item was not" if behind.n == 1 else items
    when = "trained on by then" if behind.n_later else "ever trained on"
    return (
        f"{not_yet} {when}, so there is nothing to remember and a pass says nothing; "
        "`untrained = true` in the rule says that this is meant"
    )


def _judge_row(rule: Rule, row: Mapping[str, Any], metric: Declared, behind: Behind) -> RowVerdict:
    keys = ("model", "revision", "step", "group", "condition", "estimate", "ci_low", "ci_high", "n_items")
    doubt = _doubt(rule, row, behind, metric)
    found = [] if doubt else [_judge_limit(rule, limit, row, metric) for limit in rule.limits]
    # A rule may have two limits: one that fails decides, whatever the other says.
    bad = sorted((each for each in found if each[0] != "passed"), key=lambda each: each[0] != "failed")
    verdict, reason = ("could not judge", doubt) if doubt else bad[0] if bad else ("passed", "")
    if verdict == "passed" and (share := missing_share(row, metric)) > MISSING_MAX:
        verdict = "could not judge"
        reason = f"{share:.0%} of its items have no value; up to {MISSING_MAX:.0%} is judged"
    if verdict == "passed" and row["n_items"] < PAIRED_MIN * (row.get("n_own") or 0):
        verdict = "could not judge"
        reason = f"only {row['n_items']:,} of its {counted(row['n_own'], 'item')} are in the baseline"
    return RowVerdict(**{key: row[key] for key in keys}, verdict=verdict, reason=reason)  # type: ignore[arg-type]


def _doubt(rule: Rule, row: Mapping[str, Any], behind: Behind, metric: Declared) -> str:
    """Return why a row cannot be judged, whatever the limit; empty if it can."""
    if row.get("reason"):
        return f"not compared: {row['reason']}"
    if behind.n_placeholders:
        of = f"{behind.n_placeholders:,} of its {counted(behind.n, 'item')}"
        return (
            f"{of} are the template's placeholder items, which no model has learned: put in your own canaries"
        )
    n_items = row["n_items"]
    if n_items is None or n_items < rule.min_n:
        return f"{counted(n_items or 0, 'item')}, and min_n asks for {rule.min_n:,}"
    if row["estimate"] is None or math.isnan(row["estimate"]):
        return f"the estimate is undefined for these items{_why_none(row)}"
    if is_few(row["ci_method"]):
        documents = counted(row["n_clusters"], "document")
        few = f"{FEW_EFFECTIVE:g} of equal size: too few to judge"
        if BLOCK_METHOD in row["ci_method"]:
            return f"its windows come from {documents}, in blocks worth fewer than {few}"
        return f"its items come from {documents}, worth fewer than {few}"
    return _impossible(rule, row, metric)


def _impossible(rule: Rule, row: Mapping[str, Any], metric: Declared) -> str:
    """Return which value of a row is impossible; empty if none is."""
    estimate, level, low, high = (row[key] for key in ("estimate", "ci_level", "ci_low", "ci_high"))
    least, most, why = metric.range(relative=rule.is_relative)
    # Sums of many floats may exceed the range slightly.
    if not least - _ROUNDING <= estimate <= most + _ROUNDING:
        return f"its estimate is {estimate:g}, and {why}"
    if level is not None and not 0 < level < 1:
        return f"its ci_level is {level:g}, and a level lies between 0 and 1"
    if low is not None and high is not None and low > high:
        return f"its interval is upside down: {low:g} to {high:g}"
    return ""


def _judge_limit(rule: Rule, limit: Limit, row: Mapping[str, Any], metric: Declared) -> tuple[Verdict, str]:
    """Return the verdict of one limit on one row, with the reason if it is not a pass."""
    bound = rule.judged(limit)
    value = 0.0 if _unchanged(row) else row[_ENDS[bound]]
    if bound != "estimate" and not _unchanged(row):
        if value is None or math.isnan(value):
            is_open = row["ci_low" if bound == "hi" else "ci_high"] is not None
            why = "the interval is open: it has" if is_open else f"there is no interval{_why_none(row)}, so"
            return "could not judge", f"{why} no {_WORDS[bound]}"
        if row["ci_low"] == row["ci_high"]:
            return "could not judge", "the interval has no width: the items show no spread"
    above = limit in ("max", "max_increase")
    most = -rule.limits[limit] if limit == "max_decrease" else rule.limits[limit]
    passes = value <= most if above else value >= most
    if passes and (old := _retired(row, metric)):
        return "could not judge", old
    # `_too_few` assumes that nothing changes, which may need more items than an improvement does.
    if passes and rule.is_relative:
        return "passed", ""
    if need := _too_few(rule, limit, row, metric):
        return "could not judge", need
    if passes:
        return "passed", ""
    shown, asked = apart(value, most)
    of = " of the difference" if rule.is_relative else ""
    return "failed", f"{_WORDS[bound]}{of} {shown} is {'above' if above else 'below'} {asked}"


def _retired(row: Mapping[str, Any], metric: Declared) -> str:
    """Return why an interval of an earlier version cannot support a pass; empty for other intervals.

    Resampling documents gave bounds that were too low when the memorized documents were not drawn.
    """
    if metric.unit != "fraction" or metric.summary not in _OF_ITEMS or row["ci_method"] not in _RETIRED:
        return ""
    return (
        f"its interval is a {row['ci_method']} of an earlier version, whose bounds were too narrow: "
        "`memprobe run` on this run's suite.toml makes the summary again without scoring"
    )


def _why_none(row: Mapping[str, Any]) -> str:
    """Return why a row of the summary has no interval, if the row gives a reason."""
    if row["ci_method"] == NO_SPREAD:
        return f", as its {counted(row['n_items'], 'item')} agree and do not show how far others may differ"
    if row["ci_method"] == FEW_CLUSTERS:
        documents = counted(row["n_clusters"], "document")
        return f", as its items come from {documents}, worth fewer than two of equal size"
    if row["ci_method"] == FEW_FOR_MEDIAN:
        what = counted(row["n_clusters"], "item" if row["n_clusters"] == row["n_items"] else "document")
        return f", as of {what} the median may lie beyond all values seen"
    if row["ci_method"] == BIASED:
        return ", as it is a minimum or maximum that noise moves by more than a quarter of its error"
    if row["ci_method"] == UNFIT:
        return ", as the curve follows none of the laws that a half-life is of"
    if row["ci_method"] == LONG_RUN:
        return ", as a memorized passage is longer than the stretches that documents are cut into"
    return ""


def _unchanged(row: Mapping[str, Any]) -> bool:
    """Return whether a difference has no interval because every item has the same value as in the baseline.

    The bootstrap interval shrinks to 0 as differences get smaller, so 0 is judged: a limit that the smallest
    change passes is also passed by no change. Fractions have an interval even without a change, unless there
    are too few items.
    """
    open_ended = row["ci_low"] is None and row["ci_high"] is None and row["unit"] != "fraction"
    return row.get("n_changed") == 0 and open_ended and row["estimate"] == 0 and row["n_clusters"] > 1


def _too_few(rule: Rule, limit: Limit, row: Mapping[str, Any], metric: Declared) -> str:
    """Return how many items are needed if no outcome could have met the limit; empty if one could.

    The best outcome of a difference is no change. A row whose whole interval is beyond the limit fails with
    any number of items.
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
    """Return two different numbers with as few digits as show the difference: `0.0501`, `0.05`."""
    for digits in (3, 6, 10):
        shown, asked = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if shown != asked:
            return shown, asked
    return repr(value), repr(limit)
