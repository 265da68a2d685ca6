"""Difference-in-differences with staggered treatment: effects by cohort and period, and their means.

Callaway and Sant'Anna (2021), https://doi.org/10.1016/j.jeconom.2020.12.001, without covariates; as a
measure of memorization: Lesci et al. (2024), https://arxiv.org/abs/2406.04327. A positive effect means that
treated items have a higher outcome than they would have had untreated. Formulas: cells.py, aggregate.py,
multiplier.py, pretrend.py, levels.py.
"""

from dataclasses import dataclass

import numpy as np

from memprobe.stats.did.aggregate import (
    Aggregation,
    Family,
    Kind,
    families,
    row_errors,
    rows_known,
    stacked,
)
from memprobe.stats.did.cells import Contrasts, cell_errors, contrast, treated_differ
from memprobe.stats.did.design import Design, Dropped, check, plan, without_controls
from memprobe.stats.did.errors import Errors
from memprobe.stats.did.estimates import Estimate, Estimates, with_bands
from memprobe.stats.did.groups import FOREVER, Bools, Floats, Groups, Whole, arrange, pooled_over
from memprobe.stats.did.levels import BaseGap, base_gap, level_differences
from memprobe.stats.did.multiplier import Draws, RowDraws, bootstrap
from memprobe.stats.did.pretrend import Pretrend, before_treatment, pretrend

N_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Cells:
    """ATT(g, t), one per cohort and period, sorted by both.

    Attributes:
        cohort: First treated period g, shape (n_cells,).
        period: Period t, shape (n_cells,).
        base: Period that t is compared with, shape (n_cells,).
        is_post: Whether t >= g, shape (n_cells,).
        n_treated: Number of items in the cohort, shape (n_cells,).
        n_control: Number of control items, shape (n_cells,).
        att: The effects ATT(g, t).
        diff: Treated minus control at t, the difference estimator.
    """

    cohort: Whole
    period: Whole
    base: Whole
    is_post: Bools
    n_treated: Whole
    n_control: Whole
    att: Estimates
    diff: Estimates

    @property
    def event_time(self) -> Whole:
        """Number of periods since the first treated one; negative before it."""
        return self.period - self.cohort


@dataclass(frozen=True, slots=True)
class Profile:
    """All results of `profile`.

    Attributes:
        cells: Effects by cohort and period.
        aggregations: Means of effects, by kind; "persistent" and "event_balanced" only if there are cells.
        pretrend: Tests that nothing happens before treatment.
        base_gap: Treated minus control at the base.
        dropped: Items and periods without an estimate.
        n_periods: Number of periods of the panel.
        has_single_cluster: Whether a side of some cell is a single cluster, which shows no error.
    """

    cells: Cells
    aggregations: dict[Kind, Aggregation]
    pretrend: Pretrend
    base_gap: BaseGap
    dropped: tuple[Dropped, ...]
    n_periods: int
    has_single_cluster: bool = False

    @property
    def instantaneous(self) -> Estimate:
        """Mean effect in the first treated period, weighted by items: "event" at 0."""
        event = self.aggregations["event"]
        at = int(np.searchsorted(event.key, 0))
        return event.estimates.one(at, int(event.n_cells[at]))

    @property
    def persistent(self) -> Estimate | None:
        """Mean effect over all later periods, weighted by items; None if there are none."""
        found = self.aggregations.get("persistent")
        return None if found is None else found.overall

    @property
    def residual(self) -> Estimate | None:
        """Mean effect in the last period, weighted by items: "calendar" at it; None if it has no controls."""
        calendar = self.aggregations["calendar"]
        if calendar.key[-1] != self.n_periods - 1:
            return None
        return calendar.estimates.one(-1, int(calendar.n_cells[-1]))


def profile(
    y: Floats,
    cohort: Whole,
    *,
    never: Bools,
    rng: np.random.Generator,
    clusters: Whole | None = None,
    design: Design | None = None,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Profile:
    """Estimate the effect of treatment by cohort and period, with errors and bands.

    Args:
        y: Outcomes, finite, higher for more, shape (n_items, n_periods). Only the draws depend on the order
            of items, so sort by item for bands that do not depend on it.
        cohort: Position of the first treated period of each item, shape (n_items,); n_periods if it comes
            after the last one; ignored where `never` is true.
        never: Whether each item is never treated, shape (n_items,).
        rng: Source of the draws.
        clusters: Cluster number of each item, shape (n_items,); any integers. None if every item is its own
            cluster.
        design: How cells are made; None for the defaults of `Design`.
        level: Nominal coverage of one interval, and of a whole band.
        n_draws: Number of bootstrap draws; 0 for no bands.

    Raises:
        ValueError: An argument is not as described, or no cohort has a base period and controls.
    """
    design = design or Design()
    check(y, cohort, never, clusters, design, level, n_draws)
    first = np.where(never, FOREVER, cohort)
    numbers = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = arrange(y, first, numbers)
    planned, dropped = plan(groups, design)
    groups = pooled_over(groups, ~np.isin(groups.first, [each.cohort for each in dropped]))
    cells = contrast(groups, *planned)
    post = cells.period >= groups.first[cells.own]
    if not post.any():
        raise ValueError("no cohort has a base period before it and controls after it")
    dropped += without_controls(groups, planned, cells)
    gap = base_gap(
        groups,
        cells,
        (y, first),
        anticipation=design.anticipation,
        control=design.control,
        level=level,
    )
    att, aggregations, pretrends = _estimate(groups, cells, design, level, n_draws, rng)
    return Profile(
        cells=_described(groups, cells, att, level_differences(groups, cells, level)),
        aggregations=aggregations,
        pretrend=pretrends,
        base_gap=gap,
        dropped=tuple(dropped),
        n_periods=y.shape[1],
        has_single_cluster=not cells.known.all(),
    )


def _estimate(
    groups: Groups, cells: Contrasts, design: Design, level: float, n_draws: int, rng: np.random.Generator
) -> tuple[Estimates, dict[Kind, Aggregation], Pretrend]:
    """Return effects, their means and the tests before treatment, all from the same draws."""
    found = families(groups, cells, balanced_to=design.balanced_to)
    rows = stacked([family.rows for family in found])
    errors, row_error = cell_errors(groups, cells), row_errors(groups, cells, rows)
    differ = treated_differ(groups, cells)
    known = rows_known(cells, rows, differ)
    before = before_treatment(groups, cells, design.anticipation)
    shown = cells.known & differ
    varies = shown & (errors.se > 0)
    se_boot = largest = before_largest = None
    drawn: Draws | None = None
    if n_draws:
        sets = [varies, varies & before]
        error = errors.se, np.where(known, row_error.se, 0.0)
        drawn = bootstrap(groups, cells, error, rows, sets, n_draws=n_draws, rng=rng)
        se_boot = drawn.se_boot
        largest, before_largest = drawn.largest
    within = largest if varies.any() else None
    att = with_bands(cells.value, errors, shown, level, se_boot, within)
    aggregations: dict[Kind, Aggregation] = {}
    begin = 0
    for family in found:
        of = slice(begin, begin + len(family.rows))
        begin = of.stop
        aggregations[family.kind] = _aggregation(
            family, row_error.part(of), known[of], None if drawn is None else drawn.part(of), level
        )
    [events] = [family for family in found if family.kind == "event"]
    event_se = aggregations["event"].estimates.se
    tests = pretrend(groups, cells, errors, before, events, event_se, before_largest)
    return att, aggregations, tests


def _aggregation(
    family: Family, errors: Errors, known: Bools, draws: RowDraws | None, level: float
) -> Aggregation:
    """Return one kind of means with their bands; the overall mean has a pointwise interval only."""
    n = len(family.key)
    value, own = family.rows.value, errors.part(slice(0, n))
    se_boot = largest = None
    if draws is not None:
        se_boot = draws.se_boot[:n]
        varies = known[:n] & (own.se > 0)
        if varies.any():
            largest = draws.scores[:n][varies].max(0)
    return Aggregation(
        kind=family.kind,
        key=family.key,
        n_cells=family.n_cells[:n],
        estimates=with_bands(value[:n], own, known[:n], level, se_boot, largest),
        overall=with_bands(value[n:], errors.part(slice(n, n + 1)), known[n:], level).one(
            0, int(family.n_cells[n])
        ),
    )


def _described(groups: Groups, cells: Contrasts, att: Estimates, diff: Estimates) -> Cells:
    """Return the cells in the form that callers of `profile` get."""
    cohort = groups.first[cells.own]
    return Cells(
        cohort=cohort,
        period=cells.period,
        base=cells.base,
        is_post=cells.period >= cohort,
        n_treated=groups.size[cells.own].astype(np.int64),
        n_control=cells.n_control,
        att=att,
        diff=diff,
    )
