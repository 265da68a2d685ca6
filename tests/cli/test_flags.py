"""Every command has -q, -v and --json, each may come from the environment; --json has stdout to itself."""

import json

import pytest
import typer

from memprobe.cli.app import app

EVERYWHERE = {"--json", "--quiet", "-q", "--verbose", "-v"}


def commands(group, place=()):
    """Every command of the application, as the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*place, name))
        else:
            yield (*place, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_walk_finds_commands_at_both_levels():
    assert {("run",), ("demo",), ("doctor",), ("init",), ("probes", "ls"), ("lab", "train")} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_takes_the_flags_that_mean_the_same_everywhere(name):
    flags = {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
    assert flags >= EVERYWHERE


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_long_flag_has_the_one_variable_of_its_name(name):
    for parameter in COMMANDS[name].params:
        long = [flag for flag in parameter.opts if flag.startswith("--") and flag != "--help"]
        if long:
            assert parameter.envvar == "MEMPROBE_" + long[0][2:].replace("-", "_").upper()


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_says_in_one_line_what_it_does(name):
    first = (COMMANDS[name].help or "").splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 100


@pytest.mark.parametrize(
    "args",
    [
        ["probes", "ls"],
        ["probes", "describe", "recall"],
        ["probes", "describe", "hayes2024"],
        ["summary", "RUN"],
        ["export", "RUN"],
        ["doctor"],
        ["init", "NEW"],
        ["status", "RUN"],
        ["checkpoints", "ls", "MODEL"],
        ["run", "-p", "recall", "-m", "MODEL", "-d", "ITEMS", "-o", "NEW", "--dry-run"],
    ],
    ids=" ".join,
)
def test_json_is_one_object_that_begins_with_its_schema(args, cli, finished, tiny, tmp_path):
    words = {"RUN": finished, "NEW": tmp_path / "new", "MODEL": tiny.model, "ITEMS": tiny.items}
    answer = cli(*(words.get(arg, arg) for arg in args), "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert next(iter(document.items())) == ("schema_version", 1)


@pytest.mark.parametrize(
    "args",
    [
        ["summary", "NOWHERE"],
        ["export", "NOWHERE"],
        ["status", "NOWHERE"],
        ["probes", "describe", "nothing"],
        ["run", "nothing"],
        ["checkpoints", "ls", "NOWHERE"],
    ],
    ids=" ".join,
)
def test_a_failure_leaves_stdout_empty(args, cli, tmp_path):
    answer = cli(*(tmp_path / "nowhere" if arg == "NOWHERE" else arg for arg in args), "--json")
    assert answer.code in (2, 3)
    assert answer.out == ""
    assert answer.err.startswith("error: ")
