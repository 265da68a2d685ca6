"""Write the report and the figures of a run, from the files of its directory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from memprobe.errors import InputError, InvalidRunError
from memprobe.parsing import UnreadableError, parse_json
from memprobe.pipeline.reading import Run, open_run
from memprobe.report.results import Results
from memprobe.tables.checked_json import AlteredDocumentError, unsealed
from memprobe.tables.files import check_out, write_file
from memprobe.tables.manifest import Manifest, ProbeEntry
from memprobe.tables.selection import at_last_step
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.figures.panels import Figure, Panel

_FORMATS: dict[str, Literal["svg", "pdf", "png"]] = {".svg": "svg", ".pdf": "pdf", ".png": "png"}
_MIN_WIDTH_MM, _MAX_WIDTH_MM = 40.0, 400.0


def read_results(path: Path) -> Results:
    """Read everything that a page or a figure of a run shows.

    Raises:
        InvalidRunError: There is no run, or none of it is scored.
    """
    run = open_run(path)
    manifest = run.about
    store = RunStore(path)
    if run.finished:
        summary, read = run.summary, _reader(store)
        names = store.table_names()
    else:
        from memprobe.pipeline.again import measure_again

        measured = measure_again(store)
        tables = {"items": store.read_table("items"), **measured.tables, "summary": measured.summary}
        summary, read, names = measured.summary, _from_memory(tables), list(tables)
    gate = _gate(path / "gate.json")
    return Results(
        name=path.resolve().name,
        manifest=manifest.changed(probes=_described(manifest)),
        summary=summary,
        tables=names,
        read=read,
        skipped=_lines(path / "skipped.jsonl"),
        gate=gate,
        # One that was written without a digest may be of any state.
        gate_is_old=gate is not None and gate.get("summary_sha256") != run.summary_digest,
        missing=() if run.finished else _missing(run),
    )


def _described(manifest: Manifest) -> Mapping[str, ProbeEntry]:
    """Return the probes as the manifest describes them, or as this version does if it is older."""
    if manifest.probes and all(each.about for each in manifest.probes.values()):
        return manifest.probes
    from memprobe.pipeline.manifest import describe_probes, entries_of
    from memprobe.pipeline.suite import Suite

    entries = tuple(each for stage in manifest.stages for each in entries_of(stage))
    return describe_probes(Suite(name="", title="", source="", entries=entries, run={}))


def _reader(store: RunStore) -> Callable[[str, bool], pl.DataFrame]:
    """Return a reader of tables that caches none; of large tables it loads only the last step."""

    def read(name: str, last: bool) -> pl.DataFrame:
        if not last or name == "summary":
            return store.read_table(name)
        lazy = store.scan_table(name)
        if "step" not in lazy.collect_schema():
            return lazy.collect()
        ends = lazy.group_by("model").agg(pl.col("step").max())
        return lazy.join(ends, on=["model", "step"], how="semi", nulls_equal=True).collect()

    return read


def _from_memory(tables: dict[str, pl.DataFrame]) -> Callable[[str, bool], pl.DataFrame]:
    def read(name: str, last: bool) -> pl.DataFrame:
        rows = tables[name]
        if not last or "step" not in rows.columns:
            return rows
        return rows.filter(at_last_step())

    return read


def _missing(run: Run) -> list[str]:
    from memprobe.bench.status import status

    return [
        f"{each.model} {each.revision}: {each.n_done:,} of "
        f"{'an unknown number' if each.n_units is None else f'{each.n_units:,}'} units scored"
        for each in status(run.path).checkpoints
        if each.n_units is None or each.n_done < each.n_units
    ]


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    try:
        rows = [parse_json(line) for line in file.read_bytes().split(b"\n") if line.strip()]
    except UnreadableError as error:
        fix = "repeat the same `memprobe run`, which writes it again"
        raise InvalidRunError(
            f"it has a line that is not valid JSON: {error}", where=str(file), fix=fix
        ) from error
    return [row for row in rows if isinstance(row, dict)]


def _gate(file: Path) -> dict[str, Any] | None:
    """Return the result of the gate.

    Raises:
        InvalidRunError: The file is not a JSON object of a format that is known.
    """
    if not file.is_file():
        return None
    try:
        said = unsealed(file.read_bytes())
    except AlteredDocumentError:
        said = None
    if not isinstance(said, dict) or said.get("format") != 1:
        raise InvalidRunError(
            "gate.json is not what `memprobe gate` wrote",
            where=str(file),
            fix="run `memprobe gate` again, or move the file away",
        )
    return said


def write_report(path: Path, out: Path | None = None, *, include_text: bool = False) -> Path:
    """Write a run's report as a single HTML page.

    Args:
        path: The run directory.
        out: The file; None: `report.html` in the run directory.
        include_text: Show the texts of the items that are listed.

    Returns:
        The file.

    Raises:
        InputError: The run holds no texts to include, or the file cannot be written there.
        InvalidRunError: There is no run, or none of it is scored.
    """
    from memprobe.report.html import page

    results = read_results(path)
    if include_text and not results.manifest.include_text:
        raise InputError(
            "the run has no texts",
            where=str(path),
            fix="leave out --include-text, or run again with `memprobe run --include-text`",
        )
    file = path / "report.html" if out is None else out
    check_out(file)
    write_file(file, page(results, include_text=include_text).encode(), private=include_text)
    return file


def write_figure(
    path: Path, kind: str, out: Path, *, panel: str | None = None, width_mm: float = 85
) -> list[str]:
    """Write one figure of a run as SVG, PDF or PNG, with letters of 8 points.

    Args:
        path: The run directory.
        kind: Which figure: one of those a report shows, a probe, or PROBE.METRIC.
        out: The file; its ending is the format.
        panel: Which panel of a figure that has several; None: the first.
        width_mm: Width of the whole figure; a column of a paper has about 85.

    Returns:
        The names of the figure's other panels.

    Raises:
        InputError: The kind, panel, ending or width is not possible.
        InvalidRunError: There is no run, or nothing in it to draw.
    """
    from memprobe.figures.render import figure_bytes
    from memprobe.figures.theme import Look
    from memprobe.report.figure_list import all_figures, find, name_one

    form = _FORMATS.get(out.suffix.lower())
    if form is None:
        raise InputError(
            f"`{out.suffix}` is not a figure format",
            where=str(out),
            fix="end the name with .svg, .pdf or .png",
        )
    if not _MIN_WIDTH_MM <= width_mm <= _MAX_WIDTH_MM:
        raise InputError(f"--width-mm is {width_mm:g}, not {_MIN_WIDTH_MM:g} to {_MAX_WIDTH_MM:g}")
    check_out(out)
    results = read_results(path)
    figure = find(kind, list(all_figures(results.probes, results.tables)), lambda: _drawable(results))
    panels = {each.name: each for each in _panels(results, figure)}
    if not panels:
        fix = name_one(_drawable(results))
        raise InvalidRunError(f"the run has nothing to draw for `{kind}`", where=str(path), fix=fix)
    name = next(iter(panels)) if panel is None else panel
    if name not in panels:
        raise InputError(f"`{kind}` has no panel `{name}`", fix=f"panels are: {', '.join(panels)}")
    try:
        chart = figure.draw(panels[name].rows, Look().in_paper(width_mm))
    except ValueError as error:
        raise InvalidRunError(f"nothing to draw for `{kind}`: {error}", where=str(path)) from error
    write_file(out, figure_bytes(chart, form, width_mm))
    return [each for each in panels if each != name]


def figure_kinds(path: Path) -> list[str]:
    """Return the kinds of figures that can be drawn for a run, without those of single metrics.

    Raises:
        InvalidRunError: There is no run, or none of it is scored.
    """
    return _drawable(read_results(path))


def _drawable(results: Results) -> list[str]:
    from memprobe.report.figure_list import all_figures

    figures = all_figures(results.probes, results.tables)
    return [each.kind for each in figures if "." not in each.kind and _panels(results, each)]


def _panels(results: Results, figure: "Figure") -> "list[Panel]":
    return figure.panels(results.read(figure.table, figure.of_last_step))
