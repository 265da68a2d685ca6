"""Group item values into blocks: all items, each group and each exposure count, per condition."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from memprobe.tables.conditions import built, joined

# Columns of item values: the metric's, its partner's in a pair, and both of them in the base run.
VALUES = ("value", "other", "value_base", "other_base")
# Further columns: those of values in a series, and `most`, a known upper bound of the values.
SERIES = ("item", "position", "overlap", "weight", "passage", "most")


def by_block(block: Mapping[str, Any]) -> tuple[list[tuple[float, str]], int, str, int]:
    """Return a sort key: condition (numbers compared as numbers), then all items, groups, exposure counts."""
    return natural(block["of"]), block["part"], block["group"] or "", block["number"] or 0


def natural(condition: str | None) -> list[tuple[float, str]]:
    """Return a sort key for a condition in which numbers compare as numbers."""
    pieces = re.split(r"(\d+(?:\.\d+)?)", condition or "")
    return [(float(piece), "") if piece[:1].isdigit() else (-1.0, piece) for piece in pieces]


def blocks_of(frame: pl.DataFrame, prefix: str | None, *, split: bool = False) -> pl.DataFrame:
    """Return one row per block: all items together, each group, each exposure count, per condition.

    With `split` also the trained and the never-trained items, of all items and of each group that has both.
    Values are lists in the order of item ids, then of `position`; if one value of a pair is undefined,
    both are left out.
    """
    by: list[tuple[int, list[str]]] = [(0, []), (1, ["group"]), (2, ["exposures"])]
    by += [(3, ["trained"]), (3, ["group", "trained"])] if split else []
    keys = frame.clear().select("group", "exposures", "trained")
    position = ["position"] if "position" in frame.columns else []
    # Numbers are quicker to sort and to group by than strings, and there are few conditions.
    ordered = frame.with_columns(pl.col("condition").cast(pl.Categorical)).sort("item", *position)
    blocks = pl.concat(
        [keys, *(_gathered(ordered, columns).with_columns(part=pl.lit(part)) for part, columns in by)],
        how="diagonal",
    )
    last = (
        pl.when(pl.col("part") == 2)
        .then(built(exposures="exposures"))
        .when(pl.col("part") == 3)
        .then(built(trained="trained"))
    )
    # The parts of a condition go from the general to the particular.
    of = pl.col("condition").cast(pl.String)
    return blocks.with_columns(of=of, base=joined(prefix, of), last=last).with_columns(
        joined(pl.col("base"), pl.col("last")),
        number=pl.coalesce("exposures", pl.col("trained").cast(pl.Int64)),
    )


def _gathered(ordered: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return the values of each block of one kind as lists; never-trained items only next to trained."""
    columns = [name for name in VALUES if name in ordered.columns]
    known = pl.all_horizontal(pl.col(name).is_not_null() for name in columns)
    series = [name for name in SERIES if name in ordered.columns]
    rows = ordered.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in by)) if by else ordered
    blocks = rows.group_by("condition", *by).agg(
        *(pl.col(name).filter(known) for name in (*columns, *series, "cluster")),
        n_missing=(~known).sum(),
    )
    if "trained" not in by:
        return blocks
    whole = [name for name in ("condition", *by) if name != "trained"]
    return blocks.filter(pl.col("trained").n_unique().over(whole) == 2)
