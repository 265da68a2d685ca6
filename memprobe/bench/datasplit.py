"""From documents or token streams to an item file that `memprobe run` takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from memprobe.bench.datacheck import TokenSource, token_sources
from memprobe.documents import (
    Cut,
    Offsets,
    Pieces,
    Sampling,
    Training,
    check_out,
    cut_documents,
    open_streams,
    read_documents,
    sequence_items,
    write_items,
)
from memprobe.errors import InputError
from memprobe.options import RunOptions

_LOOKED_AT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Split:
    """An item file that was written.

    Attributes:
        out: The file.
        items: What it holds.
        facts: What was cut, and what was left, as JSON can hold it.
        notes: What the user should know, one sentence each.
    """

    out: Path
    items: pl.DataFrame
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what was done; no text of items."""
        return {"out": str(self.out), "n_items": self.items.height, **self.facts, "notes": list(self.notes)}


def split_documents(
    specs: Sequence[str], out: Path, cut: Cut, options: RunOptions, *, force: bool = False
) -> Split:
    """Cut documents into items and write them.

    Args:
        specs: .txt files, or item files with `text`.
        out: A .jsonl or .parquet file.
        cut: How.
        options: Of these count `limit, model, tokenizer, steps, offline, trust_remote_code, allow_pickle`.
        force: Overwrite an existing file.

    Raises:
        InputError: Something of this is wrong; nothing is written.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    check_out(out, specs, force=force)
    documents = read_documents(specs, limit=options.limit, offline=options.offline, mapping=options.map)
    offsets = _offsets(options) if cut.by == "tokens" else None
    done = cut_documents(documents, cut, offsets=offsets)
    notes = list(done.notes)
    if offsets is not None:
        notes += _shorter_alone(done.items, cut, offsets)
    write_items(out, done.items)
    sums = done.coverage.select(pl.exclude("name").sum()).row(0, named=True)
    facts = {"kind": "documents", "n_documents": done.coverage.height, **sums}
    return Split(out, done.items, {**facts, "documents": done.coverage.to_dicts()}, tuple(notes))


def split_streams(
    specs: Sequence[str],
    out: Path,
    pieces: Pieces,
    training: Training,
    sampling: Sampling,
    options: RunOptions,
    *,
    doc_order: str | None = None,
    force: bool = False,
) -> Split:
    """Make items of the sequences of token streams and write them.

    Args:
        specs: .npy, .bin with .idx, .arrow, .parquet, or saved data sets, in training order.
        out: A .jsonl or .parquet file.
        pieces: How a file that is one stream is cut into sequences.
        training: When each sequence was trained on.
        sampling: Which sequences become items.
        options: As of `split_documents`; a model is asked for its vocabulary and context.
        doc_order: A .npy file with the order in which the documents of one .bin were laid out.
        force: Overwrite an existing file.

    Raises:
        InputError: Something of this is wrong; nothing is written.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    check_out(out, specs, force=force)
    source = next(token_sources(options, needs_tokenizer=False), None) if options.model else None
    vocabulary = source.limits.vocabulary if source is not None else None
    stream = open_streams(specs, pieces, doc_order=doc_order)
    made = sequence_items(stream, training, sampling, vocabulary=vocabulary)
    write_items(out, made.items)
    steps, lengths = made.items["first_step"], made.items["input_ids"].list.len().to_list()
    facts = {
        "kind": "stream",
        "n_sequences": made.n_sequences,
        "n_batches": made.n_batches,
        "first_step_min": steps.min(),
        "first_step_max": steps.max(),
        "n_tokens_min": min(lengths),
        "n_tokens_max": max(lengths),
    }
    return Split(out, made.items, facts, (*made.notes, *_too_long(source, max(lengths))))


def _offsets(options: RunOptions) -> Offsets:
    """Return the tokenizer of the model or of `--tokenizer`.

    Raises:
        InputError: None is named, or it gives no character offsets.
    """
    source = next(token_sources(options, needs_tokenizer=True), None)
    if source is None:
        raise InputError("to cut by tokens, a tokenizer is needed", fix="name one with --tokenizer or -m")
    from memprobe.scoring.offsets import token_offsets

    return partial(token_offsets, source.tokenizer)


def _shorter_alone(items: pl.DataFrame, cut: Cut, offsets: Offsets) -> list[str]:
    """Return a note on items that have fewer tokens alone than in their document.

    Looks at up to 2,000 of them, evenly spread.
    """
    whole = pl.concat_str("prefix", "suffix") if cut.prefix is not None else pl.col("text")
    border = pl.col("prefix").str.len_chars() if cut.prefix is not None else pl.col("text").str.len_chars()
    looked_at = items.select(whole=whole, border=border).gather_every(max(1, -(-items.height // _LOOKED_AT)))
    shorter = 0
    for text, place in looked_at.iter_rows():
        ends = np.maximum.accumulate(offsets(text)[:, 1])
        n_before = int(np.searchsorted(ends, place, side="right"))
        shorter += n_before < cut.parts[0] or len(ends) - n_before < sum(cut.parts[1:])
    if not shorter:
        return []
    shown = (
        f"{shorter:,} of {looked_at.height:,} items looked at have fewer tokens alone than in their document"
    )
    return [
        f"{shown}, where a cut goes through a word; a probe that must measure all of them would refuse them"
    ]


def _too_long(source: TokenSource | None, n_tokens: int) -> list[str]:
    context = source.limits.context_tokens if source is not None else None
    # The last token is predicted, never read.
    if context is None or n_tokens - 1 <= context:
        return []
    shown = f"sequences have up to {n_tokens:,} tokens, and the model's context holds {context:,}"
    return [f"{shown}: give the probe lengths with --set"]
