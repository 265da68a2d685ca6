"""Join a run directory as a further process: take its question, score units, and perhaps end the run."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from memprobe.bench.status import status
from memprobe.errors import InputError, InvalidRunError, LostClaimError, Problem, RunMismatchError
from memprobe.pipeline.finish import missing_units
from memprobe.pipeline.listener import Listener, NullListener
from memprobe.pipeline.prepare import Prepared, prepare
from memprobe.pipeline.question import Question, ask
from memprobe.pipeline.reading import Run
from memprobe.pipeline.score import complete
from memprobe.pipeline.shard import WHOLE, Shard
from memprobe.pipeline.suite import load_suite
from memprobe.pipeline.supply import check_supplies
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore
from memprobe.wording import counted

# In a job array all tasks start together; the others wait while the task with the question plans it.
WAIT_S = 600.0
_POLL_S = 0.5
# What a run directory may hold before its manifest is written.
_BEGUN = {"units", "tables", "tables.lock", "suite.toml", "skipped.jsonl"}


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """Result of one worker.

    Attributes:
        run: The run.
        n_scored: Number of units that the worker scored.
        n_left: Number of units of other shards that are neither there nor failed.
    """

    run: Run
    n_scored: int
    n_left: int


def work(
    path: str | Path,
    *,
    shard: Shard = WHOLE,
    listener: Listener | None = None,
    wait_s: float = WAIT_S,
    **options: object,
) -> WorkerResult:
    """Score units of a run that no process holds; the process that ends the last one builds the tables.

    Args:
        path: The run directory. If there is no run in it yet, the worker waits for one.
        shard: The share of the units that this process scores.
        listener: Receives the progress.
        wait_s: How long to wait for a run, in seconds.
        options: `device`, `threads`, `offline`, `trust_remote_code`, `allow_pickle`; None: as in the run's
            question, where a named GPU counts as `auto`.

    Raises:
        InputError: The directory is not a run's, or models or items of the run are missing or differ here.
        InvalidRunError: No run began in time.
        SafetyError: Something unsafe, or the network under `offline`, was needed.
    """
    started, listener = time.perf_counter(), listener or NullListener()
    manifest = _wait(Path(path), listener, wait_s)
    now = status(path)
    if now.state == "done" and now.n_left == 0:
        return WorkerResult(Run(Path(path)), 0, 0)
    question = question_of(Path(path), manifest, options)
    store = RunStore(question.out, private=question.options.include_text)
    try:
        ended = complete(_join(question, store, listener), store, listener, started=started, shard=shard)
    finally:
        store.release()
    return WorkerResult(Run(question.out), ended.n_scored, ended.n_left)


def _wait(folder: Path, listener: Listener, wait_s: float) -> Manifest:
    """Wait for the manifest and return it."""
    store, announced, deadline = RunStore(folder), False, time.monotonic() + wait_s
    while True:
        _refuse_other(folder)
        if (manifest := store.read_manifest()) is not None:
            return manifest
        if time.monotonic() >= deadline:
            raise InvalidRunError(
                f"there is still no run here after {wait_s:g} s: manifest.json is missing",
                where=str(folder),
                fix=f"start it with `memprobe run ... -o {folder}`",
            )
        if not announced:
            listener.note(f"waiting up to {wait_s:g} s for a run to begin in {folder}")
            announced = True
        time.sleep(_POLL_S)


def _refuse_other(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, not a run directory", where=str(folder))
    if folder.is_dir() and not RunStore(folder).manifest_file.exists():
        names = {each.name for each in folder.iterdir() if not each.name.startswith(".")}
        # The manifest may have been written while the folder was read.
        if names - _BEGUN - {"manifest.json"} and "manifest.json" not in names:
            raise InputError(
                "this directory is not a run: it has other files and no manifest.json",
                where=str(folder),
                fix="name the directory that `memprobe run` printed",
            )


def question_of(folder: Path, manifest: Manifest, options: dict[str, object]) -> Question:
    """Return the question of a run directory, for this process.

    Relative paths start from the directory in which the run was started.

    Raises:
        InputError: Models or items of the run are not found on this machine.
    """
    suite = load_suite(folder / "suite.toml")
    asked, started_in = dict(suite.run), Path(manifest.cwd)
    problems = []
    for name in ("model", "data"):
        specs = [_from(started_in, spec) for spec in asked[name]]
        remote = name == "model" and any(each.commit for each in manifest.checkpoints)
        lost = [spec for spec in specs if not (remote or spec.startswith("hf:") or Path(spec).exists())]
        fix = f"the run was started in {started_in}: start the worker where that is the same"
        problems += [
            Problem(f"the run measures {spec}, which is not here", str(folder), fix) for spec in lost
        ]
        asked[name] = tuple(specs)
    if problems:
        raise InputError(problems)
    for name in ("tokenizer", "control"):
        if asked.get(name):
            asked[name] = _from(started_in, asked[name])
    # The run's question decides whether a GPU is used, each machine decides which one.
    asked["device"] = "auto" if asked["device"].startswith("cuda") else asked["device"]
    # The dtype is the one that the first process resolved: a number must not depend on who scored it.
    asked["dtype"] = manifest.dtype
    given = {name: value for name, value in options.items() if value is not None}
    return ask(replace(suite, run={}), out=folder, options=asked | given)


def _from(start: Path, spec: str) -> str:
    """Return a path that exists relative to a directory, joined to it; anything else unchanged."""
    return str(start / spec) if start.is_absolute() and (start / spec).exists() else spec


def _join(question: Question, store: RunStore, listener: Listener) -> Prepared:
    """Prepare the question, and mark the run in the manifest as continued."""
    try:
        prepared = prepare(question, listener)
    except RunMismatchError as error:
        # The last problem advises what a new run could do, which is replaced by advice for workers.
        what = "the models or items of the run have changed, or differ on this machine"
        fix = "start the worker where the models and items are unchanged"
        raise RunMismatchError([*error.problems[:-1], Problem(what, str(store.path), fix)]) from error
    check_supplies(prepared, store)
    store.create()
    while True:
        with suppress(LostClaimError), store.lock(waiting=listener.note):
            _go_on(prepared, store, listener)
            return prepared


def _go_on(prepared: Prepared, store: RunStore, listener: Listener) -> None:
    """Set the state of a run back to scoring if units are missing."""
    now, left = store.read_manifest(), missing_units(prepared.plans, store)
    if now is not None and now.state != "scoring" and left:
        listener.note(f"{counted(len(left), 'unit')} to be scored: the run goes on")
        store.write_manifest(now.changed(state="scoring"))
