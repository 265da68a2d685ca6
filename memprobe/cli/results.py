"""`memprobe summary` and `memprobe export`: reading a run; no model, no torch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memprobe.cli import console, options
from memprobe.errors import InputError, counted

if TYPE_CHECKING:
    import polars as pl

    from memprobe.reading import Run

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
    from memprobe.reading import open_run

    opened = open_run(run)
    if opened.manifest["state"] == "scoring":
        console.note("note: the run is not finished; `memprobe run` with the same command goes on")
    if json:
        console.show_json(summary_json(opened))
        return
    from memprobe.report.console import summary_view

    console.show(summary_view(opened.summary, opened.manifest, opened.doses, everything=everything))


def summary_json(run: "Run") -> dict[str, Any]:
    """Return a run's state and summary rows."""
    return {
        "run": str(run.path),
        "state": run.manifest["state"],
        "failures": run.failures,
        "summary": run.summary.to_dicts(),
    }


def export(
    run: RunPath,
    to: Annotated[
        Literal["csv", "parquet", "json", "markdown"] | None, options.option("--to", help="The format.")
    ] = None,
    table: Annotated[str, options.option("--table", help="Which table.", metavar="NAME")] = "summary",
    out: Annotated[
        Path | None, options.option("--out", "-o", help="A file; else stdout.", metavar="FILE")
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write a table of a run as CSV, Parquet, JSON or Markdown; --json: to stdout, with its name."""
    options.begin(quiet, verbose)
    _refuse_unclear(to, out, json=json)
    from memprobe.reading import open_run

    opened = open_run(run)
    frame = opened.summary if table == "summary" else opened.table(table)
    if json and out is None:
        console.show_json({"run": str(run), "table": table, "rows": frame.to_dicts()})
        return
    to = to or "json"
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
    if json:
        about = {"run": str(run), "table": table, "file": str(out), "format": to, "n_rows": frame.height}
        console.show_json(about)
    console.note(f"wrote {out}: {counted(frame.height, 'row')} of {table}")


def _refuse_unclear(to: str | None, out: Path | None, *, json: bool) -> None:
    """Refuse a call that does not say what goes to stdout."""
    if to is None and not json:
        raise InputError("no format was given", fix="name one with --to csv, parquet, json or markdown")
    if json and out is None and to not in (None, "json"):
        raise InputError(
            f"--json and --to {to} both want stdout", fix="name a file with -o, or leave one out"
        )


def _bytes(frame: "pl.DataFrame", to: str) -> bytes:
    import io
    import json

    if to == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    if to == "csv":
        return _flat(frame).write_csv().encode()
    if to == "json":
        rows = console.finite(frame.to_dicts())
        return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return _markdown(frame).encode()


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Return the table with each list as JSON, which is how a CSV cell holds one."""
    import json

    import polars as pl

    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    return frame.with_columns(
        pl.Series(
            name, [None if each is None else json.dumps(each) for each in frame[name].to_list()], pl.String
        )
        for name in nested
    )


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
