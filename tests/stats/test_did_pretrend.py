"""Tests of no difference before treatment.

Rungs: slow recomputation with a pseudo-inverse of the full matrix, hand arithmetic, invariances,
undefined cases. How often they reject a true null is printed by test_did_simulation.py.
"""

import numpy as np
import pytest
from scipy.stats import chi2, f, ttest_ind

from memprobe.stats.did import Design, profile
from memprobe.stats.did.sizes import Sizes

# An eigenvalue decomposition against a pseudo-inverse of the same matrix.
RTOL = 1e-7


def world(size: int = 60, n_periods: int = 6, seed: int = 0):
    g = np.random.default_rng(seed)
    cohort = np.repeat([2, 3, 4, 0], [size, size, size, 80])
    never = np.arange(len(cohort)) >= 3 * size
    y = g.normal(size=(len(cohort), 1)) + g.normal(size=(len(cohort), n_periods)).cumsum(1)
    return y, cohort, never


def estimate(y, cohort, never, *, clusters=None, n_draws=100, **design):
    rng = np.random.default_rng(0)
    return profile(
        y, cohort, never=never, rng=rng, clusters=clusters, design=Design(**design), n_draws=n_draws
    )


def influence(y, cohort, never, found, clusters=None) -> np.ndarray:
    """One vector over clusters for each cell, shape (n_cells, n_clusters)."""
    first = np.where(never, 99, cohort)
    psi = []
    for g, t, b in zip(found.cells.cohort, found.cells.period, found.cells.base, strict=True):
        treated, change = first == g, y[:, t] - y[:, b]
        own = treated / treated.sum() * (change - change[treated].mean())
        psi.append(own - never / never.sum() * (change - change[never].mean()))
    psi = np.array(psi)
    if clusters is None:
        return psi
    return np.stack([psi[:, clusters == name].sum(1) for name in np.unique(clusters)], axis=1)


def unbiased(y, cohort, never, found, clusters, use):
    """The covariance of some cells, and the part and the freedom of each sample."""
    first = np.where(never, 99, cohort)
    alone = influence(y, cohort, never, found)[use]
    parts = []
    for name in np.unique(first):
        vectors = alone * (first == name)
        if clusters is None:
            sample = Sizes.of(np.ones((first == name).sum()), np.array([0])).leverage()
        else:
            vectors = np.stack([vectors[:, clusters == c].sum(1) for c in np.unique(clusters)], axis=1)
            counts = np.unique(clusters[first == name], return_counts=True)[1]
            sample = Sizes.of(counts.astype(float), np.array([0])).leverage()
        parts.append((vectors @ vectors.T, sample.factor[0], sample.freedom[0]))
    if clusters is None:
        scaled = [(part * factor, freedom) for part, factor, freedom in parts]
        return sum(part for part, _ in scaled), scaled
    # Clusters of several samples: their own covariance, with the factor of the samples on average.
    raw = sum(np.trace(part) for part, _, _ in parts)
    whole = sum(np.trace(part) * factor for part, factor, _ in parts)
    vectors = influence(y, cohort, never, found, clusters)[use]
    scaled = [(part * factor, freedom) for part, factor, freedom in parts]
    return vectors @ vectors.T * (whole / raw), scaled


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("base", ["varying", "universal"])
def test_wald_is_that_of_the_full_matrix(base, crossing) -> None:
    y, cohort, never = world()
    clusters = np.random.default_rng(1).permutation(len(y)) // 2 if crossing else None
    found = estimate(y, cohort, never, clusters=clusters, base=base)
    cells = found.cells
    use = np.flatnonzero((cells.event_time < 0) & (cells.period != cells.base))
    value = cells.att.value[use]
    covariance, parts = unbiased(y, cohort, never, found, clusters, use)
    wald = value @ np.linalg.pinv(covariance) @ value
    # Cohorts 2, 3 and 4 have 1, 2 and 3 cells before treatment.
    assert (found.pretrend.over, found.pretrend.n_tested, found.pretrend.n_cells) == ("cells", 6, 6)
    assert (found.pretrend.wald, found.pretrend.df) == (pytest.approx(wald, rel=RTOL), 6)
    # Krishnamoorthy and Yu (2004), equation 2.5: traces of S_h S^-1, on the freedom of each sample.
    ratios = [part @ np.linalg.inv(covariance) for part, _ in parts]
    squares = [np.trace(r @ r) + np.trace(r) ** 2 for r in ratios]
    nu = 6 * 7 / sum(s / freedom for s, (_, freedom) in zip(squares, parts, strict=True))
    assert found.pretrend.p_value == pytest.approx(f.sf(wald * (nu - 5) / (nu * 6), 6, nu - 5), rel=1e-6)
    assert found.pretrend.p_value > chi2.sf(wald, 6)
    assert found.pretrend.reason is None


def test_wald_of_one_cell_is_its_squared_t_value() -> None:
    y, cohort, never = world()
    one = (cohort == 2) | never
    found = estimate(y[one], cohort[one], never[one])
    att = found.cells.att
    change = y[:, 1] - y[:, 0]
    theirs = ttest_ind(change[one & ~never], change[never], equal_var=False)
    assert found.pretrend.wald == pytest.approx(theirs.statistic**2, rel=RTOL)
    # Of one cell nu is Satterthwaite's, and F the square of Student's t.
    assert found.pretrend.p_value == pytest.approx(theirs.pvalue, rel=RTOL)
    # 60 and 80 items: hardly less than its t value.
    assert found.pretrend.sup_t == pytest.approx(abs(att.value[0]) / att.se[0], rel=0.03)
    assert found.pretrend.sup_t < abs(att.value[0]) / att.se[0]
    assert found.pretrend.df == 1


def test_cells_that_repeat_each_other_count_once() -> None:
    y, cohort, never = world()
    # Two periods with the same outcomes, both compared with the same base.
    twice = np.column_stack([y[:, :1], y])
    one = estimate(y, cohort, never, base="universal").pretrend
    other = estimate(twice, cohort + 1, never, base="universal").pretrend
    assert (one.n_tested, one.df) == (6, 6)
    assert (other.n_tested, other.df) == (9, 6)
    assert other.wald == pytest.approx(one.wald, rel=RTOL)
    assert other.sup_t == pytest.approx(one.sup_t, rel=RTOL)
    # With a varying base the repeated period is a cell without variance.
    still = estimate(twice, cohort + 1, never).pretrend
    assert (still.n_tested, still.n_cells, still.df) == (6, 6, 6)


def test_wald_does_not_depend_on_the_unit_nor_on_the_kind_of_base() -> None:
    y, cohort, never = world()
    one, small, universal = (
        estimate(y, cohort, never).pretrend,
        estimate(y * 1e-6, cohort, never).pretrend,
        estimate(y, cohort, never, base="universal").pretrend,
    )
    # Long differences are sums of short ones: the same hypothesis, the same statistic.
    assert one.wald == pytest.approx(universal.wald, rel=RTOL)
    assert one.wald == pytest.approx(small.wald, rel=RTOL)


def test_anticipated_periods_are_not_tested() -> None:
    y, cohort, never = world()
    y[:, 1:] += ((cohort == 2) & ~never)[:, None] * 9.0
    # Cohort 2 rises one period early.
    naive = estimate(y, cohort, never).pretrend
    wary = estimate(y, cohort, never, anticipation=1).pretrend
    assert naive.p_value < 1e-9
    assert naive.sup_t_p_value == pytest.approx(1 / 101)
    # What is left before treatment: nothing of cohort 2, (3, 1), (4, 1), (4, 2).
    assert wary.n_cells == 3
    assert wary.p_value > 0.001


def test_few_clusters_are_asked_about_event_times_instead() -> None:
    # 9 clusters a cohort carry no cell of the latest cohort; event times -1 to -3 have 27, 18 and 9
    # treated clusters, and need 10, 20 and 30.
    y, cohort, never = world(size=9)
    found = estimate(y, cohort, never)
    event = found.aggregations["event"]
    minus_one = event.key.tolist().index(-1)
    raw = event.estimates.value[minus_one] / event.estimates.se[minus_one]
    assert (found.pretrend.over, found.pretrend.n_tested, found.pretrend.df) == ("event", 1, 1)
    # Cohorts of 9, with 9 / 8 of their squares, and 80 controls with 80 / 79.
    assert 80 / 79 < raw**2 / found.pretrend.wald < 9 / 8
    # 15 a cohort: 45, 30 and 15 clusters carry -1 and -2, not -3.
    y, cohort, never = world(size=15)
    assert estimate(y, cohort, never).pretrend.n_tested == 2
    universal = estimate(y, cohort, never, base="universal").pretrend
    # Event time -1 is the base itself; -2 to -4 have 45, 30 and 15 clusters, and need 10, 20 and 30.
    assert (universal.over, universal.n_tested, universal.df) == ("event", 2, 2)


def test_without_clusters_for_any_there_is_a_reason_and_no_statistic() -> None:
    y, cohort, never = world(size=3)
    found = estimate(y, cohort, never).pretrend
    assert (found.wald, found.df, found.p_value, found.over) == (None, None, None, None)
    assert "fewer than 10 clusters" in found.reason
    assert found.n_cells == 6
    assert found.sup_t > 0


def test_without_cells_before_treatment_there_is_a_reason() -> None:
    y, cohort, never = world()
    found = estimate(y, np.ones_like(cohort), never).pretrend
    assert (found.wald, found.sup_t, found.sup_t_p_value, found.n_cells) == (None, None, None, 0)
    assert found.reason == "no cell before treatment varies"
