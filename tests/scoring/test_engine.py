"""The pass over checkpoints: failures, memory, resuming, claims, and reading ahead.

Where the model does not matter, a toy scorer gives each token a number made of its id and the step.
"""

import itertools
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
import torch

from memprobe.checkpoints import Checkpoint, resolve
from memprobe.errors import CheckpointError
from memprobe.scoring import engine, model, prefetch, unit
from memprobe.scoring.engine import score
from memprobe.scoring.job import EngineOptions, Job
from memprobe.scoring.load import LoadedModel, LoadOptions, load
from memprobe.scoring.statistics import TokenStatistics
from memprobe.tables.requests import Scheme, Unit
from memprobe.tables.store import RunStore

SCHEMES = (Scheme(top_k=5),)
OPTIONS = EngineOptions(LoadOptions(), batch_tokens=64)


@pytest.fixture
def store(tmp_path) -> RunStore:
    made = RunStore(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def tokenised(id_items):
    return id_items({f"item{n}": [(7 * n + t) % 90 + 3 for t in range(8)] for n in range(12)})


@pytest.fixture
def units(ask) -> dict[str, Unit]:
    """Three units of four items of eight tokens."""
    spans = [pl.concat([ask(f"item{n}", 0, 3, 8) for n in range(4 * k, 4 * k + 4)]) for k in range(3)]
    return {f"unit{k}": Unit(each, SCHEMES) for k, each in enumerate(spans)}


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint("toy", f"step{step}", step, None, None, None, "safetensors", (), 0, None, None)


@pytest.fixture
def jobs(units) -> list[Job]:
    return [Job(checkpoint(step), f"context{step}", units, "toy") for step in (0, 1, 2)]


class Toy:
    """What stands for the models: loads in memory, scores by arithmetic, and fails as told."""

    def __init__(self) -> None:
        self.loads: list[int] = []
        self.batches: list[tuple[int, int]] = []
        self.nan_steps: set[int] = set()
        self.broken_steps: set[int] = set()
        self.room = 10**9
        self.out_of_memory: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    def load(self, which: Checkpoint, options: LoadOptions) -> LoadedModel:
        self.loads.append(which.step)
        if which.step in self.broken_steps:
            raise CheckpointError("the checkpoint cannot be loaded", where=which.label)
        return LoadedModel(model=which, device=torch.device("cpu"))

    def score_batch(self, loaded, batch, schemes):
        step = loaded.model.step
        self.batches.append((step, len(batch)))
        if len(batch) > self.room:
            raise self.out_of_memory
        return [self._statistics(torch.tensor(each.ids[each.score_from :]), step, schemes) for each in batch]

    def _statistics(self, ids, step, schemes) -> TokenStatistics:
        logprob = -(ids.float() + 100 * step)
        logprob = logprob * float("nan") if step in self.nan_steps else logprob
        ints, hit = ids.int(), ids > 9
        rank = torch.where(hit, 0, ints)
        margin = torch.where(hit, 1.0, -1.0)
        return TokenStatistics(logprob, rank, rank, hit, -logprob, margin, dict.fromkeys(schemes, logprob))


@pytest.fixture
def toy(monkeypatch) -> Toy:
    made = Toy()
    monkeypatch.setattr(model, "load", made.load)
    monkeypatch.setattr(unit, "score_batch", made.score_batch)

    def never(seconds: float) -> None:
        raise AssertionError("the engine waits, and nobody else is there")

    monkeypatch.setattr(engine.time, "sleep", never)
    return made


def scored(store: RunStore, job: Job) -> pl.DataFrame:
    return store.read_units(job.context, job.units)


def test_every_unit_of_every_checkpoint_is_scored_with_its_own_model(toy, jobs, tokenised, store) -> None:
    told = []
    report = score(jobs, tokenised, OPTIONS, store, told.append)
    assert report.failures == []
    assert toy.loads == [0, 1, 2]
    for job in jobs:
        frame = scored(store, job)
        assert frame.height == 12
        for row in frame.iter_rows(named=True):
            ids = tokenised.ids[row["item_id"], "text"][3:]
            assert [-value for value in row["logprob_nats"]] == [i + 100 * job.checkpoint.step for i in ids]
    assert (told[-1].units_done, told[-1].n_units, told[-1].items_done) == (9, 9, 36)
    assert [each.checkpoint for each in told] == sorted(each.checkpoint for each in told)
    assert (report.paths, report.batch_tokens) == ({"own"}, 64)
    assert not list(store.units_folder.glob("*.claim"))


def test_a_unit_says_whose_it_is(toy, jobs, tokenised, store) -> None:
    score(jobs[1:2], tokenised, OPTIONS, store)
    about = pl.read_parquet_metadata(store.unit_file("context1", "unit0"))
    wanted = {"context": "context1", "unit": "unit0", "model": "toy", "revision": "step1", "step": "1"}
    assert wanted.items() <= about.items()


@pytest.mark.parametrize("kind", ["nan_steps", "broken_steps"])
def test_a_checkpoint_that_fails_is_recorded_and_the_others_go_on(toy, jobs, tokenised, store, kind) -> None:
    getattr(toy, kind).add(1)
    report = score(jobs, tokenised, OPTIONS, store)
    (failure,) = report.failures
    assert failure.checkpoint.step == 1
    assert ("NaN" in failure.error) == (kind == "nan_steps")
    assert [scored(store, job).height for job in (jobs[0], jobs[2])] == [12, 12]
    assert not store.has_unit("context1", "unit0")
    assert toy.loads == [0, 1, 2]
    assert not list(store.units_folder.glob("*.claim"))


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_out_of_memory_halves_the_batch_for_what_remains_and_changes_no_number(
    toy, jobs, tokenised, store, tmp_path, kind
) -> None:
    if kind == "cpu":
        toy.out_of_memory = RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
    plenty = RunStore(tmp_path / "plenty")
    plenty.create()
    score(jobs, tokenised, OPTIONS, plenty)
    toy.room, toy.batches = 1, []
    report = score(jobs, tokenised, OPTIONS, store)
    # 64, 32 and 16 tokens hold 4, 4 and 2 items of 8; at 8 tokens one item goes at a time, to the end.
    assert report.failures == []
    assert report.batch_tokens == 8
    assert [size for _, size in toy.batches[:3]] == [4, 4, 2]
    assert {size for _, size in toy.batches[3:]} == {1}
    assert len(toy.batches) == 3 + 36
    assert all(scored(store, job).equals(scored(plenty, job)) for job in jobs)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_a_checkpoint_that_holds_not_even_one_item_is_recorded(toy, jobs, tokenised, store, kind) -> None:
    if kind == "cpu":
        toy.out_of_memory = RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
    toy.room = 0
    report = score(jobs, tokenised, OPTIONS, store)
    assert [failure.checkpoint.step for failure in report.failures] == [0, 1, 2]
    assert all("out of memory, even with one item at a time" in failure.error for failure in report.failures)
    assert min(size for _, size in toy.batches) == 1
    assert not list(store.units_folder.glob("*.parquet"))


def test_an_error_that_is_a_bug_is_not_swallowed(toy, jobs, tokenised, store) -> None:
    toy.room, toy.out_of_memory = 0, RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        score(jobs, tokenised, OPTIONS, store)
    assert not list(store.units_folder.glob("*.claim"))


def test_units_that_are_there_are_not_scored_again(toy, jobs, tokenised, store) -> None:
    score(jobs, tokenised, OPTIONS, store)
    before = {file.name: file.stat().st_mtime_ns for file in store.units_folder.iterdir()}
    store.unit_file("context1", "unit2").unlink()
    toy.loads, toy.batches = [], []
    score(jobs, tokenised, OPTIONS, store)
    assert toy.loads == [1]
    assert toy.batches == [(1, 4)]
    after = {file.name: file.stat().st_mtime_ns for file in store.units_folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"context1-unit2.parquet"}
    toy.loads = []
    score(jobs, tokenised, OPTIONS, store)
    assert toy.loads == []


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def claim_of(store: RunStore, job: Job, unit_key: str, pid: int) -> Path:
    file = store.unit_file(job.context, unit_key).with_suffix(".claim")
    file.write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))
    return file


def test_a_claim_of_a_dead_process_is_taken_over(toy, jobs, tokenised, store, dead_pid) -> None:
    file = claim_of(store, jobs[0], "unit1", dead_pid)
    score(jobs[:1], tokenised, OPTIONS, store)
    assert scored(store, jobs[0]).height == 12
    assert not file.exists()


def test_a_unit_that_a_living_process_holds_is_left_to_it(
    toy, jobs, tokenised, store, tmp_path, monkeypatch
) -> None:
    elsewhere = RunStore(tmp_path / "elsewhere")
    elsewhere.create()
    score(jobs[:1], tokenised, OPTIONS, elsewhere)
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file = claim_of(store, jobs[0], "unit1", living.pid)
    waits = []

    def other_process_finishes(seconds: float) -> None:
        waits.append(sorted(each.name for each in store.units_folder.glob("*.parquet")))
        source = elsewhere.unit_file("context0", "unit1")
        store.unit_file("context0", "unit1").write_bytes(source.read_bytes())
        file.unlink()

    monkeypatch.setattr(engine.time, "sleep", other_process_finishes)
    toy.batches = []
    try:
        report = score(jobs[:1], tokenised, OPTIONS, store)
    finally:
        living.communicate(b"\n")
    assert waits == [["context0-unit0.parquet", "context0-unit2.parquet"]]
    assert len(toy.batches) == 2
    assert report.failures == []


def test_a_pass_over_nothing_ends(toy, tokenised, store) -> None:
    assert score([], tokenised, OPTIONS, store).failures == []


def test_a_pass_leaves_neither_inference_mode_nor_flushed_denormals(toy, jobs, tokenised, store) -> None:
    score(jobs, tokenised, OPTIONS, store)
    assert not torch.is_inference_mode_enabled()
    assert (torch.tensor([1e-40]) * 1.0).item() > 0


# Real models: the next checkpoint is read while this one is scored.


@pytest.fixture
def sequence(build_model, tmp_path):
    """Return a maker of sequences of real checkpoints: sequence("gpt_neox", 4)."""

    def make(name: str, n: int) -> tuple[Checkpoint, ...]:
        for salt in range(n):
            build_model(name, salt).save_pretrained(tmp_path / "main" / f"step{salt}")
        return resolve([str(tmp_path / "main")], needs_tokenizer=False)[0].checkpoints

    return make


def jobs_of(checkpoints, units, *, alike: bool) -> list[Job]:
    return [Job(c, f"context{c.step}", units, "one" if alike else str(c.step)) for c in checkpoints]


@pytest.fixture
def loads(monkeypatch) -> list[int]:
    """Steps that were loaded from their folder, in order."""
    seen: list[int] = []

    def spy(which, options):
        seen.append(which.step)
        return load(which, options)

    monkeypatch.setattr(model, "load", spy)
    return seen


@pytest.mark.parametrize("name", ["gpt_neox", "qwen2_tied", "gemma2"])
def test_reading_ahead_gives_the_bits_of_loading_one_by_one(
    name, sequence, units, tokenised, store, tmp_path, loads, monkeypatch
) -> None:
    threads = set()
    original = model.read_weights

    def spy(which):
        threads.add((which.step, threading.current_thread() is threading.main_thread()))
        return original(which)

    monkeypatch.setattr(model, "read_weights", spy)
    monkeypatch.setattr(prefetch, "read_weights", spy)
    checkpoints = sequence(name, 4)
    report = score(jobs_of(checkpoints, units, alike=True), tokenised, OPTIONS, store)
    assert loads == [0]
    assert threads == {(0, True), (1, False), (2, False), (3, False)}
    one_by_one = RunStore(tmp_path / "one_by_one")
    one_by_one.create()
    score(jobs_of(checkpoints, units, alike=False), tokenised, OPTIONS, one_by_one)
    assert loads == [0, 0, 1, 2, 3]
    frames = [scored(store, job) for job in jobs_of(checkpoints, units, alike=True)]
    for frame, job in zip(frames, jobs_of(checkpoints, units, alike=False), strict=True):
        assert frame.equals(scored(one_by_one, job))
    assert all(not a.equals(b) for a, b in itertools.pairwise(frames))
    assert report.paths == {"own" if name == "gemma2" else "fast"}


@pytest.mark.parametrize("damage", ["lacks a tensor", "corrupt", "nan"])
def test_a_bad_checkpoint_inside_a_sequence_never_scores_with_the_weights_before(
    damage, sequence, units, tokenised, store, loads
) -> None:
    import safetensors.torch

    checkpoints = sequence("gpt_neox", 4)
    file = checkpoints[2].folder / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    last = sorted(weights)[-1]
    if damage == "lacks a tensor":
        del weights[last]
    if damage == "nan":
        weights[last][...] = float("nan")
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    if damage == "corrupt":
        file.write_bytes(file.read_bytes()[:-100])
    jobs = jobs_of(checkpoints, units, alike=True)
    report = score(jobs, tokenised, OPTIONS, store)
    assert [failure.checkpoint.step for failure in report.failures] == [2]
    words = {"lacks a tensor": "lack 1 parameter ", "corrupt": "cannot be loaded", "nan": "scores NaN"}
    assert words[damage] in report.failures[0].error
    assert [scored(store, job).height for job in (jobs[0], jobs[1], jobs[3])] == [12, 12, 12]
    assert not list(store.units_folder.glob("context2-*"))
    assert loads == ([0, 3] if damage == "nan" else [0, 2, 3])


def test_another_thread_count_is_taken_over(toy, jobs, tokenised, store) -> None:
    before = torch.get_num_threads()
    try:
        score(jobs[:1], tokenised, EngineOptions(LoadOptions(), 64, threads=2), store)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
