"""Compare two runs: the differences of every metric that both hold, over the items that both hold."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from memprobe.comparison.differences import not_compared, of_metric
from memprobe.comparison.match import Checkpoints, Matched, MatchedEntry, MatchedItems, match
from memprobe.errors import InputError, Problem
from memprobe.pipeline.contrast import about_items, with_control
from memprobe.pipeline.reading import Run, choose_steps, open_run
from memprobe.pipeline.signature import signature
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import change
from memprobe.probes.contract import Metric
from memprobe.probes.discovery import discover
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.manifest import CheckpointEntry
from memprobe.tables.store import RunStore
from memprobe.wording import near_miss

Values = Mapping[str, pl.DataFrame]
LAST = "last"
Listener = Callable[[int, int], object]
_TOLD = "it is estimated from the whole sequence and has no item values"
_NOT_MEASURED = "it was not measured at this checkpoint in both runs"
_NO_FIRST = "it is the gain over the first checkpoint, which is this one or was not measured in both runs"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs compared.

    Example:
        found = memprobe.compare("reports/base", "reports/new")
        found.differences.filter(pl.col("outcome") == "worse")

    Attributes:
        base: Directory of the base run.
        new: Directory of the new run.
        differences: Rows of `DIFFERENCES`: new minus base.
        items: Which items were compared.
        checkpoints: Which checkpoints were compared.
        notes: Items, checkpoints and entries without a partner in the other run.
    """

    base: Path
    new: Path
    differences: pl.DataFrame
    items: MatchedItems
    checkpoints: tuple[Checkpoints, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> pl.DataFrame:
        """The differences that are more memorized beyond their interval."""
        return self.differences.filter(pl.col("outcome") == "worse")

    @property
    def compared(self) -> pl.DataFrame:
        """The rows that have a difference."""
        return self.differences.filter(pl.col("reason").is_null())


def compare(
    base: str | Path | Run,
    new: str | Path | Run,
    *,
    probes: Collection[str] = (),
    metrics: Collection[str] = (),
    steps: str | Collection[int] = (),
    listener: Listener | None = None,
) -> Comparison:
    """Compare two runs item by item: new minus base, with intervals.

    Items are matched by id and content, checkpoints by model and step. Two runs of one sequence each
    are compared whatever the names of the models, and two runs of one checkpoint each whatever the step. A
    model without a step is compared with a step only as the last one, where `last` is asked for.

    Example:
        memprobe.compare("reports/base", "reports/new", probes=["recall"]).differences

    Args:
        base: The run to compare with.
        new: The run that is judged.
        probes: Only these probes; if empty, all that both runs hold.
        metrics: Only these metrics; if empty, all.
        steps: Only these steps of the new run, as in `--steps` or one by one, or `last`; if empty, all.
        listener: Called before each checkpoint of each probe, with how many are done and how many there are.

    Raises:
        InvalidRunError: There is no run in a directory.
        RunsDifferError: The runs have nothing in common, or their numbers depend on different things: the
            version or settings of a probe, BOS mode, dtype, tokenizer. The message names all of them.
        InputError: There is no such metric or step.
    """
    runs = [each if isinstance(each, Run) else open_run(each) for each in (base, new)]
    _check_names(runs, probes, metrics)
    matched = match(runs[0], runs[1], probes, last=steps == LAST)
    _check_metrics(matched, metrics)
    if steps and steps != LAST:
        chosen = choose_steps(steps, (each.step for each in matched.checkpoints if each.step is not None))
        kept = tuple(each for each in matched.checkpoints if each.step in chosen)
        matched = replace(matched, checkpoints=kept)
    sides = (
        _Side(runs[0], {each.step_base for each in matched.checkpoints}),
        _Side(runs[1], {each.step for each in matched.checkpoints}),
    )
    done, n = itertools.count(), len(matched.entries) * len(matched.checkpoints)
    rows = [
        row
        for entry in matched.entries
        for row in _of_entry(entry, matched, sides, metrics, lambda: listener and listener(next(done), n))
        if not metrics or row["metric"] in metrics
    ]
    frame = pl.DataFrame(rows, schema=DIFFERENCES.empty().schema, orient="row")
    return Comparison(
        runs[0].path,
        runs[1].path,
        DIFFERENCES.conform(frame),
        matched.items,
        matched.checkpoints,
        matched.notes,
    )


def _check_names(runs: Collection[Run], probes: Collection[str], metrics: Collection[str]) -> None:
    """Refuse names of metrics that neither run could hold, because they are mistyped.

    Raises:
        InputError: There are such names; all at once.
    """
    held = {each.probe for run in runs for each in run.about.asked}
    known = {
        metric.name for name, probe in discover().items() if name in held for metric in probe.all_metrics
    }
    problems = [
        Problem(f"neither run has a {kind} `{name}`{near_miss(name, there)}", fix=fix)
        for kind, wanted, there, fix in (
            ("probe", probes, held, f"probes are {', '.join(sorted(held))}"),
            ("metric", metrics, known, f"metrics are {', '.join(sorted(known))}"),
        )
        for name in wanted
        if name not in there
    ]
    if problems:
        raise InputError(problems)


def _check_metrics(matched: Matched, metrics: Collection[str]) -> None:
    known = {metric.name for each in matched.entries for metric in each.entry.probe.all_metrics}
    problems = [
        Problem(
            f"no probe of both runs has a metric `{name}`{near_miss(name, known)}",
            fix=f"metrics are {', '.join(sorted(known))}",
        )
        for name in metrics
        if name not in known
    ]
    if problems:
        raise InputError(problems)


class _Side:
    """One run, its tables read once: the rows of some steps, and of each sequence's first."""

    def __init__(self, run: Run, steps: Collection[int | None]) -> None:
        self.run, self.manifest, self.summary = run, run.about, run.summary
        self._tables: dict[str, pl.DataFrame | None] = {}
        self._about: dict[str, pl.DataFrame] = {}
        models = {each.model for each in self.manifest.checkpoints}
        self._steps = {*steps, *(self._first(model).step for model in models)}
        if not run.finished:
            from memprobe.pipeline.again import measure_again

            self._tables.update(measure_again(RunStore(run.path)).tables)
        self._firsts: dict[tuple[str, str, str | None, str], pl.DataFrame | None] = {}

    def values(
        self, entry: Entry, wanted: Collection[Metric], prefix: str | None, model: str, revision: str
    ) -> Values:
        """Return item values of these metrics at one checkpoint; empty if it was not measured."""
        table = self._table(entry.probe.name)
        if table is None:
            return {}
        rows = table.filter(pl.col("model") == model, pl.col("revision") == revision)
        rows = rows if prefix is None else rows.filter(pl.col("entry") == prefix)
        if rows.is_empty():
            return {}
        return {metric.name: metric.values(rows, entry.settings) for metric in wanted}

    def first(self, entry: Entry, metric: Metric, prefix: str | None, model: str) -> pl.DataFrame | None:
        """Return item values of a metric at a sequence's first checkpoint, which all later ones need."""
        key = (entry.probe.name, metric.name, prefix, model)
        if key not in self._firsts:
            found = self.values(entry, [metric], prefix, model, self.first_revision(model))
            self._firsts[key] = found.get(metric.name)
        return self._firsts[key]

    def first_revision(self, model: str) -> str:
        """Return the revision of a sequence's first checkpoint."""
        return self._first(model).revision

    def _first(self, model: str) -> CheckpointEntry:
        of_model = [each for each in self.manifest.checkpoints if each.model == model]
        return min(of_model, key=lambda each: each.step or 0)

    def about(self, model: str, items: MatchedItems) -> pl.DataFrame:
        """Return the facts of the items that both runs hold, for summaries."""
        if model not in self._about:
            of_model = self.run.table("items").filter(pl.col("model") == model)
            shared = of_model.filter(pl.col("item_id").is_in(list(items.both)))
            self._about[model] = about_items(shared, self.manifest.given)
        return self._about[model]

    def _table(self, name: str) -> pl.DataFrame | None:
        if name not in self._tables:
            store = RunStore(self.run.path)
            # A table that was lost is no probe that was not measured: reading it says so.
            there = self.run.finished and (
                name in store.table_names() or not self.summary.filter(pl.col("probe") == name).is_empty()
            )
            self._tables[name] = store.read_table(name, steps=self._steps) if there else None
        return self._tables[name]


def _of_entry(
    entry: MatchedEntry,
    matched: Matched,
    sides: tuple[_Side, _Side],
    metrics: Collection[str],
    tell: Callable[[], object],
) -> Iterator[dict[str, Any]]:
    probe = entry.entry.probe
    wanted = [
        metric
        for metric in probe.metrics_for(entry.entry.settings)
        if not metrics or metric.name in metrics or (metric.against_never and metric.excess().name in metrics)
    ]
    told = [metric.name for metric in probe.metrics if metric.summary == "sequence"]
    for pair in matched.checkpoints:
        tell()
        keys = _keys(pair) | {"probe": probe.name, "signature": signature(entry.entry, pair.scoring)}
        for row in _of_pair(entry, wanted, pair, matched, sides):
            yield keys | row
    for model_base, model_new in dict.fromkeys(
        (each.model_base, each.model_new) for each in matched.checkpoints
    ):
        rows = sides[1].summary.filter(probe=probe.name, model=model_new).filter(pl.col("revision").is_null())
        scoring = matched.checkpoints[0].scoring
        signed = rows.filter(pl.col("signature") == signature(entry.entry, scoring))
        keys = {"model_base": model_base, "model_new": model_new, "step_base": None, "step": None}
        for row in not_compared(signed, told, _TOLD):
            yield keys | {"probe": probe.name, "signature": signature(entry.entry, scoring)} | row


def _keys(pair: Checkpoints) -> dict[str, Any]:
    return {
        "model_base": pair.model_base,
        "model_new": pair.model_new,
        "step_base": pair.step_base,
        "step": pair.step,
    }


def _of_pair(
    entry: MatchedEntry,
    wanted: Collection[Metric],
    pair: Checkpoints,
    matched: Matched,
    sides: tuple[_Side, _Side],
) -> Iterator[dict[str, Any]]:
    if not wanted:
        return
    base = sides[0].values(entry.entry, wanted, entry.prefix_base, pair.model_base, pair.revision_base)
    new = sides[1].values(entry.entry, wanted, entry.prefix_new, pair.model_new, pair.revision_new)
    about = sides[1].about(pair.model_new, matched.items)
    of_step = sides[1].summary.filter(
        pl.col("probe") == entry.entry.probe.name,
        pl.col("model") == pair.model_new,
        pl.col("revision") == pair.revision_new,
    )
    seed = (str(sides[1].manifest.seed), "compare", entry.entry.probe.name)
    for metric in wanted:
        if not base or not new:
            yield from not_compared(of_step, [metric.name], _NOT_MEASURED)
            continue
        values = base[metric.name], new[metric.name]
        frames = _gains(metric, values, entry, pair, sides) if metric.since_first else values
        if frames is None:
            yield from not_compared(of_step, [metric.name], _NO_FIRST)
            continue
        yield from of_metric(metric, *frames, about, entry.prefix_new, seed)
        if metric.against_never:
            yield from _over_control(metric, of_step, sides)


def _gains(
    metric: Metric,
    frames: tuple[pl.DataFrame, pl.DataFrame],
    entry: MatchedEntry,
    pair: Checkpoints,
    sides: tuple[_Side, _Side],
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return values as changes from each run's first checkpoint; None at it, or if it was not measured."""
    at_first = (
        pair.revision_base == sides[0].first_revision(pair.model_base),
        pair.revision_new == sides[1].first_revision(pair.model_new),
    )
    was = sides[0].first(entry.entry, metric, entry.prefix_base, pair.model_base)
    now = sides[1].first(entry.entry, metric, entry.prefix_new, pair.model_new)
    if any(at_first) or was is None or now is None:
        return None
    return change(frames[0], was), change(frames[1], now)


def _over_control(
    metric: Metric, of_step: pl.DataFrame, sides: tuple[_Side, _Side]
) -> Iterator[dict[str, Any]]:
    """Yield the rows in excess of a control model, which need no difference of their own."""
    was, control = (side.manifest.control for side in sides)
    if control is None:
        return
    rows = of_step.filter(pl.col("condition").str.ends_with(with_control(None, control.label)))
    same = was is not None and was.label == control.label
    cancels = f"the control cancels out: see {metric.name}"
    reason = cancels if same else "the base run has another control, or none"
    yield from not_compared(rows, [metric.excess().name], reason)
