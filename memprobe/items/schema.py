"""The item table: its columns, the names that memprobe reserves, and the list of skipped items."""

from collections.abc import Iterable
from functools import cache
from typing import Final

import polars as pl

from memprobe.tables.clusters import COPIES
from memprobe.tables.schema import Column, TableSchema

_NO_TRIAL: Final = "no SORT trial"

TRIAL: Final = {
    "segment_1": Column(pl.String(), "-", "the segment that comes earlier in the text", _NO_TRIAL),
    "segment_2": Column(pl.String(), "-", "the segment that comes later", _NO_TRIAL),
    "source_id": Column(pl.String(), "-", "the document that the excerpt is from", _NO_TRIAL),
    "excerpt_id": Column(pl.String(), "-", "the excerpt, one name in its document", _NO_TRIAL),
    "excerpt_words": Column(pl.Int64(), "words", "length of the excerpt", _NO_TRIAL),
    "segment_words": Column(pl.Int64(), "words", "length of each segment", _NO_TRIAL),
    "distance_words": Column(
        pl.Int64(),
        "words",
        "from the start of segment_1 to the start of segment_2",
        "not known, or no SORT trial",
    ),
    "distance_bin": Column(
        pl.Int64(), "-", "which range of distances, from 0, the nearest", "not known, or no SORT trial"
    ),
    "excerpt_start_frac": Column(
        pl.Float64(), "fraction", "where in its document the excerpt begins", "not known, or no SORT trial"
    ),
    "earlier_first": Column(
        pl.Boolean(), "-", "where one order is shown: segment_1 is shown first", "not said, or no SORT trial"
    ),
    "split": Column(
        pl.String(), "-", "test, or validation: trials that choose a prompt or are examples", _NO_TRIAL
    ),
}
"""Columns of a SORT trial, whose `text` is the excerpt. In files without segments, names like any other."""

ITEMS: Final = TableSchema(
    name="items",
    key=("item_id",),
    columns={
        "item_id": Column(
            pl.String(), "-", "the item's name; `sha-` and 12 hex of its content when not given"
        ),
        "content_hash": Column(
            pl.String(), "-", "SHA-256 of text, prefix, suffix, input_ids, foil and segments, hex"
        ),
        "group": Column(pl.String(), "-", "rows of one group are summarised together", "no group"),
        "exposures": Column(pl.Int64(), "count", "times the model was trained on the item", "not known"),
        "first_step": Column(
            pl.Int64(), "updates", "updates done when the item had been trained on once", "never trained on"
        ),
        "last_step": Column(
            pl.Int64(), "updates", "updates done when the item was last trained on", "never trained on"
        ),
        "exposure_steps": Column(
            pl.List(pl.Int64()),
            "updates",
            "updates done after each time the item was trained on, ascending",
            "not known, or never trained on",
        ),
        "trained": Column(
            pl.Boolean(),
            "-",
            "whether the training data contain the item, if neither count nor step shows it",
            "not given: exposures and first_step decide",
        ),
        "task_end_step": Column(
            pl.Int64(),
            "updates",
            "updates done when the training task that the item tests had ended; one for each group",
            "not part of a task",
        ),
        "batch_id": Column(pl.String(), "-", "the training batch that held the item", "not known"),
        "doc_id": Column(pl.String(), "-", "items of one document form a cluster", "a document of its own"),
        "foil_kind": Column(pl.String(), "-", "how the foil was made", "not said"),
        "text": Column(pl.String(), "-", "the whole item", "given as prefix and suffix, or as ids"),
        "prefix": Column(pl.String(), "-", "what comes before the suffix, joined with nothing", "not cut"),
        "suffix": Column(pl.String(), "-", "what is scored after the prefix", "not cut"),
        "foil": Column(pl.String(), "-", "a like text that was not trained on", "no foil"),
        "input_ids": Column(pl.List(pl.Int64()), "token ids", "the item, already tokenised", "given as text"),
        **TRIAL,
        "source_file": Column(pl.String(), "-", "the file as the user named it"),
        "source_line": Column(
            pl.Int64(), "-", "from 1: line (JSONL, CSV, text), row (Parquet, hf) or place in the list (JSON)"
        ),
    },
    open_ended=True,
)

SKIPPED: Final = TableSchema(
    name="skipped_items",
    key=("file", "line"),
    columns={
        "file": Column(pl.String(), "-", "the file as the user named it"),
        "line": Column(pl.Int64(), "-", "line, row or place, as `source_line` of the item table"),
        "item_id": Column(pl.String(), "-", "the item's name", "it gives none, or none that can be read"),
        "column": Column(pl.String(), "-", "the column of the first problem", "the row as a whole"),
        "reason": Column(pl.String(), "-", "all problems of the item, joined with `; `"),
    },
)

MADE: Final = frozenset({"content_hash", "source_file", "source_line"})
GIVEN: Final = tuple(name for name in ITEMS.columns if name not in MADE)
"""Columns with a meaning that a file may give; any other is the user's own."""

SEGMENTS: Final = ("segment_1", "segment_2")
_MARKS: Final = ("source_id", "excerpt_id", "excerpt_words", "segment_words")


def known_columns(given: Iterable[str]) -> frozenset[str]:
    """Return the columns that memprobe knows in files with these columns; those of trials need segments."""
    return frozenset(GIVEN) if not set(SEGMENTS).isdisjoint(given) else frozenset(GIVEN) - TRIAL.keys()


def has_trials(table: pl.DataFrame) -> bool:
    """Return whether an item table holds SORT trials, even if its contents were dropped."""
    if table.schema.get("segment_words") != pl.Int64:
        return False
    return table.select(pl.all_horizontal(pl.col(*_MARKS).is_not_null()).any()).item() is True


def own_columns(table: pl.DataFrame) -> list[str]:
    """Return the user's own columns of an item table, which are carried through.

    A name such as `split` has a meaning only in tables with segments; elsewhere the column is the user's.
    """
    trials = has_trials(table)
    return [
        name
        for name in table.columns
        if name not in ITEMS.columns
        or (name in TRIAL and not trials and table[name].null_count() < table.height)
    ]


_KEPT: Final = MADE | {
    *("model", "revision", "step", "cohort_step", "base_step", COPIES),
    *("n_tokens", "n_prefix_tokens", "n_suffix_tokens", "n_foil_tokens", "boundary_shift", "bos_mode"),
}


def is_reserved(name: str) -> bool:
    """Return whether memprobe writes a column of that name, so that item files must not have it."""
    names, beginnings = _reserved()
    return name in names or name.startswith(beginnings)


@cache
def _reserved() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of columns that memprobe and its probes write, and prefixes of such names."""
    from memprobe.probes.discovery import discover

    schemas = [schema for probe in discover().values() for schema in probe.item_schemas]
    written = {name for schema in schemas for name in (*schema.columns, *schema.optional)}
    beginnings = tuple(sorted(name.removesuffix("*") for name in written if name.endswith("*")))
    return frozenset(_KEPT | written) - set(GIVEN), beginnings
