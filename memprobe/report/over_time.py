"""Terminal tables of the metrics that describe a whole sequence of checkpoints."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.table import Table

from memprobe.report.plain import folded, number, parts_of, plain_table, short
from memprobe.tables.conditions import OF_ITEMS, has
from memprobe.wording import counted

# More columns with intervals do not fit a terminal.
_FEW_GROUPS = 1
_LABEL_CHARS = 32


def sequence_tables(over_all: pl.DataFrame, *, everything: bool = False) -> list[Table]:
    """Return one table per probe on a model's whole sequence: all items together, and the first group.

    Args:
        over_all: Rows of `SUMMARY` about whole sequences.
        everything: Also show conditions that select some of the items.
    """
    tables = []
    for probe, of_probe in parts_of(over_all, "probe").items():
        rows = of_probe if everything else of_probe.filter(~has(*OF_ITEMS))
        hidden = (
            of_probe.select("metric", "condition").n_unique() - rows.select("metric", "condition").n_unique()
        )
        table = plain_table(f"{probe} of {of_probe['model'][0]}, over its checkpoints")
        table.add_column("metric, condition", overflow="fold")
        groups = [None, *rows["group"].drop_nulls().unique(maintain_order=True).to_list()[:_FEW_GROUPS]]
        for group in groups:
            table.add_column(group or "all items", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        shown: set[str] = set()
        for part in rows.partition_by("metric", "condition", maintain_order=True):
            metric, condition = part["metric"][0], part["condition"][0]
            of = {row["group"]: row for row in part.to_dicts()}
            cells = [_number(of.get(group)) for group in groups]
            if condition is not None and metric not in shown:
                table.add_row(metric)
            shown.add(metric)
            label = metric if condition is None else f" {condition}"
            table.add_row(folded(label, _LABEL_CHARS), *cells, next(iter(of.values()))["unit"])
        if hidden:
            table.caption = f"{counted(hidden, 'more condition')}: memprobe summary RUN --all"
            table.caption_justify = "left"
        tables.append(table)
    return tables


def _number(row: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval; without an estimate, only the known ends of the interval."""
    if row is None or row["estimate"] is not None or (row["ci_low"] is None and row["ci_high"] is None):
        return number(row)
    lo, hi = (None if end is None else short(end) for end in (row["ci_low"], row["ci_high"]))
    if lo is None or hi is None:
        return f"above {lo}" if hi is None else f"below {hi}"
    return f"within [{lo}, {hi}]"
