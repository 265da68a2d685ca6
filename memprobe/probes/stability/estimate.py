"""Tables and summary rows of stability, computed from the outcomes of evaluation items over a sequence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History, SequenceResult, no_estimates
from memprobe.probes.panel import cluster_numbers, sequence_frame, wide
from memprobe.probes.stability.settings import Settings
from memprobe.probes.stability.tables import STABILITY, STABILITY_GAPS, STABILITY_MEASURES
from memprobe.stats.half_life import expanded
from memprobe.stats.intervals import BIASED, LEVEL
from memprobe.stats.joint_draws import (
    Estimate,
    basic_estimate,
    curves_of,
    drawn_curves,
    percentile_estimate,
)
from memprobe.stats.rates import rate_interval, share_interval
from memprobe.stats.stability import Design, Gaps, Measure, gaps, measures, task_checkpoints
from memprobe.tables.conditions import build
from memprobe.wording import counted

_BASIC, _PERCENTILE = "expanded-basic-bootstrap", "expanded-bootstrap"
_INCOMPLETE = "without a finite outcome at some checkpoint"
UNITS = {"exact": "fraction", "hit_frac": "fraction", "logprob_mean_nats": "nats per token"}
# Measures that are scores of sets: if scores are between 0 and 1, so are the ends of their intervals.
_SCORES = ("acc", "min_acc", "wc_acc")
_SAME = "the draws do not vary: neither interval nor bias can be estimated"
_NOISE = "noise of the items biases it by more than a quarter of its error: no interval"
_NOT_BACK = "not back at the score of the switch when the next task ended"
_HALF_NOT_BACK = f"half of the sets or more are {_NOT_BACK}"
_SOMETIMES_BACK = "too many draws are not back: no interval"


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:  # noqa: ARG001
    """Return the reasons why stability cannot be estimated; empty if it can."""
    tested = items.filter(pl.col("task_end_step").is_not_null())
    found = []
    if alone := tested["group"].null_count():
        found.append(
            f"{counted(alone, 'item')} with a task_end_step and no group: a group is a task's evaluation set"
        )
    ends = tested.drop_nulls("group").group_by("group").agg(pl.col("task_end_step").unique().sort())
    for group, values in ends.sort("group").rows():
        if len(values) > 1:
            shown = ", ".join(map(str, values[:3]))
            found.append(
                f"group {group} has {len(values)} task_end_steps ({shown}): give it one, or split it"
            )
    tasks = ends.explode("task_end_step").group_by("task_end_step").agg(pl.col("group").sort())
    for end, groups in tasks.sort("task_end_step").rows():
        if len(groups) > 1:
            found.append(
                f"groups {' and '.join(groups)} have one task_end_step, {end}: a task has one group, "
                "and no two tasks end together"
            )
    return found or _unseen(steps, _ends(tested))


def _ends(tested: pl.DataFrame) -> pl.DataFrame:
    """Return `group, task_end_step` of each task, in the order of the tasks."""
    return tested.select("group", "task_end_step").unique().sort("task_end_step")


def _unseen(steps: tuple[int, ...], tasks: pl.DataFrame) -> list[str]:
    """Return a problem for each task without a checkpoint between the end of the task before and its own."""
    ends = tasks["task_end_step"].to_list()
    places = task_checkpoints(steps, ends)
    begins = [0, *ends[:-1]]
    return [
        f"no checkpoint belongs to the task of group {group}: none lies above step {begin} and up to its "
        f"task_end_step {end}"
        for group, place, begin, end in zip(tasks["group"], places, begins, ends, strict=True)
        if place is None
    ]


@dataclass(frozen=True, slots=True)
class _Data:
    """Outcomes of the items that have a finite one at every checkpoint, in the order of their ids.

    Attributes:
        names: Names of the sets, in the order of their tasks.
        ends: `task_end_step` of each set.
        values: Outcomes, shape (n_items, n_steps).
        sets: Number of each item's set.
        clusters: Number of each item's cluster.
        incomplete: Number of items of each set that are left out because an outcome is missing or infinite.
    """

    names: list[str]
    ends: list[int]
    values: NDArray[np.float64]
    sets: NDArray[np.int64]
    clusters: NDArray[np.int64]
    incomplete: list[int]

    @property
    def single(self) -> list[str]:
        """Names of the sets that have a single cluster."""
        return [name for i, name in enumerate(self.names) if self.n_of((i,))[1] == 1]

    def n_of(self, sets: tuple[int, ...]) -> tuple[int, int]:
        """Return the numbers of items and of clusters in the given sets."""
        chosen = np.isin(self.sets, sets)
        return int(chosen.sum()), len(np.unique(self.clusters[chosen]))

    def level_of(self, sets: tuple[int, ...]) -> float:
        """Return the level for intervals from draws of the given sets, by the fewest clusters of a set."""
        fewest = min(self.n_of((each,))[1] for each in sets)
        return expanded(LEVEL, fewest) if fewest > 1 else LEVEL


def _data(history: History, settings: Settings) -> _Data:
    tested = history.items.filter(pl.col("task_end_step").is_not_null())
    tasks = _ends(tested).with_row_index("set")
    outcomes = wide(history.rows, history.steps, settings.outcome)
    numbers = pl.Series(cluster_numbers(tested), dtype=pl.Int64)
    about = tested.select("item_id", "group", cluster=numbers).join(tasks, on="group")
    joined = outcomes.join(about, on="item_id").sort("item_id")
    # With ln p of -inf, a mean would be -inf too, and differences of such means are undefined.
    whole = pl.all_horizontal(pl.col(str(step)).is_finite().fill_null(value=False) for step in history.steps)
    kept, left_out = joined.filter(whole), joined.filter(~whole)
    return _Data(
        names=tasks["group"].to_list(),
        ends=tasks["task_end_step"].to_list(),
        values=kept.select(str(step) for step in history.steps).to_numpy().astype(np.float64),
        sets=kept["set"].to_numpy().astype(np.int64),
        clusters=np.unique(kept["cluster"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        incomplete=[left_out.filter(pl.col("set") == i).height for i in range(tasks.height)],
    )


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Estimate the scores of every set at each checkpoint, and how much is lost and regained."""
    if stop := problems(history.steps, history.items, settings):
        return SequenceResult({}, no_estimates(), (*_missing(history), *stop))
    data = _data(history, settings)
    if empty := [name for i, name in enumerate(data.names) if not (data.sets == i).any()]:
        text = f"no item of group {' and '.join(empty)} has a finite outcome at every checkpoint"
        return SequenceResult({}, no_estimates(), (*_missing(history), text))
    places = task_checkpoints(history.steps, data.ends)
    ends = tuple(place for place in places if place is not None)
    untrained = history.steps[0] == 0 and data.ends[0] > 0
    design = Design(history.steps, ends, untrained, settings.windows)
    rng = history.draws(f"stability {settings.outcome}")
    curves = curves_of(data.values, data.sets)
    if data.single:
        # One document does not show how documents differ. A mean over sets depends on each set, so a single
        # such set leaves the mean without an interval as well.
        drawn = np.stack([curves, curves])
    else:
        drawn = drawn_curves(data.values, data.sets, data.clusters, n_draws=settings.draws, rng=rng)
    rows = list(_measure_rows(measures(curves, design), measures(drawn, design), data, design, settings))
    found = gaps(curves, design) if design.pairs else None
    drawn_gaps = gaps(drawn, design) if design.pairs else None
    rows += _pooled_gaps(found, drawn_gaps, data, design)
    tables = {
        STABILITY.name: sequence_frame(list(_curve_rows(curves, drawn, data, design, settings)), STABILITY),
        STABILITY_MEASURES.name: sequence_frame(rows, STABILITY_MEASURES),
        STABILITY_GAPS.name: sequence_frame(list(_gap_rows(found, drawn_gaps, data, design)), STABILITY_GAPS),
    }
    left_out = {_INCOMPLETE: n} if (n := sum(data.incomplete)) else {}
    warnings = _warnings(history, rows, data, design)
    return SequenceResult(tables, _estimates(rows, data, settings), warnings, left_out)


def _curve_rows(
    curves: NDArray[np.float64],
    drawn: NDArray[np.float64],
    data: _Data,
    design: Design,
    settings: Settings,
) -> Iterator[dict[str, Any]]:
    """Yield the score of each set at each checkpoint."""
    fraction = settings.outcome != "logprob_mean_nats"
    for i, name in enumerate(data.names):
        n, n_clusters = data.n_of((i,))
        level = data.level_of((i,))
        quantiles = np.quantile(drawn[:, i], [(1 - level) / 2, (1 + level) / 2], axis=0)
        for place, step in enumerate(design.steps):
            score = float(curves[i, place])
            lo, hi = (float(each) for each in quantiles[:, place])
            method: str | None = _PERCENTILE
            if fraction:
                own = data.sets == i
                lo, hi, method = _score_interval(data.values[own, place], data.clusters[own], settings)
            unknown = method is None or lo == hi
            yield {
                "eval_set": name,
                "task_end_step": data.ends[i],
                "step": step,
                "score": score,
                "lo": None if unknown else lo,
                "hi": None if unknown else hi,
                "ci_method": None if unknown else method,
                "n_items": n,
                "n_clusters": n_clusters,
            }


def _score_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64], settings: Settings
) -> tuple[float, float, str | None]:
    """Return the ends and method of the interval of a score between 0 and 1; without one, method is None."""
    own = np.unique(clusters, return_inverse=True)[1]
    of = rate_interval if settings.outcome == "exact" else share_interval
    found = of(values, own, level=LEVEL)
    return (found.lo, found.hi, found.method) if found else (0.0, 0.0, None)


def _measure_rows(
    found: list[Measure], drawn: list[Measure], data: _Data, design: Design, settings: Settings
) -> Iterator[dict[str, Any]]:
    """Yield the rows of each measure: over all its sets, then for each set."""
    for measure, draws in zip(found, drawn, strict=True):
        everything = tuple(range(len(data.names)))
        over = everything if measure.name == "wc_acc" else measure.sets
        bounded = measure.name in _SCORES and settings.outcome != "logprob_mean_nats"
        row = {"metric": measure.name, "window": measure.window, **_spacing(design)}
        if measure.reason is not None:
            n, n_clusters = data.n_of(everything)
            yield row | {"n_items": n, "n_clusters": n_clusters, "reason": measure.reason}
            continue
        pooled = basic_estimate(float(measure.pooled), draws.pooled, level=data.level_of(over))
        yield row | _sentence(pooled, data, over, bounded=bounded)
        for place, number in enumerate(measure.sets):
            level = data.level_of((number,))
            own = basic_estimate(float(measure.each[place]), draws.each[:, place], level=level)
            yield row | {"eval_set": data.names[number]} | _sentence(own, data, (number,), bounded=bounded)


def _sentence(estimate: Estimate, data: _Data, sets: tuple[int, ...], *, bounded: bool) -> dict[str, Any]:
    n, n_clusters = data.n_of(sets)
    lo, hi = estimate.lo, estimate.hi
    reason = _SAME if lo is None else None
    if estimate.is_biased:
        lo, hi, reason = None, None, _NOISE
    if bounded and lo is not None and hi is not None:
        lo, hi = max(0.0, lo), min(1.0, hi)
    return {
        "estimate": estimate.value,
        "lo": lo,
        "hi": hi,
        "ci_method": _BASIC if lo is not None else BIASED if estimate.is_biased else None,
        "bias": estimate.bias,
        "is_biased": estimate.is_biased,
        "n_items": n,
        "n_clusters": n_clusters,
        "reason": reason,
    }


def _spacing(design: Design) -> dict[str, int | None]:
    """Return the smallest and largest number of updates between checkpoints, up to the last task's end."""
    apart = np.diff(design.steps[: design.last + 1])
    known = len(apart) > 0
    return {
        "spacing_min_steps": int(apart.min()) if known else None,
        "spacing_max_steps": int(apart.max()) if known else None,
    }


def _pooled_gaps(found: Gaps | None, drawn: Gaps | None, data: _Data, design: Design) -> list[dict[str, Any]]:
    """Return the rows of mean depth and median recovery, over all switches and the sets learned by then."""
    n, n_clusters = data.n_of(tuple(range(len(data.names))))
    names = ("depth_of_gap", "recovery_steps")
    common = {"n_items": n, "n_clusters": n_clusters, **_spacing(design)}
    if found is None or drawn is None:
        reason = "there is one task alone, so there is no switch"
        return [{"metric": name, "reason": reason, **common} for name in names]
    sets = tuple(range(len(data.names) - 1))
    level = data.level_of(sets)
    depth = basic_estimate(float(found.depth.mean()), drawn.depth.mean(-1), level=level)
    waited = _recovery(_median(found.recovery_steps), _median(drawn.recovery_steps), level)
    n, n_clusters = data.n_of(sets)
    return [
        {"metric": names[0], **_spacing(design), **_sentence(depth, data, sets, bounded=False)},
        {
            "metric": names[1],
            "estimate": waited["recovery_steps"],
            "lo": waited["recovery_lo"],
            "hi": waited["recovery_hi"],
            "ci_method": None if waited["recovery_lo"] is None else _PERCENTILE,
            "n_items": n,
            "n_clusters": n_clusters,
            "reason": _HALF_NOT_BACK if waited["recovery_steps"] is None else waited["reason"],
            **_spacing(design),
        },
    ]


def _median(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper median, so that a time and infinity are never averaged."""
    middle = steps.shape[-1] // 2
    return np.asarray(np.sort(steps, axis=-1)[..., middle])


def _recovery(value: NDArray[np.float64], draws: NDArray[np.float64], level: float) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"recovery_steps": None, "recovery_lo": None, "recovery_hi": None, "reason": _NOT_BACK}
    estimate = percentile_estimate(float(value), draws, level=level)
    none = _SAME if len(np.unique(draws)) == 1 else _SOMETIMES_BACK
    return {
        "recovery_steps": estimate.value,
        "recovery_lo": estimate.lo,
        "recovery_hi": estimate.hi,
        "reason": none if estimate.lo is None else None,
    }


def _gap_rows(
    found: Gaps | None, drawn: Gaps | None, data: _Data, design: Design
) -> Iterator[dict[str, Any]]:
    """Yield the drop and recovery after each switch of tasks, for each set learned by then."""
    if found is None or drawn is None:
        return
    for place, (switch, number) in enumerate(design.pairs):
        level = data.level_of((number,))
        depth = basic_estimate(float(found.depth[place]), drawn.depth[:, place], level=level)
        known = not depth.is_biased
        n, n_clusters = data.n_of((number,))
        yield {
            "switch_step": design.steps[design.ends[switch]],
            "until_step": design.steps[design.ends[switch + 1]],
            "eval_set": data.names[number],
            "depth_of_gap": depth.value,
            "depth_lo": depth.lo if known else None,
            "depth_hi": depth.hi if known else None,
            "depth_bias": depth.bias,
            "trough_step": design.steps[int(found.trough[place])],
            **_recovery(found.recovery_steps[place], drawn.recovery_steps[:, place], level),
            "n_items": n,
            "n_clusters": n_clusters,
        }


def _estimates(rows: list[dict[str, Any]], data: _Data, settings: Settings) -> pl.DataFrame:
    """Return the summary rows: each measure over all its sets, and for each set, with its name as group."""
    number = {name: i for i, name in enumerate(data.names)}
    result = [
        {
            "metric": row["metric"],
            "group": row.get("eval_set"),
            "condition": build(window=row.get("window")),
            "estimate": row.get("estimate"),
            "ci_low": row.get("lo"),
            "ci_high": row.get("hi"),
            "ci_method": row.get("ci_method"),
            "n_items": row["n_items"],
            "n_clusters": row["n_clusters"],
            "n_missing": data.incomplete[number[row["eval_set"]]]
            if row.get("eval_set") is not None
            else sum(data.incomplete),
            "unit": "steps" if row["metric"] == "recovery_steps" else UNITS[settings.outcome],
        }
        for row in rows
    ]
    return pl.DataFrame(result, schema=no_estimates().schema, orient="row")


def _missing(history: History) -> list[str]:
    if not history.missing:
        return []
    return [f"left out, as they are not scored: {', '.join(history.missing)}"]


def _warnings(history: History, rows: list[dict[str, Any]], data: _Data, design: Design) -> tuple[str, ...]:
    """Return warnings: measures that are biased or undefined, items left out, and doubtful checkpoints."""
    texts = _missing(history)
    if data.single:
        texts.append(f"group {' and '.join(data.single)} has a single document, so there is no interval")
    pooled = [row for row in rows if row.get("eval_set") is None]
    biased = [
        f"{_name(row)} by {row['bias']:+.2g}"
        for row in pooled
        if row.get("is_biased") and row["bias"] is not None
    ]
    if biased:
        texts.append(f"noise of the items biases the lowest and largest scores: {', '.join(biased)}")
    reasons: dict[str, list[str]] = {}
    for row in pooled:
        if row.get("estimate") is None:
            reasons.setdefault(row["reason"], []).append(_name(row))
    texts += [f"undefined: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    texts += _doubtful_checkpoints(data, design)
    if n_left_out := sum(data.incomplete):
        texts.append(f"{counted(n_left_out, 'item')} left out, {_INCOMPLETE}")
    return tuple(texts)


def _doubtful_checkpoints(data: _Data, design: Design) -> Iterator[str]:
    """Yield warnings about checkpoints that are uneven, earlier than the end of a task, or not used."""
    spacing = _spacing(design)
    low, high = spacing["spacing_min_steps"], spacing["spacing_max_steps"]
    if design.windows and low != high:
        yield f"checkpoints are {low:,} to {high:,} updates apart, so windows of as many differ in length"
    early = [
        f"{name} (step {design.steps[place]:,} of {end:,})"
        for name, end, place in zip(data.names, data.ends, design.ends, strict=True)
        if design.steps[place] < end
    ]
    if early:
        yield f"no checkpoint at the end of a task, the last one before stands for it: {', '.join(early)}"
    if after := len(design.steps) - 1 - design.last:
        yield f"{counted(after, 'checkpoint')} behind the end of the last task in no measure"


def _name(row: dict[str, Any]) -> str:
    return row["metric"] if row.get("window") is None else f"{row['metric']} (window {row['window']})"
