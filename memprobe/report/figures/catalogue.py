"""Which figures there are, by the table that each is drawn from; and those every probe has.

A new probe needs nothing here: its metrics give it a curve over steps and a figure by exposures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from memprobe.errors import InputError
from memprobe.report.escape import visible
from memprobe.report.figures import probes, summary
from memprobe.report.figures.probes import Panel
from memprobe.report.figures.theme import Look
from memprobe.wording import near_miss


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of figure.

    Attributes:
        kind: Its name, as `--kind` takes it.
        probe: The probe that it is about.
        table: The table that it is drawn from.
        title: What it shows.
        caption: How to read it.
        panels: From the table to the rows of each panel; none where there is nothing to draw.
        draw: From a panel's rows to an Altair chart.
        of_last_step: Only the rows of each model's last step are needed.
    """

    kind: str
    probe: str
    table: str
    title: str
    caption: str
    panels: Callable[[pl.DataFrame], list[Panel]]
    draw: Callable[[pl.DataFrame, Look], Any]
    of_last_step: bool = False


_OWN = (
    Figure(
        "extraction-samples",
        "extraction",
        "summary",
        "Rate over the number of samples",
        "Share of items that n samples hold with probability p, at the last step, with its interval.",
        probes.rows_of_samples,
        probes.draw_samples,
    ),
    Figure(
        "coverage-map",
        "extraction",
        "extraction",
        "Coverage of documents",
        "Largest p_z of the windows in each part of a document; documents with most on top, last step.",
        probes.rows_of_coverage,
        probes.draw_coverage,
        of_last_step=True,
    ),
    Figure(
        "profile-heatmap",
        "profile",
        "profile",
        "Effect by cohort and step",
        "Effect on the items first trained on at a step (down), measured at each step (across). Dots: after "
        "training, and the simultaneous band excludes 0.",
        probes.rows_of_effects,
        probes.draw_effects,
    ),
    Figure(
        "event-study",
        "profile",
        "profile_agg",
        "Event study",
        "Mean effect by checkpoints since training. Bands hold for all points at once. Points before "
        "training should lie around 0.",
        probes.rows_of_events,
        probes.draw_events,
    ),
    Figure(
        "compression-ratios",
        "compression",
        "compression",
        "Ratios by exposures",
        "One mark per target at the last step. Above the line a prompt shorter than the text was found; a "
        "hollow triangle bounds a ratio from above, as far as the search went.",
        probes.rows_of_ratios,
        probes.draw_ratios,
        of_last_step=True,
    ),
    Figure(
        "retention-curve",
        "retention",
        "retention_curve",
        "What is left, by time since training",
        "Items by steps since they were last trained on, beside never-trained items at the same "
        "checkpoints, or chance.",
        probes.rows_of_retention,
        probes.draw_retention,
    ),
    Figure(
        "survival",
        "forgetting",
        "forgetting_survival",
        "Survival of what was learned",
        "Share of learned items not yet forgotten (Kaplan-Meier) by steps since they were first learned.",
        probes.rows_of_survival,
        probes.draw_survival,
    ),
    Figure(
        "acquisition-decay",
        "acquisition",
        "acquisition_curve",
        "What is kept of a gain",
        "Share of the gain of an exposure that is left, by steps since the highest point.",
        probes.rows_of_decay,
        probes.draw_decay,
    ),
    Figure(
        "forecast-steps",
        "forecast",
        "forecast",
        "Forecast by earlier checkpoints",
        "How well what a checkpoint memorizes foretells what the last one memorizes.",
        probes.rows_of_forecast,
        probes.draw_forecast,
    ),
    Figure(
        "sort-distance",
        "sort",
        "sort_accuracy",
        "Accuracy by distance",
        "Share of pairs put in the right order, by their distance in the text, at the last step. The line "
        "is chance.",
        probes.rows_of_order,
        probes.draw_order,
    ),
    Figure(
        "task-scores",
        "stability",
        "stability",
        "Scores of each task's items",
        "Mean score of the items of each task at every checkpoint, tasks in the order of training.",
        probes.rows_of_tasks,
        probes.draw_tasks,
    ),
)
BY_TABLE: Mapping[str, tuple[Figure, ...]] = {
    table: tuple(each for each in _OWN if each.table == table)
    for table in dict.fromkeys(f.table for f in _OWN)
}


def figures_of(probe: str, metrics: Sequence[Mapping[str, Any]], tables: Sequence[str]) -> list[Figure]:
    """Return the figures that tell most of a probe: its first metric, that by exposures, and its own.

    Args:
        probe: Its name.
        metrics: As the manifest describes them: `name`, `unit`.
        tables: Names of the tables that the run has.
    """
    first = [make(probe, metrics[0]) for make in (_over_steps, _by_exposures)] if metrics else []
    own = [each for table in tables for each in BY_TABLE.get(table, ()) if each.probe == probe]
    return [*first, *own]


def all_figures(described: Mapping[str, Mapping[str, Any]], tables: Sequence[str]) -> Iterator[Figure]:
    """Yield every figure that a run could have, by the manifest's `probes` and the names of its tables."""
    for probe, about in described.items():
        yield from figures_of(probe, about["metrics"], tables)
        for metric in about["metrics"]:
            yield _over_steps(probe, metric, f"{probe}.{metric['name']}")


def find(kind: str, figures: Sequence[Figure], drawable: Callable[[], Sequence[str]]) -> Figure:
    """Return the figure of that kind.

    Args:
        kind: As `--kind` gives it.
        figures: All that there could be.
        drawable: The kinds that the run has something to draw for; asked only where the kind is none.

    Raises:
        InputError: There is none; the message lists the kinds and the nearest.
    """
    kinds = {each.kind: each for each in figures}
    if kind in kinds:
        return kinds[kind]
    raise InputError(
        f"no figure of kind `{visible(kind, 60)}`{near_miss(kind, kinds)}", fix=name_one(drawable())
    )


def name_one(kinds: Sequence[str]) -> str:
    """Return what to do where no kind, or one with nothing to draw, was named."""
    return f"kinds here: {', '.join(kinds)}; and PROBE.METRIC for every metric"


def _over_steps(probe: str, metric: Mapping[str, Any], kind: str = "") -> Figure:
    name, unit = metric["name"], metric["unit"]
    return Figure(
        kind or probe,
        probe,
        "summary",
        f"{name} over steps",
        f"All items together, with intervals. A larger value means: {metric['more_means']}.",
        lambda rows: summary.rows_of_metric(rows.filter(pl.col("probe") == probe), name),
        partial(summary.draw_metric, title=_titled(name, unit)),
    )


def _by_exposures(probe: str, metric: Mapping[str, Any]) -> Figure:
    name, unit = metric["name"], metric["unit"]
    return Figure(
        f"{probe}-exposures",
        probe,
        "summary",
        f"{name} by exposures",
        "Items by how often they were trained on, at the last step, with intervals.",
        lambda rows: summary.rows_of_exposures(rows.filter(pl.col("probe") == probe), name),
        partial(summary.draw_exposures, title=_titled(name, unit)),
    )


def _titled(name: str, unit: str) -> str:
    """Return the title of an axis; the unit is left out where the name already says it."""
    return visible(name if name.endswith(("_frac", "_steps", "_tokens")) else f"{name} ({unit})", 60)
