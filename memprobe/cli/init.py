"""`memprobe init`: files to start from."""

from pathlib import Path
from typing import Annotated

import typer

from memprobe.cli import console, options


def init(
    folder: Annotated[
        Path, typer.Argument(help="The folder to write; created if missing.", metavar="DIR")
    ] = Path(),
    template: Annotated[
        str,
        options.option(
            "--template",
            help="audit: canaries against controls. ci: gate rules and a GitHub workflow. "
            "paper: context lengths and schemes, clusters.",
            metavar="audit|ci|paper",
        ),
    ] = "audit",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write a commented suite, items, gate rules for ci, and what to do next; overwrites nothing."""
    options.begin(quiet, verbose)
    from memprobe.bench.templates import write_template

    started = write_template(template, folder)
    if json:
        files = [str(file) for file in started.files]
        console.show_json({"template": started.template, "files": files, "next": started.command})
        return
    for file in started.files:
        console.show_line(f"wrote {file}")
    console.show_line(f"next: {started.command}")
