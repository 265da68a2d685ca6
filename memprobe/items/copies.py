"""Copies: items of the same content under other ids, which say the same thing once, not several times.

The content is what scoring sees, with nothing made alike: the whole text (a prefix and a suffix are joined),
or the token ids. Foils are not part of it. Two SORT trials are the same if excerpt and segments are.
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
        ids: What is equal for items of the same token ids, by tokenizer; null: not known.
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
    """Return the names of the items of each content that several hold; of a table with COPIES."""
    named = items.drop_nulls(COPIES).group_by(COPIES, maintain_order=True).agg("item_id")
    return named["item_id"].to_list()


def n_copies(same: pl.Series) -> int:
    """Return how many items say what another one says already, from the column COPIES."""
    held = same.drop_nulls()
    return len(held) - held.n_unique()


def copy_notes(items: pl.DataFrame, given: Collection[str]) -> list[str]:
    """Return what the user should know of copies, a sentence each.

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
