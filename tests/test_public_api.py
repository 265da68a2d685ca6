"""What a user's own Python may rely on: types, frames, examples, threads; see contract.md, section 7.

The type checker is run on a user's script against the installed package, so `py.typed` must be there and
every public name must have the type that it has at run time.
"""

import asyncio
import importlib.util
import inspect
import subprocess
import sys
import threading
from dataclasses import fields
from importlib import resources
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import InputError, SuiteError
from memprobe.options import GivenOptions, RunOptions

SCRIPT = """
from pathlib import Path
from typing import assert_type

import polars as pl

import memprobe

run = memprobe.run("quickstart", model="runs/my-model", data=[Path("items.jsonl")], steps="0,10", threads=1)
assert_type(run, memprobe.Run)
assert_type(run.summary, pl.DataFrame)
assert_type(run.table("recall"), pl.DataFrame)
assert_type(run.path, Path)
assert_type(memprobe.open_run("reports/mine").summary, pl.DataFrame)
assert_type(memprobe.open_run(Path("reports/mine")).finished, bool)
suite = memprobe.load_suite("hayes2024")
assert_type([entry.probe.name for entry in suite.entries], list[str])
assert_type(list(memprobe.probes()), list[str])
assert_type(memprobe.__version__, str)
assert_type(memprobe.gate("reports/mine", Path("rules.toml")).exit_code, int)
memprobe.run(suite, model="x", data="y")
memprobe.run(probes="recall", settings=["recall.suffix_tokens=5"], model="x", data="y", dtype="bfloat16")
try:
    memprobe.open_run("nowhere")
except memprobe.MemprobeError as error:
    assert_type(error.exit_code, int)
"""
WRONG = {
    'memprobe.run("quickstart", modle="x")': 'Unexpected keyword argument "modle"',
    'memprobe.run("quickstart", model="x", threads="2")': 'Argument "threads" to "run" has incompat',
    'memprobe.run("quickstart", model="x", dtype="float8")': 'Argument "dtype" to "run" has incompat',
    "run.sumary": '"Run" has no attribute "sumary"',
    "memprobe.rum": 'Module has no attribute "rum"',
}
# Torch and its like take a minute to check and stand in no signature of ours.
CONFIG = """
[mypy]
strict = True
[mypy-torch.*,transformers.*,scipy.*,datasets.*,huggingface_hub.*,rich.*,numpy.*,tokenizers.*,safetensors.*]
follow_imports = skip
follow_imports_for_stubs = True
ignore_missing_imports = True
"""


def test_the_package_says_that_it_is_typed():
    assert resources.files("memprobe").joinpath("py.typed").is_file()


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_a_user_s_script_is_checked_and_its_mistakes_are_found(tmp_path):
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text("import memprobe\nrun = memprobe.open_run('x')\n" + "\n".join(WRONG))
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for line in errors if not line.startswith("wrong.py")] == []
    # The first two lines are right, each other holds the one mistake that it was written for.
    assert [int(line.split(":")[1]) for line in errors] == list(range(3, 3 + len(WRONG)))
    for line, told in zip(errors, WRONG.values(), strict=True):
        assert told in line


def test_the_keyword_arguments_are_the_options_of_a_run():
    assert list(GivenOptions.__annotations__) == [each.name for each in fields(RunOptions)]


@pytest.mark.parametrize("name", ["run", "open_run", "load_suite", "probes", "Run"])
def test_a_public_name_is_explained_with_an_example(name):
    text = inspect.getdoc(getattr(memprobe, name))
    example = text.split("Example:\n")[1]
    assert "memprobe." in example.split("\n\n")[0]


def test_frames_are_polars(finished):
    run = memprobe.open_run(finished)
    for name in ("recall", "extraction", "items", "summary"):
        assert isinstance(run.table(name), pl.DataFrame)
    assert run.summary.equals(run.table("summary"))
    assert run.path == Path(finished)


def test_paths_and_single_names_stand_without_a_list(run, tiny):
    again = run(
        probes="recall", settings="recall.verify_items=0", model=Path(tiny.model), data=Path(tiny.items)
    )
    assert set(again.table("summary")["probe"]) == {"recall"}
    assert again.manifest["checks"]["greedy_verified"] == 0


def test_a_run_works_in_another_thread(run):
    """Signals can be handled in the main thread alone; a notebook server may call from another."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run(probes=["recall"])))
    thread.start()
    thread.join()
    assert found[0].finished


def test_a_run_works_inside_an_event_loop(run):
    """As in a notebook, whose cells run inside one."""

    async def cell():
        return run(probes=["recall"])

    assert asyncio.run(cell()).finished


def test_nothing_is_printed(run, capfd):
    run(probes=["recall"])
    assert capfd.readouterr() == ("", "")


def test_wrong_options_are_named_all_at_once_before_any_work(tiny, tmp_path):
    with pytest.raises(InputError) as caught:
        memprobe.run(
            "quickstart", modle=tiny.model, threads="2", dtype="float8", seed=None, out=tmp_path / "run"
        )
    text = str(caught.value)
    assert "unknown setting `modle`, did you mean `model`?" in text
    assert '`threads` is "2", not a whole number' in text
    assert '`dtype` is "float8", allowed: auto, float32, bfloat16, float16' in text
    assert "seed" not in text.partition("settings are")[0]
    assert not (tmp_path / "run").exists()


def test_a_wrong_probe_is_named_whole():
    with pytest.raises(SuiteError, match="unknown probe `recal`, did you mean `recall`"):
        memprobe.run(probes="recal", model="x", data="y")
