"""Select the rows of a summary that are about all items, a part of them, one checkpoint, or the last step."""

import polars as pl

from memprobe.tables.conditions import OF_ITEMS, dropped, has, value_of

# Keys of conditions that select some of the items, or compare them with others.
_SOME = (*OF_ITEMS, "control", "target")


def of_checkpoints() -> pl.Expr:
    """Return whether a row of a summary is about one checkpoint, not about a whole sequence.

    Rows of both kinds may lack a step; only those about a checkpoint have a revision.
    """
    return pl.col("revision").is_not_null()


def at_last_step(of: str = "model") -> pl.Expr:
    """Return whether a row is about its model's last step; true for all rows of a model without steps.

    Args:
        of: The column that names the model.
    """
    return pl.col("step").eq_missing(pl.col("step").max().over(of))


def pooled(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the rows about all items together."""
    return summary.filter(pl.col("group").is_null(), ~has(*_SOME))


def last_step(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each model's rows at its last step, and the rows about all steps."""
    return rows.filter(~of_checkpoints() | at_last_step())


def part_of(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows whose condition selects items by this key, and by no other key.

    The value of the key moves from `condition` to the column `part`.
    """
    named = rows.filter(has(key)).with_columns(dropped(key), part=value_of(key))
    return named.filter(~has(*_SOME))
