"""Weighted means of ATT(g, t) over cells, with weights that are estimated too.

    theta = sum_k m_k f_k ATT_k / sum_k m_k f_k,  m_k the items in cell k's cohort, f_k given numbers
    u_i = sum_k w_k u_ik + sum_{k: cohort of i} f_k (ATT_k - theta) / sum_k m_k f_k

The second term is the influence of item i through the weights. Callaway and Sant'Anna (2021), section 3.3,
https://doi.org/10.1016/j.jeconom.2020.12.001.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memprobe.stats.did.cells import Contrasts, slopes_of
from memprobe.stats.did.errors import MANY, Errors, errors_from
from memprobe.stats.did.estimates import Estimate, Estimates
from memprobe.stats.did.groups import (
    Bools,
    Floats,
    Groups,
    Whole,
    expected_squares,
    shared_freedom,
    summed_squares,
)
from memprobe.stats.did.sizes import Leverage

Kind = Literal["simple", "cohort", "event", "calendar", "persistent", "event_balanced"]
# Rows are processed in blocks that fit into the cache and, if clusters are processed one by one, into memory.
_SMALL, _FEWEST, _BLOCK = 32_000, 8, 16_000_000


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Means over the cells of each cohort, event time or period, and the mean over these.

    Attributes:
        kind: "simple": over all cells after treatment, weighted by items; "cohort": over a cohort's periods;
            "event": over cohorts at the same number of periods after treatment (negative: before);
            "event_balanced": as "event", with only those cohorts that are seen up to the last event time;
            "calendar": over the cohorts treated by a period; "persistent": over all cells later than
            the first treated period, weighted by items.
        key: Cohort, event time or period, rising, shape (n,); 0 for the single row of "simple" and
            "persistent".
        n_cells: Number of cells in each mean, shape (n,).
        estimates: One estimate for each key.
        overall: "cohort": mean over cohorts, weighted by their items; "event" and "event_balanced": plain
            mean over event times from 0; "calendar": plain mean over periods; else the single row.
    """

    kind: Kind
    key: Whole
    n_cells: Whole
    estimates: Estimates
    overall: Estimate


@dataclass(frozen=True, slots=True)
class Rows:
    """Weighted means of cells (rows), given by their terms.

    Attributes:
        row: Row of each term, shape (n_terms,).
        cell: Cell of each term, shape (n_terms,).
        weight: Weight of each term, shape (n_terms,).
        value: The means, shape (n_rows,).
        drift: Influence of an item of each group through the weights, shape (n_rows, n_groups).
    """

    row: Whole
    cell: Whole
    weight: Floats
    value: Floats
    drift: Floats

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.value)


@dataclass(frozen=True, slots=True)
class Family:
    """The rows of one aggregation, the overall mean last.

    Attributes:
        kind: See `Aggregation`.
        key: See `Aggregation`; one entry fewer than rows.
        n_cells: Number of cells in each row, shape (n_rows,).
        rows: The means.
    """

    kind: Kind
    key: Whole
    n_cells: Whole
    rows: Rows


def families(groups: Groups, cells: Contrasts, *, balanced_to: int | None) -> list[Family]:
    """Return the means that summarize a profile, without kinds that have no cell.

    Args:
        groups: The items.
        cells: All cells.
        balanced_to: Last event time of a balanced event study; None for no such study.
    """
    cohort = groups.first[cells.own]
    event = cells.period - cohort
    post = event >= 0
    nowhere = np.zeros_like(event)
    chosen: list[tuple[Kind, Bools, Whole]] = [
        ("simple", post, nowhere),
        ("cohort", post, cohort),
        ("event", np.ones_like(post), event),
        ("calendar", post, cells.period),
        ("persistent", event > 0, nowhere),
    ]
    if balanced_to is not None:
        seen = np.bincount(cells.own[post & (event <= balanced_to)], minlength=len(groups.first))
        whole = (seen == balanced_to + 1)[cells.own]
        chosen.append(("event_balanced", whole & (event <= balanced_to), event))
    return [family(groups, cells, kind, np.flatnonzero(use), key) for kind, use, key in chosen if use.any()]


def family(groups: Groups, cells: Contrasts, kind: Kind, used: Whole, keys: Whole) -> Family:
    """Return the means of some cells by a key, weighted by the cohorts' items.

    Args:
        groups: The items.
        cells: All cells.
        kind: Kind of overall mean, see `Aggregation`.
        used: Indices of the cells to use, at least one.
        keys: Key of each cell, shape (n_cells,).
    """
    key, row = np.unique(keys[used], return_inverse=True)
    n, n_groups = len(key), len(groups.first)
    own, att = cells.own[used], cells.value[used]
    n_cells = np.bincount(row, minlength=n)
    size = groups.size[own]
    total = np.bincount(row, weights=size, minlength=n)
    weight = size / total[row]
    value = np.bincount(row, weights=weight * att, minlength=n)
    drift = np.bincount(
        row * n_groups + own, weights=(att - value[row]) / total[row], minlength=n * n_groups
    ).reshape(n, n_groups)

    over, through = np.zeros(n), np.zeros(n_groups)
    if kind == "cohort":
        cohorts = np.searchsorted(groups.first, key)
        over = groups.size[cohorts] / groups.size[cohorts].sum()
        through[cohorts] = (value - over @ value) / groups.size[cohorts].sum()
    else:
        counts = key >= 0 if kind in ("event", "event_balanced") else np.ones(n, dtype=np.bool_)
        over[counts] = 1 / counts.sum()
    counted = over[row] > 0
    rows = Rows(
        row=np.append(row, np.full(counted.sum(), n)),
        cell=np.append(used, used[counted]),
        weight=np.append(weight, (over[row] * weight)[counted]),
        value=np.append(value, over @ value),
        drift=np.vstack([drift, over @ drift + through]),
    )
    return Family(kind, key, np.append(n_cells, counted.sum()), rows)


def stacked(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts as one, in their order."""
    begin = np.cumsum([0, *(len(part) for part in parts)])
    return Rows(
        row=np.concatenate([part.row + b for part, b in zip(parts, begin[:-1], strict=True)]),
        cell=np.concatenate([part.cell for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        drift=np.concatenate([part.drift for part in parts]),
    )


def row_slopes(groups: Groups, cells: Contrasts, rows: Rows, first: int, last: int) -> Floats:
    """Return the slopes of the rows from `first` to before `last` in each group, see `slopes_of`."""
    inside = (rows.row >= first) & (rows.row < last)
    row, cell, weight = rows.row[inside] - first, rows.cell[inside], rows.weight[inside]
    slopes = slopes_of(groups, cells, row, cell, weight, last - first)
    slopes[:, :, -1] += rows.drift[first:last].T
    return slopes


def row_errors(groups: Groups, cells: Contrasts, rows: Rows) -> Errors:
    """Return the standard error of each row; the groups are the samples."""
    wide = max(_FEWEST, _SMALL // (groups.values.shape[1] * len(groups.first)))
    at_once = max(1, min(wide, _BLOCK // groups.n_clusters))
    sizes, leverage = groups.sizes, groups.sizes.leverage()
    small = bool(leverage.freedom.min() < MANY) or not groups.nested
    total, parts = np.zeros(len(rows)), np.zeros((len(groups.first), len(rows)))
    expected = np.zeros_like(parts)
    for first in range(0, len(rows), at_once):
        block = slice(first, min(first + at_once, len(rows)))
        slopes = row_slopes(groups, cells, rows, block.start, block.stop)
        total[block], parts[:, block] = summed_squares(groups, slopes)
        if small:
            expected[:, block] = expected_squares(groups, slopes)
    each = Leverage(leverage.factor[:, None], leverage.freedom[:, None])
    if not small:
        return errors_from(total, parts, each, (), groups.noise)
    units = sizes.n_items, sizes.squared
    items, clusters = (expected * (unit * groups.expected_spread(unit))[:, None] for unit in units)
    errors = errors_from(total, parts, each, (items, clusters), groups.noise)
    return errors.at_most(shared_freedom(groups, expected))


def rows_known(cells: Contrasts, rows: Rows, differ: Bools | None = None) -> Bools:
    """Return whether the standard error of each row is known, shape (n_rows,): all its cells show an error.

    Args:
        cells: All cells.
        rows: Means of cells.
        differ: Whether the treated items of each cell differ; if given, each row needs a cell where they do.
    """
    unknown = np.bincount(rows.row, weights=~cells.known[rows.cell], minlength=len(rows))
    if differ is None:
        return np.asarray(unknown == 0)
    n_differ = np.bincount(rows.row, weights=differ[rows.cell], minlength=len(rows))
    return np.asarray((unknown == 0) & (n_differ > 0))
