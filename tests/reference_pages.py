"""Writes the generated parts of the documentation: what the code itself says of commands, tables and probes.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page under `docs/`; the text around
it is written by hand. `make docs` rewrites all parts, and `tests/test_docs.py` fails while a page that is
committed differs from what the code says.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from memprobe.cli.app import app
from memprobe.cli.examples import EXAMPLES
from memprobe.cli.inspect import _toml
from memprobe.items.schema import GIVEN, ITEMS
from memprobe.lab.truth import LAB_TRUTH
from memprobe.pipeline.suite import load_suite, settings_table, shipped_suites
from memprobe.probes.contract import Metric, Probe
from memprobe.probes.discovery import discover
from memprobe.probes.extraction.tables import EXTRACTION_WINDOWS
from memprobe.probes.meanings import option_meanings
from memprobe.stats import methods
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.schema import Column, TableSchema
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY

DOCS = Path(__file__).parents[1] / "docs"
_PART = re.compile(r"(<!-- generated: (\w+)(?: ([\w ]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
# A name such as `exact_frac` in the prose of a probe.
_NAME = re.compile(r"(?<![\w`=;.])([a-z]+(?:_[a-z0-9]+)+)(?![\w`])")
_KINDS = {
    "rate": "rate over items",
    "mean": "mean over items",
    "median": "median over items",
    "auc": "area under the ROC curve",
    "difference": "difference",
    "km_median": "Kaplan-Meier median",
    "sequence": "estimated over the whole sequence",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def commands() -> str:
    """Return a section for each command: usage, arguments, options and examples."""
    root = typer.main.get_command(app)
    found = []
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        found += [(f"{name} {each}", one) for each, one in inner.items()] if inner else [(name, command)]
    return "\n".join(_command(name, command) for name, command in found)


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    about = " ".join((command.help or "").split())
    usage = " ".join(["memprobe", name, *command.collect_usage_pieces(context)])
    hints = get_type_hints(command.callback)
    rows = [_parameter(each, hints.get(each.name, bool)) for each in command.params]
    described = table(("argument or option", "value", "meaning", "default"), rows)
    examples = "\n".join(EXAMPLES[name])
    return f"## {name}\n\n{about}\n\n```text\n{usage}\n```\n\n```sh\n{examples}\n```\n\n{described}"


def _parameter(parameter: Any, hint: Any) -> tuple[str, str, str, str]:
    argument = parameter.param_type_name == "argument"
    names = [parameter.metavar or parameter.name] if argument else parameter.opts + parameter.secondary_opts
    value = "" if argument else parameter.metavar or _value(hint)
    default = "required" if parameter.required else _default(parameter)
    shown = " ".join(f"`{name}`" for name in names)
    return shown, f"`{value}`" if value else "", parameter.help or "", f"`{default}`" if default else ""


def _value(hint: Any) -> str:
    """Return what an option takes: its choices, a word for its type, or nothing for a switch."""
    inner = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) is Literal:
        return "|".join(inner)
    if inner:
        return _value(inner[0])
    return "" if hint is bool else {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}[hint]


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    return "" if parameter.default in (None, False, (), []) else str(parameter.default)


def columns(schema: TableSchema, *, skip: Iterable[str] = ()) -> str:
    """Return the table of a schema's columns."""
    left_out = set(skip)
    rows = [_column(name, each) for name, each in schema.columns.items() if name not in left_out]
    return table(("column", "type", "unit", "meaning", "null means"), rows)


def _column(name: str, column: Column) -> tuple[str, str, str, str, str]:
    return (
        f"`{name}`",
        str(column.dtype),
        column.unit,
        column.meaning,
        column.null_means or "never null",
    )


def _section(schema: TableSchema, about: str, *, skip: Iterable[str] = ()) -> str:
    key = ", ".join(f"`{name}`" for name in schema.key)
    return f"## {schema.name}\n\n{about} Key: {key}.\n\n{columns(schema, skip=skip)}"


def tables() -> str:
    """Return a section for each table that a run, a comparison or a lab writes."""
    parts = [
        _section(SUMMARY, "One row for each estimate, with its interval; every run has it."),
        _section(DOSE_RESPONSE, "Slopes of rates; a run with two or more doses has it."),
        _section(ITEMS, "The items of the run; the columns that hold text only with `--include-text`."),
        _section(DIFFERENCES, "What `memprobe compare` writes."),
        _section(LAB_TRUTH, "What `memprobe lab train` and `memprobe demo` write as `truth.parquet`."),
    ]
    schemas = {schema.name: (probe, schema) for probe in discover().values() for schema in written(probe)}
    for _, (probe, schema) in sorted(schemas.items()):
        by_item = schema.columns.keys() >= ITEM_KEYS.keys() and "item_id" in schema.key
        about = (
            f"Written by [{probe.name}](../probes/{probe.name}.md){', one row per item' if by_item else ''}."
        )
        about += " It starts with the [item-level keys](#item-level-keys)." if by_item else ""
        parts.append(_section(schema, about, skip=ITEM_KEYS if by_item else ()))
    return "\n".join(parts)


def written(probe: Probe) -> list[TableSchema]:
    """Return the schemas of the tables that entries of a probe write."""
    over_time = probe.over_time
    found = [probe.table] if over_time is None or over_time.keeps_items else []
    found += list(over_time.schemas) if over_time else []
    found += [each.schema for each in (*probe.derived, *probe.aggregates)]
    return list({schema.name: schema for schema in found}.values())


def item_keys() -> str:
    """Return the columns with which every item-level table starts."""
    return columns(TableSchema("keys", ("item_id",), ITEM_KEYS))


def window_columns() -> str:
    """Return the further columns of `extraction` where it reads windows."""
    plain = discover()["extraction"].table.columns
    return columns(EXTRACTION_WINDOWS, skip=plain)


def interval_methods() -> str:
    """Return what each value of `ci_method` is used for, or why it stands for no interval."""
    rows, last = [], ""
    for name, used in {**methods.MEASURED, **methods.IN_TABLES, **methods.WITHOUT}.items():
        last = used.replace("the same", last) if used.startswith("the same ") else used
        rows.append((f"`{name}`", last))
    return table(("method", "used for, or why there is no interval"), rows)


def item_columns() -> str:
    """Return the columns that an item file may give."""
    return table(
        ("column", "type", "unit", "meaning", "null or left out means"),
        (_column(name, ITEMS.columns[name]) for name in GIVEN),
    )


def metrics() -> str:
    """Return a section for each probe: formula, source, and every metric with its direction."""
    parts = []
    for name, probe in discover().items():
        head = f"## {name}\n\nVersion {probe.version}. Source: {probe.source}."
        parts.append(f"{head}\n\n```text\n{probe.formula}\n```\n\n{_metric_table(probe.all_metrics)}")
    return "\n".join(parts)


def _metric_table(found: Iterable[Metric]) -> str:
    rows = [
        (f"`{each.name}`", each.unit, _KINDS[each.summary], _marked(each.more_means), _direction(each))
        for each in found
    ]
    return table(("metric", "unit", "estimate", "a larger value means", "more memorized"), rows)


def _marked(text: str) -> str:
    """Return prose with its names marked as code."""
    return _NAME.sub(r"`\1`", text)


def _direction(metric: Metric) -> str:
    return {True: "higher", False: "lower", None: "neither"}[metric.more_is_memorized]


def suites() -> str:
    """Return the table of suites, and each suite as its file says it."""
    found = {name: load_suite(name) for name in shipped_suites()}
    rows = []
    for name, suite in found.items():
        kinds = dict.fromkeys(entry.probe.name for entry in suite.entries)
        probes = ", ".join(f"[{kind}](../probes/{kind}.md)" for kind in kinds)
        rows.append((f"[`{name}`](#{name})", suite.title, probes, suite.source))
    parts = [table(("suite", "what it measures", "probes", "source"), rows)]
    parts += [
        f"## {name}\n\n```toml\n{shipped_suites()[name].read_text(encoding='utf-8').rstrip()}\n```\n"
        for name in found
    ]
    return "\n".join(parts)


def about(name: str) -> str:
    """Return what a probe measures, how to read it and what it cannot say."""
    probe = discover()[name]
    needs = ", ".join(f"`{column}`" for column in probe.needs)
    asked = f"It needs the item {'columns' if len(probe.needs) > 1 else 'column'} {needs}." if needs else ""
    found = [
        f"{_marked(probe.about.measures)} {asked}".strip(),
        f"**How to read it.** {_marked(probe.about.how_to_read)}",
        f"**Limits.** {_marked(probe.about.limits)}",
        f"```text\n{probe.formula}\n```",
        f"Version {probe.version} of the definition. Source: {probe.source}.",
    ]
    return "\n\n".join(found) + "\n"


def reference(name: str) -> str:
    """Return a probe's options, metrics and tables, and its citation."""
    probe = discover()[name]
    defaults = {**dict.fromkeys(probe.options()), **settings_table(probe.settings())}
    meanings = option_meanings(probe.settings)
    rows = [
        (f"`{key}`", "left out" if value is None else f"`{_toml(value)}`", meanings.get(key, ""))
        for key, value in defaults.items()
    ]
    links = ", ".join(f"[`{each.name}`](../reference/tables.md#{each.name})" for each in written(probe))
    parts = [f"## Options\n\n{table(('option', 'default', 'meaning'), rows)}"] if rows else []
    parts += [
        f"## Metrics\n\n{_metric_table(probe.all_metrics)}",
        f"## Tables\n\n{links}\n",
        f"## Citation\n\n```bibtex\n{probe.about.citation}\n```\n",
    ]
    return "\n".join(parts)


PARTS = {
    each.__name__: each
    for each in (
        commands,
        tables,
        item_keys,
        window_columns,
        item_columns,
        interval_methods,
        metrics,
        suites,
        about,
    )
} | {"reference": reference}


def filled(text: str) -> str:
    """Return a page with its generated parts as the code says them now."""

    def part(match: re.Match[str]) -> str:
        arguments = (match[3] or "").split()
        return f"{match[1]}\n{PARTS[match[2]](*arguments)}\n{match[4]}"

    return _PART.sub(part, text)


def pages() -> list[Path]:
    """Return the pages of the documentation."""
    return sorted(DOCS.rglob("*.md"))


def main() -> None:
    """Rewrite the generated parts of all pages."""
    for page in pages():
        old = page.read_text(encoding="utf-8")
        if (new := filled(old)) != old:
            page.write_text(new, encoding="utf-8")
            sys.stdout.write(f"wrote {page.relative_to(DOCS.parent)}\n")


if __name__ == "__main__":
    main()
