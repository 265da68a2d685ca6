"""Number of documents that a bound needs, for gates: without numpy, which is slow to import.

The bound itself is in `memprobe.stats.documents`.
"""

import math

from memprobe.stats.intervals import FEW_CLUSTERS

MIN_EFFECTIVE = 2.0
"""Below so many documents of equal size there is no interval."""
FEW_EFFECTIVE = 5.0
"""Below so many the interval has the method `FEW`, and a gate does not judge by it."""
METHOD, FEW = "pseudo-document", "pseudo-document-few"
BLOCK_METHOD = METHOD.replace("document", "block")


def is_few(method: str | None) -> bool:
    """Return whether an interval, or a part of it, uses fewer than five effective documents or blocks."""
    return "-few" in (method or "").replace(FEW_CLUSTERS, "")


def documents_needed(room: float, *, level: float = 0.95) -> int:
    """Return the least number of documents at which the best outcome has a bound within `room` of 0 or 1.

    Without a hit in K documents of equal size, the upper bound is 1 - a^(1/K) with a = (1 - level) / 2, which
    is below -ln(a) / K: 3.69 / K at 95%. The difference of two measurements that agree on every item of K
    documents has the same bound.

    Args:
        room: Allowed distance of the bound from 0, or from 1; above 0.
        level: Nominal coverage.

    Raises:
        ValueError: `room` is not above 0.
    """
    if room <= 0:
        raise ValueError(f"no number of documents gives a bound within {room}")
    return max(2, math.ceil(math.ceil(-100 * math.log((1 - level) / 2)) / 100 / room - 1e-9))


def documents_worth(miss: float, *, level: float = 0.95) -> int:
    """Return the number of documents of equal size that have this bound in the best outcome.

    Args:
        miss: Distance of the bound from 0 without hits, or from 1 with all hits, between 0 and 1.
        level: Nominal coverage.
    """
    return int(math.log((1 - level) / 2) / math.log1p(-miss) + 1e-3) if 0 < miss < 1 else 0
