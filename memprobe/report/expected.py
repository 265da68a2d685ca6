"""Terminal view of what a run would do, for `--dry-run`."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.text import Text

from memprobe.report.plain import plain_table
from memprobe.wording import counted, step_cell


def forecast_view(checkpoints: pl.DataFrame, totals: Mapping[str, Any]) -> RenderableType:
    """Return a view of what a run would do."""
    table = plain_table("What would be scored")
    for name in ("model", "revision", "step", "units", "left", "tokens left", "bytes"):
        table.add_column(name, justify="left" if name in ("model", "revision") else "right")
    for row in checkpoints.iter_rows(named=True):
        table.add_row(
            row["model"],
            row["revision"],
            step_cell(row["step"]),
            str(row["units"]),
            str(row["units_left"]),
            f"{row['tokens_left']:,}",
            f"{row['bytes']:,}",
        )
    seconds = totals["estimated_s"]
    units, tokens = counted(totals["units"], "unit"), counted(totals["tokens_left"], "token")
    if searches := totals.get("searches_left"):
        most = f"{counted(searches, 'search', 'searches')} left: at most"
        tokens += f"\n{most} {counted(totals['evaluations_left'], 'candidate')} evaluated"
    lines = [
        f"{counted(totals['items'], 'item')}, {totals['items_skipped']:,} left out",
        f"{totals['dtype']} on {totals['device']}",
        f"{totals['units_left']:,} of {units} left: {tokens}",
        "time: unknown, the checkpoints do not say how many parameters they have"
        if seconds is None
        else f"time: about {seconds:,.0f} s of scoring and reading, without generation",
        f"run directory: {totals['run']}",
    ]
    # Lines are not wrapped, so that paths can be copied whole.
    shown = (line for text in lines for line in text.split("\n"))
    return Group(table, *(Text(line, no_wrap=True, overflow="ignore") for line in shown))
