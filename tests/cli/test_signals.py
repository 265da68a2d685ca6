"""Signals that end a process: what a batch system sends, Ctrl-C before anything has begun, and repeats."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from memprobe.cli import signals
from memprobe.cli.signals import Terminated, ending

OTHERS = [(signal.SIGHUP, 129), (signal.SIGUSR1, 138), (signal.SIGXCPU, 152)]


@pytest.mark.parametrize(("number", "code"), OTHERS)
def test_a_batch_systems_signal_ends_a_run_like_sigterm_with_a_code_of_its_own(
    number, code, forked, tiny, tmp_path, units_of
) -> None:
    # The tests may have been started by nohup, which ignores SIGHUP.
    heard = f"import signal; signal.signal({int(number)}, signal.SIG_DFL)"
    process = forked("run", "quickstart", *tiny.one, "-o", "run", pause_s=0.05, prelude=heard)
    run, deadline = tmp_path / "run", time.monotonic() + 60
    while not list(run.glob("units/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send(number)
    answer = process.answer()
    assert answer.code == code
    assert f"terminated by {number.name}: finished work is kept, the same command goes on" in answer.err
    assert "Traceback" not in answer.err
    assert units_of(run)
    assert not [file.name for file in run.rglob("*") if file.suffix in (".claim", ".lock", ".tmp")]


def _broken_wait() -> None:
    try:
        raise Terminated
    finally:
        threading.Lock().release()


def test_a_signal_that_breaks_a_wait_is_still_the_signal() -> None:
    with pytest.raises(Terminated), ending():
        _broken_wait()


def received(*numbers: int) -> list[str]:
    """Return what signals raise in a command."""
    told = []
    with ending():
        for number in numbers:
            try:
                signal.raise_signal(number)
            except (KeyboardInterrupt, Terminated) as error:
                told.append(type(error).__name__ + str(error))
    return told


@pytest.fixture
def handlers():
    """Put back what a test's signals leave: after one, handlers stay for the process to end."""
    before = {number: signal.getsignal(number) for number in signals._SIGNALS}
    for number, handler in before.items():
        # Nor are any heard that were ignored when the tests began, as under nohup.
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [each for each, _ in OTHERS])
def test_a_signal_that_the_system_repeats_does_not_end_the_tidying(number, handlers) -> None:
    """The limit of CPU time is told every second, the end of a terminal by the shell and the kernel."""
    assert received(number, number, number) == [f"Terminated{number.name}"]


def test_a_second_ctrl_c_or_sigterm_ends_at_once(handlers, monkeypatch, capfd) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        received(signal.SIGUSR1, signal.SIGTERM)
    assert ended.value.code == 143
    assert "ended at once" in capfd.readouterr().err


def test_what_nohup_ignores_stays_ignored(handlers) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert received(signal.SIGHUP) == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


# Tells when our own code begins: what comes before is the start of Python, which no program can mend.
_BEGIN = """
import os, sys
from memprobe.cli import main
os.write(1, b"begun")
sys.argv = ["memprobe", "probes", "ls"]
main()
"""


def interrupted(after_s: float) -> tuple[int, str]:
    """Start a command, send it Ctrl-C so long after its begin, and return its code and stderr."""
    command = [sys.executable, "-c", _BEGIN]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.read(process.stdout.fileno(), 5) == b"begun"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1].decode()
    return process.returncode, err


@pytest.mark.parametrize("after_s", [0.02, 0.1])
def test_ctrl_c_while_libraries_are_imported_is_130_without_a_word(after_s) -> None:
    assert interrupted(after_s) == (130, "")


@pytest.mark.slow
def test_ctrl_c_at_any_early_moment_prints_no_traceback() -> None:
    for number in range(20):
        code, err = interrupted(0.02 + 0.015 * number)
        assert code in (0, 130), (number, code, err)
        assert "Traceback" not in err, (number, err)


def test_a_background_job_goes_on_ignoring_ctrl_c() -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _BEGIN
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.read(process.stdout.fileno(), 5) == b"begun"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert b"recall" in out
