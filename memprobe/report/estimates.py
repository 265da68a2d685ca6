"""Which rows of the summary speak for a probe: its first metric, all items, the telling condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memprobe.report.console import telling
from memprobe.report.plain import at_last_step, of_checkpoints
from memprobe.tables.conditions import OF_ITEMS, broken_down, dropped, has, is_exactly, value_of

# Conditions that select some of the items, or compare them with others.
_SOME = (*OF_ITEMS, "control", "target")


@dataclass(frozen=True, slots=True)
class Headline:
    """The number that speaks for a probe on one model.

    Attributes:
        probe: Its name.
        model: The sequence.
        metric: The probe's first metric.
        row: Its row of the summary, at the last step or over all steps.
    """

    probe: str
    model: str
    metric: str
    row: Mapping[str, Any]


def pooled(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of all items together."""
    return summary.filter(pl.col("group").is_null(), ~has(*_SOME))


def headlines(summary: pl.DataFrame, metrics: Mapping[str, Sequence[str]]) -> list[Headline]:
    """Return one headline for each probe and model, as the summary has them.

    What is told against a control alone, as an excess, speaks by that.

    Args:
        summary: Rows of `SUMMARY`.
        metrics: Metrics of each probe, the telling one first.
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
    """Return the row of the last step under the condition that speaks for the others."""
    last = last_step(rows)
    return last.filter(is_exactly(leading_condition(last))).row(0, named=True)


def leading_condition(rows: pl.DataFrame) -> str | None:
    """Return the condition that speaks for a metric: none; else one that others break down, or a telling one.

    Of a metric told of a whole sequence it is the last, as of the latest predictor or the longest lag.
    """
    conditions = rows["condition"].unique(maintain_order=True).to_list()
    if None in conditions:
        return None
    if rows["revision"].is_null().all():
        return str(conditions[-1])
    shown = broken_down(conditions) or telling(conditions)
    return shown[len(shown) // 4]


def last_step(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each model's rows at its last step, and those about all steps."""
    return rows.filter(~of_checkpoints() | at_last_step())


def part_of(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows whose condition names a part of the items by that key, and no other part.

    `part` is the value of the key; `condition` loses it.
    """
    named = rows.filter(has(key)).with_columns(dropped(key), part=value_of(key))
    return named.filter(~has(*_SOME))
