"""Whether and when the model was trained on an item: one rule for checks, summary, probes, comparison, gate.

The rule is in `tables`, because item checks and probes both need it and must not import each other.

- Whether: `exposures` decides if the item has it (0: never trained on); else a `first_step` means yes; else
  the item's own `trained` decides; else, if a file gave the column `first_step`, null in it means never.
  Without any of these it is not known. Columns that contradict each other are refused when items are read.
- When: `first_step` is the number of updates done when the item had been trained on once, so a checkpoint
  with step >= first_step has seen it. An item that was trained on but has no `first_step` was trained on
  at an unknown time: it is not a control, and has no place in time.
"""

from collections.abc import Collection
from typing import Final

import polars as pl

TRAINED: Final = "trained"
"""The column that `with_trained` writes: Boolean, null where the items do not say."""

# Reasons why items leave a probe, worded to follow a count of items in a message.
NO_TIME: Final = "trained on, but without a first_step"
NOT_SAID: Final = "not said whether they were trained on"
TOO_EARLY: Final = "trained on at or before the first checkpoint"
TOO_LATE: Final = "not trained on by the last checkpoint"


def is_trained(given: Collection[str], *, said: bool = False) -> pl.Expr:
    """Return whether an item belongs to the training data; null if the item file does not say.

    It does not matter whether training had reached the item by the time of a checkpoint, so that every
    checkpoint compares the same items.

    Args:
        given: Columns that an item file gave.
        said: Whether the table has a Boolean column `trained` from the item file.
    """
    without = pl.lit(False if "first_step" in given else None, dtype=pl.Boolean)
    if said:
        without = pl.coalesce(TRAINED, without)
    timed = (
        pl.when(pl.col("first_step").is_not_null()).then(pl.lit(value=True)).otherwise(without)
        if "first_step" in given
        else without
    )
    return pl.when(pl.col("exposures").is_not_null()).then(pl.col("exposures") > 0).otherwise(timed)


def with_trained(items: pl.DataFrame, given: Collection[str]) -> pl.DataFrame:
    """Return the items with the column `trained`, computed by `is_trained`.

    Args:
        items: Items with `exposures` and, if a file gave it, `first_step`.
        given: Columns that an item file gave.
    """
    # A run of an earlier version may hold a user's column of this name and of another type.
    said = items.schema.get(TRAINED) == pl.Boolean
    return items.with_columns(is_trained(given, said=said).alias(TRAINED))


def is_control() -> pl.Expr:
    """Return whether an item is known to be never trained on; for tables from `with_trained`."""
    return pl.col(TRAINED).fill_null(value=True).not_()


def is_timed() -> pl.Expr:
    """Return whether an item was trained on at a known time; for tables from `with_trained`."""
    return pl.col(TRAINED).fill_null(value=False) & pl.col("first_step").is_not_null()


def is_untimed() -> pl.Expr:
    """Return whether an item was trained on at an unknown time; for tables from `with_trained`."""
    return pl.col(TRAINED).fill_null(value=False) & pl.col("first_step").is_null()
