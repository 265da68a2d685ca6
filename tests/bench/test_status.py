"""`memprobe status`: what it counts, whom it sees at work, what it foretells, and how fast it is.

Speed and time left by hand arithmetic; everything else on real run directories, whole, killed and running.
"""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from memprobe.bench.status import speed, status
from memprobe.errors import InvalidRunError
from memprobe.scoring import batch
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore

HEAVY = ("torch", "transformers", "datasets", "scipy.stats", "tokenizers", "safetensors")
# Of processor time, which what else the machine does hardly changes; the command waits for nothing.
LIMIT_S, TRIES = 0.8, 12
# Floating-point rounding of sums of times near 1e9 s: 1e-7 s each.
RTOL = 1e-6


# Speed


def test_speed_is_gaps_over_their_sum_with_pauses_left_out():
    # Gaps 2, 4, 3 s: three units in 9 s.
    assert speed([0.0, 2.0, 6.0, 9.0]) == pytest.approx(3 / 9, rel=RTOL)
    # A night of 50,000 s, over 20 times the median gap of 3 s, is no work: 4 gaps in 12 s.
    assert speed([0.0, 2.0, 6.0, 9.0, 50_009.0, 50_012.0]) == pytest.approx(4 / 12, rel=RTOL)
    # Order of the files says nothing.
    assert speed([9.0, 0.0, 6.0, 2.0]) == speed([0.0, 2.0, 6.0, 9.0])


def test_speed_is_that_of_the_last_units():
    # 1,000 units a minute apart, then 201 a second apart: the last 200 gaps are of one second.
    slow = [60.0 * number for number in range(1000)]
    quick = [slow[-1] + 1.0 + number for number in range(201)]
    assert speed(slow + quick) == pytest.approx(1.0, rel=RTOL)


@pytest.mark.parametrize("times", [[], [5.0], [5.0, 6.0], [5.0, 5.0, 5.0]])
def test_speed_is_unknown_before_the_third_unit_or_without_time(times):
    assert speed(times) is None


# Real run directories


def test_a_finished_run_is_done(finished):
    now = status(finished)
    assert (now.state, now.n_done, now.n_units, now.n_left, now.held) == ("done", 3, 3, 0, ())
    assert [(each.step, each.n_done, each.n_units, each.error) for each in now.checkpoints] == [
        (0, 1, 1, None),
        (10, 1, 1, None),
        (20, 1, 1, None),
    ]


def test_failed_checkpoints_are_named_and_nothing_is_left_of_them(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    (folder / "step10" / "model.safetensors").write_bytes(b"x" * 99)
    done = run(probes=["recall"], model=str(folder), steps=None)
    now = status(done.path)
    assert (now.state, now.n_done, now.n_units, now.n_left) == ("incomplete", 2, 3, 0)
    (error,) = (each.error for each in now.checkpoints if each.error)
    assert "cannot be loaded" in error
    assert "\n" not in error


def test_checkpoints_with_the_same_weights_count_their_units_once(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    shutil.copy(folder / "step10" / "model.safetensors", folder / "step20" / "model.safetensors")
    now = status(run(probes=["recall"], model=str(folder), steps=None).path)
    assert [each.n_done for each in now.checkpoints] == [1, 1, 1]
    assert (now.n_done, now.n_units) == (2, 2)


def test_a_running_and_a_killed_run_are_told_apart(tiny, forked, tmp_path):
    process = forked("run", "quickstart", *tiny.ask, "-o", "run", pause_s=0.1)
    run, deadline = tmp_path / "run", time.monotonic() + 60
    while len(list(run.glob("units/*.parquet"))) < 3 or not list(run.glob("units/*.claim")):
        time.sleep(0.002)
        assert time.monotonic() < deadline
    running = status(run)
    process.send(signal.SIGSTOP)
    (held,) = status(run).held
    process.send(signal.SIGKILL)
    process.answer()
    killed = status(run)
    assert (running.state, killed.state) == ("scoring", "idle")
    assert (held.host, held.pid, held.gone) == (socket.gethostname(), process.process.pid, False)
    assert held.revision in ("step0", "step10", "step20")
    assert 0 <= held.held_s < 60
    assert [each.gone for each in killed.held] == [True]
    assert 3 <= killed.n_done < killed.n_units == killed.n_done + killed.n_left
    assert killed.left_s == pytest.approx(killed.n_left / killed.units_per_s, rel=RTOL)


def test_a_lock_that_is_held_while_no_unit_is_means_measuring(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    RunStore(run).write_manifest(Manifest.from_json(manifest | {"state": "scoring"}))
    assert status(run).state == "idle"
    (run / "tables.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    assert status(run).state == "measuring"


def test_an_incomplete_run_that_somebody_still_scores_is_being_scored(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    RunStore(run).write_manifest(Manifest.from_json(manifest | {"state": "incomplete"}))
    assert status(run).state == "incomplete"
    claim = run / "units" / f"{manifest['checkpoints'][1]['context']}-unit.claim"
    claim.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    now = status(run)
    assert (now.state, now.held[0].revision, now.held[0].held_s) == ("scoring", "step10", None)


def test_units_that_are_gone_are_left_and_a_run_of_an_older_memprobe_has_no_totals(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    next(run.glob("units/*.parquet")).unlink()
    assert (status(run).state, status(run).n_left) == ("done", 1)
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["sequences"][0]["n_units"]
    RunStore(run).write_manifest(Manifest.from_json(manifest))
    now = status(run)
    assert (now.n_done, now.n_units, now.n_left, now.left_s) == (2, None, None, None)


def test_no_run_is_no_status(tmp_path):
    with pytest.raises(InvalidRunError, match="there is no run here"):
        status(tmp_path)


def test_units_in_all_are_those_that_a_run_plans(run, monkeypatch):
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 256)
    done = run(probes=["recall"])
    n_units = len(list(done.path.glob("units/*.parquet")))
    assert n_units > 1
    assert status(done.path).n_units == n_units
    grown = run(probes=["extraction"], settings=["extraction.prefix_tokens=5", "extraction.suffix_tokens=3"])
    assert status(grown.path).n_units == len(list(done.path.glob("units/*.parquet"))) > n_units


# The command


@pytest.fixture(scope="module")
def long_run(finished, tmp_path_factory):
    """A run of 160 checkpoints of 32 units each, 5,000 of which are done."""
    run = tmp_path_factory.mktemp("long") / "run"
    (run / "units").mkdir(parents=True)
    manifest = json.loads((finished / "manifest.json").read_text())
    first = manifest["checkpoints"][0]
    manifest["checkpoints"] = [
        first | {"revision": f"step{1000 * number}", "step": 1000 * number, "context": f"{number:024x}"}
        for number in range(160)
    ]
    manifest["sequences"][0]["n_units"] = 32
    manifest["state"] = "scoring"
    RunStore(run).write_manifest(Manifest.from_json(manifest))
    then = time.time() - 10_000
    for number in range(5000):
        file = run / "units" / f"{number // 32:024x}-{number % 32:024x}.parquet"
        file.touch()
        os.utime(file, (then + number, then + number))
    holder = {"host": "gpu-07", "pid": 4321, "since": time.time() - 75}
    for number in range(5000, 5003):
        (run / "units" / f"{number // 32:024x}-{number % 32:024x}.claim").write_text(json.dumps(holder))
    return run


def test_a_long_run_fits_a_screen(cli, long_run):
    answer = cli("status", long_run)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if str(long_run) not in line) <= 80
    # 5,000 = 156 checkpoints of 32, and 8 of the next; one unit a second, so 120 units take two minutes.
    assert lines[:2] == [
        "scoring: 5,000 of 5,120 units are done",
        "1.0 units a second lately, about 2 min 0 s left at that speed",
    ]
    table = [" ".join(line.split()) for line in lines]
    assert "main step 0 to 155,000 (156) 4,992 of 4,992 done" in table
    assert "main step 156,000 8 of 32 begun" in table
    assert "main step 157,000 to 159,000 (3) 0 of 96 open" in table
    assert sum("gpu-07 4321 step156000 1 min 1" in line for line in table) == 3


def test_json_is_one_document_with_every_checkpoint(cli, long_run):
    document = json.loads(cli("status", long_run, "--json").out)
    assert len(document["checkpoints"]) == 160
    assert (document["n_done"], document["n_units"], document["state"]) == (5000, 5120, "scoring")
    assert document["held"][0]["host"] == "gpu-07"


def told(run):
    """Run `memprobe status` in a new process; returns its processor time in seconds and what it says."""
    code = f"""
import sys
sys.argv = ["memprobe", "status", {str(run)!r}]
from memprobe.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def test_a_long_run_is_told_without_torch(long_run):
    assert told(long_run)[1] == "0 []\n"


@pytest.mark.benchmark
def test_a_long_run_is_told_quickly(long_run):
    assert min(told(long_run)[0] for _ in range(TRIES)) < LIMIT_S


def test_an_unfinished_run_names_what_goes_on(cli, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    next(run.glob("units/*.parquet")).unlink()
    assert f"  memprobe worker {run}" in cli("status", run).out.splitlines()
    assert "1 unit missing" in cli("status", run).out
    assert "worker" not in cli("status", finished).out
