"""Coverage of the bound by documents: rates, shares, paired differences and excesses over a grid.

What is drawn comes from the definitions of the populations alone: documents whose rates are beta
distributed with an intraclass correlation, or that are memorized whole, of equal and of unequal size. Run
with `pytest -m benchmark -s`; `MEMPROBE_COVERAGE_CSV` names a file that the rows are written to as well.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from memprobe.stats.differences import difference_interval, independent_difference
from memprobe.stats.intervals import Interval
from memprobe.stats.rates import rate_interval, share_interval

pytestmark = pytest.mark.benchmark

# A first look at each cell, and a closer one where a tail is not clearly within what is allowed.
FIRST, CLOSER = 200, 2000
TAIL = 0.035
DOCUMENTS, RATES = (5, 20, 50, 200), (0.005, 0.02, 0.1, 0.5)
SIZES: tuple[int | str, ...] = (2, 10, 50, "2-50")
KINDS = ("icc 0", "icc 0.1", "icc 0.3", "icc 0.5", "whole", "long whole")
# Where the tails are light in any case, most of the time would be spent.
SKIPPED = {("icc 0", 200), ("icc 0.1", 200)}
HEAD = "| method | cell | nominal | coverage | lower tail | upper tail | median width | replications |"


@dataclass(frozen=True)
class Cell:
    """What was found of one population: counts of bounds on the wrong side of the truth, and widths."""

    name: str
    method: str
    below: float
    above: float
    width: float
    n: int

    def line(self) -> str:
        tails = f"{1 - self.below - self.above:.3f} | {self.below:.3f} | {self.above:.3f}"
        return f"| {self.method} | {self.name} | 0.95 | {tails} | {self.width:.3f} | {self.n} |"


def sizes_of(size: int | str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes of documents: all equal, or log-uniform from 2 to 50."""
    if size != "2-50":
        return np.full(n, int(size))
    return np.floor(np.exp(rng.uniform(np.log(2), np.log(51), n))).astype(int)


# First and second moment of the log-uniform sizes, by a large draw.
_DRAWN = sizes_of("2-50", 1_000_000, np.random.default_rng(0)).astype(float)
MEAN, SQUARE = float(_DRAWN.mean()), float((_DRAWN**2).mean())


def hits_of(kind: str, sizes: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Hits of each document; the rate of items is p in the population."""
    if kind == "whole":
        return np.where(rng.random(len(sizes)) < p, sizes, 0)
    if kind == "long whole":
        # The chance of a document grows with its size: E[m P(m)] / E[m] = p.
        return np.where(rng.random(len(sizes)) < p * sizes * MEAN / SQUARE, sizes, 0)
    icc = float(kind.split()[1])
    if icc == 0:
        return rng.binomial(sizes, p)
    a = (1 - icc) / icc
    return rng.binomial(sizes, rng.beta(p * a, (1 - p) * a, len(sizes)))


def items_of(hits: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and document numbers of the items."""
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(clusters)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (place < hits[clusters]).astype(float), clusters


def measured(name: str, truth: float, draw: Callable[[np.random.Generator], Interval | None]) -> Cell:
    """Simulate a cell, and look closer where a tail may be too heavy."""
    cell = _simulated(name, truth, draw, FIRST)
    if max(cell.below, cell.above) > 0.02:
        cell = _simulated(name, truth, draw, CLOSER)
    return cell


def _simulated(
    name: str, truth: float, draw: Callable[[np.random.Generator], Interval | None], n: int
) -> Cell:
    rng = np.random.default_rng(sum(name.encode()))
    found = [each for each in (draw(rng) for _ in range(n)) if each is not None]
    below = sum(each.lo > truth for each in found) / len(found)
    above = sum(each.hi < truth for each in found) / len(found)
    width = float(np.median([each.hi - each.lo for each in found]))
    method = next(each.method for each in found).replace("-few", "")
    return Cell(name, method, below, above, width, len(found))


def rate_cells() -> Iterator[Cell]:
    """Rates over documents."""
    for kind, n, size, p in product(KINDS, DOCUMENTS, SIZES, RATES):
        if (kind, n) in SKIPPED and size != 10:
            continue
        if kind == "long whole" and (size != "2-50" or p * 51 * MEAN / SQUARE > 1):
            continue

        def draw(
            rng: np.random.Generator, kind: str = kind, n: int = n, size: int | str = size, p: float = p
        ) -> Interval | None:
            sizes = sizes_of(size, n, rng)
            return rate_interval(*items_of(hits_of(kind, sizes, p, rng), sizes))

        yield measured(f"{kind}, {n} x {size}, p {p}", p, draw)


def share_cells() -> Iterator[Cell]:
    """Means of shares of independent items: most are 0, and few are anything above."""
    for n, p, (a, b) in product((20, 60, 300), (0.02, 0.2, 1.0), ((1, 1), (0.3, 3))):

        def draw(
            rng: np.random.Generator, n: int = n, p: float = p, a: float = a, b: float = b
        ) -> Interval | None:
            values = np.where(rng.random(n) < p, rng.beta(a, b, n), 0.0)
            return share_interval(values, np.arange(n))

        yield measured(f"share beta({a}, {b}) of {p}, {n} items", p * a / (a + b), draw)


def pair_cells() -> Iterator[Cell]:
    """Differences of two measurements of the same items: documents that are lost, and ones that are won."""
    for kind, n, size, (won, lost) in product(
        ("icc 0.3", "whole"), (5, 20, 100), (3, 20), ((0.02, 0.02), (0.2, 0.05))
    ):

        def draw(
            rng: np.random.Generator,
            kind: str = kind,
            n: int = n,
            size: int = size,
            won: float = won,
            lost: float = lost,
        ) -> Interval | None:
            sizes = np.full(n, size)
            up, clusters = items_of(hits_of(kind, sizes, won, rng), sizes)
            down = items_of(hits_of(kind, sizes, lost, rng), sizes)[0]
            # Won from the front of a document and lost from its end, so an item may be both: no change.
            return difference_interval(up - down[::-1], clusters=clusters)

        yield measured(f"pairs, {kind}, {n} x {size}, won {won}, lost {lost}", won - lost, draw)


def excess_cells() -> Iterator[Cell]:
    """Rates of some documents in excess of those of others."""
    for kind, (n, m), (p, q) in product(
        ("icc 0.3", "whole"), ((20, 20), (20, 100)), ((0.02, 0.02), (0.1, 0.02), (0.5, 0.1))
    ):

        def draw(
            rng: np.random.Generator, kind: str = kind, n: int = n, m: int = m, p: float = p, q: float = q
        ) -> Interval | None:
            sides = []
            for number, rate in ((n, p), (m, q)):
                sizes = np.full(number, 10)
                values, clusters = items_of(hits_of(kind, sizes, rate, rng), sizes)
                sides += [float(values.mean()), rate_interval(values, clusters)]
            return independent_difference(*sides)

        yield measured(f"excess, {kind}, {n} and {m} x 10, {p} over {q}", p - q, draw)


@pytest.mark.parametrize("cells", [rate_cells, share_cells, pair_cells, excess_cells])
def test_no_tail_is_heavier_than_3_5_percent(cells: Callable[[], Iterator[Cell]]) -> None:
    print(f"\n{HEAD}\n|{'---|' * 8}")
    found = []
    for cell in cells():
        found.append(cell)
        print(cell.line(), flush=True)
    if file := os.environ.get("MEMPROBE_COVERAGE_CSV"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.writelines(f"{cell.line()}\n" for cell in found)
    assert [each.line() for each in found if max(each.below, each.above) > TAIL] == []
