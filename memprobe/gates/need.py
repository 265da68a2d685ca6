"""Compute how many items a rate needs so that at least one outcome can meet a limit.

The best outcome under `max` is no hit among n items, with Wilson's upper bound z^2 / (n + z^2). This bound
is at or below m if n is z^2 (1 - m) / m or more: 73 items for m = 0.05 at 95%. For `min` the best
outcome is n hits among n items. Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953.

Items in documents are counted by documents: no hit in K of them has an upper bound of about 3.69 / K at
95% (`memprobe.stats.documents`), so a limit m needs 3.69 / m documents, whatever their number of items.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memprobe.gates.known import Declared
from memprobe.gates.rules import Limit, Rule
from memprobe.stats.enough import BLOCK_METHOD, FEW, METHOD, documents_needed, documents_worth
from memprobe.stats.intervals import normal_quantile, wilson


@dataclass(frozen=True, slots=True)
class Needs:
    """How many items a limit needs and a row has.

    Attributes:
        needed: Number needed: with fewer, no outcome passes.
        has: Number that the row has.
        noun: What is counted: `item`, `document` if items share documents, or `block` of windows.
    """

    needed: int
    has: int
    noun: str


def needs_items(rule: Rule, limit: Limit, row: Mapping[str, Any], metric: Declared) -> Needs | None:
    """Return how many items a limit on a rate needs; None if no formula is known for its bound.

    For a limit on a difference, this is the number needed to pass without any change, at the baseline's rate.

    Args:
        rule: The rule.
        limit: Kind of the limit.
        row: Row of the summary.
        metric: The metric, as declared.
    """
    if row["ci_level"] is None:
        return None
    if limit == "max_increase" or limit == "max_decrease":  # noqa: PLR1714 - what the type checker follows
        return _unchanged(rule, limit, row)
    strict = "hi" if limit == "max" else "lo"
    end = row["ci_high" if limit == "max" else "ci_low"]
    if rule.judged(limit) != strict or metric.unit != "fraction" or end is None:
        return None
    value, level, method = rule.limits[limit], row["ci_level"], row["ci_method"]
    if metric.summary in ("rate", "sequence") and method == "wilson":
        return Needs(items_needed(limit, value, level=level), row["n_items"], "item")
    if method in (METHOD, FEW):
        room, miss, best = (value, end, 0) if limit == "max" else (1 - value, 1 - end, 1)
        has = documents_worth(miss, level=level) if row["estimate"] == best else row["n_clusters"]
        return Needs(documents_needed(room, level=level), min(has, row["n_clusters"]), _noun(row))
    if method == BLOCK_METHOD and row["estimate"] == (0 if limit == "max" else 1):
        room, miss = (value, end) if limit == "max" else (1 - value, 1 - end)
        has = documents_worth(miss, level=level)
        return Needs(documents_needed(room, level=level), has, "block")
    return None


def _noun(row: Mapping[str, Any]) -> str:
    """Return the noun for what is counted: document, or item if no two items share a document."""
    return "item" if row["n_clusters"] == row["n_items"] else "document"


def _unchanged(rule: Rule, limit: Limit, row: Mapping[str, Any]) -> Needs | None:
    """Return how many items meet a limit on a difference if nothing changes; None if that is not known."""
    strict, value = ("hi" if limit == "max_increase" else "lo"), rule.limits[limit]
    if rule.judged(limit) != strict or value <= 0:
        return None
    level, rate = row["ci_level"], row["base"]
    if row["ci_method"] == "newcombe-paired":
        return Needs(pairs_needed(rate, value, level=level), row["n_items"], "item")
    if row["ci_method"] in (f"{METHOD}-paired", f"{FEW}-paired"):
        return Needs(documents_needed(value, level=level), row["n_clusters"], _noun(row))
    return None


def pairs_needed(rate: float, value: float, *, level: float) -> int:
    """Return the smallest number of items with which a difference of 0 has a bound of at most `value`.

    Newcombe's interval (`memprobe.stats.differences`) of a difference of 0 over pairs that all agree is
    symmetric and shrinks with the number of pairs.

    Args:
        rate: Share of items that are 1 in both runs.
        value: The limit on the difference, above 0.
        level: Coverage of the two-sided interval.
    """
    from memprobe.stats.differences import newcombe_paired

    def meets(n: int) -> bool:
        hits = rate * n
        return newcombe_paired(hits, 0, 0, n - hits, level=level).hi <= value

    most = 1
    while not meets(most):
        most *= 2
    least = most // 2
    # Bisect between a number that is too small and one that is enough.
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if meets(middle) else (middle, most)
    return most


def items_needed(limit: Literal["max", "min"], value: float, *, level: float) -> int:
    """Return the smallest number of items with which the best outcome meets a limit.

    Args:
        limit: `max`: the upper bound for no hit must be at or below `value`; `min`: the lower bound for all
            hits must be at or above it.
        value: The limit, a rate above 0 for `max` and below 1 for `min`.
        level: Coverage of the two-sided interval.

    Raises:
        ValueError: No number of items is enough.
    """
    room = value if limit == "max" else 1 - value
    if room <= 0:
        raise ValueError(f"no number of items meets {limit} {value}")
    n = max(1, math.ceil(normal_quantile(level) ** 2 * (1 - room) / room))
    # Rounding may make the formula differ by one item from the computed Wilson interval.
    while n > 1 and _meets(limit, value, n - 1, level):
        n -= 1
    while not _meets(limit, value, n, level):
        n += 1
    return n


def _meets(limit: Literal["max", "min"], value: float, n: int, level: float) -> bool:
    if limit == "max":
        return wilson(0, n, level=level).hi <= value
    return wilson(n, n, level=level).lo >= value
