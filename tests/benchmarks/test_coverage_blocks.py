"""Coverage of the bound over blocks: passages memorized whole, in a document read by windows.

A document of 1,000 windows alternates between passages of one length, memorized whole, and gaps of random
length; the rate of memorized windows is that of the process. Run with `pytest -m benchmark -s`.
"""

from itertools import product

import numpy as np
import pytest

from memprobe.stats.blocks import Series, blocks_interval

pytestmark = pytest.mark.benchmark

N, OVERLAP, DRAWS = 1000, 5, 1000
LENGTHS, RATES = (5, 20, 40, 50, 80, 150), (0.01, 0.05, 0.2, 0.5)
HEAD = "| method | cell | nominal | coverage | lower tail | upper tail | width | no interval | replications |"


def passages(length: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Whether each window lies in a passage; the process begins long before the document."""
    values = np.zeros(N + 40 * length)
    end = 0
    while end < len(values):
        end += rng.geometric(1 / (1 + length * (1 - rate) / rate)) - 1
        values[end : end + length] = 1
        end += length
    return values[-N:]


@pytest.mark.parametrize("declared", [False, True])
def test_passages_under_a_twentieth_are_covered_and_longer_ones_are_said(declared: bool) -> None:
    print(f"\n{HEAD}\n|{'---|' * 9}")
    wrong = []
    for length, rate in product(LENGTHS, RATES):
        rng = np.random.default_rng(length)
        ends, n_none = [], 0
        for _ in range(DRAWS):
            one = Series(passages(length, rate, rng), np.ones(N), OVERLAP, length if declared else None)
            interval = blocks_interval([one]).interval
            n_none += interval is None
            ends += [] if interval is None else [(interval.lo, interval.hi)]
        cell = f"passages of {length}, rate {rate}" + (", declared" if declared else "")
        if not ends:
            print(f"| none | {cell} | 0.95 | - | - | - | - | 1.000 | {DRAWS} |")
            continue
        lo, hi = np.array(ends).T
        below, above = float((lo > rate).mean()), float((hi < rate).mean())
        tails = f"{1 - below - above:.3f} | {below:.3f} | {above:.3f} | {np.median(hi - lo):.3f}"
        print(f"| pseudo-block | {cell} | 0.95 | {tails} | {n_none / DRAWS:.3f} | {DRAWS} |", flush=True)
        if (length <= N / 20 or declared) and len(ends) > DRAWS / 10 and below + above > 0.08:
            wrong.append(cell)
    assert wrong == []
