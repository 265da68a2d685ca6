"""Copies: items with the same content under different ids, which together count as evidence only once.

The content is exactly what scoring sees, without normalisation: the whole text (prefix and suffix joined), or
the token ids. Foils are not part of it. Two SORT trials are copies if their excerpts and segments are equal.
"""

from collections.abc import Collection, Sequence
from typing import Final

import polars as pl

from memprobe.items.schema import SEGMENTS
from memprobe.tables.clusters import COPIES, components
from memprobe.tables.facts import TRAINED, with_trained
from memprobe.wording import counted

_SHOWN: Final = 3


def copies(items: pl.DataFrame, ids: Sequence[pl.Series] = ()) -> pl.Series:
    """Return the column COPIES of an item table.

    Args:
        items: Schema ITEMS.
        ids: One column per tokenizer, with equal values for items with the same token ids; null: not known.
    """
    whole = pl.coalesce("text", pl.concat_str("prefix", "suffix"))
    # Trials of one excerpt share its text, and differ in their segments.
    is_trial = pl.any_horizontal(pl.col(*SEGMENTS).is_not_null())
    text = items.select(pl.when(is_trial).then("content_hash").otherwise(whole)).to_series()
    plain = [each.set(items.select(is_trial).to_series(), None) for each in ids]
    same = pl.DataFrame({"item_id": items["item_id"], "of": components(text, items["content_hash"], *plain)})
    return same.select(
        pl.when(pl.len().over("of") > 1).then(pl.col("item_id").min().over("of")).alias(COPIES)
    ).to_series()


def copy_groups(items: pl.DataFrame) -> list[list[str]]:
    """Return the item names of each content that several items share, from a table with COPIES."""
    named = items.drop_nulls(COPIES).group_by(COPIES, maintain_order=True).agg("item_id")
    return named["item_id"].to_list()


def n_copies(same: pl.Series) -> int:
    """Return how many items repeat the content of another, from the column COPIES."""
    held = same.drop_nulls()
    return len(held) - held.n_unique()


def copy_notes(items: pl.DataFrame, given: Collection[str]) -> list[str]:
    """Return notes for the user on copies, one sentence each.

    Args:
        items: A table with COPIES.
        given: Columns that an item file gave.
    """
    groups = copy_groups(items)
    if not groups:
        return []
    n_items = sum(len(names) for names in groups)
    held = f"{n_items:,} items hold {counted(len(groups), 'content')} under several ids ({_shown(groups)})"
    notes = [f"{held}: copies depend on each other, so those of one content count as one cluster"]
    facts = with_trained(items, given).select("item_id", COPIES, TRAINED).drop_nulls()
    both = facts.filter(pl.col(TRAINED).n_unique().over(COPIES) > 1)
    if both.height:
        names = both.group_by(COPIES, maintain_order=True).agg("item_id")["item_id"].to_list()
        what = (
            f"{counted(len(names), 'content')} stands under trained and never-trained ids ({_shown(names)})"
        )
        if len(names) > 1:
            what = what.replace(" stands ", " stand ", 1)
        notes.append(
            f"{what}: an item that was trained on is not a control, so they bias every comparison of the two"
        )
    return notes


def _shown(groups: Sequence[Sequence[str]]) -> str:
    """Return the names of some copies: `a = b, c = d = e, ...`."""
    said = [
        " = ".join(names[:_SHOWN]) + (" = ..." if len(names) > _SHOWN else "") for names in groups[:_SHOWN]
    ]
    return ", ".join(said) + (", ..." if len(groups) > _SHOWN else "")
