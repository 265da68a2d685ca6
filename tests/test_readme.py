"""The commands that README.md shows exist, with every flag, and its Python runs.

Taken are the lines of fenced `sh`, `bash` and `console` blocks that begin with `memprobe ` or `$ memprobe `;
a backslash at the end goes on in the next line, `#` after a blank begins a comment. Whatever a line
names (MODEL, RUN) need not exist: lines are parsed, not run. Fenced `python` blocks are run, each in a
folder of its own in which `runs/my-model` is a small checkpoint sequence and `items.jsonl` its items.
"""

import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import typer

README = Path(__file__).parents[1] / "README.md"
_FENCE = re.compile(r"^```(?:sh|bash|console)\s*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\s*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Return the command lines of a document, without prompt and comment."""
    found = []
    for block in _FENCE.findall(text):
        shown = block.replace("\\\n", " ").splitlines()
        for line in (each.strip().removeprefix("$ ") for each in shown):
            if line.startswith("memprobe "):
                words = re.split(r"\s#\s|\s#$|\s[|>&]", line)[0]
                found.append(" ".join(words.split()))
    return found


def parse(command: str) -> None:
    """Parse a command line down to its last subcommand, and run nothing.

    Raises:
        TyperException: It would be refused as wrong usage.
    """
    from memprobe.cli.app import app

    group, words = typer.main.get_command(app), shlex.split(command)[1:]
    while True:
        # Required arguments are checked, what they name is not.
        context = group.make_context(group.name, list(words))
        if not hasattr(group, "commands"):
            return
        _, group, words = group.resolve_command(context, [*context._protected_args, *context.args])


def test_a_document_s_commands_are_found():
    text = (
        "```sh\nmake demo\nmemprobe run \\\n  quickstart -m M  # a comment\nmemprobe demo | head -3\n```\n"
        "```console\n$ memprobe summary RUN\nmain: 3 checkpoints\n```\n"
        "```python\nmemprobe = 3\n```\n```text\nmemprobe no command\n```\n"
    )
    assert commands(text) == ["memprobe run quickstart -m M", "memprobe demo", "memprobe summary RUN"]


@pytest.mark.parametrize(
    "wrong",
    [
        "memprobe rum x",
        "memprobe run --modle x",
        "memprobe summary",
        "memprobe probes lss",
        "memprobe export R --to x",
    ],
)
def test_a_wrong_command_would_be_noticed(wrong):
    with pytest.raises(typer.TyperException):
        parse(wrong)


def test_the_readme_shows_commands():
    assert "memprobe demo" in commands(README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", list(dict.fromkeys(commands(README.read_text(encoding="utf-8")))))
def test_a_command_of_the_readme_parses(command):
    parse(command)


def test_names_of_suites_and_probes_in_the_readme_exist():
    from memprobe.probes.base import find
    from memprobe.suite import shipped_suites

    for command in commands(README.read_text(encoding="utf-8")):
        words = shlex.split(command)
        for flag, word in itertools.pairwise(words):
            if flag in ("-p", "--probe"):
                find(word)
        if words[1] == "run" and len(words) > 2 and not words[2].startswith("-") and words[2].islower():
            assert words[2] in shipped_suites() or words[2].endswith(".toml"), command


def scripts() -> list[str]:
    """Return the Python blocks of the README."""
    return _PYTHON.findall(README.read_text(encoding="utf-8"))


@pytest.fixture
def desk(tiny, tmp_path, monkeypatch):
    """A working directory that holds what the README's scripts name; one thread."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "my-model").symlink_to(tiny.model, target_is_directory=True)
    shutil.copy(tiny.items, tmp_path / "items.jsonl")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_readme_shows_python_that_runs_memprobe():
    assert any("memprobe.run(" in script for script in scripts())


@pytest.mark.parametrize("script", scripts(), ids=itertools.count())
@pytest.mark.usefixtures("desk")
def test_a_script_of_the_readme_runs_as_it_stands(script):
    exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
    assert list(Path("reports").iterdir())
