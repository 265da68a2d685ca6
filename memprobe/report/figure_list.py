"""List of all figures: those that probes declare, and two that every probe has.

A new probe needs no entry here: its metrics give it a curve over steps and a figure by exposures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import polars as pl

from memprobe.errors import InputError
from memprobe.escape import visible
from memprobe.figures.panels import Figure
from memprobe.report import metric_figures
from memprobe.tables.manifest import MetricEntry, ProbeEntry
from memprobe.wording import near_miss


def figures_of(probe: str, metrics: Sequence[MetricEntry], tables: Sequence[str]) -> list[Figure]:
    """Return the main figures of a probe: its first metric over steps and by exposures, then its own.

    Args:
        probe: Name of the probe.
        metrics: Metrics of the probe.
        tables: Names of the tables that the run has.
    """
    first = [make(probe, metrics[0]) for make in (_over_steps, _by_exposures)] if metrics else []
    own = [each for table in tables for each in _declared(probe) if each.table == table]
    return [*first, *own]


def _declared(name: str) -> tuple[Figure, ...]:
    """Return the figures that a probe declares; empty if it is not installed."""
    from memprobe.probes.discovery import discover

    probe = discover().get(name)
    return () if probe is None else probe.drawn()


def all_figures(described: Mapping[str, ProbeEntry], tables: Sequence[str]) -> Iterator[Figure]:
    """Yield every figure that a run could have, by the manifest's `probes` and the names of its tables."""
    for probe, about in described.items():
        yield from figures_of(probe, about.metrics, tables)
        for metric in about.metrics:
            yield _over_steps(probe, metric, f"{probe}.{metric.name}")


def find(kind: str, figures: Sequence[Figure], drawable: Callable[[], Sequence[str]]) -> Figure:
    """Return the figure of that kind.

    Args:
        kind: Kind as given to `--kind`.
        figures: All figures that the run could have.
        drawable: Returns the kinds with something to draw in this run; called only if `kind` is unknown.

    Raises:
        InputError: There is no such figure; the message lists the kinds and the nearest one.
    """
    kinds = {each.kind: each for each in figures}
    if kind in kinds:
        return kinds[kind]
    raise InputError(
        f"no figure of kind `{visible(kind, 60)}`{near_miss(kind, kinds)}", fix=name_one(drawable())
    )


def name_one(kinds: Sequence[str]) -> str:
    """Return the hint for a kind that is missing, unknown or has nothing to draw."""
    return f"kinds here: {', '.join(kinds)}; and PROBE.METRIC for every metric"


def _over_steps(probe: str, metric: MetricEntry, kind: str = "") -> Figure:
    name, unit = metric.name, metric.unit
    return Figure(
        kind or probe,
        "summary",
        f"{name} over steps",
        f"All items together, with intervals. A larger value means: {metric.more_means}.",
        lambda rows: metric_figures.rows_of_metric(rows.filter(pl.col("probe") == probe), name),
        partial(metric_figures.draw_metric, title=_titled(name, unit)),
    )


def _by_exposures(probe: str, metric: MetricEntry) -> Figure:
    name, unit = metric.name, metric.unit
    return Figure(
        f"{probe}-exposures",
        "summary",
        f"{name} by exposures",
        "Items by how often they were trained on, at the last step, with intervals.",
        lambda rows: metric_figures.rows_of_exposures(rows.filter(pl.col("probe") == probe), name),
        partial(metric_figures.draw_exposures, title=_titled(name, unit)),
    )


def _titled(name: str, unit: str) -> str:
    """Return the title of an axis; the unit is left out if the name already says it."""
    return visible(name if name.endswith(("_frac", "_steps", "_tokens")) else f"{name} ({unit})", 60)
