"""Claims: held by one at a time, taken over only from who is gone, left behind by nobody."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memprobe.tables import claims as module
from memprobe.tables.claims import hold, holder_of, release, remove_abandoned

# Long enough for a thread on a busy machine, short enough for a test.
PATIENCE_S = 5.0


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


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


# Whose process it is


def sleeping() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_killed_process_that_its_parent_never_asks_for_is_gone(tmp_path) -> None:
    file = tmp_path / "u.claim"
    process = sleeping()
    write_claim(file, host=socket.gethostname(), pid=process.pid)
    assert not holder_of(file).gone
    process.kill()
    deadline = time.monotonic() + PATIENCE_S
    # Not waited for, so it stays in the system's list as a zombie.
    while not holder_of(file).gone and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holder_of(file).gone
    process.wait()


def test_a_number_that_was_given_again_is_another_process(tmp_path) -> None:
    file = tmp_path / "u.claim"
    with hold(file):
        said = json.loads(file.read_text())
    assert said["pid"] == os.getpid()
    write_claim(file, **said)
    assert not holder_of(file).gone
    # A container that starts anew gives the same numbers to other processes.
    write_claim(file, **said | {"started": said["started"] - 1})
    assert holder_of(file).gone


def test_a_process_of_another_container_is_judged_by_its_silence(tmp_path) -> None:
    file, elsewhere = (
        tmp_path / "u.claim",
        {"host": socket.gethostname(), "pid": dead_pid(), "namespace": "pid:[1]"},
    )
    write_claim(file, **elsewhere, silent_s=50)
    assert not holder_of(file).gone
    write_claim(file, **elsewhere, silent_s=70)
    assert holder_of(file).gone


@pytest.mark.parametrize("pid", [0, -1, 2**40, "7", None])
def test_a_number_that_no_process_has_names_nobody(tmp_path, pid) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, host=socket.gethostname(), pid=pid)
    holder = holder_of(file)
    assert (holder.pid, holder.gone, str(holder)) == (None, False, "a process that has not said its name")


def test_a_holder_says_who_and_since_when(tmp_path) -> None:
    file, before = tmp_path / "u.claim", time.time()
    assert holder_of(file) is None
    with hold(file):
        holder = holder_of(file)
    assert (holder.host, holder.pid) == (socket.gethostname(), os.getpid())
    assert before <= holder.since <= time.time()
    assert 0 <= holder.silent_s < PATIENCE_S
    assert str(holder) == f"process {os.getpid()} on {socket.gethostname()}"


def test_what_another_has_taken_over_meanwhile_is_not_given_back(tmp_path) -> None:
    file = tmp_path / "u.claim"
    with hold(file):
        # This process slept for a minute, as a laptop does, and another host took over.
        write_claim(file, host="elsewhere", pid=1)
    assert json.loads(file.read_text())["host"] == "elsewhere"


def test_abandoned_claims_and_guards_go_and_held_ones_stay(tmp_path) -> None:
    for name in ("a.claim", "b.claim.taken-over"):
        write_claim(tmp_path / name, host=socket.gethostname(), pid=dead_pid())
    write_claim(tmp_path / "c.claim", host="elsewhere", pid=1)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["c.claim"]


def test_releasing_without_a_folder_gives_back_what_any_thread_holds(tmp_path) -> None:
    inside, go = threading.Event(), threading.Event()

    def other() -> None:
        with hold(tmp_path / "theirs.claim"):
            inside.set()
            go.wait(PATIENCE_S)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(PATIENCE_S)
    with hold(tmp_path / "mine.claim"):
        release(tmp_path)
        assert names(tmp_path) == ["theirs.claim"]
        release()
        assert names(tmp_path) == []
    go.set()
    thread.join()
    assert not module._HELD
