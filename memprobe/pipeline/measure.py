"""From units to tables and summary: no model, no tokenizer, no torch.

One checkpoint is read at a time, so memory does not grow with the sequence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from memprobe.errors import InvalidRunError
from memprobe.items import CONTENT, own_columns
from memprobe.pipeline import dose
from memprobe.pipeline.contrast import Control, about_items
from memprobe.pipeline.history import EntryResult, HistoryBuilder, is_control_alone, parameters_of
from memprobe.pipeline.manifest import entries_of
from memprobe.pipeline.planning import EntryPlan, SequencePlan, Target
from memprobe.pipeline.prepare import plans_of
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context, condition_prefixes, item_values, rng_of, summarise
from memprobe.probes.contract import Scores
from memprobe.tables.clusters import COPIES
from memprobe.tables.conditions import is_under, join
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.manifest import LeftOutEntry, Manifest
from memprobe.tables.schema import Column, TableSchema
from memprobe.tables.spans import answer
from memprobe.tables.store import RunStore
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY
from memprobe.tables.views import WINDOWS

if TYPE_CHECKING:
    import numpy as np

LENGTHS = ("n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift")
UNFIT, NO_VALUE = "that cannot be measured", "without a value at some checkpoint"
_ENTRY = Column(pl.String(), "-", "which entry of the suite, by the settings in which they differ")


@dataclass(slots=True)
class Measured:
    """Results of a run, as far as its units reach.

    Attributes:
        tables: Name to item-level table, and `dose_response`.
        summary: Rows of `SUMMARY`.
        checks: Counts for the manifest.
        warnings: What makes numbers doubtful.
        unmeasured: Checkpoints, `model@revision`, of which units are missing.
        left_out: Items that are in no estimate of a probe.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    summary: pl.DataFrame = field(default_factory=SUMMARY.empty)
    checks: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    left_out: list[LeftOutEntry] = field(default_factory=list)

    def add(self, table: pl.DataFrame, name: str) -> None:
        """Add the rows of a checkpoint to a table."""
        self.tables[name] = (
            pl.concat([self.tables[name], table], how="diagonal") if name in self.tables else table
        )

    def add_sequence_results(self, said: Iterable[EntryResult]) -> None:
        """Add what probes say of whole sequences."""
        for each in said:
            result = each.result
            for name, rows in result.tables.items():
                self.add(rows, name)
            self.summary = pl.concat([self.summary, result.estimates])
            self.warnings += result.warnings
            for reason, n_items in result.left_out.items():
                self.add_left_out(each.model, each.probe, each.entry, reason, n_items)

    def add_left_out(self, model: str, probe: str, entry: str | None, reason: str, n_items: int) -> None:
        """Count items that are in no estimate of a probe; no items are no entry."""
        if n_items:
            found = LeftOutEntry(model=model, probe=probe, entry=entry, reason=reason, n_items=n_items)
            self.left_out.append(found)

    def add_doses(self, rows: pl.DataFrame) -> None:
        """Add rows of `DOSE_RESPONSE`; a run without a dose has no such table."""
        if rows.height:
            self.add(rows, DOSE_RESPONSE.name)


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
            # A gain is over the sequence's first checkpoint or over none: never over the next best.
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
    """Return what each entry measures on the control, by its place; nothing while it is not scored."""
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
    """Add one checkpoint's rows; returns the item-level values of each entry, and what they are about."""
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
    spans = answer(each.plan.requests, held, each.plan.schemes)
    items = plan.lengths.table.drop(CONTENT, strict=False)
    scores = Scores(spans, items, plan.lengths.seen_by(each.entry), target.step)
    result = each.entry.probe.measure(scores, each.entry.settings)
    texts = CONTENT if manifest.include_text else ()
    table = _item_table(_schema_of(each.entry), result, plan, target, prefix, texts)
    if each.entry.probe.over_time is None or each.entry.probe.over_time.keeps_items:
        measured.add(table, each.entry.probe.name)
    for derived in each.entry.probe.derived_for(each.entry.settings):
        further = derived.build(result, scores, each.entry.settings)
        if further.height:
            measured.add(_item_table(derived.schema, further, plan, target, prefix, ()), derived.schema.name)
    for aggregate in each.entry.probe.aggregates:
        about = about_items(plan.lengths.table, plan.lengths.given)
        draws = _draws(each.entry, prefix, manifest)
        rows = aggregate.build(table, about, scores, each.entry.settings, draws)
        if rows.height:
            measured.add(_aggregate_table(aggregate.schema, rows, target, prefix), aggregate.schema.name)
    for name, count in each.entry.probe.checks(spans).items():
        measured.checks[name] = measured.checks.get(name, 0) + count
    return table


def _schema_of(entry: Entry) -> TableSchema:
    windowed = entry.probe.window_table if entry.probe.reads_windows(entry.settings) else None
    return windowed or entry.probe.table


def _item_table(
    schema: TableSchema,
    result: pl.DataFrame,
    plan: SequencePlan,
    target: Target,
    prefix: str | None,
    texts: Sequence[str],
) -> pl.DataFrame:
    """Return a table's rows for one checkpoint: keys, exposures, the user's columns, the probe's own."""
    items = plan.lengths.table
    further = [name for name in own_columns(items) if name not in (*LENGTHS, COPIES)]
    shown = [name for name in texts if name in items.columns]
    carried = items.select("item_id", "group", "exposures", *further, *shown)
    keyed = result.join(carried, on="item_id", maintain_order="left").with_columns(
        model=pl.lit(target.model), revision=pl.lit(target.revision), step=pl.lit(target.step, pl.Int64)
    )
    if prefix is not None:
        schema, keyed = _with_entry(schema), keyed.with_columns(entry=pl.lit(prefix))
    table = schema.conform(keyed)
    own = [name for name in table.columns if name not in ITEM_KEYS and name not in further]
    return table.select(*ITEM_KEYS, *further, *own).sort(schema.key)


def _draws(entry: Entry, prefix: str | None, manifest: Manifest) -> "Callable[..., np.random.Generator]":
    """Return a source of draws for metric, group and condition, the same as that of the summary's row."""
    seed = str(manifest.seed)

    def draw(metric: str, group: str | None, condition: str) -> "np.random.Generator":
        full = join(prefix, condition) or ""
        return rng_of((seed, entry.probe.name, metric, str(group), full))

    return draw


def _aggregate_table(
    schema: TableSchema, rows: pl.DataFrame, target: Target, prefix: str | None
) -> pl.DataFrame:
    """Return the rows of a table of estimates of one checkpoint, with their keys."""
    keyed = rows.with_columns(
        model=pl.lit(target.model), revision=pl.lit(target.revision), step=pl.lit(target.step, pl.Int64)
    )
    if prefix is not None:
        schema, keyed = _with_entry(schema), keyed.with_columns(entry=pl.lit(prefix))
    return schema.conform(keyed)


def _doubts(plan: SequencePlan, summary: pl.DataFrame) -> list[str]:
    """Return what makes the estimates of one sequence doubtful."""
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
    """Count the items of one sequence that an entry cannot measure, or has no value of somewhere."""
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


def _with_entry(schema: TableSchema) -> TableSchema:
    """Return the schema of a table in which several entries of one probe stand."""
    return replace(schema, key=(*schema.key, "entry"), columns={**schema.columns, "entry": _ENTRY})


def write_items(plans: Sequence[SequencePlan], store: RunStore, *, include_text: bool) -> dict[str, str]:
    """Write the items of every sequence, and their windows where there are any, for `measure_again`.

    Returns:
        The SHA-256 of each table, by its name.
    """
    hidden = () if include_text else CONTENT
    items = [plan.lengths.table.drop(hidden, strict=False) for plan in plans]
    tables = {"items": _by_model(plans, items)}
    windows = _by_model(plans, [plan.lengths.windows for plan in plans])
    if windows.height:
        tables["windows"] = windows
    return {name: store.write_table(name, table) for name, table in tables.items()}


def _by_model(plans: Sequence[SequencePlan], tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    named = [
        table.select(pl.lit(plan.targets[0].model).alias("model"), pl.all())
        for plan, table in zip(plans, tables, strict=True)
    ]
    return pl.concat(named)


def measure_again(store: RunStore) -> Measured:
    """Measure a run directory again from its units, as far as they reach.

    Raises:
        InvalidRunError: There is no run in the directory, or it had not yet begun to score.
    """
    manifest = store.read_manifest()
    if manifest is None or "items" not in store.table_names():
        raise InvalidRunError("there is no run here that could be measured", where=str(store.path))
    items = store.read_table("items")
    windows = store.read_table("windows") if "windows" in store.table_names() else None
    tables = [
        (
            _of_model(items, about.model),
            WINDOWS.empty() if windows is None else _of_model(windows, about.model),
        )
        for about in manifest.sequences
    ]
    stages = [entries_of(stage) for stage in manifest.stages]
    return measure(plans_of(manifest, stages, tables), manifest, store)


def _of_model(table: pl.DataFrame, model: str) -> pl.DataFrame:
    return table.filter(pl.col("model") == model).drop("model")


def write_results(measured: Measured, store: RunStore) -> dict[str, str]:
    """Write tables and summary of a measured run; returns the SHA-256 of each, by its name."""
    tables = {**measured.tables, "summary": measured.summary}
    digests = {name: store.write_table(name, table) for name, table in tables.items()}
    store.write_csv("summary.csv", measured.summary)
    return digests
