"""Find gaps in a checkpoint schedule that is piecewise regular, as published schedules are.

Pythia (arXiv:2304.01373, section 2.1): 0, then powers of two to 512, then every 1000 to 143000.
The steps are divided into pieces of one stride or one ratio: as few pieces with as few gaps as possible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Costs within one explanation of the steps: of a hole, of each further step missing in it, of a change from
# one piece to the next (half of it into or out of a distance that no piece explains), of such a distance.
# Two holes cost as much as a change of stride, so a stride that doubles permanently starts a new piece, and
# one that doubles once is a hole.
_HOLE, _FURTHER, _CHANGE, _FREE = 1.0, 0.1, 2.0, 1.0
# A stride or ratio that occurs less often than this is a coincidence.
_MIN_SUPPORT = 2
# A piece of fewer distances does not show where it should have begun.
_MIN_PIECE = 3
_MAX_RATIO = 10


@dataclass(frozen=True, slots=True)
class Rule:
    """How steps follow each other in one piece.

    Attributes:
        by: The stride or the ratio.
        multiplies: Whether `by` is a ratio.
    """

    by: int
    multiplies: bool

    def between(self, first: int, last: int) -> list[int] | None:
        """Return the steps of the rule between two steps; None if the rule does not connect them."""
        if self.multiplies and first == 0:
            # Geometric schedules begin with 0, from which no ratio leads on, so nothing is missing there.
            return []
        if not self.multiplies:
            return list(range(first + self.by, last, self.by)) if (last - first) % self.by == 0 else None
        found = [first]
        while found[-1] < last:
            found.append(found[-1] * self.by)
        return found[1:-1] if found[-1] == last else None


def missing_steps(steps: Sequence[int]) -> list[int]:
    """Return the steps that a piecewise regular schedule would have between the first and the last.

    Steps that follow no rule have no gaps, and steps after the last cannot be judged.

    Args:
        steps: Steps in rising order.
    """
    distances = list(pairwise(sorted(set(steps))))
    rules = _rules(distances)
    if not rules:
        return []
    labels = _explained(distances, rules)
    found: list[int] = []
    for i, ((first, last), rule) in enumerate(zip(distances, labels, strict=True)):
        if rule is not None:
            found += rule.between(first, last) or []
        else:
            before = labels[i - 1] if i else None
            after = labels[i + 1] if i + 1 < len(labels) else None
            found += _at_border(first, last, before, after, _run_length(labels, i + 1))
    return found


def _rules(distances: Sequence[tuple[int, int]]) -> list[Rule]:
    """Return the strides and ratios that occur often enough to be a rule."""
    seen: dict[Rule, int] = {}
    for first, last in distances:
        candidates = [Rule(last - first, multiplies=False)]
        if first and last % first == 0 and last // first <= _MAX_RATIO:
            candidates.append(Rule(last // first, multiplies=True))
        for rule in candidates:
            seen[rule] = seen.get(rule, 0) + 1
    return [rule for rule, n_times in seen.items() if n_times >= _MIN_SUPPORT]


def _explained(distances: Sequence[tuple[int, int]], rules: Sequence[Rule]) -> list[Rule | None]:
    """Assign each distance a rule or None with the least total cost (Viterbi's algorithm)."""
    labels: list[Rule | None] = [*rules, None]
    free = len(rules)

    def change(i: int, j: int) -> float:
        if i == j:
            return 0.0
        return _CHANGE / 2 if free in (i, j) else _CHANGE

    costs = [_cost(*distances[0], rule) for rule in labels]
    came_from: list[list[int]] = []
    for distance in distances[1:]:
        cheapest = min(range(len(labels)), key=costs.__getitem__)
        # Leaving any other origin costs as much as leaving the cheapest, so only three origins are tried.
        origins = [_cheapest_origin(costs, change, (j, cheapest, free), j) for j in range(len(labels))]
        costs = [
            costs[i] + change(i, j) + _cost(*distance, label)
            for j, (i, label) in enumerate(zip(origins, labels, strict=True))
        ]
        came_from.append(origins)
    path = [min(range(len(labels)), key=costs.__getitem__)]
    for origins in reversed(came_from):
        path.append(origins[path[-1]])
    return [labels[i] for i in reversed(path)]


def _cheapest_origin(
    costs: Sequence[float], change: Callable[[int, int], float], origins: tuple[int, ...], to: int
) -> int:
    """Return the origin from which `to` is reached at the least cost; the first of equals."""
    return min(origins, key=lambda i: costs[i] + change(i, to))


def _cost(first: int, last: int, rule: Rule | None) -> float:
    if rule is None:
        return _FREE
    between = rule.between(first, last)
    if between is None:
        return float("inf")
    return _HOLE + _FURTHER * (len(between) - 1) if between else 0.0


def _at_border(first: int, last: int, before: Rule | None, after: Rule | None, n_after: int) -> list[int]:
    """Return the steps missing at a border: after the end of one piece and before the start of the next.

    Strides are assumed to count from 0, as in all published schedules. If more steps would be missing than
    the piece has, there is no gap: the piece begins at its first step.
    """
    found: list[int] = []
    # The same stride on both sides that does not fit between them is rounding or a shift, not a hole.
    is_shift = before == after and (last - first) % (after.by if after else 1) != 0
    if after is not None and not after.multiplies and last % after.by == 0 and not is_shift:
        found = list(range(last - after.by, first, -after.by))[::-1]
        found = found if max(len(found), _MIN_PIECE) <= n_after else []
    if before is not None and before.multiplies:
        end = min([*found, last])
        step, reached = first * before.by, []
        while step < end:
            reached.append(step)
            step *= before.by
        found = [*reached, *found]
    return found


def _run_length(labels: Sequence[Rule | None], start: int) -> int:
    """Return how many labels are the same from `start` on."""
    length = 0
    while start + length < len(labels) and labels[start + length] == labels[start]:
        length += 1
    return length
