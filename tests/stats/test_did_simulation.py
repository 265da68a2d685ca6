"""Do the intervals and bands of difference-in-differences hold what they promise?

A known effect, panels drawn again and again. The small version runs with the tests; the full one
(`make bench`) prints coverage, also of items that come in few batches, and holds it to 93 to 97%.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.stats import binom

from memprobe.stats.did import profile

N_PERIODS = 8
COHORTS = (2, 3, 4, 5, 6)
SIZE = 100
N_CONTROL = 500
BATCHES = 10
N_SMALL, N_FULL = 150, 2000
# A right method fails one of the small version's tests once in 10,000 seeds.
CHANCE = 1e-4


def effect(since: np.ndarray) -> np.ndarray:
    """1 at once, fading to a quarter."""
    return np.where(since >= 0, 0.25 + 0.75 * 0.6 ** np.maximum(since, 0), 0.0)


def draw(g: np.random.Generator, shared: float) -> tuple[np.ndarray, ...]:
    """A panel: levels, correlated errors, a trend for all, and `shared` of the errors' sd by batch."""
    cohort = np.append(np.repeat(COHORTS, SIZE), np.zeros(N_CONTROL, int))
    never = np.arange(len(cohort)) >= SIZE * len(COHORTS)
    batch = np.arange(len(cohort)) // (SIZE // BATCHES)
    y = g.normal(size=(len(cohort), 1)) * 2 - np.arange(N_PERIODS) * 0.3
    y += g.normal(size=(len(cohort), N_PERIODS)).cumsum(1) * 0.5 + g.normal(size=(*y.shape[:1], N_PERIODS))
    y += shared * g.normal(size=(batch[-1] + 1, N_PERIODS))[batch]
    since = np.arange(N_PERIODS) - np.where(never, N_PERIODS, cohort)[:, None]
    return y + effect(since), cohort, never, batch


@dataclass
class Counts:
    """Replications in which something held."""

    n: int = 0
    held: dict[str, float] = field(default_factory=dict)

    def add(self, **held: float) -> None:
        for name, value in held.items():
            self.held[name] = self.held.get(name, 0.0) + value

    def share(self, name: str) -> float:
        return self.held[name] / self.n


def inside(estimates, truth: np.ndarray, lo: str, hi: str) -> np.ndarray:
    return (getattr(estimates, lo) <= truth) & (truth <= getattr(estimates, hi))


def simulate(
    n: int, seed: int, *, shared: float = 0.0, clustered: bool = False, n_draws: int = 400
) -> Counts:
    counts = Counts(n)
    for replication in range(n):
        g = np.random.default_rng([seed, replication])
        y, cohort, never, batch = draw(g, shared)
        clusters = batch if clustered else None
        found = profile(y, cohort, never=never, rng=g, clusters=clusters, n_draws=n_draws)
        cells, event = found.cells, found.aggregations["event"]
        truth = effect(cells.event_time)
        one = int(np.flatnonzero((cells.cohort == 4) & (cells.period == 6))[0])
        simple = found.aggregations["simple"].overall
        mean_effect = truth[cells.is_post].mean()
        pointwise = inside(cells.att, truth, "lo", "hi")
        counts.add(
            all_cells=pointwise.mean(),
            one_cell=float(pointwise[one]),
            simple=float(simple.lo <= mean_effect <= simple.hi),
            event_0=float(found.instantaneous.lo <= 1.0 <= found.instantaneous.hi),
            band_of_cells=float(inside(cells.att, truth, "lo_sim", "hi_sim").all()),
            band_of_events=float(inside(event.estimates, effect(event.key), "lo_sim", "hi_sim").all()),
            wald_accepts=float(found.pretrend.p_value is None or found.pretrend.p_value > 0.05),
            sup_t_accepts=float(found.pretrend.sup_t_p_value > 0.05),
        )
    return counts


def test_intervals_and_bands_cover_the_known_effect() -> None:
    counts = simulate(N_SMALL, 1, n_draws=200)
    lo, hi = binom.ppf(CHANCE / 2, N_SMALL, 0.95), binom.ppf(1 - CHANCE / 2, N_SMALL, 0.95)
    for name in ("one_cell", "simple", "event_0", "band_of_cells", "band_of_events", "sup_t_accepts"):
        assert lo <= counts.held[name] <= hi, name
    # Too wide would pass above: 150 of 150 is allowed there. Over 35 cells a replication it is not.
    assert 0.93 < counts.share("all_cells") < 0.97


def test_pointwise_intervals_do_not_contain_the_whole_profile() -> None:
    """What would pass for a band if the band were made of pointwise intervals."""
    missed = 0
    for replication in range(40):
        g = np.random.default_rng([2, replication])
        y, cohort, never, _ = draw(g, 0.0)
        cells = profile(y, cohort, never=never, rng=g, n_draws=0).cells
        missed += not inside(cells.att, effect(cells.event_time), "lo", "hi").all()
    assert missed > 20


def test_batches_that_share_errors_need_clusters() -> None:
    alone, clustered = (simulate(30, 3, shared=1.0, clustered=c, n_draws=1) for c in (False, True))
    # 10 items a batch with a third of the variance shared: variances are off by about 4.
    assert alone.share("all_cells") < 0.75
    assert clustered.share("all_cells") > 0.85


def small(seed: int, n: int, *, size: int, n_control: int, batches: int = 1) -> Counts:
    """Five cohorts of a few items, or of batches that share all errors, and a known effect of 1."""
    counts = Counts(n)
    for replication in range(n):
        g = np.random.default_rng([seed, replication])
        cohort = np.append(np.repeat(COHORTS, size), np.full(n_control, -1))
        noise = (
            g.normal(size=(len(cohort), N_PERIODS)) + g.normal(size=(len(cohort), N_PERIODS)).cumsum(1) / 2
        )
        y = np.repeat(noise, batches, axis=0)
        cohort = np.repeat(cohort, batches)
        y += (np.arange(N_PERIODS) >= cohort[:, None]) & (cohort >= 0)[:, None]
        clusters = np.arange(len(cohort)) // batches
        found = profile(y, cohort, never=cohort < 0, rng=g, clusters=clusters, n_draws=200)
        att, truth = found.cells.att, found.cells.is_post.astype(float)
        counts.add(
            cells=inside(att, truth, "lo", "hi").mean(),
            band=float(inside(att, truth, "lo_sim", "hi_sim").all()),
            accepts=float(found.pretrend.sup_t_p_value > 0.05),
        )
    return counts


@pytest.mark.parametrize("batches", [1, 4])
def test_cohorts_of_three_are_covered_and_their_pretrends_accepted(batches) -> None:
    """With 1.96 errors and draws of three signs: cells 0.81, bands 0.3 to 0.5, tests 0.5 to 0.7."""
    counts = small(8, 40, size=3, n_control=30, batches=batches)
    assert 0.925 < counts.share("cells") < 0.985
    # 0.95 in the long run, see docs/validation/coverage-profile.md: 31 of 40 once in 10,000 seeds.
    assert counts.held["band"] > 31
    assert counts.held["accepts"] > 31


@pytest.mark.benchmark
def test_coverage_of_2000_panels(capsys) -> None:
    independent = simulate(N_FULL, 4)
    batches = simulate(N_FULL, 5, shared=1.0, clustered=True)
    with capsys.disabled():
        print(
            f"\nshare of {N_FULL} panels, {len(COHORTS)} cohorts of {SIZE}; independent | 10 batches a cohort"
        )
        for name in independent.held:
            print(f"  {name:16s} {independent.share(name):.4f}  {batches.share(name):.4f}")
    for name in ("all_cells", "one_cell", "simple", "event_0", "band_of_cells", "band_of_events"):
        assert 0.93 <= independent.share(name) <= 0.97, name
