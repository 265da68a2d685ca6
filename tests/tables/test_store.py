"""The run directory: nothing half-written, a lock that waits, damaged files, private files."""

import json
import multiprocessing
import os
import random
import resource
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

from memprobe.errors import (
    BrokenUnitError,
    IncompleteRunError,
    InputError,
    InvalidRunError,
    LostClaimError,
    TableError,
)
from memprobe.tables import claims
from memprobe.tables import store as module
from memprobe.tables.manifest import Manifest
from memprobe.tables.processes import namespace_number
from memprobe.tables.requests import REQUESTS, Scheme, Unit
from memprobe.tables.store import RunStore

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


def asked(*frames: pl.DataFrame) -> dict[str, Unit]:
    """Return units u1, u2 and so on that ask for what these frames answer."""
    return {f"u{i}": Unit(frame.select(*REQUESTS.columns), ()) for i, frame in enumerate(frames, start=1)}


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

    monkeypatch.setattr(os, "fsync", full)
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

    monkeypatch.setattr(os, "fsync", look)
    store.write_text("a.txt", "hello")
    assert seen == [(5, False)]
    assert (store.path / "a.txt").read_text() == "hello"


def test_a_breaking_unit_is_no_unit(store, unit, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
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
    assert store.read_manifest().to_json() == {"format": 1, "name": "Ä"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"format": 2, "memprobe": "3.1"}',
            "the manifest has format 2, written by memprobe 3.1; this memprobe reads 1",
        ),
        ('{"format": 2}', "the manifest has format 2; this memprobe reads 1"),
        ("{}", "the manifest has format none; this memprobe reads 1"),
        ("[1]", "the manifest has format none; this memprobe reads 1"),
        ('{"format": 1', "the manifest cannot be used: it is not JSON"),
        ("[" * 100_000, "the manifest cannot be used: it is not JSON"),
    ],
)
def test_a_manifest_of_another_format_is_refused(store, text, message) -> None:
    store.write_text("manifest.json", text)
    with pytest.raises(InvalidRunError, match=message) as caught:
        store.read_manifest()
    assert caught.value.problems[0].where == str(store.manifest_file)
    assert "memprobe run" in caught.value.problems[0].fix


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
    assert "did you mean `recall`?" in caught.value.problems[0].what


def test_of_a_table_only_some_steps_are_read(store) -> None:
    frame = pl.DataFrame({"step": [0, 10, 20, 10], "x": [1, 2, 3, 4]})
    store.write_table("recall", frame)
    assert store.read_table("recall", steps={10, 30})["x"].to_list() == [2, 4]
    assert_frame_equal(store.read_table("recall"), frame)


def test_units_come_in_the_order_asked_and_carry_what_they_are_about(store, unit) -> None:
    other = unit.with_columns(item_id=pl.lit("b"))
    store.write_unit("c", "u1", unit, {"device": "cpu"})
    store.write_unit("c", "u2", other, {})
    units = asked(unit, other)
    turned = {"u2": units["u2"], "u1": units["u1"]}
    assert store.read_units("c", turned)["item_id"].to_list() == ["b", "a"]
    assert store.read_units("c", {}).columns == unit.columns
    assert pl.read_parquet_metadata(store.unit_file("c", "u1"))["device"] == "cpu"


def test_missing_units_are_counted_and_one_is_named(store, unit) -> None:
    store.write_unit("c", "u1", unit, {})
    with pytest.raises(InvalidRunError, match="units are missing: 2 of 3") as caught:
        store.read_units("c", asked(unit, unit, unit))
    assert caught.value.problems[0].where.endswith("c-u2.parquet")


def test_units_of_another_context_are_not_taken(store, unit) -> None:
    store.write_unit("c", "u1", unit, {})
    assert not store.has_unit("d", "u1")
    with pytest.raises(InvalidRunError, match="units are missing: 1 of 1"):
        store.read_units("d", asked(unit))


# Damaged and refused files


def test_a_unit_that_cannot_be_read_is_named_and_can_be_set_aside(store, unit) -> None:
    for name in ("u1", "u2", "u3"):
        store.write_unit("c", name, unit, {})
    whole = store.unit_file("c", "u1").read_bytes()
    store.unit_file("c", "u1").write_bytes(whole[: len(whole) // 2])
    store.unit_file("c", "u3").write_bytes(b"")
    with pytest.raises(BrokenUnitError, match=r"a unit cannot be used: it ends after .*Parquet") as caught:
        store.read_units("c", asked(unit, unit, unit))
    assert caught.value.files == (store.unit_file("c", "u1"), store.unit_file("c", "u3"))
    for file in caught.value.files:
        assert store.set_aside(file).name == f"{file.name}.broken"
    assert [store.has_unit("c", name) for name in ("u1", "u2", "u3")] == [False, True, False]
    assert store.read_units("c", {"u2": asked(unit)["u1"]}).height == 1


def test_a_table_that_cannot_be_read_is_named(store) -> None:
    store.write_table("recall", FRAME)
    file = store.table_file("recall")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InvalidRunError, match="the table `recall` cannot be used: ") as caught:
        store.read_table("recall")
    assert caught.value.problems[0].where == str(file)
    assert "memprobe run" in caught.value.problems[0].fix


# Numbers that are not those that were scored


def refused(store: RunStore, unit: pl.DataFrame, **changes) -> str:
    """Return why the unit u1 of the context c is refused."""
    with pytest.raises(BrokenUnitError) as caught:
        store.read_units("c", asked(unit) | changes)
    assert caught.value.files == (store.unit_file("c", "u1"),)
    return caught.value.problems[0].what


def test_a_unit_of_another_checkpoint_under_this_name_is_refused(store, unit) -> None:
    store.write_unit("d", "u1", unit, {})
    store.unit_file("c", "u1").write_bytes(store.unit_file("d", "u1").read_bytes())
    assert refused(store, unit) == "a unit cannot be used: it is the unit d-u1 under another name"
    store.write_unit("c", "u2", unit, {})
    store.unit_file("c", "u1").write_bytes(store.unit_file("c", "u2").read_bytes())
    assert refused(store, unit) == "a unit cannot be used: it is the unit c-u2 under another name"


def test_a_unit_with_other_rows_than_were_asked_for_is_refused(store, unit) -> None:
    other = unit.with_columns(item_id=pl.lit("b"))
    store.write_unit("c", "u1", pl.concat([unit, other]), {})
    assert "it holds 2 rows and not 1, one for each span" in refused(store, unit)
    store.write_unit("c", "u1", unit.clear(), {})
    assert "it holds 0 rows" in refused(store, unit)
    store.write_unit("c", "u1", other, {})
    assert "1 of the 1 span that were asked for are not in it" in refused(store, unit)


def test_a_unit_without_a_scheme_that_was_asked_for_is_refused(store, unit) -> None:
    store.write_unit("c", "u1", unit, {})
    wanted = Unit(unit.select(*REQUESTS.columns), (Scheme(top_k=40),))
    assert "it holds nothing under top40" in refused(store, unit, u1=wanted)


def test_a_unit_that_another_program_wrote_is_refused(store, unit) -> None:
    unit.write_parquet(store.unit_file("c", "u1"), metadata={"context": "c", "unit": "u1"})
    assert "it carries no checksum" in refused(store, unit)


def test_of_many_units_only_those_that_are_wrong_are_named(store, unit) -> None:
    others = [unit.with_columns(item_id=pl.lit(f"i{n}")) for n in range(5)]
    for n, each in enumerate(others, start=1):
        store.write_unit("c", f"u{n}", each if n != 3 else unit, {})
    with pytest.raises(BrokenUnitError) as caught:
        store.read_units("c", asked(*others))
    assert caught.value.files == (store.unit_file("c", "u3"),)


def test_values_that_cannot_be_are_neither_written_nor_read(store, unit, monkeypatch) -> None:
    wrong = unit.with_columns(logprob_sum_nats=pl.lit(0.5))
    with pytest.raises(TableError, match=r"spans: the sum of ln p is above 0 or NaN \(1 span\)"):
        store.write_unit("c", "u1", wrong, {})
    assert names(store.path) == []
    with monkeypatch.context() as patch:
        patch.setattr(module, "impossible", lambda *_: [])
        store.write_unit("c", "u1", wrong, {})
    assert "the sum of ln p is above 0 or NaN" in refused(store, unit)


def test_a_table_under_another_name_is_refused(store) -> None:
    store.write_table("recall", FRAME)
    store.table_file("recall").rename(store.table_file("extraction"))
    for read in (store.read_table, store.scan_table):
        with pytest.raises(InvalidRunError, match="it is the table `recall` under another name"):
            read("extraction")


def test_a_table_of_another_run_is_refused(store) -> None:
    digest = store.write_table("summary", FRAME)
    store.write_manifest(Manifest().changed(format=1, tables={"summary": digest}))
    assert store.read_table("summary").height == 3
    store.write_table("summary", FRAME.head(2))
    for read in (store.read_table, store.scan_table):
        with pytest.raises(InvalidRunError, match="it is another one than this run wrote"):
            read("summary")


def test_a_table_that_is_read_in_part_is_checked_whole(store) -> None:
    store.write_table("recall", pl.DataFrame({"step": [0, 10], "x": [1.0, 2.0]}))
    file = store.table_file("recall")
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidRunError, match="its checksum is wrong"):
        store.read_table("recall", steps={10})


def test_a_manifest_that_does_not_say_what_was_written_is_refused(store) -> None:
    said = {"format": 1, "state": "incomplete", "n_items": 24}
    store.write_manifest(Manifest.from_json(said))
    assert store.read_manifest().to_json() == said
    text = store.manifest_file.read_text()
    store.write_text("manifest.json", text.replace("24", "34"))
    with pytest.raises(InvalidRunError, match="its checksum is wrong") as caught:
        store.read_manifest()
    assert "move it away" in caught.value.problems[0].fix


# Who lost the claim or the lock writes nothing


def test_a_unit_is_not_written_by_who_lost_its_claim(store, unit) -> None:
    with store.claim("c", "u"):
        claim = store.unit_file("c", "u").with_suffix(".claim")
        claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "mark": "another"}))
        with pytest.raises(LostClaimError):
            store.write_unit("c", "u", unit, {})
    assert names(store.path) == ["units/c-u.claim"]


def test_nothing_is_written_by_who_lost_the_lock(store) -> None:
    store.write_lines("errors.jsonl", [{"error": "e"}])
    with store.lock():
        (store.path / "tables.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "mark": "x"}))
        for write in (
            lambda: store.write_table("recall", FRAME),
            lambda: store.write_csv("summary.csv", FRAME),
            lambda: store.write_manifest(Manifest().changed(format=1)),
            lambda: store.write_lines("errors.jsonl", []),
        ):
            with pytest.raises(LostClaimError):
                write()
    assert names(store.path) == ["errors.jsonl", "tables.lock"]


@pytest.mark.parametrize("write", ["table", "csv", "text"])
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system limits no file sizes")
def test_a_write_that_the_system_refuses_names_the_file_and_leaves_the_old_one(store, write) -> None:
    large = pl.DataFrame({"x": pl.arange(0, 100_000, eager=True)})
    write_one = {
        "table": lambda frame: store.write_table("recall", frame),
        "csv": lambda frame: store.write_csv("summary.csv", frame),
        "text": lambda frame: store.write_text("note.txt", "x" * 100 * frame.height),
    }[write]
    write_one(FRAME)
    (name,) = names(store.path)
    before, limits = (store.path / name).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(IncompleteRunError, match="the file would be larger than is allowed") as caught:
            write_one(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.problems[0].where == str(store.path / name)
    assert names(store.path) == [name]
    assert (store.path / name).read_bytes() == before


def test_what_killed_processes_left_half_written_goes(store) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    here, hour_s = socket.gethostname(), 3_600
    space, rest = namespace_number(), "0123456789ab.tmp"
    files = {
        f"units/.u.parquet.{here}.{space}.{process.pid}.{rest}": (0, True),
        f"units/.u.parquet.{here}.{space}.{os.getpid()}.{rest}": (2 * hour_s, False),
        # The same machine's name in another container, where the number may be anybody's.
        f"units/.v.parquet.{here}.1{space}.{process.pid}.{rest}": (0, False),
        "tables/.t.parquet.else.where.7.tmp": (hour_s + 60, True),
        "tables/.s.parquet.elsewhere.7.tmp": (hour_s - 60, False),
    }
    for name, (age_s, _) in files.items():
        (store.path / name).write_text("half")
        os.utime(store.path / name, (time.time() - age_s, time.time() - age_s))
    claim = store.units_folder / "c-u.claim"
    claim.write_text(json.dumps({"host": here, "pid": process.pid, "since": 0.0}))
    # Its unit is there, so nobody will ask for it, and nobody looks long enough to see it silent.
    (store.units_folder / "c-v.claim").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    (store.units_folder / "c-v.parquet").touch()
    files["units/c-v.parquet"] = (0, False)
    store.create()
    assert names(store.path) == sorted(name for name, (_, goes) in files.items() if not goes)


# What lies there, by name and time


def test_units_are_counted_by_context_with_their_times(store, unit) -> None:
    for context, name in (("c", "u1"), ("c", "u2"), ("d", "u1")):
        store.write_unit(context, name, unit, {})
    os.utime(store.unit_file("c", "u2"), (5, 5))
    (store.units_folder / "c-u3.parquet.broken").write_text("")
    (store.units_folder / ".c-u4.parquet.h.1.tmp").write_text("")
    times = store.unit_times()
    assert {context: len(each) for context, each in times.items()} == {"c": 2, "d": 1}
    assert min(times["c"]) == 5
    assert RunStore(store.path / "nowhere").unit_times() == {}


def test_claims_are_listed_with_their_holders(store) -> None:
    with store.claim("c", "u1"), store.claim("d", "u2"):
        assert [(each.context, each.holder.pid, each.holder.gone) for each in store.claims()] == [
            ("c", os.getpid(), False),
            ("d", os.getpid(), False),
        ]
    assert store.claims() == []


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
    with pytest.raises(InputError, match=r"has no manifest\.json") as caught:
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


def test_the_lock_tells_once_who_is_waited_for(store, monkeypatch) -> None:
    monkeypatch.setattr(claims, "_TELL_AFTER_S", 0.0)
    taken, told = threading.Event(), []

    def first() -> None:
        with store.lock():
            taken.set()
            time.sleep(0.7)

    thread = threading.Thread(target=first)
    thread.start()
    assert taken.wait(PATIENCE_S)
    with store.lock(waiting=told.append):
        pass
    thread.join()
    # Looked at every 0.2 s, so three times or so, and told the first time.
    assert told == [f"process {os.getpid()} on {socket.gethostname()} builds the tables; waiting for it"]


def test_the_lock_of_a_process_that_is_gone_is_taken_at_once(store) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    holder = {"host": socket.gethostname(), "pid": process.pid, "since": 0.0}
    (store.path / "tables.lock").write_text(json.dumps(holder))
    started = time.monotonic()
    with store.lock():
        assert time.monotonic() - started < PATIENCE_S
        assert store.lock_holder().pid == os.getpid()
    assert store.lock_holder() is None


def test_an_error_under_the_lock_releases_it(store) -> None:
    with pytest.raises(RuntimeError, match="boom"), store.lock():
        raise RuntimeError("boom")
    assert names(store.path) == []


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


def _broken_wait(_: object) -> None:
    """Fail as `Thread.start` does where a signal arrives while its wait takes the lock back."""
    try:
        raise KeyboardInterrupt
    finally:
        threading.Lock().release()


def test_a_signal_that_breaks_the_wait_for_a_thread_is_the_signal_and_leaves_no_claim(
    store, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _broken_wait)
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            _broken_wait(None)
        with pytest.raises(KeyboardInterrupt), store.claim("c", "u"):
            pass
    assert not list(store.units_folder.glob("*.claim"))


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


@pytest.mark.parametrize(
    ("key", "value"),
    [("checkpoints", None), ("failures", [3]), ("probes", []), ("stages", [{}]), ("warnings", [1])],
)
def test_a_manifest_of_other_kinds_of_values_is_refused(tmp_path, key, value) -> None:
    store = RunStore(tmp_path)
    store.write_json("manifest.json", {"format": 1, key: value})
    with pytest.raises(InvalidRunError, match=f"`{key}` is not what memprobe writes there"):
        store.read_manifest()
