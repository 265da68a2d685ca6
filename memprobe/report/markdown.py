"""Tables as GitHub's Markdown."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from memprobe.escape import markdown
from memprobe.report.papers import Cell, Line, PaperTable


def paper_markdown(tables: Sequence[PaperTable]) -> str:
    """Return tables with their captions above them."""
    return "\n".join(_paper(table) for table in tables)


def _paper(table: PaperTable) -> str:
    heads = ["", *(markdown(each) for each in table.columns), "n"]
    rule = ["---", *("---:" for _ in table.columns), "---:"]
    rows = [_line(line, len(table.columns)) for line in table.lines]
    return f"{markdown(table.caption)}\n\n{_lines([heads, rule, *rows])}"


def _line(line: Line, n_columns: int) -> list[str]:
    label = markdown(line.label)
    if line.depth == 0:
        return [f"**{label}**", *[""] * (n_columns + 1)]
    indent = "&emsp;" * (line.depth - 1)
    cells = [_cell(cell) for cell in line.cells] or [""] * n_columns
    return [indent + label, *cells, line.n]


def _cell(cell: Cell) -> str:
    estimate = f"**{cell.estimate}**" if cell.best else cell.estimate
    return f"{estimate} {cell.interval}".strip()


def plain_markdown(frame: pl.DataFrame) -> str:
    """Return a table as it is: nulls as empty cells, floats in full, numbers aligned to the right."""
    rule = ["---:" if dtype.is_numeric() else "---" for dtype in frame.dtypes]
    rows = [[_value(value) for value in row] for row in frame.iter_rows()]
    return _lines([[markdown(name) for name in frame.columns], rule, *rows])


def _value(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value).lower()
    return markdown(str(value))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
