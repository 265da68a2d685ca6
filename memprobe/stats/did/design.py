"""The cells of a panel: cohorts, their bases and controls, and the cells that are left out."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from memprobe.stats.did.cells import Contrasts, reach_of
from memprobe.stats.did.groups import FOREVER, Bools, Floats, Groups, Whole

NO_BASE = "no period before treatment"


@dataclass(frozen=True, slots=True)
class Design:
    """How cells are made.

    Attributes:
        base: Comparison of periods before treatment: "varying" with the period before each, "universal" with
            the base of the cells after treatment.
        control: "never": items never treated; "not_yet": also those first treated later than both
            periods of a cell (and `anticipation` more), except the cohort itself.
        anticipation: Number of periods before treatment in which it may already have an effect; the base is
            the last period before these.
        min_clusters: Cohorts with fewer clusters (items, if each is its own cluster) are left out. A cohort
            of one cluster has no standard error, and neither has any mean that includes it.
        balanced_to: Last event time of a balanced event study; None for no such study.
    """

    base: Literal["varying", "universal"] = "varying"
    control: Literal["never", "not_yet"] = "never"
    anticipation: int = 0
    min_clusters: int = 1
    balanced_to: int | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """Items of a cohort without an estimate in some periods, or in all.

    Attributes:
        cohort: First treated period of the items; the number of periods if it comes after the last one.
        n_items: Number of items.
        periods: Periods without an estimate; None for all periods.
        reason: Why there is no estimate.
    """

    cohort: int
    n_items: int
    periods: tuple[int, ...] | None
    reason: str


def check(
    y: Floats,
    cohort: Whole,
    never: Bools,
    clusters: Whole | None,
    design: Design,
    level: float,
    n_draws: int,
) -> None:
    """Raise a ValueError unless the arguments are as `profile` describes them."""
    if y.ndim != 2 or not len(y) or y.shape[1] < 2:
        raise ValueError(f"outcomes of shape {y.shape}; need items by at least 2 periods")
    if not np.isfinite(y).all():
        raise ValueError(f"{int((~np.isfinite(y)).any(1).sum())} items have an outcome that is not finite")
    for name, given in (("cohorts", cohort), ("never-treated marks", never), ("clusters", clusters)):
        if given is not None and given.shape != (len(y),):
            raise ValueError(f"{name} of shape {given.shape} for {len(y)} items")
    treated = cohort[~never]
    if len(treated) and not 0 <= treated.min() <= treated.max() <= y.shape[1]:
        raise ValueError(f"cohorts from {treated.min()} to {treated.max()}; need 0 to {y.shape[1]}")
    if design.base not in ("varying", "universal") or design.control not in ("never", "not_yet"):
        raise ValueError(f"base {design.base!r}, control {design.control!r}")
    if design.control == "never" and not never.any():
        raise ValueError("no item is never treated")
    if min(design.anticipation, design.min_clusters - 1, n_draws, design.balanced_to or 0) < 0:
        needed = "need anticipation, balanced_to and draws from 0, min_clusters from 1"
        raise ValueError(f"{design}, {n_draws} draws; {needed}")
    if not 0 < level < 1:
        raise ValueError(f"level {level}; need 0 to 1")


class Plan(NamedTuple):
    """The planned cells, with fields as in `Contrasts`, each of shape (n_cells,)."""

    own: Whole
    period: Whole
    base: Whole
    reach: Whole


def plan(groups: Groups, design: Design) -> tuple[Plan, list[Dropped]]:
    """Return the planned cells, and the cohorts left out."""
    n_periods = groups.n_periods
    own: list[int] = []
    dropped = []
    for group, first in enumerate(groups.first.tolist()):
        reason = None
        if first == FOREVER or (first == n_periods and design.control == "not_yet"):
            continue
        if first == n_periods:
            reason = "first treated after the last period, and not a control"
        elif first - design.anticipation < 1:
            reason = NO_BASE
        elif groups.n_parts[group] < design.min_clusters:
            reason = f"fewer than {design.min_clusters} clusters"
        if reason is None:
            own.append(group)
        else:
            dropped.append(Dropped(first, int(groups.size[group]), None, reason))
    begin = 1 if design.base == "varying" else 0
    of = np.repeat(np.asarray(own, dtype=np.int64), n_periods - begin)
    period = np.tile(np.arange(begin, n_periods), len(own))
    last_before = groups.first[of] - design.anticipation - 1
    short = (period <= last_before) & (design.base == "varying")
    base = np.where(short, period - 1, last_before)
    last = np.maximum(period, base)
    reach = reach_of(last, anticipation=design.anticipation, control=design.control)
    return Plan(of, period, base, reach), dropped


def without_controls(groups: Groups, planned: Plan, cells: Contrasts) -> list[Dropped]:
    """Return the periods in which a cohort has no controls."""
    own, period = planned.own, planned.period
    n_periods = groups.n_periods
    lost = ~np.isin(own * n_periods + period, cells.own * n_periods + cells.period)
    return [
        Dropped(
            int(groups.first[group]),
            int(groups.size[group]),
            tuple(period[lost & (own == group)].tolist()),
            "no controls",
        )
        for group in np.unique(own[lost])
    ]
