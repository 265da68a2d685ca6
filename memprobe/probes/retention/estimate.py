"""Tables, summary rows and warnings of retention, computed from the curves and fits of each outcome."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from memprobe.probes.contract import History, SequenceResult, no_estimates
from memprobe.probes.panel import sequence_frame
from memprobe.probes.retention.curves import FLOORS, Found, Named, curve_rows, ends, find, fit_rows
from memprobe.probes.retention.tables import RETENTION_CURVE, RETENTION_FIT
from memprobe.probes.retention.timeline import Timeline, infinite
from memprobe.stats.curves import MIN_LAGS, best_law
from memprobe.stats.half_life import Law
from memprobe.stats.intervals import FEW_CLUSTERS, UNFIT, Interval
from memprobe.tables.conditions import build
from memprobe.wording import counted

_INFINITE = "infinite at some checkpoint"
_RATES = {"recall_exact": "recall_frac", "recognition_correct": "recognition_frac"}


def estimate_retention(history: History, timeline: Timeline, n_draws: int) -> SequenceResult:
    """Return curves, fits and summary rows of every outcome that at least one treated item has."""
    outcomes = [each for name in FLOORS if (each := find(history, timeline, name, n_draws))]
    found = [each for strata in outcomes for each in strata]
    tables = {
        RETENTION_CURVE.name: sequence_frame(
            [row for each in found for row in curve_rows(each)], RETENTION_CURVE
        ),
        RETENTION_FIT.name: sequence_frame([row for each in found for row in fit_rows(each)], RETENTION_FIT),
    }
    rates = [row for strata in outcomes for row in _rates(strata)]
    halves = [row for strata in outcomes for row in _half_lives(strata)]
    estimates = pl.DataFrame([*rates, *halves], schema=no_estimates().schema, orient="row")
    pooled = [strata[0] for strata in outcomes]
    warnings = (*_left_out(history, timeline, pooled), *_blocks(pooled, timeline))
    return SequenceResult(tables, estimates, warnings, _counted_out(history, timeline))


def _counted_out(history: History, timeline: Timeline) -> dict[str, int]:
    """Return the number of items in no curve, by reason; for infinite values, the outcome that loses most."""
    n_infinite = max(infinite(history, name).height for name in FLOORS)
    return {**timeline.left_out, **({_INFINITE: n_infinite} if n_infinite else {})}


def _rates(strata: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Yield a rate at a few lags for all items and for groups, and at one lag for each exposure count."""
    metric = _RATES.get(strata[0].outcome)
    shown = _few(_common(strata)) if metric is not None else []
    for each in strata:
        if each.same is None:
            continue
        exposures = each.stratum.exposures
        own = [name for name in shown if name in each.same.names]
        # For exposure counts, one lag is enough in the summary; the table has all lags.
        for name in own if exposures is None else own[-1:]:
            at = each.same.names.tolist().index(name)
            condition = build(steps_since_exposure=name, exposures=exposures)
            yield {
                "metric": metric,
                "group": each.stratum.group,
                "condition": condition,
                "estimate": float(each.same.curve.level.value[at]),
                **_ends(each.same.curve.level.interval[at]),
                **_counts(each, each.same),
                "unit": "fraction",
            }


def _ends(interval: Interval | None) -> dict[str, Any]:
    """Return the interval of a rate as columns, or the reason why there is none."""
    return ends(interval, "ci") | ({} if interval else {"ci_method": FEW_CLUSTERS})


def _common(strata: Sequence[Found]) -> list[int]:
    """Return the lags that all strata with enough lags for a fit share, so that rows can be compared."""
    names = [each.same.names.tolist() for each in strata if each.same is not None]
    common = set(names[0])
    for own in names:
        if len(own) >= MIN_LAGS:
            common &= set(own)
    return sorted(common or names[0])


def _few(names: Sequence[int]) -> list[int]:
    """Return the first lag, further lags that are each at least ten times as long, and the last lag."""
    shown: list[int] = []
    for name in names:
        if not shown or 1 + name >= 10 * (1 + shown[-1]):
            shown.append(name)
    return sorted({*shown, *names[-1:]})


def _half_lives(strata: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Yield the half-life of all items and of each group, under the law that fits all items best."""
    law = best_law(strata[0].fits)
    for each in strata:
        if each.same is not None and each.stratum.exposures is None:
            yield _half_life(each, each.same, law)


def _half_life(found: Found, same: Named, law: Law | None) -> dict[str, Any]:
    fit = None if law is None else found.fits.get(law)
    half = fit.half_life_anew if fit else None
    clustered = bool(same.curve.n_clusters[0] < same.curve.n_items[0])
    bounded = half is not None and half.lo is not None
    method = "cluster-calibrated-profile" if clustered else "calibrated-profile"
    return {
        "metric": "half_life_steps",
        "group": found.stratum.group,
        "condition": build(outcome=found.outcome, law=law),
        "estimate": half.steps if half else None,
        "ci_low": half.lo if half else None,
        "ci_high": half.hi if half else None,
        "ci_method": UNFIT if fit and fit.is_unfit else method if bounded else None,
        **_counts(found, same),
        "unit": "steps",
    }


def _counts(found: Found, same: Named) -> dict[str, int]:
    n_items = int(same.curve.n_items[0])
    return {
        "n_items": n_items,
        "n_clusters": int(same.curve.n_clusters[0]),
        "n_missing": found.n_with - n_items,
    }


def _left_out(history: History, timeline: Timeline, pooled: Sequence[Found]) -> Iterator[str]:
    """Yield warnings about what is left out, and about outcomes without never-trained items."""
    if history.missing:
        yield f"left out, as they are not scored: {', '.join(history.missing)}"
    for reason, n in timeline.left_out.items():
        yield f"{counted(n, 'item')} left out, {reason}"
    for name in FLOORS:
        if n := infinite(history, name).height:
            yield f"{name}: {counted(n, 'item')} left out, {_INFINITE}"
    if timeline.never.is_empty():
        yield (
            "no item is never trained on (first_step null): recall is set against 0 and recognition against "
            "0.5, and log-probability against nothing"
        )
        return
    for each in pooled:
        if not each.n_controls:
            against = each.against or "nothing"
            yield f"{each.outcome}: no never-trained item has it, so it is set against {against}"


def _blocks(pooled: Sequence[Found], timeline: Timeline) -> Iterator[str]:
    """Yield the number of items and lags in the fits, once for outcomes with the same numbers."""
    outcomes: dict[str, list[str]] = {}
    for each in pooled:
        if text := _block(each, len(timeline.names)):
            outcomes.setdefault(text, []).append(each.outcome)
    for text, names in outcomes.items():
        yield f"{', '.join(names)}: {text}"


def _block(found: Found, n_points: int) -> str | None:
    if found.same is None:
        return found.reason
    lags = found.same.curve.lag
    n_items = int(found.same.curve.n_items[0])
    if len(lags) < MIN_LAGS:
        return found.reason
    if n_items == found.n_with and len(lags) == n_points:
        return None
    return (
        f"fits are of {n_items} of {found.n_with} items and {len(lags)} of {n_points} lags, "
        f"{lags[0]:,.6g} to {lags[-1]:,.6g} steps: not all items are seen at all lags"
    )
