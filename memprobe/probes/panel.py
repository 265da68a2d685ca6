"""Tables of items by checkpoints, shared by the probes over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.tables.clusters import cluster_names
from memprobe.tables.schema import TableSchema


def wide(rows: pl.DataFrame, steps: Sequence[int | None], outcome: str) -> pl.DataFrame:
    """Return one row per item, in the order of ids: `item_id`, and the outcome in one column per step.

    Args:
        rows: `item_id, step`, and the outcome; null where the outcome is not known.
        steps: Steps to include; None stands for a checkpoint without a step. `step_name` names their columns.
        outcome: Name of the outcome's column.
    """
    return (
        rows.select("item_id", "step", value=pl.col(outcome).cast(pl.Float64))
        .pivot("step", index="item_id", values="value")
        .select("item_id", *map(step_name, steps))
        .sort("item_id")
    )


def step_name(step: int | None) -> str:
    """Return the name that `wide` gives the column of a step."""
    return "null" if step is None else str(step)


def cluster_numbers(items: pl.DataFrame) -> NDArray[np.int64]:
    """Return the number of each item's cluster: items of one document are in one cluster, and so are copies.

    Args:
        items: Items as in `cluster_names`.
    """
    numbers = cluster_names(items).rank("dense").cast(pl.Int64) - 1
    return numbers.to_numpy()


def sequence_frame(rows: Sequence[Mapping[str, Any]], schema: TableSchema) -> pl.DataFrame:
    """Return a table about a sequence, without the column `model`; values missing in a row are null."""
    types = {name: column.dtype for name, column in schema.columns.items() if name != "model"}
    full = [{name: row.get(name) for name in types} for row in rows]
    return pl.DataFrame(full, schema=types, orient="row")
