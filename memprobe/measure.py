"""From units to tables and summary: no model, no tokenizer, no torch.

One checkpoint is read at a time, so memory does not grow with the sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from memprobe.errors import InvalidRunError
from memprobe.items import CONTENT, ITEMS
from memprobe.manifest import entries_of
from memprobe.planning import EntryPlan, SequencePlan, Target
from memprobe.prepare import plans_of
from memprobe.probes.base import Scores
from memprobe.summarise import Context, condition_prefixes, item_values, summarise
from memprobe.tables.catalogue import ITEM_KEYS, SUMMARY
from memprobe.tables.schema import Column, TableSchema
from memprobe.tables.spans import answer
from memprobe.tables.store import RunStore

LENGTHS = ("n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift")
_ENTRY = Column(pl.String(), "-", "which entry of the suite, by the settings in which they differ")


@dataclass(slots=True)
class Measured:
    """Results of a run, as far as its units reach.

    Attributes:
        tables: Name to item-level table.
        summary: Rows of `SUMMARY`.
        checks: Counts for the manifest.
        unmeasured: Checkpoints, `model@revision`, of which units are missing.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    summary: pl.DataFrame = field(default_factory=SUMMARY.empty)
    checks: dict[str, int] = field(default_factory=dict)
    unmeasured: list[str] = field(default_factory=list)

    def add(self, table: pl.DataFrame, name: str) -> None:
        """Add the rows of a checkpoint to a table."""
        self.tables[name] = (
            pl.concat([self.tables[name], table], how="diagonal") if name in self.tables else table
        )


def measure(plans: Sequence[SequencePlan], manifest: Mapping[str, Any], store: RunStore) -> Measured:
    """Measure and summarise every checkpoint whose units are all there."""
    measured = Measured()
    for plan in plans:
        first: list[Mapping[str, pl.DataFrame]] | None = None
        for number, target in enumerate(plan.targets):
            if not all(store.has_unit(target.context, unit) for unit in plan.units):
                measured.unmeasured.append(target.label)
                continue
            values = _checkpoint(plan, target, first, manifest, store, measured)
            # A gain is over the sequence's first checkpoint or over none: never over the next best.
            first = values if number == 0 else first
    SUMMARY.check(measured.summary)
    return measured


def _checkpoint(
    plan: SequencePlan,
    target: Target,
    first: list[Mapping[str, pl.DataFrame]] | None,
    manifest: Mapping[str, Any],
    store: RunStore,
    measured: Measured,
) -> list[Mapping[str, pl.DataFrame]]:
    """Add one checkpoint's rows; returns the item-level values of each entry."""
    held = store.read_units(target.context, plan.units)
    prefixes = condition_prefixes(tuple(each.entry for each in plan.entries))
    scoring = f"bos:{manifest['bos']}|{manifest['dtype']}|tok:{(target.tokenizer or 'none')[:12]}"
    context = Context(target.model, target.revision, target.step, manifest["seed"], scoring)
    values: list[Mapping[str, pl.DataFrame]] = []
    for number, (each, prefix) in enumerate(zip(plan.entries, prefixes, strict=True)):
        spans = answer(each.plan.requests, held, each.plan.schemes)
        table = _item_table(each, spans, plan, target, prefix, include_text=manifest["include_text"])
        measured.add(table, each.entry.probe.name)
        values.append(item_values(each.entry, table))
        for name, count in each.entry.probe.checks(spans).items():
            measured.checks[name] = measured.checks.get(name, 0) + count
        rows = summarise(
            each.entry, values[-1], first[number] if first else None, plan.lengths.table, context, prefix
        )
        measured.summary = pl.concat([measured.summary, rows])
    return values


def _item_table(
    each: EntryPlan,
    spans: pl.DataFrame,
    plan: SequencePlan,
    target: Target,
    prefix: str | None,
    *,
    include_text: bool,
) -> pl.DataFrame:
    """Return a probe's rows for one checkpoint: keys, exposures, the user's columns, the probe's own."""
    items = plan.lengths.table
    further = [name for name in items.columns if name not in ITEMS.columns and name not in LENGTHS]
    texts = [name for name in CONTENT if name in items.columns]
    result = each.entry.probe.measure(Scores(spans, items.drop(texts)), each.entry.settings)
    shown = texts if include_text else []
    carried = items.select("item_id", "group", "exposures", *further, *shown)
    keyed = result.join(carried, on="item_id", maintain_order="left").with_columns(
        model=pl.lit(target.model), revision=pl.lit(target.revision), step=pl.lit(target.step, pl.Int64)
    )
    schema = each.entry.probe.table
    if prefix is not None:
        schema, keyed = _with_entry(schema), keyed.with_columns(entry=pl.lit(prefix))
    table = schema.conform(keyed)
    own = [name for name in table.columns if name not in ITEM_KEYS and name not in further]
    return table.select(*ITEM_KEYS, *further, *own).sort(schema.key)


def _with_entry(schema: TableSchema) -> TableSchema:
    """Return the schema of a table in which several entries of one probe stand."""
    return replace(schema, key=(*schema.key, "entry"), columns={**schema.columns, "entry": _ENTRY})


def item_tables(plans: Sequence[SequencePlan], *, include_text: bool) -> pl.DataFrame:
    """Return the items of every sequence as one table, keyed by `model` and `item_id`."""
    hidden = () if include_text else CONTENT
    return pl.concat(
        [
            plan.lengths.table.drop(hidden, strict=False).select(
                pl.lit(plan.targets[0].model).alias("model"), pl.all()
            )
            for plan in plans
        ]
    )


def measure_again(store: RunStore) -> Measured:
    """Measure a run directory anew from its units, as far as they reach.

    Raises:
        InvalidRunError: There is no run in the directory, or it had not yet begun to score.
    """
    manifest = store.read_manifest()
    if manifest is None or "items" not in store.table_names():
        raise InvalidRunError("there is no run here that could be measured", where=str(store.path))
    items = store.read_table("items")
    tables = [
        items.filter(pl.col("model") == about["model"]).drop("model") for about in manifest["sequences"]
    ]
    stages = [entries_of(stage) for stage in manifest["stages"]]
    return measure(plans_of(manifest, stages, tables), manifest, store)


def write_results(measured: Measured, store: RunStore) -> None:
    """Write tables and summary of a measured run."""
    for name, table in measured.tables.items():
        store.write_table(name, table)
    store.write_table("summary", measured.summary)
    store.write_csv("summary.csv", measured.summary)
