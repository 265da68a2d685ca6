"""`memprobe probes`: what can be measured, and how."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memprobe.cli import console, options
from memprobe.cli.examples import epilog
from memprobe.errors import SuiteError
from memprobe.wording import near_miss

if TYPE_CHECKING:
    from rich.table import Table

    from memprobe.pipeline.suite import Suite
    from memprobe.probes.contract import Probe

probes = typer.Typer(help="The probes and suites that ship.", no_args_is_help=True)


@probes.command("ls", epilog=epilog("probes ls"))
def ls(quiet: options.Quiet = False, verbose: options.Verbose = False, json: options.Json = False) -> None:
    """List probes and suites."""
    options.begin(quiet, verbose)
    from memprobe.pipeline.suite import load_suite, shipped_suites
    from memprobe.probes.discovery import discover, packages, unusable

    for name, why in unusable().items():
        console.note(f"the probe `{name}` of {packages()[name]} cannot be used: {why}")
    suites = {name: load_suite(name) for name in shipped_suites()}
    if json:
        console.show_json(
            {
                "probes": [_probe_json(probe) for probe in discover().values()],
                "suites": [_suite_json(suite) for suite in suites.values()],
            }
        )
        return
    from memprobe.report.plain import plain_table

    table = plain_table("Probes")
    for column in ("name", "v", "what it asks", "source"):
        table.add_column(column)
    for probe in discover().values():
        table.add_row(probe.name, str(probe.version), probe.title, probe.source)
    console.show(table)
    console.show("")
    table = plain_table("Suites")
    for column in ("name", "what it measures", "probes", "source"):
        table.add_column(column)
    for suite in suites.values():
        held = ", ".join(dict.fromkeys(entry.probe.name for entry in suite.entries))
        table.add_row(suite.name, suite.title, held, suite.source)
    console.show(table)


@probes.command("describe", epilog=epilog("probes describe"))
def describe(
    name: Annotated[str, typer.Argument(help="A probe or a suite.", metavar="NAME")],
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Say what a probe measures: formula, inputs, options, columns, source."""
    options.begin(quiet, verbose)
    from memprobe.pipeline.suite import load_suite, shipped_suites
    from memprobe.probes.discovery import discover, find, unusable

    if name in discover() or name in unusable():
        probe = find(name)
        if json:
            console.show_json(_probe_json(probe))
        else:
            _show_probe(probe)
    elif name in shipped_suites():
        suite = load_suite(name)
        if json:
            console.show_json(_suite_json(suite))
        else:
            console.show(shipped_suites()[name].read_text(encoding="utf-8").rstrip())
    else:
        known = [*discover(), *shipped_suites()]
        raise SuiteError(
            f"unknown probe or suite `{name}`{near_miss(name, known)}", fix=f"names are {', '.join(known)}"
        )


def _probe_json(probe: "Probe") -> dict[str, Any]:
    from memprobe.pipeline.suite import settings_table
    from memprobe.probes.meanings import option_meanings

    return {
        "name": probe.name,
        "version": probe.version,
        "title": probe.title,
        "formula": probe.formula,
        "source": probe.source,
        "needs": list(probe.needs),
        "options": {**dict.fromkeys(probe.options()), **settings_table(probe.settings())},
        "option_meanings": option_meanings(probe.settings),
        "metrics": [
            {"name": each.name, "unit": each.unit, "more_means": each.more_means}
            for each in probe.all_metrics
        ],
        "columns": probe.table.dictionary().to_dicts(),
    }


def _suite_json(suite: "Suite") -> dict[str, Any]:
    from memprobe.pipeline.suite import settings_table

    return {
        "name": suite.name,
        "title": suite.title,
        "source": suite.source,
        "probes": [{"kind": entry.probe.name, **settings_table(entry.settings)} for entry in suite.entries],
    }


def _show_probe(probe: "Probe") -> None:
    about = _probe_json(probe)
    for line in (
        f"{probe.name} v{probe.version}: {probe.title}",
        f"formula: {probe.formula}",
        f"needs: {', '.join(probe.needs) or 'any item'}",
        f"source: {probe.source}",
    ):
        console.show(line)
    options_table = _table("Options", "option", "default", "meaning")
    for key, value in about["options"].items():
        default = "left out" if value is None else _toml(value)
        options_table.add_row(key, default, about["option_meanings"].get(key, ""))
    metrics = _table("Metrics", "metric", "unit", "more means")
    for metric in about["metrics"]:
        metrics.add_row(metric["name"], metric["unit"], metric["more_means"])
    columns = _table("Item-level columns", "column", "unit", "meaning", "null")
    for column in about["columns"]:
        columns.add_row(column["column"], column["unit"], column["meaning"], column["null_means"])
    for table in (options_table, metrics, columns) if about["options"] else (metrics, columns):
        console.show("")
        console.show(table)


def _toml(value: object) -> str:
    """Return a value in the form that a suite or `--set` takes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inner} }}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _table(title: str, *columns: str) -> "Table":
    from memprobe.report.plain import plain_table

    table = plain_table(title)
    for place, column in enumerate(columns):
        # A name that is split over two lines cannot be copied.
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    return table
