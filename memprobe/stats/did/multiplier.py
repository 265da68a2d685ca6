"""Multiplier bootstrap of all cells and their means at once: every cluster's influence times a random sign.

    draw_b = sum over clusters of v_bc u_c,  v = +-1 with probability 1/2 (Rademacher)
    se_boot = (q75 - q25 of the draws) / (z75 - z25)
    critical value = level quantile over b of max_k |draw_bk| / se_k,  se from the influence functions

Callaway and Sant'Anna (2021), section 4.2, https://doi.org/10.1016/j.jeconom.2020.12.001, who divide by
se_boot. For a cell with few clusters, the draws take few values and their quartiles may be 0, so that this
one cell would make the critical value of all cells infinite. The error from the influence functions has
neither this problem nor the noise of the draws; elsewhere both agree.

The draws of an estimate that is linear in the groups' means follow from the draws of the means, so no matrix
of items by cells is needed. Cells and draws are processed in blocks.

The signs of three items have only four patterns up to a common sign, and no draw of three items exceeds
sqrt(3) errors, so the critical value of small cohorts would be far too small. Their draws are therefore mixed
with normal draws that have the pooled covariance of all groups,

    draw_h = sqrt((1 - a_h) f_h) sum_c v_c u_c + sqrt(a_h f_h k_h) L z,   a_h = max(0, 1 - freedom_h / 90)

with L L' the pooled products, k_h the ratio of the squares of group h to the pooled ones (mean over periods),
and f_h the factor of sizes.py. The mixed draws are divided by their own root mean square. Shrinking a
covariance towards a pooled one: Friedman (1989), https://doi.org/10.1080/01621459.1989.10478752. `se_boot`
uses the signs alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.did.aggregate import Rows
from memprobe.stats.did.cells import Contrasts
from memprobe.stats.did.estimates import place_of
from memprobe.stats.did.groups import Bools, Floats, Groups, product

# Groups with at least this many degrees of freedom have draws of their own items alone. The tail of n signs
# is smaller than a normal tail by the share z^4 / 12 n: at 3 errors 0.22 with 30 signs, 0.07 with 90.
OWN_FREEDOM = 90
# Most numbers held in memory at once: of the signs or their sums over groups, and of the draws of cells.
_SIGNS, _BLOCK = 32_000_000, 16_000_000
_QUARTILES = NormalDist().inv_cdf(0.75) - NormalDist().inv_cdf(0.25)


@dataclass(frozen=True, slots=True)
class RowDraws:
    """The bootstrap draws of means of cells, reduced to errors and extremes.

    Attributes:
        se_boot: Interquartile standard errors, shape (n_rows,).
        scores: |draw| / se, shape (n_rows, n_draws); 0 for rows that do not vary.
    """

    se_boot: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Draws:
    """The bootstrap draws, reduced to errors and extremes.

    Attributes:
        se_boot: Interquartile standard errors of the cells, shape (n_cells,).
        largest: Largest |draw| / se in each set of cells, for each draw, shape (n_sets, n_draws); 0 for a set
            without cells.
        rows: Draws of the means.
    """

    se_boot: Floats
    largest: Floats
    rows: RowDraws

    def part(self, rows: slice) -> RowDraws:
        """Return the draws of some means."""
        return RowDraws(self.rows.se_boot[rows], self.rows.scores[rows])


def bootstrap(
    groups: Groups,
    cells: Contrasts,
    se: tuple[Floats, Floats],
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
        se: Standard errors of cells, shape (n_cells,), and of means, shape (n_rows,).
        rows: Means of cells.
        sets: Flags of the cells to take a maximum over, each of shape (n_cells,); their errors are above 0.
        n_draws: Number of draws.
        rng: Source of the signs, which are assigned to clusters in the order of their numbers.
    """
    bits = rng.integers(0, 256, size=(groups.n_clusters, (n_draws + 7) // 8), dtype=np.uint8)
    signs = _Source(groups, bits, n_draws, several=_several(groups, cells))
    own = _pass(signs, cells, se[0], rows, sets)
    se_boot = interquartile_errors(own.rows, groups.noise)
    if not signs.mixed.any():
        return Draws(own.se_boot, own.largest, RowDraws(se_boot, _scores(own.rows, se[1])))
    mixed = _pass(replace(signs, normal=int(rng.integers(2**62))), cells, None, rows, sets)
    varies = np.where(se[1] > 0, np.sqrt((mixed.rows**2).mean(1)), 0.0)
    return Draws(own.se_boot, mixed.largest, RowDraws(se_boot, _scores(mixed.rows, varies)))


def _several(groups: Groups, cells: Contrasts) -> bool:
    return bool((cells.controls_from < len(groups.first) - 1).any())


def _scores(draws: Floats, se: Floats) -> Floats:
    """Return |draw| / se, 0 where there is no error."""
    found = np.zeros_like(draws)
    np.divide(np.abs(draws), se[:, None], out=found, where=se[:, None] > 0)
    return found


@dataclass(frozen=True, slots=True)
class _Pass:
    """Result of one pass over all cells, see `Draws`; `rows` are the draws of the means."""

    se_boot: Floats
    largest: Floats
    rows: Floats


def _pass(source: "_Source", cells: Contrasts, se: Floats | None, rows: Rows, sets: list[Bools]) -> _Pass:
    """Draw all cells and their means once; without `se`, cells are divided by their root mean squares."""
    from scipy.sparse import csr_array

    groups, n_draws = source.groups, source.n_draws
    weights = csr_array((rows.weight, (rows.row, rows.cell)), shape=(len(rows), len(cells))).tocsc()
    se_boot, largest = np.zeros(len(cells)), np.zeros((len(sets), n_draws))
    means = np.zeros((len(rows), n_draws))
    at_once = max(1, _BLOCK // n_draws)
    for first in range(0, len(cells), at_once):
        block = slice(first, min(first + at_once, len(cells)))
        drawn = np.empty((block.stop - first, n_draws))
        for columns, signed in source.sums():
            drawn[:, columns] = _drawn_cells(groups, cells, block, signed)
            if first == 0:
                means[:, columns] += rows.drift @ signed.items
        means += weights[:, block] @ drawn
        if se is not None:
            se_boot[block] = interquartile_errors(drawn, groups.noise)
        scale = np.sqrt((drawn**2).mean(1)) if se is None else se[block]
        for maximum, chosen in zip(largest, sets, strict=True):
            use = np.flatnonzero(chosen[block])
            if len(use):
                np.maximum(maximum, (np.abs(drawn[use]) / scale[use, None]).max(0), out=maximum)
    return _Pass(se_boot, largest, means)


def interquartile_errors(draws: Floats, noise: float) -> Floats:
    """Return the interquartile range of the last axis over that of a standard normal; 0 if within noise."""
    quarter, three = place_of(draws.shape[-1], 0.25), place_of(draws.shape[-1], 0.75)
    parted = np.partition(draws, (quarter, three), axis=-1)
    errors = (parted[..., three] - parted[..., quarter]) / _QUARTILES
    return np.where(errors > noise, errors, 0.0)


@dataclass(frozen=True, slots=True)
class _Signed:
    """Sums of columns times signs over groups, and over each group and all later ones.

    Attributes:
        values: Sums over each group, shape (n_groups, n_columns, n_draws).
        later: Sums of `values` over each group and all later ones; `values` itself if controls are always the
            last group alone.
    """

    values: Floats
    later: Floats

    @property
    def items(self) -> Floats:
        """Sums of the signs of each group's items, shape (n_groups, n_draws)."""
        return self.values[:, -1]


@dataclass(frozen=True, slots=True)
class _Source:
    """The source of draws.

    Attributes:
        groups: The items.
        bits: Signs of the clusters, eight draws to a byte, shape (n_clusters, n_bytes).
        n_draws: Number of draws.
        several: Whether some cells have controls outside the last group.
        normal: Seed of the normal draws; None to use signs alone.
    """

    groups: Groups
    bits: NDArray[np.uint8]
    n_draws: int
    several: bool
    normal: int | None = None

    @property
    def mixed(self) -> Floats:
        """Share of the normal draws in the variance of each group, shape (n_groups,)."""
        freedom = self.groups.sizes.leverage().freedom
        return np.asarray(np.maximum(0.0, 1 - freedom / OWN_FREEDOM))

    def sums(self) -> Iterator[tuple[slice, _Signed]]:
        """Yield slices of the draws, and their sums."""
        groups = self.groups
        n_groups, n_columns = len(groups.first), groups.values.shape[1]
        widest = max(len(groups.cluster), (1 + self.several) * n_groups * n_columns)
        bytes_at_once = max(1, _SIGNS // (8 * widest))
        smooth = None if self.normal is None else _Normal.of(groups, self.mixed, self.normal)
        for first in range(0, self.bits.shape[1], bytes_at_once):
            columns = slice(8 * first, min(8 * (first + bytes_at_once), self.n_draws))
            packed = self.bits[groups.cluster, first : first + bytes_at_once]
            drawn = np.unpackbits(packed, axis=1, count=columns.stop - columns.start)
            signs: Floats = 1.0 - 2.0 * drawn.astype(np.float64)
            values = np.empty((n_groups, n_columns, signs.shape[1]))
            for group in range(n_groups):
                parts = groups.parts(group)
                product(groups.values[parts].T, signs[parts], values[group])
            if smooth is not None:
                smooth.mix(values)
            later = np.cumsum(values[::-1], axis=0)[::-1] if self.several else values
            yield columns, _Signed(values, later)


@dataclass(frozen=True, slots=True)
class _Normal:
    """Normal draws of groups, and how they are mixed with the draws from signs of items.

    Attributes:
        root: L, shape (n_periods, n_periods): the symmetric root of the pooled products of changes.
        mean: Mean changes of each group, shape (n_groups, n_periods).
        own: Factor of the draws from signs of items, shape (n_groups,).
        scale: Factor of L z, shape (n_groups,).
        items: Factor of the normal draw for the column of the number of items, shape (n_groups,).
        rng: Source of z, used draw by draw, so that the size of the blocks does not matter.
    """

    root: Floats
    mean: Floats
    own: Floats
    scale: Floats
    items: Floats
    rng: np.random.Generator

    @classmethod
    def of(cls, groups: Groups, mixed: Floats, seed: int) -> "_Normal":
        """Prepare the normal draws of a pass."""
        changes = groups.n_periods
        variances, directions = np.linalg.eigh(groups.pooled[:changes, :changes])
        roots = np.sqrt(np.maximum(variances, 0.0))
        factor = groups.sizes.leverage().factor
        return cls(
            root=(directions * roots) @ directions.T,
            mean=groups.mean[:, :changes],
            own=np.sqrt((1 - mixed) * factor),
            scale=np.sqrt(mixed * factor * groups.spread),
            items=np.sqrt(mixed * groups.sizes.squared),
            rng=np.random.default_rng(seed),
        )

    def mix(self, values: Floats) -> None:
        """Mix normal draws into those of the items, in place; shape (n_groups, n_columns, n_draws).

        Cells compare changes and do not use the origin, so it gets no normal draws.
        """
        n_groups, _, n_draws = values.shape
        changes = len(self.root)
        z = self.rng.standard_normal((n_draws, n_groups, changes + 1))
        for group in np.flatnonzero(self.scale > 0).tolist():
            items = self.items[group] * z[:, group, -1]
            values[group] *= self.own[group]
            values[group, :changes] += self.scale[group] * product(self.root, z[:, group, :-1].T)
            values[group, :changes] += self.mean[group][:, None] * items
            values[group, -1] += items


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
    # In a cell before treatment, the cohort itself is among the later groups, but is not a control.
    control[inside] -= treated[inside] - control_mean[inside] * signed.items[own[inside]]
    treated -= cells.own_mean[block][:, None] * signed.items[own]
    treated /= groups.size[own][:, None]
    control /= cells.n_control[block][:, None]
    treated -= control
    return treated
