"""Scores of evaluation sets over a sequence of tasks: what is forgotten, when, and whether it comes back.

R(j, i) is the score of set i at the checkpoint where task j ended, k the number of tasks. Higher is better.
Measures that take a minimum or maximum over checkpoints are biased by noise: see
`memprobe/stats/joint_draws.py`.

References: De Lange et al. (2023), https://arxiv.org/abs/2205.13452 (min-ACC, WC-ACC, WF, WP); Lopez-Paz and
Ranzato (2017), https://arxiv.org/abs/1706.08840 (ACC, BWT, FWT); Chaudhry et al. (2018),
https://arxiv.org/abs/1801.10112 (forgetting).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ONE_TASK = "there is one task alone, so nothing comes after another"


@dataclass(frozen=True, slots=True)
class Design:
    """The checkpoints at which tasks end.

    Attributes:
        steps: Steps of the checkpoints, rising, shape (n_steps,).
        ends: Position of each task's last checkpoint, rising, shape (k,).
        untrained: Whether the first checkpoint comes before any training.
        windows: Widths of the windows of WF and WP in checkpoints, each 2 or more.
    """

    steps: tuple[int, ...]
    ends: tuple[int, ...]
    untrained: bool
    windows: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """Position of the checkpoint where the last task ended."""
        return self.ends[-1]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (j, i) of each switch from task j to the next and each set i learned by then."""
        return tuple((j, i) for j in range(len(self.ends) - 1) for i in range(j + 1))


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure, for each set that it is defined for and pooled over these sets.

    Attributes:
        name: Name of the measure.
        window: Width of the window of WF and WP; None for other measures.
        sets: The sets that have a value of their own.
        each: Values of these sets, shape (..., len(sets)).
        pooled: Value over the sets, shape (...); empty if there is a `reason`.
        reason: Why the measure is undefined; None if it is defined.
    """

    name: str
    window: int | None
    sets: tuple[int, ...]
    each: Floats
    pooled: Floats
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Gaps:
    """What happens to the sets learned so far after each switch of tasks.

    Attributes:
        depth: Score at the switch minus the lowest score until the next task ended, shape (..., n_pairs);
            negative if the score only rose.
        trough: Position of the checkpoint with that lowest score, the first of equals, same shape.
        recovery_steps: Updates from the switch until the score, after its lowest, is back at its value at the
            switch; 0 if it never fell below, inf if it is not back when the next task ended. Same shape.
            Scores are known at checkpoints only, so this is too long by up to the distance between two.
    """

    depth: Floats
    trough: NDArray[np.int64]
    recovery_steps: Floats


def task_checkpoints(steps: Sequence[int], task_end_steps: Sequence[int]) -> list[int | None]:
    """Return for each task the last checkpoint that had seen the task and nothing of the next one.

    This is the last checkpoint with step <= task_end_step, if its step is above the previous task_end_step.
    The first task begins with step 1, but if it ended at step 0, its checkpoint is that of step 0.

    Args:
        steps: Steps of the checkpoints, rising.
        task_end_steps: Last step of each task, rising.

    Returns:
        Positions; None for a task without such a checkpoint.
    """
    found: list[int | None] = []
    before = 0 if task_end_steps and task_end_steps[0] > 0 else -1
    for end in task_end_steps:
        position = int(np.searchsorted(steps, end, side="right")) - 1
        found.append(position if position >= 0 and steps[position] > before else None)
        before = end
    return found


def measures(curves: Floats, design: Design) -> list[Measure]:
    """Return all measures.

    Args:
        curves: Scores, shape (..., k, n_steps), with sets in the order of their tasks; leading axes may be
            draws. Entries that no measure uses may have any value.
        design: Checkpoints at which the tasks end.
    """
    k, last = len(design.ends), design.last
    at_end = np.stack([curves[..., :, end] for end in design.ends], axis=-2)
    learned = np.stack([at_end[..., i, i] for i in range(k)], axis=-1)
    final = at_end[..., -1, :]
    alone = _ONE_TASK if k < 2 else None
    found = [_mean("acc", range(k), lambda: final)]
    found.append(_mean("bwt", range(k - 1), lambda: (final - learned)[..., :-1], alone))
    first = design.steps[0]
    unseen = None if design.untrained else f"the first checkpoint, at step {first}, is not an untrained model"
    found.append(_mean("fwt", range(1, k), lambda: _ahead(curves, at_end), alone or unseen))
    found.append(_mean("forgetting_chaudhry", range(k - 1), lambda: _fallen(at_end), alone))
    lowest = _mean("min_acc", range(k - 1), lambda: _lowest(curves, design), alone)
    found += [lowest, _worst_case(lowest, final[..., -1], k)]
    n = last + 1
    few = f"{n} checkpoints up to the end of the last task, fewer than the window"
    for name, sign in (("wf", 1.0), ("wp", -1.0)):
        found += [
            _windowed(name, sign * curves, design, window, few if n < window else None)
            for window in design.windows
        ]
    return found


def _mean(name: str, sets: range, values: Callable[[], Floats], reason: str | None = None) -> Measure:
    if reason is not None:
        return Measure(name, None, (), np.empty(0), np.empty(0), reason)
    each = values()
    return Measure(name, None, tuple(sets), each, each.mean(-1))


def _ahead(curves: Floats, at_end: Floats) -> Floats:
    """Return R(i - 1, i) minus the score of the untrained model, for all sets but the first."""
    k = at_end.shape[-1]
    before = np.stack([at_end[..., i - 1, i] for i in range(1, k)], axis=-1)
    return before - curves[..., 1:, 0]


def _fallen(at_end: Floats) -> Floats:
    """Return the best score at the end of an earlier task minus the final score, of all sets but the last."""
    k = at_end.shape[-1]
    return np.stack([at_end[..., i:-1, i].max(-1) - at_end[..., -1, i] for i in range(k - 1)], axis=-1)


def _lowest(curves: Floats, design: Design) -> Floats:
    """Return the lowest score after a set's own task until the last one ended, for all sets but the last."""
    ends = enumerate(design.ends[:-1])
    return np.stack([curves[..., i, end + 1 : design.last + 1].min(-1) for i, end in ends], axis=-1)


def _worst_case(lowest: Measure, newest: Floats, k: int) -> Measure:
    """Return WC-ACC, 1/k of the newest set's score plus (1 - 1/k) of min-ACC; it belongs to no set."""
    if lowest.reason is not None:
        return Measure("wc_acc", None, (), np.empty(0), np.empty(0), lowest.reason)
    pooled = newest / k + (1 - 1 / k) * lowest.pooled
    return Measure("wc_acc", None, (), np.empty((*pooled.shape, 0)), pooled)


def _windowed(name: str, curves: Floats, design: Design, window: int, reason: str | None) -> Measure:
    """Return each set's largest drop in a window, from the end of the task before its own to the last end."""
    if reason is not None:
        return Measure(name, window, (), np.empty(0), np.empty(0), reason)
    begins = (0, *design.ends[:-1])
    drops = [largest_drop(curves[..., i, a : design.last + 1], window) for i, a in enumerate(begins)]
    each = np.stack(drops, axis=-1)
    return Measure(name, window, tuple(range(len(begins))), each, each.mean(-1))


def largest_drop(curve: Floats, window: int) -> Floats:
    """Return max over m < n < m + window of curve(m) - curve(n); for a negated curve, the largest rise.

    It is negative for a curve that only rises: minus the smallest rise.

    Args:
        curve: Scores, shape (..., n_steps), two or more steps.
        window: Number of checkpoints in a window, 2 or more; if there are fewer, all of them.

    Returns:
        Largest drops, shape (...).

    Raises:
        ValueError: There are fewer than two checkpoints, or the window has fewer than two.
    """
    n = curve.shape[-1]
    if n < 2 or window < 2:
        raise ValueError(f"{n} checkpoints in windows of {window}; need 2 or more of both")
    largest = np.full(curve.shape[:-1], -np.inf)
    for lag in range(1, min(window, n)):
        np.maximum(largest, (curve[..., :-lag] - curve[..., lag:]).max(-1), out=largest)
    return largest


def gaps(curves: Floats, design: Design) -> Gaps:
    """Return what happens after each switch of tasks, for the pairs of the design.

    Args:
        curves: Scores, shape (..., k, n_steps).
        design: Checkpoints at which the tasks end; two tasks or more.

    Raises:
        ValueError: There is only one task.
    """
    if not design.pairs:
        raise ValueError("one task has no switch to another")
    steps = np.asarray(design.steps)
    depths, troughs, times = [], [], []
    for j, i in design.pairs:
        switch, end = design.ends[j], design.ends[j + 1]
        level = curves[..., i, switch]
        after = curves[..., i, switch + 1 : end + 1]
        trough = after.argmin(-1)
        depth = level - after.min(-1)
        back = (after >= level[..., None]) & (np.arange(after.shape[-1]) >= trough[..., None])
        waited = (steps[switch + 1 + back.argmax(-1)] - steps[switch]).astype(np.float64)
        depths.append(depth)
        troughs.append(switch + 1 + trough)
        times.append(np.where(depth <= 0, 0.0, np.where(back.any(-1), waited, np.inf)))
    return Gaps(np.stack(depths, -1), np.stack(troughs, -1), np.stack(times, -1))
