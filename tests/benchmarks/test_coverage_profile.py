"""Coverage of the intervals and bands of profile, sizes of its tests, and false alarms of its warning.

Panels are drawn from the definition of the population, with no part of the package: a level of each item, a
random walk and noise of each item and, with `icc`, of each batch; an effect of 1 from the cohort's checkpoint
on. Prints Markdown tables; MEMPROBE_REPLICATIONS sets how many panels a cell has.
"""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from memprobe.probes.profile.estimate import GAP_P, LARGE_GAP_SD
from memprobe.stats.did import Profile, profile

pytestmark = pytest.mark.benchmark

REPLICATIONS = int(os.environ.get("MEMPROBE_REPLICATIONS", "400"))
N_PERIODS = 8
NOMINAL = 0.95


@dataclass(frozen=True)
class World:
    """A population: cohorts of `batches` batches of `per` items each, first treated at periods 2, 3, ..."""

    cohorts: int = 5
    batches: int = 3
    per: int = 1
    controls: int = 30
    control_per: int = 1
    icc: float = 0.0
    sd: float = 1.0
    unequal: bool = False
    heavy: bool = False

    @property
    def name(self) -> str:
        kind = "items" if self.per == 1 else f"batches of {self.per}"
        other = "items" if self.control_per == 1 else f"batches of {self.control_per}"
        more = [f"ICC {self.icc:g}"] if self.per > 1 else []
        more += ["unequal"] if self.unequal else []
        more += [f"treated sd x{self.sd:g}"] if self.sd != 1 else []
        more += ["heavy tails (t4)"] if self.heavy else []
        text = f"{self.cohorts} cohort(s) of {self.batches} {kind}, {self.controls} control {other}"
        return ", ".join([text, *more])

    def noise(self, g: np.random.Generator, *shape: int) -> np.ndarray:
        return g.standard_t(4, shape) / np.sqrt(2) if self.heavy else g.normal(size=shape)

    def side(self, g: np.random.Generator, n: int, per: int, sd: float) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.full(n, per)
        if self.unequal:
            sizes = np.maximum(1, np.round(per * g.exponential(size=n))).astype(int)
        batch = np.repeat(np.arange(n), sizes)

        def walk(many: int) -> np.ndarray:
            return 0.5 * self.noise(g, many, N_PERIODS).cumsum(1) + self.noise(g, many, N_PERIODS)

        own, shared = walk(len(batch)), walk(n)[batch]
        y = 2 * self.noise(g, len(batch), 1) + sd * (np.sqrt(1 - self.icc) * own + np.sqrt(self.icc) * shared)
        return y, batch

    def draw(self, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        parts, cohorts, names, begin = [], [], [], 0
        for cohort in [*range(2, 2 + self.cohorts), -1]:
            treated = cohort >= 0
            n, per = (self.batches, self.per) if treated else (self.controls, self.control_per)
            y, batch = self.side(g, n, per, self.sd if treated else 1.0)
            parts.append(y + (np.arange(N_PERIODS) >= cohort if treated else 0.0))
            cohorts.append(np.full(len(y), cohort))
            names.append(batch + begin)
            begin += n
        clusters = None if self.per == self.control_per == 1 else np.concatenate(names)
        return np.concatenate(parts) - 0.3 * np.arange(N_PERIODS), np.concatenate(cohorts), clusters


WORLDS = (
    World(),
    World(sd=3.0),
    World(heavy=True),
    World(batches=5),
    World(batches=10),
    World(batches=30, controls=100),
    World(cohorts=1, batches=2, per=5, controls=2, control_per=5, icc=0.5),
    World(cohorts=1, batches=5, per=5, controls=20, control_per=5, icc=0.5),
    World(cohorts=1, batches=2, per=5, icc=0.5),
    World(cohorts=1, batches=2, per=5),
    World(cohorts=5, batches=2, per=10, controls=20, control_per=10, icc=0.5),
    World(cohorts=5, batches=5, per=10, controls=100, icc=0.5),
    World(cohorts=3, batches=6, per=10, controls=10, control_per=10, icc=0.5, unequal=True),
)


def found_in(world: World, seed: int, replication: int, n_draws: int, shift: float = 0.0) -> Profile:
    g = np.random.default_rng([seed, replication])
    y, cohort, clusters = world.draw(g)
    y = y + shift * (cohort >= 0)[:, None]
    return profile(y, cohort, never=cohort < 0, rng=g, clusters=clusters, n_draws=n_draws)


def limits(found: Profile) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Lower and upper ends, and the truth, of each method."""
    cells, event = found.cells, found.aggregations["event"]
    truth = np.where(cells.is_post, 1.0, 0.0)
    after = np.where(event.key >= 0, 1.0, 0.0)
    kept = {
        "cells, pointwise": (cells.att.lo, cells.att.hi, truth),
        "cells, band": (cells.att.lo_sim, cells.att.hi_sim, truth),
        "event times, band": (event.estimates.lo_sim, event.estimates.hi_sim, after),
    }
    for name in ("instantaneous", "persistent", "residual"):
        one = getattr(found, name)
        kept[name] = (np.array([one.lo]), np.array([one.hi]), np.array([1.0]))
    return kept


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_coverage(world: World, capsys) -> None:
    under: dict[str, list[float]] = {}
    over: dict[str, list[float]] = {}
    width: dict[str, list[float]] = {}
    rejected: dict[str, list[bool]] = {"sup-t": [], "Wald": []}
    for replication in range(REPLICATIONS):
        found = found_in(world, 7, replication, 1000)
        for name, (lo, hi, truth) in limits(found).items():
            share = np.max if "band" in name else np.mean
            under.setdefault(name, []).append(float(share(hi < truth)))
            over.setdefault(name, []).append(float(share(lo > truth)))
            width.setdefault(name, []).append(float(np.median(hi - lo)))
        test = found.pretrend
        rejected["sup-t"].append(test.sup_t_p_value < 0.05)
        if test.p_value is not None:
            rejected["Wald"].append(test.p_value < 0.05)
    with capsys.disabled():
        for name, above in over.items():
            both = zip(under[name], above, strict=True)
            missed = [max(a, b) if "band" in name else a + b for a, b in both]
            covered = 1 - np.mean(missed)
            print(
                f"\n| {name} | {world.name} | {NOMINAL} | {covered:.3f} | {np.mean(above):.3f} | "
                f"{np.mean(under[name]):.3f} | {np.median(width[name]):.2f} | {REPLICATIONS} |",
                end="",
            )
        for name, values in rejected.items():
            if values:
                share = np.mean(values)
                print(
                    f"\n| pre-trend, {name} rejects | {world.name} | 0.05 | {share:.3f} | - | - | - |", end=""
                )
                print(f" {len(values)} |", end="")
    # Three items a cohort is the least that is promised; 0.89 is four standard errors of 400 panels below.
    assert 1 - np.mean(under["cells, pointwise"]) - np.mean(over["cells, pointwise"]) > 0.92


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[5], WORLDS[7], WORLDS[11]], ids=lambda world: world.name)
def test_false_alarms_and_power_of_the_warning(world: World, shift: float, capsys) -> None:
    """Exchangeable controls, and treated items that are `shift` standard deviations of the levels higher."""
    sd = float(np.sqrt(4 + 1 + 0.25 * 3))
    warned = []
    for replication in range(REPLICATIONS):
        gap = found_in(world, 11, replication, 0, shift * sd).base_gap
        large = gap.p_value is not None and gap.p_value < GAP_P
        warned.append(large and abs(gap.overall.value) > LARGE_GAP_SD * gap.spread)
    with capsys.disabled():
        print(f"\n| {world.name} | {shift:g} | {np.mean(warned):.3f} | {REPLICATIONS} |", end="")
    assert shift > 0 or np.mean(warned) < 0.05
