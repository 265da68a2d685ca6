"""From documents to a file of SORT trials, with what is in its cells and how evenly they are spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from memprobe.documents import Cells, check_out, read_documents, sort_trials, write_items
from memprobe.stats.uniformity import Uniformity, uniformity

_CELL: Final = ("source_id", "excerpt_words", "segment_words", "distance_bin")
_LEVEL: Final = 0.05
# Fewer say nothing about a spread.
_LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class Sorted:
    """A file of SORT trials that was written.

    Attributes:
        out: The file.
        items: What it holds.
        facts: What was made and what was left out, as JSON can hold it.
        notes: What the user should know, one sentence each.
    """

    out: Path
    items: pl.DataFrame
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what was done; no text of items."""
        return {"out": str(self.out), "n_trials": self.items.height, **self.facts, "notes": list(self.notes)}


def sort_documents(
    specs: Sequence[str],
    out: Path,
    cells: Cells,
    *,
    limit: int | None = None,
    offline: bool = False,
    force: bool = False,
) -> Sorted:
    """Make SORT trials of documents and write them.

    Args:
        specs: .txt files, or item files with `text`.
        out: A .jsonl or .parquet file.
        cells: Which trials.
        limit: The first so many documents of all files together.
        offline: Refuse the network.
        force: Overwrite an existing file.

    Raises:
        InputError: Something of this is wrong; nothing is written.
        SafetyError: The network under `offline` would be needed.
    """
    check_out(out, specs, force=force)
    made = sort_trials(read_documents(specs, limit=limit, offline=offline), cells)
    table = cells_of(made.items, made.places)
    write_items(out, made.items)
    splits = made.items["split"].value_counts()
    facts = {
        "n_documents": made.items["source_id"].n_unique(),
        "n_excerpts": made.items["doc_id"].n_unique(),
        "n_cells": table.height,
        "splits": dict(splits.sort("split").iter_rows()),
        "seed": cells.seed,
        "documents": made.documents.to_dicts(),
        "sizes": made.sizes.to_dicts(),
        "cells": table.to_dicts(),
        "uniformity": {
            # An excerpt serves all bins: one test for each size.
            "excerpt_starts": _tested(table.unique(_CELL[:-1], keep="first"), "start", _CELL[1:-1]),
            "segment_starts": _tested(table, "segment", _CELL[1:]),
        },
    }
    return Sorted(out, made.items, facts, made.notes)


def cells_of(items: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Return what is in each cell of document, lengths and range of distances.

    Args:
        items: SORT trials.
        places: `item_id, start_share, segment_share`, as of `sort_trials`.

    Returns:
        The cell, `n_test, n_validation, n_test_earlier_first, n_validation_earlier_first,
        distance_words_min, distance_words_max`, and of where excerpts (`start_`) and earlier segments
        (`segment_`) begin the Kolmogorov-Smirnov distance to an even spread (`_ks`) and its `_p`; null
        below 8 places.
    """
    is_test, first = pl.col("split") == "test", pl.col("earlier_first")
    groups = items.join(places, on="item_id", maintain_order="left").group_by(_CELL, maintain_order=True)
    frame = groups.agg(
        n_test=is_test.sum(),
        n_validation=(~is_test).sum(),
        n_test_earlier_first=(is_test & first).sum(),
        n_validation_earlier_first=(~is_test & first).sum(),
        distance_words_min=pl.col("distance_words").min(),
        distance_words_max=pl.col("distance_words").max(),
        start_share=pl.col("start_share").drop_nulls(),
        segment_share=pl.col("segment_share").drop_nulls(),
    )
    columns: list[pl.Series] = []
    for name in ("start", "segment"):
        found = [_spread(shares.to_list()) for shares in frame[f"{name}_share"]]
        columns.append(pl.Series(f"{name}_ks", [each and each.distance for each in found], dtype=pl.Float64))
        columns.append(pl.Series(f"{name}_p", [each and each.p for each in found], dtype=pl.Float64))
    return frame.drop("start_share", "segment_share").with_columns(columns)


def _spread(shares: Sequence[float]) -> Uniformity | None:
    return uniformity(shares) if len(shares) >= _LEAST else None


def _tested(table: pl.DataFrame, name: str, kind: Sequence[str]) -> dict[str, Any]:
    """Return how many tests there were, how many came out below 0.05, of which kind most, the smallest p."""
    found = table[f"{name}_p"].drop_nulls()
    low = table.filter(pl.col(f"{name}_p") < _LEVEL).group_by(kind).agg(n_below_005=pl.len())
    low = low.sort("n_below_005", *kind, descending=[True, *(False for _ in kind)])
    worst = None if low.is_empty() else {"distance_bin": None, **low.row(0, named=True)}
    return {"n_tests": len(found), "n_below_005": len(found.filter(found < _LEVEL)), "p_min": found.min()} | {
        "worst": worst
    }
