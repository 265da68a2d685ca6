"""What probes say of a whole sequence of checkpoints, as tables on the terminal."""

import polars as pl
from rich.table import Table

from memprobe.report.plain import number, plain_table, under

# More columns with intervals do not fit a terminal.
_FEW_GROUPS = 1


def told_tables(told: pl.DataFrame) -> list[Table]:
    """Return what probes say of a model's whole sequence: all items together, and each group."""
    tables = []
    for probe in told["probe"].unique(maintain_order=True):
        rows = told.filter(pl.col("probe") == probe)
        table = plain_table(f"{probe} of {rows['model'][0]}, over its checkpoints")
        table.add_column("metric, condition", overflow="fold")
        groups = [None, *rows["group"].drop_nulls().unique(maintain_order=True).to_list()[:_FEW_GROUPS]]
        for group in groups:
            table.add_column(group or "all items", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        for metric, condition in rows.select("metric", "condition").unique(maintain_order=True).rows():
            of = {row["group"]: row for row in under(rows.filter(pl.col("metric") == metric), condition)}
            cells = [number(of.get(group)) for group in groups]
            label = metric if condition is None else f"{metric}, {condition}"
            table.add_row(label, *cells, next(iter(of.values()))["unit"])
        tables.append(table)
    return tables
