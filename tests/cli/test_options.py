"""Flags: precedence over variables and suites, their forms, and what is said of impossible values."""

import json
import sys
from dataclasses import fields

import pytest
import typer

from memprobe.cli import options
from memprobe.errors import InputError
from memprobe.options import RunOptions


@pytest.fixture
def asked(cli, monkeypatch):
    """Return what `memprobe run` would answer, as a question; nothing is run."""
    questions = []

    def catch(question, **more):
        questions.append((question, more["fresh"]))
        raise typer.Exit

    monkeypatch.setattr(sys.modules["memprobe.pipeline.api"], "answer_question", catch)

    def ask(*args):
        answer = cli("run", *args)
        assert answer.code == 0, answer.err
        return questions[-1]

    return ask


@pytest.fixture(autouse=True)
def _imported():
    import memprobe.pipeline.api  # noqa: F401 - so that it can be patched


SUITE = """
[suite]
name = "mine"
[run]
model = "from-suite"
data = ["a.jsonl", "b.jsonl"]
seed = 2
bos = "none"
offline = true
limit = 5
[[probe]]
kind = "recall"
suffix_tokens = 4
"""


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(SUITE)
    return str(file)


def test_a_flag_goes_before_a_variable_before_the_suite_before_the_default(asked, suite, monkeypatch):
    assert RunOptions().seed == 0
    assert asked(suite)[0].options.seed == 2
    monkeypatch.setenv("MEMPROBE_SEED", "3")
    assert asked(suite)[0].options.seed == 3
    assert asked(suite, "--seed", "4")[0].options.seed == 4
    assert asked("quickstart", "-m", "x", "-d", "y")[0].options.seed == 3


def test_false_is_a_value_and_not_silence(asked, suite, monkeypatch):
    assert asked(suite)[0].options.offline is True
    assert asked(suite, "--no-offline")[0].options.offline is False
    monkeypatch.setenv("MEMPROBE_OFFLINE", "0")
    assert asked(suite)[0].options.offline is False
    assert asked(suite, "--offline")[0].options.offline is True


def test_the_suite_gives_what_no_flag_gives(asked, suite):
    found = asked(suite)[0]
    assert found.options.model == ("from-suite",)
    assert found.options.data == ("a.jsonl", "b.jsonl")
    assert (found.options.bos, found.options.limit) == ("none", 5)
    assert found.suite.entries[0].settings.suffix_tokens == 4
    assert found.out.name.startswith("mine-")


def test_models_and_files_of_the_command_line_replace_those_of_the_suite(asked, suite):
    found = asked(suite, "-m", "one", "-m", "two", "-d", "c.jsonl")[0].options
    assert (found.model, found.data) == (("one", "two"), ("c.jsonl",))


VALUES = {
    "model": ("x", ("x",)),
    "data": ("y", ("y",)),
    "map": ("text=a", ("text=a",)),
    "control": ("z", "z"),
    "steps": ("0,10", "0,10"),
    "stages": ("a,b", "a,b"),
    "tokenizer": ("tok", "tok"),
    "limit": ("7", 7),
    "device": ("cuda:1", "cuda:1"),
    "dtype": ("bfloat16", "bfloat16"),
    "batch_tokens": ("512", 512),
    "bos": ("forced", "forced"),
    "seed": ("9", 9),
    "threads": ("3", 3),
    "keep_checkpoints": ("all", 0),
    "offline": ("1", True),
    "trust_remote_code": ("true", True),
    "allow_pickle": ("yes", True),
    "include_text": ("on", True),
    "on_bad_item": ("skip", "skip"),
}


@pytest.mark.parametrize("name", [each.name for each in fields(RunOptions)])
def test_every_option_has_a_variable_of_its_long_name(name, asked, monkeypatch):
    text, value = VALUES[name]
    monkeypatch.setenv("MEMPROBE_MODEL", "m")
    monkeypatch.setenv("MEMPROBE_DATA", "d")
    monkeypatch.setenv(f"MEMPROBE_{name.upper()}", text)
    assert getattr(asked("quickstart")[0].options, name) == value


@pytest.mark.parametrize("name", [each.name for each in fields(RunOptions)])
def test_every_option_may_stand_in_a_suite(name, asked, tmp_path):
    value = VALUES[name][1]
    written = json.dumps(list(value) if isinstance(value, tuple) else value)
    run = {"model": '["m"]', "data": '["d"]'} | {name: written}
    lines = [f"{key} = {text}" for key, text in run.items()]
    file = tmp_path / "s.toml"
    file.write_text("\n".join(["[run]", *lines, "[[probe]]", 'kind = "recall"']))
    assert getattr(asked(str(file))[0].options, name) == value


def test_probe_settings_and_directory_have_variables_too(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMPROBE_PROBE", "recall extraction")
    monkeypatch.setenv("MEMPROBE_SET", "recall.suffix_tokens=3")
    monkeypatch.setenv("MEMPROBE_OUT", str(tmp_path / "there"))
    found = asked("-m", "x", "-d", "y")[0]
    assert [entry.probe.name for entry in found.suite.entries] == ["recall", "extraction"]
    assert found.suite.entries[0].settings.suffix_tokens == 3
    assert found.out == tmp_path / "there"


@pytest.mark.parametrize(("flags", "fresh"), [([], False), (["--resume"], False), (["--fresh"], True)])
def test_a_run_resumes_unless_fresh_is_asked(flags, fresh, asked):
    assert asked("quickstart", "-m", "x", "-d", "y", *flags)[1] is fresh


BOOLEANS = ("offline", "trust_remote_code", "allow_pickle", "include_text")


@pytest.mark.parametrize("value", [True, False])
def test_both_forms_of_every_boolean_flag_reach_the_manifest(value, cli, tiny, tmp_path, monkeypatch):
    forms = [f"--{'' if value else 'no-'}{name.replace('_', '-')}" for name in BOOLEANS]
    for name in BOOLEANS:
        monkeypatch.setenv(f"MEMPROBE_{name.upper()}", str(not value))
    answer = cli("run", "-p", "recall", *tiny.one, "-L", "3", "-o", tmp_path / "run", "-q", *forms)
    assert answer.code == 0, answer.err
    flags = json.loads((tmp_path / "run" / "manifest.json").read_text())["flags"]
    assert {name: flags[name] for name in BOOLEANS} == dict.fromkeys(BOOLEANS, value)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--limit", "0"], "--limit is 0, not 1 or more"),
        (["--threads", "0"], "--threads is 0, not 1 or more"),
        (["--seed", "-1"], "--seed is -1, not 0 or more"),
        (["--batch-tokens", "0"], "--batch-tokens is 0, not auto or a number of 1 or more"),
        (["--batch-tokens", "many"], "--batch-tokens is many, not auto or a number of 1 or more"),
        (["--batch-tokens", "1.5"], "--batch-tokens is 1.5, not auto or a number of 1 or more"),
    ],
)
def test_impossible_numbers_are_refused(args, told, cli):
    answer = cli("run", "quickstart", "-m", "x", "-d", "y", *args)
    assert answer.code == 2
    assert answer.err == f"error: {told}\n"


def test_batch_tokens_auto_is_none():
    assert options.batch_tokens("auto") is None
    assert options.batch_tokens(None) is None
    assert options.batch_tokens("64") == 64
    with pytest.raises(InputError):
        options.batch_tokens("")


def test_every_long_flag_of_every_command_has_its_variable():
    """One `MEMPROBE_*` for each long flag, the same for all commands."""
    from memprobe.cli.app import app

    group = typer.main.get_command(app)
    commands = [group.commands[name] for name in ("demo", "run", "summary", "export")]
    commands += [*group.commands["lab"].commands.values(), *group.commands["probes"].commands.values()]
    lacking = [
        (command.name, option.name)
        for command in commands
        for option in command.params
        if option.param_type_name == "option"
        and option.name != "help"
        and option.envvar != "MEMPROBE_" + option.opts[0].removeprefix("--").replace("-", "_").upper()
    ]
    assert lacking == []
