"""`memprobe summary`: reading a run; no model, no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memprobe.cli import console, options

if TYPE_CHECKING:
    from memprobe.pipeline.reading import Run

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
    from memprobe.pipeline.reading import open_run

    opened = open_run(run)
    if opened.about.state == "scoring":
        console.note("note: the run is not finished; repeat the same `memprobe run` to continue it")
    if json:
        console.show_json(summary_json(opened))
        return
    from memprobe.report.console import summary_view

    console.show(
        summary_view(opened.summary, opened.about, opened.doses, opened.grids, everything=everything)
    )


def summary_json(run: "Run") -> dict[str, Any]:
    """Return a run's state and summary rows."""
    return {
        "run": str(run.path),
        "state": run.about.state,
        "failures": run.failures,
        "summary": run.summary.to_dicts(),
    }
