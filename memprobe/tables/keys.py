"""Columns that item-level tables start with."""

from collections.abc import Mapping

import polars as pl

from memprobe.tables.schema import Column, TableSchema

NO_STEP = "the checkpoint has no step"
ALONE = "a string has no token with a condition"
NO_CONDITION = "the first suffix token has no condition"

ITEM_KEYS: Mapping[str, Column] = {
    "model": Column(pl.String(), "-", "hub id, or name of the sequence's folder"),
    "revision": Column(pl.String(), "-", "git revision, or name of the checkpoint's folder"),
    "step": Column(pl.Int64(), "optimizer updates", "the checkpoint's training step", NO_STEP),
    "item_id": Column(pl.String(), "-", "the item"),
    "group": Column(pl.String(), "-", "the item's group", "the item has no group"),
    "exposures": Column(pl.Int64(), "times", "how often the item was trained on", "not given"),
}


def item_table(
    name: str,
    columns: Mapping[str, Column],
    *,
    key: tuple[str, ...] = (),
    optional: Mapping[str, Column] | None = None,
) -> TableSchema:
    """Return an item-level table: the keys, the probe's columns, then the user's own columns."""
    return TableSchema(
        name=name,
        key=("model", "revision", "step", "item_id", *key),
        columns={**ITEM_KEYS, **columns},
        open_ended=True,
        optional=optional or {},
    )


SEQUENCE = Column(pl.String(), "-", "hub id, or name of the sequence's folder")
