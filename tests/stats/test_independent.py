"""Intervals and effects computed anew from their definitions, by someone who had not read the code.

Rungs: slow recomputation (the bound over documents by numerical inversion, effects by loops), closed form
(Clopper-Pearson), brute force over all outcomes, a seeded simulation.
"""

import itertools

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from memprobe.stats.did import profile
from memprobe.stats.documents import document_rate
from memprobe.stats.rates import rate_interval, share_interval

# Two inversions of the same characteristic function.
INVERSION = 1e-6
# Sums of a few float64 numbers.
EXACT = 1e-12


def _chance_above_zero(weights: np.ndarray) -> float:
    """P(sum of w G > 0) with independent G ~ Exp(1), by Gil-Pelaez; t is replaced by 1 / t above 1."""
    if (weights >= 0).all() or (weights <= 0).all():
        return float(weights.sum() > 0)
    w = weights / np.abs(weights).max()

    def density(t: float) -> float:
        size = np.exp(-0.5 * np.log1p((w * t) ** 2).sum())
        return float(size * np.sin(np.arctan(w * t).sum()) / t)

    near = integrate.quad(density, 0, 1, limit=500)[0]
    far = integrate.quad(lambda u: density(1 / u) / u**2, 1e-12, 1, limit=2000)[0]
    return 0.5 + (near + far) / float(np.pi)


def _upper(hits: np.ndarray, sizes: np.ndarray) -> float:
    """The u at which P(sum G (x - u m) + G_0 M (1 - u) > 0) = 0.025, M = sum m^2 / sum m."""
    if hits.sum() == sizes.sum():
        return 1.0
    unseen = (sizes**2).sum() / sizes.sum()
    return float(
        optimize.brentq(
            lambda u: _chance_above_zero(np.r_[hits - u * sizes, unseen * (1 - u)]) - 0.025,
            max(hits.sum() / sizes.sum(), 1e-9),
            1 - 1e-12,
            xtol=1e-10,
        )
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_over_documents_is_that_of_its_definition(seed: int) -> None:
    g = np.random.default_rng(seed)
    sizes = g.integers(1, 9, 4 + 3 * seed)
    hits = g.binomial(sizes, g.random()) if seed % 2 else sizes * g.binomial(1, 0.3, len(sizes))
    found = document_rate(hits.astype(float), sizes.astype(float))
    assert found is not None
    assert found.hi == pytest.approx(_upper(hits, sizes), abs=INVERSION)
    assert found.lo == pytest.approx(1 - _upper(sizes - hits, sizes), abs=INVERSION)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 20), (10, 20), (20, 20), (3, 57)])
def test_documents_of_one_item_have_the_bound_of_clopper_and_pearson(hits: int, n: int) -> None:
    lo = stats.beta.ppf(0.025, hits, n - hits + 1) if hits else 0
    hi = stats.beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1
    values = np.r_[np.ones(hits), np.zeros(n - hits)]
    for found in (document_rate(values, np.ones(n)), share_interval(values, np.arange(n))):
        assert found is not None
        assert (found.lo, found.hi) == pytest.approx((lo, hi), abs=INVERSION)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 1), (1, 4, 2, 2), (3, 3, 3)])
def test_no_bound_falls_when_a_hit_is_added_to_any_outcome(sizes: tuple[int, ...]) -> None:
    found = {
        hits: document_rate(np.array(hits, float), np.array(sizes, float))
        for hits in itertools.product(*(range(size + 1) for size in sizes))
    }
    for hits, here in found.items():
        for k in range(len(sizes)):
            there = found.get((*hits[:k], hits[k] + 1, *hits[k + 1 :]))
            if hits[k] < sizes[k]:
                assert here is not None
                assert there is not None
                assert there.lo >= here.lo - INVERSION
                assert there.hi >= here.hi - INVERSION


def test_documents_memorized_whole_are_covered() -> None:
    g = np.random.default_rng(1)
    document, missed = np.repeat(np.arange(20), 12), 0
    for known in g.binomial(1, 0.1, (200, 20)):
        found = rate_interval(known[document].astype(float), document)
        assert found is not None
        missed += not found.lo <= 0.1 <= found.hi
    # Of 200 at most 5% each side would be 10; P(more than 20) is below 0.001.
    assert missed <= 20


def test_effects_are_differences_of_mean_changes() -> None:
    g = np.random.default_rng(3)
    cohort, never = np.r_[np.repeat([2, 3, 5], [3, 7, 4]), np.zeros(9, int)], np.arange(23) >= 14
    y = g.normal(size=(23, 7)).cumsum(1)
    found = profile(y, cohort, never=never, rng=g, n_draws=0)
    atts, sizes = {}, {2: 3, 3: 7, 5: 4}
    for own, t in itertools.product(sizes, range(1, 7)):
        change = y[:, t] - y[:, own - 1 if t >= own else t - 1]
        atts[own, t] = change[(cohort == own) & ~never].mean() - change[never].mean()
    cells = zip(found.cells.cohort.tolist(), found.cells.period.tolist(), strict=True)
    assert dict(zip(cells, found.cells.att.value.tolist(), strict=True)) == pytest.approx(atts, abs=EXACT)
    events = found.aggregations["event"]
    for event, value in zip(events.key.tolist(), events.estimates.value.tolist(), strict=True):
        here = [(sizes[own], att) for (own, t), att in atts.items() if t - own == event]
        assert value == pytest.approx(sum(n * att for n, att in here) / sum(n for n, _ in here), abs=EXACT)
