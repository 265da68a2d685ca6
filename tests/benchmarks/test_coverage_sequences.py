"""Coverage of what is told of a sequence: measures of stability, acquisition and decay, curves by lag.

Outcomes of items rise and fall together from checkpoint to checkpoint, and with those of their document. What
is true is computed from the curves of the population by loops that know nothing of memprobe's. Run with
`pytest -m benchmark -s`; `MEMPROBE_COVERAGE_CSV` names a file that the rows are written to as well.
"""

import math
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import History
from memprobe.probes.retention.curves import law_fits
from memprobe.probes.stability import Settings, estimate
from memprobe.stats.acquisition import log_decay
from memprobe.stats.curves import best_law
from memprobe.stats.lag_curve import Controls, Exposed, lag_curve
from memprobe.stats.means import sums_interval

pytestmark = pytest.mark.benchmark

REPLICATIONS = int(os.environ.get("MEMPROBE_REPLICATIONS", "400"))
DRAWS = 1000
ICC = 0.3
Ends = tuple[float, float, str] | None

# Three tasks that end at checkpoints 2, 5 and 8 (steps 200, 500, 800); the first is untrained.
STEPS, TASK_ENDS = tuple(range(0, 900, 100)), (200, 500, 800)
# Scores that dip and come back, scores that are forgotten, and scores after which nothing happens.
CURVES = {
    "dips": (
        (0.2, 0.5, 0.8, 0.4, 0.6, 0.7, 0.3, 0.5, 0.6),
        (0.2, 0.2, 0.3, 0.5, 0.7, 0.8, 0.4, 0.6, 0.7),
        (0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.5, 0.7, 0.8),
    ),
    "forgets": (
        (0.1, 0.6, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1),
        (0.1, 0.1, 0.1, 0.5, 0.8, 0.9, 0.6, 0.4, 0.3),
        (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.8, 0.9),
    ),
    "flat": tuple(tuple(0.2 if s < 3 * i + 1 else 0.7 for s in range(9)) for i in range(3)),
}
SETS: tuple[tuple[int, int], ...] = ((20, 1), (100, 1), (500, 1), (6, 10), (20, 10))
WINDOW = 3


def true_measures(curves: tuple[tuple[float, ...], ...]) -> dict[str, float]:
    """Return the measures of the population's curves, by their definitions."""
    k, ends = 3, [STEPS.index(step) for step in TASK_ENDS]
    last = ends[-1]
    final = [curves[i][last] for i in range(k)]
    found = {"acc": sum(final) / k}
    found["bwt"] = sum(final[i] - curves[i][ends[i]] for i in range(k - 1)) / (k - 1)
    found["fwt"] = sum(curves[i][ends[i - 1]] - curves[i][0] for i in range(1, k)) / (k - 1)
    fallen = [max(curves[i][ends[j]] for j in range(i, k - 1)) - final[i] for i in range(k - 1)]
    found["forgetting_chaudhry"] = sum(fallen) / (k - 1)
    lowest = [min(curves[i][ends[i] + 1 : last + 1]) for i in range(k - 1)]
    found["min_acc"] = sum(lowest) / (k - 1)
    found["wc_acc"] = final[-1] / k + (1 - 1 / k) * found["min_acc"]
    for name, sign in (("wf", 1), ("wp", -1)):
        drops = []
        for i in range(k):
            begin = 0 if i == 0 else ends[i - 1]
            pairs = [(m, n) for m in range(begin, last + 1) for n in range(m + 1, min(m + WINDOW, last + 1))]
            drops.append(max(sign * (curves[i][m] - curves[i][n]) for m, n in pairs))
        found[name] = sum(drops) / k
    depths, waits = [], []
    for j in range(k - 1):
        for i in range(j + 1):
            level, after = curves[i][ends[j]], curves[i][ends[j] + 1 : ends[j + 1] + 1]
            depths.append(level - min(after))
            trough = after.index(min(after))
            back = [n for n in range(trough, len(after)) if after[n] >= level]
            waits.append(0 if min(after) >= level else 100 * (back[0] + 1) if back else math.inf)
    found["depth_of_gap"] = sum(depths) / len(depths)
    found["recovery_steps"] = sorted(waits)[len(waits) // 2]
    return found


def outcomes(
    curves: tuple[tuple[float, ...], ...], documents: int, size: int, rng: np.random.Generator
) -> History:
    """Draw items that succeed where a latent ability is below the score's quantile; half of it stays."""
    rows, items = [], []
    for i, curve in enumerate(curves):
        n = documents * size
        document = np.repeat(rng.normal(size=documents), size) if size > 1 else rng.normal(size=n)
        stays = math.sqrt(ICC) * document + math.sqrt(0.7 - ICC) * rng.normal(size=n)
        latent = stays[:, None] + math.sqrt(0.3) * rng.normal(size=(n, len(STEPS)))
        hit = latent < [NormalDist().inv_cdf(score) for score in curve]
        names = [f"{i}-{number:04d}" for number in range(n)]
        doc = [f"{i}-{number // size}" for number in range(n)] if size > 1 else [None] * n
        items.append(pl.DataFrame({"item_id": names, "doc_id": doc}, schema_overrides={"doc_id": pl.String}))
        items[-1] = items[-1].with_columns(group=pl.lit(f"set{i}"), task_end_step=pl.lit(TASK_ENDS[i]))
        rows.append(
            pl.DataFrame(
                {
                    "item_id": np.repeat(names, len(STEPS)),
                    "step": np.tile(STEPS, n),
                    "exact": hit.ravel().astype(float),
                }
            )
        )
    return History(
        rows=pl.concat(rows),
        steps=STEPS,
        missing=(),
        items=pl.concat(items).with_columns(pl.col("task_end_step").cast(pl.Int64)),
        draws=lambda _: rng,
    )


def stability_cells(coverage: Any) -> Iterator[Any]:
    """All measures over the sets, of exact answers."""
    for (documents, size), (kind, curves) in product(SETS, CURVES.items()):
        truth = {name: value for name, value in true_measures(curves).items() if math.isfinite(value)}

        def draw(
            rng: np.random.Generator, documents: int = documents, size: int = size, curves: Any = curves
        ) -> Any:
            told = estimate(outcomes(curves, documents, size, rng), Settings(windows=(WINDOW,), draws=DRAWS))
            rows = told.estimates.filter(pl.col("group").is_null())
            return {
                row["metric"]: None
                if row["ci_low"] is None
                else (row["ci_low"], row["ci_high"], row["ci_method"])
                for row in rows.iter_rows(named=True)
            }

        name = (
            f"{kind}, {documents * size} items a set" if size == 1 else f"{kind}, {documents} x {size} a set"
        )
        yield from coverage.of(name, truth, draw, REPLICATIONS)


def decay_cells(coverage: Any) -> Iterator[Any]:
    """The rise at an injection, and the share lost per decade of what it left."""
    times, lost = 10.0 ** np.arange(1, 5), 0.2
    for documents, size in ((10, 1), (30, 1), (200, 1), (5, 10), (20, 10)):

        def draw(rng: np.random.Generator, documents: int = documents, size: int = size) -> Any:
            n = documents * size
            own = np.repeat(np.arange(documents), size)
            slope = lost + 0.1 * (
                math.sqrt(ICC) * rng.normal(size=documents)[own] + math.sqrt(1 - ICC) * rng.normal(size=n)
            )
            kept = 1 - slope[:, None] * (np.log10(times) - 1) + 0.1 * rng.normal(size=(n, len(times)))
            gain = rng.gamma(4, 0.25, documents)[own] * rng.gamma(4, 0.25, n)
            fit = log_decay(
                np.tile(times, n), kept.ravel(), np.repeat(own, len(times)), np.ones(kept.size), rng=rng
            )
            ends = fit.decay_ends
            rise = sums_interval(np.bincount(own, weights=gain), np.bincount(own).astype(float))
            return {
                "decay per decade": None if ends.lo is None else (ends.lo, ends.hi, "expanded-bootstrap"),
                "effectivity": None if rise is None else (rise.lo, rise.hi, rise.method),
            }

        name = f"{documents} items" if size == 1 else f"{documents} x {size}"
        yield from coverage.of(name, {"decay per decade": lost, "effectivity": 1.0}, draw, REPLICATIONS)


LAGS = np.array([1.0, 10.0, 30.0, 100.0, 300.0, 1000.0])


def exposed_and_controls(
    documents: int, size: int, controls: int, rng: np.random.Generator, *, rates: bool
) -> tuple[Exposed, Controls]:
    """Draw items that are seen at all lags, and items never trained on, both in documents of one size."""
    level = 0.7 * (1 + LAGS) ** -0.25
    n = documents * size

    def latent(k: int, times: int) -> np.ndarray:
        own = np.repeat(np.arange(k), size)
        stays = math.sqrt(ICC) * rng.normal(size=k)[own] + math.sqrt(0.7 - ICC) * rng.normal(size=k * size)
        return stays[:, None] + math.sqrt(0.3) * rng.normal(size=(k * size, times))

    mine, theirs = latent(documents, len(LAGS)), latent(controls, len(LAGS))
    if rates:
        quantile = np.array([NormalDist().inv_cdf(each) for each in 0.05 + level])
        y, other = (mine < quantile).astype(float), (theirs < NormalDist().inv_cdf(0.05)).astype(float)
    else:
        # In nats: what is left of a rise by 2 nats, among items that differ by 1.
        y, other = 2 * level / 0.7 + mine, theirs
    steps = np.arange(len(LAGS))
    exposed = Exposed(
        y,
        np.tile(LAGS, (n, 1)),
        np.tile(steps, (n, 1)),
        np.zeros(n, np.int64),
        np.repeat(np.arange(documents), size),
    )
    number = documents + np.repeat(np.arange(controls), size)
    return exposed, Controls(other, np.ones((1, controls * size), dtype=np.bool_), number)


def lag_cells(coverage: Any) -> Iterator[Any]:
    """Level and excess at the first and the last lag, of rates and of ln p, and the half-life of ln p."""
    for rates, (documents, size, controls) in product(
        (True, False), ((30, 1, 30), (100, 1, 100), (5, 10, 5), (20, 10, 20), (50, 10, 10))
    ):
        left = 0.7 * (1 + LAGS) ** -0.25
        excess = left if rates else 2 * left / 0.7
        level = excess + 0.05 if rates else excess
        kind = "rate" if rates else "ln p"
        truth = {f"{kind} at lag {LAGS[at]:g}": float(level[at]) for at in (0, -1)}
        truth |= {f"excess {kind} at lag {LAGS[at]:g}": float(excess[at]) for at in (0, -1)}
        if not rates:
            # Half of what is left at lag 1: ((1 + t) / 2)^-0.25 = 1/2 at t = 31, 30 steps later.
            truth["half-life of ln p"] = 30.0

        def draw(
            rng: np.random.Generator,
            documents: int = documents,
            size: int = size,
            controls: int = controls,
            rates: bool = rates,
            kind: str = kind,
        ) -> Any:
            mine, other = exposed_and_controls(documents, size, controls, rng, rates=rates)
            n_draws = 0 if rates else DRAWS
            found = lag_curve(mine, other, rng=rng, n_draws=n_draws, floor=0.0 if rates else None)
            ends: dict[str, Ends] = {}
            for at in (0, -1):
                for name, each in ((kind, found.level), (f"excess {kind}", found.excess)):
                    interval = each.interval[at] if each else None
                    ends[f"{name} at lag {LAGS[at]:g}"] = (
                        None
                        if interval is None
                        else (interval.lo, interval.hi, interval.method.replace("-few", ""))
                    )
            if not rates:
                fits = law_fits(found)
                law = "calibrated-profile" if size == 1 else "cluster-calibrated-profile"
                half = fits[best_law(fits) or "power"].half_life_anew
                open_at = math.inf if half.hi is None else half.hi
                ends["half-life of ln p"] = None if half.lo is None else (half.lo, open_at, law)
            return ends

        name = f"{documents} x {size} against {controls} x {size}"
        yield from coverage.of(name, truth, draw, REPLICATIONS if rates else REPLICATIONS // 2)


FAMILIES = (stability_cells, decay_cells, lag_cells)


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
    room = 3 * math.sqrt(0.05 * 0.95 / REPLICATIONS)
    few = [each for each in found if each.n >= REPLICATIONS / 2]
    assert [each.line() for each in few if max(each.below, each.above) > 0.05 + room] == []
