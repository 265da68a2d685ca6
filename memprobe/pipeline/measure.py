"""Make tables and summary from units, without model, tokenizer or torch.

One checkpoint is read at a time, so memory does not grow with the sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from memprobe.items import CONTENT
from memprobe.pipeline import dose
from memprobe.pipeline.contrast import Control, about_items
from memprobe.pipeline.estimate import rng_of
from memprobe.pipeline.history import HistoryBuilder, is_control_alone, parameters_of
from memprobe.pipeline.item_tables import aggregate_table, item_table, schema_of
from memprobe.pipeline.measured import Measured
from memprobe.pipeline.plans import EntryPlan, SequencePlan, Target
from memprobe.pipeline.signature import condition_prefixes
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context, item_values, summarise
from memprobe.probes.contract import Scores
from memprobe.tables.conditions import is_under, join
from memprobe.tables.manifest import Manifest
from memprobe.tables.spans import answer
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY

if TYPE_CHECKING:
    import numpy as np

UNFIT, NO_VALUE = "that cannot be measured", "without a value at some checkpoint"


def measure(plans: Sequence[SequencePlan], manifest: Manifest, store: RunStore) -> Measured:
    """Measure and summarise every checkpoint whose units are all there."""
    measured = Measured()
    controls = _controls(plans, manifest, store)
    last: list[dose.Measurement] = []
    histories: list[HistoryBuilder] = []
    for plan in plans:
        first: Sequence[Mapping[str, pl.DataFrame]] | None = None
        history_builder = HistoryBuilder(plan, manifest)
        for number, target in enumerate(plan.targets):
            if not _is_scored(plan, target, store):
                measured.unmeasured.append(target.label)
                continue
            of_target = {} if _is_control(target, manifest) else controls
            found = _checkpoint(plan, target, first, of_target, manifest, store, measured, history_builder)
            measured.add_doses(dose.of_checkpoint(found))
            # A gain is over the sequence's first checkpoint; if that is missing, there is no gain.
            first = found.values if number == 0 else first
            if target is plan.targets[-1] and not _is_control(target, manifest):
                last.append(found)
        if not is_control_alone(plan, manifest):
            measured.warnings += dict.fromkeys(_doubts(plan, measured.summary))
            _count_left_out(plan, measured)
        measured.add_sequence_results(history_builder.results())
        histories.append(history_builder)
    for history_builder in histories:
        measured.add_sequence_results(history_builder.results_with_others(histories))
    measured.add_doses(dose.across_models(last))
    SUMMARY.check(measured.summary)
    return measured


def _is_scored(plan: SequencePlan, target: Target, store: RunStore) -> bool:
    return all(store.has_unit(target.context, unit) for unit in plan.units)


def _is_control(target: Target, manifest: Manifest) -> bool:
    control = manifest.control
    return control is not None and (target.model, target.revision) == control.name


def _controls(plans: Sequence[SequencePlan], manifest: Manifest, store: RunStore) -> dict[int, Control]:
    """Return the values of each entry on the control, by the entry's place; empty until it is scored."""
    for plan in plans:
        for target in plan.targets:
            if not _is_control(target, manifest) or not _is_scored(plan, target, store):
                continue
            found = _checkpoint(plan, target, None, {}, manifest, store, Measured())
            identity = f"{target.label}:{target.context[:12]}"
            label = manifest.control.label if manifest.control else ""
            return {place: Control(label, identity, values) for place, values in enumerate(found.values)}
    return {}


def _checkpoint(
    plan: SequencePlan,
    target: Target,
    first: Sequence[Mapping[str, pl.DataFrame]] | None,
    controls: Mapping[int, Control],
    manifest: Manifest,
    store: RunStore,
    measured: Measured,
    history_builder: HistoryBuilder | None = None,
) -> dose.Measurement:
    """Add one checkpoint's rows; returns the item-level values of each entry, with facts of the items."""
    held = store.read_units(target.context, plan.units)
    prefixes = condition_prefixes(tuple(each.entry for each in plan.entries))
    scoring = manifest.scoring_signature(target.tokenizer)
    context = Context(target.model, target.revision, target.step, manifest.seed, scoring)
    given = plan.lengths.given
    values: list[Mapping[str, pl.DataFrame]] = []
    for number, (each, prefix) in enumerate(zip(plan.entries, prefixes, strict=True)):
        table = _measured(each, plan, target, prefix, held, manifest, measured)
        if history_builder is not None:
            history_builder.add(number, target, table)
        values.append(item_values(each.entry, table))
        rows = summarise(
            each.entry,
            values[-1],
            first[number] if first else None,
            plan.lengths.table,
            context,
            prefix,
            given=given,
            control=controls.get(number),
        )
        measured.summary = pl.concat([measured.summary, rows])
    about = about_items(plan.lengths.table, given)
    return dose.Measurement(plan.entries, prefixes, values, about, context, parameters_of(target, manifest))


def _measured(
    each: EntryPlan,
    plan: SequencePlan,
    target: Target,
    prefix: str | None,
    held: pl.DataFrame,
    manifest: Manifest,
    measured: Measured,
) -> pl.DataFrame:
    """Add one entry's item-level tables of one checkpoint, and its checks; returns the first table."""
    spans = answer(each.plan.requests, held, each.plan.statistics)
    items = plan.lengths.table.drop(CONTENT, strict=False)
    scores = Scores(spans, items, plan.lengths.seen_by(each.entry), target.step)
    result = each.entry.probe.measure(scores, each.entry.settings)
    texts = CONTENT if manifest.include_text else ()
    table = item_table(schema_of(each.entry), result, plan, target, prefix, texts)
    if each.entry.probe.over_time is None or each.entry.probe.over_time.keeps_items:
        measured.add(table, each.entry.probe.name)
    for derived in each.entry.probe.derived_for(each.entry.settings):
        further = derived.build(result, scores, each.entry.settings)
        if further.height:
            measured.add(item_table(derived.schema, further, plan, target, prefix, ()), derived.schema.name)
    for aggregate in each.entry.probe.aggregates:
        about = about_items(plan.lengths.table, plan.lengths.given)
        draws = _draws(each.entry, prefix, manifest)
        rows = aggregate.build(table, about, scores, each.entry.settings, draws)
        if rows.height:
            measured.add(aggregate_table(aggregate.schema, rows, target, prefix), aggregate.schema.name)
    for name, count in each.entry.probe.checks(spans).items():
        measured.checks[name] = measured.checks.get(name, 0) + count
    return table


def _draws(entry: Entry, prefix: str | None, manifest: Manifest) -> "Callable[..., np.random.Generator]":
    """Return a function from metric, group and condition to the random generator of the summary's row."""
    seed = str(manifest.seed)

    def draw(metric: str, group: str | None, condition: str) -> "np.random.Generator":
        full = join(prefix, condition) or ""
        return rng_of((seed, entry.probe.name, metric, str(group), full))

    return draw


def _doubts(plan: SequencePlan, summary: pl.DataFrame) -> list[str]:
    """Return the reasons to doubt the estimates of one sequence."""
    model = plan.targets[0].model
    rows = summary.filter(pl.col("model") == model)
    return [
        f"{model}, {each.entry.probe.name}: {text}"
        for each in plan.entries
        for text in each.entry.probe.doubts(
            rows.filter(pl.col("probe") == each.entry.probe.name), each.entry.settings
        )
    ]


def _count_left_out(plan: SequencePlan, measured: Measured) -> None:
    """Count the items of one sequence that an entry cannot measure or lacks a value for."""
    model = plan.targets[0].model
    entries = tuple(each.entry for each in plan.entries)
    for each, prefix in zip(plan.entries, condition_prefixes(entries), strict=True):
        probe = each.entry.probe
        n_unfit = 0 if each.plan.unfit is None else each.plan.unfit["item_id"].n_unique()
        measured.add_left_out(model, probe.name, prefix, UNFIT, n_unfit)
        if metrics := probe.metrics_for(each.entry.settings):
            rows = measured.summary.filter(
                pl.col("model") == model,
                pl.col("probe") == probe.name,
                pl.col("metric") == metrics[0].name,
                pl.col("group").is_null(),
            )
            rows = rows.filter(is_under(prefix))
            n_missing: int = rows["n_missing"].max() or 0  # type: ignore[assignment]  # whole numbers
            measured.add_left_out(model, probe.name, prefix, NO_VALUE, n_missing)
