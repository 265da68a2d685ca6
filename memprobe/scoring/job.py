"""What a pass over checkpoints is given, and what it returns."""

from collections.abc import Collection
from dataclasses import dataclass, field

from memprobe.checkpoints import Checkpoint
from memprobe.scoring.chain import PreviousCheckpoint, SearchStep
from memprobe.scoring.load import (
    LoadOptions,
)
from memprobe.tables.requests import Unit


@dataclass(frozen=True, slots=True)
class Job:
    """The units to be scored with one checkpoint.

    Attributes:
        checkpoint: The checkpoint; the files of one from the hub may still have to be fetched.
        context: Key of weights, tokenizer and scoring options: the first half of a unit's name.
        units: Unit key to unit of work.
        same_shape: Jobs with equal values here differ in nothing but their weights.
        of_all: Keys of all units of the checkpoint, where `units` are one worker's share of them.
        before: The checkpoint before, from whose prompts searches start; None: there is none.
    """

    checkpoint: Checkpoint
    context: str
    units: dict[str, Unit]
    same_shape: str
    of_all: Collection[str] = ()
    before: PreviousCheckpoint | None = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the pass is made.

    Attributes:
        load: Device, dtype and what may be trusted.
        batch_tokens: Tokens of one batch, padding counted.
        threads: CPU threads; None leaves torch's choice.
        include_text: Write generated text into the units.
    """

    load: LoadOptions
    batch_tokens: int
    threads: int | None = None
    include_text: bool = False


@dataclass(frozen=True, slots=True)
class ScoringProgress:
    """The progress of a pass, after a batch or a unit.

    Attributes:
        checkpoint: Which job, from 1.
        n_checkpoints: Jobs in all.
        revision: The checkpoint's revision.
        units_done: Units of all jobs that are done.
        n_units: Units of all jobs.
        items_done: Sequences read so far by this process.
        search: Where the search of a target stands; None: nothing is being searched.
    """

    checkpoint: int
    n_checkpoints: int
    revision: str
    units_done: int
    n_units: int
    items_done: int
    search: SearchStep | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A checkpoint that could not be scored."""

    checkpoint: Checkpoint
    error: str


@dataclass(slots=True)
class ScoringReport:
    """The work of a pass.

    Attributes:
        failures: Checkpoints that could not be scored.
        n_units: Units that were scored.
        load_s: Seconds spent waiting for weights.
        first_load_s: Those of the first checkpoint, which nothing can overlap.
        score_s: Seconds spent scoring.
        paths: `fast` or `own`, for each model that was loaded.
        batch_tokens: Tokens of one batch at the end; less than asked after running out of memory.
        notes: What was noted about loading, by sentence: the revisions that it holds for, with their model.
    """

    failures: list[Failure] = field(default_factory=list)
    n_units: int = 0
    load_s: float = 0.0
    first_load_s: float = 0.0
    score_s: float = 0.0
    paths: set[str] = field(default_factory=set)
    batch_tokens: int = 0
    notes: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def add(self, other: "ScoringReport") -> None:
        """Add the work of another pass of the same run."""
        self.failures += other.failures
        self.n_units += other.n_units
        self.load_s += other.load_s
        self.first_load_s += other.first_load_s
        self.score_s += other.score_s
        self.paths |= other.paths
        self.batch_tokens = other.batch_tokens
        for text, checkpoints in other.notes.items():
            self.notes.setdefault(text, set()).update(checkpoints)
