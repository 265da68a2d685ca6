"""`memprobe gate`: judges a run by rules and sets an exit code for CI; no model, no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memprobe.cli import console, options
from memprobe.cli.results import RunPath
from memprobe.errors import InputError

if TYPE_CHECKING:
    from memprobe.gates.verdict import GateResult

Format = Literal["rich", "markdown", "json", "github"]


def gate(
    run: RunPath,
    rules: Annotated[Path, options.option("--rules", help="The rules, a TOML file.", metavar="FILE")],
    baseline: Annotated[
        Path | None,
        options.option(
            "--baseline", help="The run that max_increase and max_decrease compare with.", metavar="RUN"
        ),
    ] = None,
    junit: Annotated[
        Path | None, options.option("--junit", help="Write JUnit XML to this file.", metavar="FILE")
    ] = None,
    sarif: Annotated[
        Path | None, options.option("--sarif", help="Write SARIF 2.1.0 to this file.", metavar="FILE")
    ] = None,
    form: Annotated[
        Format,
        options.option("--format", help="github: annotations and the step's summary."),
    ] = "rich",
    allow_incomplete: Annotated[
        bool, options.option("--allow-incomplete", help="Judge a run even if some of its checkpoints failed.")
    ] = False,
    dry_run: Annotated[
        bool,
        options.option(
            "--dry-run",
            help="Judge nothing; list the items that each rule needs and has, and what prevents it.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Judge a run by rules: exit code 0 passed, 1 failed, 2 wrong rules, 3 could not judge."""
    options.begin(quiet, verbose)
    if json and form not in ("rich", "json"):
        raise InputError(f"--json and --format {form} both want stdout", fix="leave one out")
    form = "json" if json else form
    if dry_run:
        _refuse_files(junit, sarif, form)
        _dry_run(run, rules, baseline, as_json=form == "json")
        return
    from memprobe.gates.judge import gate as judge
    from memprobe.tables.files import check_out

    check_out(*(file for file in (junit, sarif) if file is not None))
    result = judge(run, rules, baseline=baseline, allow_incomplete=allow_incomplete)
    # Files are written first: if that fails, no verdict must have been printed.
    result.write()
    _write(result, junit, sarif)
    if baseline is not None and not any(each.rule.is_relative for each in result.rules):
        console.note("note: no rule has max_increase or max_decrease, so the baseline was not looked at")
    _show(result, form)
    raise typer.Exit(result.exit_code)


def _refuse_files(junit: Path | None, sarif: Path | None, form: Format) -> None:
    given = [f"--format {form}"] if form in ("markdown", "github") else []
    given += [name for name, file in (("--junit", junit), ("--sarif", sarif)) if file is not None]
    if given:
        raise InputError(
            f"--dry-run judges nothing, so there is nothing for {' and '.join(given)}", fix="leave one out"
        )


def _dry_run(run: Path, rules: Path, baseline: Path | None, *, as_json: bool) -> None:
    from memprobe.gates.dry_run import dry_run

    dry = dry_run(run, rules, baseline=baseline)
    if as_json:
        console.show_json(dry.document())
        return
    from memprobe.gates.listing import dry_listing

    console.show(dry_listing(dry))


def _root() -> Path:
    """Return the repository's folder, which paths in reports to GitHub are relative to."""
    return Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())


def _write(result: "GateResult", junit: Path | None, sarif: Path | None) -> None:
    from memprobe.tables.files import write_file

    if junit is not None:
        from memprobe.gates.junit import to_junit

        write_file(junit, to_junit(result).encode())
    if sarif is not None:
        from memprobe.gates.sarif import to_sarif

        write_file(sarif, to_sarif(result, _root()).encode())


def _show(result: "GateResult", form: Format) -> None:
    if form == "json":
        console.show_json(result.document())
    elif form == "markdown":
        from memprobe.gates.markdown import to_markdown

        typer.echo(to_markdown(result), nl=False)
    elif form == "github":
        _show_github(result)
    else:
        from memprobe.gates.listing import listing

        console.show(listing(result))


def _show_github(result: "GateResult") -> None:
    from memprobe.gates.github import annotations, harmless, write_step_summary
    from memprobe.gates.listing import plain_lines

    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        write_step_summary(result, Path(summary))
    for line in annotations(result, _root()):
        typer.echo(line)
    for line in plain_lines(result):
        typer.echo(harmless(line))
