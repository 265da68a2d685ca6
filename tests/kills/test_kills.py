"""A hundred SIGKILLs: while scoring, while tables are written, and among three processes on one run.

After each of them the same command goes on by itself, ends with the files of a run that nothing happened
to, byte for byte, leaves nothing behind, and never waits long for a process that is gone.
"""

import random
import signal
import time
from pathlib import Path

import pytest

KILLS = {"start": 10, "scoring": 35, "tables": 25, "three": 30}
CASES = [pytest.param(phase, seed, id=f"{phase}-{seed}") for phase, n in KILLS.items() for seed in range(n)]
LONGEST_WAIT_S = 5.0
PAUSE_S = 0.02

# Small units and slow tables, so that every moment has room for a signal; and each wait, as a line: how long
# this process has been waiting since it last scored a unit or wrote a file.
_SLOWED = """
import os, time
import memprobe.scoring.batch as batch, memprobe.scoring.engine as engine
import memprobe.tables.store as store
batch.UNIT_TOKENS_MIN, batch.UNITS_AIM = 256, 64
sleep, waited = time.sleep, [0.0]
score_unit, write = engine.score_unit, store.RunStore._write
def counted(seconds):
    started = time.monotonic()
    sleep(seconds)
    waited[0] += time.monotonic() - started
    handle = os.open({waits!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{{waited[0]:.3f}}\\n".encode())
    os.close(handle)
def scored(*args, **kwargs):
    sleep({pause_s})
    waited[0] = 0.0
    return score_unit(*args, **kwargs)
def written(self, *args, **kwargs):
    sleep({pause_s} / 2)
    waited[0] = 0.0
    return write(self, *args, **kwargs)
time.sleep, engine.score_unit, store.RunStore._write = counted, scored, written
"""


@pytest.fixture(scope="module")
def figures():
    """What was measured, for the last test to tell."""
    return {"kills": 0, "equal": 0, "waits_s": [0.0], "resumes_s": []}


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The files of a run that nothing happens to, in the small units of `_SLOWED`."""
    import memprobe
    from memprobe.scoring import batch

    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "UNIT_TOKENS_MIN", 256)
        patch.setattr(batch, "UNITS_AIM", 64)
        memprobe.run("quickstart", model=tiny.model, data=tiny.items, threads=1, out=out)
    return results(out), {file.name for file in (out / "units").iterdir()}


def results(run: Path) -> dict[str, bytes]:
    """Return every file that holds numbers, by its name, as bytes."""
    files = [run / "summary.parquet", run / "summary.csv", *sorted((run / "tables").glob("*.parquet"))]
    return {file.name: file.read_bytes() for file in files}


def leftovers(run: Path) -> list[str]:
    kept = (".parquet", ".json", ".jsonl", ".toml", ".csv")
    files = [file for file in run.rglob("*") if file.is_file()]
    return [file.name for file in files if file.name.startswith(".") or not file.name.endswith(kept)]


def wait_until(reached, process) -> None:
    while process.is_alive() and not reached():
        time.sleep(0.001)


def moment(phase: str, draw: random.Random, run: Path, n_units: int, process) -> None:
    """Wait for a random moment of a phase."""
    if phase == "start":
        time.sleep(draw.uniform(0, 0.5))
    elif phase == "tables":
        wait_until(lambda: len(list(run.glob("units/*.parquet"))) >= n_units, process)
        time.sleep(draw.uniform(0, 8 * PAUSE_S))
    else:
        n = draw.randint(0, n_units - 1)
        wait_until(lambda: len(list(run.glob("units/*.parquet"))) >= n, process)
        time.sleep(draw.uniform(0, 2 * PAUSE_S))


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "seed"), CASES)
def test_a_killed_run_goes_on_to_the_same_files(phase, seed, tiny, forked, whole, figures, tmp_path):
    expected, units = whole
    draw = random.Random(f"{phase}-{seed}")
    run, waits = tmp_path / "run", tmp_path / "waits"
    prelude = _SLOWED.format(waits=str(waits), pause_s=PAUSE_S)
    ask = ("run", "quickstart", *tiny.ask, "-o", "run")
    processes = [forked(*ask, prelude=prelude)]
    if phase == "three":
        processes += [forked("worker", "run", prelude=prelude) for _ in range(2)]
    victim = draw.choice(processes)
    moment(phase, draw, run, len(units), victim.process)
    alive = victim.process.is_alive()
    victim.process.kill()
    assert victim.answer().code == (-signal.SIGKILL if alive else 0)
    figures["kills"] += alive
    survived = {file.name: file.stat().st_mtime_ns for file in run.glob("units/*.parquet")}
    started = time.monotonic()
    # Workers whose run was killed before it wrote down what is asked wait for this one.
    rest = [forked(*ask, prelude=prelude), *(each for each in processes if each is not victim)]
    answers = [each.answer() for each in rest]
    figures["resumes_s"].append(time.monotonic() - started)
    for answer in answers:
        assert answer.code == 0, answer.err
        assert "Traceback" not in answer.err
    after = {file.name: file.stat().st_mtime_ns for file in run.glob("units/*")}
    assert set(after) == units
    assert survived.items() <= after.items()
    assert results(run) == expected
    assert leftovers(run) == []
    longest_s = max(map(float, waits.read_text().split()), default=0.0) if waits.exists() else 0.0
    figures["waits_s"].append(longest_s)
    assert longest_s < LONGEST_WAIT_S
    figures["equal"] += alive


@pytest.mark.slow
def test_there_were_a_hundred_kills_in_time(figures):
    told = (
        f"{figures['kills']} kills, {figures['equal']} equal resumes, longest wait "
        f"{max(figures['waits_s']):.2f} s, longest resume {max(figures['resumes_s'], default=0):.2f} s"
    )
    print(told)
    assert sum(KILLS.values()) == 100
    # A process may end by itself before its moment has come; that is rare.
    assert figures["kills"] == figures["equal"] >= 90, told
