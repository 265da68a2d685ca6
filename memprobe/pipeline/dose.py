"""Make the table `dose_response`: how a rate grows with exposures, context and model size.

Carlini et al. (2022), section 4, https://arxiv.org/abs/2202.07646, plot each rate over the logarithm of
one of the three. Items known to be never trained on are left out: they give the rate to compare with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.pipeline.blocks import natural
from memprobe.pipeline.plans import EntryPlan
from memprobe.pipeline.signature import signature
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context
from memprobe.pipeline.sweep import score_one_suffix, sweeps, swept_value
from memprobe.probes.contract import Metric
from memprobe.stats.dose import Cells, Fit, linear, log_odds
from memprobe.stats.intervals import LEVEL
from memprobe.tables.conditions import joined, without_key
from memprobe.tables.summary import DOSE_RESPONSE

_FITS = {"linear_log10": linear, "logistic": log_odds}
_UNITS = {"linear_log10": "fraction per tenfold", "logistic": "log odds per tenfold"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measurements of one checkpoint.

    Attributes:
        entries: The probe entries, planned.
        prefixes: Beginning of each entry's conditions.
        values: Each entry's item-level values by metric.
        about: Rows of `about_items`, the same for all models.
        context: Keys of the checkpoint.
        n_parameters: Number of parameters of the model; None: not known.
    """

    entries: Sequence[EntryPlan]
    prefixes: Sequence[str | None]
    values: Sequence[Mapping[str, pl.DataFrame]]
    about: pl.DataFrame
    context: Context
    n_parameters: int | None


def of_checkpoint(measurement: Measurement) -> pl.DataFrame:
    """Return the dose-response of one checkpoint to exposures and to swept settings that are doses."""
    keys = {
        "model": measurement.context.model,
        "revision": measurement.context.revision,
        "step": measurement.context.step,
    }
    return _table([keys | row for rows in (_exposures(measurement), _settings(measurement)) for row in rows])


def across_models(measurements: Sequence[Measurement]) -> pl.DataFrame:
    """Return the dose-response to the number of parameters, over the last checkpoints of several models.

    Only models that share a tokenizer are compared, because the task differs under another one: those with
    the most common tokenizer.
    """
    sized = [each for each in measurements if each.n_parameters]
    scorings = [each.context.scoring for each in sized]
    alike = [each for each in sized if each.context.scoring == max(scorings, key=scorings.count)]
    keys = {"model": None, "revision": None, "step": None, "dose": "parameters"}
    rows = []
    for number, planned in enumerate(alike[0].entries if alike else ()):
        for metric in _metrics(planned.entry):
            outcomes = [
                _outcomes(each, number, metric).with_columns(x=pl.lit(float(each.n_parameters or 0)))
                for each in alike
            ]
            about = _about(planned.entry, metric, alike[0].context)
            rows += [keys | about | row for row in _fitted(pl.concat(outcomes), alike[0].about)]
    return _table(rows)


def _exposures(measurement: Measurement) -> Iterator[dict[str, Any]]:
    if measurement.about.filter(pl.col("exposures") > 0)["exposures"].n_unique() < 2:
        return
    for number, planned in enumerate(measurement.entries):
        for metric in _metrics(planned.entry):
            outcomes = _outcomes(measurement, number, metric)
            about = {"dose": "exposures"} | _about(planned.entry, metric, measurement.context)
            yield from (about | row for row in _fitted(outcomes, measurement.about))


def _settings(measurement: Measurement) -> Iterator[dict[str, Any]]:
    entries = [each.entry for each in measurement.entries]
    for places in sweeps(entries):
        first = entries[places[0]]
        plans = [measurement.entries[place].plan for place in places]
        if first.probe.dose is None or not score_one_suffix(plans):
            continue
        for metric in _metrics(first):
            outcomes = [
                _outcomes(measurement, place, metric, without=first.probe.dose).with_columns(
                    x=pl.lit(float(swept_value(entries[place]) or 0))
                )
                for place in places
            ]
            about = {"dose": first.probe.dose} | _about(first, metric, measurement.context)
            yield from (about | row for row in _fitted(pl.concat(outcomes), measurement.about))


def _metrics(entry: Entry) -> list[Metric]:
    return [each for each in entry.probe.metrics if each.against_never and each.summary == "rate"]


def _about(entry: Entry, metric: Metric, context: Context) -> dict[str, Any]:
    return {
        "probe": entry.probe.name,
        "metric": metric.name,
        "version": entry.probe.version,
        "signature": signature(entry, context.scoring),
    }


def _outcomes(measurement: Measurement, number: int, metric: Metric, *, without: str = "") -> pl.DataFrame:
    """Return the known values of one metric: `item_id, condition, value`, conditions in full.

    Args:
        measurement: Measurement of one checkpoint.
        number: Number of the entry.
        metric: Metric of the entry.
        without: The setting whose part of the entry's prefix is left out of the conditions.
    """
    prefix = without_key(measurement.prefixes[number], without)
    return (
        measurement.values[number][metric.name]
        .select("item_id", "condition", "value")
        .drop_nulls("value")
        .with_columns(joined(prefix, pl.col("condition")))
    )


def _fitted(outcomes: pl.DataFrame, about: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield both fits for all items and for each group, for each condition with two doses or more.

    Args:
        outcomes: `item_id, condition, value`, and the dose as `x`; without it, the items' exposures.
        about: Rows of `about_items`.
    """
    ids, designs = pl.Series(dtype=pl.String), list[_Design]()
    x = pl.Series(dtype=pl.Float64)
    blocks = outcomes.partition_by("condition", as_dict=True, maintain_order=True)
    for (condition,), block in sorted(blocks.items(), key=lambda each: natural(each[0][0])):
        doses = block["x"] if "x" in block.columns else x
        # As a rule all conditions are about the same items, and the search for them takes most of the time.
        if not (block["item_id"].equals(ids) and doses.equals(x)):
            ids, x = block["item_id"], doses
            designs = _designs(block, about)
        values = block["value"].to_numpy()
        for design in designs:
            cells = design.cells(values)
            about_it = {"condition": condition, "group": design.group, "n_items": design.n_items}
            about_it |= {"n_outcomes": cells.n_items, "n_clusters": cells.n_clusters}
            yield from (about_it | {"n_levels": len(cells.log10_x)} | fit for fit in _both(cells))


@dataclass(frozen=True, slots=True)
class _Design:
    """Which outcomes a fit uses, and the cell of `Cells` of each.

    Attributes:
        group: Group of the items; None: all items.
        n_items: Number of different items.
        rows: Row numbers of the outcomes, shape (n_outcomes,).
        cell: Cell of each outcome, shape (n_outcomes,).
        empty: The cells with their numbers of outcomes and sums of 0.
    """

    group: str | None
    n_items: int
    rows: NDArray[np.int64]
    cell: NDArray[np.int64]
    empty: Cells

    def cells(self, values: NDArray[np.float64]) -> Cells:
        """Return the cells with the sums of values, one per outcome before any was left out."""
        taken = values[self.rows]
        n = len(self.empty.n)
        total, squares = (
            np.bincount(self.cell, weights=each, minlength=n).astype(np.float64) for each in (taken, taken**2)
        )
        return replace(self.empty, total=total, squares=squares)


def _designs(block: pl.DataFrame, about: pl.DataFrame) -> list[_Design]:
    """Return the possible fits: all items, and each group, if they have two doses or more.

    Never-trained items are left out, and so are doses of 0, which have no logarithm.
    """
    x = pl.col("x") if "x" in block.columns else pl.col("exposures").cast(pl.Float64)
    rows = (
        block.select(pl.exclude("value", "condition"))
        .with_row_index("row")
        .join(about, on="item_id", maintain_order="left")
        .with_columns(x=x, trained=pl.col("trained").fill_null(value=True))
        .filter(pl.col("trained"), pl.col("x") > 0)
        .select("row", "group", "x", "item", "cluster")
    )
    groups = rows["group"].drop_nulls().unique().sort().to_list()
    parts = [(None, rows), *((group, rows.filter(pl.col("group") == group)) for group in groups)]
    return [_design(group, part) for group, part in parts if part["x"].n_unique() > 1]


def _design(group: str | None, rows: pl.DataFrame) -> _Design:
    levels, level = np.unique(rows["x"].to_numpy(), return_inverse=True)
    log10_x, level = np.log10(levels), level.astype(np.int64)
    clusters = rows["cluster"].to_numpy().astype(np.int64)
    where = rows["row"].to_numpy().astype(np.int64)
    n_items = rows["item"].n_unique()
    if rows["cluster"].n_unique() == rows.height:
        # Every outcome is a cluster of its own, so clusters need not be distinguished.
        n = np.bincount(level).astype(np.float64)
        cells = Cells(log10_x, np.arange(len(levels)), n, np.zeros_like(n), np.zeros_like(n))
        return _Design(group, n_items, where, level, cells)
    codes, cell, n = np.unique(clusters * len(levels) + level, return_inverse=True, return_counts=True)
    cluster = np.unique(codes // len(levels), return_inverse=True)[1].astype(np.int64)
    zeros = np.zeros(len(codes))
    cells = Cells(log10_x, codes % len(levels), n.astype(np.float64), zeros, zeros, cluster)
    return _Design(group, n_items, where, cell.astype(np.int64), cells)


def _both(cells: Cells) -> Iterator[dict[str, Any]]:
    for name, fit in _FITS.items():
        yield {"fit": name, "unit": _UNITS[name]} | _row(fit(cells, level=LEVEL))


def _row(fit: Fit) -> dict[str, Any]:
    return {
        "slope": fit.slope,
        "se": fit.se,
        "ci_low": fit.interval.lo if fit.interval else None,
        "ci_high": fit.interval.hi if fit.interval else None,
        "ci_level": LEVEL,
        "ci_method": fit.interval.method if fit.interval else None,
        "p_value": fit.p_value,
        "intercept": fit.intercept,
        "r2_of_means": fit.r2_of_means,
        "reason": fit.reason,
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    empty = DOSE_RESPONSE.empty()
    table = pl.DataFrame(rows, schema=empty.schema, orient="row") if rows else empty
    return DOSE_RESPONSE.conform(table)
