"""When each sequence of a stream was trained on, and which of them become items.

The sequence at position i (from 0, in training order) is in batch i // batch_size, and has been trained
on once (i // batch_size) + 1 updates are done, which is its `first_step`: with a batch of 1,024, positions
0 to 1,023 have first_step 1, position 1,024 has 2, and the checkpoint of step 1 has seen the first of them.

If the order names a sequence again, as with several epochs, this sets its last_step and its exposures.
A text that occurs again inside another sequence (documents packed again) is not noticed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.documents.streams import Stream
from memprobe.errors import InputError, ItemError, Problem
from memprobe.wording import counted

Order = NDArray[np.int64]
"""At each position of the training, the number of the sequence, shape (n_positions,); repeats are epochs."""

_MOST_UNASKED: Final = 100_000
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Training:
    """How the stream was trained on.

    Attributes:
        batch_size: Sequences of one optimizer update, all devices and accumulation steps together.
        start_step: Updates done before position 0.
        order: The sequence at each position; None: the order of the stream, once.

    Raises:
        InputError: A number is out of its range.
    """

    batch_size: int
    start_step: int = 0
    order: Order | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"--batch-size is {self.batch_size}, not 1 or more")
        if self.start_step < 0:
            raise InputError(f"--start-step is {self.start_step}, not 0 or more")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which sequences become items: a number from all or from each batch; all if both are None.

    Attributes:
        n: Number drawn from the whole stream, uniformly.
        per_batch: Number drawn from each batch, uniformly.
        seed: Seed of the draw.

    Raises:
        InputError: A number is out of its range, or both are given.
    """

    n: int | None = None
    per_batch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("--n", self.n), ("--per-batch", self.per_batch)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, not 1 or more")
        if self.n is not None and self.per_batch is not None:
            raise InputError("--n and --per-batch exclude each other", fix="give one of them")


@dataclass(frozen=True, slots=True)
class SequenceItems:
    """Items, and what the stream holds.

    Attributes:
        items: `item_id, input_ids, first_step, last_step, exposures, batch_id, position`, sorted by
            `position`, the first at which the sequence was trained on.
        n_sequences: Sequences of the stream.
        n_batches: Whole batches of the training.
        notes: What the user should know, one sentence each.
    """

    items: pl.DataFrame
    n_sequences: int
    n_batches: int
    notes: tuple[str, ...]


def sequence_items(
    stream: Stream, training: Training, sampling: Sampling, *, vocabulary: int | None = None
) -> SequenceItems:
    """Make items of the sequences of a stream, with the steps at which they were trained on.

    Args:
        stream: The sequences.
        training: Batch size and order.
        sampling: Which sequences become items.
        vocabulary: Number of ids of the model; None: not known.

    Raises:
        ItemError: The stream does not fill a batch, or holds ids outside the vocabulary, or has fewer
            sequences than were asked for, or the order names sequences that do not exist.
        InputError: All of a very long stream are asked for.
    """
    size, order = training.batch_size, training.order
    n_positions = len(stream) if order is None else len(order)
    n_batches = n_positions // size
    if not n_batches:
        raise ItemError(
            f"{counted(n_positions, 'sequence')} cannot fill a batch of {size:,}",
            fix="--batch-size counts sequences of one optimizer update",
        )
    if order is not None and (order.min() < 0 or order.max() >= len(stream)):
        what = f"--order has numbers from {order.min()} to {order.max()}"
        raise ItemError(f"{what}, and the stream has {len(stream):,} sequences, 0 to {len(stream) - 1:,}")
    positions = _draw(order, n_batches, size, sampling)
    items = _table(stream, training, positions, n_batches * size, vocabulary)
    left = n_positions - n_batches * size
    notes = [f"{counted(left, 'sequence')} at the end, no whole batch of {size:,}, left out"] if left else []
    return SequenceItems(items, len(stream), n_batches, tuple(notes))


def _table(
    stream: Stream, training: Training, positions: Order, total: int, vocabulary: int | None
) -> pl.DataFrame:
    """Return the items at these positions; `total` positions are in whole batches."""
    order, size = training.order, training.batch_size
    places = positions if order is None else order[positions]
    by_place = np.argsort(places, kind="stable")
    places, positions = places[by_place], positions[by_place]
    ids, names = stream.read(places), stream.name(places)
    _check_ids(ids, names, vocabulary)
    last, exposures = _later(order, places, positions, total)
    return pl.DataFrame(
        {
            "item_id": names,
            "input_ids": pl.Series([row.tolist() for row in ids], dtype=pl.List(pl.Int64())),
            "first_step": training.start_step + positions // size + 1,
            "last_step": training.start_step + last // size + 1,
            "exposures": exposures,
            "batch_id": [str(number) for number in positions // size],
            "position": positions,
        }
    ).sort("position")


def _draw(order: Order | None, n_batches: int, size: int, sampling: Sampling) -> NDArray[np.int64]:
    """Return the positions of the items in rising order, each the first of its sequence."""
    rng = np.random.default_rng(sampling.seed)
    total = n_batches * size
    firsts = None if order is None else np.sort(np.unique(order[:total], return_index=True)[1])
    n = total if firsts is None else len(firsts)
    if sampling.per_batch is not None:
        return _per_batch(rng, firsts, n_batches, size, sampling.per_batch)
    if sampling.n is None:
        if n > _MOST_UNASKED:
            fix = "say how many with --n N, or --per-batch N"
            raise InputError(f"the stream holds {n:,} sequences, and all of them would become items", fix=fix)
        return np.arange(n) if firsts is None else firsts
    if sampling.n > n:
        raise ItemError(f"--n asks for {sampling.n:,} sequences, and there are {n:,} in whole batches")
    chosen = np.sort(rng.choice(n, sampling.n, replace=False))
    return chosen if firsts is None else firsts[chosen]


def _per_batch(
    rng: np.random.Generator, firsts: NDArray[np.int64] | None, n_batches: int, size: int, k: int
) -> NDArray[np.int64]:
    """Return `k` new positions of each batch, or all new ones if there are fewer."""
    if firsts is None:
        if k > size:
            raise InputError(f"--per-batch is {k:,}, and a batch has {size:,} sequences")
        picked = [np.sort(rng.choice(size, k, replace=False)) + batch * size for batch in range(n_batches)]
        return np.concatenate(picked)
    parts = np.split(firsts, np.searchsorted(firsts, np.arange(1, n_batches) * size))
    picked = [np.sort(rng.choice(part, min(k, len(part)), replace=False)) for part in parts]
    return np.concatenate(picked)


def _later(
    order: Order | None, places: NDArray[np.int64], positions: NDArray[np.int64], total: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the last position of each sequence, and how often it was trained on."""
    if order is None:
        return positions, np.ones(len(positions), dtype=np.int64)
    found, from_end, counts = np.unique(order[:total][::-1], return_index=True, return_counts=True)
    at = np.searchsorted(found, places)
    return total - 1 - from_end[at], counts[at]


def _check_ids(ids: list[NDArray[np.int64]], names: list[str], vocabulary: int | None) -> None:
    """Refuse sequences with ids that the model does not have.

    Raises:
        ItemError: Names the first five, then counts the others.
    """
    problems = []
    for name, row in zip(names, ids, strict=True):
        if not len(row):
            problems.append(Problem(f"sequence {name} is empty"))
        elif row.min() < 0:
            problems.append(Problem(f"sequence {name} holds the id {row.min()}, below 0, as padding has"))
        elif vocabulary is not None and row.max() >= vocabulary:
            what = f"sequence {name} holds the id {row.max()}, the model's vocabulary has {vocabulary}"
            problems.append(Problem(what, fix="use a stream and a model with the same tokenizer"))
    if len(problems) > _MAX_SHOWN:
        rest = Problem(f"and {len(problems) - _MAX_SHOWN:,} more like these")
        raise ItemError([*problems[:_MAX_SHOWN], rest])
    if problems:
        raise ItemError(problems)
