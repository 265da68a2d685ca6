"""Where a run stands: units, claims, failures, speed; read from names and times of files, without torch."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from memprobe.pipeline.reading import open_run
from memprobe.tables.claims import Holder
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore

State = Literal["scoring", "measuring", "idle", "done", "incomplete"]
# The speed is that of the last units; a gap so many times longer than most is a pause, not work.
_LAST_UNITS, _PAUSE = 200, 20.0


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """How far one checkpoint is scored.

    Attributes:
        model: Hub id or name of the sequence.
        revision: Git revision or name of the checkpoint's folder.
        step: Training step; None where it has none.
        n_done: Units that are there.
        n_units: Units in all; None where an older memprobe did not write it down.
        error: Why it could not be scored, None where it did not fail.
    """

    model: str
    revision: str
    step: int | None
    n_done: int
    n_units: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class HeldUnit:
    """A unit that a process holds or left behind.

    Attributes:
        revision: Of which checkpoint; None where the run has no such checkpoint any more.
        host: Machine of the process, None if the claim does not record it.
        pid: Its number, None likewise.
        held_s: Seconds since it was taken, None likewise.
        silent_s: Seconds since the process was last heard of; a living one is heard every 10.
        gone: The process has ended, so any other takes the unit over.
    """

    revision: str | None
    host: str | None
    pid: int | None
    held_s: float | None
    silent_s: float
    gone: bool


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The progress of a run.

    Attributes:
        run: The directory.
        state: `scoring` or `measuring`: a process is at it; `idle`: unfinished and no process holds a unit;
            `done`; `incomplete`: finished, and some checkpoints failed.
        checkpoints: In order.
        held: Units that are held.
        n_done: Units that are there; checkpoints with the same weights share theirs.
        n_units: Units in all, None where it is unknown.
        n_left: Units to be scored, those of failed checkpoints left out; None likewise.
        units_per_s: Speed over the last units, all processes together; None before the third.
        left_s: Seconds until the last unit at that speed; None where it is unknown.
    """

    run: str
    state: State
    checkpoints: tuple[CheckpointStatus, ...]
    held: tuple[HeldUnit, ...]
    n_done: int
    n_units: int | None
    n_left: int | None
    units_per_s: float | None
    left_s: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON can hold it."""
        return asdict(self)


def status(path: str | Path) -> RunStatus:
    """Return where a run stands; it may be running, killed, or finished.

    Raises:
        InvalidRunError: There is no run in the directory.
    """
    run = open_run(path).about
    store = RunStore(Path(path))
    times, claims = store.unit_times(), store.claims()
    checkpoints = _checkpoints(run, {context: len(each) for context, each in times.items()})
    # Checkpoints with the same weights have the same context, and their units count once.
    by_context = {about.context: each for about, each in zip(run.checkpoints, checkpoints, strict=True)}
    known = all(each.n_units is not None for each in checkpoints)
    n_left = sum((each.n_units or 0) - each.n_done for each in by_context.values() if each.error is None)
    written = [when for context in by_context for when in times.get(context, ())]
    units_per_s = speed(written)
    return RunStatus(
        run=str(path),
        state=_state(run.state, [each.holder for each in claims], store.lock_holder()),
        checkpoints=tuple(checkpoints),
        held=tuple(_held(each.holder, by_context.get(each.context)) for each in claims),
        n_done=sum(each.n_done for each in by_context.values()),
        n_units=sum(each.n_units or 0 for each in by_context.values()) if known else None,
        n_left=n_left if known else None,
        units_per_s=units_per_s,
        left_s=n_left / units_per_s if known and units_per_s else None,
    )


def _checkpoints(run: Manifest, n_done: Mapping[str, int]) -> list[CheckpointStatus]:
    errors = {each.name: each.error.splitlines()[0] for each in run.failures}
    n_units = {each.model: each.n_units for each in run.sequences}
    return [
        CheckpointStatus(
            each.model,
            each.revision,
            each.step,
            n_done.get(each.context, 0),
            n_units.get(each.model),
            errors.get(each.name),
        )
        for each in run.checkpoints
    ]


def _held(holder: Holder, checkpoint: CheckpointStatus | None) -> HeldUnit:
    return HeldUnit(
        revision=checkpoint.revision if checkpoint else None,
        host=holder.host,
        pid=holder.pid,
        held_s=None if holder.since is None else round(max(time.time() - holder.since, 0.0), 1),
        silent_s=round(holder.silent_s, 1),
        gone=holder.gone,
    )


def _state(said: State, holders: Sequence[Holder], lock: Holder | None) -> State:
    # One process may have ended the run as incomplete while another still scores what failed there.
    if any(not each.gone for each in holders):
        return "scoring"
    if said != "scoring":
        return said
    return "measuring" if lock is not None and not lock.gone else "idle"


def speed(written: Sequence[float]) -> float | None:
    """Return units per second over the last units, pauses left out; None for fewer than three.

    Args:
        written: When each unit was written, in seconds, in any order.
    """
    gaps = [after - before for before, after in pairwise(sorted(written)[-_LAST_UNITS - 1 :])]
    if len(gaps) < 2:
        return None
    at_work = [gap for gap in gaps if gap <= _PAUSE * statistics.median(gaps)]
    return len(at_work) / sum(at_work) if sum(at_work) > 0 else None
