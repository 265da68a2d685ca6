"""Contrasts of a cohort with its controls, one per cell (cohort, period), and each item's influence on them.

    value(g, t) = mean_g(Y_t - Y_b) - mean_C(Y_t - Y_b)
    u_i = [i in g] (D_i - mean_g D) / m_g - [i in C] (D_i - mean_C D) / m_C,  D = Y_t - Y_b
    SE = sqrt(sum over clusters of (sum of their u_i)^2)

Callaway and Sant'Anna (2021), https://doi.org/10.1016/j.jeconom.2020.12.001; u_i is the influence function
divided by the number of items. Clusters, even of unequal size, enter only by their sums of u_i.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from memprobe.stats.did.errors import Errors, errors_from
from memprobe.stats.did.groups import (
    FOREVER,
    Bools,
    Floats,
    Groups,
    Whole,
    enough_digits,
    shared_freedom,
    summed_squares,
)
from memprobe.stats.did.sizes import Leverage, Sizes


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Cells, sorted by cohort.

    Attributes:
        own: Index of the cohort's group, rising, shape (n_cells,).
        period: Period t, shape (n_cells,).
        base: Period b, or the column of the origin, in which case levels are compared instead of changes.
        reach: Controls are first treated after this period, shape (n_cells,); FOREVER - 1 if controls are
            never treated.
        controls_from: Controls are the groups from this index on, except the cohort, shape (n_cells,).
        n_control: Number of control items, shape (n_cells,).
        own_mean: The cohort's mean of D, shape (n_cells,).
        control_mean: The controls' mean of D, shape (n_cells,).
        known: Whether both sides have two clusters or more, so that they show an error, shape (n_cells,).
    """

    own: Whole
    period: Whole
    base: Whole
    reach: Whole
    controls_from: Whole
    n_control: Whole
    own_mean: Floats
    control_mean: Floats
    known: Bools

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.own)

    @property
    def value(self) -> Floats:
        """Treated minus control, shape (n_cells,)."""
        return self.own_mean - self.control_mean

    @property
    def inside(self) -> Bools:
        """Whether the cohort itself is among the groups from `controls_from` on, shape (n_cells,)."""
        return self.own >= self.controls_from

    def by_cohort(self) -> Iterator[slice]:
        """Yield the cells of each cohort."""
        edges = np.flatnonzero(np.diff(self.own)) + 1
        for begin, end in pairwise([0, *edges.tolist(), len(self)]):
            yield slice(begin, end)


def contrast(groups: Groups, own: Whole, period: Whole, base: Whole, reach: Whole) -> Contrasts:
    """Compare cohorts with their controls; cells without controls are left out.

    Args:
        groups: The items.
        own: Index of the cohort's group in each cell, rising, shape (n_cells,).
        period: Period t, shape (n_cells,).
        base: Period b, shape (n_cells,).
        reach: Controls are first treated after this period, shape (n_cells,).
    """
    controls = groups.first[:, None] > reach
    controls[own, np.arange(len(own))] = False
    n_control = groups.size @ controls
    has = n_control > 0
    own, period, base, reach = own[has], period[has], base[has], reach[has]
    controls, n_control = controls[:, has], n_control[has]
    changes = groups.mean[:, period] - groups.mean[:, base]
    return Contrasts(
        own=own,
        period=period,
        base=base,
        reach=reach,
        controls_from=np.searchsorted(groups.first, reach, side="right"),
        n_control=n_control.astype(np.int64),
        own_mean=changes[own, np.arange(len(own))],
        control_mean=(groups.size[:, None] * controls * changes).sum(0) / n_control,
        known=(groups.n_parts[own] > 1) & _many_clusters(groups, controls),
    )


def treated_differ(groups: Groups, cells: Contrasts) -> Bools:
    """Return whether the treated items of each cell change by different amounts, shape (n_cells,).

    If all change by the same amount, as rates of a few items often do, their spread is estimated as 0 and the
    standard error is too small. True where a period is compared with itself.
    """
    found = cells.period == cells.base
    for rows in cells.by_cohort():
        values = groups.values[groups.parts(int(cells.own[rows.start]))]
        means = values[:, :-1] / values[:, -1:]
        change = means[:, cells.period[rows]] - means[:, cells.base[rows]]
        found[rows] |= np.ptp(change, axis=0) > groups.noise
    return np.asarray(found)


def _many_clusters(groups: Groups, controls: Bools) -> Bools:
    """Return whether the controls of each cell have more than one cluster among them."""
    low = np.minimum.reduceat(groups.cluster, groups.start[:-1])[:, None]
    high = np.maximum.reduceat(groups.cluster, groups.start[:-1])[:, None]
    lowest = np.where(controls, low, groups.n_clusters).min(0)
    highest = np.where(controls, high, -1).max(0)
    return np.asarray(highest > lowest)


def slopes_of(
    groups: Groups, cells: Contrasts, row: Whole, cell: Whole, weight: Floats, n_rows: int
) -> Floats:
    """Return the slopes of sums of cells in the columns of each group, shape (n_groups, n_rows, n_columns).

    Args:
        groups: The items.
        cells: All cells.
        row: Row of each term of the sums, shape (n_terms,).
        cell: Cell of each term, shape (n_terms,).
        weight: Weight of each term, shape (n_terms,).
        n_rows: Number of sums.
    """
    own, start, inside = cells.own[cell], cells.controls_from[cell], cells.inside[cell]
    treated, control = weight / groups.size[own], -weight / cells.n_control[cell]
    own_mean, control_mean = cells.own_mean[cell], cells.control_mean[cell]
    shape = len(groups.first), n_rows, groups.values.shape[1]

    def spread(which: Whole, group: Whole, factor: Floats, mean: Floats) -> Floats:
        at = (group * n_rows + row[which]) * shape[2]
        ends = at + cells.period[cell[which]], at + cells.base[cell[which]], at + (shape[2] - 1)
        factors = np.concatenate([factor, -factor, -factor * mean])
        found = np.bincount(np.concatenate(ends), weights=factors, minlength=int(np.prod(shape)))
        # Without entries, np.bincount returns integers.
        return np.asarray(found, dtype=np.float64).reshape(shape)

    everyone = np.arange(len(row))
    twice = np.concatenate([everyone, everyone])
    group, factor = np.concatenate([own, start]), np.concatenate([treated, control])
    mean = np.concatenate([own_mean, control_mean])
    if (start == shape[0] - 1).all():
        return spread(twice, group, factor, mean)
    # Controls are all groups from one on: the cumulative sum carries the entry of the first to all others.
    found = np.cumsum(spread(everyone, start, control, control_mean), axis=0)
    some = np.flatnonzero(inside)
    found -= spread(some, own[some], control[some], control_mean[some])
    return np.asarray(found + spread(everyone, own, treated, own_mean))


def cell_errors(groups: Groups, cells: Contrasts) -> Errors:
    """Return the standard error of each cell; treated and controls are the two samples."""
    treated, control = sides_of(groups, cells)
    sides, doubtful = _squares_from_moments(groups, cells)
    total = sides.sum(0)
    for whole in cells.by_cohort():
        rows = whole.start + np.flatnonzero(doubtful[whole])
        if len(rows):
            slopes = slopes_of(groups, cells, np.arange(len(rows)), rows, np.ones(len(rows)), len(rows))
            total[rows], parts = summed_squares(groups, slopes)
            own = parts[cells.own[whole.start]]
            sides[:, rows] = own, parts.sum(0) - own
    shares = np.stack([1 / treated.n_items, 1 / control.n_items])
    squared = np.stack([treated.squared, control.squared]) * shares**2
    shares[0] *= groups.expected_spread(groups.sizes.n_items)[cells.own]
    squared[0] *= groups.expected_spread(groups.sizes.squared)[cells.own]
    one, other = treated.leverage(), control.leverage()
    leverage = Leverage(np.stack([one.factor, other.factor]), np.stack([one.freedom, other.freedom]))
    errors = errors_from(total, sides, leverage, (shares, squared), groups.noise)
    if groups.nested:
        return errors
    return errors.at_most(shared_freedom(groups, _expected(groups, cells)))


def _expected(groups: Groups, cells: Contrasts) -> Floats:
    """Return the expected squared influence of an item if all were alike, shape (n_groups, n_cells)."""
    columns = np.arange(len(cells))
    controls = np.arange(len(groups.first))[:, None] >= cells.controls_from
    found = controls / cells.n_control.astype(np.float64) ** 2
    found[cells.own, columns] = 1 / groups.size[cells.own] ** 2
    return found


def sides_of(groups: Groups, cells: Contrasts) -> tuple[Sizes, Sizes]:
    """Return the cluster sizes of the treated and of the controls of each cell."""
    treated = groups.sizes.take(cells.own)
    return treated, groups.sizes.later().take(cells.controls_from).without(treated, cells.inside)


def _squares_from_moments(groups: Groups, cells: Contrasts) -> tuple[Floats, Bools]:
    """Return the squares of treated and controls, shape (2, n_cells), and which cells lack digits."""
    if groups.moments is None:
        return np.zeros((2, len(cells))), np.ones(len(cells), dtype=np.bool_)
    later = groups.moments
    if (cells.controls_from < len(later) - 1).any():
        later = np.cumsum(later[::-1], axis=0)[::-1]
    treated = _square(groups.moments, cells.own, cells, cells.own_mean)
    control = _square(later, cells.controls_from, cells, cells.control_mean)
    unwanted = _square(groups.moments, cells.own, cells, cells.control_mean)[0] * cells.inside
    squares = np.stack([treated[0], control[0] - unwanted])
    terms = np.stack([treated[1], control[1]])
    moved = cells.period != cells.base
    doubtful = (~enough_digits(squares, terms) & moved).any(0)
    shares = np.stack([groups.size[cells.own], cells.n_control.astype(np.float64)])
    return squares * moved / shares**2, np.asarray(doubtful)


def _square(moments: Floats, at: Whole, cells: Contrasts, mean: Floats) -> Floats:
    """Return the sum of (Y_t - Y_b - mean)^2 and the size of its terms, shape (2, n_cells)."""
    now, base, items = cells.period, cells.base, moments.shape[1] - 1
    cross = moments[at, now, items] - moments[at, base, items]
    ends = moments[at, now, now] + moments[at, base, base]
    shift = mean**2 * moments[at, items, items]
    square = ends - 2 * moments[at, now, base] - 2 * mean * cross + shift
    return np.stack([square, ends + shift])


def reach_of(last: Whole, *, anticipation: int, control: str) -> Whole:
    """Return the period after which controls may first be treated.

    Args:
        last: Later one of each cell's two periods.
        anticipation: Number of periods before treatment in which it may already have an effect.
        control: "never" or "not_yet".
    """
    return np.full(len(last), FOREVER - 1) if control == "never" else last + anticipation
