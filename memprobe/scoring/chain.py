"""Where a search starts, how far it is, and how long searches take: what a pass knows of its searches.

A search starts from the prompt of the same target at the checkpoint before, so it has to wait until that
is there: whichever process does which unit, and whatever was killed meanwhile, the prompts are the same.
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
    """The checkpoint before another one: its context and its step."""

    context: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """A search may start: from a prompt, or from none."""

    warm: Warm | None = None


@dataclass(frozen=True, slots=True)
class SearchStep:
    """The progress of the search for one target.

    Attributes:
        target: Which target of the checkpoint, from 1.
        n_targets: Targets of the checkpoint.
        n_tokens: Length of the prompt that is tried.
        best_loss_nats: Lowest loss at this length so far; None: nothing evaluated yet.
        n_matches: Candidates after which the model says the target.
        best_tokens: Length of the shortest prompt so far; None: none yet.
        evaluations_used: Candidates evaluated.
        budget: How many may be.
        left_s: Seconds until all searches of this pass are done, as far as those done tell; None: none is.
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
    """Return where a search starts; None: it has to wait for the checkpoint before.

    Args:
        store: The run directory.
        before: The checkpoint before; None: there is none.
        unit: The unit's key, the same at every checkpoint.
        work: The unit.
        gone: The checkpoint before failed, or is not scored in this pass.
    """
    if work.search is None or not work.search.warm or before is None:
        return Start()
    if not store.has_unit(before.context, unit):
        return Start() if gone else None
    try:
        found = store.read_units(before.context, {unit: work})["found"][0]
    except BrokenUnitError as error:
        for file in error.files:
            # Another process may have done it meanwhile.
            with suppress(FileNotFoundError):
                store.set_aside(file)
        return None
    if found is None or found["prompt_sealed"] is None:
        return Start()
    return Start(Warm(found["prompt_sealed"], name_of(before.context, unit), before.step))


@dataclass(slots=True)
class SearchClock:
    """How long searches take.

    Attributes:
        n_left: Searches of the pass that are not done.
        n_done: Searches that this process did.
        spent_s: Seconds that it spent on them.
    """

    n_left: int = 0
    n_done: int = 0
    spent_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def begin(self, n_left: int) -> None:
        """Begin a search; `n_left` are not done, this one among them."""
        self.began, self.n_left = time.monotonic(), n_left

    def end(self) -> None:
        """End it."""
        self.spent_s += time.monotonic() - self.began
        self.n_done += 1

    def step(self, target: int, n_targets: int, progress: "SearchProgress") -> SearchStep:
        """Return where the search stands."""
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
