"""Items of a panel by cohort, summed by cluster, and sums of squares of linear functions of these sums.

The influence of a cluster on an estimate is linear in its sums of outcomes, so clusters are summed once. The
squared influences, summed over a cohort, follow from the products of all pairs of periods, which are computed
once for all estimates. Where these products nearly cancel, the clusters are processed one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.did.sizes import Sizes

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]

# First treated period of items that are never treated: after every period.
FOREVER = int(np.iinfo(np.int64).max)
# A value is accurate to half a unit in the last place; a difference, a centring and a sum add to the error.
_ROUNDINGS = 16
# Most multiplications in one matrix product. OpenBLAS splits more than 2^18 among its threads, which on a
# busy machine wait for each other far longer than a small product takes.
_ALONE, _FEWEST_COLUMNS = 250_000, 8
# Most numbers that the products of pairs of periods may take up.
_MOMENTS = 32_000_000
# A sum of squares that is this share of the size of its terms has lost 4 of 16 digits.
_ENOUGH_DIGITS = 1e-4


@dataclass(frozen=True, slots=True)
class Groups:
    """A panel whose items are grouped by the period in which they are first treated.

    A part is all items of one cluster in one group: a single item if items are their own clusters. Columns
    are the periods, then the origin, then the number of items. The origin is defined such that period minus
    origin is the outcome itself (up to a constant of the period).

    Attributes:
        first: First treated period of each group, rising, shape (n_groups,); FOREVER for the never treated.
        size: Number of items in each group, shape (n_groups,).
        mean: Mean of the change since the first period, and of the origin, in each group, shape
            (n_groups, n_periods + 1).
        start: The parts of group h are those from `start[h]` to before `start[h + 1]`.
        values: Columns summed over the items of each part, shape (n_parts, n_columns).
        moments: Products of columns summed over parts, shape (n_groups, n_columns, n_columns); None if
            clusters have parts in several groups, or if it would be too large.
        cluster: Cluster of each part, 0 to n_clusters - 1, shape (n_parts,).
        n_clusters: Number of clusters.
        nested: Whether no cluster has parts in two groups.
        noise: A standard error up to this is a rounding error of zero.
        sizes: Sizes of the parts of each group.
        pooled: Products of columns, centred on the means of their groups, summed over the groups in use,
            shape (n_columns, n_columns); the expected variation of items of any group, up to a factor.
        overlap: Products of the numbers of items that a cluster has in two groups, summed over clusters,
            shape (n_groups, n_groups); None if no cluster has parts in two groups.
        spread: Ratio of each group's squares to the pooled ones, averaged over the periods, shape
            (n_groups,).
    """

    first: Whole
    size: Floats
    mean: Floats
    start: Whole
    values: Floats
    moments: Floats | None
    cluster: Whole
    n_clusters: int
    nested: bool
    noise: float
    sizes: Sizes
    pooled: Floats
    spread: Floats
    overlap: Floats | None

    def parts(self, group: int) -> slice:
        """Return the slice of the parts of a group."""
        return slice(int(self.start[group]), int(self.start[group + 1]))

    def expected_spread(self, sizes: Floats) -> Floats:
        """Return how much more the treated vary than the last group, at least 1, shape (n_groups,).

        All treated groups share one factor, since that of a group of three items would be mostly chance.

        Args:
            sizes: Sizes to which the squares of the groups are assumed to be proportional, shape (n_groups,).
        """
        leverage = self.sizes.leverage()
        unit = self.spread * leverage.factor / sizes
        treated = np.arange(len(self.first)) < len(self.first) - 1
        shows = treated & (self.n_parts > 1) & (self.spread > 0)
        found = np.ones(len(self.first))
        if shows.any() and self.n_parts[-1] > 1 and unit[-1] > 0:
            of_treated = np.average(unit[shows], weights=leverage.freedom[shows])
            found[:-1] = max(1.0, float(of_treated / unit[-1]))
        return found

    @property
    def n_parts(self) -> Whole:
        """Number of clusters that have items in each group, shape (n_groups,)."""
        return np.diff(self.start)

    @property
    def n_periods(self) -> int:
        """Number of periods; also the index of the origin's column."""
        return int(self.mean.shape[1]) - 1


def arrange(y: Floats, first: Whole, clusters: Whole | None) -> Groups:
    """Sort items into groups.

    Args:
        y: Outcomes, shape (n_items, n_periods).
        first: First treated period of each item, or FOREVER.
        clusters: Cluster number of each item, 0 to n_clusters - 1; None if every item is its own cluster.
    """
    names = np.arange(len(y)) if clusters is None else clusters
    order = np.lexsort((names, first))
    first, names = first[order], names[order]
    new_group = np.append(True, first[1:] != first[:-1])
    begin = np.flatnonzero(new_group)
    size = np.diff(np.append(begin, len(first)))
    columns = _columns(y[order], size)
    begin_of_part = np.flatnonzero(new_group | np.append(True, names[1:] != names[:-1]))
    values = columns if len(begin_of_part) == len(first) else np.add.reduceat(columns, begin_of_part, axis=0)
    start = np.append(np.searchsorted(begin_of_part, begin), len(values))
    cluster = names[begin_of_part]
    nested = clusters is None or len(np.unique(cluster)) == len(cluster)
    within = len(size) * values.shape[1] ** 2 <= _MOMENTS
    mean = (np.add.reduceat(values, start[:-1], axis=0) / size[:, None])[:, :-1]
    pooled, spread = _pooled(_centred(values, start, mean), start, y.shape[1])
    return Groups(
        first=first[begin],
        size=size.astype(np.float64),
        mean=mean,
        start=start,
        values=values,
        moments=_moments(values, start) if nested and within else None,
        cluster=cluster,
        n_clusters=int(names.max()) + 1,
        nested=nested,
        noise=_ROUNDINGS * float(np.finfo(np.float64).eps) * float(np.abs(y).max()),
        sizes=Sizes.of(values[:, -1], start[:-1]),
        pooled=pooled,
        overlap=None if nested else _overlap(values[:, -1], start, cluster),
        spread=spread,
    )


def pooled_over(groups: Groups, kept: Bools) -> Groups:
    """Return the groups with `pooled` and `spread` computed over `kept`, flags of shape (n_groups,)."""
    if kept.all():
        return groups
    centred = _centred(groups.values, groups.start, groups.mean) * np.repeat(kept, groups.n_parts)[:, None]
    pooled, spread = _pooled(centred, groups.start, groups.n_periods)
    return replace(groups, pooled=pooled, spread=spread)


def _pooled(centred: Floats, start: Whole, n_periods: int) -> tuple[Floats, Floats]:
    pooled = product(centred.T, centred)
    return pooled, _spread(centred[:, :n_periods], start, np.diagonal(pooled))


def _centred(values: Floats, start: Whole, mean: Floats) -> Floats:
    """Return the columns of the parts, centred on the means of their groups."""
    whole = np.column_stack([mean, np.ones(len(mean))])
    return np.asarray(values - values[:, -1:] * np.repeat(whole, np.diff(start), axis=0))


def _overlap(n_items: Floats, start: Whole, cluster: Whole) -> Floats:
    """Return the products of each cluster's numbers of items in two groups, summed over clusters."""
    from scipy.sparse import csr_array

    group = np.repeat(np.arange(len(start) - 1), np.diff(start))
    counts = csr_array((n_items, (group, cluster)))
    return np.asarray((counts @ counts.T).toarray())


def _spread(centred: Floats, start: Whole, pooled: Floats) -> Floats:
    """Return the ratio of each group's squares to those of all, averaged over the periods that vary."""
    varies = np.flatnonzero(pooled[: centred.shape[1]] > 0)
    if not len(varies):
        return np.zeros(len(start) - 1)
    squares = np.add.reduceat(centred[:, varies] ** 2, start[:-1], axis=0)
    return np.asarray((squares / pooled[varies]).mean(1))


def _columns(y: Floats, size: Whole) -> Floats:
    """Return the change since the first period, the origin and 1 for each item; the last group's mean is 0.

    An item's own level and the changes common to all controls cancel in every contrast. They are subtracted
    here so that no digits are lost.
    """
    columns = np.empty((len(y), y.shape[1] + 2))
    np.subtract(y, y[:, :1], out=columns[:, :-2])
    # Not np.negative with `out`: numpy 2.4 gives wrong numbers for some pairs of strides, as with 8 periods.
    columns[:, -2] = 0.0 - y[:, 0]
    columns[:, :-1] -= columns[len(y) - size[-1] :, :-1].mean(0)
    columns[:, -1] = 1.0
    return columns


def _moments(values: Floats, start: Whole) -> Floats:
    n_columns = values.shape[1]
    found = np.empty((len(start) - 1, n_columns, n_columns))
    for group in range(len(found)):
        part = values[start[group] : start[group + 1]]
        product(part.T, part, found[group])
    return found


def product(left: Floats, right: Floats, out: Floats | None = None) -> Floats:
    """Return the matrix product, computed in pieces of `right` that are too small to use several threads."""
    (rows, inner), columns = left.shape, right.shape[1]
    found = np.empty((rows, columns)) if out is None else out
    step = _ALONE // (rows * inner)
    # Pieces of fewer columns than this are slow, and such a large product is worth several threads.
    if step < _FEWEST_COLUMNS:
        step = columns
    for first in range(0, columns, step):
        np.matmul(left, right[:, first : first + step], out=found[:, first : first + step])
    return found


def enough_digits(squares: Floats, terms: Floats) -> Bools:
    """Return whether sums of squares have enough correct digits, given the size of their terms."""
    return np.asarray(squares >= _ENOUGH_DIGITS * terms)


def summed_squares(groups: Groups, slopes: Floats) -> tuple[Floats, Floats]:
    """Return the summed squares of the influence of clusters, and of the parts of each group.

    Args:
        groups: The items.
        slopes: Slopes of each estimate in the columns of each group, shape (n_groups, n, n_columns).

    Returns:
        The sums over clusters, shape (n,), and over the parts of each group, shape (n_groups, n); the latter
        add up to the former if clusters are nested.
    """
    n_groups, n, _ = slopes.shape
    parts, exact = np.zeros((n_groups, n)), np.ones(n, dtype=np.bool_)
    if groups.moments is not None:
        parts = np.maximum(((slopes @ groups.moments) * slopes).sum(2), 0.0)
        roots = np.sqrt(np.diagonal(groups.moments, axis1=1, axis2=2))
        terms = (np.abs(slopes) @ roots[:, :, None])[:, :, 0] ** 2
        exact = ~enough_digits(parts.sum(0), terms.sum(0))
    total = parts.sum(0)
    rows = np.flatnonzero(exact)
    if len(rows):
        total[rows] = 0.0
        for found in cluster_influence(groups, slopes[:, rows]):
            total[rows] += np.einsum("ij,ij->j", found, found)
        for group in range(n_groups):
            found = product(groups.values[groups.parts(group)], slopes[group, rows].T)
            parts[group, rows] = np.einsum("ij,ij->j", found, found)
    return total, parts


def cluster_influence(groups: Groups, slopes: Floats) -> Iterator[Floats]:
    """Yield the influence of clusters on estimates, shape (some clusters, n), with each cluster once.

    Args:
        groups: The items.
        slopes: As in `summed_squares`.
    """
    together = None if groups.nested else np.zeros((groups.n_clusters, slopes.shape[1]))
    for group in np.flatnonzero(slopes.any((1, 2))).tolist():
        found = product(groups.values[groups.parts(group)], slopes[group].T)
        if together is None:
            yield found
        else:
            together[groups.cluster[groups.parts(group)]] += found
    if together is not None:
        yield together


def expected_squares(groups: Groups, slopes: Floats) -> Floats:
    """Return the expected square of one item's influence if all groups were alike.

    Args:
        groups: The items.
        slopes: As in `summed_squares`.

    Returns:
        Expected squares up to a factor, shape (n_groups, n).
    """
    return np.asarray(np.maximum(((slopes @ groups.pooled) * slopes).sum(2), 0.0))


def shared_freedom(groups: Groups, expected: Floats) -> Floats | None:
    """Return the degrees of freedom if clusters have parts in several groups; None if they do not.

        (sum_c w_c)^2 / sum_c w_c^2 - 1,  w_c = sum_h n_ch q_h

    Samples that share clusters are not independent: five clusters with treated and control items each give
    five differences. w_c is the expected contribution of cluster c to the variance, so this is the
    effective number of clusters, minus one: Carter, Schnepel and Steigerwald (2017),
    https://doi.org/10.1162/REST_a_00639.

    Args:
        groups: The items.
        expected: Expected square q of one item's influence, up to a factor, shape (n_groups, n).
    """
    if groups.overlap is None:
        return None
    whole = (groups.size @ expected) ** 2
    squares = (expected * (groups.overlap @ expected)).sum(0)
    found = np.full(expected.shape[1], np.inf)
    np.divide(whole, squares, out=found, where=squares > 0)
    return found - 1
