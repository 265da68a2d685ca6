"""Selection of the summary row that represents a probe: first metric, all items, leading condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.report.console import telling
from memprobe.tables.conditions import broken_down, is_exactly
from memprobe.tables.selection import last_step, part_of, pooled


@dataclass(frozen=True, slots=True)
class Headline:
    """The number that represents a probe on one model.

    Attributes:
        probe: Name of the probe.
        model: Name of the model, or of its sequence of checkpoints.
        metric: The probe's first metric.
        row: The metric's row of the summary, at the last step or over all steps.
    """

    probe: str
    model: str
    metric: str
    row: Mapping[str, Any]


def headlines(summary: pl.DataFrame, metrics: Mapping[str, Sequence[str]]) -> list[Headline]:
    """Return one headline for each probe and model of the summary.

    A metric that is shown only in excess of a control is represented by that excess.

    Args:
        summary: Rows of `SUMMARY`.
        metrics: Metrics of each probe, the main one first.
    """
    found = []
    beside = part_of(summary.filter(pl.col("group").is_null()), "control")
    for probe, names in metrics.items():
        of_probe = [rows.filter(pl.col("probe") == probe) for rows in (pooled(summary), beside)]
        for model in of_probe[0]["model"].append(of_probe[1]["model"]).unique(maintain_order=True):
            for of_all in of_probe:
                rows = of_all.filter(pl.col("model") == model)
                first = next((name for name in names if name in rows["metric"]), None)
                if first is not None:
                    row = _speaking(rows.filter(pl.col("metric") == first))
                    found.append(Headline(probe, model, first, row))
                    break
    return found


def _speaking(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the row of the last step under the leading condition."""
    last = last_step(rows)
    return last.filter(is_exactly(leading_condition(last))).row(0, named=True)


def leading_condition(rows: pl.DataFrame) -> str | None:
    """Return the condition that represents a metric; None if the metric has a row without a condition.

    For a metric of a whole sequence it is the last condition: the latest predictor, or the longest lag.
    Otherwise it is one that others break down, or one of those that `telling` selects.
    """
    conditions = rows["condition"].unique(maintain_order=True).to_list()
    if None in conditions:
        return None
    if rows["revision"].is_null().all():
        return str(conditions[-1])
    shown = broken_down(conditions) or telling(conditions)
    return shown[len(shown) // 4]
