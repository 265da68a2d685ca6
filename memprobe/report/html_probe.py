"""Report section of one probe: what it measures, figures, numbers, the most memorized items."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from memprobe.figures.panels import Figure
from memprobe.figures.render import svg_in_page
from memprobe.figures.theme import Look
from memprobe.report.elements import Html, details, element, join, raw, table, text, user_text
from memprobe.report.estimates import Headline, leading_condition
from memprobe.report.figure_list import figures_of
from memprobe.report.html_items import worst_items
from memprobe.report.plain import number
from memprobe.report.results import Results
from memprobe.tables.conditions import readable
from memprobe.tables.manifest import AboutEntry, ProbeEntry
from memprobe.tables.selection import last_step, part_of, pooled
from memprobe.wording import counted

_MAX_GROUPS = 20
_MAX_PANELS = 6
_MAX_STEPS = 24
_MAX_ROWS = 40
# Tables of at most this many rows are open from the start.
_FEW_ROWS = 16


def named(name: str) -> Html:
    """Return one of memprobe's own names, formatted as code."""
    return element("code", text(name))


def probe_section(results: Results, probe: str, found: Sequence[Headline], *, include_text: bool) -> Html:
    """Return everything that the report says about one probe.

    Args:
        results: Contents of the run.
        probe: The probe's name.
        found: The probe's headlines, one for each model.
        include_text: Show the texts of items that are listed.
    """
    about = results.probes[probe]
    rows = results.summary.filter(pl.col("probe") == probe)
    texts = about.about or AboutEntry()
    parts = [
        element("h2", text(probe), id=f"probe-{probe}"),
        element("p", element("b", text(about.title))),
        element("p", text(texts.measures)),
        _figures(results, probe, about),
        _numbers(rows, about),
        *_by_part(rows, found),
        *_over_steps(rows, found),
        *worst_items(results, about, include_text=include_text),
        element("h3", "How to read it"),
        element("p", text(texts.how_to_read)),
        element("p", element("b", "Limits. "), text(texts.limits)),
        _definition(results, probe, about),
    ]
    return element("section", *parts)


def _figures(results: Results, probe: str, about: ProbeEntry) -> Html:
    # A metric that is shown only in excess of a control has no rows of its own.
    there = set(results.summary.filter(pl.col("probe") == probe)["metric"])
    metrics = [each for each in about.metrics if each.name in there]
    figures = figures_of(probe, metrics, results.tables)
    drawn = {each.kind: _panels(results, each) for each in figures}
    own = any(drawn[each.kind] for each in figures if each.table != "summary")
    if own and results.summary.filter(pl.col("probe") == probe)["revision"].is_null().all():
        # If all metrics are about the whole sequence, the probe's own figures show them better.
        drawn.pop(probe, None)
    shown = [figure for figures in drawn.values() for figure in figures]
    return element("div", *shown, class_="figures") if shown else element("p", "There is nothing to draw.")


def _panels(results: Results, figure: Figure) -> list[Html]:
    panels = figure.panels(results.read(figure.table, figure.of_last_step))
    shown = []
    for panel in panels[:_MAX_PANELS]:
        title = f"{figure.title}: {panel.name}" if panel.name else figure.title
        try:
            chart = figure.draw(panel.rows, Look())
        except ValueError:
            # No finite estimate: the numbers below say why.
            continue
        drawing = element("div", raw(svg_in_page(chart, f"{title}. {figure.caption}")), class_="card")
        said = element("figcaption", element("b", text(title), ". "), text(figure.caption))
        shown.append(element("figure", drawing, said))
    if shown and len(panels) > _MAX_PANELS:
        left = counted(len(panels) - _MAX_PANELS, "more panel")
        shown.append(element("p", f"{left}: ", named(f"memprobe plot RUN --kind {figure.kind} --panel NAME")))
    return shown


def _numbers(rows: pl.DataFrame, about: ProbeEntry) -> Html:
    """Return a table of each metric at the last step, next to its value for never-trained items."""
    units = {each.name: each.unit for each in about.metrics}
    models = rows["model"].unique(maintain_order=True).to_list()
    lines = []
    for model in models:
        of_model = rows.filter(pl.col("model") == model)
        never = part_of(of_model.filter(pl.col("group").is_null()), "trained").filter(
            pl.col("part") == "false"
        )
        for metric in of_model["metric"].unique(maintain_order=True):
            shown = last_step(_together(of_model, metric))
            if shown.is_empty():
                continue
            condition = leading_condition(shown)
            row, beside = (
                _of(shown, condition),
                _of(last_step(never.filter(pl.col("metric") == metric)), condition),
            )
            n = "" if row is None else f"{row['n_items']:,}"
            label = join([named(metric), text(_listed(condition), 90)])
            lines.append((user_text(model), label, number(row), number(beside), units.get(metric, ""), n))
    head = ("model", "metric", "all items", "never trained", "unit", "n")
    # Leave out empty columns, and the model's name if there is only one.
    kept = [i for i in range(len(head)) if (i or len(models) > 1) and any(line[i] for line in lines)]
    shown_lines = [[line[i] for i in kept] for line in lines]
    return join(
        [
            element(
                "h3",
                "Numbers over all steps" if rows["revision"].is_null().all() else "Numbers at the last step",
            ),
            table([head[i] for i in kept], shown_lines),
        ]
    )


def _listed(condition: str | None) -> str:
    return "" if condition is None else f" {readable(condition)}"


def _together(of_model: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Return a metric's rows over all items; an excess has rows over never-trained items or a control."""
    rows = of_model.filter(pl.col("metric") == metric)
    if metric.endswith("_excess_frac"):
        return rows.filter(pl.col("group").is_null())
    return pooled(rows)


def _of(rows: pl.DataFrame, condition: str | None) -> Mapping[str, Any] | None:
    found = rows.filter(pl.col("condition").eq_missing(pl.lit(condition, dtype=pl.String)))
    return found.row(0, named=True) if found.height else None


def _by_part(rows: pl.DataFrame, found: Sequence[Headline]) -> list[Html]:
    """Return tables of each headline's metric by group and by exposures, at the last step."""
    parts, n_rows = [], 0
    for each in found:
        of_metric = last_step(rows.filter(pl.col("model") == each.model, pl.col("metric") == each.metric))
        condition = pl.lit(each.row["condition"], dtype=pl.String)
        groups = of_metric.filter(
            pl.col("group").is_not_null(), pl.col("condition").eq_missing(condition)
        ).with_columns(part="group")
        exposed = part_of(of_metric.filter(pl.col("group").is_null()), "exposures")
        exposed = exposed.filter(pl.col("condition").eq_missing(condition)).sort(
            pl.col("part").cast(pl.Int64, strict=False)
        )
        n_rows += groups.height + exposed.height
        of = f" of {each.model}" if len(found) > 1 else ""
        parts += _parts(f"{each.metric} by group{of}", "group", groups.sort("n_items", descending=True))
        parts += _parts(f"{each.metric} by exposures{of}", "exposures", exposed)
    return [details("By group and exposures", *parts, opened=n_rows <= _FEW_ROWS)] if parts else []


def _parts(title: str, column: str, rows: pl.DataFrame) -> list[Html]:
    if rows.is_empty():
        return []
    shown = rows.head(_MAX_GROUPS).to_dicts()
    lines = [[user_text(row["part"]), text(number(row)), text(f"{row['n_items']:,}")] for row in shown]
    left = rows.height - len(shown)
    more = [element("p", f"{left:,} more in summary.csv", class_="dim")] if left > 0 else []
    return [table((column, "estimate", "n"), lines, user_text(title, 120)), *more]


def _over_steps(rows: pl.DataFrame, found: Sequence[Headline]) -> list[Html]:
    """Return tables of each headline's metric step by step, for readers who cannot see the figures."""
    parts = []
    for each in found:
        condition = pl.lit(each.row["condition"], dtype=pl.String)
        of_metric = pooled(rows).filter(
            pl.col("model") == each.model,
            pl.col("metric") == each.metric,
            pl.col("condition").eq_missing(condition),
            pl.col("step").is_not_null(),
        )
        if of_metric.height < 2:
            continue
        every = -(-of_metric.height // _MAX_STEPS)
        shown = [row for i, row in enumerate(of_metric.reverse().iter_rows(named=True)) if i % every == 0]
        lines = [
            [text(f"{row['step']:,}"), text(number(row)), text(f"{row['n_items']:,}")] for row in shown[::-1]
        ]
        title = f"{each.metric} of {each.model}" if len(found) > 1 else each.metric
        parts.append(table(("step", "estimate", "n"), lines, user_text(title, 120)))
    return [details("Step by step", *parts)] if parts else []


def _definition(results: Results, probe: str, about: ProbeEntry) -> Html:
    asked = results.manifest.asked
    entries = [each.settings for each in asked if each.probe == probe]
    given = [
        ("definition", element("code", text(about.formula))),
        ("source", text(about.source)),
        ("version", text(about.version)),
        *(("settings", _settings(each)) for each in entries[:_MAX_ROWS] if each),
    ]
    pairs = (element("dt", text(name)) + element("dd", value) for name, value in given)
    meant = [[named(each.name), text(each.unit), text(each.more_means)] for each in about.metrics]
    listed = table(("metric", "unit", "more means"), meant)
    return details("Definition, settings and source", element("dl", raw("".join(pairs))), listed)


def _settings(settings: Mapping[str, Any]) -> Html:
    return element("code", text(", ".join(f"{key} = {_toml(value)}" for key, value in settings.items())))


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
