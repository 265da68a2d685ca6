"""Score the share of one process; the last process to finish builds tables and summary."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memprobe.checkpoints import config_digest
from memprobe.errors import BrokenUnitError, LostClaimError
from memprobe.pipeline.finish import finish
from memprobe.pipeline.listener import Listener
from memprobe.pipeline.plans import SequencePlan
from memprobe.pipeline.prepare import Prepared
from memprobe.pipeline.shard import WHOLE, Shard
from memprobe.pipeline.supply import checkpoint_cache
from memprobe.pipeline.units import befores
from memprobe.tables.requests import Unit
from memprobe.tables.store import RunStore

if TYPE_CHECKING:
    from memprobe.scoring.job import ScoringReport


def complete(
    prepared: Prepared, store: RunStore, listener: Listener, *, started: float, shard: Shard = WHOLE
) -> "ShareResult":
    """Score the missing units of a share; if no other share has units left, build tables and summary.

    Args:
        prepared: The question, which the run directory holds already.
        store: The run directory.
        listener: Receives the progress.
        started: When this process began, by `time.perf_counter`.
        shard: The share of the units that this process scores.

    Raises:
        BrokenUnitError: A unit cannot be used, even after it was scored again.
    """
    mine = shard.units(prepared.plans)
    set_aside: set[Path] = set()
    n_scored = 0
    while True:
        listener.stage("score")
        report = _score(prepared, store, listener, mine)
        n_scored += report.n_units
        with store.lock(waiting=listener.note):
            try:
                spent_s, started = time.perf_counter() - started, time.perf_counter()
                left = finish(
                    prepared, report, store, total_s=spent_s, measuring=lambda: listener.stage("measure")
                )
            except BrokenUnitError as error:
                if set_aside & set(error.files):
                    raise
                for file, reason in error.reasons.items():
                    set_aside.add(file)
                    aside = store.set_aside(file).name
                    why = f"cannot be used: {reason}; it is now {aside} and is scored again"
                    listener.note(f"{file.name} {why}")
                continue
            except LostClaimError:
                listener.note("this process was stopped, and another took over the tables: looking again")
                continue
        # Another process may have set aside a unit of this share.
        if not left & mine:
            return ShareResult(n_scored, len(left))


@dataclass(frozen=True, slots=True)
class ShareResult:
    """Result of a process's share.

    Attributes:
        n_scored: Number of units that this process scored.
        n_left: Number of units of other shares that are neither there nor failed.
    """

    n_scored: int
    n_left: int


def _score(
    prepared: Prepared, store: RunStore, listener: Listener, mine: set[tuple[str, str]]
) -> "ScoringReport":
    """Make one pass over each sequence's checkpoints and score the missing units of this share."""
    from memprobe.scoring.chain import PreviousCheckpoint
    from memprobe.scoring.engine import score
    from memprobe.scoring.job import EngineOptions, Job, ScoringReport
    from memprobe.scoring.load import LoadOptions

    options = prepared.options
    load = LoadOptions(options.device, options.dtype, options.trust_remote_code, options.allow_pickle)
    total = ScoringReport(batch_tokens=options.batch_tokens or 0)
    cache = checkpoint_cache(prepared, store, listener)
    before = {
        context: PreviousCheckpoint(*each) if each else None
        for context, each in befores(prepared.plans).items()
    }
    try:
        for sequence, tokenised, plan in zip(
            prepared.sequences, prepared.tokenised, prepared.plans, strict=True
        ):
            engine = EngineOptions(load, total.batch_tokens, options.threads, options.include_text)
            jobs = [
                Job(
                    one,
                    target.context,
                    _units(target.context, plan, mine),
                    config_digest(one),
                    plan.units,
                    before[target.context],
                )
                for one, target in zip(sequence.checkpoints, plan.targets, strict=True)
            ]
            waiting = listener.note
            total.add(score(jobs, tokenised, engine, store, listener.scoring, cache=cache, on_wait=waiting))
    finally:
        cache.close()
    return total


def _units(context: str, plan: SequencePlan, mine: set[tuple[str, str]]) -> dict[str, Unit]:
    return {key: unit for key, unit in plan.units.items() if (context, key) in mine}
