"""Speed of stability and forecast on as many items and checkpoints as a study of Pythia has."""

import time

import numpy as np
import polars as pl
import pytest

from memprobe.probes import forecast, stability
from memprobe.probes.contract import History

pytestmark = pytest.mark.benchmark

N_ITEMS, N_STEPS, N_SETS = 16_000, 154, 20
# A shared core takes 3 to 9 s; more says that something grew with items times draws times checkpoints.
LONGEST_S = 30


def history(*, documents: bool) -> History:
    rng = np.random.default_rng(0)
    steps = tuple(range(0, N_STEPS * 1000, 1000))
    ids = [f"i{number:05d}" for number in range(N_ITEMS)]
    skill = rng.normal(size=(N_ITEMS, 1)) + 0.5 * rng.normal(size=(N_ITEMS, N_STEPS))
    exact = skill < np.linspace(-3, 1.5, N_STEPS) - 1
    items = pl.DataFrame(
        {
            "item_id": ids,
            "group": [f"g{number % N_SETS:02d}" for number in range(N_ITEMS)],
            "first_step": rng.integers(1, steps[-1], N_ITEMS),
            "task_end_step": [7000 * (1 + number % N_SETS) for number in range(N_ITEMS)],
            "doc_id": [f"d{number // 3}" if documents else None for number in range(N_ITEMS)],
        },
        schema_overrides={"doc_id": pl.String},
    )
    rows = pl.DataFrame(
        {"item_id": ids * N_STEPS, "step": np.repeat(steps, N_ITEMS), "exact": exact.T.ravel()}
    )
    return History(rows, steps, (), items, lambda what: np.random.default_rng(len(what)), "big", 100)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("module", [forecast, stability], ids=["forecast", "stability"])
def test_a_panel_of_16_000_items_and_154_checkpoints_takes_seconds(module, documents) -> None:
    past = history(documents=documents)
    started = time.perf_counter()
    told = module.PROBE.over_time.estimate(past, module.Settings())
    seconds = time.perf_counter() - started
    print(f"{module.PROBE.name}, documents {documents}: {seconds:.1f} s")
    assert all(table.height for table in told.tables.values())
    assert seconds < LONGEST_S
