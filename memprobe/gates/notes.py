"""Notes for readers of a verdict: which models and controls were judged, and which items are missing."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from memprobe.gates.behind import RunItems
from memprobe.gates.known import Declared, Known
from memprobe.gates.rules import Rule
from memprobe.pipeline.reading import Run
from memprobe.tables.conditions import parse
from memprobe.tables.manifest import ItemsEntry
from memprobe.wording import counted

_SHOWN = 5
# Largest share of items without a value; above it, the others do not represent all items.
MISSING_MAX = 0.1
# In these summaries a missing value was not measured; in others it may be the result itself.
_OF_ALL_ITEMS = ("rate", "mean", "auc", "difference")
_LESS = "more {} means less memorized, so `{}` is met by what is memorized; did you mean `{}`?"


def missing_share(row: Mapping[str, Any], metric: Declared) -> float:
    """Return the share of a row's items without a value; 0 if that may be the result itself."""
    n_missing, n_items = row.get("n_missing") or 0, row["n_items"] or 0
    if metric.summary not in _OF_ALL_ITEMS or not n_missing:
        return 0.0
    return float(n_missing / (n_missing + n_items))


def notes_of_rule(rule: Rule, rows: pl.DataFrame, known: Known, items: RunItems) -> list[str]:
    """Return the notes on the rows that a rule selects."""
    if rows.is_empty():
        return []
    metric = known.metrics[rule.probe][rule.metric]
    return [
        *_models(rule, rows, known, items),
        *_controls(rule, rows),
        *_diluted(rule, rows, metric, items),
        *_missing(rows, metric),
        *_direction(rule, metric),
    ]


def _models(rule: Rule, rows: pl.DataFrame, known: Known, items: RunItems) -> Iterator[str]:
    """Yield a note on the judged models if the rule names none and the run has several."""
    if "model" in rule.where or len(known.steps) < 2:
        return
    judged = rows["model"].unique(maintain_order=True).to_list()
    named = [f"{each} (the control)" if each == items.control else each for each in judged]
    text = f"the rule names no model, so {'all of these are' if len(judged) > 1 else 'this one is'} judged: "
    text += ", ".join(named)
    if others := [model for model in known.steps if model not in judged]:
        text += f"; without such a number: {', '.join(others)}"
    yield text


def _controls(rule: Rule, rows: pl.DataFrame) -> Iterator[str]:
    found = dict.fromkeys(parse(each).get("control") for each in rows["condition"])
    names = [each for each in found if each is not None]
    if "control" not in rule.where and len(names) > 1:
        yield f"the rule names no control, so the excess over each of these is judged: {', '.join(names)}"


def _diluted(rule: Rule, rows: pl.DataFrame, metric: Declared, items: RunItems) -> Iterator[str]:
    """Yield a note on never-trained items in a pooled rate, because they dilute it."""
    if (
        metric.summary in ("sequence", "difference")
        or rule.asks_for_untrained
        or not metric.more_is_memorized
    ):
        return
    if {"group", "exposures", "trained"} & set(rule.where):
        return
    counts = [items.of(row) for row in rows.iter_rows(named=True) if row["model"] != items.control]
    if worst := max((each for each in counts if 0 < each.n_never < each.n), key=_never, default=None):
        n = counted(worst.n, "item")
        yield (
            f"{worst.n_never:,} of {n} were never trained on and count here too: `group`, or "
            "`trained = true`, selects the others"
        )


def _never(each: Any) -> int:  # noqa: ANN401 - a Behind
    return int(each.n_never)


def _missing(rows: pl.DataFrame, metric: Declared) -> Iterator[str]:
    lacking = [row for row in rows.iter_rows(named=True) if missing_share(row, metric)]
    if lacking:
        worst = max(lacking, key=lambda row: missing_share(row, metric))
        n_all = worst["n_missing"] + (worst["n_items"] or 0)
        more = f", and of others in {len(lacking) - 1:,} more rows" if len(lacking) > 1 else ""
        yield f"{worst['n_missing']:,} of {counted(n_all, 'item')} have no value{more}"


def _direction(rule: Rule, metric: Declared) -> Iterator[str]:
    if metric.more_is_memorized is not False:
        return
    other = {"max": "min", "max_increase": "max_decrease"}
    if wrong := next((limit for limit in rule.limits if limit in other), None):
        yield _LESS.format(rule.metric, wrong, other[wrong])


def notes_of_run(run: Run, known: Known, *, allow_incomplete: bool, strict: bool) -> tuple[str, ...]:
    """Return the notes on a run that is judged.

    Args:
        run: The run.
        known: Contents of the run.
        allow_incomplete: Whether an incomplete run is judged.
        strict: Whether some rule has severity error.
    """
    return tuple(_of_run(run, known, allow_incomplete=allow_incomplete, strict=strict))


def _of_run(run: Run, known: Known, *, allow_incomplete: bool, strict: bool) -> Iterator[str]:
    about = run.about
    items = about.items or ItemsEntry()
    if limit := about.flags.get("limit"):
        yield f"the run holds only the first {limit:,} items of its files (--limit)"
    for n, why in (
        (items.n_skipped, "as bad input"),
        (items.n_unfit, "of some probe, which cannot measure them"),
    ):
        if n:
            yield f"{counted(n, 'item')} left out {why} (skipped.jsonl)"
    if allow_incomplete and known.incomplete:
        yield f"judged by what there is: {known.incomplete.partition(';')[0]}"
    if not strict:
        yield "every rule is of severity warn: nothing can fail"
