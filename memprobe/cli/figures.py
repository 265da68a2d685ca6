"""`memprobe report` and `memprobe plot`: a run as a page, and as figures for a paper; no model, no torch."""

from pathlib import Path
from typing import Annotated

from memprobe.cli import console, options
from memprobe.cli.results import RunPath
from memprobe.errors import InputError
from memprobe.wording import sized


def report(
    run: RunPath,
    out: Annotated[
        Path | None, options.option("--out", "-o", help="Else RUN/report.html.", metavar="FILE.html")
    ] = None,
    include_text: Annotated[
        bool, options.option("--include-text", help="Show the texts of the items that are listed.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write a run's report: one HTML page with figures, numbers, and how they were made."""
    options.begin(quiet, verbose)
    from memprobe.bench.page import write_report

    file = write_report(run, out, include_text=include_text)
    size = file.stat().st_size
    if json:
        console.show_json({"run": str(run), "file": str(file), "n_bytes": size})
    else:
        console.show_line(str(file))
    console.note(f"wrote {file}: {sized(size)}; open it in a browser")


def plot(
    run: RunPath,
    kind: Annotated[
        str | None,
        options.option("--kind", help="Which figure; without it, the figures are listed.", metavar="KIND"),
    ] = None,
    out: Annotated[
        Path | None,
        options.option(
            "--out", "-o", help="The file to write; its ending sets the format.", metavar="FILE.svg|pdf|png"
        ),
    ] = None,
    panel: Annotated[
        str | None,
        options.option(
            "--panel", help="Which panel, where a figure has several; default: the first.", metavar="NAME"
        ),
    ] = None,
    width_mm: Annotated[
        float,
        options.option(
            "--width-mm", help="Width of the figure; a column of a paper has about 85.", metavar="MM"
        ),
    ] = 85.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write one figure of a run as SVG, PDF or PNG, ready for a paper."""
    options.begin(quiet, verbose)
    from memprobe.bench.page import figure_kinds, write_figure

    if kind is None:
        from memprobe.report.figure_list import name_one

        raise InputError("no figure was named: --kind is missing", fix=name_one(figure_kinds(run)))
    if out is None:
        raise InputError("no file was named", fix=f"name one with -o, like -o {kind}.pdf")
    others = write_figure(run, kind, out, panel=panel, width_mm=width_mm)
    size = out.stat().st_size
    if json:
        console.show_json(
            {"run": str(run), "kind": kind, "file": str(out), "n_bytes": size, "other_panels": others}
        )
    else:
        console.show_line(str(out))
    console.note(f"wrote {out}: {sized(size)}")
    if others and panel is None:
        console.note(f"note: other panels, with --panel: {', '.join(others)}")
