"""Curves and fits of retention, computed from the outcomes of items over a sequence."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memprobe.probes.contract import History
from memprobe.probes.retention.timeline import Stratum, Timeline, outcome_of, strata
from memprobe.stats.curves import CurveFit, best_law, fit_laws
from memprobe.stats.half_life import LAWS, Binomial, Law
from memprobe.stats.intervals import LEVEL, Interval
from memprobe.stats.lag_curve import Controls, Exposed, LagCurve, lag_curve
from memprobe.stats.lags import complete_block

# Value of each rate without memory: no text is recalled, and text and foil are equally often the likelier
# one. A log-probability has no such value.
FLOORS: Mapping[str, float | None] = {
    "recall_exact": 0.0,
    "recognition_correct": 0.5,
    "logprob_mean_nats": None,
}


@dataclass(frozen=True, slots=True)
class Named:
    """A curve, and the steps since exposure that name its lags, shape (n_lags,)."""

    curve: LagCurve
    names: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """The curves and fits of one outcome in one stratum.

    Attributes:
        stratum: The items.
        outcome: Name of the outcome.
        every: Curve of all items that are seen at each lag; None if no item has the outcome.
        same: Curve of items that are seen at all of its lags; None if no item has the outcome.
        fits: Fit of each law to the excess of `same`; empty if there can be no fit.
        reason: Reason why there are no fits; None if there are.
        n_with: Number of items of the stratum that have the outcome.
        n_controls: Number of never-trained items that have the outcome.
    """

    stratum: Stratum
    outcome: str
    every: Named | None
    same: Named | None
    fits: Mapping[Law, CurveFit]
    reason: str | None
    n_with: int
    n_controls: int

    @property
    def against(self) -> str | None:
        """Name of the baseline of the excess; None if there is no excess."""
        return "never-trained" if self.n_controls else None if FLOORS[self.outcome] is None else "chance"


def find(history: History, timeline: Timeline, outcome: str, n_draws: int) -> list[Found]:
    """Return the result for all items, each group and each exposure count; empty without any outcome."""
    exposed, controls = outcome_of(history, timeline, outcome)
    if np.isnan(exposed.y).all():
        return []
    found = []
    for stratum in strata(timeline.treated):
        rng = history.draws(f"retention {outcome} {stratum.group} {stratum.exposures}")
        found.append(_find(exposed, controls, stratum, outcome, timeline.names, rng, n_draws))
    return found


def _find(
    exposed: Exposed,
    controls: Controls | None,
    stratum: Stratum,
    outcome: str,
    names: NDArray[np.int64],
    rng: np.random.Generator,
    n_draws: int,
) -> Found:
    present = ~np.isnan(exposed.y) & stratum.member[:, None]
    floor = FLOORS[outcome]

    def curve(items: NDArray[np.bool_], lags: NDArray[np.bool_], *, fitted: bool) -> Named | None:
        if not items.any():
            return None
        part = exposed.part(items, lags)
        # Rates whose items are all in different clusters have intervals without draws, and only the curve of
        # the same items is fitted, which needs draws.
        apart = floor is not None and len(np.unique(part.cluster)) == len(part.cluster)
        n = 0 if apart and not fitted else n_draws
        return Named(lag_curve(part, controls, rng=rng, n_draws=n, floor=floor, level=LEVEL), names[lags])

    items, lags = np.asarray(present.any(axis=1)), np.asarray(present.any(axis=0))
    every = curve(items, lags, fitted=False)
    same = curve(*complete_block(present), fitted=True)
    fits, reason = _fits(same)
    n_controls = 0 if controls is None else len(controls.y)
    return Found(stratum, outcome, every, same, fits, reason, int(items.sum()), n_controls)


def law_fits(curve: LagCurve) -> dict[Law, CurveFit]:
    """Fit every law to the excess of a curve of the same items at every lag.

    Raises:
        ValueError: There is no excess, or it cannot be fitted.
    """
    if curve.excess is None:
        raise ValueError("no never-trained items to compare with")
    floor, n_items = curve.level.value - curve.excess.value, int(curve.n_items[0])
    return fit_laws(
        curve.lag,
        curve.excess.value,
        draws=curve.whole_draws,
        weights=Binomial(floor, n_items) if curve.is_rate else curve.weights,
        n_clusters=int(curve.n_clusters[0]),
        level=LEVEL,
    )


def _fits(same: Named | None) -> tuple[dict[Law, CurveFit], str | None]:
    """Fit every law to the excess of the same items; without fits, return the reason."""
    if same is None:
        return {}, "no item has the outcome after its last exposure"
    try:
        return law_fits(same.curve), None
    except ValueError as error:
        return {}, str(error)


def curve_rows(found: Found) -> Iterator[dict[str, Any]]:
    """Yield the rows of `RETENTION_CURVE` without `model`."""
    for sample, named in (("all_items", found.every), ("same_items", found.same)):
        for at in range(0 if named is None else len(named.names)):
            if named is not None:
                keys = {"outcome": found.outcome, "sample": sample, **found.stratum.named}
                yield keys | _point(named, at)


def _point(named: Named, at: int) -> dict[str, Any]:
    curve = named.curve
    excess = curve.excess
    return {
        "steps_since_exposure": int(named.names[at]),
        "lag_mean_steps": float(curve.lag[at]),
        "lag_min_steps": int(curve.lag_min[at]),
        "lag_max_steps": int(curve.lag_max[at]),
        "estimate": float(curve.level.value[at]),
        **ends(curve.level.interval[at], "ci"),
        "baseline": None if curve.baseline is None else float(curve.baseline[at]),
        "excess": None if excess is None else float(excess.value[at]),
        **ends(None if excess is None else excess.interval[at], "excess"),
        "n_items": int(curve.n_items[at]),
        "n_clusters": int(curve.n_clusters[at]),
        "n_controls": int(curve.n_controls[at]),
    }


def ends(interval: Interval | None, name: str) -> dict[str, Any]:
    """Return an interval as the columns `<name>_low, <name>_high, <name>_method`."""
    return {
        f"{name}_low": interval.lo if interval else None,
        f"{name}_high": interval.hi if interval else None,
        f"{name}_method": interval.method if interval else None,
    }


def fit_rows(found: Found) -> Iterator[dict[str, Any]]:
    """Yield the rows of `RETENTION_FIT` without `model`, one for each law."""
    best = best_law(found.fits)
    keys = {"outcome": found.outcome, **found.stratum.named}
    curve = None if found.same is None else found.same.curve
    about = {
        "n_lags": 0 if curve is None else len(curve.lag),
        "first_lag_steps": None if curve is None else float(curve.lag[0]),
        "last_lag_steps": None if curve is None else float(curve.lag[-1]),
        "n_items": 0 if curve is None else int(curve.n_items[0]),
        "n_clusters": 0 if curve is None else int(curve.n_clusters[0]),
        "against": found.against,
    }
    for law in LAWS:
        fit = found.fits.get(law)
        fitted = {"reason": found.reason} if fit is None else _fitted(fit) | {"is_best": law == best}
        yield keys | {"law": law} | fitted | about


def _fitted(fit: CurveFit) -> dict[str, Any]:
    half = fit.half_life
    flat: dict[str, float | None] = {}
    for name, each in fit.parameters.items():
        flat |= {name: each.value, f"{name}_lo": each.lo, f"{name}_hi": each.hi}
    return {
        # Text, so that it can be written to CSV.
        "params": json.dumps(flat),
        "residual_se": fit.residual_se,
        "half_life_steps": half.steps,
        "half_life_lo": half.lo,
        "half_life_hi": half.hi,
        "aic": fit.aic,
        "reason": fit.half_life_anew.reason if fit.is_unfit else half.reason,
    }
