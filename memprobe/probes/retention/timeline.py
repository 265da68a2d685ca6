"""The items of a sequence sorted by last exposure; one outcome of these items and of controls."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History
from memprobe.probes.panel import cluster_numbers, wide
from memprobe.stats.lag_curve import Controls, Exposed
from memprobe.stats.lags import Points, lag_points
from memprobe.tables.facts import NO_TIME, NOT_SAID, TRAINED, is_control, is_timed, is_untimed

TOO_LATE = "last trained on after the last checkpoint"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The measured items, placed in time by their last exposure.

    Attributes:
        steps: Steps of the checkpoints, ascending, shape (n_steps,).
        treated: `item_id, group, exposures, last_step, cohort, cluster`, by id, of the items with a
            checkpoint after their last exposure; cohort is the position of the first such checkpoint.
        never: The same columns without cohort, for items never trained on.
        points: Points at which cohorts can be compared.
        names: Name of each point: the mean steps since exposure over all treated items, rounded.
        left_out: Number of items that are neither treated nor never trained on, by reason.
    """

    steps: NDArray[np.int64]
    treated: pl.DataFrame
    never: pl.DataFrame
    points: Points
    names: NDArray[np.int64]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, history: History) -> Self:
        """Sort the items of a history into treated and never-trained ones."""
        steps = np.asarray(history.steps, dtype=np.int64)
        measured = history.items.join(history.rows.select("item_id"), on="item_id", how="semi")
        items = (
            measured.with_columns(cluster=pl.Series(cluster_numbers(measured), dtype=pl.Int64))
            .sort("item_id")
            .select("item_id", "group", "exposures", "first_step", "last_step", "cluster", TRAINED)
        )
        trained = items.filter(is_timed())
        cohort = np.searchsorted(steps, trained["last_step"].to_numpy(), side="left")
        placed = trained.with_columns(cohort=pl.Series(cohort, dtype=pl.Int64))
        treated = placed.filter(pl.col("cohort") < len(steps))
        first = treated["cohort"].to_numpy()
        points = lag_points(steps, np.bincount(first, minlength=len(steps)))
        offset = float((steps[first] - treated["last_step"].to_numpy()).mean())
        names = np.floor(points.distance + offset + 0.5).astype(np.int64)
        never = items.filter(is_control())
        left_out = {
            TOO_LATE: trained.height - treated.height,
            NO_TIME: items.filter(is_untimed()).height,
            NOT_SAID: items[TRAINED].null_count(),
        }
        return cls(steps, treated, never, points, names, {why: n for why, n in left_out.items() if n})


@dataclass(frozen=True, slots=True)
class Stratum:
    """Some of the treated items.

    Attributes:
        group: Group of the items; None for all groups.
        exposures: Number of exposures of the items; None for any number.
        member: Whether each treated item belongs, shape (n_treated,).
    """

    group: str | None
    exposures: int | None
    member: NDArray[np.bool_]

    @property
    def named(self) -> dict[str, Any]:
        """Values of the key columns `group` and `exposures`."""
        return {"group": self.group, "exposures": self.exposures}


def strata(treated: pl.DataFrame) -> Iterator[Stratum]:
    """Yield strata: all items together, each group, and each exposure count."""
    yield Stratum(None, None, np.ones(treated.height, dtype=bool))
    for group in treated["group"].drop_nulls().unique().sort():
        yield Stratum(group, None, (treated["group"] == group).fill_null(value=False).to_numpy())
    for exposures in treated["exposures"].drop_nulls().unique().sort():
        yield Stratum(None, exposures, (treated["exposures"] == exposures).fill_null(value=False).to_numpy())


def outcome_of(history: History, timeline: Timeline, outcome: str) -> tuple[Exposed, Controls | None]:
    """Return one outcome of the treated items at each point, and of controls at each checkpoint.

    A control is a never-trained item with a value at every checkpoint. Items are compared with the controls
    of their group, or with all controls if the group has fewer than two clusters of controls. If an item has
    an infinite value at some checkpoint, none of its values is used: a mean would be infinite and a fit
    undefined.
    """
    of_item = wide(history.rows, history.steps, outcome)
    of_treated, of_never = (_finite(each, of_item) for each in (timeline.treated, timeline.never))
    whole = np.asarray(~np.isnan(of_never).any(axis=1))
    kept = timeline.never.filter(pl.Series(whole, dtype=pl.Boolean)).drop_nulls("group")
    several = kept.group_by("group").agg(pl.col("cluster").n_unique()).filter(pl.col("cluster") > 1)
    groups = several["group"].sort().to_list()
    controls = _controls(timeline, of_never, whole, groups) if whole.any() else None
    return _exposed(timeline, of_treated, groups), controls


def _finite(items: pl.DataFrame, of_item: pl.DataFrame) -> Floats:
    """Return the items' values at every checkpoint; NaN where missing, and for items with an infinite one."""
    joined = items.select("item_id").join(of_item, on="item_id", how="left", maintain_order="left")
    values: Floats = joined.drop("item_id").fill_null(float("nan")).to_numpy()
    return np.where(np.isinf(values).any(axis=1, keepdims=True), np.nan, values)


def infinite(history: History, outcome: str) -> pl.DataFrame:
    """Return `item_id` of the items whose outcome is infinite at some checkpoint, such as ln p for p = 0."""
    numbers = history.rows.select("item_id", value=pl.col(outcome).cast(pl.Float64))
    return numbers.filter(pl.col("value").is_infinite()).select("item_id").unique()


def _exposed(timeline: Timeline, values: Floats, groups: list[str]) -> Exposed:
    cohort = timeline.treated["cohort"].to_numpy()
    step, seen = timeline.points.step[cohort], timeline.points.seen[cohort]
    y = np.where(seen, np.take_along_axis(values, step, axis=1), np.nan)
    lag = (timeline.steps[step] - timeline.treated["last_step"].to_numpy()[:, None]).astype(np.float64)
    rows = {group: row for row, group in enumerate(groups, start=1)}
    row = np.array([rows.get(group, 0) for group in timeline.treated["group"]], dtype=np.int64)
    return Exposed(y, lag, step, row, timeline.treated["cluster"].to_numpy())


def _controls(timeline: Timeline, values: Floats, whole: NDArray[np.bool_], groups: list[str]) -> Controls:
    kept = timeline.never.filter(pl.Series(whole, dtype=pl.Boolean))
    group = np.array([each or "" for each in kept["group"]])
    member = np.vstack([np.ones(kept.height, dtype=bool), *(group == each for each in groups)])
    return Controls(values[whole], member, kept["cluster"].to_numpy())
