"""Counts over an item table: shapes, groups, training steps, duplicates, the user's columns.

Only `samples` shows text of items; it is called only under `--include-text`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from memprobe.items.contradictions import doubts
from memprobe.items.copies import copies, copy_groups, copy_notes
from memprobe.items.near import MEASURE, near_copies
from memprobe.items.schema import SEGMENTS, own_columns
from memprobe.tables.content import CONTENT
from memprobe.tables.facts import TRAINED, is_control, is_untimed, with_trained

SHAPES: Final = ("text", "prefix + suffix", "input_ids")
_QUANTILES: Final[Mapping[str, float]] = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
_SAMPLED = 3
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Items that hold the same content, or nearly the same.

    Attributes:
        same: Names of items that scoring sees as the same text or token ids, one list per content.
        near: Names of items that differ only in case and white space, one list per text; of exact copies only
            one is named.
    """

    same: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, ...], ...]


def shape() -> pl.Expr:
    """Return an expression for the shape of each item, one of SHAPES."""
    return (
        pl.when(pl.col("text").is_not_null())
        .then(pl.lit(SHAPES[0]))
        .when(pl.col("prefix").is_not_null())
        .then(pl.lit(SHAPES[1]))
        .otherwise(pl.lit(SHAPES[2]))
        .alias("shape")
    )


def counts(table: pl.DataFrame, column: str) -> dict[str, int]:
    """Return how many items have each value of a column, the most common first; nulls are not counted."""
    found = (
        table[column]
        .drop_nulls()
        .cast(pl.String)
        .value_counts()
        .sort(["count", column], descending=[True, False])
    )
    return dict(found.iter_rows())


def quantiles(values: pl.Series) -> dict[str, int] | None:
    """Return min, 5%, median, 95% and max, without interpolation; None if there are no values."""
    values = values.drop_nulls()
    if values.is_empty():
        return None
    return {name: int(values.quantile(q, interpolation="lower") or 0) for name, q in _QUANTILES.items()}


def duplicates(table: pl.DataFrame) -> Duplicates:
    """Find items with the same content, and items that differ only in case and white space."""
    content = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    frame = table.select("item_id", "content_hash", *SEGMENTS, whole=content)
    # Trials of one excerpt share its text, and differ in their segments.
    plain = pl.struct("whole", *SEGMENTS)
    hashes = [_plain_hashes(frame[name]).alias(name) for name in ("whole", *SEGMENTS)]
    frame = frame.with_columns(hashes).select(
        "item_id", "content_hash", plain=pl.when(pl.col("whole").is_not_null()).then(plain.hash())
    )
    near = (
        frame.drop_nulls("plain")
        .unique("content_hash", keep="first", maintain_order=True)
        .filter(pl.len().over("plain") > 1)
        .group_by("plain", maintain_order=True)
        .agg("item_id")
    )
    same = copy_groups(table.with_columns(copies(table)))
    return Duplicates(tuple(map(tuple, same)), tuple(map(tuple, near["item_id"].to_list())))


def _plain_hashes(texts: pl.Series) -> pl.Series:
    """Return a hash of each text that ignores case and kinds of white space; equal texts are hashed once."""
    once = texts.rename("text").to_frame().unique()
    plain = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    hashed = [
        part.with_columns(hash=pl.when(pl.col("text").is_not_null()).then(plain.hash()))
        for part in (once.head(0), *once.iter_slices(_AT_ONCE))
    ]
    joined = texts.rename("text").to_frame()
    return joined.join(pl.concat(hashed), on="text", how="left", maintain_order="left")["hash"]


def further(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return name, type and numbers of nulls and distinct values of each of the user's own columns."""
    return [
        {
            "column": name,
            "type": str(table.schema[name]),
            "n_null": table[name].null_count(),
            "n_distinct": table[name].drop_nulls().n_unique(),
        }
        for name in own_columns(table)
    ]


def steps(table: pl.DataFrame, given: frozenset[str]) -> dict[str, Any] | None:
    """Return how many items were trained on and the range of their steps; None if no file gives them."""
    if "first_step" not in given:
        return None
    first, last = table["first_step"].drop_nulls(), table["last_step"].drop_nulls()
    facts = with_trained(table, given)
    return {
        "n_trained_on": int(facts[TRAINED].sum()),
        "n_never": facts.filter(is_control()).height,
        "n_untimed": facts.filter(is_untimed()).height,
        "first_step_min": first.min(),
        "first_step_max": first.max(),
        "last_step_max": last.max(),
        "n_with_exposure_steps": table.height - table["exposure_steps"].null_count(),
    }


def trials(table: pl.DataFrame) -> dict[str, Any] | None:
    """Return counts of the SORT trials; None if there are none.

    A cell is one combination of document, lengths, range of distances and split. `n_uneven_cells` is the
    number of cells in which not exactly half of the trials show the earlier segment first; None if an item
    does not say which is shown first.
    """
    rows = table.filter(pl.col("segment_1").is_not_null())
    if rows.is_empty():
        return None
    cell = ("source_id", "excerpt_words", "segment_words", "distance_bin", "split")
    said = rows["earlier_first"].null_count() == 0
    halves = rows.group_by(cell).agg(uneven=pl.col("earlier_first").sum() * 2 != pl.len())
    return {
        "n": rows.height,
        "n_sources": rows["source_id"].n_unique(),
        "n_excerpts": rows["doc_id"].n_unique(),
        "excerpt_words": counts(rows, "excerpt_words"),
        "segment_words": counts(rows, "segment_words"),
        "distance_bins": counts(rows, "distance_bin"),
        "splits": counts(rows, "split"),
        "n_cells": halves.height,
        "n_uneven_cells": int(halves["uneven"].sum()) if said else None,
    }


def preview(table: pl.DataFrame, given: frozenset[str]) -> dict[str, Any]:
    """Return everything known about the items without a tokenizer, in types that JSON can hold.

    Args:
        table: Sound items, schema ITEMS.
        given: Columns that at least one file gave.
    """
    chars = pl.coalesce("text", pl.concat_str("prefix", "suffix")).str.len_chars()
    twice = duplicates(table)
    return {
        "n_items": table.height,
        "shapes": counts(table.select(shape()), "shape"),
        "groups": counts(table, "group"),
        "n_without_group": table["group"].null_count(),
        "exposures": counts(table, "exposures"),
        "n_documents": table["doc_id"].drop_nulls().n_unique(),
        "n_batches": table["batch_id"].drop_nulls().n_unique(),
        "n_foils": table.height - table["foil"].null_count(),
        "foil_kinds": counts(table, "foil_kind"),
        "trials": trials(table),
        "steps": steps(table, given),
        "doubts": [*doubts(table), *copy_notes(table.with_columns(copies(table)), given)],
        "length_chars": quantiles(table.select(chars).to_series()),
        "length_ids": quantiles(table["input_ids"].list.len()),
        "same_content": [list(names) for names in twice.same],
        "near_same_content": [list(names) for names in twice.near],
        "near_copies": {"measure": MEASURE, "groups": near_copies(table)},
        "further_columns": further(table),
    }


def samples(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the content of the first items, for a user who asked to see text."""
    columns = ("item_id", *CONTENT)
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in table.head(_SAMPLED).select(columns).iter_rows(named=True)
    ]
