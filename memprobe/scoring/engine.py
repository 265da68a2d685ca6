"""The pass over checkpoints: units are claimed, scored, checked and written while the next weights are read.

A checkpoint that cannot be loaded, fails inside its model, gives NaN, or runs out of memory even with one
item at a time is recorded with its error, and the pass goes on with the others.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import polars as pl
import torch

from memprobe.checkpoints import CheckpointCache
from memprobe.errors import CheckpointError, LostClaimError, TableError
from memprobe.scoring.chain import SearchClock, SearchStep, Start, name_of, start_of
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.job import EngineOptions, Failure, Job, ScoringProgress, ScoringReport
from memprobe.scoring.load import (
    LoadedModel,
    quiet_libraries,
)
from memprobe.scoring.model import ModelInMemory
from memprobe.scoring.outside import outside
from memprobe.scoring.prefetch import Prefetcher
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.scoring.unit import score_unit
from memprobe.scoring.unit_search import search_unit
from memprobe.tables.claims import Patience
from memprobe.tables.store import RunStore

WAIT_S = 0.5


def score(
    jobs: Sequence[Job],
    tokenised: TokenisedItems,
    options: EngineOptions,
    store: RunStore,
    on_progress: Callable[[ScoringProgress], None] = lambda _: None,
    *,
    cache: CheckpointCache | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> ScoringReport:
    """Score every missing unit of every job; return when all units are there or failed.

    Units that another process holds are left to it and taken over if it dies or stays stopped; `on_wait`
    is told which process this one waits for. Checkpoints come from `cache`; without it, fetched files are
    kept.
    """
    quiet_libraries()
    if options.threads:
        torch.set_num_threads(options.threads)
    report = ScoringReport(batch_tokens=options.batch_tokens)
    n_units = len({(job.context, unit) for job in jobs for unit in job.units})
    prefetcher = Prefetcher(cache or CheckpointCache())
    memory = ModelInMemory(jobs, tokenised, options.load, report, prefetcher)
    sweep = _Sweep(jobs, tokenised, options, store, on_progress, report, prefetcher, memory, n_units)
    with scoring_mode():
        try:
            # A killed process may have left fetched files that it no longer needed.
            sweep.put_back(jobs)
            patience = Patience(on_wait)
            while sweep.pending():
                if sweep.once():
                    patience.end()
                else:
                    patience.wait_for(sweep.waiting())
                    time.sleep(WAIT_S)
            sweep.put_back(jobs)
        finally:
            prefetcher.keep_only(None)
    return report


@dataclass(slots=True)
class _Sweep:
    """State of one pass: the loaded model, the weights being read, and the checkpoints that failed."""

    jobs: Sequence[Job]
    tokenised: TokenisedItems
    options: EngineOptions
    store: RunStore
    on_progress: Callable[[ScoringProgress], None]
    report: ScoringReport
    prefetcher: Prefetcher
    memory: ModelInMemory
    n_units: int
    failed: set[str] = field(default_factory=set)
    done: set[tuple[str, str]] = field(default_factory=set)
    items_done: int = 0
    clock: SearchClock = field(default_factory=SearchClock)

    def pending(self) -> list[Job]:
        """Return the jobs that have units left."""
        return [job for job in self.jobs if job.context not in self.failed and self._units_left(job)]

    def once(self) -> bool:
        """Go over the jobs once; return False if nothing could be claimed."""
        progressed = False
        pending = self.pending()
        for i, job in enumerate(pending):
            following = pending[i + 1] if i + 1 < len(pending) else None
            try:
                with outside("the model failed", job.checkpoint.label, in_model=True):
                    progressed |= self._job(job, following)
            except (CheckpointError, torch.OutOfMemoryError) as error:
                self.report.failures.append(Failure(job.checkpoint, str(error)))
                self.failed.add(job.context)
                self.memory.loaded, progressed = None, True
                self.prefetcher.cache.leave(job.checkpoint, done=True)
        return progressed

    def waiting(self) -> str:
        """Return a text that names the processes holding the remaining units; empty if there are none."""
        left = [(job.context, unit) for job in self.pending() for unit in self._units_left(job)]
        holders = self.store.holders(left)
        return f"waiting for {', '.join(map(str, holders))}, which scores what is left" if holders else ""

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Stop using these jobs' checkpoints; fetched files of complete or failed ones may be removed."""
        for job in jobs:
            if job.checkpoint.repo is not None:
                units = job.of_all or job.units
                done = all(self.store.has_unit(job.context, unit) for unit in units)
                self.prefetcher.cache.leave(job.checkpoint, done=done or job.context in self.failed)

    def _units_left(self, job: Job) -> list[str]:
        """Return the missing units; units once seen are not looked up again, to spare the file system."""
        unseen = [unit for unit in job.units if (job.context, unit) not in self.done]
        left = [unit for unit in unseen if not self.store.has_unit(job.context, unit)]
        self.done.update((job.context, unit) for unit in set(unseen) - set(left))
        return left

    def _job(self, job: Job, following: Job | None) -> bool:
        model: LoadedModel | None = None
        for unit in self._units_left(job):
            if (start := self._start(job, unit)) is None:
                continue
            with self.store.claim(job.context, unit) as held:
                if not held or self.store.has_unit(job.context, unit):
                    continue
                if model is None:
                    model = self.memory.of(job)
                    if model is None:
                        return False
                    self.memory.read_ahead(following)
                # A process that was stopped until another one took over its unit leaves the unit to that one.
                with suppress(LostClaimError):
                    self._unit(job, unit, model, start)
        if model is not None:
            self.put_back([job])
        return model is not None

    def _start(self, job: Job, unit: str) -> Start | None:
        """Return where a unit starts; None if it has to wait for the previous checkpoint."""
        before = job.before
        gone = before is not None and before.context not in {
            each.context for each in self.jobs if each.context not in self.failed
        }
        start = start_of(self.store, before, unit, job.units[unit], gone=gone)
        if start is None and before is not None and not self.store.has_unit(before.context, unit):
            # The previous checkpoint's unit may have been there but unreadable.
            self.done.discard((before.context, unit))
        return start

    def _search(self, job: Job, unit: str, model: LoadedModel, start: Start) -> pl.DataFrame:
        """Search for the prompt of one target, and report progress."""
        targets = [key for key, work in job.units.items() if work.search]
        left = {
            (each.context, key)
            for each in self.jobs
            for key, work in each.units.items()
            if work.search and (each.context, key) not in self.done and each.context not in self.failed
        }
        self.clock.begin(len(left))
        spans = search_unit(
            model,
            self.tokenised,
            job.units[unit],
            name=name_of(job.context, unit),
            warm=start.warm,
            include_text=self.options.include_text,
            on_step=lambda step: self._tell(
                job, self.clock.step(targets.index(unit) + 1, len(targets), step)
            ),
        )
        self.clock.end()
        return spans

    def _unit(self, job: Job, unit: str, model: LoadedModel, start: Start) -> None:
        started = time.perf_counter()
        if job.units[unit].search:
            spans = self._search(job, unit, model, start)
            self.items_done += 1
        else:
            spans = self._score_with_less_memory(job, unit, model)
        self._write(job, unit, spans, model)
        self.done.add((job.context, unit))
        self.report.n_units += 1
        self.report.score_s += time.perf_counter() - started
        self._tell(job)

    def _write(self, job: Job, unit: str, spans: pl.DataFrame, model: LoadedModel) -> None:
        """Write a unit; the checkpoint fails if it has values that no model can give."""
        checkpoint = job.checkpoint
        step = "null" if checkpoint.step is None else str(checkpoint.step)
        about = {"model": checkpoint.model, "revision": checkpoint.revision, "step": step}
        try:
            self.store.write_unit(job.context, unit, spans, about, vocabulary=model.vocabulary or None)
        except TableError as error:
            raise CheckpointError(
                f"the model gives values that cannot be: {error.problems[0].what}",
                where=checkpoint.label,
                fix="the weights may be damaged, or overflow in this dtype; try --dtype float32",
            ) from error

    def _score_with_less_memory(self, job: Job, unit: str, model: LoadedModel) -> pl.DataFrame:
        """Score a unit; when memory runs out, halve the batch for all that remains, down to one item."""
        work = job.units[unit]
        longest = int((work.requests["stop"] - work.requests["start"]).max() or 1)  # type: ignore[arg-type]
        while True:
            try:
                return score_unit(
                    model,
                    self.tokenised,
                    work.requests,
                    further=work.statistics,
                    batch_tokens=self.report.batch_tokens,
                    include_text=self.options.include_text,
                    on_batch=lambda n: self._count(job, n),
                )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if self.report.batch_tokens <= longest:
                    raise CheckpointError(
                        "out of memory, even with one item at a time",
                        where=job.checkpoint.label,
                        fix="score shorter spans, or use a device with more memory",
                    ) from error
                self.report.batch_tokens //= 2
                model.scratch.clear()
                if model.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _count(self, job: Job, n_sequences: int) -> None:
        self.items_done += n_sequences
        self._tell(job)

    def _tell(self, job: Job, search: SearchStep | None = None) -> None:
        self.on_progress(
            ScoringProgress(
                checkpoint=self.jobs.index(job) + 1,
                n_checkpoints=len(self.jobs),
                revision=job.checkpoint.revision,
                units_done=len(self.done),
                n_units=self.n_units,
                items_done=self.items_done,
                search=search,
            )
        )


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
