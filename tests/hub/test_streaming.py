"""A run over revisions of the hub: what is fetched, what lies on the disk meanwhile, and what stays."""

import hashlib
import json
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import polars as pl
import pytest

from memprobe.checkpoints import fetch, resolve, weights_digest

# Four of the five that the hub has; each costs a run a tenth of a second.
SWEEP = "org/tiny@step{0,10,20,30}"
ALL = ["step0", "step10", "step20", "step30"]
# Two units at once of a checkpoint need a pause, else one process has done all before the other begins.
PAUSE_S = 0.15


@pytest.fixture
def run(cli, sweep):
    """Return a caller of `memprobe run` on the sweep; a further -m takes the place of its spec."""

    def call(*more: object, model: str = SWEEP):
        return cli("run", "-p", "recall", "-m", model, *sweep.ask, *more)

    return call


@pytest.fixture
def most(hub, sweep) -> list[int]:
    """How many checkpoints lay on the disk, each time that a further one was begun."""
    seen: list[int] = []
    hub.before_file = lambda path: seen.append(len(sweep.here()))
    return seen


def manifest(sweep) -> dict:
    return json.loads((sweep.out / "manifest.json").read_text())


def test_a_run_gives_what_the_same_checkpoints_give_from_folders(
    run, sweep, checkpoints, cli, tmp_path
) -> None:
    assert run().code == 0
    local = cli(
        "run", "-p", "recall", "-m", checkpoints, "--steps", "0..30:10", *sweep.ask[:-1], tmp_path / "l"
    )
    assert local.code == 0, local.err
    here, there = manifest(sweep), json.loads((tmp_path / "l" / "manifest.json").read_text())
    for ours, theirs in zip(here["checkpoints"], there["checkpoints"], strict=True):
        keys = ("step", "weights_digest", "tokenizer_digest", "context", "n_bytes", "n_parameters")
        assert [ours[key] for key in keys] == [theirs[key] for key in keys]
        assert ours["n_parameters"] > 0
    ours, theirs = (
        pl.read_parquet(out / "tables" / "recall.parquet").drop("model")
        for out in (sweep.out, tmp_path / "l")
    )
    assert ours.height == 24 * len(ALL)
    assert ours.equals(theirs)


@pytest.mark.parametrize(("keep", "bound"), [(1, 1), (2, 2), (3, 3)])
def test_no_more_than_the_asked_number_lies_on_the_disk_and_nothing_stays(
    run, sweep, hub, most, keep: int, bound: int
) -> None:
    answer = run("--keep-checkpoints", keep)
    assert answer.code == 0, answer.err
    # Before the download of a further one there is room for it.
    assert max(most) <= bound - 1
    assert max(most) == min(bound - 1, 1)
    assert hub.downloads() == [sweep.commits[step] for step in ALL]
    assert (sweep.here(), sweep.blobs()) == ([], [])


@pytest.mark.parametrize("word", ["all", "0"])
def test_all_may_be_kept(run, sweep, word: str) -> None:
    assert run("--keep-checkpoints", word).code == 0
    assert sweep.here() == ALL
    assert not list(sweep.cache.glob(".memprobe/*.run"))


def test_a_run_over_no_more_than_may_be_kept_removes_none(run, sweep, hub) -> None:
    assert run("--keep-checkpoints", 2, model="org/tiny@step{0,10}").code == 0
    assert sweep.here() == ["step0", "step10"]
    # Another question about the same revisions fetches nothing.
    asked = len(hub.downloads())
    assert run("-o", sweep.out.with_name("other"), "--seed", 1, model="org/tiny@step{0,10}").code == 0
    assert len(hub.downloads()) == asked


def test_how_many_are_kept_is_no_part_of_the_question(run, sweep, units_of, hub) -> None:
    assert run("--keep-checkpoints", "1").code == 0
    units, asked = units_of(sweep.out), len(hub.downloads())
    assert run("--keep-checkpoints", "all").code == 0
    assert units_of(sweep.out) == units
    assert len(hub.downloads()) == asked


def test_what_was_in_the_cache_before_stays_and_is_not_fetched(run, sweep, hub) -> None:
    (sequence,) = resolve(["org/tiny@step20"])
    fetch(sequence.checkpoints[0], offline=False)
    run()
    assert sweep.here() == ["step20"]
    assert hub.downloads().count(sweep.commits["step20"]) == 1


def test_a_blob_that_another_revision_links_to_stays(run, sweep, hub, checkpoints) -> None:
    twin = hub.add_folder("org/tiny", "final", checkpoints / "step30")
    (sequence,) = resolve(["org/tiny@final"], needs_tokenizer=False)
    fetch(sequence.checkpoints[0], offline=False)
    assert run().code == 0
    assert len(sweep.blobs()) == 1
    assert (sweep.cache / "snapshots" / twin / "model.safetensors").is_file()
    assert sweep.here() == []


def test_a_finished_run_fetches_nothing_when_it_is_resumed(run, sweep, hub) -> None:
    run()
    hub.asked.clear()
    answer = run()
    assert answer.code == 0
    assert hub.downloads() == []
    assert [line for line in hub.asked if "/api/models/" in line] == ["GET /api/models/org/tiny/refs"]


def test_a_resumed_run_fetches_only_what_lacks_units(run, sweep, hub) -> None:
    run()
    context = manifest(sweep)["checkpoints"][3]["context"]
    for unit in (sweep.out / "units").glob(f"{context}-*"):
        unit.unlink()
    hub.asked.clear()
    assert run().code == 0
    assert hub.downloads() == [sweep.commits["step30"]]
    assert sweep.here() == []


@pytest.mark.slow
def test_a_killed_run_leaves_two_and_its_successor_takes_them_away(forked, sweep, hub) -> None:
    args = ("run", "-p", "recall", "-m", SWEEP, *sweep.ask)
    slow = sweep.prelude + _SLOW.format(pause_s=0.4)
    process = forked(*args, prelude=slow)
    deadline = time.monotonic() + 30
    while len(sweep.here()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send(signal.SIGKILL)
    process.process.join()
    assert 1 <= len(sweep.here()) <= 2
    answer = forked(*args, prelude=sweep.prelude).answer()
    assert answer.code == 0, answer.err
    assert (sweep.here(), sweep.blobs()) == ([], [])


def test_ctrl_c_does_not_wait_for_a_download(forked, sweep, hub) -> None:
    hub.before_file = lambda path: time.sleep(0 if sweep.commits["step0"] in path else 20)
    process = forked("run", "-p", "recall", "-m", SWEEP, *sweep.ask, prelude=sweep.prelude)
    deadline = time.monotonic() + 30
    while not list(sweep.out.glob("units/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    started = time.monotonic()
    process.send(signal.SIGINT)
    assert process.answer().code == 130
    assert time.monotonic() - started < 5


_SLOW = """
import memprobe.scoring.batch as batch, memprobe.scoring.engine as engine, time
batch.UNIT_TOKENS_MIN, batch.UNITS_AIM = 256, 64
score_unit = engine.score_unit
def slowly(*args, **kwargs):
    time.sleep({pause_s})
    return score_unit(*args, **kwargs)
engine.score_unit = slowly
"""


def test_processes_on_one_run_share_what_they_fetch_and_take_nothing_from_each_other(
    forked, sweep, hub, most
) -> None:
    args = ("run", "-p", "recall", "-m", SWEEP, *sweep.ask)
    processes = [forked(*args, prelude=sweep.prelude + _SLOW.format(pause_s=PAUSE_S)) for _ in range(2)]
    answers = [process.answer() for process in processes]
    assert [answer.code for answer in answers] == [0, 0], answers[0].err + answers[1].err
    assert max(most) <= 2
    assert manifest(sweep)["failures"] == []
    assert (sweep.here(), sweep.blobs()) == ([], [])


@pytest.mark.slow
def test_two_runs_on_one_cache_take_nothing_from_each_other(forked, sweep, tmp_path) -> None:
    started = [
        forked(
            *("run", "-p", probe, "-m", SWEEP, "-d", sweep.items, "--threads", "1", "-o", tmp_path / probe),
            prelude=sweep.prelude + _SLOW.format(pause_s=0.05),
        )
        for probe in ("recall", "extraction")
    ]
    answers = [process.answer() for process in started]
    assert [answer.code for answer in answers] == [0, 0], answers[0].err + answers[1].err
    assert (sweep.here(), sweep.blobs()) == ([], [])


def test_a_revision_that_cannot_be_fetched_is_recorded_and_the_others_go_on(run, sweep, hub) -> None:
    hub.gone.add(f"{sweep.commits['step20']}/model.safetensors")
    answer = run()
    assert answer.code == 4
    assert "1 checkpoint failed: step20: the hub lists this file and does not have it" in answer.err
    (failure,) = manifest(sweep)["failures"]
    assert (failure["revision"], failure["step"]) == ("step20", 20)
    assert len(list((sweep.out / "units").glob("*.parquet"))) == 3
    assert sweep.here() == []
    hub.gone.clear()
    assert run().code == 0


def test_other_bytes_than_the_hub_lists_are_a_failure_and_go(run, sweep, hub, monkeypatch) -> None:
    (bad,) = [c for c in hub.repos["models/org/tiny"].commits if c == sweep.commits["step10"]]
    files = hub.repos["models/org/tiny"].commits[bad]
    true = hashlib.sha256(files["model.safetensors"]).hexdigest()
    (sequence,) = resolve([SWEEP])
    assert sequence.checkpoints[1].weight_sha256 == (true,)
    # What the hub's server sends now, it names by its own digest; the list of before says another.
    note = next((sweep.cache / ".memprobe").glob(f"{bad}.json"))
    note.write_text(note.read_text().replace(true, "0" * 64))
    answer = run()
    assert answer.code == 4
    assert f"model.safetensors has the SHA-256 {true[:12]}..., and the hub lists 0000" in answer.err
    assert sweep.here() == []


def test_a_full_disk_is_told_before_any_work(run, sweep, hub, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    size = len(next(iter(hub.repos["models/org/tiny"].commits.values()))["model.safetensors"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2 * size + 999))
    answer = run()
    assert answer.code == 2
    assert "for 2 of 4 checkpoints to fetch" in answer.err
    assert "kB free" in answer.err
    assert "keep fewer at once with --keep-checkpoints 1" in " ".join(answer.err.split())
    assert not sweep.out.exists()
    assert sweep.here() == []
    assert run("--keep-checkpoints", "1").code == 0


def test_a_dry_run_fetches_no_weights_and_estimates(run, sweep, hub) -> None:
    answer = run("--dry-run", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["totals"]["estimated_s"] is not None
    assert [row["units_left"] for row in told["checkpoints"]] == [1] * 4
    assert hub.downloads() == []
    assert sweep.here() == []


def test_duplicates_are_known_without_their_weights(cli, sweep, hub, checkpoints) -> None:
    hub.add_folder("org/tiny", "step60", checkpoints / "step30", checkpoints)
    hub.asked.clear()
    answer = cli("run", "-p", "recall", "-m", "org/tiny@step{30,60}", *sweep.ask)
    assert answer.code == 0, answer.err
    assert "step30 (step 30) and step60 (step 60) hold the same weights" in answer.err


def test_a_gated_repository_says_what_to_do(run, hub) -> None:
    hub.repos["models/org/tiny"].gated = True
    answer = run()
    assert answer.code == 2
    assert "the hub asks for permission to read the model" in answer.err
    assert "hf auth login" in answer.err


def test_a_ref_that_moves_meanwhile_is_scored_as_it_was(run, sweep, hub, checkpoints) -> None:
    (sequence,) = resolve(["org/tiny@step30"])
    before = sequence.checkpoints[0]
    hub.add_folder("org/tiny", "step30", checkpoints / "step0", checkpoints)
    fetched = fetch(before, offline=False)
    assert fetched.folder.name == sweep.commits["step30"]
    assert weights_digest(fetched) == weights_digest(before)


def test_a_ref_that_moved_between_two_commands_is_another_question(run, sweep, hub, checkpoints) -> None:
    run(model="org/tiny@step30")
    hub.add_folder("org/tiny", "step30", checkpoints / "step0", checkpoints)
    answer = run(model="org/tiny@step30")
    assert answer.code == 2
    assert "checkpoint org/tiny@step30 (step 30) differs" in answer.err


def test_the_digest_is_that_of_the_files_wherever_they_lie(sweep, hub, checkpoints) -> None:
    (listed,) = resolve([SWEEP])
    (local,) = resolve([str(checkpoints)], steps="0..30:10")
    for unfetched, folder in zip(listed.checkpoints, local.checkpoints, strict=True):
        assert unfetched.folder is None
        wanted = weights_digest(folder)
        assert weights_digest(unfetched) == wanted
        assert weights_digest(fetch(unfetched, offline=False)) == wanted


def test_a_network_that_goes_away_leaves_a_resumed_run_what_it_has(run, sweep, hub) -> None:
    assert run("--keep-checkpoints", "all").code == 0
    hub.stop()
    answer = run()
    assert answer.code == 0
    assert "the hub could not be reached: org/tiny was taken from the local cache" in answer.err


def test_the_weights_may_be_gone_when_nothing_is_left_to_score(run, sweep, hub, no_sockets) -> None:
    assert run().code == 0
    assert sweep.here() == []
    no_sockets()
    answer = run("--offline")
    assert answer.code == 0, answer.err
    context = manifest(sweep)["checkpoints"][3]["context"]
    for unit in (sweep.out / "units").glob(f"{context}-*"):
        unit.unlink()
    answer = run("--offline")
    assert answer.code == 5
    assert "org/tiny is not whole in the local cache" in answer.err
    assert "org/tiny@step30" in answer.err


def test_files_of_the_snapshots_do_not_disturb_the_clients_own_look_at_its_cache(run, sweep) -> None:
    from huggingface_hub import scan_cache_dir

    run("--keep-checkpoints", "all")
    seen = scan_cache_dir(Path(sweep.cache).parent)
    assert [str(warning) for warning in seen.warnings] == []
    found = {revision.commit_hash for repo in seen.repos for revision in repo.revisions}
    assert found == {sweep.commits[step] for step in ALL}
