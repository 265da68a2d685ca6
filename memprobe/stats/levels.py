"""Treated minus control at one period, without a base: the difference estimator, and the gap at the base.

    diff(g, t) = mean_g Y_t - mean_C Y_t,  variance s_g^2 / m_g + s_C^2 / m_C

s^2 is the variance of a sample (over n - 1); of clusters, of their sums. It estimates the effect only
where treated and control items are alike from the start (Lesci et al. 2024,
https://arxiv.org/abs/2406.04327); the gap at the base shows whether they are.
"""

from dataclasses import dataclass, replace

import numpy as np

from memprobe.stats.aggregate import family, row_errors, rows_known
from memprobe.stats.did_cells import Contrasts, cell_errors, contrast, reach_of
from memprobe.stats.did_estimates import Estimate, Estimates, with_bands
from memprobe.stats.did_groups import Groups, Whole


@dataclass(frozen=True, slots=True)
class BaseGap:
    """Treated minus control at the base period of the cells after treatment.

    Attributes:
        cohort: Cohorts, rising, shape (n_cohorts,).
        base: Their base periods, shape (n_cohorts,).
        estimates: Gap of each cohort.
        overall: Mean gap by the cohorts' items.
    """

    cohort: Whole
    base: Whole
    estimates: Estimates
    overall: Estimate


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
    return with_bands(levels.value, replace(errors, se=errors.se * errors.inflation), levels.known, level)


def base_gap(groups: Groups, cells: Contrasts, *, anticipation: int, control: str, level: float) -> BaseGap:
    """Return treated minus control at the base, with the controls of the first treated period.

    Args:
        groups: The items.
        cells: The cells; their cohorts are asked for.
        anticipation: Periods that a treatment may be felt before it.
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
    estimates = with_bands(gaps.value, replace(errors, se=errors.se * errors.inflation), gaps.known, level)
    pooled = family(groups, gaps, "simple", np.arange(len(gaps)), np.zeros_like(gaps.own)).rows
    overall = with_bands(pooled.value, row_errors(groups, gaps, pooled), rows_known(gaps, pooled), level)
    return BaseGap(groups.first[gaps.own], gaps.period, estimates, overall.one(0, len(gaps)))
