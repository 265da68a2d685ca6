"""Forgetting curves: laws recover their own data, half-lives in closed form, and when there is none.

Rungs: closed forms; methods section 22, check 12; scipy's curve_fit and a plain grid as slow
recomputations; simulation of the interval's coverage; invariances; undefined cases.
"""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from memprobe.stats.curves import MIN_LAGS, best_law, fit_laws
from memprobe.stats.half_life import LAWS, Binomial

# Golden section finds a minimum to the square root of rounding, and no better.
FOUND = 1e-6
EXACT = 1e-9
LAGS = np.array([0.0, 1, 2, 5, 10, 30, 100, 300])
NONE = np.empty((0, len(LAGS)))
CURVES = {
    "power": lambda t, a, b: a * (1 + t) ** -b,
    "exponential": lambda t, a, k: a * np.exp(-k * t),
    "logarithmic": lambda t, a, d: a - d * np.log10(1 + t),
}
TRUE = {"power": (0.8, 0.4), "exponential": (0.8, 0.02), "logarithmic": (0.8, 0.25)}
# (1 + h)^-.4 = 1/2: h = 2^2.5 - 1. exp(-.02 h) = 1/2: h = 50 ln 2. .25 log10(1 + h) = .4: h = 10^1.6 - 1.
HALF_LIVES = {"power": 2**2.5 - 1, "exponential": 50 * math.log(2), "logarithmic": 10**1.6 - 1}
SECOND = {"power": "exponent", "exponential": "decay_per_step", "logarithmic": "decay_per_decade"}


def around(y: np.ndarray, n_draws: int = 200, sd: float = 0.01) -> np.ndarray:
    """Draws around a curve, as a bootstrap gives them."""
    return y + np.random.default_rng(1).normal(0, sd, (n_draws, len(y)))


def fit_law(law, lag, excess, **more):
    """Fit one law alone."""
    return fit_laws(lag, excess, laws=(law,), **more)[law]


def of(law, lags=LAGS, *, sd=0.01, **more):
    y = CURVES[law](lags, *TRUE[law])
    return fit_law(law, lags, y, draws=around(y, sd=sd), **more)


@pytest.mark.parametrize("law", LAWS)
def test_exact_data_give_back_their_parameters_and_half_life(law) -> None:
    fit = of(law)
    a, second = TRUE[law]
    assert fit.parameters["a"].value == pytest.approx(a, abs=FOUND)
    assert fit.parameters[SECOND[law]].value == pytest.approx(second, rel=FOUND)
    assert fit.half_life.steps == pytest.approx(HALF_LIVES[law], rel=1e-5)
    assert fit.half_life.lo < HALF_LIVES[law] < fit.half_life.hi
    assert fit.half_life.reason is None
    assert fit.residual_se == pytest.approx(0, abs=FOUND)
    for each in fit.parameters.values():
        assert each.lo < each.value < each.hi


@pytest.mark.parametrize("law", LAWS)
def test_a_curve_whose_first_lag_is_not_0_is_told_from_there(law) -> None:
    late = LAGS[3:]
    y = CURVES[law](late, *TRUE[law])
    fit = fit_law(law, late, y, draws=y[None][:0])
    assert fit.parameters["a"].value == pytest.approx(y[0], abs=FOUND)
    # From lag 5 on: (6 + h)/6 = 2^2.5; 50 ln 2 as ever; d log10((6 + h)/6) = half of y(5).
    half = {
        "power": 6 * (2**2.5 - 1),
        "exponential": 50 * math.log(2),
        "logarithmic": 6 * (10 ** (y[0] / 2 / 0.25) - 1),
    }[law]
    assert fit.half_life.steps == pytest.approx(half, rel=1e-5)
    assert CURVES[law](5 + half, *TRUE[law]) == pytest.approx(y[0] / 2, rel=EXACT)


def test_check_12_retainability_falls_by_a_fifth_per_decade_and_ends_at_ten_thousand() -> None:
    # Methods section 22, check 12: R = .8, .6, .4, .2 at t = 1, 10, 100, 1000.
    t, r = np.array([1.0, 10, 100, 1000]), np.array([0.8, 0.6, 0.4, 0.2])
    fit = fit_law("logarithmic", t, r, draws=r[None][:0], offset=0)
    assert fit.parameters["decay_per_decade"].value == pytest.approx(0.2, abs=EXACT)
    assert fit.parameters["decay_per_decade"].value / math.log(10) == pytest.approx(0.0868589, abs=1e-7)
    assert fit.parameters["a"].value == pytest.approx(0.8, abs=EXACT)
    assert fit.parameters["log10_tau"].value == pytest.approx(4, abs=EXACT)
    # Half of .8 is lost at t = 100, 99 steps after t = 1.
    assert fit.half_life.steps == pytest.approx(99, abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_weighted_least_squares_agree_with_scipy(law) -> None:
    rng = np.random.default_rng(5)
    y = CURVES[law](LAGS, *TRUE[law]) + rng.normal(0, 0.05, len(LAGS))
    w = rng.uniform(0.2, 5, len(LAGS))
    found, _ = curve_fit(CURVES[law], LAGS, y, p0=TRUE[law], sigma=1 / np.sqrt(w), xtol=1e-14, ftol=1e-14)
    fit = fit_law(law, LAGS, y, draws=NONE, weights=w)
    assert fit.parameters["a"].value == pytest.approx(found[0], rel=1e-5)
    assert fit.parameters[SECOND[law]].value == pytest.approx(found[1], rel=1e-5)
    share = w / w.mean()
    squares = float(share @ (y - CURVES[law](LAGS, *found)) ** 2)
    # 8 lags, 2 parameters and the variance: se^2 = S / 6, AIC = 8 ln(S / 8) + 6.
    assert fit.residual_se == pytest.approx(math.sqrt(squares / 6), rel=FOUND)
    assert fit.aic == pytest.approx(8 * math.log(squares / 8) + 6, abs=1e-5)


@pytest.mark.parametrize("law", ["power", "exponential"])
def test_no_point_of_a_fine_grid_fits_better(law) -> None:
    y = CURVES[law](LAGS, *TRUE[law]) + np.random.default_rng(2).normal(0, 0.1, len(LAGS))
    fit = fit_law(law, LAGS, y, draws=NONE)
    mine = fit.residual_se**2 * 6
    for second in np.linspace(-0.5, 3, 2000):
        shape = CURVES[law](LAGS, 1.0, second)
        left = y - shape * (y @ shape) / (shape @ shape)
        assert left @ left >= mine - EXACT


def test_the_draws_are_fitted_as_the_curve_is() -> None:
    draws = around(CURVES["exponential"](LAGS, *TRUE["exponential"]), 50, sd=0.03)
    fit = fit_law("exponential", LAGS, draws[0], draws=draws)
    alone = [fit_law("exponential", LAGS, row, draws=NONE) for row in draws]
    decays = sorted(each.parameters["decay_per_step"].value for each in alone)
    # Of 50 draws in order, 2.5% and 97.5% lie in the 2nd and the 49th.
    assert fit.parameters["decay_per_step"].lo == pytest.approx(decays[1], rel=FOUND)
    assert fit.parameters["decay_per_step"].hi == pytest.approx(decays[48], rel=FOUND)
    # The profile may only add to what the draws say.
    halves = sorted(each.half_life.steps for each in alone)
    assert fit.half_life.lo <= halves[1] * (1 + FOUND)
    assert fit.half_life.hi >= halves[48] * (1 - FOUND)


def test_the_law_that_made_the_data_has_the_smallest_aic() -> None:
    for law in LAWS:
        y = CURVES[law](LAGS, *TRUE[law]) + np.random.default_rng(7).normal(0, 0.005, len(LAGS))
        fits = {each: fit_law(each, LAGS, y, draws=NONE) for each in LAWS}
        assert best_law(fits) == law
    assert best_law({}) is None


def test_a_perfect_fit_has_no_aic_and_is_the_best() -> None:
    y = CURVES["logarithmic"](LAGS, *TRUE["logarithmic"])
    fits = {each: fit_law(each, LAGS, y, draws=NONE) for each in LAWS}
    assert fits["logarithmic"].aic is None
    assert fits["power"].aic is not None
    assert best_law(fits) == "logarithmic"


@pytest.mark.parametrize("law", LAWS)
def test_scale_scales_and_the_half_life_stays(law) -> None:
    y = CURVES[law](LAGS, *TRUE[law]) + np.random.default_rng(4).normal(0, 0.02, len(LAGS))
    draws = around(y)
    one, other = (fit_law(law, LAGS, c * y, draws=c * draws) for c in (1, 7.5))
    assert other.parameters["a"].value == pytest.approx(7.5 * one.parameters["a"].value)
    assert other.residual_se == pytest.approx(7.5 * one.residual_se)
    assert other.half_life.steps == pytest.approx(one.half_life.steps)
    assert other.half_life.lo == pytest.approx(one.half_life.lo)


def test_half_is_not_reached_within_the_lags() -> None:
    # exp(-.001 * 300) = .74 is left at the last lag.
    y = 0.8 * np.exp(-0.001 * LAGS)
    fit = fit_law("exponential", LAGS, y, draws=around(y, sd=0.001))
    assert fit.half_life.steps is None
    assert fit.half_life.reason == "half is not reached by 300 steps"
    assert (fit.half_life.lo, fit.half_life.hi) == (300, None)
    # With draws that reach it, the lower end is theirs.
    noisy = fit_law("exponential", LAGS, y, draws=around(y, sd=0.5))
    assert noisy.half_life.steps is None
    assert 0 <= noisy.half_life.lo < 300


def test_a_half_life_just_within_the_lags_has_no_upper_end() -> None:
    y = 0.8 * np.exp(-LAGS * math.log(2) / 290)
    half = fit_law("exponential", LAGS, y, draws=around(y, sd=0.05)).half_life
    assert half.steps == pytest.approx(290, rel=1e-5)
    assert half.hi is None
    assert half.reason == "its upper end is not reached by 300 steps"


@pytest.mark.parametrize("law", LAWS)
def test_a_rising_curve_has_no_half_life(law) -> None:
    y = 0.2 + 0.1 * np.log10(1 + LAGS)
    fit = fit_law(law, LAGS, y, draws=around(y, sd=0.001))
    assert fit.parameters[SECOND[law]].value < 0
    assert (fit.half_life.steps, fit.half_life.lo, fit.half_life.hi) == (None, 300, None)
    assert fit.half_life.reason == "the fitted curve does not fall"
    assert "log10_tau" not in fit.parameters


@pytest.mark.parametrize("law", ["power", "exponential"])
def test_what_is_gone_at_the_second_lag_was_lost_before_it(law) -> None:
    lags, y = np.array([10.0, 50, 90, 130]), np.array([0.9, 0, 0, 0])
    half = fit_law(law, lags, y, draws=np.tile(y, (50, 1))).half_life
    assert (half.steps, half.lo, half.hi) == (None, 0, 40)
    assert half.reason == "half is lost before the second lag, 40 steps after the first"


@pytest.mark.parametrize("law", LAWS)
def test_of_an_excess_that_may_be_none_there_is_no_half_life(law) -> None:
    y = 0.02 * np.exp(-0.02 * LAGS)
    half = fit_law(law, LAGS, y, draws=around(y, sd=0.05)).half_life
    assert (half.steps, half.lo, half.hi) == (None, None, None)
    assert "is not clearly above 0" in half.reason
    below = fit_law(law, LAGS, -y, draws=NONE).half_life
    assert below.steps is None


@pytest.mark.parametrize("law", LAWS)
def test_without_draws_there_is_no_interval_and_it_is_said(law) -> None:
    y = CURVES[law](LAGS, *TRUE[law])
    fit = fit_law(law, LAGS, y, draws=NONE)
    assert (fit.half_life.lo, fit.half_life.hi) == (None, None)
    assert fit.half_life.reason == "no interval: no draws, or items of a single cluster"
    assert all(each.lo is None and each.hi is None for each in fit.parameters.values())


@pytest.mark.parametrize("law", LAWS)
def test_a_flat_curve_does_not_fall(law) -> None:
    y = np.full(len(LAGS), 0.5)
    fit = fit_law(law, LAGS, y, draws=np.tile(y, (20, 1)))
    assert fit.parameters[SECOND[law]].value == pytest.approx(0, abs=1e-4)
    assert fit.half_life.steps is None
    assert fit.half_life.lo == 300


@pytest.mark.parametrize(
    ("lags", "y", "message"),
    [
        ([0.0, 1], [1.0, 0.5], f"2 lags, and a fit needs {MIN_LAGS}"),
        ([5.0], [1.0], "1 lag, and a fit needs"),
        ([0.0, 1, 1], [1.0, 0.5, 0.4], "must rise"),
        ([-1.0, 1, 2], [1.0, 0.5, 0.4], "must rise"),
        ([0.0, 1, 2], [0.0, 0, 0], "the excess is 0 at every lag"),
    ],
)
@pytest.mark.parametrize("law", LAWS)
def test_what_cannot_be_fitted_is_refused(law, lags, y, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(law, np.array(lags), np.array(y), draws=np.empty((0, len(lags))))


@pytest.mark.parametrize("lags", [np.array([0.0, 1e5, 2e5]), np.array([0.0, *np.geomspace(1, 1e6, 40)])])
def test_lags_of_any_range_can_be_fitted(lags) -> None:
    for law, second in (("power", 0.1), ("exponential", math.log(2) / lags[len(lags) // 2])):
        y = CURVES[law](lags, 0.5, second)
        fit = fit_law(law, lags, y, draws=NONE[:, : len(lags)] if len(lags) <= len(LAGS) else y[None][:0])
        assert fit.parameters[SECOND[law]].value == pytest.approx(second, rel=1e-4)


# Curves that follow no law


def remembered(share, n_items, rng):
    """Whether each item is remembered at each lag: it is until its own threshold falls below the share."""
    return (rng.random(n_items)[:, None] < share).astype(float)


@pytest.mark.parametrize(
    ("share", "n_items", "is_unfit"),
    [
        (lambda t: 0.8 * 0.5 ** (t / 40), 1000, False),
        (lambda t: 0.8 * (1 + t) ** -0.2, 1000, False),
        (lambda t: 0.8 * (0.25 + 0.75 * 0.5 ** (t / 20)), 1000, True),
    ],
    ids=["exponential", "power", "a quarter is never forgotten"],
)
def test_a_curve_that_follows_none_of_the_laws_has_no_half_life(share, n_items, is_unfit) -> None:
    rng = np.random.default_rng(2)
    lag = np.array([0.0, 5, 10, 20, 40, 80, 160, 320])
    items = remembered(share(lag), n_items, rng)
    draws = rng.multinomial(n_items, np.full(n_items, 1 / n_items), 300) @ items / n_items
    fits = fit_laws(lag, items.mean(0), draws=draws, weights=Binomial(np.zeros(8), n_items))
    best = fits[best_law(fits)]
    assert best.is_unfit is is_unfit
    assert (best.half_life_anew.steps is None) is is_unfit
    assert ("does not follow the law" in (best.half_life_anew.reason or "")) is is_unfit


def test_a_curve_on_a_law_has_its_half_life_whatever_the_number_of_items() -> None:
    lag = np.arange(8) * 125.0
    for n_items in (10, 30, 1000):
        curve = {"draws": np.zeros((0, 8)), "weights": Binomial(np.zeros(8), n_items)}
        fit = fit_laws(lag, 0.8 * 0.5 ** (lag / 100), **curve)["exponential"]
        assert fit.half_life.steps == pytest.approx(100, rel=1e-3)
        assert (fit.fit_p, fit.is_unfit) == (None, False)
