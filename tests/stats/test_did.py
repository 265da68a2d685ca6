"""Difference-in-differences: effects by cohort and period, their means and errors.

Rungs: stored values of the package `differences` (goldens/make_did.py), hand arithmetic, invariances,
sign, undefined cases. Slow recomputation: test_did_formulas.py.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from memprobe.stats.did import Design, profile

# Both sides do the same sums in float64, in another order.
RTOL = 1e-10
# The values worked out by hand are given to this many digits.
PRINTED = 5e-9
GOLDENS = json.loads((Path(__file__).parents[1] / "goldens" / "did.json").read_text())
DESIGNS = {
    "varying never": Design(),
    "universal never": Design(base="universal"),
    "varying not_yet": Design(control="not_yet"),
    "varying never anticipation 1": Design(anticipation=1),
}
# Cohort 1, cohort 2, never treated; periods 0 to 3.
TOY = np.array(
    [
        *[(1, 3, 2.5, 2.2), (2, 4.4, 3.5, 3)],
        *[(0, 0.2, 2, 1.5), (1, 1.4, 3.2, 2.9), (2, 2, 4.1, 3.4)],
        *[(1, 1.2, 1.4, 1.6), (3, 3.4, 3.4, 3.8)],
    ]
)
TOY_COHORT = np.array([1, 1, 2, 2, 2, 0, 0])
TOY_NEVER = np.arange(7) >= 5


def estimate(y, cohort, never, *, clusters=None, n_draws=0, seed=0, **design):
    rng = np.random.default_rng(seed)
    how = Design(**design)
    return profile(y, cohort, never=never, rng=rng, clusters=clusters, design=how, n_draws=n_draws)


def toy(**more):
    return estimate(TOY, TOY_COHORT, TOY_NEVER, **more)


def by_cell(found, name="value") -> dict[tuple[int, int], float]:
    cells = found.cells
    return dict(zip(zip(cells.cohort, cells.period, strict=True), getattr(cells.att, name), strict=True))


def by_key(found, kind, name="value") -> dict[int, float]:
    mean = found.aggregations[kind]
    return dict(zip(mean.key.tolist(), getattr(mean.estimates, name), strict=True))


def overall(found, kind) -> tuple[float, float]:
    return found.aggregations[kind].overall.value, found.aggregations[kind].overall.se


@pytest.mark.parametrize("name", GOLDENS["fits"])
def test_effects_and_their_means_are_those_of_the_package_differences(name) -> None:
    cohort = np.array(GOLDENS["cohort"])
    rng = np.random.default_rng(0)
    found = profile(
        np.array(GOLDENS["y"]), cohort, never=cohort < 0, rng=rng, n_draws=0, design=DESIGNS[name]
    )
    golden = GOLDENS["fits"][name]
    cells = found.cells
    ours = np.column_stack([cells.cohort, cells.base, cells.period, cells.att.value, cells.att.se])
    assert ours == pytest.approx(filled(golden["cells"]), rel=RTOL, abs=1e-12)
    for kind in ("simple", "event", "cohort", "calendar"):
        mean = found.aggregations[kind]
        ours = np.column_stack([mean.key, mean.estimates.value, mean.estimates.se])
        assert ours == pytest.approx(filled(golden[kind]), rel=RTOL, abs=1e-12)
        whole = golden["simple" if kind == "simple" else f"{kind} overall"]
        assert overall(found, kind) == pytest.approx(tuple(whole[0][1:]), rel=RTOL)


def filled(rows) -> np.ndarray:
    """The package has no error for the base cell itself; here it is 0."""
    return np.array([[0.0 if value is None else value for value in row] for row in rows])


def test_toy_effects_by_hand() -> None:
    found = toy()
    # (1,1): treated rise by 2 and 2.4, controls by 0.2 and 0.4: 2.2 - 0.3; and so on.
    expected = {(1, 1): 1.9, (1, 2): 1.1, (1, 3): 0.4, (2, 1): -0.1, (2, 2): 1.8, (2, 3): 1.0}
    assert by_cell(found) == pytest.approx(expected, rel=RTOL)
    # (1,1): treated +-0.2 over 2 items, controls +-0.1 over 2: sqrt(2 * 0.1^2 + 2 * 0.05^2) = 0.1581.
    errors = {(1, 1): 0.158113883, (1, 2): 0.0, (1, 3): 0.1, (2, 1): 0.117851130}
    errors |= {(2, 2): 0.108012345, (2, 3): 0.047140452}
    assert by_cell(found, "se") == pytest.approx(errors, abs=PRINTED)
    assert found.cells.n_treated.tolist() == [2, 2, 2, 3, 3, 3]
    assert found.cells.n_control.tolist() == [2] * 6
    assert found.cells.is_post.tolist() == [True, True, True, False, True, True]
    assert found.cells.event_time.tolist() == [0, 1, 2, -1, 0, 1]


def test_toy_means_by_hand() -> None:
    found = toy()
    # Event 0: (2 * 1.9 + 3 * 1.8) / 5; event 1: (2 * 1.1 + 3 * 1.0) / 5.
    assert by_key(found, "event") == pytest.approx({-1: -0.1, 0: 1.84, 1: 1.04, 2: 0.4}, rel=RTOL)
    errors = {-1: 0.117851130, 0: 0.079246451, 1: 0.035777088, 2: 0.1}
    assert by_key(found, "event", "se") == pytest.approx(errors, abs=PRINTED)
    assert overall(found, "event") == pytest.approx((3.28 / 3, 0.030767949), abs=PRINTED)
    assert by_key(found, "cohort") == pytest.approx({1: 3.4 / 3, 2: 1.4}, rel=RTOL)
    assert by_key(found, "cohort", "se") == pytest.approx({1: 0.05270463, 2: 0.05892557}, abs=PRINTED)
    # (2 * 3.4 / 3 + 3 * 1.4) / 5.
    assert overall(found, "cohort") == pytest.approx((6.4666666667 / 5, 0.065633663), abs=PRINTED)
    assert by_key(found, "calendar") == pytest.approx({1: 1.9, 2: 1.52, 3: 0.76}, rel=RTOL)
    # Calendar 3: changes give cohort 1 -+0.02, cohort 2 -0.02, 0.02, 0, controls +-0.02; weights
    # (0.4 - 0.76) / 5 = -0.072 to cohort 1 and 0.048 to cohort 2. Squares of -0.052, -0.092, 0.028, 0.068,
    # 0.048 and two of 0.02.
    errors = {1: 0.158113883, 2: 0.166493243, 3: math.sqrt(0.01968)}
    assert by_key(found, "calendar", "se") == pytest.approx(errors, abs=PRINTED)
    assert overall(found, "calendar") == pytest.approx((4.18 / 3, 0.105577775), abs=PRINTED)
    # (2 * (1.9 + 1.1 + 0.4) + 3 * (1.8 + 1.0)) / (2 * 3 + 3 * 2); the error is given to 7 digits.
    assert overall(found, "simple") == pytest.approx((15.2 / 12, 0.0665798), abs=5e-8)
    assert found.aggregations["calendar"].n_cells.tolist() == [1, 2, 2]
    assert [found.aggregations[kind].overall.n_cells for kind in ("event", "cohort")] == [5, 5]


def test_instantaneous_persistent_and_residual_by_hand() -> None:
    found = toy()
    assert found.instantaneous.value == pytest.approx(1.84, rel=RTOL)
    # Later than the first treated period: (2 * (1.1 + 0.4) + 3 * 1.0) / (2 + 2 + 3).
    assert found.persistent.value == pytest.approx(6.0 / 7, rel=RTOL)
    assert found.residual.value == pytest.approx(0.76, rel=RTOL)
    assert found.residual.se == pytest.approx(math.sqrt(0.01968), rel=RTOL)
    # Squares of the cohorts and the controls, as above: 0.011168, 0.007712 and 0.0008; times 2, 3/2 and 2,
    # 0.035504, of 0.035504^2 / (0.022336^2 / 3 + 0.011568^2 / 4 + 0.0016^2 / 3) - 2 = 4.28 degrees
    # of freedom, with Student's t at 2.706; what is expected of 2, 3 and 2 items is less.
    half = found.residual.hi - found.residual.value
    assert 2.70 < half / math.sqrt(0.035504) < 2.95
    assert found.residual.value - found.residual.lo == pytest.approx(half, rel=RTOL)
    assert [e.n_cells for e in (found.instantaneous, found.persistent, found.residual)] == [2, 3, 2]


def test_the_difference_estimator_by_hand() -> None:
    cells = toy().cells
    # (1,1): (3 + 4.4) / 2 - (1.2 + 3.4) / 2 = 3.7 - 2.3.
    assert cells.diff.value[[0, 1, 2, 4, 5]] == pytest.approx([1.4, 0.6, -0.1, 0.7, -0.1], rel=RTOL)
    # Variances of samples of 3, 4.4 and 1.2, 3.4: 0.98 and 2.42, each over 2 items.
    assert cells.diff.se[0] == pytest.approx(math.sqrt(0.98 / 2 + 2.42 / 2), rel=RTOL)


@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_the_difference_estimator_has_the_error_of_two_samples(world, control) -> None:
    y, cohort, never, _ = world()
    cells = estimate(y, cohort, never, control=control).cells
    first = np.where(never, 99, cohort)
    for k, (g, t, b) in enumerate(zip(cells.cohort, cells.period, cells.base, strict=True)):
        controls = (first > max(t, b)) & (first != g) if control == "not_yet" else never
        treated, others = y[first == g, t], y[controls, t]
        assert cells.diff.value[k] == pytest.approx(treated.mean() - others.mean(), rel=RTOL)
        variance = treated.var(ddof=1) / len(treated) + others.var(ddof=1) / len(others)
        assert cells.diff.se[k] == pytest.approx(math.sqrt(variance), rel=RTOL)


def test_the_gap_at_the_base_by_hand() -> None:
    gap = toy().base_gap
    assert (gap.cohort.tolist(), gap.base.tolist()) == ([1, 2], [0, 1])
    # Cohort 1 at 0: 1.5 - 2; cohort 2 at 1: 3.6 / 3 - 2.3; (2 * -0.5 + 3 * -1.1) / 5.
    assert gap.estimates.value == pytest.approx([-0.5, -1.1], rel=RTOL)
    assert gap.overall.value == pytest.approx(-0.86, rel=RTOL)
    # Samples 1, 2 and 1, 3: variances 0.5 and 2, each over 2 items.
    assert gap.estimates.se[0] == pytest.approx(math.sqrt(0.5 / 2 + 2 / 2), rel=RTOL)
    # Influence: cohort 1, 0.4 (Y - 1.5) / 2 + (-0.5 + 0.86) / 5 = -0.028, 0.172; cohort 2, (Y - 1.2) / 5
    # + (-1.1 + 0.86) / 5 = -0.248, -0.008, 0.112; controls, -(0.4 (Y_0 - 2) + 0.6 (Y_1 - 2.3)) / 2 = +-0.53.
    influence = [-0.028, 0.172, -0.248, -0.008, 0.112, 0.53, -0.53]
    assert gap.overall.se == pytest.approx(math.hypot(*influence), rel=RTOL)
    # Variances 0.5 and 2 at period 0; of 0.2, 1.4, 2 and of 1.2, 3.4 at period 1: 0.84 and 2.42.
    assert gap.spread == pytest.approx(math.sqrt((2 * 1.25 + 3 * 1.63) / 5), rel=RTOL)


@pytest.mark.parametrize("n_periods", [2, 3, 4, 6, 7, 8, 9, 14, 16, 30, 32])
def test_levels_are_plain_means_for_any_number_of_periods(n_periods) -> None:
    """A negation into strided memory gave other numbers with 8 periods, and nothing else showed it."""
    g = np.random.default_rng(n_periods)
    y, never = g.normal(size=(40, n_periods)), np.arange(40) >= 15
    found = estimate(y, np.ones(40, int), never)
    assert found.base_gap.overall.value == pytest.approx(y[:15, 0].mean() - y[15:, 0].mean(), rel=RTOL)
    levels = y[:15].mean(0) - y[15:].mean(0)
    assert found.cells.diff.value == pytest.approx(levels[1:], rel=RTOL)


def test_a_higher_outcome_after_treatment_is_a_positive_effect() -> None:
    y = np.zeros((8, 3))
    y[:4, 1:] = [[1.0, 1.0], [2.0, 2.0], [1.0, 2.0], [2.0, 1.0]]
    found = estimate(y, np.ones(8, int), np.arange(8) >= 4)
    assert (found.cells.att.value > 0).all()
    assert (found.cells.diff.value > 0).all()
    assert all(mean.overall.value > 0 for mean in found.aggregations.values())


def test_unequal_clusters_by_hand() -> None:
    # Changes of the treated: cluster 5 has 1 and 2, cluster 6 has 6: mean 3, deviations summed -3 and 3.
    # Controls: cluster 7 has 0 and 0, cluster 8 has 3: mean 1, deviations summed -2 and 2.
    change = np.array([1.0, 2.0, 6.0, 0.0, 0.0, 3.0])
    y = np.column_stack([np.array([4.0, 9.0, 2.0, 1.0, 5.0, 7.0]), np.zeros(6)])
    y[:, 1] = y[:, 0] + change
    clusters = np.array([5, 5, 6, 7, 7, 8])
    found = estimate(y, np.ones(6, int), np.arange(6) >= 3, clusters=clusters)
    assert found.cells.att.value == pytest.approx([2.0], rel=RTOL)
    # Over 3 items each: -1, 1, -2/3, 2/3. Means of clusters instead of sums would give another number.
    assert found.cells.att.se == pytest.approx([math.sqrt(1 + 1 + 8 / 9)], rel=RTOL)
    # A cluster with treated and control items adds up what both move: -1 + 2/3, 1 - 2/3, -2/3 + ...
    crossing = estimate(y, np.ones(6, int), np.arange(6) >= 3, clusters=np.array([5, 5, 6, 5, 5, 6]))
    assert crossing.cells.att.se == pytest.approx([math.sqrt(2 * (1 - 2 / 3) ** 2)], rel=RTOL)


def test_a_balanced_event_study_keeps_cohorts_seen_to_its_end() -> None:
    found = toy(balanced_to=2)
    # Cohort 2 is seen to event time 1 alone.
    assert by_key(found, "event_balanced") == pytest.approx({0: 1.9, 1: 1.1, 2: 0.4}, rel=RTOL)
    found = toy(balanced_to=1)
    assert by_key(found, "event_balanced") == pytest.approx({-1: -0.1, 0: 1.84, 1: 1.04}, rel=RTOL)
    assert overall(found, "event_balanced")[0] == pytest.approx(1.44, rel=RTOL)
    assert "event_balanced" not in toy(balanced_to=3).aggregations
    assert "event_balanced" not in toy().aggregations


def test_the_base_cell_of_a_universal_base_is_0_without_error() -> None:
    found = toy(base="universal", n_draws=50)
    assert by_cell(found)[2, 0] == pytest.approx(0.1, rel=RTOL)
    cells = found.cells
    at_base = cells.period == cells.base
    assert cells.cohort[at_base].tolist() == [1, 2]
    for name in ("value", "se", "lo", "hi", "lo_sim", "hi_sim", "se_boot"):
        assert getattr(cells.att, name)[at_base].tolist() == [0.0, 0.0]


def test_anticipation_moves_the_base_and_what_counts_as_before(world) -> None:
    y, cohort, never, _ = world()
    found = estimate(y, cohort, never, anticipation=1)
    cells = found.cells
    four = cells.cohort == 4
    # Felt from 3 on, so the base is 2; before, each period is compared with the last.
    assert cells.period[four].tolist() == [1, 2, 3, 4, 5]
    assert cells.base[four].tolist() == [0, 1, 2, 2, 2]
    assert cells.is_post[four].tolist() == [False, False, False, True, True]
    assert (found.base_gap.cohort.tolist(), found.base_gap.base.tolist()) == ([2, 4], [0, 2])
    # Cohort 1 has its base at -1: out, with cohort 0.
    assert [(d.cohort, d.n_items) for d in found.dropped] == [(0, 3), (1, 7), (6, 4)]


def test_controls_not_yet_treated_are_those_after_both_periods(world) -> None:
    y, cohort, never, _ = world()
    found = estimate(y, cohort, never, control="not_yet")
    n_control = dict(zip(by_cell(found), found.cells.n_control.tolist(), strict=True))
    # 14 never, 4 after the end, 9 at 4, 5 at 2; the cohort itself is no control.
    assert n_control[1, 1] == 14 + 4 + 9 + 5
    assert [n_control[1, t] for t in (2, 3, 4, 5)] == [27, 27, 18, 18]
    assert [n_control[4, t] for t in (1, 2, 3, 4)] == [14 + 4 + 5, 18, 18, 18]
    wary = estimate(y, cohort, never, control="not_yet", anticipation=1)
    n_control = dict(zip(by_cell(wary), wary.cells.n_control.tolist(), strict=True))
    assert [n_control[2, t] for t in (1, 2, 3, 4, 5)] == [27, 27, 18, 18, 14]


def test_cohorts_at_the_edges_of_the_panel(world) -> None:
    y, cohort, never, _ = world()
    found = estimate(y, cohort, never)
    assert np.unique(found.cells.cohort).tolist() == [1, 2, 4]
    assert [(d.cohort, d.n_items, d.periods) for d in found.dropped] == [(0, 3, None), (6, 4, None)]
    # Without never treated, the last cohort has no controls once it is treated itself.
    last = estimate(y[~never], cohort[~never], never[~never], control="not_yet")
    assert [(d.cohort, d.periods) for d in last.dropped] == [(0, None)]
    no_later = ~never & (cohort < 6)
    rest = estimate(y[no_later], cohort[no_later], never[no_later], control="not_yet")
    assert [(d.cohort, d.periods) for d in rest.dropped] == [
        (0, None),
        (1, (4, 5)),
        (2, (4, 5)),
        # At 2 and 3 it is the only one left, and no control of its own.
        (4, (2, 3, 4, 5)),
    ]
    assert rest.residual is None
    assert np.unique(rest.cells.cohort[rest.cells.is_post]).tolist() == [1, 2]


def test_items_of_cohorts_left_out_change_nothing(world) -> None:
    y, cohort, never, _ = world()
    used = never | ((cohort > 0) & (cohort < 6))
    some, everyone = estimate(y[used], cohort[used], never[used]), estimate(y, cohort, never)
    for kind, mean in everyone.aggregations.items():
        assert mean.overall.se == pytest.approx(some.aggregations[kind].overall.se, rel=RTOL)


@pytest.mark.parametrize("control", ["never", "not_yet"])
def test_constants_of_items_and_of_periods_change_nothing(world, control) -> None:
    y, cohort, never, _ = world()
    g = np.random.default_rng(1)
    moved = y + g.normal(size=(len(y), 1)) * 100 + g.normal(size=y.shape[1]) * 100
    one, other = (estimate(values, cohort, never, control=control, n_draws=40) for values in (y, moved))
    # 100 more in front costs two to three digits.
    for name in ("value", "se", "lo_sim", "hi_sim", "se_boot"):
        ours, theirs = getattr(one.cells.att, name), getattr(other.cells.att, name)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-11)
    assert one.residual.se == pytest.approx(other.residual.se, rel=1e-9)


def test_scaling_outcomes_scales_effects_errors_and_bands(world) -> None:
    y, cohort, never, clusters = world(kind="nested")
    one = estimate(y, cohort, never, clusters=clusters, n_draws=40)
    for factor in (3.0, 1e-9, 1e9):
        other = estimate(factor * y, cohort, never, clusters=clusters, n_draws=40)
        for name in ("value", "se", "se_boot", "lo_sim"):
            ours, theirs = getattr(one.cells.att, name), getattr(other.cells.att, name)
            assert factor * ours == pytest.approx(theirs, rel=1e-9, abs=0)
        assert other.cells.att.critical == pytest.approx(one.cells.att.critical, rel=1e-9)
        assert other.residual.se == pytest.approx(factor * one.residual.se, rel=1e-9)
    turned = estimate(-y, cohort, never, clusters=clusters, n_draws=40).cells.att
    assert turned.value == pytest.approx(-one.cells.att.value, rel=RTOL)
    assert turned.hi == pytest.approx(-one.cells.att.lo, rel=1e-9)


@pytest.mark.parametrize("kind", ["items", "crossing"])
def test_the_order_of_items_and_the_names_of_clusters_change_nothing(world, kind) -> None:
    y, cohort, never, clusters = world(kind=kind)
    order = np.random.default_rng(5).permutation(len(y))
    renamed = None if clusters is None else -7 * clusters[order]
    one = estimate(y, cohort, never, clusters=clusters)
    other = estimate(y[order], cohort[order], never[order], clusters=renamed)
    assert one.cells.att.value == pytest.approx(other.cells.att.value, rel=RTOL)
    assert one.cells.att.se == pytest.approx(other.cells.att.se, rel=RTOL)
    for mean, again in zip(one.aggregations.values(), other.aggregations.values(), strict=True):
        assert mean.estimates.se == pytest.approx(again.estimates.se, rel=RTOL)


def test_means_of_differences_keep_their_digits_beside_large_levels(world) -> None:
    y, cohort, never, _ = world()
    # Multiples of 2^-10 are exact beside 41 * 2^36, and their differences too.
    y = np.round(y * 1024) / 1024
    level = 2.0**36 * np.arange(len(y))[:, None]
    plain, high = estimate(y, cohort, never), estimate(y + level, cohort, never)
    assert high.cells.att.value == pytest.approx(plain.cells.att.value, rel=RTOL)


def test_a_side_of_one_cluster_shows_no_error() -> None:
    clusters = np.array([0, 0, 1, 2, 2, 3, 4])
    found = toy(clusters=clusters, n_draws=20)
    cells = found.cells
    # The two clusters of cohort 2 change by 0.2 both before training, which shows no error either.
    assert cells.att.known.tolist() == [False] * 4 + [True] * 2
    assert cells.att.nullable("se")[:4] == [None] * 4
    assert cells.att.nullable("lo_sim")[:4] == [None] * 4
    assert None not in cells.att.nullable("value")
    assert None not in cells.att.nullable("se")[4:]
    event = found.aggregations["event"].estimates
    assert event.known.tolist() == [False] * 4
    assert (found.instantaneous.value, found.instantaneous.se) == (pytest.approx(1.84), None)
    assert found.residual.lo is None
    without = toy(clusters=clusters, n_draws=20, min_clusters=2)
    assert [(d.cohort, d.n_items) for d in without.dropped] == [(1, 2)]
    # Changes 1.8 | 1.8, 2.1 sum to -0.1 and 0.1 around their mean, over 3; controls -+0.1 over 2.
    assert without.instantaneous.se == pytest.approx(math.sqrt(2 / 900 + 2 / 400), rel=RTOL)
    one_control = toy(clusters=np.array([0, 1, 2, 3, 4, 5, 5]), n_draws=20)
    assert not one_control.cells.att.known.any()
    # What shows no error has no part in a critical value.
    assert one_control.cells.att.critical is None
    assert one_control.aggregations["event"].estimates.critical is None
    assert not one_control.cells.diff.known.any()


def test_one_cluster_over_all_controls_not_yet_treated_shows_no_error() -> None:
    # Controls of (1, 1) are cohort 2 and the never treated, all of one cluster.
    found = toy(clusters=np.array([0, 1, 2, 2, 2, 2, 2]), control="not_yet")
    assert not found.cells.att.known.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": TOY[:, :1]}, "2 periods"),
        ({"y": np.where(TOY == 4.4, np.nan, TOY)}, "1 items"),
        ({"cohort": TOY_COHORT[:-1]}, "cohorts of shape"),
        ({"clusters": np.zeros(3, int)}, "clusters of shape"),
        ({"cohort": np.where(TOY_COHORT == 2, 5, TOY_COHORT)}, "cohorts from 1 to 5; need 0 to 4"),
        ({"cohort": np.where(TOY_COHORT == 2, -1, TOY_COHORT)}, "cohorts from -1"),
        ({"never": np.zeros(7, bool)}, "no item is never treated"),
        ({"never": np.ones(7, bool)}, "no cohort has a base"),
        ({"cohort": np.zeros(7, int)}, "no cohort has a base"),
        ({"anticipation": -1}, "anticipation"),
        ({"n_draws": -1}, "draws"),
        ({"min_clusters": 0}, "min_clusters"),
        ({"base": "long"}, "base 'long'"),
        ({"control": "all"}, "control 'all'"),
    ],
)
def test_bad_input_is_refused(change, message) -> None:
    given = {"y": TOY, "cohort": TOY_COHORT, "never": TOY_NEVER} | change
    with pytest.raises(ValueError, match=message):
        estimate(**given)


def test_a_level_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="level 95"):
        profile(TOY, TOY_COHORT, never=TOY_NEVER, rng=np.random.default_rng(0), level=95)


@pytest.mark.parametrize("n_draws", [0, 20])
def test_rates_of_treated_items_that_all_agree_show_no_error(n_draws) -> None:
    """All of 5 recalled is no certainty of 1: their spread is not known to be 0."""
    rng = np.random.default_rng(0)
    y = np.zeros((30, 3))
    y[:5, 1:] = 1
    y[5:, 1:] = rng.random((25, 2)) < 0.3
    y[0, 2] = 0
    found = estimate(y, np.full(30, 1), np.arange(30) >= 5, n_draws=n_draws)
    assert found.cells.att.known.tolist() == [False, True]
    assert found.instantaneous.se is None
    assert found.residual.se > 0
    # The mean of both has a cell that shows an error.
    assert found.aggregations["simple"].overall.se > 0
