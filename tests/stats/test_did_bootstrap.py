"""Multiplier bootstrap of difference-in-differences: standard errors, critical values, bands.

Rungs: slow recomputation with one influence vector per estimate and the same signs, hand arithmetic,
invariances, undefined cases. What the bands promise is checked in test_did_simulation.py.
"""

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from scipy.stats import t as students_t

from memprobe.stats.behrens_fisher import mixed_quantile
from memprobe.stats.did import Design, aggregate, multiplier, profile
from memprobe.stats.did.errors import Errors, errors_from
from memprobe.stats.did.estimates import ranked, with_bands
from memprobe.stats.did.sizes import Leverage

# Both sides do the same sums in float64, in another order.
RTOL = 1e-9
# Interquartile range of a standard normal: 2 * 0.6744897501960817.
NORMAL_IQR = 1.3489795003921634


def world(seed: int = 0, *, clustered: bool = False, n_periods: int = 5):
    g = np.random.default_rng(seed)
    cohort = np.repeat([1, 2, 3, 0], [9, 12, 8, 15])
    never = np.arange(len(cohort)) >= 29
    y = g.normal(size=(len(cohort), 1)) + g.normal(size=(len(cohort), n_periods)).cumsum(1)
    clusters = g.choice(11, len(cohort), p=np.arange(1, 12) / 66) if clustered else None
    return y, cohort, never, clusters


def estimate(data, *, n_draws: int = 200, seed: int = 0, **design):
    y, cohort, never, clusters = data
    rng = np.random.default_rng(seed)
    return profile(
        y, cohort, never=never, rng=rng, clusters=clusters, design=Design(**design), n_draws=n_draws
    )


def slow_draws(data, found, n_draws: int, seed: int = 0, control: str = "never"):
    """Draws of each cell, and of the mean over event time 0: (1 / n) sum of v_i psi_i."""
    y, cohort, never, clusters = data
    n = len(y)
    names = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    bits = np.random.default_rng(seed).integers(0, 256, (names.max() + 1, -(-n_draws // 8)), dtype=np.uint8)
    signs = (1.0 - 2 * np.unpackbits(bits, axis=1, count=n_draws))[names]
    first = np.where(never, 99, cohort)
    psi = []
    for g, t, b in zip(found.cells.cohort, found.cells.period, found.cells.base, strict=True):
        treated, change = first == g, y[:, t] - y[:, b]
        others = never if control == "never" else (first > max(t, b)) & ~treated
        own = treated / treated.mean() * (change - change[treated].mean())
        psi.append(own - others / others.mean() * (change - change[others].mean()))
    psi = np.array(psi)
    at = np.flatnonzero(found.cells.event_time == 0)
    inside = np.array([first == g for g in found.cells.cohort[at]])
    weight = inside.mean(1) / inside.mean(1).sum()
    value = found.cells.att.value[at]
    event = weight @ psi[at] + (value - weight @ value) @ inside / inside.mean(1).sum()
    return psi @ signs / n, event @ signs / n


def quantile(draws: np.ndarray, share: float) -> np.ndarray:
    return np.quantile(draws, share, axis=-1, method="inverted_cdf")


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_errors_and_critical_values_are_those_of_the_draws(monkeypatch, clustered, control) -> None:
    # Draws of signs alone.
    monkeypatch.setattr(multiplier, "OWN_FREEDOM", 1e-9)
    data = world(clustered=clustered)
    # Not a whole number of bytes.
    found = estimate(data, n_draws=203, control=control)
    cells, event = slow_draws(data, found, 203, control=control)
    att = found.cells.att
    iqr = quantile(cells, 0.75) - quantile(cells, 0.25)
    assert att.se_boot == pytest.approx(iqr / NORMAL_IQR, rel=RTOL)
    largest = (np.abs(cells) / att.se[:, None]).max(0)
    assert att.critical == pytest.approx(quantile(largest, 0.95), rel=RTOL)
    assert att.hi_sim - att.value == pytest.approx(att.value - att.lo_sim, rel=RTOL)
    # Student's t is wider than the normal, and more so the larger the critical value.
    assert ((att.hi_sim - att.value) / att.se > att.critical).all()
    mean = found.aggregations["event"]
    iqr = quantile(event, 0.75) - quantile(event, 0.25)
    at = mean.key.tolist().index(0)
    assert mean.estimates.se_boot[at] == pytest.approx(iqr / NORMAL_IQR, rel=RTOL)
    # The sup-t p value counts the draws over the cells before treatment alone.
    before = found.cells.event_time < 0
    sup_t = found.pretrend.sup_t
    assert 0 < sup_t < (np.abs(att.value) / att.se)[before].max()
    largest = (np.abs(cells) / att.se[:, None])[before].max(0)
    assert found.pretrend.sup_t_p_value == pytest.approx((1 + (largest >= sup_t).sum()) / 204, rel=RTOL)


def test_the_draws_of_a_single_row_have_the_pointwise_quantile() -> None:
    found = estimate(world(), n_draws=20_000)
    simple = found.aggregations["simple"].estimates
    # The 95% quantile of |draw| / se of 20,000 draws has an error of 0.016; 5 of them.
    assert simple.critical == pytest.approx(1.96, abs=0.08)
    assert simple.se_boot == pytest.approx(simple.se, rel=0.05)


def test_bands_are_wider_than_intervals_and_widen_with_the_level() -> None:
    data = world()
    att = estimate(data).cells.att
    assert (att.lo_sim < att.lo).all()
    assert (att.hi_sim > att.hi).all()
    # Wider than 1.96 errors of few items, and the more so the fewer.
    assert ((att.hi - att.value) / att.se > 2.05).all()
    y, cohort, never, _ = data
    rng = np.random.default_rng(0)
    narrow = profile(y, cohort, never=never, rng=rng, level=0.8, n_draws=200).cells.att
    assert (narrow.hi < att.hi).all()
    assert narrow.critical < att.critical


def test_the_band_of_a_family_is_over_its_own_rows() -> None:
    found = estimate(world(), n_draws=2000)
    critical = {kind: mean.estimates.critical for kind, mean in found.aggregations.items()}
    assert critical["simple"] < critical["cohort"] < critical["event"] < found.cells.att.critical


@pytest.mark.parametrize("control", ["never", "not_yet"])
@pytest.mark.parametrize("clustered", [False, True])
def test_blocks_change_nothing(monkeypatch, clustered, control) -> None:
    data = world(clustered=clustered)
    one = estimate(data, control=control)
    # Blocks of 8 draws, of 2 cells and of few rows.
    monkeypatch.setattr(multiplier, "_BLOCK", 450)
    monkeypatch.setattr(multiplier, "_SIGNS", 450)
    monkeypatch.setattr(aggregate, "_BLOCK", 60)
    other = estimate(data, control=control)
    assert one.cells.att.se_boot == pytest.approx(other.cells.att.se_boot, rel=RTOL)
    assert one.cells.att.critical == pytest.approx(other.cells.att.critical, rel=RTOL)
    for kind, mean in one.aggregations.items():
        again = other.aggregations[kind].estimates
        assert mean.estimates.se == pytest.approx(again.se, rel=RTOL)
        assert mean.estimates.se_boot == pytest.approx(again.se_boot, rel=RTOL)
        assert mean.estimates.critical == pytest.approx(again.critical, rel=RTOL)


def test_zero_variance_cells_have_error_0_and_a_band_without_width() -> None:
    y = np.array(
        [
            *[(1, 3, 2.5, 2.2), (2, 4.4, 3.5, 3)],
            *[(0, 0.2, 2, 1.5), (1, 1.4, 3.2, 2.9), (2, 2, 4.1, 3.4)],
            *[(1, 1.2, 1.4, 1.6), (3, 3.4, 3.4, 3.8)],
        ]
    )
    found = estimate((y, np.array([1, 1, 2, 2, 2, 0, 0]), np.arange(7) >= 5, None))
    att = found.cells.att
    assert (att.se == 0).tolist() == [False, True, False, False, False, False]
    for name in ("lo", "hi", "lo_sim", "hi_sim", "value"):
        assert getattr(att, name)[1] == pytest.approx(1.1, rel=RTOL)
    assert att.se_boot[1] == 0.0
    # Of signs alone: treated +-a twice and controls +-b twice are at most 2a + 2b of an error of
    # sqrt(2 a^2 + 2 b^2), so 2, and with three treated sqrt(5) by Cauchy: too little for five cells.
    assert 2.3 < att.critical < 3.5
    assert (att.hi_sim - att.value)[[0, 2, 3, 4, 5]].min() > 0.1


def test_a_panel_without_any_variance_has_bands_without_width() -> None:
    y = np.add.outer(np.arange(8.0), [0.0, 1.0, 3.0])
    y[:4, 1:] += 0.7
    found = estimate((y, np.ones(8, int), np.arange(8) >= 4, None))
    att = found.cells.att
    assert att.value == pytest.approx([0.7, 0.7], rel=RTOL)
    assert att.se.tolist() == [0.0, 0.0]
    assert att.critical is None
    assert att.lo_sim.tolist() == att.hi_sim.tolist() == att.value.tolist()
    assert found.aggregations["event"].estimates.critical is None


def test_quartiles_that_fall_together_do_not_reach_the_critical_value() -> None:
    """Of two items, the draws of a cell are 0 half of the time, and so may be their quartiles."""
    g = np.random.default_rng(2)
    cohort = np.repeat([1, 2, 0], [2, 40, 60])
    never = np.arange(102) >= 42
    y = g.normal(size=(102, 4)) * 1e-3
    y[:2] *= 1e3
    found = [estimate((y, cohort, never, None), seed=seed).cells.att for seed in range(8)]
    assert min(att.se_boot[:3].min() / att.se[0] for att in found) < 0.05
    assert max(att.critical for att in found) < 4


def test_without_draws_there_are_no_bands() -> None:
    found = estimate(world(), n_draws=0)
    att = found.cells.att
    assert (att.se_boot, att.lo_sim, att.hi_sim, att.critical) == (None, None, None, None)
    assert att.nullable("lo_sim") == [None] * len(att)
    assert found.aggregations["event"].estimates.lo_sim is None
    assert found.pretrend.sup_t_p_value is None
    assert found.pretrend.sup_t > 0


def test_the_seed_alone_decides_the_draws() -> None:
    data = world()
    one, same, other = (estimate(data, seed=seed).cells.att for seed in (0, 0, 1))
    assert one.se_boot.tolist() == same.se_boot.tolist()
    assert one.se_boot.tolist() != other.se_boot.tolist()
    assert one.se.tolist() == other.se.tolist()


def test_ranked_draws_by_hand() -> None:
    draws = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0, 10.0])
    assert [ranked(draws, share) for share in (0.1, 0.25, 0.7, 0.95)] == [1.0, 3.0, 7.0, 10.0]
    # 0.07 * 100 is 7.000000000000001 in binary.
    assert ranked(np.arange(1.0, 101.0), 0.07) == 7.0


def test_bands_by_hand() -> None:
    found = with_bands(
        np.array([1.0, 2.0]),
        Errors(np.array([0.5, 0.0]), np.array([1.5, 1.0]), np.array([1.0, 1.0])),
        np.array([True, True]),
        0.9,
        np.array([0.4, 0.0]),
        np.array([1.0, 2.2, 2.0, 2.5]),
    )
    # 90% of 4 draws: all of them. A normal one is above 2.5 with probability 0.00620967; of 1 degree of
    # freedom that is at 1 / tan(pi 0.00620967) = 51.2533; times 0.5 times 1.5.
    assert found.critical == 2.5
    assert found.hi_sim == pytest.approx([1 + 38.440, 2.0], abs=1e-3)
    assert found.lo_sim == pytest.approx([1 - 38.440, 2.0], abs=1e-3)
    # Student's t of 1 degree of freedom at 0.95 is 6.313752; times 0.5 times 1.5.
    assert found.hi == pytest.approx([5.735314, 2.0], abs=1e-6)


def two_samples(seed: int, n: int, m: int, *, sd: float = 1.0):
    """A difference of means, its errors, and the two samples."""
    g = np.random.default_rng(seed)
    treated, control = g.normal(size=n) * sd, g.normal(size=m)
    parts = np.array([[((x - x.mean()) ** 2).sum() / len(x) ** 2] for x in (treated, control)])
    leverage = Leverage(np.array([[n / (n - 1)], [m / (m - 1)]]), np.array([[n - 1.0], [m - 1.0]]))
    errors = errors_from(parts.sum(0), parts, leverage, (np.array([[1 / n], [1 / m]]),), 0.0)
    return treated.mean() - control.mean(), errors, treated, control


def test_the_error_is_that_of_welch_and_its_freedom_that_of_his_second_paper() -> None:
    difference, errors, treated, control = two_samples(0, 7, 20, sd=3.0)
    theirs = ttest_ind(treated, control, equal_var=False)
    assert difference / errors.unbiased == pytest.approx([theirs.statistic], rel=RTOL)
    v, w = treated.var(ddof=1) / 7, control.var(ddof=1) / 20
    assert errors.freedom == pytest.approx([(v + w) ** 2 / (v**2 / 8 + w**2 / 21) - 2], rel=RTOL)


def test_an_interval_is_as_wide_as_the_wider_of_two_distributions_says() -> None:
    for seed, sd in ((0, 3.0), (1, 0.05)):
        _, errors, _, _ = two_samples(seed, 3, 30, sd=sd)
        students = float(students_t.isf(0.025, errors.freedom[0]))
        mixed = float(mixed_quantile(0.025, *(np.array([x]) for x in (10 / 11, 2.0, 29.0)))[0])
        half = errors.half_widths(norm.isf(0.025)) / errors.unbiased
        assert half == pytest.approx([max(students, mixed)], rel=1e-5)
        # Where three items vary little by chance, what is expected of them decides.
        assert (students > mixed) == (sd > 1)


def test_scores_and_p_values_undo_the_half_widths() -> None:
    difference, errors, _, _ = two_samples(2, 4, 12)
    score = errors.normal_scores(np.array([difference]))
    assert errors.half_widths(float(score[0])) == pytest.approx([abs(difference)], rel=1e-4)
    assert errors.p_values(np.array([difference])) == pytest.approx(2 * norm.sf(score), rel=RTOL)


def test_many_items_have_the_normal_quantile() -> None:
    _, errors, _, _ = two_samples(0, 20_000, 20_000)
    assert errors.half_widths(1.96) == pytest.approx(1.96 * errors.se, rel=3e-4)
    assert errors.lowest_freedom[0] > 30_000


def test_errors_without_variance_have_no_width_and_no_score() -> None:
    leverage = Leverage(np.array([[1.25], [1.25]]), np.array([[4.0], [4.0]]))
    working = (np.array([[1.0], [1.0]]),)
    errors = errors_from(np.array([1e-30]), np.array([[1e-30], [0.0]]), leverage, working, 1e-14)
    assert (errors.se.tolist(), errors.half_widths(3.0).tolist()) == ([0.0], [0.0])
    assert errors.normal_scores(np.array([2.0])).tolist() == [0.0]


def test_small_cohorts_have_the_critical_value_of_many_cells_not_that_of_three_signs() -> None:
    """Eight periods and five cohorts of three: no draw of their signs exceeds sqrt(3) treated errors."""
    g = np.random.default_rng(0)
    cohort = np.repeat([2, 3, 4, 5, 6, 0], [3] * 5 + [300])
    y = g.normal(size=(315, 8))
    att = estimate((y, cohort, np.arange(315) >= 15, None), n_draws=2000).cells.att
    # Bonferroni over 35 cells: 3.19; of independent ones 3.18. Cells that share a period are correlated.
    assert 2.7 < att.critical < 3.2


def test_the_number_of_draws_made_at_once_changes_nothing(monkeypatch) -> None:
    one = estimate(world(), n_draws=64)
    monkeypatch.setattr(multiplier, "_SIGNS", 450)
    assert estimate(world(), n_draws=64).cells.att.critical == pytest.approx(one.cells.att.critical, rel=RTOL)


def test_clusters_with_treated_and_control_items_count_once() -> None:
    """Five documents with four treated and four control items each: five differences, four degrees."""
    g = np.random.default_rng(0)
    clusters = np.repeat(np.arange(5), 8)
    never = np.arange(40) % 2 == 1
    y = g.normal(size=(40, 2)) + 3 * g.normal(size=(5, 2))[clusters]
    found = estimate((y, np.ones(40, int), never, clusters), n_draws=0)
    assert found.cells.att.freedom == pytest.approx([4.0])
    assert found.instantaneous.freedom == pytest.approx(4.0)
