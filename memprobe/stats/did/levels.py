"""Treated minus control at one period, without a base: the difference estimator, and the gap at the base.

    diff(g, t) = mean_g Y_t - mean_C Y_t,  variance s_g^2 / m_g + s_C^2 / m_C

s^2 is the variance of a sample (over n - 1); for clusters, that of their sums. It estimates the effect only
where treated and control items are alike from the start (Lesci et al. 2024,
https://arxiv.org/abs/2406.04327); the gap at the base shows whether they are.
"""

import math
from dataclasses import dataclass

import numpy as np

from memprobe.stats.did.aggregate import family, row_errors, rows_known
from memprobe.stats.did.cells import Contrasts, cell_errors, contrast, reach_of
from memprobe.stats.did.estimates import Estimate, Estimates, with_bands
from memprobe.stats.did.groups import Floats, Groups, Whole


@dataclass(frozen=True, slots=True)
class BaseGap:
    """Treated minus control at the base period of the cells after treatment.

    Attributes:
        cohort: Cohorts, rising, shape (n_cohorts,).
        base: Base period of each cohort, shape (n_cohorts,).
        estimates: Gap of each cohort.
        overall: Mean gap, weighted by the cohorts' items.
        p_value: Two-sided p value of the hypothesis that the overall gap is 0; None if its error is not
            known, or 0.
        spread: Standard deviation of items at the same periods, see `spread_at_base`; None if no side has two
            items.
    """

    cohort: Whole
    base: Whole
    estimates: Estimates
    overall: Estimate
    p_value: float | None
    spread: float | None


def level_differences(groups: Groups, cells: Contrasts, level: float) -> Estimates:
    """Return treated minus control at the period of each cell, with the controls of that cell.

    Args:
        groups: The items.
        cells: The cells.
        level: Nominal coverage.
    """
    origin = np.full_like(cells.period, groups.n_periods)
    levels = contrast(groups, cells.own, cells.period, origin, cells.reach)
    errors = cell_errors(groups, levels)
    return with_bands(levels.value, errors.as_unbiased(), levels.known, level)


def base_gap(
    groups: Groups,
    cells: Contrasts,
    items: tuple[Floats, Whole],
    *,
    anticipation: int,
    control: str,
    level: float,
) -> BaseGap:
    """Return treated minus control at the base, with the controls of the first treated period.

    Args:
        groups: The items.
        cells: The cells, which determine the cohorts.
        items: Outcomes of all items, shape (n_items, n_periods), and their first treated periods, shape
            (n_items,).
        anticipation: Number of periods before treatment in which it may already have an effect.
        control: "never" or "not_yet".
        level: Nominal coverage.
    """
    post = cells.period >= groups.first[cells.own]
    own = np.unique(cells.own[post])
    cohort = groups.first[own]
    base = cohort - anticipation - 1
    reach = reach_of(cohort, anticipation=anticipation, control=control)
    gaps = contrast(groups, own, base, np.full_like(base, groups.n_periods), reach)
    errors = cell_errors(groups, gaps)
    estimates = with_bands(gaps.value, errors.as_unbiased(), gaps.known, level)
    pooled = family(groups, gaps, "simple", np.arange(len(gaps)), np.zeros_like(gaps.own)).rows
    pooled_errors, known = row_errors(groups, gaps, pooled), rows_known(gaps, pooled)
    overall = with_bands(pooled.value, pooled_errors, known, level)
    shows = known[0] and pooled_errors.se[0] > 0
    return BaseGap(
        cohort=groups.first[gaps.own],
        base=gaps.period,
        estimates=estimates,
        overall=overall.one(0, len(gaps)),
        p_value=float(pooled_errors.p_values(pooled.value)[0]) if shows else None,
        spread=spread_at_base(*items, groups.first[gaps.own], gaps.period, gaps.reach),
    )


def spread_at_base(y: Floats, first: Whole, cohort: Whole, base: Whole, reach: Whole) -> float | None:
    """Return the standard deviation of items, within the treated and within controls, at the base periods.

        s^2 = sum_g m_g (s_g^2 + s_C^2) / 2 / sum_g m_g,  s^2 over n - 1, at the base of cohort g

    Each gap is taken at its own base, and so is the deviation that it is compared with: at another period
    items may differ by a hundredth as much, as in a model that is not yet trained. The mean of the two
    variances follows Imbens and Rubin (2015), Causal Inference, section 14.2.

    Args:
        y: Outcomes, shape (n_items, n_periods).
        first: First treated period of each item, shape (n_items,).
        cohort: First treated period of each cohort, shape (n_cohorts,).
        base: Base period of each cohort, shape (n_cohorts,).
        reach: Period after which the controls of each cohort are first treated, shape (n_cohorts,).

    Returns:
        The standard deviation, or None if neither side of any cohort has two items.
    """
    total, weight = 0.0, 0.0
    for own, period, last in zip(cohort.tolist(), base.tolist(), reach.tolist(), strict=True):
        treated = first == own
        sides = y[treated, period], y[(first > last) & ~treated, period]
        variances = [float(side.var(ddof=1)) for side in sides if len(side) > 1]
        if variances:
            size = len(sides[0])
            total, weight = total + size * sum(variances) / len(variances), weight + size
    return math.sqrt(total / weight) if weight else None
