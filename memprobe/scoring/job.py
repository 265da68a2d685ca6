"""The input and the result of a pass over checkpoints."""

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
        checkpoint: The checkpoint; if it is from the hub, its files may still have to be fetched.
        context: Key of weights, tokenizer and scoring options: the first half of a unit's name.
        units: Unit key to unit of work.
        same_shape: Jobs with equal values here differ only in their weights.
        of_all: Keys of all units of the checkpoint, if `units` is only one worker's share of them.
        before: The previous checkpoint, from whose prompts searches start; None if there is none.
    """

    checkpoint: Checkpoint
    context: str
    units: dict[str, Unit]
    same_shape: str
    of_all: Collection[str] = ()
    before: PreviousCheckpoint | None = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of a pass.

    Attributes:
        load: Options for loading: device, dtype and what may be trusted.
        batch_tokens: Tokens of one batch, padding included.
        threads: Number of CPU threads; None leaves the choice to torch.
        include_text: Whether to write generated text into the units.
    """

    load: LoadOptions
    batch_tokens: int
    threads: int | None = None
    include_text: bool = False


@dataclass(frozen=True, slots=True)
class ScoringProgress:
    """The progress of a pass, after a batch or a unit.

    Attributes:
        checkpoint: Number of the current job, from 1.
        n_checkpoints: Number of all jobs.
        revision: The checkpoint's revision.
        units_done: Number of units that are done, over all jobs.
        n_units: Number of units of all jobs.
        items_done: Number of sequences read so far by this process.
        search: Progress of the search for a target; None if no search is running.
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
    """A record of the work of a pass.

    Attributes:
        failures: Checkpoints that could not be scored.
        n_units: Number of units that were scored.
        load_s: Seconds spent waiting for weights.
        first_load_s: The part of `load_s` for the first checkpoint, during which nothing can be scored.
        score_s: Seconds spent scoring.
        paths: The paths (`fast` or `own`) of the models that were loaded.
        batch_tokens: Tokens of one batch at the end of the pass; less than asked for if memory ran out.
        notes: Notes about loading: sentence to the (model, revision) pairs that it applies to.
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
