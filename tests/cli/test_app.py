"""Exit codes: each kind of end has its own, and says what, where and what to do.

A forked process is a real one: signals, streams and exit codes are those of the shell.
"""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memprobe import __version__ as memprobe_version
from memprobe.pipeline.suite import shipped_suites


def memprobe(*args: object, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memprobe", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def test_success_is_0_in_a_process_of_its_own(finished):
    done = memprobe("summary", finished)
    assert done.returncode == 0, done.stderr
    assert "recall of main" in done.stdout
    assert done.stderr == ""


def test_wrong_usage_is_2_in_a_process_of_its_own(tmp_path):
    done = memprobe("run", "quickstrt", "-m", "x", "-d", "y", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: unknown suite `quickstrt`, did you mean `quickstart`?\n"
        f"  fix:   suites are {', '.join(shipped_suites())}; "
        "a path must end in .toml\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_judge_is_3_in_a_process_of_its_own(tmp_path):
    done = memprobe("summary", tmp_path)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: there is no run here: manifest.json is missing",
        f"  where: {tmp_path}",
        "  fix:   name the directory that `memprobe run` printed",
    ]


def test_one_corrupt_checkpoint_of_three_is_4_and_the_others_are_kept(tiny, tmp_path, forked):
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    weights = folder / "step10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    answer = forked("run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", "run").answer()
    assert answer.code == 4
    assert "1 checkpoint failed (see errors.jsonl): what follows is incomplete" in answer.out
    assert "recall of main" in answer.out
    last = answer.err.splitlines()[-3:]
    assert last[0].startswith("error: 1 checkpoint failed: step10: ")
    assert last[1:] == [
        "  where: run/errors.jsonl",
        "  fix:   the others are kept; fix these and run the same command again",
    ]
    assert "Traceback" not in answer.err
    (line,) = (tmp_path / "run" / "errors.jsonl").read_text().splitlines()
    assert {**json.loads(line), "error": ""} == {
        "model": "main",
        "revision": "step10",
        "step": 10,
        "error": "",
    }


def test_a_pickle_is_5_in_a_process_of_its_own(tiny, tmp_path, forked):
    folder = shutil.copytree(Path(tiny.model), tmp_path / "pickled")
    torch.save(load_file(folder / "step20" / "model.safetensors"), folder / "step20" / "pytorch_model.bin")
    (folder / "step20" / "model.safetensors").unlink()
    answer = forked("run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", "run").answer()
    assert answer.code == 5
    assert "pickle" in answer.err
    assert "--allow-pickle" in answer.err
    assert not (tmp_path / "run").exists()


def test_the_network_under_offline_is_5(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    answer = cli(
        "run", "-p", "recall", "-m", "nobody/nothing", "-d", tiny.items, "--offline", "-o", tmp_path / "r"
    )
    assert answer.code == 5
    assert "the network is off" in answer.err


def test_a_bug_is_70_and_asks_to_be_reported(cli, finished, monkeypatch):
    def burst(*args, **kwargs):
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("memprobe.report.console.summary_view", burst)
    answer = cli("summary", finished)
    assert answer.code == 70
    assert answer.err.splitlines() == [
        "internal error: ZeroDivisionError: deep inside",
        f"this is a bug in memprobe {memprobe_version}; "
        "please report it with the output of the same command and -v",
    ]
    assert "Traceback" in cli("summary", finished, "-v").err


def test_a_panic_of_a_library_is_70_and_never_1(cli, finished, monkeypatch):
    class PanicException(BaseException):
        """As polars' own: no Exception."""

    def panic(*args, **kwargs):
        raise PanicException("out of its mind")

    monkeypatch.setattr("memprobe.report.console.summary_view", panic)
    assert cli("summary", finished).code == 70


def test_an_expected_failure_shows_its_traceback_only_when_asked(cli, tmp_path):
    assert "Traceback" not in cli("summary", tmp_path).err
    answer = cli("summary", tmp_path, "-v")
    assert answer.code == 3
    assert "InvalidRunError" in answer.err
    assert "Traceback" in answer.err


@pytest.mark.parametrize(
    ("number", "code", "fix"),
    [
        (errno.EACCES, 2, "name another place"),
        (errno.EROFS, 2, "name another place"),
        (errno.ENOSPC, 4, "make room; the same command goes on from here"),
        (errno.EDQUOT, 4, "make room"),
        # A closed socket or a file of ours that is gone is no choice of the user's.
        (errno.ENOENT, 70, "please report it"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(number, code, fix, cli, finished, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(number, "the system's words", "/some/file")

    monkeypatch.setattr("memprobe.report.console.summary_view", refuse)
    answer = cli("summary", finished)
    assert answer.code == code
    assert "the system's words" in answer.err
    assert "/some/file" in answer.err
    assert fix in answer.err


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_run_directory_that_cannot_be_is_refused_in_words(place, cli, tiny, tmp_path):
    (tmp_path / "file").write_text("taken")
    answer = cli("run", "-p", "recall", *tiny.one, "-o", tmp_path / place)
    assert answer.code == 2
    assert "the system says: Not a directory" in answer.err
    assert (tmp_path / "file").read_text() == "taken"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["sumary", "x"], "No such command 'sumary'. Did you mean 'summary'?"),
        (["run", "--modle", "x"], "No such option: --modle"),
        (["run", "--dtype", "float64"], "'float64' is not one of 'auto', 'float32', 'bfloat16', 'float16'"),
        (["run", "--limit", "few"], "Input should be a valid integer"),
        (["run", "-p"], "'-p' requires an argument"),
        (["summary"], "Missing argument"),
        (["export", "x"], "no format was given"),
        (["export", "x", "--to", "xlsx"], "'xlsx' is not one of"),
        (["probes", "describe"], "Missing argument"),
        (["lab", "train", "-o", "x"], "Missing option '--text'"),
    ],
)
def test_what_cannot_be_parsed_is_2_and_named(args, told, cli):
    answer = cli(*args)
    assert answer.code == 2
    assert told in " ".join(answer.err.replace("│", " ").split())
    assert answer.out == ""


def test_no_arguments_show_the_help(cli):
    answer = cli()
    assert answer.code == 2
    assert "demo" in answer.out + answer.err


def test_version_and_completion_are_there(cli):
    import memprobe

    assert cli("--version").out == f"memprobe {memprobe.__version__}\n"
    assert "--install-completion" in cli("--help").out
    assert cli("-h").out == cli("--help").out


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["probes", "ls"],
        ["probes", "ls", "--json"],
        ["summary", "RUN"],
        ["summary", "RUN", "--json"],
    ],
)
def test_a_reader_who_leaves_at_once_is_no_failure(args, finished):
    command = [sys.executable, "-m", "memprobe", *[str(finished) if arg == "RUN" else arg for arg in args]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(30), process.stderr.read()) == (0, "")


def test_a_reader_who_leaves_does_not_hide_another_exit_code(tmp_path):
    command = [sys.executable, "-m", "memprobe", "summary", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    process.stdout.close()
    assert process.wait(30) == 3


def test_a_bug_in_a_real_process_is_70(forked, finished):
    broken = "import memprobe.report.console as c\ndel c.head_lines\n"
    answer = forked("summary", finished, prelude=broken).answer()
    assert (answer.code, answer.out) == (70, "")
    assert "NameError" in answer.err
    assert "please report it" in answer.err
    assert "Traceback" not in answer.err


def test_the_network_refused_in_a_real_process_is_5(forked, tiny, tmp_path):
    answer = forked(
        "run", "-p", "recall", "-m", "org/absent", "-d", tiny.items, "-o", tmp_path / "run", "--offline"
    ).answer()
    assert answer.code == 5
    assert "org/absent" in answer.err
    assert not (tmp_path / "run").exists()


def to_a_full_disk(*args: object, stream: str = "stdout") -> subprocess.CompletedProcess[str]:
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        command = [sys.executable, "-m", "memprobe", *map(str, args)]
        return subprocess.run(command, text=True, check=False, **streams)


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@needs_full
@pytest.mark.parametrize(
    "args", [["--help"], ["probes", "ls"], ["probes", "ls", "--json"], ["summary", "RUN"]]
)
def test_a_full_disk_behind_stdout_is_4_and_said(args, finished):
    done = to_a_full_disk(*[finished if arg == "RUN" else arg for arg in args])
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "error: the system says: No space left on device",
        "  fix:   make room; the same command goes on from here",
    ]


@needs_full
@pytest.mark.parametrize(
    ("args", "code"), [(["summary", "nowhere"], 3), (["sumary"], 2), (["export", "x"], 2)]
)
def test_an_error_that_nobody_can_read_keeps_its_code(args, code, tmp_path):
    assert to_a_full_disk(*args, stream="stderr").returncode == code


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_a_stream_that_is_closed_is_no_failure(closed, code, finished):
    done = subprocess.run(
        f"{sys.executable} -m memprobe summary {finished} {closed}",
        shell=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_message_about_a_hostile_name_sends_nothing_to_the_terminal(cli, tmp_path):
    answer = cli("summary", tmp_path / "\x1b[31mred\u202e")
    assert answer.code == 3
    assert "\x1b" not in answer.err
    assert "\\x1b[31mred\\u202e" in answer.err
