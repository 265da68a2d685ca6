"""The run directory: nothing half-written, claims held by one, a lock that waits, private files."""

import json
import multiprocessing
import os
import random
import signal
import socket
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import InputError, InvalidRunError
from memprobe.tables import store as module
from memprobe.tables.store import RunStore, hold

FRAME = pl.DataFrame({"x": [1, 2, 3]})
# Long enough for a thread on a busy machine, short enough for a test.
PATIENCE_S = 5.0


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    store.create()
    return store


@pytest.fixture
def unit(spans_of) -> pl.DataFrame:
    key = {"item_id": "a", "part": "text", "start": 0, "score_from": 0, "stop": 3, "detail": "sums"}
    return spans_of(key | {"n_scored": 2, "logprob_sum_nats": -1.5, "n_hits": 1})


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


class Breaks:
    """A frame whose writing fails after the first bytes."""

    def write_parquet(self, file, **_) -> None:
        file.write(b"PAR1 half of a ta")
        raise OSError("no space left on device")

    write_csv = write_parquet


# Atomic writes


def test_a_write_that_breaks_leaves_the_old_file_and_nothing_else(store) -> None:
    store.write_table("recall", FRAME)
    with pytest.raises(OSError, match="no space left"):
        store.write_table("recall", Breaks())
    assert names(store.path) == ["tables/recall.parquet"]
    assert_frame_equal(store.read_table("recall"), FRAME)


@pytest.mark.parametrize("write", ["table", "summary", "csv", "text"])
def test_a_first_write_that_breaks_leaves_no_file(store, write, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    calls = {
        "table": lambda: store.write_table("recall", FRAME),
        "summary": lambda: store.write_table("summary", FRAME),
        "csv": lambda: store.write_csv("summary.csv", FRAME),
        "text": lambda: store.write_text("suite.toml", "[suite]\n"),
    }
    with pytest.raises(OSError, match="no space left"):
        calls[write]()
    assert names(store.path) == []


def test_bytes_are_on_disk_before_the_name_appears(store, monkeypatch) -> None:
    seen = []

    def look(handle: int) -> None:
        seen.append((os.fstat(handle).st_size, (store.path / "a.txt").exists()))

    monkeypatch.setattr(module.os, "fsync", look)
    store.write_text("a.txt", "hello")
    assert seen == [(5, False)]
    assert (store.path / "a.txt").read_text() == "hello"


def test_a_breaking_unit_is_no_unit(store, unit, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(module.os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            store.write_unit("c", "u", unit, {})
    assert not store.has_unit("c", "u")
    store.write_unit("c", "u", unit, {})
    assert store.has_unit("c", "u")
    assert names(store.units_folder) == ["c-u.parquet"]


def test_a_private_run_is_readable_by_its_owner_alone(tmp_path, unit) -> None:
    store = RunStore(tmp_path / "run", private=True)
    store.create()
    store.write_text("suite.toml", "x")
    store.write_json("manifest.json", {"format": 1})
    store.write_lines("errors.jsonl", [{"error": "e"}])
    store.write_table("recall", FRAME)
    store.write_csv("summary.csv", FRAME)
    store.write_unit("c", "u", unit, {})
    modes = {name: stat.S_IMODE((store.path / name).stat().st_mode) for name in names(store.path)}
    assert len(modes) == 6
    assert set(modes.values()) == {0o600}, modes


def test_a_run_without_text_may_be_read_by_others(store) -> None:
    previous = os.umask(0o022)
    try:
        store.write_text("suite.toml", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((store.path / "suite.toml").stat().st_mode) == 0o644


# Manifest, tables, units


def test_there_is_no_manifest_before_one_is_written(store) -> None:
    assert store.read_manifest() is None
    store.write_json("manifest.json", {"format": 1, "name": "Ä"})
    assert store.read_manifest() == {"format": 1, "name": "Ä"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2}', "the manifest has format 2, this memprobe reads 1"),
        ("{}", "the manifest has format None, this memprobe reads 1"),
        ("[1]", "the manifest has format none, this memprobe reads 1"),
        ('{"format": 1', "the manifest is not JSON"),
    ],
)
def test_a_manifest_of_another_format_is_refused(store, text, message) -> None:
    store.write_text("manifest.json", text)
    with pytest.raises(InvalidRunError, match=message) as caught:
        store.read_manifest()
    assert caught.value.problems[0].where == str(store.manifest_file)
    assert "--fresh" in caught.value.problems[0].fix


def test_json_holds_no_nan(store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json("manifest.json", {"x": float("nan")})
    assert names(store.path) == []


def test_no_lines_remove_the_file(store) -> None:
    store.write_lines("errors.jsonl", [{"a": 1}, {"a": "ö"}])
    assert (store.path / "errors.jsonl").read_text(encoding="utf-8") == '{"a": 1}\n{"a": "ö"}\n'
    store.write_lines("errors.jsonl", [])
    store.write_lines("errors.jsonl", [])
    assert names(store.path) == []


def test_the_summary_lies_beside_the_tables(store) -> None:
    store.write_table("recall", FRAME)
    store.write_table("summary", FRAME.head(1))
    assert names(store.path) == ["summary.parquet", "tables/recall.parquet"]
    assert store.table_names() == ["summary", "recall"]
    assert store.read_table("summary").height == 1


def test_a_table_that_is_not_there_lists_those_that_are(store) -> None:
    with pytest.raises(InvalidRunError, match="the run has no table `recal`") as caught:
        store.read_table("recal")
    assert caught.value.problems[0].fix == "tables are: none yet"
    store.write_table("recall", FRAME)
    with pytest.raises(InvalidRunError) as caught:
        store.read_table("recal")
    assert caught.value.problems[0].fix == "tables are: recall"


def test_units_come_in_the_order_asked_and_carry_what_they_are_about(store, unit) -> None:
    other = unit.with_columns(item_id=pl.lit("b"))
    store.write_unit("c", "u1", unit, {"device": "cpu"})
    store.write_unit("c", "u2", other, {})
    assert store.read_units("c", ["u2", "u1"])["item_id"].to_list() == ["b", "a"]
    assert store.read_units("c", []).columns == unit.columns
    assert pl.read_parquet_metadata(store.unit_file("c", "u1"))["device"] == "cpu"


def test_missing_units_are_counted_and_one_is_named(store, unit) -> None:
    store.write_unit("c", "u1", unit, {})
    with pytest.raises(InvalidRunError, match="2 of 3 units are missing") as caught:
        store.read_units("c", ["u1", "u2", "u3"])
    assert caught.value.problems[0].where.endswith("c-u2.parquet")


def test_units_of_another_context_are_not_taken(store, unit) -> None:
    store.write_unit("c", "u", unit, {})
    assert not store.has_unit("d", "u")
    with pytest.raises(InvalidRunError, match="1 of 1 units are missing"):
        store.read_units("d", ["u"])


# --fresh


def test_fresh_removes_what_a_run_wrote_and_nothing_else(store, unit) -> None:
    store.write_json("manifest.json", {"format": 1})
    for name in ("suite.toml", "summary.csv", "skipped.jsonl", "errors.jsonl", "gate.json", "report.html"):
        store.write_text(name, "x")
    store.write_table("summary", FRAME)
    store.write_table("recall", FRAME)
    store.write_unit("c", "u", unit, {})
    (store.path / "notes.txt").write_text("mine")
    (store.path / "lab").mkdir()
    (store.path / "lab" / "items.jsonl").write_text("{}")
    store.empty()
    assert names(store.path) == ["lab/items.jsonl", "notes.txt"]


def test_fresh_takes_a_manifest_that_cannot_be_read(store) -> None:
    store.write_text("manifest.json", "{")
    store.empty()
    assert names(store.path) == []


def test_fresh_refuses_a_directory_that_is_not_a_run(tmp_path) -> None:
    folder = tmp_path / "thesis"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "mine.parquet").write_text("precious")
    with pytest.raises(InputError, match=r"holds no manifest\.json") as caught:
        RunStore(folder).empty()
    assert caught.value.problems[0].where == str(folder)
    assert names(folder) == ["tables/mine.parquet"]


def test_fresh_on_nothing_does_nothing(tmp_path) -> None:
    RunStore(tmp_path / "absent").empty()
    assert not (tmp_path / "absent").exists()
    (tmp_path / "bare").mkdir()
    RunStore(tmp_path / "bare").empty()
    assert (tmp_path / "bare").is_dir()


# Claims


def test_a_claim_is_held_by_one_at_a_time(store) -> None:
    claim = store.unit_file("c", "u").with_suffix(".claim")
    with store.claim("c", "u") as first:
        holder = json.loads(claim.read_text())
        assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())
        with store.claim("c", "u") as second, store.claim("c", "other") as elsewhere:
            assert (first, second, elsewhere) == (True, False, True)
        assert claim.exists()
    assert names(store.path) == []
    with store.claim("c", "u") as again:
        assert again


def test_a_claim_is_given_back_when_the_work_breaks(store) -> None:
    with pytest.raises(RuntimeError, match="boom"), store.claim("c", "u"):
        raise RuntimeError("boom")
    assert names(store.path) == []


def dead_pid() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def write_claim(file: Path, *, silent_s: float = 0.0, text: str | None = None, **holder: object) -> None:
    file.write_text(json.dumps(holder) if text is None else text)
    then = time.time() - silent_s
    os.utime(file, (then, then))


@pytest.mark.parametrize(
    ("silent_s", "host", "pid", "free"),
    [
        pytest.param(0, "here", "dead", True, id="process-gone"),
        pytest.param(3600, "here", "alive", False, id="silent-but-alive-here"),
        pytest.param(50, "elsewhere", "dead", False, id="other-host-silent-50-s"),
        pytest.param(70, "elsewhere", "alive", True, id="other-host-silent-70-s"),
    ],
)
def test_a_claim_is_taken_over_only_from_who_is_gone(tmp_path, silent_s, host, pid, free) -> None:
    file = tmp_path / "u.claim"
    write_claim(
        file,
        silent_s=silent_s,
        host=socket.gethostname() if host == "here" else "some-other-host",
        pid=dead_pid() if pid == "dead" else os.getpid(),
    )
    with hold(file) as held:
        assert held == free
        if held:
            assert json.loads(file.read_text())["pid"] == os.getpid()
    assert names(tmp_path) == ([] if free else ["u.claim"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 3}'])
def test_a_claim_that_cannot_be_read_is_taken_over_when_it_is_old(tmp_path, text) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, text=text, silent_s=50)
    with hold(file) as held:
        assert not held
    write_claim(file, text=text, silent_s=70)
    with hold(file) as held:
        assert held


def test_the_heartbeat_keeps_a_claim_young(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    file = tmp_path / "u.claim"
    with hold(file) as held:
        assert held
        os.utime(file, (0, 0))
        deadline = time.monotonic() + PATIENCE_S
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - file.stat().st_mtime < PATIENCE_S


def test_the_heart_beats_well_within_the_time_after_which_a_holder_counts_as_gone() -> None:
    assert module.SILENT_S == 60
    assert module.HEARTBEAT_S <= module.SILENT_S / 5


def test_of_many_that_take_over_a_dead_claim_one_wins_at_a_time(tmp_path) -> None:
    file, pid = tmp_path / "u.claim", dead_pid()
    inside, most, won = 0, 0, 0
    counting, start = threading.Lock(), threading.Barrier(8)

    def contend() -> None:
        nonlocal inside, most, won
        start.wait()
        with hold(file) as held:
            if not held:
                return
            with counting:
                inside, won = inside + 1, won + 1
                most = max(most, inside)
            time.sleep(0.05)
            with counting:
                inside -= 1

    write_claim(file, host=socket.gethostname(), pid=pid)
    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, won >= 1) == (1, True)
    assert names(tmp_path) == []


def test_a_claim_renewed_between_look_and_takeover_is_left_alone(tmp_path, monkeypatch) -> None:
    file, create = tmp_path / "u.claim", module._create
    write_claim(file, host=socket.gethostname(), pid=dead_pid())

    def somebody_is_faster(path: Path) -> bool:
        if path != file:
            write_claim(file, host=socket.gethostname(), pid=os.getppid())
        return create(path)

    monkeypatch.setattr(module, "_create", somebody_is_faster)
    with hold(file) as held:
        assert not held
    assert json.loads(file.read_text())["pid"] == os.getppid()
    assert names(tmp_path) == ["u.claim"]


def test_a_guard_left_by_a_killed_process_costs_one_attempt(tmp_path) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, host=socket.gethostname(), pid=dead_pid())
    write_claim(tmp_path / "u.claim.taken-over", host=socket.gethostname(), pid=dead_pid())
    with hold(file) as held:
        assert not held
    with hold(file) as held:
        assert held
    assert names(tmp_path) == []


# The lock


def test_the_lock_waits_for_who_holds_it(store) -> None:
    order, taken = [], threading.Event()

    def first() -> None:
        with store.lock():
            taken.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert taken.wait(PATIENCE_S)
    with store.lock():
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert names(store.path) == []


def test_the_lock_gives_up_with_its_name_and_the_time(store) -> None:
    with (
        store.lock(),
        pytest.raises(InvalidRunError, match=r"the run was locked for 0\.1 s") as caught,
        store.lock(wait_s=0.1),
    ):
        pytest.fail("two hold the lock")
    assert caught.value.problems[0].where == str(store.path / "tables.lock")


def test_an_error_under_the_lock_releases_it(store) -> None:
    with pytest.raises(RuntimeError, match="boom"), store.lock():
        raise RuntimeError("boom")
    with store.lock(wait_s=0.1):
        pass


# What a signal leaves behind


def _interrupted(folder) -> None:
    """Claim and write until SIGINT arrives, wherever that is, then release the store and end."""
    store = RunStore(folder)
    store.create()
    try:
        while True:
            with store.claim("c", "u") as held:
                if held:
                    store.write_text("note.txt", "x")
    except KeyboardInterrupt as error:
        # The traceback keeps generators alive that would otherwise tidy up as they are collected.
        store.release()
        os._exit(0 if error.__traceback__ else 1)


def test_whatever_moment_a_signal_takes_a_released_store_holds_nothing(tmp_path) -> None:
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    for number in range(25):
        folder = tmp_path / str(number)
        process = context.Process(target=_interrupted, args=(folder,))
        process.start()
        while not (folder / "note.txt").exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
        assert process.exitcode == 0
        assert sorted(file.name for file in folder.rglob("*") if file.is_file()) == ["note.txt"]


def test_a_claim_whose_block_never_began_is_released(store) -> None:
    entered = store.claim("c", "u")
    assert entered.__enter__()
    assert list(store.units_folder.glob("*.claim"))
    store.release()
    assert not list(store.units_folder.glob("*.claim"))


def test_release_leaves_what_another_process_has_taken_over(store) -> None:
    entered = store.claim("c", "u")
    assert entered.__enter__()
    (file,) = store.units_folder.glob("*.claim")
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": 0.0}))
    store.release()
    assert file.exists()


def test_release_leaves_what_another_thread_holds(store) -> None:
    with store.claim("c", "u") as held, ThreadPoolExecutor(1) as pool:
        assert held
        pool.submit(store.release).result()
        assert list(store.units_folder.glob("*.claim"))
