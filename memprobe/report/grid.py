"""Grids on the terminal: estimates by the columns that a probe declares, at the last step."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from rich.table import Table

from memprobe.report.plain import harmless, number, plain_table, short
from memprobe.tables.manifest import GridEntry, Manifest
from memprobe.tables.selection import at_last_step
from memprobe.wording import at_step


def grid_tables(manifest: Manifest, tables: Mapping[str, pl.DataFrame], model: str) -> Iterator[Table]:
    """Yield the grids of one model that the run's probes declare.

    Args:
        manifest: The run's manifest.
        tables: The tables that the grids show, by name.
        model: Name of the model.
    """
    for probe in manifest.probes.values():
        for grid in probe.grids:
            if grid.table in tables:
                yield from grid_table(grid, harmless(tables[grid.table]), model)


def grid_table(grid: GridEntry, table: pl.DataFrame, model: str) -> list[Table]:
    """Return one grid of one model; empty if it has a single line, which would only repeat the metrics.

    Args:
        grid: A grid that a probe declares.
        table: Rows of the table that the grid shows.
        model: Name of the model.
    """
    keys = [name for name, _ in grid.rows]
    rows = table.filter(pl.col("model") == model).filter(
        at_last_step(),
        pl.all_horizontal(pl.col(name).is_not_null() for name in keys),
        pl.all_horizontal(pl.col(name).is_null() for name in grid.pooled),
    )
    if rows.select(keys).n_unique() < 2:
        return []
    columns = {name: title for name, title in grid.columns if name in set(rows["condition"])}
    beside = grid.beside if grid.beside and rows[grid.beside[0]].is_not_null().any() else None
    shown = plain_table(f"{grid.title}, {at_step(rows['step'][0])}")
    headings = [
        *(title for _, title in grid.rows),
        *columns.values(),
        *([beside[1]] if beside else []),
        "n",
    ]
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    entries = rows["entry"].unique(maintain_order=True).to_list() if "entry" in rows.columns else [None]
    for entry in entries:
        if entry is not None:
            shown.add_row(entry)
        of_entry = rows if entry is None else rows.filter(pl.col("entry") == entry)
        for key, line in of_entry.sort(keys).group_by(keys, maintain_order=True):
            by_condition = {row["condition"]: row for row in line.iter_rows(named=True)}
            cells = [_cell(by_condition.get(name), grid.value) for name in columns]
            cells += [_beside(line[beside[0]])] if beside else []
            n = max(row[grid.n] for row in by_condition.values())
            shown.add_row(*(f"{part:,}" for part in key), *cells, f"{n:,}")
    return [shown]


def _cell(row: Mapping[str, Any] | None, value: str) -> str:
    return "" if row is None else number({"estimate": row[value], **row})


def _beside(values: pl.Series) -> str:
    known = values.drop_nulls()
    return short(known[0]) if len(known) else ""
