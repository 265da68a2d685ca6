"""What a command is started in: bad numbers, a folder that is gone, names and streams without UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memprobe.cli import surroundings
from memprobe.options import most_threads

HUGE = ("1000000", "9" * 25, "9" * 5000)


def started(*args, cwd=None, **environment):
    """Run the command line in a process of its own; returns exit code, stdout and stderr as bytes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEMPROBE_")}
    done = subprocess.run(
        [sys.executable, "-m", "memprobe", *args],
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**clean, "COLUMNS": "80", **environment},
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


# Numbers


@pytest.mark.parametrize("flag", ["--threads", "--limit", "--seed", "--batch-tokens", "--keep-checkpoints"])
@pytest.mark.parametrize("value", ["-1", "9" * 25, "9" * 5000, "1e9", "0x10", "٣"])
def test_an_absurd_number_is_wrong_usage(flag, value, cli, tiny, tmp_path):
    answer = cli("run", "-p", "recall", *tiny.one[:4], f"{flag}={value}", "-o", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert flag in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("threads", ["0", str(most_threads() + 1), "1000000", "-3"])
@pytest.mark.parametrize(
    "args",
    [
        ["run", "quickstart", "-m", "M", "-d", "I"],
        ["worker", "RUN"],
        ["doctor", "--invariance", "-m", "M"],
        ["demo"],
        ["lab", "train", "--text", "T", "-o", "OUT"],
    ],
    ids=lambda args: args[0],
)
def test_threads_that_would_end_a_library_never_reach_it(args, threads, cli):
    answer = cli(*args, "--threads", threads)
    assert answer.code == 2
    assert f"--threads is {threads}, not" in answer.err


def test_threads_from_a_variable_or_a_suite_are_checked_too(cli, tiny, write, monkeypatch):
    file = write("s.toml", '[[probe]]\nkind = "recall"\n[run]\nthreads = 1000000\n')
    assert "--threads is 1000000, not" in cli("run", file, *tiny.one[:4]).err
    monkeypatch.setenv("MEMPROBE_THREADS", "1000000")
    answer = cli("run", "quickstart", *tiny.one[:4])
    assert (answer.code, "--threads is 1000000, not" in answer.err) == (2, True)


def test_as_many_threads_as_may_be_asked_for_are_taken():
    import memprobe
    from memprobe.errors import InputError
    from memprobe.options import check_number

    check_number("threads", most_threads())
    assert most_threads() >= 64
    with pytest.raises(InputError, match="--threads is 1000000"):
        memprobe.run("quickstart", model="M", data="I", threads=10**6)


@pytest.mark.parametrize(
    ("name", "value"),
    zip(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), HUGE, strict=True),
    ids=["omp", "polars", "rayon"],
)
def test_a_variable_that_would_end_a_library_is_refused_before_it_is_loaded(name, value):
    code, out, err = started("probes", "ls", **{name: value})
    assert (code, out) == (2, b"")
    assert err.startswith(f"error: {name} is ".encode())


def test_variables_of_threads_that_libraries_take_are_left_alone():
    for value in ("2", "", "4,2", "abc"):
        assert started("probes", "ls", OMP_NUM_THREADS=value)[0] == 0
    assert started("probes", "ls", POLARS_MAX_THREADS="0")[0] == 2


@pytest.mark.parametrize("shard", ["1/" + "9" * 5000, "1/0", "9" * 30 + "/" + "9" * 30])
def test_an_absurd_shard_is_wrong_usage(shard, cli, finished):
    assert cli("worker", finished, "--shard", shard).code == 2


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "9" * 25, "1e400", "nan", "-inf", "[" * 2000, "0x" + "f" * 5000, "{a = " * 2000, "\x01"],
)
@pytest.mark.parametrize("key", ["recall.suffix_tokens", "recall.align", "extraction.n", "compression.tau"])
def test_an_absurd_setting_is_wrong_usage(key, value, cli, tiny, tmp_path):
    probe = key.partition(".")[0]
    answer = cli("run", "-p", probe, *tiny.one, "--set", f"{key}={value}", "-o", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert key.partition(".")[2] in answer.err


# The working directory


@pytest.mark.parametrize("args", [["probes", "ls"], ["run", "quickstart", "-m", "a/b"]])
def test_a_working_directory_that_is_gone_is_said(args, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-m", "memprobe", *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "error: the working directory does not exist any more",
        "  fix:   change to a folder that exists: cd FOLDER",
    ]


# Names that are no UTF-8

LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def latin(tmp_path):
    """A folder whose name is not UTF-8, where the file system takes such names."""
    try:
        (tmp_path / LATIN).mkdir()
    except OSError:
        pytest.skip("the file system takes only names in UTF-8")
    return tmp_path / LATIN


def test_a_working_directory_that_is_no_utf_8_is_refused(latin):
    code, _, err = started("probes", "ls", cwd=latin)
    assert code == 2
    assert b"the working directory's name is not UTF-8" in err
    assert b"caf\\udce9" in err


def test_an_argument_and_a_variable_that_are_no_utf_8_are_refused(tiny):
    code, _, err = started("run", "-p", "recall", "-m", LATIN, "-d", tiny.items)
    assert code == 2
    assert err.startswith(b"error: the argument is not text in utf-8")
    code, _, err = started("run", "-p", "recall", "-d", tiny.items, MEMPROBE_MODEL=LATIN)
    assert code == 2
    assert err.startswith(b"error: the variable MEMPROBE_MODEL is not text in utf-8")


def test_a_checkpoint_folder_that_is_no_utf_8_is_refused_by_name(latin, tiny, make, cli, tmp_path):
    sequence = latin.rename(tmp_path / "main")
    make.sequence(sequence, (1, 2), tokenizer=make.tokenizer())
    (sequence / "step2").rename(sequence / f"step2-{LATIN}")
    answer = cli("run", "-p", "recall", "-m", sequence, "-d", tiny.items, "-o", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert "step2-caf\\udce9" in answer.err
    assert not (tmp_path / "run").exists()


# Streams that cannot show everything


STREAMS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},
]


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        *((STREAMS[0], command) for command in ("summary", "gate", "--help")),
        *((each, "summary") for each in STREAMS[1:]),
        *(
            pytest.param(each, command, marks=pytest.mark.slow)
            for each in STREAMS
            for command in ("status", "gate", "run --help", "doctor")
        ),
    ],
    ids=str,
)
def test_every_line_can_be_shown_without_utf_8(command, environment, finished, write):
    rules = write("r.toml", '[[rule]]\nid = "é→中"\nprobe = "recall"\nmetric = "exact_frac"\nmax = 0.9\n')
    more = {"gate": [str(finished), "--rules", str(rules)]}.get(command, [str(finished)])
    args = command.split() if "-" in command or command == "doctor" else [command, *more]
    code, out, err = started(*args, **environment)
    assert code == 0, err
    if environment.get("PYTHONIOENCODING") != "latin-1" and "POSIX" not in environment.values():
        assert out.isascii()
        assert err.isascii()
    assert len(out) > 50


def test_bars_and_arrows_have_a_plain_stand_in_of_one_column():
    surroundings.tame()
    shown = "▁▂▃▄▅▆▇█ → ─┼ … – é中".encode("ascii", surroundings._PLAIN).decode()
    assert shown == "_.:-=+*# > -+ ~ - \\xe9\\u4e2d"


def test_json_keeps_every_name_whatever_the_stream(finished, tmp_path):
    import shutil

    run = shutil.copytree(finished, tmp_path / "é→中")
    answers = []
    for encoding in ("utf-8", "ascii"):
        code, out, err = started("summary", str(run), "--json", PYTHONIOENCODING=encoding)
        assert code == 0, err
        answers.append(json.loads(out.decode(encoding)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("columns", ["0", "1", "-5", "²", "99999999999", "9" * 5000, "x", ""])
def test_an_absurd_width_is_none(columns):
    assert not surroundings.is_width(columns)
    assert surroundings.is_width("80")


@pytest.mark.parametrize("columns", ["²", "99999999999"])
def test_an_absurd_width_is_passed_over(columns, finished):
    code, out, err = started("summary", str(finished), COLUMNS=columns)
    assert code == 0, err
    assert max(map(len, out.decode().splitlines())) <= 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "command",
    [
        ["probes", "ls"],
        *(pytest.param(each, marks=pytest.mark.slow) for each in (["--help"], ["summary", "RUN", "--json"])),
    ],
)
def test_a_full_stdout_is_4_and_a_closed_one_is_nothing(command, finished):
    args = [str(finished) if each == "RUN" else each for each in command]
    shell = " ".join([sys.executable, "-m", "memprobe", *args])
    full = subprocess.run(["bash", "-c", f"{shell} >/dev/full"], capture_output=True, text=True, check=False)
    assert (full.returncode, "Traceback" in full.stderr) == (4, False)
    assert "No space left on device" in full.stderr
    closed = subprocess.run(["bash", "-c", f"{shell} >&-"], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
    silent = subprocess.run(["bash", "-c", f"{shell} 2>&-"], capture_output=True, text=True, check=False)
    assert silent.returncode == 0
