"""Table of predictors and summary rows of forecast, computed from the items that checkpoints memorize."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import History, OtherSequence, SequenceResult, no_estimates
from memprobe.probes.forecast.settings import Settings
from memprobe.probes.forecast.tables import FORECAST
from memprobe.probes.panel import cluster_numbers, sequence_frame, step_name, wide
from memprobe.stats.forecast import Forecast, Ratio, forecast, mcnemar
from memprobe.stats.intervals import FEW_CLUSTERS, LEVEL
from memprobe.tables.conditions import build
from memprobe.wording import counted

# The summary shows the target's earlier checkpoints that are nearest to these shares of its training.
SHOWN_AT = (1 / 8, 1 / 4, 1 / 2)
_METRICS = {"precision_frac": "precision", "recall_frac": "recall", "f1": "f1", "f2": "f2"}

Bools = NDArray[np.bool_]


def check_predictors(own: OtherSequence, others: tuple[OtherSequence, ...]) -> list[str]:
    """Return the reasons why this sequence has no predictor; empty if it has one."""
    if len(own.steps) > 1 or any(_is_smaller(each, own.n_parameters) for each in others):
        return []
    unknown = [each.model for each in (own, *others) if each.n_parameters is None]
    if others and unknown:
        return [f"one checkpoint, and the number of parameters of {' and '.join(unknown)} is not known"]
    return ["one checkpoint, and no smaller model beside it: give an earlier checkpoint, or a smaller model"]


def _is_smaller(other: OtherSequence, n_parameters: int | None) -> bool:
    if other.n_parameters is None or n_parameters is None:
        return False
    return other.n_parameters < n_parameters


@dataclass(frozen=True, slots=True)
class _Predictor:
    """One checkpoint used as predictor.

    Attributes:
        model: Name of its sequence.
        step: Step of the checkpoint; None if it has no step.
        compute_ratio: Training compute of the predictor over that of the target; None if it is not known.
        memorized: 1 for each item that is memorized, else 0; NaN if not known, shape (n_items,).
        shown: Whether the predictor is in the summary.
    """

    model: str
    step: int | None
    compute_ratio: float | None
    memorized: NDArray[np.float64]
    shown: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    """The last checkpoint of the sequence, whose memorized items are predicted.

    Attributes:
        model: Name of the sequence.
        step: Last step; None if the sequence is a single checkpoint without a step.
        items: `item_id, group, first_step`, in the order of the ids.
        memorized: 1 for each item that is memorized, else 0; NaN if not known, shape (n_items,).
        clusters: Cluster number of each item; None if every item is its own cluster.
    """

    model: str
    step: int | None
    items: pl.DataFrame
    memorized: NDArray[np.float64]
    clusters: NDArray[np.int64] | None


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Estimate how well every predictor forecasts the last checkpoint."""
    own = OtherSequence(history.model, history.steps, history.n_parameters, same_tokens=True)
    texts = _left_out(history)
    if stop := check_predictors(own, history.others):
        return SequenceResult({}, no_estimates(), (*texts, *stop))
    smaller = sorted(
        (each for each in history.others if _is_smaller(each, history.n_parameters)),
        key=lambda each: (each.n_parameters or 0, each.model),
    )
    target, predictors = _answers(history, smaller, settings)
    rows: list[dict[str, Any]] = []
    estimates: list[dict[str, Any]] = []
    before: _Predictor | None = None
    for predictor in predictors:
        same_kind = before is not None and (before.model == target.model) == (predictor.model == target.model)
        for row, found in _judged(predictor, target, history, settings):
            if row["group"] is None and row["seen"] is None and same_kind and before is not None:
                row["mcnemar_p_value"] = _against(predictor, before, target)
            rows.append(row)
            estimates += _estimates(row, found, predictor, target)
        before = predictor
    known = ~np.isnan(target.memorized)
    if known.any() and not target.memorized[known].any():
        n = counted(int(known.sum()), "item")
        what = "the last checkpoint" if target.step is None else f"the checkpoint at step {target.step:,}"
        texts.append(f"{what} memorizes none of {n}, so recall is undefined")
    names = list(_METRICS)
    estimates.sort(key=lambda row: names.index(row["metric"]))
    result = pl.DataFrame(estimates, schema=no_estimates().schema, orient="row")
    return SequenceResult({FORECAST.name: sequence_frame(rows, FORECAST)}, result, tuple(texts))


def _left_out(history: History) -> list[str]:
    """Return warnings about checkpoints and models that are no predictors, or whose tokenizer differs."""
    missing = [*history.missing, *(name for each in history.others for name in each.missing)]
    texts = [f"left out, as they are not scored: {', '.join(missing)}"] if missing else []
    if history.others and history.n_parameters is None:
        texts.append("its number of parameters is not known, so no other model is taken for a smaller one")
        return texts
    for each in history.others:
        if each.n_parameters is None:
            texts.append(f"{each.model} is not a predictor: its number of parameters is not known")
        elif _is_smaller(each, history.n_parameters) and not each.same_tokens:
            texts.append(
                f"{each.model} has another tokenizer, so its suffixes may be other stretches of text"
            )
    return texts


def _answers(
    history: History, smaller: list[OtherSequence], settings: Settings
) -> tuple[_Target, list[_Predictor]]:
    """Return the target and its predictors, with the same items: smaller models, then own earlier steps."""
    all_of = {each.model: _steps_of(each) for each in smaller}
    chosen = all_of if settings.of_others == "all" else {name: each[-1:] for name, each in all_of.items()}
    frames = [wide(history.rows, _steps_of(history), "exact")]
    frames += [wide(each.rows, chosen[each.model], "exact") for each in smaller]
    ids = pl.concat([frame.select("item_id") for frame in frames]).unique().sort("item_id")
    mine, *theirs = [ids.join(frame, on="item_id", how="left", maintain_order="left") for frame in frames]
    about = ids.join(history.items, on="item_id", how="left", maintain_order="left")
    clusters = cluster_numbers(about)
    own_cluster = len(np.unique(clusters)) == len(clusters)
    last = _steps_of(history)[-1]
    target = _Target(
        model=history.model,
        step=last,
        items=about.select("item_id", "group", "first_step"),
        memorized=_column(mine, last),
        clusters=None if own_cluster else clusters,
    )
    predictors = [
        _Predictor(
            each.model,
            step,
            _compute(each.n_parameters, step, history),
            _column(frame, step),
            step == all_of[each.model][-1],
        )
        for each, frame in zip(smaller, theirs, strict=True)
        for step in chosen[each.model]
    ]
    shown = _nearest(history.steps)
    predictors += [
        _Predictor(history.model, step, step / last if last else None, _column(mine, step), step in shown)
        for step in history.steps[:-1]
    ]
    return target, predictors


def _steps_of(sequence: OtherSequence | History) -> tuple[int | None, ...]:
    """Return the steps of a sequence; `(None,)` for a single checkpoint without a step."""
    return sequence.steps or (None,)


def _column(frame: pl.DataFrame, step: int | None) -> NDArray[np.float64]:
    return frame[step_name(step)].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _compute(n_parameters: int | None, step: int | None, history: History) -> float | None:
    last = _steps_of(history)[-1]
    if not n_parameters or not history.n_parameters or not last or step is None:
        return None
    return n_parameters * step / (history.n_parameters * last)


def _nearest(steps: tuple[int, ...]) -> set[int]:
    """Return the earlier steps nearest to the shares in `SHOWN_AT`; step 0 only if it is the only one."""
    earlier = [step for step in steps[:-1] if step > 0] or list(steps[:-1])
    return {min(earlier, key=lambda step: abs(step / steps[-1] - share)) for share in SHOWN_AT if earlier}


def _judged(
    predictor: _Predictor, target: _Target, history: History, settings: Settings
) -> Iterator[tuple[dict[str, Any], Forecast]]:
    """Yield a row for all items, each group, and items that training had and had not reached by then."""
    everything = np.ones(len(target.memorized), dtype=np.bool_)
    parts: list[tuple[str | None, bool | None, Bools]] = [(None, None, everything)]
    groups = target.items["group"]
    parts += [
        (name, None, (groups == name).fill_null(value=False).to_numpy())
        for name in groups.drop_nulls().unique().sort()
    ]
    first = target.items["first_step"]
    # For a checkpoint without a step, it is not known which items its training had reached.
    if first.null_count() < len(first) and predictor.step is not None:
        come = first <= predictor.step
        parts += [
            (None, result, (come == result).fill_null(value=False).to_numpy()) for result in (True, False)
        ]
    for group, seen, chosen in parts:
        rng = history.draws(f"forecast {predictor.model} {predictor.step} {group} {seen}")
        row, found = _row(predictor, target, chosen, rng, settings.draws)
        yield {**row, "group": group, "seen": seen}, found


def _row(
    predictor: _Predictor, target: _Target, chosen: Bools, rng: np.random.Generator, n_draws: int
) -> tuple[dict[str, Any], Forecast]:
    both = chosen & ~np.isnan(predictor.memorized) & ~np.isnan(target.memorized)
    clusters = None if target.clusters is None else target.clusters[both]
    found = forecast(
        predictor.memorized[both] > 0,
        target.memorized[both] > 0,
        rng=rng,
        clusters=clusters,
        n_draws=n_draws,
        level=LEVEL,
    )
    counts = found.counts
    row = {
        "predictor_model": predictor.model,
        "predictor_step": predictor.step,
        "target_step": target.step,
        **{name: getattr(counts, name) for name in ("tp", "fp", "fn", "tn")},
        **_ratio("precision", found.precision, value="precision_frac"),
        **_ratio("recall", found.recall, value="recall_frac"),
        **_ratio("f1", found.f1),
        **_ratio("f2", found.f2),
        **_ratio("phi", found.phi),
        "rates_ci_method": _method(found.precision, found.recall),
        "f_ci_method": _method(found.f1, found.f2, found.phi),
        "compute_ratio": predictor.compute_ratio,
        "n_items": counts.n,
        "n_clusters": found.f1.n_clusters,
        "n_missing": int(chosen.sum()) - counts.n,
    }
    return row, found


def _ratio(name: str, ratio: Ratio, *, value: str = "") -> dict[str, Any]:
    interval = ratio.interval
    return {
        value or name: ratio.value,
        f"{name}_lo": interval.lo if interval else None,
        f"{name}_hi": interval.hi if interval else None,
    }


def _method(*ratios: Ratio) -> str | None:
    names = dict.fromkeys(each.interval.method for each in ratios if each.interval is not None)
    return ", ".join(names) or None


def _against(predictor: _Predictor, before: _Predictor, target: _Target) -> float | None:
    """Return McNemar's p value of two predictors on the target's memorized items; None if it is not valid."""
    asked = (target.memorized > 0) & ~np.isnan(predictor.memorized) & ~np.isnan(before.memorized)
    share = target.clusters is not None and len(np.unique(target.clusters[asked])) < int(asked.sum())
    if share or not asked.any():
        return None
    return mcnemar(predictor.memorized[asked] > 0, before.memorized[asked] > 0)


def _estimates(
    row: dict[str, Any], found: Forecast, predictor: _Predictor, target: _Target
) -> Iterator[dict[str, Any]]:
    """Yield the summary rows of a predictor, if the summary shows it."""
    if not predictor.shown or row["seen"] is False:
        return
    name = f"step{predictor.step}" if predictor.model == target.model else predictor.model
    condition = build(predictor=name, seen=row["seen"] or None)
    for metric, of in _METRICS.items():
        ratio: Ratio = getattr(found, of)
        interval = ratio.interval
        yield {
            "metric": metric,
            "group": row["group"],
            "condition": condition,
            "estimate": ratio.value,
            "ci_low": interval.lo if interval else None,
            "ci_high": interval.hi if interval else None,
            "ci_method": interval.method if interval else None if ratio.value is None else FEW_CLUSTERS,
            "n_items": ratio.n,
            "n_clusters": ratio.n_clusters,
            "n_missing": row["n_missing"],
            "unit": "fraction",
        }
