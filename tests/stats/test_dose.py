"""Dose-response fits.

Rungs: stored statsmodels values (goldens/make_dose.py), closed forms by hand, slow recomputation with
full matrices, invariances, sign, undefined cases.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from memprobe.stats.dose import Cells, linear, log_odds, tabulate

# Both sides solve the same equations in float64; Newton's last step leaves far less than this.
RTOL = 1e-9
GOLDENS = json.loads((Path(__file__).parents[1] / "goldens" / "dose.json").read_text())


def linear_in_log10(x, y, clusters=None, **more):
    """Least squares of item outcomes on log10 of the dose."""
    return linear(tabulate(x, y, clusters), **more)


def logistic(x, y, clusters=None, **more):
    """Logistic regression of item outcomes on log10 of the dose."""
    return log_odds(tabulate(x, y, clusters), **more)


FITS = {"linear": linear_in_log10, "logistic": logistic}


def world(seed: int = 0, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    x = g.choice([1.0, 2.0, 8.0, 64.0], n)
    clusters = np.arange(n) // 4
    p = 1 / (1 + np.exp(1.5 - np.log10(x) - g.normal(size=clusters[-1] + 1)[clusters]))
    return x, (g.random(n) < p).astype(float), clusters


@pytest.mark.parametrize("kind", ["clustered", "independent"])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("case", range(len(GOLDENS)))
def test_slope_error_interval_and_p_value_are_those_of_statsmodels(case, fit, kind) -> None:
    data = GOLDENS[case]
    x, y = np.array(data["x"], float), np.array(data["y"])
    found = FITS[fit](x, y, np.array(data["cluster"]) if kind == "clustered" else None)
    golden = data["fits"][f"{fit} {kind}"]
    ours = [found.slope, found.intercept, found.se, found.interval.lo, found.interval.hi, found.p_value]
    theirs = [golden[name] for name in ("slope", "intercept", "se", "lo", "hi", "p_value")]
    assert ours == pytest.approx(theirs, rel=RTOL)


def test_the_goldens_tell_clustered_errors_from_others() -> None:
    for case in GOLDENS:
        for fit in FITS:
            one, other = (case["fits"][f"{fit} {kind}"]["se"] for kind in ("clustered", "independent"))
            assert abs(one - other) > 0.01 * one


def two_by_two() -> tuple[np.ndarray, np.ndarray]:
    # At a dose of 1: 3 of 10; at 10: 12 of 16.
    return np.repeat([1.0, 10.0], [10, 16]), np.array([1.0] * 3 + [0.0] * 7 + [1.0] * 12 + [0.0] * 4)


def test_the_logistic_slope_of_two_doses_is_the_log_odds_ratio() -> None:
    found = logistic(*two_by_two())
    # Odds 3/7 and 12/4; the doses are one tenfold apart.
    assert found.slope == pytest.approx(math.log((12 / 4) / (3 / 7)), rel=RTOL)
    assert found.intercept == pytest.approx(math.log(3 / 7), rel=RTOL)
    # 1/3 + 1/7 + 1/12 + 1/4, times 26/25 (clusters) and 25/24 (coefficients).
    variance = (1 / 3 + 1 / 7 + 1 / 12 + 1 / 4) * 26 / 25 * 25 / 24
    assert found.se == pytest.approx(math.sqrt(variance), rel=RTOL)


def test_the_linear_slope_of_two_doses_is_the_difference_of_the_rates() -> None:
    found = linear_in_log10(*two_by_two())
    assert (found.slope, found.intercept) == pytest.approx((12 / 16 - 3 / 10, 3 / 10), rel=RTOL)
    # p(1-p)/n of each: 0.3 * 0.7 / 10 = 0.021, 0.75 * 0.25 / 16 = 0.01171875; factor 26/24.
    assert found.se == pytest.approx(math.sqrt((0.021 + 0.01171875) * 26 / 24), rel=RTOL)
    # t quantile of 25 degrees of freedom, from a printed table: 2.0595.
    assert found.interval.hi - found.slope == pytest.approx(2.0595 * found.se, rel=1e-4)


def slow(x, y, clusters, weight, expected) -> tuple[np.ndarray, np.ndarray]:
    """Bread and meat as matrices, one score vector per cluster, with the small-sample factor."""
    design = np.column_stack([np.ones(len(x)), np.log10(x)])
    bread = np.linalg.inv(design.T @ (design * weight[:, None]))
    meat = np.zeros((2, 2))
    for cluster in np.unique(clusters):
        score = (design * (y - expected)[:, None])[clusters == cluster].sum(0)
        meat += np.outer(score, score)
    n, n_clusters = len(y), len(np.unique(clusters))
    return bread @ meat @ bread * n_clusters / (n_clusters - 1) * (n - 1) / (n - 2), bread


@pytest.mark.parametrize("alone", [True, False])
def test_the_error_is_the_sandwich_of_full_matrices(alone) -> None:
    x, y, clusters = world()
    given, clusters = (None, np.arange(len(y))) if alone else (clusters, clusters)
    line = linear_in_log10(x, y, given)
    expected = line.intercept + line.slope * np.log10(x)
    assert line.se**2 == pytest.approx(slow(x, y, clusters, np.ones(len(x)), expected)[0][1, 1], rel=RTOL)
    odds = logistic(x, y, given)
    p = 1 / (1 + np.exp(-odds.intercept - odds.slope * np.log10(x)))
    assert odds.se**2 == pytest.approx(slow(x, y, clusters, p * (1 - p), p)[0][1, 1], rel=RTOL)


def test_no_other_slope_or_intercept_has_a_larger_likelihood() -> None:
    x, y, _ = world()
    found = logistic(x, y)

    def likelihood(intercept: float, slope: float) -> float:
        p = 1 / (1 + np.exp(-intercept - slope * np.log10(x)))
        return float(np.log(np.where(y == 1, p, 1 - p)).sum())

    best = likelihood(found.intercept, found.slope)
    for a in (-1e-3, 0, 1e-3):
        for b in (-1e-3, 0, 1e-3):
            assert likelihood(found.intercept + a, found.slope + b) <= best


def test_r2_is_of_the_mean_outcomes_with_every_dose_counting_the_same() -> None:
    # Means 0, 1/2, 1/2 at log10 x = 0, 1, 2: dx = -1, 0, 1, dy = -1/3, 1/6, 1/6;
    # (1/3 + 1/6)^2 / (2 * (1/9 + 1/36 + 1/36)) = (1/4) / (1/3) = 3/4. The ten items at 1 weigh no more.
    x, y = np.repeat([1.0, 10.0, 100.0], [10, 2, 4]), np.array([0.0] * 10 + [0, 1] + [0, 0, 1, 1])
    assert linear_in_log10(x, y).r2_of_means == pytest.approx(0.75, rel=RTOL)
    assert linear_in_log10(*two_by_two()).r2_of_means is None


@pytest.mark.parametrize("fit", FITS.values())
def test_cells_of_dose_and_cluster_give_what_items_give(fit) -> None:
    x, y, clusters = world()
    levels, level = np.unique(x, return_inverse=True)
    codes, cell = np.unique(clusters * len(levels) + level, return_inverse=True)
    n, total = (np.bincount(cell, weights=each) for each in (np.ones(len(y)), y))
    cells = Cells(np.log10(levels), codes % len(levels), n, total, total, codes // len(levels))
    summed = (linear if fit is linear_in_log10 else log_odds)(cells)
    item = fit(x, y, clusters)
    assert (summed.slope, summed.se, summed.p_value) == pytest.approx(
        (item.slope, item.se, item.p_value), rel=RTOL
    )
    assert cells.n_items == len(y)
    assert cells.n_clusters == 30


@pytest.mark.parametrize("fit", FITS.values())
def test_the_order_of_items_and_the_names_of_clusters_do_not_matter(fit) -> None:
    x, y, clusters = world()
    order = np.random.default_rng(1).permutation(len(y))
    one, other = fit(x, y, clusters), fit(x[order], y[order], 29 - clusters[order])
    assert (one.slope, one.se) == pytest.approx((other.slope, other.se), rel=RTOL)


@pytest.mark.parametrize("fit", FITS.values())
def test_the_unit_of_the_dose_shifts_the_intercept_alone_and_a_flip_turns_the_sign(fit) -> None:
    x, y, clusters = world()
    one, scaled, flipped = fit(x, y, clusters), fit(1000 * x, y, clusters), fit(x, 1 - y, clusters)
    assert (scaled.slope, scaled.se) == pytest.approx((one.slope, one.se), rel=RTOL)
    assert scaled.intercept == pytest.approx(one.intercept - 3 * one.slope, rel=RTOL)
    assert (flipped.slope, flipped.se) == pytest.approx((-one.slope, one.se), rel=RTOL)


@pytest.mark.parametrize("fit", FITS.values())
def test_a_rate_that_rises_with_the_dose_has_a_positive_slope(fit) -> None:
    found = fit(*two_by_two())
    assert found.slope > 0
    assert found.interval.lo < found.slope < found.interval.hi
    assert found.interval.method == "t-robust"
    assert fit(*world()).interval.method == "t-cluster-robust"


def test_items_said_twice_in_one_cluster_are_no_more_evidence() -> None:
    x, y, clusters = world()
    for fit in FITS.values():
        one = fit(x, y, clusters)
        twice = fit(*(np.concatenate([each, each]) for each in (x, y, clusters)))
        # Only the factor (N - 1) / (N - 2) changes: 119/118 for one, 239/238 for twice.
        expected = one.se * math.sqrt(239 / 238 / (119 / 118))
        assert (twice.slope, twice.se) == pytest.approx((one.slope, expected), rel=1e-7)


def test_a_steep_rise_that_does_not_separate_is_found() -> None:
    # One zero above and one 1 below, among thousands: Newton's first step goes much too far.
    x = np.repeat([1.0, 10.0, 100.0, 1000.0], [4000, 2, 2, 4000])
    y = np.array([0.0] * 4000 + [1.0, 0.0] + [1.0, 0.0] + [1.0] * 4000)
    found = logistic(x, y)
    rest = y - 1 / (1 + np.exp(-found.intercept - found.slope * np.log10(x)))
    # At the top of the likelihood both scores are 0.
    assert abs(rest.sum()) < 1e-6
    assert abs((rest * np.log10(x)).sum()) < 1e-6


@pytest.mark.parametrize(
    ("ones", "told"),
    [
        ([0, 0, 4], "separated: no 1 below 100, no 0 above 10"),
        # One dose holds both: the slope is still without end.
        ([0, 2, 4], "separated: no 1 below 10, no 0 above 10"),
        ([4, 1, 0], "separated: no 0 below 10, no 1 above 10"),
        ([0, 0, 2], "separated: no 1 below 100, no 0 above 100"),
    ],
)
def test_separated_outcomes_have_no_logistic_slope_and_say_why(ones, told) -> None:
    x = np.repeat([1.0, 10.0, 100.0], 4)
    y = np.concatenate([np.arange(4) < n for n in ones]).astype(float)
    found = logistic(x, y)
    assert (found.slope, found.se, found.interval, found.p_value) == (None,) * 4
    assert found.reason == told
    assert linear_in_log10(x, y).slope is not None


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("fit", FITS.values())
def test_outcomes_that_never_vary_have_no_slope(fit, value) -> None:
    found = fit(np.array([1.0, 10.0, 100.0]), np.full(3, value))
    assert (found.slope, found.interval) == (None, None)
    assert found.reason == f"every outcome is {value:.0f}"


def test_clusters_that_all_agree_show_no_error() -> None:
    # Every item is recalled after the long context and not after the short one.
    x, y, clusters = np.tile([50.0, 100.0], 5), np.tile([0.0, 1.0], 5), np.repeat(np.arange(5), 2)
    found = linear_in_log10(x, y, clusters)
    # One more per doubling: 1 / log10(2).
    assert found.slope == pytest.approx(1 / math.log10(2), rel=RTOL)
    assert (found.se, found.interval, found.p_value) == (None, None, None)
    assert "show no error" in found.reason


@pytest.mark.parametrize("fit", FITS.values())
def test_one_cluster_has_a_slope_and_no_error(fit) -> None:
    x, y = two_by_two()
    found = fit(x, y, np.zeros(len(y), dtype=int))
    assert found.slope is not None
    assert (found.se, found.reason) == (None, "1 clusters of 26 items show no error")


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([1.0, 1.0], [0.0, 1.0], "1 doses; a slope needs two"),
        ([], [], "0 doses"),
        ([0.0, 1.0], [0.0, 1.0], "not a number above 0"),
        ([1.0, math.inf], [0.0, 1.0], "not a number above 0"),
        ([1.0, 2.0], [0.0], "2 doses for 1 outcomes"),
    ],
)
def test_what_has_no_dose_response_is_refused(x, y, told) -> None:
    with pytest.raises(ValueError, match=told):
        tabulate(np.array(x), np.array(y))


def test_a_logistic_fit_refuses_outcomes_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="outcomes of 0 and 1"):
        logistic(np.array([1.0, 10.0, 10.0]), np.array([0.0, 0.5, 1.0]))
