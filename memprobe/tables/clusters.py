"""Clusters of items that depend on each other: those of one document or batch, and copies under other ids.

If documents and copies join items differently, a cluster is a connected component of both: if a and b are
of one document, and b and c have the same content, the three items are one cluster.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import polars as pl

COPIES: Final = "same_content_as"
"""The least `item_id` of the items that scoring sees as the same text or token ids; null: there is no other.

A run's item table holds this column only where it holds copies.
"""

# Columns that are equal for items of the same content; runs of an earlier version have only the hash.
_CONTENTS: Final = ("content_hash", COPIES)


def components(*keys: pl.Series) -> list[int]:
    """Return, for each row, the lowest row that it is connected with; this may be the row itself.

    Args:
        keys: Columns. Rows with an equal value in one of them are connected; null connects nothing.
    """
    return connected(len(keys[0]), chain.from_iterable(_repeated(key) for key in keys))


def connected(n_rows: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Return, for each row, the lowest row that it is connected with; this may be the row itself.

    Args:
        n_rows: Number of rows; they are numbered from 0.
        groups: Groups of rows that are connected with each other; none is empty.
    """
    parent = list(range(n_rows))
    for first, *others in groups:
        for other in others:
            one, two = _root(parent, first), _root(parent, other)
            parent[max(one, two)] = min(one, two)
    return [_root(parent, row) for row in range(n_rows)]


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _repeated(key: pl.Series) -> Sequence[list[int]]:
    """Return the rows of each value that occurs twice or more."""
    rows = pl.DataFrame({"key": key}).with_row_index("row").drop_nulls("key")
    found = rows.group_by("key", maintain_order=True).agg("row").filter(pl.col("row").list.len() > 1)
    return found["row"].to_list()


def cluster_names(items: pl.DataFrame, column: str = "doc_id") -> pl.Series:
    """Return the name of each item's cluster; it does not depend on the order of the items.

    Items of one document (of one batch if `column` is `batch_id`) belong together, and so do copies; any
    other item is a cluster of its own.

    Args:
        items: Table with `item_id` and the column; `content_hash` and COPIES if they are known.
        column: Column whose equal values join items; null joins nothing.
    """
    kind = column.removesuffix("_id")
    named = pl.coalesce(pl.format(kind + " {}", column), pl.format("item {}", "item_id"))
    names = items.select(named.alias("name")).to_series()
    contents = [items[each] for each in _CONTENTS if each in items.columns]
    if not any(_repeats(each) for each in contents):
        return names
    joined = pl.DataFrame({"name": names, "component": components(names, *contents)})
    return joined.select(pl.col("name").min().over("component")).to_series()


def _repeats(values: pl.Series) -> bool:
    known = values.drop_nulls()
    return known.n_unique() < len(known)
