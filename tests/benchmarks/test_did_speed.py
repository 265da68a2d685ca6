"""Speed of difference-in-differences: against the package `differences`, and of a panel as large as Pythia's.

`differences` is no dependency: pip install differences==0.3.0.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from memprobe.stats.did import Profile, profile

pytestmark = pytest.mark.benchmark

# Both sides average the same differences in float64, in another order.
ATOL = 1e-9
REPEATS = 7

MEMORY_CHILD = """
import importlib.util, resource, sys
spec = importlib.util.spec_from_file_location("speed", sys.argv[1])
speed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speed)
found, seconds = speed.timed(speed.panel(143, 100, 2000, 154), 1000)
assert found.cells.att.critical > 4
print(len(found.cells.cohort), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def panel(n_cohorts: int, size: int, n_control: int, n_periods: int) -> tuple[np.ndarray, ...]:
    """Cohorts of one size, first treated in periods 1, 2, ...; an effect that fades; never treated last."""
    g = np.random.default_rng(0)
    cohort = np.append(np.repeat(np.arange(1, n_cohorts + 1), size), np.zeros(n_control, int))
    never = np.arange(len(cohort)) >= n_cohorts * size
    y = g.normal(size=(len(cohort), 1)) - 0.02 * np.arange(n_periods)
    y = y + 0.3 * g.normal(size=(len(cohort), n_periods))
    since = np.where(never[:, None], -1, np.arange(n_periods) - cohort[:, None])
    return y + np.where(since >= 0, 0.5 * 0.8 ** np.maximum(since, 0), 0), cohort, never


def timed(data: tuple[np.ndarray, ...], n_draws: int) -> tuple[Profile, float]:
    y, cohort, never = data
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    found = profile(y, cohort, never=never, rng=rng, n_draws=n_draws)
    return found, time.perf_counter() - started


def theirs(data: tuple[np.ndarray, ...], n_draws: int):
    """Effects, event and cohort means of the package, and the seconds of its estimation alone."""
    import pandas as pd
    from differences import ATTgt

    y, cohort, never = data
    n, n_periods = y.shape
    frame = pd.DataFrame(
        {
            "item": np.repeat(np.arange(n), n_periods),
            "time": np.tile(np.arange(n_periods), n),
            "cohort": np.repeat(np.where(never, np.nan, cohort), n_periods),
            "y": y.ravel(),
        }
    ).set_index(["item", "time"])
    started = time.perf_counter()
    model = ATTgt(data=frame, cohort_column="cohort")
    cells = model.fit(formula="y", boot_iterations=n_draws, random_state=1, progress_bar=False)
    event = model.aggregate("event", boot_iterations=n_draws, random_state=1)
    by_cohort = model.aggregate("cohort", boot_iterations=n_draws, random_state=1)
    seconds = time.perf_counter() - started
    return [frame.iloc[:, :2].to_numpy() for frame in (cells.to_pandas(), event, by_cohort)], seconds


@pytest.mark.parametrize(("n_draws", "bar"), [(0, 1000), (200, 500)])
def test_estimates_of_differences_are_had_much_faster(n_draws, bar, capsys) -> None:
    pytest.importorskip("differences", reason="the package `differences` is not installed")
    data = panel(36, 100, 1000, 37)
    timed(data, n_draws)
    runs = [timed(data, n_draws) for _ in range(REPEATS)]
    tables, their_s = theirs(data, n_draws)
    found, our_s = runs[0][0], statistics.median(seconds for _, seconds in runs)
    ours = [found.cells.att, *(found.aggregations[kind].estimates for kind in ("event", "cohort"))]
    for mine, table in zip(ours, tables, strict=True):
        assert mine.value == pytest.approx(table[:, 0], abs=ATOL)
        if not n_draws:
            assert mine.se == pytest.approx(table[:, 1], abs=ATOL)
    with capsys.disabled():
        print(
            f"\n{len(found.cells.cohort)} cells, {n_draws} draws: {1e3 * our_s:.1f} ms, "
            f"theirs {their_s:.1f} s, {their_s / our_s:.0f} times faster (bar {bar}), equal to {ATOL:g}"
        )
    assert their_s / our_s >= bar


def test_a_panel_of_pythias_size_takes_under_30_s_and_4_gib(capsys) -> None:
    """143 cohorts of 100, 2,000 controls, 154 checkpoints, 1,000 draws, one band over all cells."""
    child = subprocess.run(
        [sys.executable, "-c", MEMORY_CHILD, str(Path(__file__))], capture_output=True, text=True, check=True
    )
    n_cells, seconds, peak = child.stdout.split()
    with capsys.disabled():
        print(
            f"\n{n_cells} cells, 1,000 draws: {float(seconds):.1f} s (bar 30), "
            f"peak {int(peak) / 2**30:.2f} GiB with the libraries (bar 4)"
        )
    assert float(seconds) < 30
    assert int(peak) < 4 * 2**30
