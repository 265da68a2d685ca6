"""Tokenise the items with the tokenizer of one sequence."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import polars as pl

from memprobe.checkpoints import (
    CheckpointSequence,
)
from memprobe.errors import CheckpointError
from memprobe.items import ItemSet
from memprobe.options import RunOptions
from memprobe.tables.manifest import SequenceEntry
from memprobe.tables.views import View

if TYPE_CHECKING:
    from memprobe.scoring.load import Limits
    from memprobe.scoring.tokenise import TokenisedItems


def with_copies(table: pl.DataFrame, same: pl.Series) -> pl.DataFrame:
    """Return an item table with the column `COPIES` added if there are copies."""
    return table.with_columns(same) if same.null_count() < len(same) else table


def tokenise_for(
    sequence: CheckpointSequence,
    items: ItemSet,
    options: RunOptions,
    views: Collection[View],
    limits: "Limits",
    note: Callable[[str], None],
) -> "tuple[TokenisedItems, pl.DataFrame, SequenceEntry]":
    """Tokenise the items for one sequence; returns them, their windows, and the sequence's manifest entry."""
    from memprobe.scoring.tokenise import texts_of, tokenise
    from memprobe.scoring.tokenizer import load_tokenizer
    from memprobe.scoring.windows import with_views

    folder = sequence.tokenizer_folder
    trust, texts = options.trust_remote_code, texts_of(items.table)
    try:
        tokenizer = (
            load_tokenizer(folder, trust_remote_code=trust, note=note, texts=texts) if folder else None
        )
    except CheckpointError as error:
        if texts:
            raise
        note(f"no tokenizer was used, and items of input_ids need none: {error.problems[0].what}")
        tokenizer = None
    tokenised = tokenise(items.table, tokenizer, bos=options.bos, limits=limits)
    tokenised, windows = with_views(
        tokenised, tokenizer, views, limits.vocabulary, context_tokens=limits.context_tokens
    )
    for text in tokenised.notes:
        note(text)
    about = SequenceEntry(
        model=sequence.model,
        n_front=tokenised.n_front,
        context_tokens=limits.context_tokens,
        vocabulary=limits.vocabulary,
    )
    return tokenised, windows, about
