"""Checkpoints of different cohorts that are equally long after exposure, and the items seen at all of them.

Items of one cohort share the first checkpoint after their last exposure, and all later ones, so checkpoints
are compared by their distance from that first one. Distances of different cohorts form one point if they
differ by at most a tenth and no cohort is seen at both, so an item is seen at most once at a point.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Distances of different cohorts that differ by no more than this factor form one point.
_ALIKE = 1.1


@dataclass(frozen=True, slots=True)
class Points:
    """Points of a curve over time, in order.

    Attributes:
        distance: Distance from the first checkpoint, averaged over the cohorts' items, shape (n_points,).
        step: Position of the checkpoint at which a cohort is at a point, shape (n_steps, n_points);
            meaningless where `seen` is false. Rows are positions of the cohorts' first checkpoints.
        seen: Whether the cohort is seen at that point, shape (n_steps, n_points).
    """

    distance: NDArray[np.float64]
    step: Whole
    seen: Flags


def lag_points(steps: Whole, n_items: Whole) -> Points:
    """Find the points at which cohorts can be compared.

    Args:
        steps: Steps of the checkpoints, rising, shape (n_steps,).
        n_items: Number of items for which each checkpoint is the first after exposure, shape (n_steps,).
    """
    cohort, later = np.nonzero(
        np.triu(np.ones((len(steps), len(steps)), dtype=bool)) & (n_items > 0)[:, None]
    )
    distance = steps[later] - steps[cohort]
    point = np.empty(len(distance), dtype=np.int64)
    number, nearest, held = -1, 0, np.zeros(len(steps), dtype=bool)
    for each in np.unique(distance):
        here = np.flatnonzero(distance == each)
        apart = 1 + each > _ALIKE * (1 + nearest)
        if number < 0 or apart or held[cohort[here]].any():
            number, nearest, held = number + 1, each, np.zeros(len(steps), dtype=bool)
        held[cohort[here]] = True
        point[here] = number
    shape = (len(steps), number + 1)
    step, seen = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    step[cohort, point], seen[cohort, point] = later, True
    items = n_items[cohort].astype(np.float64)
    mean = np.bincount(point, weights=items * distance) / np.bincount(point, weights=items)
    return Points(mean, step, seen)


def complete_block(present: Flags) -> tuple[Flags, Flags]:
    """Choose items and points such that every item is seen at every point, and there are many values.

    Points are added in order of the number of items seen at them, most items first. The number of points
    maximizes the number of items times the number of points; among equals, the larger number is chosen.

    Args:
        present: Whether an item has a value at a point, shape (n_items, n_points).

    Returns:
        Whether each item is chosen, shape (n_items,), and whether each point is, shape (n_points,).
    """
    order = np.argsort(-present.sum(0), kind="stable")
    whole = np.logical_and.accumulate(present[:, order], axis=1)
    values = whole.sum(0) * np.arange(1, len(order) + 1)
    if not values.any():
        return np.zeros(len(present), dtype=bool), np.zeros(len(order), dtype=bool)
    n_points = int(len(order) - values[::-1].argmax())
    points = np.zeros(len(order), dtype=bool)
    points[order[:n_points]] = True
    return whole[:, n_points - 1], points
