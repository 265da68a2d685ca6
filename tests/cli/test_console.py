"""Streams: plain lines where nobody looks, colour and a bar where somebody does, and who decides."""

import io
import json
import math
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from memprobe.cli import console
from memprobe.errors import Problem
from memprobe.scoring.chain import SearchStep

ESCAPE = b"\x1b"


def on_terminal(*args: str, **environment: str) -> tuple[int, bytes]:
    """Run a command whose stdout and stderr are a terminal of 80 columns; returns exit code and output."""
    parent, child = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "memprobe", *args],
        stdin=child,
        stdout=child,
        stderr=child,
        env=clean | {"COLUMNS": "80", "TERM": "xterm-256color"} | environment,
    )
    os.close(child)
    written = b""
    while chunk := _read(parent):
        written += chunk
    os.close(parent)
    return process.wait(60), written


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


QUESTIONS = (["--help"], ["run", "--help"], ["run", "--modle"], ["probes", "ls"], ["summary", "RUN"])


@pytest.mark.parametrize("args", QUESTIONS, ids=" ".join)
def test_no_color_means_no_control_codes_even_on_a_terminal(args, finished):
    args = [str(finished) if arg == "RUN" else arg for arg in args]
    code, written = on_terminal(*args, NO_COLOR="1")
    assert code == (2 if "--modle" in args else 0)
    assert len(written) > 100
    assert ESCAPE not in written


def test_a_terminal_gets_colour(finished):
    assert ESCAPE in on_terminal("--help")[1]
    assert ESCAPE in on_terminal("summary", str(finished))[1]


@pytest.mark.parametrize("variable", ["GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS"])
def test_a_pipe_gets_plain_lines_whatever_other_tools_do(variable, finished):
    for args in (["--help"], ["summary", str(finished)], ["run", "--modle"]):
        done = subprocess.run(
            [sys.executable, "-m", "memprobe", *args],
            capture_output=True,
            check=False,
            env=os.environ | {variable: "1"},
        )
        assert ESCAPE not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        # https://no-color.org: an empty value does not count
        (True, {"TERM": "xterm", "NO_COLOR": ""}, False),
        (False, {"TERM": "xterm"}, True),
    ],
)
def test_plain_is_decided_by_stream_and_environment(terminal, environment, expected, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert console.plain(SimpleNamespace(isatty=lambda: terminal)) is expected


def test_a_problem_is_written_with_its_place_and_its_fix(capsys):
    console.show_problems([Problem("what", "where", "fix"), Problem("alone")])
    assert capsys.readouterr() == ("", "error: what\n  where: where\n  fix:   fix\nerror: alone\n")


@pytest.mark.parametrize(
    ("quiet", "verbose", "told"), [(False, False, "a\nb\n"), (True, False, "b\n"), (True, True, "b\n")]
)
def test_quiet_keeps_errors_and_drops_notes(quiet, verbose, told, capsys):
    console.set_verbosity(quiet, verbose)
    console.note("a")
    console.say("b")
    console.set_verbosity(False, False)
    assert capsys.readouterr().err == told


def test_what_the_user_named_is_shown_as_it_is(capsys, monkeypatch):
    """Names in brackets are no styles, and colons no emoji."""
    from memprobe.report.plain import plain_table

    monkeypatch.setenv("COLUMNS", "80")
    table = plain_table("[red]model[/x]")
    table.add_column("[group]")
    table.add_row("[bold]a[/bold] :smile: [/]")
    console.show(table)
    console.show("[suite] :+1:")
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines() if "─" not in line]
    assert shown == ["[red]model[/x]", "[group]", "[bold]a[/bold] :smile: [/]", "[suite] :+1:"]


def test_json_never_holds_what_json_cannot(capsys):
    with pytest.raises(ValueError, match="JSON compliant"):
        console.show_json({"x": float("nan")})


def test_json_says_its_schema_first_and_has_null_for_infinities_at_any_depth(capsys):
    console.show_json({"a": math.inf, "b": [{"c": -math.inf, "d": (1.5, math.inf)}], "e": "inf", "n": 3})
    written = capsys.readouterr().out
    assert written.startswith('{\n  "schema_version": 1,\n')
    assert json.loads(written) == {
        "schema_version": 1,
        "a": None,
        "b": [{"c": None, "d": [1.5, None]}],
        "e": "inf",
        "n": 3,
    }


def progress(**changes):
    about = {
        "checkpoint": 1,
        "n_checkpoints": 2,
        "revision": "step0",
        "units_done": 0,
        "n_units": 4,
        "items_done": 0,
        "search": None,
    }
    return SimpleNamespace(**(about | changes))


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(console.time, "monotonic", lambda: now.s)
    return now


def test_plain_progress_tells_each_checkpoint_rate_and_time_left(clock, capsys):
    with console.Progressing() as listener:
        listener.scoring(progress())
        clock.s += 8
        listener.scoring(progress(items_done=40, units_done=1))  # the same checkpoint, too soon
        clock.s += 4
        listener.scoring(progress(items_done=60, units_done=2))
        listener.scoring(progress(items_done=60, units_done=2, checkpoint=2, revision="step9"))
    # 60 items in 12 s are 5 a second; 2 of 4 units took 12 s, so the other 2 take 12 more.
    assert capsys.readouterr().err.splitlines() == [
        "scoring checkpoint 1/2 step0: 0/4 units, 0 items/s",
        "scoring checkpoint 1/2 step0: 2/4 units, 5 items/s, about 12 s left",
        "scoring checkpoint 2/2 step9: 2/4 units, 5 items/s, about 12 s left",
    ]


def test_a_run_that_goes_on_does_not_take_old_units_for_fast_ones(clock, capsys):
    """Two of four units were there before: the time left is that of what this process did."""
    with console.Progressing() as listener:
        listener.scoring(progress(units_done=2))
        clock.s += 12
        listener.scoring(progress(items_done=30, units_done=3))
    # One unit took 12 s, one is left.
    assert capsys.readouterr().err.splitlines()[-1].endswith("3/4 units, 2 items/s, about 12 s left")


# A run that takes days


def told_days(err):
    return [line for line in err.splitlines() if line.startswith("note: about")]


def test_a_run_that_would_take_days_says_so_once_and_what_shortens_it(clock, capsys):
    # 1 unit of 100 in 3,600 s: the 99 left take 99 h, 4.1 days.
    with console.Progressing(run="reports/big") as listener:
        listener.scoring(progress(n_units=100))
        clock.s += 3600
        listener.scoring(progress(n_units=100, items_done=9, units_done=1))
        listener.scoring(progress(n_units=100, items_done=9, units_done=1))
    err = capsys.readouterr().err
    assert told_days(err) == ["note: about 4.1 days are left at this speed; more processes share them:"]
    assert "      memprobe worker reports/big\n" in err
    for word in ("--steps", "--limit", "--dtype bfloat16"):
        assert word in err
    assert max(map(len, err.splitlines())) <= 80


@pytest.mark.parametrize(
    ("n_units", "units_done", "spent_s", "told"),
    [
        (1000, 0, 1e6, False),  # nothing done: no rate
        (100_000, 1, 59, False),  # 68 days, but 59 s say little
        (100_000, 1, 60, True),  # the same after 60 s
        (100, 50, 86_399, False),  # a second less than a day
        (100, 50, 86_400, True),
    ],
)
def test_days_are_foretold_as_soon_as_enough_is_known(n_units, units_done, spent_s, told, clock, capsys):
    with console.Progressing() as listener:
        listener.scoring(progress(n_units=n_units))
        clock.s += spent_s
        listener.scoring(progress(n_units=n_units, items_done=1, units_done=units_done))
    assert bool(told_days(capsys.readouterr().err)) is told


def test_units_of_an_earlier_process_do_not_make_this_one_look_fast(clock, capsys):
    """90 of 100 were there; this process did 1 in a day, so 9 days are left."""
    with console.Progressing() as listener:
        listener.scoring(progress(n_units=100, units_done=90))
        clock.s += 86_400
        listener.scoring(progress(n_units=100, units_done=91, items_done=1))
    assert told_days(capsys.readouterr().err)[0].startswith("note: about 9.0 days are left")


def test_a_terminal_gets_a_bar_that_leaves_nothing_behind(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with console.Progressing() as listener:
        listener.stage("read")
        listener.bar.refresh()
        listener.stage("score")
        listener.scoring(progress(units_done=1, items_done=9))
        listener.bar.refresh()
        listener.note("worth knowing")
        listener.stage("measure")
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "reading items and checkpoints" in written
    assert "1/4 units" in written
    assert "worth knowing" in written
    # The line is emptied and the cursor is back.
    assert screen.getvalue().endswith("\r\x1b[2K\x1b[?25h\r")


def test_a_search_says_where_it_stands():
    step = SearchStep(
        target=3,
        n_targets=12,
        n_tokens=5,
        best_loss_nats=0.4321,
        n_matches=1,
        best_tokens=6,
        evaluations_used=12_345,
        budget=20_000,
        left_s=754,
    )
    assert console.search_line(step) == (
        "target 3/12, trying 5 tokens, loss 0.43 nats, shortest 6, 1 match, 12,345/20,000 tried, "
        "about 12 min 34 s left"
    )
    first = replace(step, n_tokens=1, best_loss_nats=None, best_tokens=None, n_matches=0, left_s=None)
    assert console.search_line(first) == "target 3/12, trying 1 token, 0 matches, 12,345/20,000 tried"
