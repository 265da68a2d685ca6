"""Add to a probe's rows the keys, the exposures and the user's columns."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from memprobe.items import own_columns
from memprobe.pipeline.plans import SequencePlan, Target
from memprobe.pipeline.suite import Entry
from memprobe.tables.clusters import COPIES
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.schema import Column, TableSchema

LENGTHS = ("n_tokens", "n_prefix_tokens", "n_foil_tokens", "boundary_shift")
_ENTRY = Column(pl.String(), "-", "which entry of the suite, by the settings in which they differ")


def schema_of(entry: Entry) -> TableSchema:
    """Return the schema of the item-level table that an entry fills."""
    windowed = entry.probe.window_table if entry.probe.reads_windows(entry.settings) else None
    return windowed or entry.probe.table


def item_table(
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


def aggregate_table(
    schema: TableSchema, rows: pl.DataFrame, target: Target, prefix: str | None
) -> pl.DataFrame:
    """Return the rows of a table of estimates of one checkpoint, with their keys."""
    keyed = rows.with_columns(
        model=pl.lit(target.model), revision=pl.lit(target.revision), step=pl.lit(target.step, pl.Int64)
    )
    if prefix is not None:
        schema, keyed = _with_entry(schema), keyed.with_columns(entry=pl.lit(prefix))
    return schema.conform(keyed)


def _with_entry(schema: TableSchema) -> TableSchema:
    """Return the schema of a table with rows of several entries of one probe."""
    return replace(schema, key=(*schema.key, "entry"), columns={**schema.columns, "entry": _ENTRY})
