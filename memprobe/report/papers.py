"""The summary as papers print it: a row for each metric and condition, a column for each step or model.

In each row the estimate that means most (or least) memorization is bold, by the metric's declared direction;
a metric without a direction has no bold estimate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from memprobe.report.console import spread, telling
from memprobe.tables.conditions import is_exactly, pairs, shared
from memprobe.tables.selection import at_last_step, of_checkpoints, pooled
from memprobe.wording import at_step

MAX_COLUMNS = 4
MAX_LINES = 40

Bold = Literal["most", "least", "none"]
# By probe and metric, whether a larger value means more memorized; None if the metric has no direction.
Directions = Mapping[tuple[str, str], bool | None]


@dataclass(frozen=True, slots=True)
class Style:
    """Style of a paper's table.

    Attributes:
        bold: Which estimate of a row is bold: the most memorized, the least, or none.
        everything: Show all conditions and all steps instead of a selection.
        decimals: Decimals of estimates below 100.
        caption: Caption instead of the generated one.
        label: Label instead of the generated one; a second table gets `-2` appended.
    """

    bold: Bold = "most"
    everything: bool = False
    decimals: int = 2
    caption: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One estimate.

    Attributes:
        estimate: The estimate as shown; empty if there is none.
        interval: The interval as shown, in brackets.
        best: Whether the estimate is bold.
    """

    estimate: str
    interval: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table.

    Attributes:
        label: Name of the probe or metric, or the condition.
        depth: 0: a probe, 1: a metric, 2: a condition of a metric.
        cells: One cell for each column; empty if the line is a heading.
        n: Number of items as shown: one number, or the smallest and the largest.
    """

    label: str
    depth: int
    cells: tuple[Cell, ...] = ()
    n: str = ""


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table that fits a page.

    Attributes:
        columns: Headings of the columns of estimates.
        lines: Lines of the table, from top to bottom.
        caption: Text on what the table shows, the level of its intervals, and what is bold.
        label: Label for references to the table, such as `tab:memprobe`.
    """

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    caption: str
    label: str


def paper_tables(summary: pl.DataFrame, directions: Directions, style: Style) -> list[PaperTable]:
    """Return the pooled estimates of a summary as tables that each fit a page.

    Args:
        summary: Rows of `SUMMARY`.
        directions: Direction of each metric.
        style: Style of the tables.

    Returns:
        For several models, a table with a column for each model's last step; for one model, a column for each
        step. A table that does not fit a page is cut between probes. Numbers about a whole sequence are in
        separate tables.
    """
    rows = pooled(summary)
    tables: list[PaperTable] = []
    of_steps, over_all = rows.filter(of_checkpoints()), rows.filter(~of_checkpoints())
    models = rows["model"].unique(maintain_order=True).to_list()
    if len(models) > 1:
        last = of_steps.filter(at_last_step())
        steps = dict(last.select("model", "step").unique(maintain_order=True).iter_rows())
        names = {model: f"{model}, {at_step(steps[model])}" if model in steps else model for model in models}
        tables += _cut(last, "model", names, directions, style, "models at their last steps")
    elif models:
        steps_there = sorted(of_steps["step"].unique().to_list())
        shown = steps_there if style.everything else spread(steps_there, MAX_COLUMNS)
        left_out = (
            f" at {len(shown)} of {len(steps_there)} checkpoints" if len(shown) < len(steps_there) else ""
        )
        names = {step: at_step(step) for step in shown}
        tables += _cut(of_steps, "step", names, directions, style, f"{models[0]}{left_out}")
    named = {model: model for model in models}
    tables += _cut(over_all, "model", named, directions, style, " and ".join(models))
    return [_labelled(table, style, number) for number, table in enumerate(tables)]


def _labelled(table: PaperTable, style: Style, number: int) -> PaperTable:
    ending = f"-{number + 1}" if number else ""
    label = (style.label or "tab:memprobe") + ending
    caption = table.caption if style.caption is None else style.caption + (" (continued)" if number else "")
    return PaperTable(table.columns, table.lines, caption, label)


def _cut(
    rows: pl.DataFrame,
    by: str,
    columns: Mapping[Any, str],
    directions: Directions,
    style: Style,
    title: str,
) -> list[PaperTable]:
    """Return the rows as tables, cut before a probe that does not fit, or within one longer than a page."""
    wanted = pl.Series(list(columns), dtype=rows.schema[by])
    shown = rows.filter(pl.col(by).is_in(wanted.implode(), nulls_equal=True))
    blocks = [
        _probe_lines(shown.filter(pl.col("probe") == probe), by, columns, directions, style)
        for probe in shown["probe"].unique(maintain_order=True)
    ]
    pages = cut_pages(blocks)
    levels = shown["ci_level"].unique().sort().to_list()
    return [
        PaperTable(tuple(columns.values()), tuple(page), _caption(page, title, levels, style), "")
        for page in pages
    ]


def cut_pages(blocks: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Return the lines of several probes as pages, cut between two probes where that is possible.

    Args:
        blocks: The lines of each probe, its name first.
    """
    pages: list[list[Line]] = []
    for block in blocks:
        for part in _pieces(block):
            if pages and len(pages[-1]) + len(part) <= MAX_LINES:
                pages[-1] += part
            else:
                pages.append(list(part))
    return pages


def _pieces(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines of a probe in pieces that fit a page, the probe's name above each."""
    head, rest = lines[0], lines[1:]
    room = MAX_LINES - 1
    return [[head, *rest[start : start + room]] for start in range(0, len(rest), room)]


def _caption(page: Sequence[Line], title: str, levels: Sequence[float], style: Style) -> str:
    probes = [line.label for line in page if line.depth == 0]
    what = ", ".join(probes[:-1]) + (" and " if probes[1:] else "") + probes[-1]
    brackets = ", ".join(f"{level:.0%}" for level in levels)
    sentences = [f"{what[:1].upper()}{what[1:]} of {title}.", f"In brackets: {brackets} intervals; n: items."]
    if any(cell.best for line in page for cell in line.cells):
        sentences.append(f"Bold: the estimate of a row that means {style.bold} memorized.")
    return " ".join(sentences)


def _probe_lines(
    rows: pl.DataFrame, by: str, columns: Mapping[Any, str], directions: Directions, style: Style
) -> list[Line]:
    lines = [Line(str(rows["probe"][0]), 0)]
    for metric in rows["metric"].unique(maintain_order=True):
        of_metric = rows.filter(pl.col("metric") == metric)
        conditions = of_metric["condition"].unique(maintain_order=True).to_list()
        shown = conditions if style.everything else telling(conditions)
        common = shared(shown)
        up = directions.get((str(rows["probe"][0]), metric))
        if shown != [None] and (shown[0] is not None or common):
            lines.append(Line(metric + (f", {', '.join(common)}" if common else ""), 1))
        for condition in shown:
            found = {row[by]: row for row in of_metric.filter(is_exactly(condition)).iter_rows(named=True)}
            pieces = [each for each in pairs(condition) if each not in common]
            cells = _cells([found.get(column) for column in columns], up, style)
            n = _count(found.values())
            lines.append(Line(", ".join(pieces) or metric, 2 if pieces else 1, cells, n))
    return lines


def _count(rows: Any) -> str:  # noqa: ANN401
    counts = sorted({row["n_items"] for row in rows})
    return "" if not counts else "–".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))


def _cells(rows: Sequence[Mapping[str, Any] | None], up: bool | None, style: Style) -> tuple[Cell, ...]:
    known = [row["estimate"] for row in rows if row is not None and row["estimate"] is not None]
    best = None
    if up is not None and style.bold != "none" and len(known) > 1:
        best = shown_number((max if up == (style.bold == "most") else min)(known), style.decimals)
        if all(shown_number(each, style.decimals) == best for each in known):
            best = None
    return tuple(_cell(row, best, style.decimals) for row in rows)


def _cell(row: Mapping[str, Any] | None, best: str | None, decimals: int) -> Cell:
    if row is None:
        return Cell("", "")
    if row["estimate"] is None:
        return Cell("undefined", "")
    estimate = shown_number(row["estimate"], decimals)
    if row["ci_low"] is None:
        interval = "[no interval]"
    else:
        high = "open" if row["ci_high"] is None else shown_number(row["ci_high"], decimals)
        interval = f"[{shown_number(row['ci_low'], decimals)}, {high}]"
    return Cell(estimate, interval, estimate == best)


def shown_number(value: float, decimals: int) -> str:
    """Return a number as papers print it: `decimals` decimals, none from 100 on, commas at thousands."""
    if abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.{decimals}f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text
