"""Was the model trained on an item, and when: one rule for checks, summary, probes, comparison and gate.

It is in `tables`, since item checks and probes both ask and neither may import the other.

- Whether: `exposures` decides where the item has it (0: never trained on); else a `first_step` says yes;
  else the item's own `trained`; else, where a file gave the column `first_step`, null in it says never.
  Without any of these it is not known. Columns that contradict each other are refused when items are read.
- When: `first_step` is the number of updates done when the item had been trained on once, so a checkpoint
  with step >= first_step has seen it. Trained on without a `first_step`: at a time that is not known, so
  the item is not a control and has no place in time.
"""

from collections.abc import Collection
from typing import Final

import polars as pl

TRAINED: Final = "trained"
"""The column that `with_trained` writes: Boolean, null where the items do not say."""

# Reasons for which an item leaves a probe, as a user reads them behind a count.
NO_TIME: Final = "trained on, but without a first_step"
NOT_SAID: Final = "not said whether they were trained on"
TOO_EARLY: Final = "trained on at or before the first checkpoint"
TOO_LATE: Final = "not trained on by the last checkpoint"


def is_trained(given: Collection[str], *, said: bool = False) -> pl.Expr:
    """Return whether an item belongs to the training data; null where the item file does not say.

    Whether training had come to the item by the time of a checkpoint does not matter, so that every
    checkpoint compares the same items.

    Args:
        given: Columns that an item file gave.
        said: The table has a Boolean column `trained` of the item file's.
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
    """Return the items with `trained` as `is_trained` says.

    Args:
        items: With `exposures` and, where a file gave it, `first_step`.
        given: Columns that an item file gave.
    """
    # A run of an earlier version may hold a column of the user's own by this name.
    said = items.schema.get(TRAINED) == pl.Boolean
    return items.with_columns(is_trained(given, said=said).alias(TRAINED))


def is_control() -> pl.Expr:
    """Return whether an item is known to be never trained on; of a table `with_trained`."""
    return pl.col(TRAINED).fill_null(value=True).not_()


def is_timed() -> pl.Expr:
    """Return whether an item was trained on at a time that is known; of a table `with_trained`."""
    return pl.col(TRAINED).fill_null(value=False) & pl.col("first_step").is_not_null()


def is_untimed() -> pl.Expr:
    """Return whether an item was trained on at a time that is not known; of a table `with_trained`."""
    return pl.col(TRAINED).fill_null(value=False) & pl.col("first_step").is_null()
