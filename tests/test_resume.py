"""Runs that are killed, interrupted, shared between processes, and that go on.

Whatever happens in between, the tables are those of a run that nothing happened to, byte for byte.
"""

import random
import signal
import time
from pathlib import Path

import pytest

PAUSE_S = 0.03


@pytest.fixture
def ask(tiny) -> tuple[str, ...]:
    return ("run", "quickstart", *tiny.ask, "-o", "run")


def wait_for_units(run: Path, n: int, process) -> None:
    """Wait until a run has so many units, or has ended."""
    while process.is_alive() and len(list(run.glob("units/*.parquet"))) < n:
        time.sleep(0.002)


def kill_and_resume(seed: int, ask, forked, tmp_path, in_one_go, tables_of, units_of) -> None:
    """Kill a run after a random number of units and a random while, then run it to its end."""
    tables, n_units = in_one_go
    rng = random.Random(seed)
    run = tmp_path / "run"
    victim = forked(*ask, pause_s=PAUSE_S)
    wait_for_units(run, rng.randint(0, n_units), victim.process)
    time.sleep(rng.uniform(0, 3 * PAUSE_S))
    victim.send(signal.SIGKILL)
    assert victim.answer().code == -signal.SIGKILL
    survived = units_of(run)
    resumed = forked(*ask, pause_s=0).answer()
    assert resumed.code == 0, resumed.err
    after = units_of(run)
    assert {name: after[name] for name in survived} == survived
    assert len(after) == n_units
    assert tables_of(run) == tables
    assert not list(run.rglob("*.claim"))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_tables(
    seed, ask, forked, tmp_path, in_one_go, tables_of, units_of
):
    kill_and_resume(seed, ask, forked, tmp_path, in_one_go, tables_of, units_of)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_a_run_killed_at_ten_more_random_moments_resumes_to_the_same_tables(
    seed, ask, forked, tmp_path, in_one_go, tables_of, units_of
):
    kill_and_resume(seed, ask, forked, tmp_path, in_one_go, tables_of, units_of)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_run_with_its_units_kept_and_the_same_command_goes_on(
    number, code, word, ask, forked, tmp_path, in_one_go, tables_of, units_of
):
    tables, n_units = in_one_go
    run = tmp_path / "run"
    stopped = forked(*ask, pause_s=PAUSE_S)
    wait_for_units(run, 4, stopped.process)
    stopped.send(number)
    answer = stopped.answer()
    assert answer.code == code, answer.err
    assert f"{word}: finished work is kept, the same command goes on from here" in answer.err
    assert "Traceback" not in answer.err
    kept = units_of(run)
    assert 4 <= len(kept) < n_units
    # Claims, the lock and half-written files are gone: nothing has to be waited for.
    assert not [file.name for file in run.rglob("*") if file.suffix in (".claim", ".lock", ".tmp")]
    resumed = forked(*ask, pause_s=0).answer()
    assert resumed.code == 0, resumed.err
    assert kept.items() <= units_of(run).items()
    assert tables_of(run) == tables


def test_two_runs_at_once_share_the_work_and_end_with_the_same_tables(
    ask, forked, tmp_path, in_one_go, tables_of, units_of
):
    tables, n_units = in_one_go
    both = [forked(*ask, pause_s=PAUSE_S) for _ in range(2)]
    answers = [each.answer() for each in both]
    assert [answer.code for answer in answers] == [0, 0], [answer.err for answer in answers]
    assert answers[0].out == answers[1].out
    assert len(units_of(tmp_path / "run")) == n_units
    assert tables_of(tmp_path / "run") == tables


def test_a_run_joined_halfway_ends_with_the_same_tables(ask, forked, tmp_path, in_one_go, tables_of):
    first = forked(*ask, pause_s=PAUSE_S)
    wait_for_units(tmp_path / "run", 5, first.process)
    second = forked(*ask, pause_s=0)
    assert [first.answer().code, second.answer().code] == [0, 0], first.err + second.err
    assert tables_of(tmp_path / "run") == in_one_go[0]
