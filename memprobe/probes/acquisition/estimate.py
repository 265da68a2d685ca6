"""Tables and summary rows of acquisition, computed from the levels of items over a sequence."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.acquisition.injections import Kept, Reached
from memprobe.probes.acquisition.settings import Settings
from memprobe.probes.acquisition.tables import ACQUISITION, ACQUISITION_CURVE, ACQUISITION_FIT
from memprobe.probes.contract import History, SequenceResult, no_estimates
from memprobe.probes.tracks import Stratum, Tracks, nullable, strata
from memprobe.stats.acquisition import DECAY_METHOD, Decay, Ends, log_decay, mean_curve, null_rises
from memprobe.stats.events import rate
from memprobe.stats.intervals import Interval
from memprobe.stats.means import sums_interval
from memprobe.tables.facts import NO_TIME, NOT_SAID, TRAINED, is_control, is_timed, is_untimed
from memprobe.tables.schema import TableSchema
from memprobe.wording import counted

# If a smaller share of a window's steps has a checkpoint, its highest point is probably missed.
DENSE_FRAC = 0.5
_BROKEN = "without a finite level at some checkpoint"
_UNCLEAR = "of more than one exposure without exposure_steps"


def estimate_acquisition(history: History, settings: Settings) -> SequenceResult:
    """Estimate acquisition from a sequence.

    Returns:
        The three tables of acquisition without `model`, the summary rows, and warnings.
    """
    tracks = Tracks.of(history, "logprob_mean_nats", finite=True)
    found, min_gain = Reached.of(tracks, settings.window_steps), settings.min_gain_nats
    kept = Kept.of(found, min_gain)
    rows: list[dict[str, Any]] = []
    curves, fits = [_shape(ACQUISITION_CURVE)], []
    for each in strata(tracks, split=()):
        if not each.rows[found.item].any():
            continue
        own = each.rows[kept.item]
        fit = log_decay(
            kept.time[own].astype(np.float64),
            kept.share[own],
            kept.cluster[own],
            kept.gain[own] if settings.weight == "gain" else np.ones(int(own.sum())),
            rng=history.draws(f"decay {each.group}"),
        )
        rows += _estimates(found, kept, fit, each)
        curves.append(_curve(kept, each))
        fits.append(_fit(kept, fit, each, min_gain))
    rows.append(_null_row(found))
    fit_types = _shape(ACQUISITION_FIT).schema
    tables = {
        ACQUISITION.name: _injection_rows(found, min_gain),
        ACQUISITION_CURVE.name: pl.concat(curves),
        ACQUISITION_FIT.name: pl.DataFrame(fits, schema=fit_types, orient="row"),
    }
    estimates = pl.DataFrame(rows, schema=no_estimates().schema, orient="row")
    return SequenceResult(tables, estimates, _warnings(history, found, estimates), _left_out(found))


def _left_out(found: Reached) -> dict[str, int]:
    """Return the number of items that are in no estimate, by reason."""
    items = found.tracks.items
    counts = {
        _BROKEN: found.tracks.broken.height,
        _UNCLEAR: found.injections.n_unclear,
        NO_TIME: items.filter(is_untimed()).height,
        NOT_SAID: items[TRAINED].null_count(),
    }
    return {reason: n for reason, n in counts.items() if n}


def _shape(schema: TableSchema) -> pl.DataFrame:
    return schema.empty().drop("model")


def _injection_rows(found: Reached, min_gain: float) -> pl.DataFrame:
    """Return the table of injections."""
    steps, seen = found.tracks.steps, found.injections.windows
    lam_step = [int(steps[place]) if place >= 0 else None for place in found.lam]
    about = found.tracks.items.select("item_id", "group", "exposures")
    numbers = {
        "window_coverage_frac": found.injections.coverage,
        "l_pre_nats": found.pre,
        "l_before_nats": found.before,
        "l_lam_nats": found.top,
        "effectivity_nats": found.effectivity,
    }
    rows = found.injections.rows.join(about, on="item_id", maintain_order="left").with_columns(
        before_step=pl.Series([int(steps[at - 1]) if at > 0 else None for at in seen.first], dtype=pl.Int64),
        window_checkpoints=pl.Series(seen.n_checkpoints, dtype=pl.Int64),
        lam_step=pl.Series(lam_step, dtype=pl.Int64),
        acquired=pl.Series(
            [None if np.isnan(gain) else bool(gain > min_gain) for gain in found.gain], dtype=pl.Boolean
        ),
        **{name: pl.Series(nullable(values), dtype=pl.Float64) for name, values in numbers.items()},
    )
    rows = rows.with_columns(t_lam_steps=pl.col("lam_step") - pl.col("injection_step"))
    return rows.select(
        pl.col(name).cast(column.dtype) for name, column in ACQUISITION.columns.items() if name != "model"
    )


def _curve(kept: Kept, of: Stratum) -> pl.DataFrame:
    own = of.rows[kept.item]
    if not own.any():
        return _shape(ACQUISITION_CURVE)
    curve = mean_curve(kept.time[own], kept.share[own], kept.cluster[own])
    place = np.searchsorted(curve.time, kept.time[own])
    left, gain = (np.bincount(place, weights=each[own]) for each in (kept.left, kept.gain))
    columns = {
        "group": [of.group] * len(curve.time),
        "t_since_lam_steps": curve.time,
        "retainability_mean": curve.mean,
        "lo": nullable(curve.lo),
        "hi": nullable(curve.hi),
        "ci_method": ["cluster-t" if n > 1 else None for n in curve.n_clusters],
        "retainability_pooled": left / gain,
        "n_items": curve.n,
        "n_clusters": curve.n_clusters,
    }
    return pl.DataFrame(columns, schema=_shape(ACQUISITION_CURVE).schema)


def _fit(kept: Kept, fit: Decay, of: Stratum, min_gain: float) -> dict[str, Any]:
    own = of.rows[kept.item]
    n_judged, n_acquired = int(of.rows[kept.judged].sum()), int(of.rows[kept.acquired].sum())
    reason = fit.reason
    if not n_acquired:
        reason = f"no item was acquired: none rose by more than {min_gain:g} nats per token"
        if not n_judged:
            reason = "no item has a checkpoint before its first injection and one in the window of its last"
    return {
        "group": of.group,
        "decay_per_decade": fit.decay,
        "decay_lo": fit.decay_ends.lo,
        "decay_hi": fit.decay_ends.hi,
        "tau_steps": fit.tau,
        "tau_lo": fit.tau_ends.lo,
        "tau_hi": fit.tau_ends.hi,
        "ci_method": DECAY_METHOD if fit.decay_ends.lo is not None or fit.tau_ends.lo is not None else None,
        "r2": fit.r2,
        "residual_se": fit.residual_se,
        "n_points": fit.n_points,
        "n_items": len(np.unique(kept.item[own])),
        "n_clusters": len(np.unique(kept.cluster[own])),
        "n_excluded": n_judged - n_acquired,
        "reason": reason,
    }


def _estimates(found: Reached, kept: Kept, fit: Decay, of: Stratum) -> list[dict[str, Any]]:
    """Return the summary rows of one stratum: effectivity, share of acquired items, decay."""
    clusters = found.tracks.items["cluster"].to_numpy()
    timed = found.tracks.items.select(is_timed()).to_series().to_numpy()
    n_trained = int((of.rows & timed).sum()) + of.broken.filter(is_timed()).height
    used = of.rows[found.item] & ~np.isnan(found.effectivity)
    rise, cluster = found.effectivity[used], clusters[found.item[used]]
    sums = _by_cluster(cluster, rise, np.ones(len(rise)))
    found_rise = sums_interval(*sums.T) if len(sums) else None
    judged = kept.judged[of.rows[kept.judged]]
    share = rate(np.isin(judged, kept.acquired), clusters[judged])
    own = of.rows[kept.item]
    mean = float(rise.mean()) if len(rise) else None
    rows = [
        _row(of, "effectivity_nats", mean, found_rise, len(np.unique(found.item[used])), len(sums)),
        _row(
            of,
            "acquired_frac",
            share.value,
            share.interval,
            share.n,
            share.n_clusters,
        ),
        _row(
            of,
            "decay_per_decade",
            fit.decay,
            _bounded(fit.decay_ends),
            len(np.unique(kept.item[own])),
            len(np.unique(kept.cluster[own])),
        ),
    ]
    return [row | {"n_missing": n_trained - row["n_items"]} for row in rows]


def _by_cluster(clusters: NDArray[np.int64], *values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the values in each cluster, by cluster number, shape (n_clusters, n_values)."""
    numbers = np.unique(clusters, return_inverse=True)[1]
    return np.column_stack([np.bincount(numbers, weights=each) for each in values])


def _null_row(found: Reached) -> dict[str, Any]:
    """Return the summary row for the effectivity of windows without an injection.

    It is the mean over items that were never trained on; if there are none, over the windows that end before
    an item's first injection.
    """
    tracks = found.tracks
    never = tracks.items.select(is_control()).to_series().to_numpy()
    first = tracks.items["first_step"].fill_null(int(tracks.steps[0])).to_numpy()
    last_unseen = np.searchsorted(tracks.steps, first, side="left") - 1
    unseen_to = np.where(never, len(tracks.steps) - 1, -1) if never.any() else last_unseen
    total, count = null_rises(tracks.values, unseen_to, found.injections.windows)
    used = count > 0
    sums = _by_cluster(tracks.items["cluster"].to_numpy()[used], total[used], count[used])
    interval = sums_interval(*sums.T) if used.any() else None
    mean = float(total.sum() / count.sum()) if used.any() else None
    of_all = Stratum(None, None, np.ones(len(used), dtype=np.bool_), tracks.broken)
    row = _row(of_all, "effectivity_null_nats", mean, interval, int(used.sum()), len(sums))
    n_broken = tracks.broken.filter(is_control()).height if never.any() else 0
    return row | {"n_missing": int(never.sum() - used[never].sum()) + n_broken}


def _bounded(ends: Ends) -> Interval | None:
    """Return both ends as an interval; None if an end is not known."""
    if ends.lo is None or ends.hi is None:
        return None
    return Interval(ends.lo, ends.hi, 0.95, DECAY_METHOD)


def _row(
    of: Stratum,
    metric: str,
    estimate: float | None,
    interval: Interval | None,
    n_items: int,
    n_clusters: int,
) -> dict[str, Any]:
    units = {"acquired_frac": "fraction", "decay_per_decade": "per decade"}
    return {
        "metric": metric,
        "group": of.group,
        "condition": of.condition,
        "estimate": estimate,
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_method": interval.method if interval else None,
        "n_items": n_items,
        "n_clusters": n_clusters,
        "unit": units.get(metric, "nats per token"),
    }


def _warnings(history: History, found: Reached, estimates: pl.DataFrame) -> tuple[str, ...]:
    """Return warnings: what was left out, sparse windows, and the rise without an injection."""
    texts = []
    if history.missing:
        texts.append(f"left out, as they are not scored: {', '.join(history.missing)}")
    if found.tracks.broken.height:
        n = counted(found.tracks.broken.height, "item")
        texts.append(f"{n} left out, {_BROKEN}")
    if found.injections.n_unclear:
        n = counted(found.injections.n_unclear, "item")
        texts.append(f"{n} of more than one exposure left out, without exposure_steps")
    used = ~np.isnan(found.effectivity)
    if not used.any():
        return tuple(texts)
    coverage = float(np.median(found.injections.coverage[used]))
    if coverage < DENSE_FRAC:
        texts.append(
            f"half of the windows have a checkpoint at {coverage:.2g} of their steps or fewer: the highest "
            "point is missed, so effectivity_nats is too low and retainability too high"
        )
    several = int((found.injections.rows["n_since_before"].to_numpy()[used] > 1).sum())
    if several:
        texts.append(
            f"{several:,} of {counted(int(used.sum()), 'injection')} follow another of the same item with no "
            "checkpoint between, so their effectivity is that of several (n_since_before)"
        )
    pooled = estimates.filter(pl.col("group").is_null())
    named = dict(pooled.select("metric", "estimate").iter_rows())
    nothing, rise = named["effectivity_null_nats"], named["effectivity_nats"]
    if nothing is None:
        texts.append("no window without an injection, so how much effectivity_nats is too high is not known")
    elif nothing > abs(rise) / 2:
        texts.append(
            f"windows without an injection rise by {nothing:.3g} nats per token, those with one by "
            f"{rise:.3g}: most of effectivity_nats is noise or general learning"
        )
    return tuple(texts)
