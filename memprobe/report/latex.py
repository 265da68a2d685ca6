"""Tables as LaTeX that needs only booktabs; numbers are aligned at their decimal points."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from memprobe.escape import latex
from memprobe.report.papers import MAX_LINES, Cell, Line, PaperTable

NEEDS = "% needs \\usepackage{booktabs}\n"
# A longer text would push other columns off the page: its column gets a fixed width and breaks lines.
_WIDE_CHARS = 40
_MAX_CHARS = 200


def paper_latex(tables: Sequence[PaperTable]) -> str:
    """Return tables with caption and label, each in its own float."""
    return NEEDS + "\n".join(_float(_estimates(table), table.caption, table.label) for table in tables)


def plain_latex(frame: pl.DataFrame, name: str, caption: str | None = None, label: str | None = None) -> str:
    """Return a table as it is, cut into floats that fit a page; nulls are empty cells."""
    heads = " & ".join(latex(column) for column in frame.columns)
    kinds = "".join(_kind(frame[name]) for name in frame.columns)
    # Cells with broken lines need more room.
    at_once = MAX_LINES // 2 if "p" in kinds else MAX_LINES
    floats = []
    for start in range(0, max(frame.height, 1), at_once):
        body = [
            " & ".join(_plain(value) for value in row) for row in frame[start : start + at_once].iter_rows()
        ]
        part = start // at_once
        title = caption or f"The table {name}, {frame.height:,} rows."
        floats.append(
            _float(
                _tabular(kinds, heads, [f"{line} \\\\" for line in body]),
                title + (f" (Rows from {start + 1:,}.)" if part else ""),
                (label or f"tab:memprobe-{name.replace('_', '-')}") + (f"-{part + 1}" if part else ""),
            )
        )
    return NEEDS + "\n".join(floats)


def _kind(column: pl.Series) -> str:
    if column.dtype.is_numeric():
        return "r"
    longest = column.str.len_chars().max() if column.dtype == pl.String() else 0
    return "p{0.26\\linewidth}" if isinstance(longest, int) and longest > _WIDE_CHARS else "l"


def _plain(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _signed(f"{value:.6g}")
    return _signed(str(value)) if isinstance(value, int) else latex(str(value), _MAX_CHARS)


def _signed(number: str) -> str:
    return {"inf": r"$\infty$", "-inf": r"$-\infty$"}.get(number, number.replace("-", "$-$", 1))


def _float(tabular: str, caption: str, label: str) -> str:
    return (
        "\\begin{table}[t]\n  \\centering\n  \\footnotesize\n"
        "  \\setlength{\\tabcolsep}{3pt}\n  \\setlength{\\belowcaptionskip}{4pt}\n"
        f"  \\caption{{{latex(caption)}}}\n  \\label{{{_safe_label(label)}}}\n{tabular}\\end{{table}}\n"
    )


def _safe_label(label: str) -> str:
    return "".join(each if (each.isascii() and each.isalnum()) or each in ":-" else "-" for each in label)


def _tabular(kinds: str, heads: str, body: Sequence[str]) -> str:
    lines = ["\\toprule", f"{heads} \\\\", "\\midrule", *body, "\\bottomrule"]
    return (
        f"  \\begin{{tabular}}{{@{{}}{kinds}@{{}}}}\n"
        + "".join(f"    {line}\n" for line in lines)
        + "  \\end{tabular}\n"
    )


def _estimates(table: PaperTable) -> str:
    n = len(table.columns)
    heads = "".join(f" & \\multicolumn{{2}}{{c}}{{{latex(each, _WIDE_CHARS)}}}" for each in table.columns)
    body = []
    for place, line in enumerate(table.lines):
        if line.depth == 0 and place:
            body.append("\\addlinespace")
        body.append(_line(line, 2 * n + 2))
    return _tabular("l" + "r@{}l" * n + "r", f"{heads} & $n$", body)


def _line(line: Line, width: int) -> str:
    label = latex(line.label, _MAX_CHARS)
    if line.depth == 0:
        return f"\\multicolumn{{{width}}}{{@{{}}l}}{{\\emph{{{label}}}}} \\\\"
    indented = "\\quad " * (line.depth - 1) + label
    if not line.cells:
        return f"\\multicolumn{{{width}}}{{@{{}}l}}{{{indented}}} \\\\"
    return f"{indented}{''.join(f' & {_cell(cell)}' for cell in line.cells)} & {latex(line.n)} \\\\"


def _cell(cell: Cell) -> str:
    """Return an estimate split at its decimal point into two cells, followed by its interval."""
    if not cell.interval and not cell.estimate[-1:].isdigit():
        return f"\\multicolumn{{2}}{{c}}{{{cell.estimate}}}"
    whole, point, decimals = cell.estimate.partition(".")
    front, behind = _signed(whole), point + decimals
    if cell.best:
        front, behind = f"\\textbf{{{front}}}", f"\\textbf{{{behind}}}" if behind else ""
    if not cell.interval:
        return f"{front} & {behind}"
    interval = ", ".join(_signed(end) for end in cell.interval.strip("[]").split(", "))
    return f"{front} & {behind}\\,{{\\scriptsize [{interval}]}}"
