"""The start, progress and duration of the searches of a pass.

A search starts from the prompt that was found for the same target at the previous checkpoint, so it has to
wait for that prompt. The prompts are therefore the same whichever process does which unit, and whatever was
killed meanwhile.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memprobe.errors import BrokenUnitError
from memprobe.scoring.unit_search import Warm
from memprobe.tables.requests import Unit
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.search import SearchProgress


@dataclass(frozen=True, slots=True)
class PreviousCheckpoint:
    """Context and step of the checkpoint before another one."""

    context: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """Starting point of a search: the previous checkpoint's prompt, or None to start without one."""

    warm: Warm | None = None


@dataclass(frozen=True, slots=True)
class SearchStep:
    """The progress of the search for one target.

    Attributes:
        target: Number of the target within the checkpoint, from 1.
        n_targets: Number of targets of the checkpoint.
        n_tokens: Length of the prompts being tried.
        best_loss_nats: Lowest loss at this length so far; None if nothing was evaluated yet.
        n_matches: Number of candidates after which the model produces the target.
        best_tokens: Length of the shortest prompt found so far; None if none was found yet.
        evaluations_used: Number of candidates evaluated.
        budget: Number of candidates that may be evaluated.
        left_s: Seconds until all searches of this pass are done, estimated from those that are done; None
            before the first one is done.
    """

    target: int
    n_targets: int
    n_tokens: int
    best_loss_nats: float | None
    n_matches: int
    best_tokens: int | None
    evaluations_used: int
    budget: int
    left_s: float | None


def name_of(context: str, unit: str) -> str:
    """Return the name under which a unit's prompt is sealed."""
    return f"{context}-{unit}"


def start_of(
    store: RunStore, before: PreviousCheckpoint | None, unit: str, work: Unit, *, gone: bool
) -> Start | None:
    """Return where a search starts; None if it has to wait for the previous checkpoint.

    Args:
        store: The run directory.
        before: The previous checkpoint; None if there is none.
        unit: The unit's key, the same at every checkpoint.
        work: The unit.
        gone: Whether the previous checkpoint failed or is not scored in this pass.
    """
    if work.search is None or not work.search.warm or before is None:
        return Start()
    if not store.has_unit(before.context, unit):
        return Start() if gone else None
    try:
        found = store.read_units(before.context, {unit: work})["found"][0]
    except BrokenUnitError as error:
        for file in error.files:
            # Another process may have set it aside meanwhile.
            with suppress(FileNotFoundError):
                store.set_aside(file)
        return None
    if found is None or found["prompt_sealed"] is None:
        return Start()
    return Start(Warm(found["prompt_sealed"], name_of(before.context, unit), before.step))


@dataclass(slots=True)
class SearchClock:
    """Measures how long searches take, and estimates how long the remaining ones will.

    Attributes:
        n_left: Number of searches of the pass that are not done.
        n_done: Number of searches that this process did.
        spent_s: Seconds that this process spent on them.
    """

    n_left: int = 0
    n_done: int = 0
    spent_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def begin(self, n_left: int) -> None:
        """Begin a search; `n_left` searches are not done, including this one."""
        self.began, self.n_left = time.monotonic(), n_left

    def end(self) -> None:
        """End the current search."""
        self.spent_s += time.monotonic() - self.began
        self.n_done += 1

    def step(self, target: int, n_targets: int, progress: "SearchProgress") -> SearchStep:
        """Return the progress of the current search."""
        left_s = None
        if self.n_done:
            each_s = self.spent_s / self.n_done
            running_s = time.monotonic() - self.began
            left_s = max(0.0, each_s - running_s) + each_s * (self.n_left - 1)
        return SearchStep(
            target=target,
            n_targets=n_targets,
            n_tokens=progress.n_tokens,
            best_loss_nats=progress.best_loss_nats,
            n_matches=progress.n_matches,
            best_tokens=progress.best_tokens,
            evaluations_used=progress.evaluations_used,
            budget=progress.budget,
            left_s=left_s,
        )
