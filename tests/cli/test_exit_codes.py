"""Exit codes of processes that are interrupted, read halfway, or refused by the disk; nothing is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import memprobe
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore

# After the first signal the process tidies up for so long that only a second one can end it in time.
_SLOW_TO_TIDY = """
import time
from memprobe.tables.store import RunStore
def slow(self):
    print("tidying", file=sys.stderr, flush=True)
    time.sleep(300)
RunStore.release = slow
"""

# The system refuses to let a file of this name grow beyond 100 bytes.
_FULL_AT = """
import resource
from memprobe.tables.store import RunStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write = RunStore._write
def refused(self, file, content, **more):
    if file.match({pattern!r}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        write(self, file, content, **more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
RunStore._write = refused
"""

SIGNALS = [
    pytest.param(signal.SIGINT, 130, id="interrupted"),
    pytest.param(signal.SIGTERM, 143, id="terminated", marks=pytest.mark.slow),
]
NO_LIMIT = resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY


@pytest.fixture
def ask(tiny):
    return ("run", "quickstart", *tiny.ask, "-o", "run")


def wait_until(what, process):
    deadline = time.monotonic() + 60
    while not what():
        time.sleep(0.005)
        assert time.monotonic() < deadline, process.err


# Signals


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_second_signal_ends_at_once_and_leaves_no_claim(number, code, ask, forked, tmp_path):
    process = forked(*ask, pause_s=0.05, prelude=_SLOW_TO_TIDY)
    wait_until(lambda: len(list(tmp_path.glob("run/units/*.parquet"))) > 1, process)
    process.send(number)
    wait_until(lambda: "tidying" in process.err, process)
    started = time.monotonic()
    process.send(number)
    answer = process.answer()
    assert answer.code == code
    assert time.monotonic() - started < 5
    assert "Traceback" not in answer.err
    assert not list(tmp_path.rglob("*.claim"))
    resumed = forked(*ask).answer()
    assert resumed.code == 0, resumed.err


def test_an_ignored_sigint_stays_ignored(ask, forked, tmp_path):
    # As a shell starts what runs in the background of a script.
    process = forked(*ask, pause_s=0.02, prelude="signal.signal(signal.SIGINT, signal.SIG_IGN)\n")
    wait_until(lambda: list(tmp_path.glob("run/units/*.parquet")), process)
    process.send(signal.SIGINT)
    assert process.answer().code == 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_worker_that_is_stopped_keeps_its_units_and_another_goes_on(
    number, code, finished, forked, tmp_path
):
    run = shutil.copytree(finished, tmp_path / "run")
    for file in run.glob("units/*.parquet"):
        file.unlink()
    process = forked("worker", run, pause_s=0.3)
    wait_until(lambda: list(run.glob("units/*.claim")), process)
    process.send(number)
    answer = process.answer()
    assert answer.code == code, answer.err
    assert "finished work is kept, the same command goes on from here" in answer.err
    assert not list(run.rglob("*.claim"))
    again = forked("worker", run).answer()
    assert (again.code, "the run is done" in again.out) == (0, True), again.err


# A reader who leaves early


@pytest.mark.parametrize("more", [[], pytest.param(["--json"], marks=pytest.mark.slow)])
def test_an_incomplete_run_read_by_head_is_still_4(more, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    (folder / "step10" / "model.safetensors").write_bytes(b"x" * 50)
    ask = ["run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", tmp_path / "run", "-q", *more]
    memprobe.run(probes=["recall"], model=folder, data=tiny.items, out=tmp_path / "run")
    command = [sys.executable, "-m", "memprobe", *map(str, ask)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 4, err
    assert "error: 1 checkpoint failed: step10" in err
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


# Full disks


@pytest.mark.skipif(NO_LIMIT, reason="the size of files is limited here and the limit cannot be raised")
@pytest.mark.parametrize(
    ("pattern", "units_kept"),
    [
        pytest.param("manifest.json", 0, id="manifest"),
        pytest.param("units/*.parquet", 0, id="unit"),
        pytest.param("tables/recall.parquet", 3, id="table"),
        pytest.param("summary.csv", 3, id="summary", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_cannot_be_written_is_4_and_the_run_goes_on_once_there_is_room(
    pattern, units_kept, ask, forked, tmp_path, finished, tables_of, units_of
):
    answer = forked(*ask, prelude=_FULL_AT.format(pattern=pattern)).answer()
    assert answer.code == 4, answer.err
    what, where, fix = answer.err.splitlines()[-3:]
    assert what == "error: the file would be larger than is allowed here: a file could not be written"
    assert pattern.partition("*")[0] in where
    assert fix.startswith("  fix:   make room; what was written is kept")
    run = tmp_path / "run"
    assert [file.name for file in run.rglob("*") if file.suffix in (".tmp", ".claim", ".lock")] == []
    kept = units_of(run)
    assert len(kept) == units_kept
    resumed = forked(*ask).answer()
    assert resumed.code == 0, resumed.err
    assert kept.items() <= units_of(run).items()
    assert tables_of(run) == tables_of(finished)


def mounted(folder, *options):
    """Mount a small file system; skip where that is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")


def unmount(folder):
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_loses_nothing_however_far_the_run_came(
    ask, forked, tmp_path, finished, tables_of, units_of
):
    run, stopped_at = tmp_path / "run", set()
    mounted(run, "size=8k")
    try:
        kept, answer = {}, None
        for size_k in (8, 24, 64, 128, 256, 384, 1024):
            subprocess.run(["mount", "-o", f"remount,size={size_k}k", str(run)], check=True)
            answer = forked(*ask).answer()
            assert kept.items() <= units_of(run).items()
            kept = units_of(run)
            if answer.code == 0:
                break
            assert answer.code == 4, answer.err
            assert "the disk is full" in answer.err
            where = answer.err.splitlines()[-2].rpartition("/")
            stopped_at.add(where[0].rpartition("/")[2])
        assert answer.code == 0, answer.err
        # It ran full in the run directory itself, among the units and among the tables.
        assert len(stopped_at) >= 2, stopped_at
        assert tables_of(run) == tables_of(finished)
    finally:
        unmount(run)


# A directory that cannot be written to


@pytest.fixture
def read_only(finished, tmp_path):
    """A finished run, and one with a unit missing, on a file system that is read-only even for root."""
    disk = tmp_path / "disk"
    runs = [disk / "done", disk / "open"]
    if os.geteuid():
        disk.mkdir()
    else:
        # Root may write whatever the permissions say.
        mounted(disk, "size=20m")
    for run in runs:
        shutil.copytree(finished, run)
    next(runs[1].glob("units/*.parquet")).unlink()
    if os.geteuid():
        folders = [each for each in disk.rglob("*") if each.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        yield runs
        for folder in folders:
            folder.chmod(0o755)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield runs
        unmount(disk)


def test_a_read_only_run_can_be_read_and_writing_to_it_is_2(read_only, tiny, forked, cli, finished):
    done, begun = read_only
    for args in (["summary", done], ["status", done], ["export", done, "--to", "csv"], ["status", begun]):
        answer = cli(*args)
        assert answer.code == 0, answer.err
    assert cli("summary", done).out == cli("summary", finished).out
    # Nothing is left to do, so nothing is written.
    assert forked("worker", done).answer().code == 0
    for args in (("run", "quickstart", *tiny.ask, "-o", begun), ("worker", begun)):
        answer = forked(*args).answer()
        assert answer.code == 2, answer.err
        assert "the system says: " in answer.err
        assert str(begun) in answer.err
        assert "Traceback" not in answer.err


# Damaged files


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def commands(run, tiny):
    return {
        "run": ["run", "quickstart", *tiny.ask, "-o", run],
        "worker": ["worker", run],
        "status": ["status", run],
        "summary": ["summary", run],
        "export": ["export", run, "--to", "csv"],
    }


@pytest.mark.parametrize("name", ["run", "worker", "status", "summary", "export"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"format": 7, "memprobe": "4.2"}',
            "the manifest has format 7, written by memprobe 4.2; this memprobe",
        ),
        ('{"format": 1, "sta', "it is not JSON"),
        ("", "it is not JSON"),
    ],
    ids=["newer", "cut", "empty"],
)
def test_a_manifest_that_cannot_be_read_is_3_for_every_command(name, text, told, copy, cli, tiny, units_of):
    kept = units_of(copy)
    (copy / "manifest.json").write_text(text)
    answer = cli(*commands(copy, tiny)[name])
    assert answer.code == 3, answer.err
    assert told in answer.err
    assert f"where: {copy / 'manifest.json'}" in answer.err
    assert (copy / "manifest.json").read_text() == text
    assert units_of(copy) == kept


def test_a_lost_manifest_is_written_anew_and_no_unit_is_scored_again(copy, cli, tiny, units_of, tables_of):
    kept, tables = units_of(copy), tables_of(copy)
    (copy / "manifest.json").rename(copy / "manifest.broken")
    answer = cli(*commands(copy, tiny)["run"])
    assert answer.code == 0, answer.err
    assert (units_of(copy), tables_of(copy)) == (kept, tables)


@pytest.mark.parametrize("name", ["run", "worker"])
@pytest.mark.parametrize("cut", [0, 0.5], ids=["empty", "truncated"])
def test_a_unit_that_cannot_be_read_is_set_aside_and_scored_again(
    name, cut, copy, forked, cli, tiny, tables_of, units_of
):
    tables = tables_of(copy)
    first, second, _ = sorted(copy.glob("units/*.parquet"))
    first.write_bytes(first.read_bytes()[: int(cut * first.stat().st_size)])
    if name == "worker":
        # A worker measures only where something was left to score.
        second.unlink()
    kept = units_of(copy)
    for reader in ("status", "summary", "export"):
        assert cli(*commands(copy, tiny)[reader]).code == 0, reader
    answer = forked(*commands(copy, tiny)[name]).answer()
    assert answer.code == 0, answer.err
    assert f"note: {first.name} cannot be used: it " in answer.err
    assert f"; it is now {first.name}.broken and is scored again" in answer.err
    assert tables_of(copy) == tables
    assert (copy / "units" / f"{first.name}.broken").exists()
    again = units_of(copy)
    assert {name for name in kept if again[name] != kept[name]} == {first.name}


def test_a_broken_unit_of_an_unfinished_run_is_named_by_summary(copy, cli, tiny):
    manifest = json.loads((copy / "manifest.json").read_text())
    RunStore(copy).write_manifest(Manifest.from_json(manifest | {"state": "scoring"}))
    broken = sorted(copy.glob("units/*.parquet"))[1]
    broken.write_bytes(b"")
    answer = cli("summary", copy)
    assert answer.code == 3
    assert "a unit cannot be used" in answer.err
    assert f"where: {broken}" in answer.err
    assert cli("status", copy).code == 0


def test_a_unit_that_breaks_again_and_again_ends_the_run(run, monkeypatch):
    from memprobe.errors import BrokenUnitError

    write = RunStore.write_unit

    def torn(self, context, unit, *args, **more):
        write(self, context, unit, *args, **more)
        self.unit_file(context, unit).write_bytes(b"PAR1")

    monkeypatch.setattr(RunStore, "write_unit", torn)
    with pytest.raises(BrokenUnitError, match="a unit cannot be used"):
        run(probes=["recall"])


@pytest.mark.parametrize("table", ["summary.parquet", "tables/recall.parquet", "tables/items.parquet"])
def test_a_table_that_cannot_be_read_is_3_and_the_same_run_builds_it_anew(
    table, copy, cli, tiny, tables_of, units_of
):
    tables, units, file = tables_of(copy), units_of(copy), copy / table
    file.write_bytes(file.read_bytes()[:-40])
    answer = cli("export", copy, "--table", file.stem, "--to", "csv")
    assert answer.code == 3, answer.err
    assert f"the table `{file.stem}` cannot be used" in answer.err
    assert f"where: {file}" in answer.err
    assert cli("summary", copy).code == (3 if file.stem == "summary" else 0)
    assert cli("status", copy).code == 0
    assert cli(*commands(copy, tiny)["run"]).code == 0
    assert (tables_of(copy), units_of(copy)) == (tables, units)


# The worker's own words


def test_a_wrong_shard_is_2_with_the_allowed_form(cli, finished):
    answer = cli("worker", finished, "--shard", "5/4")
    assert answer.code == 2
    assert "the shard is `5/4`, not i/n with i from 1 to n" in answer.err
    assert "--shard 1/4" in answer.err


def test_a_worker_says_what_it_did_and_what_is_left(copy, cli):
    for file in copy.glob("units/*.parquet"):
        file.unlink()
    answer = cli("worker", copy, "--shard", "1/3", "--threads", 1)
    assert answer.code == 0, answer.err
    assert answer.out == (
        "scored 1 unit; 2 units of other shards left: "
        f"memprobe worker {copy} scores the units that no process holds\n"
    )
    document = json.loads(cli("worker", copy, "--shard", "2/3", "--json", "-q").out)
    assert {key: document[key] for key in ("state", "units_scored", "units_left", "failures")} == {
        "state": "scoring",
        "units_scored": 1,
        "units_left": 1,
        "failures": [],
    }
    assert cli("worker", copy).out == f"scored 1 unit; the run is done: memprobe summary {copy}\n"
    assert cli("worker", copy).out == f"scored 0 units; the run is done: memprobe summary {copy}\n"


def test_a_worker_on_no_run_is_2_and_a_worker_of_an_incomplete_run_is_4(cli, run, tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert cli("worker", tmp_path).code == 2
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    (folder / "step10" / "model.safetensors").write_bytes(b"x" * 50)
    done = run(probes=["recall"], model=str(folder), steps=None)
    answer = cli("worker", done.path)
    assert answer.code == 4
    assert "the run is incomplete" in answer.out
    assert "error: 1 checkpoint failed: step10" in answer.err
