"""The pipeline: plan, score, measure, summarise. Everything else is called from here.

`run` answers a question about checkpoints and leaves a run directory; reading.py opens one.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack

from memprobe.checkpoints import CheckpointCache, config_digest, run_name
from memprobe.errors import BrokenUnitError, LostClaimError
from memprobe.options import GivenOptions
from memprobe.pipeline.finish import CARRIED, finish
from memprobe.pipeline.manifest import merge_stages
from memprobe.pipeline.measure import write_items
from memprobe.pipeline.planning import SequencePlan, befores
from memprobe.pipeline.prepare import Prepared, check_supplies, prepare
from memprobe.pipeline.question import Question, ask
from memprobe.pipeline.reading import Run
from memprobe.pipeline.shard import WHOLE, Shard
from memprobe.pipeline.suite import Suite, write_suite
from memprobe.tables.manifest import Manifest
from memprobe.tables.requests import Unit
from memprobe.tables.store import RunStore
from memprobe.wording import sized

if TYPE_CHECKING:
    from memprobe.scoring.engine import ScoringProgress, ScoringReport


class Listener(Protocol):
    """Receives the progress of a run; a command line shows it."""

    def stage(self, name: str) -> None:
        """A stage begins: read, plan, score, measure."""

    def note(self, text: str) -> None:
        """Something the user should know that is no error."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """A batch or a unit is done."""


class NullListener:
    """A listener that ignores every event."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """Ignore it."""


def run(
    suite: str | Path | Suite | None = None,
    *,
    probes: str | Sequence[str] = (),
    settings: str | Sequence[str] = (),
    out: str | Path | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    **options: Unpack[GivenOptions],
) -> Run:
    """Answer a question about checkpoints; what is done already is kept and not done again.

    Works in a notebook and in any thread.

    Example:
        run = memprobe.run("quickstart", model="runs/my-model", data="items.jsonl", out="reports/mine")
        print(run.summary)

    Args:
        suite: A suite, the name of one that ships, or a path ending in `.toml`; None: the probes.
        probes: Keep only these, or measure these where there is no suite.
        settings: `PROBE.KEY=VALUE`, like `recall.suffix_tokens=20`.
        out: The run directory; None: under `reports/`, named after the question.
        fresh: Start over: empty the directory first, if it holds a run.
        listener: Receives the progress.
        **options: The fields of `RunOptions`: `model`, `data`, `steps`, `device` and so on; one model or
            file may stand without a list.

    Returns:
        The run; `failures` lists checkpoints that could not be scored.

    Raises:
        InputError: Something about the question is wrong; nothing was done.
        SafetyError: Something unsafe, or the network under `offline`, was needed.
    """
    given = {name: _listed(value) if name in ("model", "data") else value for name, value in options.items()}
    question = ask(suite, probes=_listed(probes), settings=_listed(settings), out=out, options=given)
    return answer_question(question, fresh=fresh, listener=listener or NullListener())


def _listed(value: object) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))  # type: ignore[call-overload]


def answer_question(question: Question, *, fresh: bool, listener: Listener) -> Run:
    """Prepare, score, measure and summarise one question."""
    store = RunStore(question.out, private=question.options.include_text)
    started = time.perf_counter()
    try:
        prepared = _begin(question, store, listener, fresh=fresh)
        complete(prepared, store, listener, started=started)
    finally:
        store.release()
    return Run(question.out)


def _begin(question: Question, store: RunStore, listener: Listener, *, fresh: bool) -> Prepared:
    """Prepare the question and write down what is asked."""
    # A question that cannot be asked must not cost the run that is there.
    prepared = prepare(question, listener, fresh=fresh)
    check_supplies(prepared, None if fresh else store)
    if fresh:
        store.empty()
    store.create()
    while True:
        try:
            with store.lock(waiting=listener.note):
                if _write_down(prepared, question, store):
                    return prepared
        except LostClaimError:
            continue
        # Another process added a probe between our look at the directory and now.
        prepared = prepare(question, listener)


def _write_down(prepared: Prepared, question: Question, store: RunStore) -> bool:
    """Write the question to the run directory; False if the run was asked something else meanwhile."""
    before = store.read_manifest()
    if before is not None and merge_stages(before, prepared.manifest) != prepared.manifest.stages:
        return False
    store.write_text("suite.toml", write_suite(prepared.suite, question.options))
    store.write_lines("skipped.jsonl", _skipped(prepared))
    tables = write_items(prepared.plans, store, include_text=prepared.options.include_text)
    # Workers wait for the manifest, so it comes last.
    store.write_manifest(_asked(prepared, before).changed(tables=tables))
    return True


def _asked(prepared: Prepared, before: Manifest | None) -> Manifest:
    """Return the manifest of a run that begins or goes on: what is asked, and what it took so far."""
    lengths = zip(prepared.manifest.sequences, prepared.plans, strict=True)
    kept = {name: getattr(before, name) for name in CARRIED if before is not None and name in before.keys}
    return prepared.manifest.changed(
        flags=asdict(prepared.options),
        sequences=tuple(about.changed(n_units=len(plan.units)) for about, plan in lengths),
        **kept,
    )


def complete(
    prepared: Prepared, store: RunStore, listener: Listener, *, started: float, shard: Shard = WHOLE
) -> "ShareResult":
    """Score what is missing of a share; where nothing is left to others, build tables and summary.

    Args:
        prepared: The question; the run directory says the same.
        store: The run directory.
        listener: Receives the progress.
        started: When this process began, by `time.perf_counter`.
        shard: Which units are this process's.

    Raises:
        BrokenUnitError: A unit cannot be used, not even after it was scored again.
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
    """How a process's share ended.

    Attributes:
        n_scored: Units that this process scored.
        n_left: Units of other shares that are neither there nor failed.
    """

    n_scored: int
    n_left: int


def _score(
    prepared: Prepared, store: RunStore, listener: Listener, mine: set[tuple[str, str]]
) -> "ScoringReport":
    """Make one pass over each sequence's checkpoints, where units of this share are missing."""
    from memprobe.scoring.chain import PreviousCheckpoint
    from memprobe.scoring.engine import EngineOptions, Job, ScoringReport, score
    from memprobe.scoring.load import LoadOptions

    options = prepared.options
    load = LoadOptions(options.device, options.dtype, options.trust_remote_code, options.allow_pickle)
    total = ScoringReport(batch_tokens=options.batch_tokens or 0)
    cache = _checkpoint_cache(prepared, store, listener)
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


def _checkpoint_cache(prepared: Prepared, store: RunStore, listener: Listener) -> CheckpointCache:
    """Return what brings checkpoints of the hub and takes them away again."""
    of_hub = [each for sequence in prepared.sequences for each in sequence.checkpoints if each.repo]
    keep = prepared.options.keep_checkpoints
    return CheckpointCache(
        run_name(store.path),
        sorted({each.repo for each in of_hub if each.repo}),
        # As many as may lie on the disk: nothing has to go, and the next run on them fetches nothing.
        0 if len({(each.repo, each.commit) for each in of_hub}) <= keep else keep,
        offline=prepared.options.offline,
        on_fetch=lambda each: listener.note(f"fetching {each.label}, {sized(each.n_bytes)}"),
    )


def _units(context: str, plan: SequencePlan, mine: set[tuple[str, str]]) -> dict[str, Unit]:
    return {key: unit for key, unit in plan.units.items() if (context, key) in mine}


def _skipped(prepared: Prepared) -> list[dict[str, Any]]:
    """Return the items left out: bad ones, and those that a probe cannot measure."""
    bad = [{**row, "probe": None} for row in prepared.items.skipped.iter_rows(named=True)]
    places = prepared.items.table.select("item_id", file="source_file", line="source_line")
    unfit = prepared.unfit.join(places, on="item_id", maintain_order="left")
    return [*bad, *({**row, "column": None} for row in unfit.iter_rows(named=True))]
