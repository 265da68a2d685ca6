"""Conversion of the rows of a unit to a frame of `SPANS`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from memprobe.scoring.generated import Row
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.tables.requests import Statistic
from memprobe.tables.spans import SPANS


def span_frame(
    rows: list[Row], tokenised: TokenisedItems, further: Sequence[Statistic], include_text: bool
) -> pl.DataFrame:
    """Return the rows as a frame; each list column is grouped from one long column, which is fast."""
    types = {name: column.dtype for name, column in SPANS.columns.items() if name != "content_hash"}
    types |= {each.column: pl.List(pl.Float32()) for each in further}
    types |= {"gen_text": pl.String()} if include_text else {}
    lists = [
        name for name, dtype in types.items() if isinstance(dtype, pl.List) and name != "choice_logprob_nats"
    ]
    flat = pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in types if name not in lists},
        schema={name: dtype for name, dtype in types.items() if name not in lists},
    ).with_row_index("row")
    frame = flat.join(_token_lists(rows, types, lists), on="row", how="left", maintain_order="left")
    # A `tokens` span without a scored token has empty lists, not null.
    empty = [
        pl.when(pl.col("detail") == "tokens")
        .then(pl.col(name).fill_null(pl.lit([], dtype=types[name])))
        .alias(name)
        for name in lists
    ]
    hashes = tokenised.table.select("item_id", "content_hash")
    return frame.with_columns(empty).drop("row").join(hashes, on="item_id", maintain_order="left")


def _token_lists(rows: list[Row], types: dict[str, pl.DataType], lists: list[str]) -> pl.DataFrame:
    """Return the column `row` and the list columns, for rows with detail `tokens`."""
    numbers = [number for number, row in enumerate(rows) if row["detail"] == "tokens"]
    lengths = [len(rows[number]["logprob_nats"]) for number in numbers]
    columns: dict[str, Any] = {
        name: np.concatenate([rows[number][name] for number in numbers]) if numbers else [] for name in lists
    }
    inner = {name: dtype.inner for name in lists if isinstance(dtype := types[name], pl.List)}
    long = pl.DataFrame(
        {"row": np.repeat(np.asarray(numbers, dtype=np.uint32), lengths), **columns},
        schema={"row": pl.get_index_type(), **inner},
    )
    return long.group_by("row", maintain_order=True).agg(pl.all())
