"""Coverage of half-life intervals, simulated from the definition of the population; prints a table.

An item has one threshold for all checkpoints, and is remembered while the rate of its lag is above it.
Items of a cluster have thresholds that are correlated normals; controls are remembered at the baseline.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from memprobe.probes.retention.curves import law_fits
from memprobe.stats.curves import best_law
from memprobe.stats.lag_curve import Controls, Exposed, lag_curve

pytestmark = pytest.mark.benchmark

EVEN, SPREAD = np.arange(0, 1000, 125.0), np.array([0, 1, 2, 5, 10, 30, 100, 300.0])
LEFT = {
    "exponential": lambda lag, h: 0.5 ** (lag / h),
    "power": lambda lag, h: (1 + lag) ** (-math.log(2) / math.log1p(h)),
    "logarithmic": lambda lag, h: np.maximum(0, 1 - 0.5 * np.log1p(lag) / math.log1p(h)),
}
REPLICATIONS, DRAWS = 200, 200


@dataclass(frozen=True)
class Cell:
    """One population and design: `first` is the excess at lag 0, `size` the items of a cluster."""

    law: str
    half: float
    lags: np.ndarray
    n: int
    first: float = 0.8
    floor: float = 0.0
    n_controls: int = 0
    size: int = 1
    icc: float = 0.0

    def __str__(self) -> str:
        lags = "even" if self.lags is EVEN else "spread"
        base = f", baseline {self.floor} of {self.n_controls}" if self.n_controls else ""
        group = f", clusters of {self.size} with {self.icc}" if self.size > 1 else ""
        return f"{self.law}, {lags} lags, n {self.n}{base}{group}"


CELLS = [
    *(Cell("exponential", 250, EVEN, n) for n in (30, 100, 1000)),
    *(Cell("power", 200, EVEN, n) for n in (30, 100, 1000)),
    *(Cell("logarithmic", 15, SPREAD, n) for n in (30, 100, 1000)),
    *(Cell("exponential", 250, EVEN, n, 0.45, 0.5, n) for n in (100, 1000)),
    *(Cell("logarithmic", 15, SPREAD, n, 0.45, 0.5, n) for n in (100, 1000)),
    *(Cell("exponential", 250, EVEN, n, size=5, icc=0.3) for n in (150, 1000)),
    Cell("logarithmic", 15, SPREAD, 150, size=5, icc=0.3),
    Cell("exponential", 250, EVEN, 200, size=10, icc=0.9),
    Cell("exponential", 250, EVEN, 300, 0.45, 0.5, 300, 5, 0.3),
]


def thresholds(rng: np.random.Generator, cell: Cell, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds between 0 and 1, and the cluster of each."""
    cluster = np.arange(n) // cell.size
    shared = rng.normal(size=-(-n // cell.size))[cluster]
    own = rng.normal(size=n)
    return ndtr(math.sqrt(cell.icc) * shared + math.sqrt(1 - cell.icc) * own), cluster


def interval(rng: np.random.Generator, cell: Cell):
    """The half-life of one sample; None where it is refused."""
    n_lags = len(cell.lags)
    rate = cell.floor + cell.first * LEFT[cell.law](cell.lags, cell.half)
    own, cluster = thresholds(rng, cell, cell.n)
    lag, step = np.tile(cell.lags, (cell.n, 1)), np.tile(np.arange(n_lags), (cell.n, 1))
    y = (own[:, None] < rate).astype(float)
    exposed = Exposed(y, lag, step, np.zeros(cell.n, dtype=np.int64), cluster)
    controls = None
    if cell.n_controls:
        own, apart = thresholds(rng, cell, cell.n_controls)
        y = np.tile((own < cell.floor).astype(float)[:, None], (1, n_lags))
        everyone = np.ones((1, cell.n_controls), dtype=bool)
        controls = Controls(y, everyone, apart + int(cluster.max()) + 1)
    curve = lag_curve(exposed, controls, rng=rng, n_draws=DRAWS, floor=cell.floor)
    fits = law_fits(curve)
    half = fits[best_law(fits)].half_life_anew
    return None if half.lo is None else half


def row(cell: Cell, replications: int) -> tuple[str, float]:
    rng = np.random.default_rng(5)
    told = [interval(rng, cell) for _ in range(replications)]
    found = [each for each in told if each is not None]
    lo = np.array([each.lo for each in found])
    hi = np.array([math.inf if each.hi is None else each.hi for each in found])
    below, above = float(np.mean(lo > cell.half)), float(np.mean(hi < cell.half))
    width, is_open = np.median(np.minimum(hi, cell.lags[-1]) - lo), np.isinf(hi).mean()
    cells = (f"{1 - below - above:.3f}", f"{below:.3f}", f"{above:.3f}", f"{width:.0f}", f"{is_open:.2f}")
    about = f"calibrated-profile | {cell}, half-life {cell.half:g} | 0.95"
    return f"| {about} | {' | '.join(cells)} | {len(found)} |", 1 - below - above


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_half_life_lies_in_its_interval(cell, capsys) -> None:
    line, coverage = row(cell, REPLICATIONS)
    with capsys.disabled():
        print("\n" + line)
    assert coverage > 0.91
