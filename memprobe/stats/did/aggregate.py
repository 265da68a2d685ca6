"""Weighted means of ATT(g, t) over cells, whose weights are estimated too.

    theta = sum_k m_k f_k ATT_k / sum_k m_k f_k,  m_k the items of cell k's cohort, f_k given numbers
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
# Rows are done in blocks whose numbers stay in the cache, and, if their clusters are gone through, in memory.
_SMALL, _FEWEST, _BLOCK = 32_000, 8, 16_000_000


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Means over the cells of one cohort, event time or period, and over these.

    Attributes:
        kind: "simple": over all cells after treatment, by items; "cohort": over a cohort's periods;
            "event": over cohorts at the same number of periods after treatment (below 0: before);
            "event_balanced": the same of those cohorts alone that are seen to the last event time;
            "calendar": over the cohorts treated by a period; "persistent": over all cells later than
            the first treated period, by items.
        key: Cohort, event time or period, rising, shape (n,); 0 for the single row of "simple" and
            "persistent".
        n_cells: Cells in each, shape (n,).
        estimates: One for each key.
        overall: "cohort": mean over cohorts by their items; "event": plain mean over event times from
            0; "calendar": plain mean over periods; else the single row.
    """

    kind: Kind
    key: Whole
    n_cells: Whole
    estimates: Estimates
    overall: Estimate


@dataclass(frozen=True, slots=True)
class Rows:
    """Weighted means of cells, term by term.

    Attributes:
        row: Row of each term, shape (n_terms,).
        cell: Cell of each term, shape (n_terms,).
        weight: Weight of each term, shape (n_terms,).
        value: The means, shape (n_rows,).
        drift: Influence through the weights of an item of each group, shape (n_rows, n_groups).
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
        key: See `Aggregation`; one less than rows.
        n_cells: Cells in each row, shape (n_rows,).
        rows: The means.
    """

    kind: Kind
    key: Whole
    n_cells: Whole
    rows: Rows


def families(groups: Groups, cells: Contrasts, *, balanced_to: int | None) -> list[Family]:
    """Return the means that a profile is summed up by; none of a kind that has no cell.

    Args:
        groups: The items.
        cells: All cells.
        balanced_to: Last event time of a balanced event study; None: there is none.
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
        kind: How the overall mean is made, see `Aggregation`.
        used: Numbers of the cells to be used, at least one.
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
    """Return what the rows from `first` to before `last` take of each group, see `slopes_of`."""
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
    """Return whether all cells of each row show an error, shape (n_rows,).

    Args:
        cells: All cells.
        rows: Means of cells.
        differ: Whether the treated of each cell differ; those of one cell of a row have to. None: not asked.
    """
    unknown = np.bincount(rows.row, weights=~cells.known[rows.cell], minlength=len(rows))
    if differ is None:
        return np.asarray(unknown == 0)
    n_differ = np.bincount(rows.row, weights=differ[rows.cell], minlength=len(rows))
    return np.asarray((unknown == 0) & (n_differ > 0))
