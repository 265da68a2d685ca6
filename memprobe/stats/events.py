"""Learning and forgetting events: when an item enters and leaves the learned state, checkpoint by checkpoint.

Source: Toneva et al. (2019), section 3, https://arxiv.org/abs/1812.05159: a learning event is a step from
0 to 1, a forgetting event one from 1 to 0; an item is unforgettable if it was learned and never forgotten.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memprobe.stats.intervals import Interval
from memprobe.stats.rates import rate_interval

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]
NONE = -1
"""Position of a checkpoint that does not exist; inside this module's arrays only."""


def learned_states(values: Floats, enter: float, leave: float) -> Bools:
    """Return the state at each checkpoint: entered at `enter` or more, left below `leave`.

    Args:
        values: Values, higher if better remembered, shape (n_items, n_steps), no NaN.
        enter: Value from which on an unlearned item becomes learned.
        leave: Value from which on a learned item stays learned, at most `enter`; if equal, both are one
            plain threshold.
    """
    states = np.empty(values.shape, dtype=np.bool_)
    state = np.zeros(len(values), dtype=np.bool_)
    for place in range(values.shape[1]):
        column = values[:, place]
        state = np.where(state, column >= leave, column >= enter)
        states[:, place] = state
    return states


@dataclass(frozen=True, slots=True)
class Events:
    """The events of each item; positions are those of checkpoints, -1 if there is no such event.

    Attributes:
        counted: Number of checkpoints from the item's training on, shape (n_items,).
        known_before: Whether the item was learned at the last checkpoint before its training.
        n_learning: Number of steps from 0 to 1. The state before the first counted checkpoint is that of the
            last checkpoint before the training, or 0 if there is none.
        n_forgetting: Number of steps from 1 to 0.
        was_learned: Whether the item is in state 1 at some counted checkpoint.
        first_learned: Position of the first learning event.
        first_forgotten: Position of the first forgetting event; at the checkpoint before it the item was
            still learned.
        last_state: State at the last checkpoint.
        longest_from: First position of the longest learned run, measured in steps; the first of equals.
        longest_to: Last position of the longest learned run.
    """

    counted: Whole
    known_before: Bools
    n_learning: Whole
    n_forgetting: Whole
    was_learned: Bools
    first_learned: Whole
    first_forgotten: Whole
    last_state: Bools
    longest_from: Whole
    longest_to: Whole


def events(states: Bools, start: Whole, steps: Whole) -> Events:
    """Count the events of each item.

    Args:
        states: State of each item at each checkpoint, shape (n_items, n_steps), n_steps at least 1.
        start: Position of each item's first counted checkpoint, shape (n_items,); n_steps if none counts.
        steps: Steps of the checkpoints, ascending, shape (n_steps,).
    """
    n_steps = states.shape[1]
    place = np.arange(n_steps)
    counts = place >= start[:, None]
    before = np.zeros_like(states)
    before[:, 1:] = states[:, :-1]
    learning, forgetting = states & ~before & counts, ~states & before & counts
    begin, end = _longest_runs(states & counts, steps)
    known = start > 0
    known[known] &= states[known, start[known] - 1]
    return Events(
        counted=n_steps - start,
        known_before=known,
        n_learning=learning.sum(axis=1),
        n_forgetting=forgetting.sum(axis=1),
        was_learned=np.any(states & counts, axis=1),
        first_learned=_first(learning),
        first_forgotten=_first(forgetting),
        last_state=states[:, -1],
        longest_from=begin,
        longest_to=end,
    )


def _first(flags: Bools) -> Whole:
    """Return the position of the first true value in each row, -1 if there is none."""
    return np.where(flags.any(axis=1), flags.argmax(axis=1), NONE).astype(np.int64)


def _longest_runs(learned: Bools, steps: Whole) -> tuple[Whole, Whole]:
    """Return the first and last position of the longest true run in each row, measured in steps."""
    n_items, n_steps = learned.shape
    begin = np.full(n_items, NONE, dtype=np.int64)
    best_from, best_to = begin.copy(), begin.copy()
    best = np.full(n_items, -1, dtype=np.int64)
    for place in range(n_steps):
        now = learned[:, place]
        begin = np.where(now, np.where(begin == NONE, place, begin), NONE)
        length = np.where(now, steps[place] - steps[begin], -1)
        longer = length > best
        best = np.where(longer, length, best)
        best_from, best_to = np.where(longer, begin, best_from), np.where(longer, place, best_to)
    return best_from, best_to


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate and its interval.

    Attributes:
        n: Number of items.
        n_yes: Number of items in the numerator.
        n_clusters: Number of clusters of items.
        interval: Interval of the rate; None without items, or if the clusters are worth fewer than two of
            equal size.
    """

    n: int
    n_yes: int
    n_clusters: int
    interval: Interval | None

    @property
    def value(self) -> float | None:
        """The rate; None without items."""
        return self.n_yes / self.n if self.n else None


def rate(yes: Bools, clusters: Whole, *, level: float = 0.95) -> Rate:
    """Return a rate with its interval, by the rule of all rates (`memprobe.stats.rates`).

    Args:
        yes: Whether each item counts in the numerator, shape (n_items,).
        clusters: Cluster number of each item, shape (n_items,).
        level: Nominal coverage.
    """
    if not len(yes):
        return Rate(0, 0, 0, None)
    names, cluster = np.unique(clusters, return_inverse=True)
    interval = rate_interval(yes.astype(np.float64), cluster, level=level)
    return Rate(len(yes), int(yes.sum()), len(names), interval)
