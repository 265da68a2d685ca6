"""The results of a run on the terminal, and `memprobe summary`: no model, no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memprobe.cli import console, options
from memprobe.errors import IncompleteRunError
from memprobe.wording import counted

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


def show_run(answered: "Run", *, json: bool) -> None:
    """Show a run's summary, its directory, and what failed.

    Raises:
        IncompleteRunError: Some checkpoints failed.
    """
    from memprobe.cli.results import summary_json
    from memprobe.report.console import summary_view

    try:
        if json:
            console.show_json(summary_json(answered))
        else:
            console.show(summary_view(answered.summary, answered.about, answered.doses, answered.grids))
    except (BrokenPipeError, SystemExit):
        # rich ends the process if the reader of stdout leaves early; failures must still be reported.
        if not answered.failures:
            raise
    console.note(f"run directory: {answered.path}")
    refuse_failures(answered)


def refuse_failures(answered: "Run") -> None:
    """Raise an error that names the checkpoints that failed, if there are any.

    Raises:
        IncompleteRunError: Some checkpoints failed.
    """
    if failures := answered.failures:
        raise IncompleteRunError(
            f"{counted(len(failures), 'checkpoint')} failed: "
            + "; ".join(f"{each['revision']}: {each['error'].splitlines()[0]}" for each in failures[:3]),
            where=str(answered.path / "errors.jsonl"),
            fix="the others are kept; fix these and run the same command again",
        )
