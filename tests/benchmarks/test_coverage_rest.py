"""Coverage of means without known bounds, tokens recalled, medians, areas and F of the forecast.

What is drawn comes from the definitions of the populations: items of their own, and documents whose items
share a part of what they are, or are memorized whole. Run with `pytest -m benchmark -s`;
`MEMPROBE_COVERAGE_CSV` names a file that the rows are written to as well.
"""

import math
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from memprobe.stats.differences import independent_difference, paired_difference
from memprobe.stats.forecast import forecast
from memprobe.stats.means import mean_interval
from memprobe.stats.medians import km_median, median_interval
from memprobe.stats.ranking import paired_auc
from memprobe.stats.rates import rate_interval, share_interval

pytestmark = pytest.mark.benchmark

REPLICATIONS = int(os.environ.get("MEMPROBE_REPLICATIONS", "400"))
# Documents and items of each.
DESIGNS: tuple[tuple[int, int | str], ...] = (
    (20, 1),
    (100, 1),
    (1000, 1),
    (5, 10),
    (10, 10),
    (20, 10),
    (50, 20),
    (20, "2-50"),
)
ICC = 0.3
# Tokens of a suffix, and the chance that a text that is not memorized goes on by one more token.
SUFFIX, GUESSED = 50, 0.3
CENSORED_AFTER = 60.0

Ends = tuple[float, float, str] | None


def named(n: int, size: int | str) -> str:
    return f"{n} items" if size == 1 else f"{n} x {size}"


def ends_of(interval: Any, scale: float = 1.0) -> Ends:
    if interval is None or interval.lo is None:
        return None
    hi = math.inf if interval.hi is None else interval.hi
    return scale * interval.lo, scale * hi, interval.method.replace("-few", "")


def own(sizes: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def together(sizes: np.ndarray) -> np.ndarray | None:
    return None if (sizes == 1).all() else own(sizes)


def normal_items(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal items that share a part with their document."""
    document = np.repeat(rng.normal(size=len(sizes)), sizes)
    return math.sqrt(ICC) * document + math.sqrt(1 - ICC) * rng.normal(size=int(sizes.sum()))


def skewed_items(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same of exponential parts, mean 0."""
    document, item = (rng.exponential(size=n) - 1 for n in (len(sizes), int(sizes.sum())))
    return math.sqrt(ICC) * np.repeat(document, sizes) + math.sqrt(1 - ICC) * item


def event_items(mean: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Counts of events; documents differ in how many they have, by a gamma distribution."""

    def draw(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(mean * np.repeat(rng.gamma(2, 0.5, len(sizes)), sizes)).astype(float)

    return draw


def tokens_cells(coverage: Any) -> Iterator[Any]:
    """Tokens recalled before the first miss: all of a memorized document's, few of any other."""
    guess = sum(GUESSED**k for k in range(1, SUFFIX + 1))
    for (n, size), share in product(DESIGNS, (0.02, 0.2)):

        def draw(rng: np.random.Generator, n: int = n, size: int | str = size, share: float = share) -> Any:
            sizes = coverage.sizes(n, size, rng)
            known = np.repeat(rng.random(n) < share, sizes)
            guessed = np.minimum(rng.geometric(1 - GUESSED, len(known)) - 1, SUFFIX)
            values = np.where(known, SUFFIX, guessed) / SUFFIX
            return {"tokens recalled": ends_of(share_interval(values, own(sizes)), SUFFIX)}

        truth = {"tokens recalled": share * SUFFIX + (1 - share) * guess}
        yield from coverage.of(f"{share:g} memorized, {named(n, size)}", truth, draw, REPLICATIONS)


def mean_cells(coverage: Any) -> Iterator[Any]:
    """Means of margins, rises and counts, whose values have no known bounds."""
    kinds = {
        "normal": (normal_items, 0.0),
        "exponential": (skewed_items, 0.0),
        "0.1 events": (event_items(0.1), 0.1),
        "1 event": (event_items(1.0), 1.0),
    }
    for (n, size), (kind, (items, truth)) in product(DESIGNS, kinds.items()):

        def draw(rng: np.random.Generator, n: int = n, size: int | str = size, items: Any = items) -> Any:
            sizes = coverage.sizes(n, size, rng)
            return {"mean": ends_of(mean_interval(items(sizes, rng), together(sizes)))}

        yield from coverage.of(f"{kind}, {named(n, size)}", {"mean": truth}, draw, REPLICATIONS)


def median_cells(coverage: Any) -> Iterator[Any]:
    """Medians of ratios: log-normal, and rounded to thirds, which ties them."""
    for (n, size), tied in product(DESIGNS, (False, True)):

        def draw(rng: np.random.Generator, n: int = n, size: int | str = size, tied: bool = tied) -> Any:
            sizes = coverage.sizes(n, size, rng)
            values = np.exp(normal_items(sizes, rng))
            values = np.round(3 * values) / 3 if tied else values
            return {"median": ends_of(median_interval(values, together(sizes)))}

        name = f"{'thirds' if tied else 'log-normal'}, {named(n, size)}"
        yield from coverage.of(name, {"median": 1.0}, draw, REPLICATIONS)


def km_cells(coverage: Any) -> Iterator[Any]:
    """Medians of whole numbers of which some are lower bounds: log-normal, left at a random time."""
    for (n, size), censored in product(DESIGNS, (False, True)):

        def draw(
            rng: np.random.Generator, n: int = n, size: int | str = size, censored: bool = censored
        ) -> Any:
            sizes = coverage.sizes(n, size, rng)
            time = np.ceil(20 * np.exp(normal_items(sizes, rng)))
            left = np.ceil(rng.exponential(CENSORED_AFTER, len(time))) if censored else np.inf
            seen = km_median(np.minimum(time, left), time <= left, clusters=together(sizes))
            return {"Kaplan-Meier median": ends_of(seen)}

        name = f"{'with' if censored else 'without'} lower bounds, {named(n, size)}"
        yield from coverage.of(name, {"Kaplan-Meier median": 20.0}, draw, REPLICATIONS)


def area_cells(coverage: Any) -> Iterator[Any]:
    """Areas of pairs of scores that share half of their variance, for three distances of the two."""
    for (n, size), apart in product(DESIGNS, (0.0, 1.0, 2.5)):

        def draw(rng: np.random.Generator, n: int = n, size: int | str = size, apart: float = apart) -> Any:
            sizes = coverage.sizes(n, size, rng)
            shared = math.sqrt(0.5) * normal_items(sizes, rng)
            one, other = (shared + math.sqrt(0.5) * normal_items(sizes, rng) for _ in range(2))
            return {"area": ends_of(paired_auc(one + apart, other, clusters=together(sizes)).interval)}

        # Two scores of other documents differ with variance 2.
        truth = {"area": NormalDist().cdf(apart / math.sqrt(2))}
        yield from coverage.of(f"distance {apart:g}, {named(n, size)}", truth, draw, REPLICATIONS)


def forecast_cells(coverage: Any) -> Iterator[Any]:
    """F1 and F2 where documents are memorized whole, most of them foreseen item by item."""
    for (n, size), rate, (seen, false) in product(DESIGNS, (0.05, 0.3), ((0.7, 0.02), (0.3, 0.1))):

        def draw(
            rng: np.random.Generator,
            n: int = n,
            size: int | str = size,
            rate: float = rate,
            seen: float = seen,
            false: float = false,
        ) -> Any:
            sizes = coverage.sizes(n, size, rng)
            truth = np.repeat(rng.random(n) < rate, sizes)
            predicted = rng.random(len(truth)) < np.where(truth, seen, false)
            found = forecast(predicted, truth, rng=rng, clusters=together(sizes), n_draws=2)
            return {"F1": ends_of(found.f1.interval), "F2": ends_of(found.f2.interval)}

        hit, missed, extra = rate * seen, rate * (1 - seen), (1 - rate) * false
        truths = {f"F{b}": (1 + b * b) * hit / ((1 + b * b) * hit + b * b * missed + extra) for b in (1, 2)}
        name = f"{rate:g} memorized, {seen:g} foreseen, {false:g} false, {named(n, size)}"
        yield from coverage.of(name, truths, draw, REPLICATIONS)


def wilson_cells(coverage: Any) -> Iterator[Any]:
    """Rates of items of their own."""
    for n, rate in product((20, 60, 300, 1000), (0.005, 0.02, 0.1, 0.5)):

        def draw(rng: np.random.Generator, n: int = n, rate: float = rate) -> Any:
            return {"rate": ends_of(rate_interval((rng.random(n) < rate).astype(float), np.arange(n)))}

        yield from coverage.of(f"{rate:g}, {n} items", {"rate": rate}, draw, 5 * REPLICATIONS)


def difference_cells(coverage: Any) -> Iterator[Any]:
    """Differences of two rates of items of their own: of other items, and of the same ones."""
    for n, (p, q) in product((20, 60, 300, 1000), ((0.02, 0.02), (0.1, 0.02), (0.5, 0.1))):

        def draw(rng: np.random.Generator, n: int = n, p: float = p, q: float = q) -> Any:
            one, other = ((rng.random(n) < rate).astype(float) for rate in (p, q))
            sides = [(float(each.mean()), rate_interval(each, np.arange(n))) for each in (one, other)]
            apart = independent_difference(*sides[0], *sides[1])
            # The same items: what is a hit under the second is one under the first, or nearly always.
            kept = np.where(rng.random(n) < 0.9, np.minimum(one, rng.random(n) < q / p), rng.random(n) < q)
            return {"difference": ends_of(apart), "paired difference": ends_of(paired_difference(one, kept))}

        truths = dict.fromkeys(("difference", "paired difference"), p - q)
        yield from coverage.of(f"{p:g} and {q:g}, {n} items", truths, draw, 5 * REPLICATIONS)


def edge_cells(coverage: Any) -> Iterator[Any]:
    """Areas of pairs that are nearly always told apart, and of foils that equal their texts."""
    for (n, size), apart in product(((5, 1), (20, 1), (100, 1), (10, 10), (20, 10)), (3.5, 5.0, None)):

        def draw(
            rng: np.random.Generator, n: int = n, size: int | str = size, apart: float | None = apart
        ) -> Any:
            sizes = coverage.sizes(n, size, rng)
            other = normal_items(sizes, rng)
            one = other if apart is None else normal_items(sizes, rng) + apart
            found = paired_auc(one, other, clusters=together(sizes))
            # Without an end that is reached, it is a case of `area_cells`.
            return {"area": ends_of(found.interval) if found.auc in (0.5, 1) else None}

        truth = {"area": 0.5 if apart is None else NormalDist().cdf(apart / math.sqrt(2))}
        name = "foils equal texts" if apart is None else f"distance {apart:g}, told apart"
        yield from coverage.of(f"{name}, {named(n, size)}", truth, draw, REPLICATIONS)


FAMILIES = (
    difference_cells,
    edge_cells,
    tokens_cells,
    mean_cells,
    median_cells,
    km_cells,
    area_cells,
    forecast_cells,
    wilson_cells,
)
# What is said to be lower: coverage that a family must not fall below, and the heaviest tail.
HOLDS = dict.fromkeys(FAMILIES, (0.92, 0.05)) | {mean_cells: (0.88, 0.08)}


@pytest.mark.parametrize("cells", FAMILIES, ids=lambda each: each.__name__)
def test_intervals_hold_the_truth(cells: Callable[[Any], Iterator[Any]], coverage: Any) -> None:
    print(f"\n{coverage.head}\n|{'---|' * 8}")
    found = []
    for cell in cells(coverage):
        found.append(cell)
        print(cell.line(), flush=True)
    if file := os.environ.get("MEMPROBE_COVERAGE_CSV"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.writelines(f"{cell.line()}\n" for cell in found)
    least, tail = HOLDS[cells]
    # Three standard errors of the simulation are no finding.
    room = 3 * math.sqrt(0.05 * 0.95 / REPLICATIONS)
    few = [each for each in found if each.n >= REPLICATIONS / 2]
    bad = [
        each.line()
        for each in few
        if 1 - each.below - each.above < least - room or max(each.below, each.above) > tail + room
    ]
    assert bad == []
