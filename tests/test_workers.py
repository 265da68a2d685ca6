"""Several processes on one run: no unit twice, none lost, and the tables of one process, byte for byte."""

import json
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import memprobe
from memprobe.errors import InputError, InvalidRunError, RunMismatchError
from memprobe.pipeline.shard import Shard
from memprobe.pipeline.worker import question_of, work

PAUSE_S = 0.03

# Each unit that a process has scored, as a line of a log that all of them append to.
_LOGGED = """
import os, memprobe.scoring.engine as engine
unit_of = engine._Sweep._unit
def logged(self, job, unit, model, start):
    unit_of(self, job, unit, model, start)
    handle = os.open("scored.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{os.getpid()} {job.context}-{unit}\\n".encode())
    os.close(handle)
engine._Sweep._unit = logged
"""


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def stage(self, name):
        self.stages.append(name)

    def note(self, text):
        self.notes.append(text)

    def scoring(self, progress):
        pass


def leftovers(run):
    kept = (".parquet", ".json", ".jsonl", ".toml", ".csv")
    return [file.name for file in run.rglob("*") if file.is_file() and not file.name.endswith(kept)]


@pytest.mark.parametrize(
    ("n", "victim", "seed"),
    [
        pytest.param(2, None, 0, id="two"),
        pytest.param(2, 0, 1, id="two-and-the-run-is-killed"),
        pytest.param(4, None, 2, id="four-and-one-is-killed"),
        pytest.param(4, None, 3, id="four-more", marks=pytest.mark.slow),
        pytest.param(4, 0, 4, id="four-and-the-run-is-killed", marks=pytest.mark.slow),
        pytest.param(4, None, 5, id="four-again", marks=pytest.mark.slow),
    ],
)
def test_workers_share_a_run_and_survive_each_other(
    n, victim, seed, tiny, forked, tmp_path, in_one_go, tables_of, units_of
):
    tables, n_units = in_one_go
    rng, run = random.Random(seed), tmp_path / "run"
    ask = ("run", "quickstart", *tiny.ask, "-o", "run")
    # All start together; the workers wait for the run to begin.
    workers = [
        forked("worker", "run", "--threads", 1, pause_s=PAUSE_S, prelude=_LOGGED) for _ in range(n - 1)
    ]
    started = [forked(*ask, pause_s=PAUSE_S, prelude=_LOGGED), *workers]
    killed = n == 4 or victim is not None
    if killed:
        deadline = time.monotonic() + 60
        aim = rng.randint(0, n_units // 2)
        while len(list(run.glob("units/*.parquet"))) < aim or not (run / "manifest.json").exists():
            time.sleep(0.002)
            assert time.monotonic() < deadline
        time.sleep(rng.uniform(0, 3 * PAUSE_S))
        victim = rng.randrange(n) if victim is None else victim
        started[victim].send(signal.SIGKILL)
    answers = [each.answer() for each in started]
    assert [answer.code for answer in answers] == [
        -signal.SIGKILL if killed and number == victim else 0 for number in range(n)
    ], [answer.err for answer in answers]
    dead = {str(started[victim].process.pid)} if killed else set()
    lines = [line.split() for line in (tmp_path / "scored.log").read_text().splitlines()]
    scored = Counter(unit for pid, unit in lines if pid not in dead)
    assert max(scored.values()) == 1
    # What the victim had written is not scored again; a unit that it had not logged may be either.
    assert not {unit for pid, unit in lines if pid in dead} & set(scored)
    assert {f"{unit}.parquet" for _, unit in lines} <= set(units_of(run))
    assert len(units_of(run)) == n_units
    assert tables_of(run) == tables
    assert leftovers(run) == []
    assert json.loads((run / "manifest.json").read_text())["state"] == "done"


# Shards


@pytest.fixture
def emptied(finished, tmp_path):
    """A run of three checkpoints, one unit each, of which all units are gone."""
    run = shutil.copytree(finished, tmp_path / "run")
    for file in run.glob("units/*.parquet"):
        file.unlink()
    return run


def test_shards_score_each_unit_once_and_the_last_one_builds_the_tables(
    emptied, finished, tables_of, units_of
):
    for name in ("summary.parquet", "tables/recall.parquet"):
        (emptied / name).unlink()
    left = []
    for number in (2, 3, 1):
        heard = Heard()
        worked = work(emptied, shard=Shard(number, 3), listener=heard)
        left.append((worked.n_scored, worked.n_left))
        assert ("measure" in heard.stages) == (number == 1)
        assert worked.run.finished == (number == 1)
    assert left == [(1, 2), (1, 1), (1, 0)]
    assert tables_of(emptied) == tables_of(finished)
    assert units_of(emptied).keys() == units_of(finished).keys()


def test_a_worker_without_a_shard_scores_what_the_shards_left(emptied, finished, tables_of):
    assert work(emptied, shard=Shard(1, 3)).n_left == 2
    heard = Heard()
    worked = work(emptied, listener=heard)
    assert (worked.n_scored, worked.n_left) == (2, 0)
    assert tables_of(emptied) == tables_of(finished)
    # Nothing is left, so nothing is read or planned.
    heard = Heard()
    assert work(emptied, listener=heard).n_scored == 0
    assert heard.stages == []


def test_the_manifest_adds_up_what_all_processes_took(emptied):
    before = memprobe.open_run(emptied).manifest["timings"]
    work(emptied, shard=Shard(1, 2))
    between = memprobe.open_run(emptied).manifest["timings"]
    work(emptied, shard=Shard(2, 2))
    after = memprobe.open_run(emptied).manifest["timings"]
    for name in ("score_s", "total_s"):
        assert before[name] < between[name] < after[name], name


def test_more_shards_than_units_leave_some_without_work(emptied):
    worked = work(emptied, shard=Shard(4, 4))
    assert (worked.n_scored, worked.n_left) == (0, 3)


# Failures


def test_a_checkpoint_that_fails_in_one_shard_is_incomplete_in_the_end_and_can_be_mended(
    run, tiny, tmp_path, tables_of, finished
):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    weights = folder / "step10" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    done = run("quickstart", model=str(folder), steps=None)
    for file in done.path.glob("units/*.parquet"):
        file.unlink()
    # step10 is the second checkpoint, so its only unit is the second shard's.
    assert work(done.path, shard=Shard(2, 3)).n_left == 2
    assert [each["revision"] for each in done.failures] == ["step10"]
    assert not done.finished
    work(done.path, shard=Shard(1, 3))
    assert work(done.path, shard=Shard(3, 3)).n_left == 0
    assert done.manifest["state"] == "incomplete"
    assert [each["revision"] for each in done.failures] == ["step10"]
    assert set(done.table("recall")["step"]) == {0, 20}
    weights.write_bytes(whole)
    mended = run("quickstart", model=str(folder), steps=None)
    assert (mended.manifest["state"], mended.failures) == ("done", [])
    assert tables_of(mended.path) == tables_of(finished)


def test_checkpoints_with_the_same_weights_fail_together(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    weights = folder / "step10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copy(weights, folder / "step20" / "model.safetensors")
    done = run(probes=["recall"], model=str(folder), steps=None)
    assert [each["revision"] for each in done.failures] == ["step10", "step20"]
    assert [each["step"] for each in done.failures] == [10, 20]
    assert set(done.table("recall")["step"]) == {0}


# The question that a directory answers


def test_a_run_with_relative_paths_is_found_from_elsewhere(tiny, tmp_path, monkeypatch, tables_of):
    shutil.copytree(tiny.model, tmp_path / "models" / "main")
    shutil.copy(tiny.items, tmp_path / "items.jsonl")
    monkeypatch.chdir(tmp_path)
    memprobe.run("quickstart", model="models/main", data="items.jsonl", threads=1, out="run")
    before = tables_of(tmp_path / "run")
    for file in (tmp_path / "run").glob("units/*.parquet"):
        file.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert work("../run").n_scored == 3
    assert tables_of(tmp_path / "run") == before
    assert list(Path.cwd().iterdir()) == []
    (tmp_path / "models").rename(tmp_path / "moved")
    next((tmp_path / "run").glob("units/*.parquet")).unlink()
    with pytest.raises(InputError, match="the run measures models/main, which is not here") as told:
        work("../run")
    assert str(tmp_path) in told.value.problems[0].fix


def test_items_that_changed_are_refused_with_what_a_worker_can_do(emptied, make, tmp_path, monkeypatch):
    suite = (emptied / "suite.toml").read_text()
    manifest = json.loads((emptied / "manifest.json").read_text())
    other = make.items(tmp_path / "other.jsonl", make.rows(5))
    (emptied / "suite.toml").write_text(suite.replace(manifest["flags"]["data"][0], str(other)))
    with pytest.raises(RunMismatchError, match="items differs") as told:
        work(emptied)
    assert "start the worker where" in told.value.problems[-1].fix
    assert "--fresh" not in str(told.value)


def test_a_worker_takes_dtype_from_the_run_and_a_gpu_of_its_own(finished):
    manifest = memprobe.open_run(finished).about

    def asked(named, **options):
        suite = (finished / "suite.toml").read_text()
        folder.joinpath("suite.toml").write_text(suite.replace('device = "auto"', f'device = "{named}"'))
        return question_of(folder, manifest.changed(dtype="bfloat16"), options).options

    folder = finished.parent / "asked"
    folder.mkdir(exist_ok=True)
    assert asked("cuda:3").device == "auto"
    assert asked("cpu").device == "cpu"
    assert asked("cuda:3", device="cuda:1", threads=None).device == "cuda:1"
    assert asked("auto", threads=7, offline=True).threads == 7
    assert asked("auto").dtype == "bfloat16"


# Directories that are no run, or none yet


def test_a_directory_that_holds_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="this directory is not a run"):
        work(tmp_path, wait_s=0)
    with pytest.raises(InputError, match="this is a file"):
        work(tmp_path / "thesis.tex", wait_s=0)


@pytest.mark.parametrize("made", ["nothing", "empty", "begun"])
def test_a_run_that_has_not_begun_is_waited_for_and_said_once(made, tmp_path, monkeypatch):
    monkeypatch.setattr("memprobe.pipeline.worker._POLL_S", 0.01)
    folder = tmp_path / "run"
    if made != "nothing":
        folder.mkdir()
    if made == "begun":
        (folder / "units").mkdir()
        (folder / "suite.toml").touch()
    heard = Heard()
    with pytest.raises(InvalidRunError, match=r"still no run here after 0\.1 s"):
        work(folder, listener=heard, wait_s=0.1)
    assert heard.notes == [f"waiting up to 0.1 s for a run to begin in {folder}"]


# Stopped processes

# Minutes of waiting in a second.
_IMPATIENT = """
import memprobe.tables.claims as claims
claims.HEARTBEAT_S, claims.SILENT_S, claims._TELL_AFTER_S = 0.2, 1.5, 0.3
"""


@pytest.mark.parametrize("holds", ["a unit", "the lock"])
def test_a_stopped_process_is_named_taken_over_and_writes_nothing_when_it_goes_on(
    holds, tiny, forked, tmp_path, in_one_go, tables_of, units_of
):
    run, ask = tmp_path / "run", ("run", "quickstart", *tiny.ask, "-o", "run")
    slow_tables = """
import memprobe.pipeline.finish as finish, time
write = finish.write_results
def slowly(*args):
    time.sleep(0.5)
    return write(*args)
finish.write_results = slowly
"""
    victim = forked(*ask, pause_s=0.1, prelude=_IMPATIENT + (slow_tables if holds == "the lock" else ""))
    deadline = time.monotonic() + 60
    n_units = in_one_go[1] if holds == "the lock" else 2
    held = "tables.lock" if holds == "the lock" else "units/*.claim"
    while time.monotonic() < deadline:
        if len(units_of(run)) >= n_units and list(run.glob(held)):
            time.sleep(0.2 if holds == "the lock" else 0.0)
            victim.send(signal.SIGSTOP)
            time.sleep(0.05)
            # On a busy machine it may have gone on before the signal came.
            if list(run.glob(held)):
                break
            victim.send(signal.SIGCONT)
        time.sleep(0.005)
    other = forked(*ask, pause_s=0, prelude=_IMPATIENT)
    answer = other.answer()
    assert answer.code == 0, answer.err
    assert f"process {victim.process.pid} on " in answer.err
    assert "(stopped)" in answer.err
    assert tables_of(run) == in_one_go[0]
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*.parquet")}
    victim.send(signal.SIGCONT)
    answer = victim.answer()
    assert answer.code == 0, answer.err
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*.parquet")} == before
    assert tables_of(run) == in_one_go[0]
    assert leftovers(run) == []
