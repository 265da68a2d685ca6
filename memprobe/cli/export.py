"""`memprobe export`: a table of a run for a paper, a spreadsheet or a script; no model, no torch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memprobe.cli import console, options
from memprobe.errors import InputError
from memprobe.wording import counted

if TYPE_CHECKING:
    import polars as pl

    from memprobe.exporting import Format
    from memprobe.pipeline.reading import Run

To = Annotated[
    Literal["csv", "parquet", "json", "markdown", "latex"] | None, options.option("--to", help="The format.")
]
OutFile = Annotated[Path | None, options.option("--out", "-o", help="A file; else stdout.", metavar="FILE")]
Metrics = Annotated[
    list[str] | None, options.option("--metric", help="Only this metric. Repeatable.", metavar="NAME")
]


def export(
    run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    to: To = None,
    table: Annotated[str, options.option("--table", help="Which table.", metavar="NAME")] = "summary",
    out: OutFile = None,
    probe: options.ProbeNames = None,
    metric: Metrics = None,
    steps: options.Steps = None,
    columns: Annotated[
        str | None,
        options.option(
            "--columns",
            help="Only these columns, separated by commas; the summary keeps its rows.",
            metavar="NAMES",
        ),
    ] = None,
    everything: Annotated[
        bool, options.option("--all", help="Markdown and LaTeX: all conditions and steps.")
    ] = False,
    bold: Annotated[
        Literal["most", "least", "none"],
        options.option("--bold", help="Set the most or least memorized estimate of each row in bold."),
    ] = "most",
    caption: Annotated[
        str | None, options.option("--caption", help="The caption, instead of the generated one.")
    ] = None,
    label: Annotated[str | None, options.option("--label", help="For LaTeX's \\ref.")] = None,
    dictionary: Annotated[
        bool, options.option("--dictionary", help="Add what each column means, and its unit.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write a table as CSV, Parquet, JSON, Markdown or LaTeX; --json: to stdout, with its name.

    Of the summary, Markdown and LaTeX have a row for each metric and a column for each step.
    """
    options.begin(quiet, verbose)
    _refuse_unclear(to, out, json=json, beside=dictionary and to in ("csv", "parquet"))
    from memprobe.exporting import export as exported
    from memprobe.exporting import select
    from memprobe.pipeline.reading import open_run
    from memprobe.report.papers import Style
    from memprobe.tables.files import write_file

    opened = open_run(run)
    asked = {
        "table": table,
        "probes": probe or (),
        "metrics": metric or (),
        "steps": steps or (),
        "columns": [name.strip() for name in columns.split(",")] if columns else (),
    }
    frame = select(opened, **asked)  # type: ignore[arg-type]
    if json and out is None:
        console.show_json(_document(opened, table, frame, dictionary=dictionary))
        return
    style = Style(bold, everything or steps is not None, caption=caption, label=label)
    content = exported(opened, to or "json", **asked, style=style)  # type: ignore[arg-type]
    if dictionary and to not in ("csv", "parquet"):
        content = _with_dictionary(content, to or "json", opened, table, frame, paper=not columns)
    if out is None:
        write_stdout(content, to or "json")
        return
    files = {out: content}
    if dictionary and to in ("csv", "parquet"):
        files[out.with_name(f"{out.stem}.dictionary{out.suffix}")] = _dictionary_file(table, frame, to)
    for file, each in files.items():
        write_file(file, each, private=opened.about.include_text)
    if json:
        about = {"run": str(run), "table": table, "file": str(out), "format": to, "n_rows": frame.height}
        console.show_json(about)
    for file in files:
        contents = f"{counted(frame.height, 'row')} of {table}" if file == out else "what its columns mean"
        console.note(f"wrote {file}: {contents}")


def _refuse_unclear(to: str | None, out: Path | None, *, json: bool, beside: bool) -> None:
    """Refuse a call that does not say what goes to stdout, or a file that cannot be written."""
    if to is None and not json:
        raise InputError(
            "no format was given", fix="name one with --to csv, parquet, json, markdown or latex"
        )
    if json and out is None and to not in (None, "json"):
        raise InputError(
            f"--json and --to {to} both want stdout", fix="name a file with -o, or leave one out"
        )
    if beside and out is None:
        raise InputError(
            f"the dictionary of a {to} file is a second file", fix="name a file with -o, or take --to json"
        )
    if out is not None:
        from memprobe.tables.files import check_out

        check_out(out)


def write_stdout(content: bytes, to: str) -> None:
    """Write a file's content to stdout.

    Raises:
        InputError: The content is Parquet, and stdout is a terminal.
    """
    if to == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is not text for a terminal", fix="name a file with -o")
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def _document(run: "Run", table: str, frame: "pl.DataFrame", *, dictionary: bool) -> dict[str, object]:
    from memprobe.exporting import dictionary as described

    document: dict[str, object] = {"run": str(run.path), "table": table, "rows": frame.to_dicts()}
    return document | ({"columns": described(table, frame).to_dicts()} if dictionary else {})


def _dictionary_file(table: str, frame: "pl.DataFrame", to: "Format | None") -> bytes:
    from memprobe.exporting import dictionary, written

    return written(dictionary(table, frame), to or "json", table)


def _with_dictionary(
    content: bytes, to: "Format", run: "Run", table: str, frame: "pl.DataFrame", *, paper: bool
) -> bytes:
    """Return a table as text, followed by the meanings of its columns or of a paper table's metrics."""
    import json

    from memprobe.exporting import dictionary, metric_dictionary, written
    from memprobe.report.papers import Style

    if to == "json":
        rows = {"rows": json.loads(content), "columns": dictionary(table, frame).to_dicts()}
        return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
    of_metrics = paper and table == "summary"
    meanings = metric_dictionary(run, frame) if of_metrics else dictionary(table, frame)
    what = "Metrics" if of_metrics else f"Columns of {table}"
    style = Style(caption=f"{what}: units and meanings.", label=f"tab:memprobe-{table}-dictionary")
    return content + b"\n" + written(meanings, to, f"{table}_dictionary", style)
