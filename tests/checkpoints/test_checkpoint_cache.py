"""The checkpoint cache: room, marks and locks, on the cache of a hub that is made of dicts."""

import errno
from pathlib import Path

import pytest

from memprobe.checkpoints import (
    CheckpointCache,
    check_supply,
    checkpoint_cache,
    resolve,
    run_name,
    snapshots,
    weights_digest,
)
from memprobe.checkpoints.snapshots import Snapshot
from memprobe.errors import CheckpointError, InputError

STEPS = (0, 10, 20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(checkpoint_cache, "PAUSES_S", (0.0,))


@pytest.fixture
def found(hub, contents):
    """Three checkpoints of org/name, none of them here."""
    for step in STEPS:
        hub.add("org/name", f"step{step}", contents.files(step))
    return resolve(["org/name@step*"])[0].checkpoints


def here(checkpoints) -> list[int]:
    return [
        each.step for each in checkpoints if not Snapshot(each.repo, each.commit).lacks(["model.safetensors"])
    ]


def of_run(run: str = "one", *, keep: int = 2) -> CheckpointCache:
    return CheckpointCache(run, ["org/name"], keep)


def test_there_is_room_for_so_many_and_no_more_until_one_is_put_back(found) -> None:
    mine = of_run()
    assert mine.bring(found[0]).folder is not None
    assert mine.bring(found[1]) is not None
    assert mine.bring(found[2]) is None
    assert here(found) == [0, 10]
    mine.leave(found[0], done=False)
    # Nobody uses the first any more, so it makes room.
    assert mine.bring(found[2]) is not None
    assert here(found) == [10, 20]


def test_another_process_of_the_run_counts_and_shares(found) -> None:
    mine, other = of_run(), of_run()
    mine.bring(found[0])
    other.bring(found[0])
    other.bring(found[1])
    assert mine.bring(found[2]) is None
    mine.leave(found[0], done=True)
    assert here(found) == [0, 10], "the other still uses it"
    other.leave(found[0], done=True)
    assert here(found) == [10]


def test_of_two_runs_that_brought_the_same_the_last_takes_it_away(found) -> None:
    one, two = of_run("one"), of_run("two")
    one.bring(found[0])
    two.bring(found[0])
    two.leave(found[0], done=True)
    assert here(found) == [0]
    one.leave(found[0], done=True)
    assert here(found) == []


def test_a_run_that_left_first_does_not_leave_it_behind(found) -> None:
    one, two = of_run("one"), of_run("two")
    one.bring(found[0])
    two.bring(found[0])
    one.leave(found[0], done=True)
    two.leave(found[0], done=True)
    assert here(found) == []


def test_what_a_run_brought_for_itself_counts_as_not_here(found) -> None:
    of_run().bring(found[0])
    again = resolve(["org/name@step0"])[0].checkpoints[0]
    assert again.folder is None
    assert again.weight_sha256 == found[0].weight_sha256


def test_a_closed_cache_holds_nothing(found) -> None:
    mine = of_run()
    mine.bring(found[0])
    mine.close()
    mine.bring(found[1])
    other = of_run(keep=1)
    assert other.bring(found[2]) is not None
    assert here(found) == [20]


def test_a_cache_without_locks_keeps_everything(found, monkeypatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(snapshots.fcntl, "flock", refuse)
    mine = of_run()
    for each in found:
        assert mine.bring(each) is not None
        mine.leave(each, done=True)
    assert here(found) == [0, 10, 20]


def test_a_cache_that_may_not_be_written_to_is_read(found, monkeypatch) -> None:
    of_run("other").bring(found[0])

    def refuse(file: object, how: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(snapshots, "_locked", refuse)
    assert of_run().bring(found[0]).folder is not None


def test_what_is_fetched_to_stay_stays_though_a_run_began_to_bring_it_meanwhile(found) -> None:
    of_user = CheckpointCache(
        on_fetch=lambda each: Snapshot(each.repo, each.commit).mark("one", ["model.safetensors"])
    )
    of_user.bring(found[0])
    of_user.leave(found[0], done=True)
    of_run("one").leave(found[0], done=True)
    assert here(found) == [0]
    assert resolve(["org/name@step0"])[0].checkpoints[0].folder is not None


def test_weights_that_the_hub_does_not_hash_are_brought_with_the_small_files(hub, monkeypatch) -> None:
    hub.add("org/small", "main")
    listing = hub.list_repo_tree

    def without_lfs(*args, **options):
        entries = listing(*args, **options)
        for entry in entries:
            entry.lfs = None
        return entries

    monkeypatch.setattr(hub, "list_repo_tree", without_lfs)
    (checkpoint,) = resolve(["org/small"])[0].checkpoints
    assert here([checkpoint]) == [None]
    assert weights_digest(checkpoint) == weights_digest(CheckpointCache().bring(checkpoint))


def test_only_what_was_missing_is_taken_away(hub, contents) -> None:
    shards = {f"model-{n}.safetensors": contents.safetensors(n) for n in (1, 2)}
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    files = contents.files() | shards | {"model.safetensors.index.json": index}
    del files["model.safetensors"]
    hub.add("org/name", "main", files)
    partly = {name: files[name] for name in files if name != "model-2.safetensors"}
    folder = hub.cached("org/name", "main", partly)
    (checkpoint,) = resolve(["org/name"])[0].checkpoints
    mine = of_run()
    assert mine.bring(checkpoint).folder == folder
    mine.leave(checkpoint, done=True)
    assert (folder / "model-1.safetensors").is_file()
    assert not (folder / "model-2.safetensors").exists()


def test_a_hub_that_does_not_answer_is_asked_again_once(found, hub) -> None:
    hub.error = ConnectionError("reset")
    mine, asked = of_run(), len(hub.calls)
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        mine.bring(found[0])
    assert len(hub.calls) == asked + 2
    # It is down: the next are not waited for.
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        mine.bring(found[1])
    assert len(hub.calls) == asked + 3
    hub.error = None
    assert mine.bring(found[0]) is not None


@pytest.mark.parametrize(
    ("keep", "n_counted"),
    [(1, 1), (2, 2), (5, 3), (0, 3)],
)
def test_the_disk_must_hold_the_largest_that_are_there_at_once(found, monkeypatch, keep, n_counted) -> None:
    size = found[0].n_bytes
    need = n_counted * size + checkpoint_cache.SPARE_BYTES
    told = []

    def usage(place):
        told.append(place)
        return type("Usage", (), {"free": free})

    monkeypatch.setattr(checkpoint_cache.shutil, "disk_usage", usage)
    free = need
    check_supply(found, keep=keep, offline=False)
    free = need - 1
    with pytest.raises(InputError, match=f"for {n_counted} of 3 checkpoints to fetch"):
        check_supply(found, keep=keep, offline=False)
    assert all(place.exists() for place in told)


def test_what_is_here_needs_no_room(found, monkeypatch) -> None:
    for each in found:
        CheckpointCache().bring(each)
    monkeypatch.setattr(
        checkpoint_cache.shutil, "disk_usage", lambda _: pytest.fail("the disk was looked at")
    )
    check_supply(found, keep=2, offline=True)


def test_a_run_has_one_name_wherever_it_is_called_from(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_name(Path("reports/../x")) == run_name(tmp_path / "x")
    assert run_name(Path("x")) != run_name(Path("y"))
