"""Claims: held by one at a time, taken over only from who is gone, left behind by nobody."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memprobe.errors import LostClaimError
from memprobe.tables import claims as module
from memprobe.tables.claims import Patience, check_held, hold, holder_of, release, remove_abandoned

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


class Clock:
    """A monotonic clock that goes as far as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module.time, "monotonic", made.monotonic)
    monkeypatch.setattr(module, "_SILENCES", {})
    return made


def taken(file: Path) -> bool:
    with hold(file) as held:
        assert not held or json.loads(file.read_text())["pid"] == os.getpid()
        return held


def watched(file: Path, clock: Clock, seconds: float) -> bool:
    """Look at a claim every five seconds for so long; returns whether it was taken over."""
    until = clock.now + seconds
    while not taken(file):
        if clock.now >= until:
            return False
        clock.now += 5
    return True


def test_the_claim_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, host=socket.gethostname(), pid=dead_pid())
    assert taken(file)
    assert names(tmp_path) == []


ELSEWHERE = {"host": "some-other-host", "pid": 7}


def test_the_claim_of_another_machine_is_taken_over_after_a_minute_in_which_it_was_seen_unchanged(
    tmp_path, clock
) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, **ELSEWHERE)
    assert not watched(file, clock, 60)
    assert watched(file, clock, 10)
    assert names(tmp_path) == []


# A clock that is an hour behind or ahead: neither makes a claim older or younger.
@pytest.mark.parametrize("silent_s", [-3600, 3600])
def test_the_clocks_of_two_machines_are_never_compared(tmp_path, clock, silent_s) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, silent_s=silent_s, **ELSEWHERE)
    assert not watched(file, clock, 60)
    write_claim(file, silent_s=silent_s - 10, **ELSEWHERE)
    assert not watched(file, clock, 60)
    assert watched(file, clock, 10)


def test_time_in_which_nobody_looked_is_no_silence(tmp_path, clock) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, **ELSEWHERE)
    assert not taken(file)
    # This process was stopped itself, as a laptop is, or scored something else.
    clock.now += 3600
    assert not taken(file)
    assert watched(file, clock, 60)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 3}', '"' + "[" * 5000])
def test_a_claim_that_cannot_be_read_is_taken_over_after_the_same_minute(tmp_path, clock, text) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, text=text)
    assert not watched(file, clock, 60)
    assert watched(file, clock, 10)


def test_a_living_process_is_not_taken_over_for_ten_minutes_of_silence(tmp_path, clock) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, silent_s=3600, host=socket.gethostname(), pid=os.getppid())
    assert not watched(file, clock, 600)
    # Frozen by its container, say: nothing else silences the thread that beats.
    assert watched(file, clock, 10)


@pytest.fixture
def stopped() -> Iterator[subprocess.Popen]:
    process = sleeping()
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while not module.is_stopped(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_stopped_process_is_said_to_be_and_taken_over_after_a_minute(tmp_path, clock, stopped) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, host=socket.gethostname(), pid=stopped.pid)
    holder = holder_of(file)
    assert (holder.stopped, holder.gone) == (True, False)
    assert str(holder) == f"process {stopped.pid} on {socket.gethostname()} (stopped)"
    assert not watched(file, clock, 60)
    assert watched(file, clock, 10)


# What a claim says, and when


def test_a_claim_is_never_empty(tmp_path, monkeypatch) -> None:
    """Whatever is seen under its name, at every step of its making, says who holds it."""
    file, seen = tmp_path / "u.claim", []
    for name in ("open", "write", "link", "unlink"):
        real = getattr(os, name)

        def looking(*args, real=real, **more):
            before = file.read_bytes() if file.exists() else None
            done = real(*args, **more)
            seen.extend([before, file.read_bytes() if file.exists() else None])
            return done

        monkeypatch.setattr(module.os, name, looking)
    with hold(file) as held:
        monkeypatch.undo()
        assert held
    assert None in seen
    assert {json.loads(each)["pid"] for each in seen if each is not None} == {os.getpid()}
    assert names(tmp_path) == []


def test_where_hard_links_are_unknown_a_claim_is_created_exclusively(tmp_path, monkeypatch) -> None:
    def refused(*_, **__) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.Path, "hardlink_to", refused)
    file = tmp_path / "u.claim"
    with hold(file) as held:
        assert held
        assert json.loads(file.read_text())["pid"] == os.getpid()
        with hold(file) as again:
            assert not again
        check_held(file)
    assert names(tmp_path) == []


def test_a_file_server_that_says_no_to_what_it_has_done_is_not_believed(tmp_path, monkeypatch) -> None:
    link = module.Path.hardlink_to

    def repeated(self, target) -> None:
        link(self, target)
        raise FileExistsError

    monkeypatch.setattr(module.Path, "hardlink_to", repeated)
    with hold(tmp_path / "u.claim") as held:
        assert held


def test_a_claim_follows_no_link(tmp_path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "u.claim").symlink_to(tmp_path / "precious")
    with hold(tmp_path / "u.claim") as held:
        assert not held
    assert (tmp_path / "precious").read_text() == "mine"


# A claim that was taken over while its holder was stopped


def test_who_lost_a_claim_finds_out_before_it_writes(tmp_path) -> None:
    file = tmp_path / "u.claim"
    check_held(file)
    with hold(file):
        check_held(file)
        file.unlink()
        with pytest.raises(LostClaimError) as caught:
            check_held(file)
        assert caught.value.problems[0].where == str(file)
        # The same process number: another thread of this process may be the one that took it over.
        write_claim(file, host=socket.gethostname(), pid=os.getpid(), mark="another")
        with pytest.raises(LostClaimError):
            check_held(file)
    assert names(tmp_path) == ["u.claim"]


def test_a_heart_stops_beating_for_a_claim_that_is_anothers(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    file = tmp_path / "u.claim"
    with hold(file):
        write_claim(file, silent_s=100, host="elsewhere", pid=1, mark="another")
        then = file.stat().st_mtime_ns
        time.sleep(0.1)
        assert file.stat().st_mtime_ns == then


# Telling whom one waits for


def test_who_is_waited_for_is_told_after_a_while_and_again_where_it_changes(clock) -> None:
    told: list[str] = []
    patience = Patience(told.append)
    for second in range(10):
        clock.now = 1000.0 + second
        patience.wait_for("waiting for one" if second < 8 else "waiting for another")
        assert bool(told) == (second > 5)
    assert told == ["waiting for one", "waiting for another"]
    patience.end()
    patience.wait_for("waiting for a third")
    assert len(told) == 2
    Patience(None).wait_for("nobody hears")


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


@pytest.mark.parametrize("moment", ["before the last look", "after it"])
def test_a_claim_renewed_between_judgement_and_takeover_is_left_alone(tmp_path, monkeypatch, moment) -> None:
    file = tmp_path / "u.claim"
    write_claim(file, host=socket.gethostname(), pid=dead_pid())

    def renew() -> None:
        write_claim(file, host=socket.gethostname(), pid=os.getppid())

    remove, rename = module._remove, module.Path.rename
    if moment == "after it":
        monkeypatch.setattr(module.Path, "rename", lambda self, to: renew() or rename(self, to))
    else:
        monkeypatch.setattr(module, "_remove", lambda *args: renew() or remove(*args))
    with hold(file) as held:
        assert not held
    assert json.loads(file.read_text())["pid"] == os.getppid()
    assert names(tmp_path) == ["u.claim"]


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
    assert (holder.pid, holder.gone, str(holder)) == (None, False, "an unknown process")


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
