"""Multiplier bootstrap of all cells and their means at once: every cluster's influence times a random sign.

    draw_b = sum over clusters of v_bc u_c,  v = +-1 with probability 1/2 (Rademacher)
    se_boot = (q75 - q25 of the draws) / (z75 - z25)
    critical value = level quantile over b of max_k |draw_bk| / se_k,  se from the influence functions

Callaway and Sant'Anna (2021), section 4.2, https://doi.org/10.1016/j.jeconom.2020.12.001, who divide by
se_boot. Of a cell with few clusters the draws take few values, their quartiles may be 0, and that one cell
would make the critical value of all infinite; the error from the influence functions is free of that, and
of the noise of the draws, and elsewhere the same.

The draws of an estimate that is linear in the groups' means follow from those of the means, so that no
matrix of items by cells is made. Cells are done in blocks, and so are draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.aggregate import Rows
from memprobe.stats.did_cells import Contrasts
from memprobe.stats.did_estimates import place_of
from memprobe.stats.did_groups import Bools, Floats, Groups, product

# Numbers held at once of the signs or their sums over groups, and of the draws of cells.
_SIGNS, _BLOCK = 32_000_000, 16_000_000
_QUARTILES = NormalDist().inv_cdf(0.75) - NormalDist().inv_cdf(0.25)


@dataclass(frozen=True, slots=True)
class Draws:
    """What the bootstrap leaves.

    Attributes:
        se_boot: Interquartile standard errors of the cells, shape (n_cells,).
        largest: For each set of cells the largest |draw| / se of each draw, shape (n_sets, n_draws); 0 for a
            set without cells.
        rows: Draws of the means, shape (n_rows, n_draws).
    """

    se_boot: Floats
    largest: Floats
    rows: Floats


def bootstrap(
    groups: Groups,
    cells: Contrasts,
    se: Floats,
    rows: Rows,
    sets: list[Bools],
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> Draws:
    """Draw the errors of cells and means.

    Args:
        groups: The items.
        cells: All cells; changes, not levels.
        se: Their standard errors, shape (n_cells,).
        rows: Means of cells.
        sets: Sets of cells, each shape (n_cells,), that a maximum is taken over; their errors are above 0.
        n_draws: Number of draws.
        rng: Source of the signs; clusters have them in the order of their numbers.
    """
    from scipy.sparse import csr_array

    bits = rng.integers(0, 256, size=(groups.n_clusters, (n_draws + 7) // 8), dtype=np.uint8)
    shape = len(rows), len(cells)
    weights = csr_array((rows.weight, (rows.row, rows.cell)), shape=shape).tocsc()
    se_boot, largest = np.zeros(len(cells)), np.zeros((len(sets), n_draws))
    means = np.zeros((len(rows), n_draws))
    at_once = max(1, _BLOCK // n_draws)
    several = bool((cells.controls_from < len(groups.first) - 1).any())
    for first in range(0, len(cells), at_once):
        block = slice(first, min(first + at_once, len(cells)))
        drawn = np.empty((block.stop - first, n_draws))
        for columns, signed in _signed_sums(groups, bits, n_draws, several):
            drawn[:, columns] = _drawn_cells(groups, cells, block, signed)
            if first == 0:
                means[:, columns] += rows.drift @ signed.items
        means += weights[:, block] @ drawn
        se_boot[block] = interquartile_errors(drawn, groups.noise)
        for maximum, chosen in zip(largest, sets, strict=True):
            use = np.flatnonzero(chosen[block])
            if len(use):
                np.maximum(maximum, (np.abs(drawn[use]) / se[block][use, None]).max(0), out=maximum)
    return Draws(se_boot, largest, means)


def interquartile_errors(draws: Floats, noise: float) -> Floats:
    """Return the interquartile range over that of a standard normal, along the last axis; 0 up to noise."""
    quarter, three = place_of(draws.shape[-1], 0.25), place_of(draws.shape[-1], 0.75)
    parted = np.partition(draws, (quarter, three), axis=-1)
    errors = (parted[..., three] - parted[..., quarter]) / _QUARTILES
    return np.where(errors > noise, errors, 0.0)


@dataclass(frozen=True, slots=True)
class _Signed:
    """Sums of columns times signs over groups, and over each group and all later ones.

    Attributes:
        values: Of each group and column, shape (n_groups, n_columns, n_draws).
        later: `values` from this group on, summed; `values` where controls are the last group alone.
    """

    values: Floats
    later: Floats

    @property
    def items(self) -> Floats:
        """Sums of the signs of each group's items, shape (n_groups, n_draws)."""
        return self.values[:, -1]


def _signed_sums(
    groups: Groups, bits: NDArray[np.uint8], n_draws: int, several: bool
) -> Iterator[tuple[slice, _Signed]]:
    """Yield which draws, and their sums; signs are packed, eight draws of a cluster in a byte."""
    n_groups, n_columns = len(groups.first), groups.values.shape[1]
    widest = max(len(groups.cluster), (1 + several) * n_groups * n_columns)
    bytes_at_once = max(1, _SIGNS // (8 * widest))
    for first in range(0, bits.shape[1], bytes_at_once):
        columns = slice(8 * first, min(8 * (first + bytes_at_once), n_draws))
        packed = bits[groups.cluster, first : first + bytes_at_once]
        drawn = np.unpackbits(packed, axis=1, count=columns.stop - columns.start)
        signs: Floats = 1.0 - 2.0 * drawn.astype(np.float64)
        values = np.empty((n_groups, n_columns, signs.shape[1]))
        for group in range(n_groups):
            parts = groups.parts(group)
            product(groups.values[parts].T, signs[parts], values[group])
        later = np.cumsum(values[::-1], axis=0)[::-1] if several else values
        yield columns, _Signed(values, later)


def _drawn_cells(groups: Groups, cells: Contrasts, block: slice, signed: _Signed) -> Floats:
    """Return the draws of some cells, shape (cells, n_draws)."""
    own, start, inside = cells.own[block], cells.controls_from[block], cells.inside[block]
    period, base = cells.period[block], cells.base[block]
    control_mean = cells.control_mean[block][:, None]
    treated = signed.values[own, period]
    treated -= signed.values[own, base]
    control = signed.later[start, period]
    control -= signed.later[start, base]
    control -= control_mean * signed.later[start, -1]
    # Of a cell before treatment, a cohort itself is among the later ones, and is no control.
    control[inside] -= treated[inside] - control_mean[inside] * signed.items[own[inside]]
    treated -= cells.own_mean[block][:, None] * signed.items[own]
    treated /= groups.size[own][:, None]
    control /= cells.n_control[block][:, None]
    treated -= control
    return treated
