"""Values of dose-response fits from statsmodels, into dose.json; statsmodels is no dependency.

python -m venv /tmp/goldens && /tmp/goldens/bin/pip install statsmodels==0.15.0
/tmp/goldens/bin/python tests/goldens/make_dose.py [--check]
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm

FILE = Path(__file__).with_name("dose.json")
DIGITS = 12


def data(seed: int, n: int, doses: list[int], cluster_size: int) -> dict[str, list[float]]:
    """Items in clusters that share a part of their outcome, so that clustered errors differ from others."""
    g = np.random.default_rng(seed)
    x = g.choice(doses, n)
    cluster = np.arange(n) // cluster_size
    shared = g.normal(size=cluster[-1] + 1)[cluster]
    y = (g.random(n) < 1 / (1 + np.exp(2 - 1.2 * np.log10(x) - shared))).astype(float)
    return {"x": x.tolist(), "y": y.tolist(), "cluster": cluster.tolist()}


def fitted(case: dict[str, list[float]], fit: str, clustered: bool) -> dict[str, float]:
    log10_x, y = np.log10(case["x"]), np.asarray(case["y"])
    groups = np.asarray(case["cluster"]) if clustered else np.arange(len(y))
    model = (sm.OLS if fit == "linear" else sm.Logit)(y, sm.add_constant(log10_x))
    more = {} if fit == "linear" else {"disp": 0, "method": "newton", "tol": 1e-14, "maxiter": 200}
    result = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True, **more)
    # Quantiles on G - 1 degrees of freedom, whatever the model's own default is.
    freedom = len(set(groups.tolist())) - 1
    from scipy.stats import t

    slope, se = float(result.params[1]), float(result.bse[1])
    half = float(t.ppf(0.975, freedom)) * se
    return {
        "slope": slope,
        "intercept": float(result.params[0]),
        "se": se,
        "lo": slope - half,
        "hi": slope + half,
        "p_value": float(2 * t.sf(abs(slope) / se, freedom)),
    }


def goldens() -> list[dict[str, object]]:
    cases = [data(1, 40, [1, 10, 100], 4), data(2, 60, [1, 2, 5, 30, 128], 3), data(3, 30, [50, 450], 2)]
    return [
        {
            **case,
            "fits": {
                f"{fit} {kind}": fitted(case, fit, kind == "clustered")
                for fit in ("linear", "logistic")
                for kind in ("clustered", "independent")
            },
        }
        for case in cases
    ]


def agree(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=10**-DIGITS)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[name], other[name]) for name in one)
    return one == other


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0
            if agree(json.loads(FILE.read_text()), json.loads(json.dumps(goldens())))
            else "dose.json differs"
        )
    FILE.write_text(json.dumps(goldens()) + "\n")
