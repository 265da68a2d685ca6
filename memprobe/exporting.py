"""Tables of a run in the formats that papers, spreadsheets and scripts read; no model, no torch."""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from memprobe.errors import InputError, InvalidRunError, Problem
from memprobe.pipeline.reading import Run, choose_steps, open_run
from memprobe.report.latex import paper_latex, plain_latex
from memprobe.report.markdown import paper_markdown, plain_markdown
from memprobe.report.paper_differences import difference_tables
from memprobe.report.papers import Directions, Style, paper_tables
from memprobe.tables import cells
from memprobe.tables.checked_json import finite
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.schema import Column, TableSchema
from memprobe.tables.selection import pooled
from memprobe.wording import near_miss

Format = Literal["csv", "parquet", "json", "markdown", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)
_YOURS = "a column of the item files"


def export(
    run: str | Path | Run,
    to: Format,
    *,
    table: str = "summary",
    probes: Collection[str] = (),
    metrics: Collection[str] = (),
    steps: str | Collection[int] = (),
    columns: Collection[str] = (),
    style: Style | None = None,
) -> bytes:
    """Return a table of a run as the content of a file.

    Example:
        Path("results.tex").write_bytes(memprobe.export("reports/mine", "latex", probes=["recall"]))

    Args:
        run: The run, or its directory.
        to: The format. `markdown` and `latex` show the summary as in papers: a row for each metric, a column
            for each step or model; pass `columns` to get its rows unchanged.
        table: Name of the table.
        probes: Only rows of these probes; if empty, all.
        metrics: Only rows of these metrics; if empty, all.
        steps: Only rows of these steps, as in `--steps` or one by one; if empty, all.
        columns: Only these columns, in this order; if empty, all.
        style: Style of a paper's table.

    Raises:
        InvalidRunError: There is no run, or no such table in it.
        InputError: No row or column matches.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    frame = select(opened, table, probes=probes, metrics=metrics, steps=steps, columns=columns)
    if table == "summary" and to in ("latex", "markdown") and not columns:
        wanted = style or Style(everything=bool(steps))
        made = paper_tables(frame, directions(opened), wanted)
        return (paper_latex if to == "latex" else paper_markdown)(made).encode()
    return written(frame, to, table, style or Style())


def select(
    run: Run,
    table: str,
    *,
    probes: Collection[str] = (),
    metrics: Collection[str] = (),
    steps: str | Collection[int] = (),
    columns: Collection[str] = (),
) -> pl.DataFrame:
    """Return the selected rows and columns of a table; see `export`."""
    frame = run.summary if table == "summary" else run.table(table)
    asked = {column: wanted for column, wanted in (("probe", probes), ("metric", metrics)) if wanted}
    problems = [
        problem for column, wanted in asked.items() for problem in _not_there(frame, table, column, wanted)
    ]
    problems += [
        Problem(f"the table {table} has no column `{name}`{near_miss(name, frame.columns)}")
        for name in columns
        if name not in frame.columns
    ]
    if steps and "step" not in frame.columns:
        problems.append(Problem(f"the table {table} has no column step, so that none can be chosen"))
    if problems:
        raise InputError(problems)
    for column, wanted in asked.items():
        frame = frame.filter(pl.col(column).is_in(list(wanted)))
    if steps:
        frame = frame.filter(pl.col("step").is_in(choose_steps(steps, frame["step"].drop_nulls())))
    return frame.select(columns) if columns else frame


def _not_there(frame: pl.DataFrame, table: str, column: str, wanted: Collection[str]) -> list[Problem]:
    if column not in frame.columns:
        return [Problem(f"the table {table} has no column {column}, so that none can be chosen")]
    there = frame[column].unique(maintain_order=True).to_list()
    return [
        Problem(
            f"no row of {table} has the {column} `{name}`{near_miss(name, there)}",
            fix=f"there are: {', '.join(there)}",
        )
        for name in wanted
        if name not in there
    ]


def written_differences(frame: pl.DataFrame, to: Format, style: Style | None = None) -> bytes:
    """Return the differences of a comparison as the content of a file; see `export` for the formats.

    Args:
        frame: Rows of `DIFFERENCES`.
        to: The format; `markdown` and `latex` are laid out as papers do.
        style: Style of a paper's tables.
    """
    if to in ("latex", "markdown"):
        tables = difference_tables(frame, style or Style())
        return (paper_latex if to == "latex" else paper_markdown)(tables).encode()
    return written(frame, to, "differences")


def written(frame: pl.DataFrame, to: Format, name: str, style: Style | None = None) -> bytes:
    """Return any table as the content of a file, row by row.

    Args:
        frame: The table.
        to: The format.
        name: Name of the table, for caption and label.
        style: For other ones.
    """
    if to == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    if to == "csv":
        return cells.to_csv(frame)
    if to == "markdown":
        return plain_markdown(frame).encode()
    if to == "latex":
        look = style or Style()
        return plain_latex(frame, name, look.caption, look.label).encode()
    return (
        json.dumps(finite(frame.to_dicts()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def directions(run: Run) -> Directions:
    """Return, of each probe and metric, whether more means more memorized; None: it has no direction."""
    return {
        (probe, metric.name): metric.direction
        for probe, about in run.about.probes.items()
        for metric in about.metrics
    }


def read_csv(
    source: str | Path | bytes, table: str | None = None, *, schema: Mapping[str, pl.DataType] | None = None
) -> pl.DataFrame:
    """Read a CSV that memprobe wrote, with the types and texts that the table had.

    Example:
        memprobe.read_csv("reports/mine/summary.csv", "summary")

    Args:
        source: The file, or its content.
        table: Name of the table: its columns get their types. None: types are guessed.
        schema: Types of further columns, such as the user's own, which are guessed otherwise.

    Raises:
        InvalidRunError: The file does not hold such a table.
    """
    known = {} if table is None else dict(_ADDED)
    for each in () if table is None else _schemas(table):
        known.update(each.columns)
    types = {name: column.dtype for name, column in known.items()}
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return cells.from_csv(content, {**types, **(schema or {})})
    except pl.exceptions.PolarsError as error:
        where = "" if isinstance(source, bytes) else str(source)
        raise InvalidRunError(f"this is not a CSV of the table {table}: {error}", where=where) from error


def dictionary(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row per column of a table: `column, type, unit, meaning, null_means`.

    Args:
        table: Name of the table.
        frame: Rows of the table; columns without a schema came with the items.
    """
    schemas = _schemas(table)
    rows = [_described(name, dtype, schemas) for name, dtype in frame.schema.items()]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("column", "type", "unit", "meaning", "null_means"), pl.String)
    )


def _schemas(table: str) -> list[TableSchema]:
    from memprobe.items import ITEMS
    from memprobe.probes.discovery import schemas

    return [schema for schema in (ITEMS, DIFFERENCES, *schemas()) if schema.name == table]


def _described(name: str, dtype: pl.DataType, schemas: Sequence[TableSchema]) -> dict[str, str]:
    about = {"column": name, "type": str(dtype)}
    known = next(filter(None, (schema.described(name) for schema in reversed(schemas))), _ADDED.get(name))
    if known is None:
        return about | {"unit": "-", "meaning": _YOURS, "null_means": "not given"}
    null = known.null_means or "never null"
    return about | {"unit": known.unit, "meaning": known.meaning, "null_means": null}


_ADDED: Mapping[str, Column] = {
    "model": Column(pl.String(), "-", "hub id, or name of the sequence's folder"),
    "entry": Column(pl.String(), "-", "which entry of the suite, by the settings in which they differ"),
    "n_tokens": Column(pl.Int32(), "tokens", "tokens of the item", "no such string"),
    "n_prefix_tokens": Column(pl.Int32(), "tokens", "tokens of the prefix", "the item has no prefix"),
    "n_foil_tokens": Column(pl.Int32(), "tokens", "tokens of the foil", "the item has no foil"),
    "boundary_shift": Column(
        pl.Boolean(), "-", "a token crosses the border of prefix and suffix", "no border"
    ),
}


def metric_dictionary(run: Run, frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row per metric of a paper's table: `probe, metric, unit, more_means, more_is_memorized`."""
    there = set(pooled(frame).select("probe", "metric").iter_rows())
    rows = [
        {
            "probe": probe,
            "metric": metric.name,
            "unit": metric.unit,
            "more_means": metric.more_means,
            "more_is_memorized": metric.direction,
        }
        for probe, about in run.about.probes.items()
        for metric in about.metrics
        if (probe, metric.name) in there
    ]
    return pl.DataFrame(
        rows,
        schema={
            **dict.fromkeys(("probe", "metric", "unit", "more_means"), pl.String),
            "more_is_memorized": pl.Boolean,
        },
    )
