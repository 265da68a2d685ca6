"""`memprobe summary` and `memprobe export`: reading a run; no model, no torch."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memprobe.cli import console, options
from memprobe.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from memprobe.run import Run

RunPath = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]


def summary(
    run: RunPath,
    everything: Annotated[bool, options.option("--all", help="All conditions.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Show the summary of a finished or unfinished run."""
    options.begin(quiet, verbose)
    from memprobe.run import open_run

    opened = open_run(run)
    if opened.manifest["state"] == "scoring":
        console.note("note: the run is not finished; `memprobe run` with the same command goes on")
    if json:
        console.show_json(summary_json(opened))
        return
    from memprobe.report.console import summary_view

    console.show(summary_view(opened.summary, opened.manifest, everything=everything))


def summary_json(run: "Run") -> dict[str, Any]:
    """Return a run's state and summary rows; infinities are null."""
    return {
        "run": str(run.path),
        "state": run.manifest["state"],
        "failures": run.failures,
        "summary": [_finite(row) for row in run.summary.iter_rows(named=True)],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def export(
    run: RunPath,
    to: Annotated[Literal["csv", "parquet", "json", "markdown"], options.option("--to", help="The format.")],
    table: Annotated[str, options.option("--table", help="Which table.", metavar="NAME")] = "summary",
    out: Annotated[
        Path | None, options.option("--out", "-o", help="A file; else stdout.", metavar="FILE")
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a table of a run as CSV, Parquet, JSON or Markdown."""
    options.begin(quiet, verbose)
    from memprobe.run import open_run

    opened = open_run(run)
    frame = opened.summary if table == "summary" else opened.table(table)
    if out is None:
        if to == "parquet" and sys.stdout.isatty():
            raise InputError("Parquet is no text for a terminal", fix="name a file with -o")
        sys.stdout.buffer.write(_bytes(frame, to))
        sys.stdout.flush()
        return
    if out.is_dir():
        raise InputError("the file to write is a folder", where=str(out), fix="name a file in it")
    if not out.parent.is_dir():
        raise InputError("the folder to write to does not exist", where=str(out.parent))
    out.write_bytes(_bytes(frame, to))
    console.note(f"wrote {out}: {frame.height:,} rows of {table}")


def _bytes(frame: "pl.DataFrame", to: str) -> bytes:
    import io
    import json

    if to == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    if to == "csv":
        return frame.write_csv().encode()
    if to == "json":
        rows = [_finite(row) for row in frame.iter_rows(named=True)]
        return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return _markdown(frame).encode()


def _markdown(frame: "pl.DataFrame") -> str:
    """Return a GitHub table: null as an empty cell, floats in full, numbers to the right."""
    rule = ["---:" if dtype.is_numeric() else "---" for dtype in frame.dtypes]
    rows = [[_cell(value) for value in row] for row in frame.iter_rows()]
    lines = [[_cell(name) for name in frame.columns], rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(text.replace("|", "\\|").splitlines())
