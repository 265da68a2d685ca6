"""Values of staggered difference-in-differences from the package `differences`, into did.json.

`differences` is no dependency:

python -m venv /tmp/goldens && /tmp/goldens/bin/pip install differences==0.3.0
/tmp/goldens/bin/python tests/goldens/make_did.py [--check]
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from differences import ATTgt

FILE = Path(__file__).with_name("did.json")
DIGITS = 9
DESIGNS = {
    "varying never": {},
    "universal never": {"base_period": "universal"},
    "varying not_yet": {},
    "varying never anticipation 1": {"anticipation": 1},
}
AGGREGATIONS = {"simple": "simple", "event": "event", "cohort": "cohort", "calendar": "time"}


def panel(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items with levels, drifts and an effect that fades; cohort -1 is never treated."""
    g = np.random.default_rng(seed)
    cohort = np.repeat([1, 2, 3, 5, -1], [6, 9, 4, 12, 20])
    time = np.arange(7)
    y = g.normal(size=(len(cohort), 1)) + g.normal(size=(1, 7)).cumsum(1) + g.normal(size=(len(cohort), 7))
    since = time - cohort[:, None]
    y += np.where((cohort[:, None] >= 0) & (since >= 0), 2 * 0.6 ** np.maximum(since, 0), 0)
    return y.round(6), cohort


def keyed(frame: pd.DataFrame) -> list[list[float | None]]:
    """Key (of several, all), estimate and standard error of each row; no error of a base cell itself."""
    keys = [list(key) if isinstance(key, tuple) else [key] for key in frame.index]
    return [
        [*map(float, key), float(att), None if math.isnan(se) else float(se)]
        for key, att, se in zip(keys, frame.iloc[:, 0], frame.iloc[:, 1], strict=True)
    ]


def fitted(y: np.ndarray, cohort: np.ndarray, name: str) -> dict[str, object]:
    n, n_periods = y.shape
    data = pd.DataFrame(
        {
            "item": np.repeat(np.arange(n), n_periods),
            "time": np.tile(np.arange(n_periods), n),
            "cohort": np.repeat(np.where(cohort < 0, np.nan, cohort), n_periods),
            "y": y.ravel(),
        }
    ).set_index(["item", "time"])
    model = ATTgt(data=data, cohort_column="cohort", **DESIGNS[name])
    control = "not_yet_treated" if "not_yet" in name else "never_treated"
    cells = model.fit(formula="y", control_group=control, progress_bar=False).to_pandas()
    found: dict[str, object] = {"cells": keyed(cells)}
    for ours, theirs in AGGREGATIONS.items():
        found[ours] = keyed(model.aggregate(theirs))
        if ours != "simple":
            found[f"{ours} overall"] = keyed(model.aggregate(theirs, overall=True))
    return found


def goldens() -> dict[str, object]:
    y, cohort = panel(1)
    fits = {name: fitted(y, cohort, name) for name in DESIGNS}
    return {"y": y.tolist(), "cohort": cohort.tolist(), "fits": fits}


def agree(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=10**-DIGITS, abs_tol=1e-12)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[name], other[name]) for name in one)
    return one == other


if __name__ == "__main__":
    if "--check" in sys.argv:
        same = agree(json.loads(FILE.read_text()), json.loads(json.dumps(goldens())))
        sys.exit(0 if same else "did.json differs")
    FILE.write_text(json.dumps(goldens()) + "\n")
