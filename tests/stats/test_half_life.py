"""Half-life intervals: fits against scipy, the profile against a plain search, coverage by simulation.

Rungs: closed forms; scipy's minimize as slow recomputation; a simulation of items that keep their threshold,
which percentiles of weighted least squares fail; invariances; undefined cases.
"""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, t

from memprobe.stats.curves import best_law, fit_laws
from memprobe.stats.half_life import LAWS, Binomial, Fitted, Shape, climb, expanded, held_at

LAGS = np.arange(0, 1000, 125.0)
NONE = np.empty((0, len(LAGS)))
# A step that promises 1e-8 nats is the last: parameters of 100 items are then off by 1e-5 or so.
FOUND = 1e-3


def rate(half: float, first: float = 0.8) -> np.ndarray:
    return first * 0.5 ** (LAGS / half)


def items(rng: np.random.Generator, p: np.ndarray, n: int, size: int = 1) -> np.ndarray:
    """Items remembered while the rate is above their threshold; those of a cluster share it."""
    return (np.repeat(rng.random(n // size), size)[:, None] < p).astype(float)


def resampled(rng: np.random.Generator, y: np.ndarray, n_draws: int, size: int = 1) -> np.ndarray:
    k = len(y) // size
    times = rng.multinomial(k, np.full(k, 1 / k), size=n_draws)
    return times @ y.reshape(k, size, -1).mean(1) / k


def sample(seed: int, n: int = 100, *, size: int = 1, n_draws: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = items(rng, rate(250), n, size)
    return y.mean(0), resampled(rng, y, n_draws, size)


@pytest.mark.parametrize("law", LAWS)
def test_a_half_life_and_its_decay_are_the_same_thing_and_half_is_left_there(law) -> None:
    lags = np.array([5.0, 20, 105])
    shape = Shape.of(law, lags, 1.0, stops=True)
    decay = shape.decay(np.array([100.0]))
    assert shape.half(decay)[0] == pytest.approx(100)
    assert shape.left(decay)[0][0, [0, 2]] == pytest.approx([1, 0.5])
    assert shape.half(np.array([0.0, -0.1])).tolist() == [math.inf] * 2


@pytest.mark.parametrize("law", LAWS)
def test_the_slopes_of_likelihood_and_shape_are_their_differences(law) -> None:
    shape, like = Shape.of(law, LAGS, 1.0, stops=True), Binomial(np.full(len(LAGS), 0.1), 50)
    y, decay, step = sample(1)[0][None], Shape.of(law, LAGS, 1.0, stops=True).decay(np.array([5000.0])), 1e-6
    left, slope = shape.left(decay)
    assert (shape.left(decay + step)[0] - left) / step == pytest.approx(slope, rel=1e-3, abs=1e-3)
    up, down = (like.value(y, 0.7 * left + np.eye(len(LAGS)) * by) for by in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(like.score(y, 0.7 * left)[0][0], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("law", LAWS)
def test_no_search_finds_a_likelier_curve_of_rates(law) -> None:
    y = sample(2)[0]
    shape, like = Shape.of(law, LAGS, 1.0, stops=True), Binomial(np.zeros(len(LAGS)), 100)
    fit = climb(shape, like, y[None], Fitted(*(np.array([each]) for each in (0.8, 0.001, 0.0))))

    def loss(theta: np.ndarray) -> float:
        left = shape.left(np.array([math.exp(theta[1])]))[0]
        return -float(like.value(y[None], theta[0] * left)[0])

    starts = [(0.8, math.log(shape.decay(np.array([h]))[0])) for h in (50.0, 250.0, 1000.0)]
    best = min((minimize(loss, start, method="Nelder-Mead") for start in starts), key=lambda at: at.fun)
    assert float(fit.value[0]) >= -best.fun - 1e-4


def test_the_likelihood_at_a_half_life_is_that_of_the_best_law_and_amount() -> None:
    y = sample(3)[0]
    shapes = [Shape.of(law, LAGS, 1.0, stops=True) for law in LAWS]
    like = Binomial(np.zeros(len(LAGS)), 100)
    got = held_at(shapes, like, y[None], np.array([200.0]))
    a = np.linspace(0.01, 1.2, 4000)[:, None]
    lefts = [shape.left(shape.decay(np.array([200.0])))[0] for shape in shapes]
    slow = max(like.value(np.tile(y, (len(a), 1)), a * left).max() for left in lefts)
    assert got[0] == pytest.approx(slow, abs=1e-3)


def test_the_order_of_draws_and_the_clusters_numbers_change_nothing() -> None:
    y, draws = sample(4)
    like = Binomial(np.zeros(len(LAGS)), 100)
    one, other = (fit_laws(LAGS, y, draws=each, weights=like) for each in (draws, draws[::-1]))
    for law in LAWS:
        assert one[law].fit_p == other[law].fit_p
        if not one[law].is_unfit:
            assert one[law].half_life_anew.lo == pytest.approx(other[law].half_life_anew.lo, rel=FOUND)
            assert one[law].half_life_anew.hi == pytest.approx(other[law].half_life_anew.hi, rel=FOUND)
    assert not one["exponential"].is_unfit


def test_an_interval_that_chooses_the_law_holds_the_estimate_and_half_life_percentiles() -> None:
    y, draws = sample(5, 60)
    fits = fit_laws(LAGS, y, draws=draws, weights=Binomial(np.zeros(len(LAGS)), 60), n_clusters=60)
    half = fits[best_law(fits)].half_life_anew
    assert half.lo <= half.steps <= half.hi
    chosen = []
    for row in draws:
        alone = fit_laws(LAGS, row, draws=NONE, weights=Binomial(np.zeros(len(LAGS)), 60))
        chosen.append(alone[best_law(alone)].half_life.steps or math.inf)
    lo, hi = np.quantile(chosen, [0.025, 0.975], method="inverted_cdf")
    assert half.lo <= lo * (1 + FOUND)
    assert half.hi >= hi * (1 - FOUND)


def test_few_clusters_are_read_at_a_higher_level() -> None:
    # 10 clusters: t = 2.262 on 9 degrees, times sqrt(10/9) = 2.384: 1 - 2 Phi(-2.384) = 0.98290.
    assert expanded(0.95, 10) == pytest.approx(0.98290, abs=2e-5)
    z = t.ppf(0.975, 29) * math.sqrt(30 / 29)
    assert expanded(0.95, 30) == pytest.approx(1 - 2 * norm.cdf(-z), abs=1e-12)
    assert expanded(0.95, 10**7) == pytest.approx(0.95, abs=1e-6)


def test_without_a_lag_past_the_end_of_the_interval_it_is_open_and_said() -> None:
    rng = np.random.default_rng(6)
    y = items(rng, rate(800), 60)
    fits = fit_laws(
        LAGS,
        y.mean(0),
        draws=resampled(rng, y, 200),
        weights=Binomial(np.zeros(len(LAGS)), 60),
        n_clusters=60,
    )
    half = fits[best_law(fits)].half_life_anew
    assert half.hi is None
    assert "not reached by 875 steps" in half.reason


def test_a_curve_below_its_baseline_in_every_draw_is_refused_and_nothing_overflows() -> None:
    y, draws = sample(7)
    like = Binomial(np.full(len(LAGS), 0.95), 100)
    fits = fit_laws(LAGS, y - 0.95, draws=draws - 0.95, weights=like)
    for fit in fits.values():
        assert (fit.half_life_anew.lo, fit.half_life_anew.hi) == (None, None)
        assert "not clearly above 0" in fit.half_life_anew.reason


@pytest.mark.parametrize("seed", [1001, 1013, 1014, 1027])
def test_a_half_life_that_percentiles_of_least_squares_miss_is_held(seed) -> None:
    # Of 40 samples of 30 items the percentiles miss in these and four more: 80% where 95% are promised.
    y, draws = sample(seed, 30)
    old = fit_laws(LAGS, y, draws=draws, weights=1 / (draws.var(0) + 1 / 30**2))["exponential"]
    decay = old.parameters["decay_per_step"]
    assert not decay.lo <= math.log(2) / 250 <= decay.hi
    like = Binomial(np.zeros(len(LAGS)), 30)
    fits = fit_laws(LAGS, y, draws=draws, weights=like, n_clusters=30)
    held = fits[best_law(fits)].half_life_anew
    assert held.lo <= 250 <= (math.inf if held.hi is None else held.hi)


def coverage(n: int, size: int, n_trials: int) -> tuple[float, float]:
    """Share of trials in which the interval, and the percentiles alone, hold the half-life of 250."""
    held = percentiles = 0
    for seed in range(n_trials):
        y, draws = sample(1000 + seed, n, size=size, n_draws=120)
        like = Binomial(np.zeros(len(LAGS)), n)
        fits = fit_laws(LAGS, y, draws=draws, weights=like, n_clusters=n // size)
        best = fits[best_law(fits)]
        lo, hi = best.half_life_anew.lo, best.half_life_anew.hi
        held += lo <= 250 <= (math.inf if hi is None else hi)
        rows = fit_laws(LAGS, y, draws=draws, weights=1 / (draws.var(0) + 1 / n**2))[best.law]
        ends = rows.parameters.get("decay_per_step")
        percentiles += ends is not None and ends.lo <= math.log(2) / 250 <= ends.hi
    return held / n_trials, percentiles / n_trials


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size"), [(30, 1), (100, 1), (150, 5)])
def test_the_half_life_is_covered_where_percentiles_of_least_squares_are_not(n, size) -> None:
    held, percentiles = coverage(n, size, 150)
    # 0.95 within three standard errors of 150 trials.
    assert held > 0.90
    assert percentiles < held
