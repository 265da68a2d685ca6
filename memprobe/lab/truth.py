"""Which item was trained on when: the order of training, the item file, and the truth table.

A step is the number of optimizer updates done: an item in the batch of the 1-based update u has
been trained on at step u, and a checkpoint of step u has seen it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.lab.corpus import LabItem
from memprobe.tables.files import appearing
from memprobe.tables.schema import Column, TableSchema

_ORDER_STREAM = 2

LAB_TRUTH = TableSchema(
    name="truth",
    key=("item_id", "exposure_index"),
    columns={
        "item_id": Column(pl.String(), "-", "the item"),
        "group": Column(pl.String(), "-", "its group"),
        "exposure_index": Column(pl.Int64(), "-", "1 for the first exposure; 0: never trained on"),
        "step": Column(pl.Int64(), "steps", "updates done when it had been trained on", "never trained on"),
        "batch_position": Column(pl.Int64(), "-", "place in the batch, from 0", "never trained on"),
        "left_out": Column(pl.Boolean(), "-", "the twin was not trained on this item"),
    },
)


def phase_steps(item: LabItem, updates: int) -> tuple[int, int] | None:
    """Return the updates after which an item's phase begins and ends; None if it has none."""
    if item.phase is None:
        return None
    begin, end = (round(share * updates) for share in item.phase)
    return begin, end


def with_task_ends(items: Sequence[LabItem], updates: int) -> list[LabItem]:
    """Add `task_end_step`, the end of their phase, to items that are trained on in a phase."""
    steps = [phase_steps(item, updates) for item in items]
    return [
        item if at is None else replace(item, carried={**item.carried, "task_end_step": at[1]})
        for item, at in zip(items, steps, strict=True)
    ]


def training_order(
    n_exposures: Sequence[int],
    batch_sequences: int,
    seed: int,
    phases: Mapping[int, tuple[int, int]] | None = None,
) -> list[list[int]]:
    """Put the exposures of all items into batches.

    The training, or the item's phase, is divided into as many equal parts as the item has exposures; each
    exposure is at a random place of its part.

    Args:
        n_exposures: For each item, how often it is trained on.
        batch_sequences: Sequences per update; the last batch may be smaller.
        seed: The same seed gives the same order.
        phases: The updates after which the phase of an item begins and ends, by index of the item; only for
            items with a phase.

    Returns:
        For each update, indices of items.

    Raises:
        ValueError: A phase has no room for its exposures.
    """
    rng = np.random.default_rng([seed, _ORDER_STREAM])
    counts = np.asarray(n_exposures, dtype=np.int64)
    item = np.repeat(np.arange(len(counts)), counts)
    turn = np.concatenate([np.arange(count) for count in counts])
    order = item[np.argsort((turn + rng.random(len(item))) / counts[item], kind="stable")]
    if phases:
        spans = {index: (a * batch_sequences, b * batch_sequences) for index, (a, b) in phases.items()}
        order = _in_phases(order, spans, rng)
    return [order[i : i + batch_sequences].tolist() for i in range(0, len(order), batch_sequences)]


def _in_phases(
    order: NDArray[np.int64], spans: Mapping[int, tuple[int, int]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Move the exposures of items with a phase to random places in it; all others keep their order."""
    placed = np.empty_like(order)
    is_open = np.ones(len(order), dtype=np.bool_)
    for span in sorted(set(spans.values())):
        moved = order[np.isin(order, [index for index, own in spans.items() if own == span])]
        room = span[0] + np.flatnonzero(is_open[slice(*span)])
        if len(room) < len(moved):
            raise ValueError(f"{len(moved)} exposures in a phase with room for {len(room)}")
        places = np.sort(rng.choice(room, size=len(moved), replace=False))
        placed[places] = moved
        is_open[places] = False
    placed[is_open] = order[~np.isin(order, list(spans))]
    return placed


def truth_table(
    items: Sequence[LabItem], batches: Sequence[Sequence[int]], left_out: frozenset[str]
) -> pl.DataFrame:
    """Tabulate every exposure in the main sequence.

    Args:
        items: The items to which the batches point; rows come in their order.
        batches: For each update, indices of items; those beyond `items` are skipped.
        left_out: Items that the twin is not trained on.

    Returns:
        `LAB_TRUTH`: one row per exposure, and for an item never trained on one row with
        `exposure_index` 0 and null `step`.
    """
    seen: dict[int, list[tuple[int, int]]] = {}
    for step, batch in enumerate(batches, start=1):
        for position, index in enumerate(batch):
            seen.setdefault(index, []).append((step, position))
    rows: list[tuple[object, ...]] = [
        (item.item_id, item.group, number, step, position, item.item_id in left_out)
        for index, item in enumerate(items)
        for number, (step, position) in enumerate(seen.get(index, ()), start=1)
    ]
    rows += [
        (item.item_id, item.group, 0, None, None, item.item_id in left_out)
        for index, item in enumerate(items)
        if index not in seen
    ]
    return LAB_TRUTH.conform(pl.DataFrame(rows, schema=LAB_TRUTH.empty().schema, orient="row"))


def write_truth(truth: pl.DataFrame, path: Path) -> None:
    """Write the truth table as Parquet."""
    with appearing(path) as file:
        truth.write_parquet(file)


def write_items(items: Sequence[LabItem], truth: pl.DataFrame, path: Path) -> None:
    """Write the item file as JSONL, readable by its owner alone since it holds text.

    `first_step` and `last_step` are the steps of the first and last exposure in the main sequence,
    `exposure_steps` those of all exposures; null for an item never trained on. `exposures` is set for
    canaries only.
    """
    steps = dict(truth.group_by("item_id").agg(pl.col("step").drop_nulls().sort()).iter_rows())
    left_out = set(truth.filter("left_out")["item_id"])
    with appearing(path, private=True) as file:
        for item in items:
            row = dict(_columns(item, steps[item.item_id]))
            if left_out and item.n_exposures:
                row["left_out"] = item.item_id in left_out
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def _columns(item: LabItem, steps: Sequence[int]) -> Iterator[tuple[str, object]]:
    yield "item_id", item.item_id
    if item.prefix_chars is None:
        yield "text", item.text
    else:
        yield "prefix", item.text[: item.prefix_chars]
        yield "suffix", item.text[item.prefix_chars :]
    if item.foil is not None:
        yield from (("foil", item.foil), ("foil_kind", item.foil_kind))
    yield "group", item.group
    if item.group == "canary":
        yield "exposures", item.n_exposures
    yield "first_step", steps[0] if steps else None
    yield "last_step", steps[-1] if steps else None
    yield "exposure_steps", list(steps) or None
    if item.doc_id is not None:
        yield "doc_id", item.doc_id
    yield from item.carried.items()


def swap(batches: Sequence[Sequence[int]], replacement: Mapping[int, int]) -> list[list[int]]:
    """Return the batches with some items replaced by others."""
    return [[replacement.get(index, index) for index in batch] for batch in batches]
