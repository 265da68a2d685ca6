"""Select the rows of a summary or comparison that a rule is about."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from memprobe.gates.known import KEYS, POOLED, Known
from memprobe.gates.rules import Rule, Scalar
from memprobe.tables.conditions import parse
from memprobe.wording import near_miss, step_cell

_SHOWN = 8
# Keys and values of each condition of a metric.
Conditions = Mapping[str | None, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Selected:
    """The rows that a rule selects.

    Attributes:
        rows: The rows, in the order of the table.
        reason: Why there are no rows; empty if there are some.
    """

    rows: pl.DataFrame
    reason: str


def select(rule: Rule, rows: pl.DataFrame, known: Known) -> Selected:
    """Return the rows of a rule's metric that its `where` selects.

    A missing key selects every value, but a missing `group`, `exposures` or `trained` selects the pooled row,
    and so does a missing `control` or `target` if the metric has a pooled row.

    Args:
        rule: The rule.
        rows: Rows of the rule's metric, with `model, revision, step, group, condition`.
        known: The run.
    """
    if rows.is_empty():
        return Selected(rows, _nothing_of(rule, known))
    conditions = {each: parse(each) for each in rows["condition"].unique(maintain_order=True).to_list()}
    kept = _kept(rule, rows, conditions, known, pooled=True)
    return Selected(kept, _why_none(rule, rows, conditions, known) if kept.is_empty() else "")


def _kept(
    rule: Rule, rows: pl.DataFrame, conditions: Conditions, known: Known, *, pooled: bool
) -> pl.DataFrame:
    """Return the rows that match `where`; with `pooled`, only rows pooled over all other keys."""
    good = [each for each, pairs in conditions.items() if _fits(pairs, rule.where, conditions, pooled=pooled)]
    kept = rows.filter(pl.col("condition").is_in(good, nulls_equal=True))
    if pooled and "group" not in rule.where:
        kept = kept.filter(pl.col("group").is_null())
    for key in ("model", "revision", "group"):
        if key in rule.where:
            kept = kept.filter(pl.col(key) == str(rule.where[key]))
    return kept.filter(_at(rule.where["step"], known)) if "step" in rule.where else kept


def _fits(
    pairs: Mapping[str, str], where: Mapping[str, Scalar], conditions: Conditions, *, pooled: bool
) -> bool:
    """Return whether a condition matches and, with `pooled`, is not part of a pooled row."""
    asked = {key: value for key, value in where.items() if key not in KEYS}
    if not all(key in pairs and _same(pairs[key], value) for key, value in asked.items()):
        return False
    parts = [key for key in POOLED if key in pairs and key not in asked] if pooled else []
    # Every row of an excess has a control, so all controls are selected if none is named. Counts of
    # exposures, and trained and never-trained items, are not selected together, even without a pooled row.
    apart = ("exposures", "trained")
    return all(key not in apart and all(key in each for each in conditions.values()) for key in parts)


def _same(text: str, value: Scalar) -> bool:
    """Return whether a condition's value is the requested one; numbers compare as numbers."""
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, str):
        return text == value
    try:
        return float(text) == float(value)
    except ValueError:
        return False


def _at(step: Scalar, known: Known) -> pl.Expr:
    """Return an expression for the rows at a step, or at the first or last checkpoint of their model.

    A checkpoint without a step is both the first and the last of its model.
    """
    if step not in ("first", "last"):
        return pl.col("step") == step
    ends = {model: steps[0 if step == "first" else -1] for model, steps in known.steps.items()}
    return pl.any_horizontal(
        pl.lit(False),
        *((pl.col("model") == model) & _ends(end) for model, end in ends.items()),
    )


def _ends(step: int | None) -> pl.Expr:
    # Rows about a whole sequence have no step either, and no revision.
    at_end = pl.col("step").eq_missing(pl.lit(step, dtype=pl.Int64))
    return at_end & pl.col("revision").is_not_null()


def _nothing_of(rule: Rule, known: Known) -> str:
    probes = known.rows["probe"].unique(maintain_order=True).to_list()
    if rule.probe not in probes:
        return f"the run has no numbers of {rule.probe}; it has {', '.join(probes) or 'none'}"
    return f"the run has no numbers of {rule.probe} {rule.metric}"


def _why_none(rule: Rule, rows: pl.DataFrame, conditions: Conditions, known: Known) -> str:
    """Return why no row is selected: values do not occur, or not together, or no row is pooled."""
    for key, value in rule.where.items():
        if key == "step":
            if rows.filter(_at(value, known)).is_empty():
                return _no_step(value, rows, known)
            continue
        there = (
            [str(each) for each in rows[key].drop_nulls().unique(maintain_order=True).to_list()]
            if key in KEYS
            else list(dict.fromkeys(pairs[key] for pairs in conditions.values() if key in pairs))
        )
        if not any(_same(each, value) if key not in KEYS else each == str(value) for each in there):
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            listed = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
            hint = near_miss(shown, there)
            values = f"{'' if hint else ';'} its values are {listed}" if there else ""
            return f"no row has {key} {shown}{hint}{values}"
    parts_only = _kept(rule, rows, conditions, known, pooled=False)
    if parts_only.is_empty():
        return f"no row has all of {', '.join(f'{key} {value}' for key, value in rule.where.items())}"
    keys = {key for each in parts_only["condition"].unique().to_list() for key in conditions[each]}
    keys |= {"group"} if parts_only["group"].null_count() == 0 else set()
    names = " or ".join(key for key in POOLED if key in keys and key not in rule.where)
    return f"no row is over all items: name {names} in `where`"


def _no_step(step: Scalar, rows: pl.DataFrame, known: Known) -> str:
    there = rows["step"].drop_nulls().unique().sort().to_list()
    unplaced = rows.filter(pl.col("step").is_null(), pl.col("revision").is_not_null())["revision"].unique()
    if not there and len(unplaced) and step not in ("first", "last"):
        return f"no row has step {step}: {', '.join(unplaced.sort())} has no step, which `last` names"
    if not there:
        return "these numbers are about all checkpoints together: leave `step` out"
    if step in ("first", "last"):
        end = 0 if step == "first" else -1
        wanted = ", ".join(f"{model} {step_cell(steps[end])}" for model, steps in known.steps.items())
        return f"there are no numbers of the {step} checkpoint ({wanted or 'none is listed'})"
    shown = [str(each) for each in there]
    listed = ", ".join(shown if len(shown) <= _SHOWN else [*shown[: _SHOWN - 1], "...", shown[-1]])
    return f"no row has step {step}; steps are {listed}"
