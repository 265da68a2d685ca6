"""Tables and summary rows of forgetting, computed from the states of items over a sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History, SequenceResult, no_estimates
from memprobe.probes.forgetting.tables import FORGETTING, FORGETTING_HAZARD, FORGETTING_SURVIVAL
from memprobe.probes.tracks import Stratum, Tracks, nullable, strata
from memprobe.stats.events import Events, Rate, events, learned_states, rate
from memprobe.stats.intervals import FEW_CLUSTERS
from memprobe.stats.means import mean_interval, why_none
from memprobe.stats.survival import Survival, at_times, kaplan_meier
from memprobe.tables.facts import TOO_LATE
from memprobe.tables.schema import TableSchema
from memprobe.wording import counted

_NO_STATE = "has no state at some checkpoint"
_NOT_TRAINED = "is not trained on by the last checkpoint"
_BROKEN = "without a state at some checkpoint"
_BEFORE = "learned at a checkpoint before they were trained on"
_KNOWN_BEFORE = "was learned before it was trained on"
# If a larger share of the forgotten items is forgotten by the very next checkpoint, times measure the spacing
# of the checkpoints, not forgetting.
SPARSE_FRAC = 0.5

_JUST_AFTER = 0.5
_METRICS = (
    "unforgettable_frac",
    "never_learned_frac",
    "n_forgetting_events",
    "first_forgotten_median_steps",
)
_Lasted = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The value from which an item becomes learned, and the value below which it is forgotten."""

    enter: float
    leave: float


@dataclass(frozen=True, slots=True)
class _ItemEvents:
    """The items with a state at every checkpoint, and their events.

    Attributes:
        tracks: The items.
        states: Whether each item is learned, shape (n_items, n_steps).
        start: Position of each item's first checkpoint that counts, shape (n_items,).
        found: Events of the items.
        used: Whether each item is used in the estimates, shape (n_items,).
    """

    tracks: Tracks
    states: NDArray[np.bool_]
    start: NDArray[np.int64]
    found: Events
    used: NDArray[np.bool_]

    @classmethod
    def of(cls, tracks: Tracks, thresholds: Thresholds) -> "_ItemEvents":
        states = learned_states(tracks.values, thresholds.enter, thresholds.leave)
        first_step = tracks.items["first_step"].fill_null(int(tracks.steps[0])).to_numpy()
        start = np.searchsorted(tracks.steps, first_step, side="left").astype(np.int64)
        found = events(states, start, tracks.steps)
        return cls(tracks, states, start, found, (found.counted > 0) & ~found.known_before)

    def lasted(self, rows: NDArray[np.bool_]) -> _Lasted:
        """Return the latest and earliest times at which items were forgotten, and whether they were.

        Times are steps since an item was first learned. The latest time is the checkpoint at which the item
        is first seen forgotten; the earliest is half a step after the checkpoint before it. For items that
        are never forgotten, both are the last checkpoint; without the half step, these items would count as
        still at risk when others are forgotten at the same time.
        """
        learned, forgotten = self.found.first_learned[rows], self.found.first_forgotten[rows]
        event = forgotten >= 0
        steps = self.tracks.steps
        late = np.where(event, steps[forgotten], steps[-1]) - steps[learned]
        early = np.where(event, steps[forgotten - 1] + _JUST_AFTER, steps[-1]) - steps[learned]
        return late.astype(np.float64), early.astype(np.float64), event


def estimate_events(history: History, thresholds: Thresholds) -> SequenceResult:
    """Estimate learning and forgetting from a sequence.

    Returns:
        The three tables of forgetting without `model`, the summary rows, and warnings.
    """
    tracks = Tracks.of(history, "level")
    item_events = _ItemEvents.of(tracks, thresholds)
    of_all = strata(tracks)
    tables = {
        FORGETTING.name: _items(item_events),
        FORGETTING_SURVIVAL.name: pl.concat(
            [_shape(FORGETTING_SURVIVAL), *(_survival(item_events, each) for each in of_all)]
        ),
        FORGETTING_HAZARD.name: pl.concat(
            [_shape(FORGETTING_HAZARD), *(_hazards(item_events, each) for each in of_all)]
        ),
    }
    rows = [row for each in of_all for row in _estimates(item_events, each)]
    rows.sort(key=lambda row: _METRICS.index(row["metric"]))
    estimates = pl.DataFrame(rows, schema=no_estimates().schema, orient="row")
    return SequenceResult(tables, estimates, _warnings(history, item_events), _left_out(item_events))


def _left_out(item_events: _ItemEvents) -> dict[str, int]:
    """Return the number of items that are in no estimate, by reason."""
    found = item_events.found
    counts = {
        _BROKEN: item_events.tracks.broken.height,
        TOO_LATE: int((found.counted == 0).sum()),
        _BEFORE: int(found.known_before.sum()),
    }
    return {reason: n for reason, n in counts.items() if n}


def _shape(schema: TableSchema) -> pl.DataFrame:
    return schema.empty().drop("model")


def _frame(schema: TableSchema, columns: Mapping[str, Any]) -> pl.DataFrame:
    types = {name: column.dtype for name, column in schema.columns.items() if name != "model"}
    return pl.DataFrame(columns).select(pl.col(name).cast(dtype) for name, dtype in types.items())


def _items(item_events: _ItemEvents) -> pl.DataFrame:
    """Return one row per item, with the reason for items that are in no estimate."""
    found, steps = item_events.found, pl.Series(item_events.tracks.steps)
    learned, counts = found.was_learned, found.counted > 0
    reason = np.where(found.known_before, _KNOWN_BEFORE, np.where(counts, "", _NOT_TRAINED))
    run = item_events.tracks.steps[found.longest_to] - item_events.tracks.steps[found.longest_from]
    rows = item_events.tracks.items.select("item_id", "group", "exposures", "first_step").with_columns(
        n_checkpoints=pl.Series(found.counted),
        n_learning_events=_where(counts, found.n_learning),
        n_forgetting_events=_where(learned, found.n_forgetting),
        first_learned_step=_at(steps, found.first_learned),
        last_state=_where(counts, found.last_state),
        longest_run_steps=_where(learned, run),
        unforgettable=_where(learned & ~found.known_before, found.n_forgetting == 0),
        never_learned=_where(counts, ~learned),
        first_forgotten_lo_step=_at(steps, np.maximum(found.first_forgotten, 0) - 1),
        first_forgotten_step=_at(steps, found.first_forgotten),
        known_before=pl.when(pl.col("first_step").is_not_null()).then(pl.Series(found.known_before)),
        reason=_where(reason != "", reason),
    )
    broken = item_events.tracks.broken.select(
        "item_id", "group", "exposures", "first_step", "n_checkpoints", reason=pl.lit(_NO_STATE)
    )
    both = pl.concat([_shape(FORGETTING), rows, broken], how="diagonal_relaxed").sort("item_id")
    return _frame(FORGETTING, both.to_dict())


def _where(known: NDArray[np.bool_], values: NDArray[Any]) -> pl.Series:
    return pl.select(pl.when(pl.Series(known)).then(pl.Series(values))).to_series()


def _at(steps: pl.Series, places: NDArray[np.int64]) -> pl.Series:
    """Return the steps at the given positions; null where the position is -1."""
    return _where(places >= 0, steps.gather(np.maximum(places, 0)).to_numpy())


def _clusters(item_events: _ItemEvents, rows: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Return the cluster numbers of the chosen items, from 0; None if each item is its own cluster."""
    names, numbers = np.unique(item_events.tracks.items["cluster"].to_numpy()[rows], return_inverse=True)
    return None if len(names) == len(numbers) else numbers.astype(np.int64)


def _n_clusters(clusters: NDArray[np.int64] | None, n: int) -> int:
    return n if clusters is None else int(clusters.max()) + 1


def _curve(item_events: _ItemEvents, of: Stratum) -> tuple[Survival, Survival, int] | None:
    """Return survival curves with the latest and the earliest times, and the number of clusters."""
    rows = of.rows & item_events.used & item_events.found.was_learned
    if not rows.any():
        return None
    late, early, event = item_events.lasted(rows)
    clusters = _clusters(item_events, rows)
    n_clusters = _n_clusters(clusters, int(rows.sum()))
    return kaplan_meier(late, event, clusters=clusters), kaplan_meier(early, event), n_clusters


def _survival(item_events: _ItemEvents, of: Stratum) -> pl.DataFrame:
    found = _curve(item_events, of)
    if found is None:
        return _shape(FORGETTING_SURVIVAL)
    late, early, n_clusters = found
    grid = np.unique(np.concatenate([[0.0], late.time, np.floor(early.time)]))
    place = np.searchsorted(late.time, grid)
    own = np.minimum(place, len(late.time) - 1)
    here = late.time[own] == grid
    last = np.searchsorted(late.time, grid, side="right") - 1
    ends = {
        name: nullable(np.where(last < 0, np.nan, values[np.maximum(last, 0)]))
        for name, values in (("lo", late.lo), ("hi", late.hi))
    }
    n_items = int(late.n_at_risk[0])
    left = np.append(late.n_at_risk, 0)
    columns = {
        "t_since_learned_steps": grid,
        "n_at_risk": left[place],
        "n_events": np.where(here, late.n_events[own], 0),
        "survival_frac": at_times(late, grid),
        **ends,
        "survival_early_frac": at_times(early, grid + _JUST_AFTER),
    }
    rows = pl.DataFrame(columns, schema_overrides=dict.fromkeys(("lo", "hi"), pl.Float64)).with_columns(
        group=pl.lit(of.group, pl.String),
        condition=pl.lit(of.condition, pl.String),
        ci_method=pl.when(pl.col("lo").is_not_null()).then(pl.lit(late.method)),
        n_items=pl.lit(n_items),
        n_clusters=pl.lit(n_clusters),
    )
    return _frame(FORGETTING_SURVIVAL, rows.to_dict())


def _hazards(item_events: _ItemEvents, of: Stratum) -> pl.DataFrame:
    """Return the events in each interval between two checkpoints.

    Items are at risk of being forgotten if they are learned, and have been trained on, at the start of the
    interval. Items can be learned if they are not learned at its start and have been trained on by its end.
    """
    rows = of.rows & item_events.used
    states, start, steps = item_events.states[rows], item_events.start[rows], item_events.tracks.steps
    clusters = _clusters(item_events, rows) if rows.any() else None
    found = []
    for place in range(len(steps) - 1):
        before, after = states[:, place], states[:, place + 1]
        held, free = before & (start <= place), ~before & (start <= place + 1)
        lost, gained = _rate(~after, held, clusters), _rate(after, free, clusters)
        length = int(steps[place + 1] - steps[place])
        hazard = lost.value
        found.append(
            {
                "group": of.group,
                "condition": of.condition,
                "from_step": int(steps[place]),
                "to_step": int(steps[place + 1]),
                "interval_steps": length,
                "n_at_risk": lost.n,
                "n_forgotten": lost.n_yes,
                "hazard_frac": hazard,
                **_ends(lost, ""),
                "hazard_per_step": None if hazard in (None, 1) else -np.log1p(-hazard) / length,
                "n_not_learned": gained.n,
                "n_learned": gained.n_yes,
                "learning_frac": gained.value,
                **_ends(gained, "learning_"),
                "n_clusters": lost.n_clusters,
            }
        )
    return pl.DataFrame(found, schema=_shape(FORGETTING_HAZARD).schema, orient="row")


def _rate(yes: NDArray[np.bool_], among: NDArray[np.bool_], clusters: NDArray[np.int64] | None) -> Rate:
    return rate(yes[among], np.flatnonzero(among) if clusters is None else clusters[among])


def _ends(of: Rate, prefix: str) -> dict[str, Any]:
    found = of.interval
    return {
        f"{prefix}lo": found.lo if found else None,
        f"{prefix}hi": found.hi if found else None,
        f"{prefix}ci_method": found.method if found else None,
    }


def _estimates(item_events: _ItemEvents, of: Stratum) -> list[dict[str, Any]]:
    """Return the summary rows of one stratum; none if no item of it is used."""
    used = of.rows & item_events.used
    learned = used & item_events.found.was_learned
    n_all = int(of.rows.sum()) + of.broken.height
    if not used.any():
        return []
    shares = {"never_learned_frac": (used, ~item_events.found.was_learned)}
    # Exposure counts only have the share that depends on exposures; four rows each would fill the screen.
    brief = (of.condition or "").startswith("exposures=")
    if not brief:
        shares["unforgettable_frac"] = (learned, item_events.found.n_forgetting == 0)
    rows = []
    for name, (among, yes) in shares.items():
        found = rate(yes[among], item_events.tracks.items["cluster"].to_numpy()[among])
        of_none = (None, None, None if found.value is None else FEW_CLUSTERS)
        ends = (found.interval.lo, found.interval.hi, found.interval.method) if found.interval else of_none
        rows.append(_row(of, name, found.value, ends, found.n, found.n_clusters))
    if not brief:
        clusters = _clusters(item_events, learned) if learned.any() else None
        n = int(learned.sum())
        n_clusters = _n_clusters(clusters, n) if n else 0
        rows.append(_mean_events(item_events, of, learned, clusters, n_clusters))
        rows.append(_median(item_events, of, n, n_clusters))
    return [row | {"n_missing": n_all - row["n_items"]} for row in rows]


def _mean_events(
    item_events: _ItemEvents,
    of: Stratum,
    learned: NDArray[np.bool_],
    clusters: NDArray[np.int64] | None,
    n_clusters: int,
) -> dict[str, Any]:
    values = item_events.found.n_forgetting[learned].astype(np.float64)
    ends: tuple[Any, ...] = (None, None, None)
    if len(values):
        found = mean_interval(values, clusters)
        # If none of a few items was forgotten, others may still be.
        why = why_none(np.arange(len(values)) if clusters is None else clusters)
        ends = (max(0.0, found.lo), found.hi, found.method) if found else (None, None, why)
    mean = float(values.mean()) if len(values) else None
    return _row(of, "n_forgetting_events", mean, ends, len(values), n_clusters)


def _median(item_events: _ItemEvents, of: Stratum, n: int, n_clusters: int) -> dict[str, Any]:
    """Return the row of the median time; if half are not yet forgotten, null with the bound that is known."""
    found = _curve(item_events, of)
    ends: tuple[Any, ...] = (None, None, None)
    median = None
    if found is not None:
        late = found[0]
        median = late.median
        known = np.isfinite(late.lo).any()
        # If not even the lower band reaches one half, the median is later than all times observed.
        low = late.median_lo if late.median_lo is not None else float(late.time[-1])
        if known:
            ends = (low, late.median_hi, late.method)
    return _row(of, "first_forgotten_median_steps", median, ends, n, n_clusters)


def _row(
    of: Stratum, metric: str, estimate: float | None, ends: tuple[Any, ...], n_items: int, n_clusters: int
) -> dict[str, Any]:
    unit = {"n_forgetting_events": "events", "first_forgotten_median_steps": "steps"}
    return {
        "metric": metric,
        "group": of.group,
        "condition": of.condition,
        "estimate": estimate,
        "ci_low": ends[0],
        "ci_high": ends[1],
        "ci_method": ends[2],
        "n_items": n_items,
        "n_clusters": n_clusters,
        "unit": unit.get(metric, "fraction"),
    }


def _warnings(history: History, item_events: _ItemEvents) -> tuple[str, ...]:
    """Return warnings: what was left out, and checkpoints too sparse to time forgetting."""
    texts = []
    if history.missing:
        texts.append(f"left out, as they are not scored: {', '.join(history.missing)}")
    found = item_events.found
    texts += [f"{counted(n, 'item')} left out, {why}" for why, n in _left_out(item_events).items()]
    rows = item_events.used & found.was_learned
    if rows.any():
        _, early, event = item_events.lasted(rows)
        at_once = int((event & (early == _JUST_AFTER)).sum())
        lengths = np.diff(item_events.tracks.steps)
        if at_once > SPARSE_FRAC * max(1, int(event.sum())):
            texts.append(
                f"of {counted(int(event.sum()), 'forgotten item')}, {at_once:,} were forgotten by the "
                f"checkpoint after they were learned, and checkpoints are {lengths.min():,} to "
                f"{lengths.max():,} steps apart: too far to time forgetting, or to see all events"
            )
    return tuple(texts)
