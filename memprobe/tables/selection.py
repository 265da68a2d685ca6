"""Which rows of a summary are about all items, one part of them, one checkpoint, or the last step."""

import polars as pl

from memprobe.tables.conditions import OF_ITEMS, dropped, has, value_of

# Conditions that select some of the items, or compare them with others.
_SOME = (*OF_ITEMS, "control", "target")


def of_checkpoints() -> pl.Expr:
    """Return which rows of a summary are about one checkpoint: the others are about a whole sequence.

    A row of either kind may have no step, and only that of a checkpoint has a revision.
    """
    return pl.col("revision").is_not_null()


def at_last_step(of: str = "model") -> pl.Expr:
    """Return which rows are those of each model's last step; a checkpoint without a step is its model's last.

    Args:
        of: The column that names the model.
    """
    return pl.col("step").eq_missing(pl.col("step").max().over(of))


def pooled(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of all items together."""
    return summary.filter(pl.col("group").is_null(), ~has(*_SOME))


def last_step(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each model's rows at its last step, and those about all steps."""
    return rows.filter(~of_checkpoints() | at_last_step())


def part_of(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows whose condition names a part of the items by that key, and no other part.

    `part` is the value of the key; `condition` loses it.
    """
    named = rows.filter(has(key)).with_columns(dropped(key), part=value_of(key))
    return named.filter(~has(*_SOME))
