"""The model in memory: loaded from its folder, or given the weights of the next checkpoint."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from memprobe.checkpoints import Checkpoint
from memprobe.scoring.conduct import settle_again
from memprobe.scoring.job import Job, ScoringReport
from memprobe.scoring.load import LoadedModel, LoadOptions, load, mirrors, read_weights, swap_weights
from memprobe.scoring.prefetch import Prefetcher, fits_in_memory
from memprobe.scoring.tokenise import TokenisedItems


@dataclass(slots=True)
class ModelInMemory:
    """The one model that a pass holds.

    Attributes:
        jobs: All jobs of the pass.
        tokenised: The items with their ids.
        options: Device, dtype and what may be trusted.
        report: Receives seconds and notes.
        prefetcher: Brings the files of checkpoints, and reads weights ahead.
        loaded: The model; None: nothing is loaded.
        shape: Jobs of this `same_shape` may copy their weights into `loaded`; empty: none may.
    """

    jobs: Sequence[Job]
    tokenised: TokenisedItems
    options: LoadOptions
    report: ScoringReport
    prefetcher: Prefetcher
    loaded: LoadedModel | None = None
    shape: str = ""

    def of(self, job: Job) -> LoadedModel | None:
        """Return the job's model: by copying weights that were read ahead, else from its folder.

        None where there is no room for its files until another process puts back its own.
        """
        started = time.perf_counter()
        arrival = self.prefetcher.take(job.context, job.checkpoint)
        if arrival.checkpoint is None:
            return None
        if not self._swap(job, arrival.weights):
            self.loaded = None
            wanted = replace(self.options, longest_tokens=self._longest_tokens())
            self.loaded = load(arrival.checkpoint, wanted)
            self.shape = job.same_shape if self._may_swap(job, arrival.checkpoint) else ""
        waited = time.perf_counter() - started
        self.report.first_load_s = self.report.first_load_s or waited
        self.report.load_s += waited
        if self.loaded is None:
            raise ValueError("no model was loaded")
        self.report.paths.add("fast" if self.loaded.fast else "own")
        for text in self.loaded.notes:
            self.report.notes.setdefault(text, set()).add((job.checkpoint.model, job.checkpoint.revision))
        return self.loaded

    def _swap(self, job: Job, weights: dict[str, Tensor] | None) -> bool:
        """Copy weights that were read ahead into the model of the checkpoint before."""
        if self.loaded is None or weights is None or self.shape != job.same_shape:
            return False
        swapped = swap_weights(self.loaded, weights)
        if swapped:
            settle_again(self.loaded, self._longest_tokens(), where=job.checkpoint.label)
        return swapped

    def _longest_tokens(self) -> int:
        """Return the longest sequence that any job reads, at most; more than a context may be asked for."""
        spans = [
            work.requests["stop"] - work.requests["start"] for job in self.jobs for work in job.units.values()
        ]
        longest = max((int(span.max() or 0) for span in spans if len(span)), default=0)  # type: ignore[arg-type]
        searched = [
            work.search.longest(longest) for job in self.jobs for work in job.units.values() if work.search
        ]
        return self.tokenised.n_front + longest + max(searched, default=0)

    def _may_swap(self, job: Job, checkpoint: Checkpoint) -> bool:
        """Whether later checkpoints of this shape may be copied in: checked against this one's files."""
        others = sum(each.same_shape == job.same_shape for each in self.jobs) > 1
        if not others or self.options.device == "auto" or self.loaded is None:
            return False
        weights = read_weights(checkpoint) if fits_in_memory(checkpoint) else None
        return weights is not None and mirrors(self.loaded, weights)

    def read_ahead(self, following: Job | None) -> None:
        """Start to read the weights of the job that follows, where they fit next to this one's."""
        # What was asked for a checkpoint that another process then took over is dropped.
        self.prefetcher.keep_only(following.context if following else None)
        if following:
            checkpoint = following.checkpoint
            read = self.shape == following.same_shape and fits_in_memory(checkpoint)
            if read or checkpoint.folder is None:
                self.prefetcher.start(following.context, checkpoint, read=read)
