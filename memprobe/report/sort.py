"""SORT on the terminal: accuracy by length of excerpt and segments, the paper's readers beside."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.table import Table

from memprobe.report.plain import at_last_step, number, plain_table, short
from memprobe.wording import at_step

_TITLES = {"in_context": "in context", "parametric": "from memory"}


def cell_tables(cells: pl.DataFrame, model: str) -> list[Table]:
    """Return the accuracy of each cell of one model at its last step; none where it has no cells.

    Args:
        cells: Rows of `SORT_ACCURACY`.
        model: Which model.
    """
    of_model = cells.filter(pl.col("model") == model)
    rows = of_model.filter(
        at_last_step(),
        pl.col("group").is_null(),
        pl.col("excerpt_words").is_not_null(),
        pl.col("segment_words").is_not_null(),
        pl.col("distance_bin").is_null(),
    )
    # One cell is what the table of metrics has said already.
    if rows.select("excerpt_words", "segment_words").n_unique() < 2:
        return []
    conditions = [name for name in _TITLES if name in set(rows["condition"])]
    read = rows["human_accuracy_frac"].is_not_null().any()
    table = plain_table(f"sort by words of excerpt and segment, {at_step(rows['step'][0])}")
    for name in (
        "excerpt",
        "segment",
        *(_TITLES[each] for each in conditions),
        *(["readers"] if read else []),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    entries = rows["entry"].unique(maintain_order=True).to_list() if "entry" in rows.columns else [None]
    for entry in entries:
        of_entry = rows if entry is None else rows.filter(pl.col("entry") == entry)
        if entry is not None:
            table.add_row(entry)
        for (excerpt, segment), cell in of_entry.sort("excerpt_words", "segment_words").group_by(
            "excerpt_words", "segment_words", maintain_order=True
        ):
            by_condition = {row["condition"]: row for row in cell.iter_rows(named=True)}
            cells_of = [_accuracy(by_condition.get(each)) for each in conditions]
            human = cell["human_accuracy_frac"].drop_nulls().to_list()
            readers = [short(human[0]) if human else ""] if read else []
            n = max(row["n_trials"] for row in by_condition.values())
            table.add_row(f"{excerpt:,}", f"{segment:,}", *cells_of, *readers, f"{n:,}")
    return [table]


def _accuracy(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else number({"estimate": row["accuracy_frac"], **row})
