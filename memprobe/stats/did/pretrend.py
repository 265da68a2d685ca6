"""Two tests of whether cohorts and controls move alike before treatment: all ATT(g, t) before it are zero.

    Wald: W = att' S^+ att, S = sum over samples s of S_s, the unbiased covariance of its clusters
          W (nu - q + 1) / (nu q) ~ F(q, nu - q + 1),  q = rank(S)
          nu = q (q + 1) / sum_s (tr(R_s^2) + tr(R_s)^2) / f_s,  R_s = S^-1/2 S_s S^-1/2
    sup-t: the largest |att| / se, as a normal score (errors.py), compared with its bootstrap draws

nu is that of Nel and van der Merwe, as modified by Krishnamoorthy and Yu (2004),
https://doi.org/10.1016/j.spl.2003.10.012; for a single estimate it is Satterthwaite's.

Neither test shows that there is no difference: with few items both have little power (Roth 2022,
https://doi.org/10.1257/aeri.20210236). If a cohort has too few clusters for its cells, W tests means by event
time instead of cells: as many as the clusters allow, the latest first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memprobe.stats.did.aggregate import Family, row_slopes
from memprobe.stats.did.cells import Contrasts, slopes_of
from memprobe.stats.did.errors import Errors
from memprobe.stats.did.groups import Bools, Floats, Groups, Whole, cluster_influence, product

# Clusters that a cohort needs for each of its cells in S; with fewer, S is poorly known.
CLUSTERS_PER_CELL = 10
# Most cells in S, and most numbers held in memory at once for the clusters' influence on them.
_MOST_TESTED = 500
_BLOCK = 32_000_000
# Directions with less than this share of the largest variance are rounding errors.
_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Pretrend:
    """Tests of no difference before treatment.

    Attributes:
        wald: Statistic W; None if there is none, see `reason`.
        df: Number q of independent differences that W tests.
        p_value: p value of W.
        over: Whether W tests all cells before treatment, or means of them by event time.
        n_tested: Number of cells or means that W tests.
        sup_t: Largest normal score of |att| / se over the cells before treatment; None if none varies.
        sup_t_p_value: p value of `sup_t`, (1 + draws at least as large) / (1 + draws); None without draws.
        n_cells: Number of cells before treatment that vary.
        reason: Why there is no W; None if there is one.
    """

    wald: float | None
    df: int | None
    p_value: float | None
    over: Literal["cells", "event"] | None
    n_tested: int
    sup_t: float | None
    sup_t_p_value: float | None
    n_cells: int
    reason: str | None


def before_treatment(groups: Groups, cells: Contrasts, anticipation: int) -> Bools:
    """Return whether each cell lies before treatment and any anticipation of it, shape (n_cells,)."""
    return np.asarray(cells.period < groups.first[cells.own] - anticipation)


def pretrend(
    groups: Groups,
    cells: Contrasts,
    errors: Errors,
    before: Bools,
    events: Family,
    event_se: Floats,
    largest: Floats | None,
) -> Pretrend:
    """Test that nothing happens before treatment.

    Args:
        groups: The items.
        cells: All cells.
        errors: Errors of the cells.
        before: Whether each cell lies before treatment, shape (n_cells,).
        events: Means of all cells by event time.
        event_se: Standard errors of `events`, shape (n_event_times,).
        largest: Largest |draw| / se of each draw over the cells before treatment that vary; None
            without draws.
    """
    rows = np.flatnonzero(before & cells.known & (errors.se > 0))
    if not len(rows):
        return Pretrend(None, None, None, None, 0, None, None, 0, "no cell before treatment varies")
    sup_t = float(errors.normal_scores(cells.value)[rows].max())
    p_value = None if largest is None else float((1 + (largest >= sup_t).sum()) / (1 + len(largest)))
    over: Literal["cells", "event"] | None = "cells"
    if _enough_for_cells(groups, cells, rows):
        value = cells.value[rows]
        slopes = slopes_of(groups, cells, np.arange(len(rows)), rows, np.ones(len(rows)), len(rows))
    else:
        value, slopes = _event_rows(groups, cells, before & cells.known, events, event_se)
        over = "event"
    n = len(value)
    if not n:
        few = f"fewer than {CLUSTERS_PER_CELL} clusters a cohort for each cell before treatment"
        return Pretrend(None, None, None, None, 0, sup_t, p_value, len(rows), few)
    wald = _wald(groups, value, slopes)
    if wald.p_value is None:
        few = f"{wald.freedom:.1f} degrees of freedom of the errors for {wald.df} differences"
        return Pretrend(None, None, None, None, 0, sup_t, p_value, len(rows), few)
    return Pretrend(wald.value, wald.df, wald.p_value, over, n, sup_t, p_value, len(rows), None)


def _enough_for_cells(groups: Groups, cells: Contrasts, rows: Whole) -> bool:
    """Return whether all cells can be tested at once."""
    n_cells = np.bincount(cells.own[rows], minlength=len(groups.first))
    held = 0 if groups.nested else groups.n_clusters * len(rows)
    enough = groups.n_parts >= CLUSTERS_PER_CELL * n_cells
    return bool(enough.all()) and len(rows) <= _MOST_TESTED and held <= _BLOCK


def _event_rows(
    groups: Groups, cells: Contrasts, fit: Bools, events: Family, event_se: Floats
) -> tuple[Floats, Floats]:
    """Return the latest means by event time, as many as can be tested at once, and their slopes."""
    rows, n = events.rows, len(events.key)
    of_row = rows.row < n
    row, cell = rows.row[of_row], rows.cell[of_row]
    n_clusters = np.bincount(row, weights=groups.n_parts[cells.own[cell]], minlength=n)
    usable = (np.bincount(row, weights=~fit[cell], minlength=n) == 0) & (event_se > 0)
    last = int(np.flatnonzero(usable)[-1]) + 1 if usable.any() else 0
    most = _MOST_TESTED if groups.nested else min(_MOST_TESTED, _BLOCK // groups.n_clusters)
    first = last
    while first > 0 and usable[first - 1] and last - first < most:
        if n_clusters[first - 1] < CLUSTERS_PER_CELL * (last - first + 1):
            break
        first -= 1
    return rows.value[first:last], row_slopes(groups, cells, rows, first, last)


@dataclass(frozen=True, slots=True)
class _Wald:
    """W, the number q of differences, the freedom nu of the errors, and the p value (None if nu <= q - 1)."""

    value: float
    df: int
    freedom: float
    p_value: float | None


def _wald(groups: Groups, value: Floats, slopes: Floats) -> _Wald:
    from scipy.special import fdtrc

    n = len(value)
    covariance, raw, traces = np.zeros((n, n)), 0.0, np.zeros(len(groups.first))
    leverage = groups.sizes.leverage()
    for group, rows, square in _squares_of_groups(groups, slopes):
        raw += float(np.trace(square))
        covariance[np.ix_(rows, rows)] += leverage.factor[group] * square
    if not groups.nested:
        covariance = _crossing(groups, slopes) * (np.trace(covariance) / raw)
    scale = np.sqrt(np.diag(covariance))
    variances, directions = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = variances > _RANK_TOLERANCE * variances[-1]
    whiten = (directions[:, kept] / np.sqrt(variances[kept])) / scale[:, None]
    wald, df = float(((value @ whiten) ** 2).sum()), int(kept.sum())
    inverse = product(whiten, whiten.T)
    for group, rows, square in _squares_of_groups(groups, slopes):
        ratio = leverage.factor[group] * product(square, inverse[np.ix_(rows, rows)])
        traces[group] = (ratio * ratio.T).sum() + np.trace(ratio) ** 2
    freedom = df * (df + 1) / float((traces / leverage.freedom).sum())
    second = freedom - df + 1
    p_value = float(fdtrc(df, second, wald * second / (freedom * df))) if second > 0 else None
    return _Wald(wald, df, freedom, p_value)


def _squares_of_groups(groups: Groups, slopes: Floats) -> Iterator[tuple[int, Whole, Floats]]:
    """Yield each group that takes part, the indices of its differences, and their summed squares in it."""
    for group in np.flatnonzero(slopes.any((1, 2))).tolist():
        rows = np.flatnonzero(slopes[group].any(1))
        found = product(groups.values[groups.parts(group)], slopes[group, rows].T)
        yield group, rows, product(found.T, found)


def _crossing(groups: Groups, slopes: Floats) -> Floats:
    """Return the summed squares over clusters, for clusters with parts in several groups, shape (n, n)."""
    n = slopes.shape[1]
    found = np.zeros((n, n))
    for each in cluster_influence(groups, slopes):
        found += product(each.T, each)
    return found
