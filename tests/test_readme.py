"""The commands that README.md and the pages under docs/ show exist, with every flag, and their Python runs.

Tested are the lines of fenced `sh`, `bash` and `console` blocks that begin with `memprobe ` or `$ memprobe `;
a backslash at the end goes on in the next line, `#` after a blank begins a comment. Two sections of
the README are run as they stand; all other lines are parsed, so what they name (MODEL, RUN) need not exist.
Fenced `python` blocks are run, each in a folder of its own in which `runs/my-model` is a small checkpoint
sequence and `items.jsonl` its items.
"""

import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import typer

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
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


def shown(page: Path) -> list[str]:
    """Return the command lines of a page."""
    return commands(page.read_text(encoding="utf-8"))


def test_the_readme_and_the_pages_show_commands():
    assert "memprobe summary reports/mine" in shown(README)
    assert "memprobe demo" in shown(ROOT / "docs" / "tutorials" / "demo.md")
    assert len({page for page in PAGES if shown(page)}) > 20


@pytest.mark.parametrize("command", list(dict.fromkeys(itertools.chain(*map(shown, PAGES)))))
def test_a_command_of_a_page_parses(command):
    parse(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_of_suites_and_probes_on_a_page_exist(page):
    from memprobe.pipeline.suite import shipped_suites
    from memprobe.probes.discovery import find

    for command in shown(page):
        words = shlex.split(command)
        for flag, word in itertools.pairwise(words):
            if flag in ("-p", "--probe"):
                find(word)
        if words[1] == "run" and len(words) > 2 and not words[2].startswith("-") and words[2].islower():
            assert words[2] in shipped_suites() or words[2].endswith(".toml"), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_on_a_page_exist(page, tmp_path, monkeypatch):
    from memprobe.pipeline.question import merge

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "data" / "sort_prompts.toml", "mine.toml")
    for command in shown(page):
        words = shlex.split(command)
        flags = {"-p": [], "--set": []}
        for flag, word in itertools.pairwise(words):
            flags.get(flag, []).append(word)
        if words[1] == "run" and flags["--set"]:
            suite = None if words[2].startswith("-") else words[2]
            merge(suite, probes=flags["-p"], settings=flags["--set"])


@pytest.fixture
def desk(tiny, tmp_path, monkeypatch):
    """A working directory that holds what the pages name; one thread."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "my-model").symlink_to(tiny.model, target_is_directory=True)
    shutil.copy(tiny.items, tmp_path / "items.jsonl")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def readme_section(name: str) -> list[str]:
    """Return the command lines of a section of the README."""
    sections = README.read_text(encoding="utf-8").split("\n## ")
    return commands(next(each for each in sections if each.startswith(name)))


@pytest.mark.usefixtures("desk")
def test_the_audit_of_the_readme_runs_as_it_stands(cli):
    lines = readme_section("Audit a model")
    assert len(lines) == 5
    for line in lines:
        assert cli(*shlex.split(line)[1:]).code == 0, line
    assert Path("reports/mine/report.html").is_file()
    assert "\\begin{table}" in Path("results.tex").read_text()


@pytest.mark.usefixtures("desk")
def test_the_gate_of_the_readme_runs_as_it_stands_and_judges_no_placeholder(cli):
    Path("items.jsonl").unlink()
    lines = readme_section("Gate a release")
    assert len(lines) == 5
    codes = []
    for line in lines:
        if line.startswith("memprobe compare"):
            shutil.copytree("reports/ci", "reports/base")
        codes.append(cli(*shlex.split(line)[1:]).code)
    # The template's own items are in no training data, so the gate cannot judge.
    assert codes == [0, 0, 0, 3, 0]


def scripts() -> list[tuple[str, str]]:
    """Return the Python blocks of all pages, each with its page."""
    return [
        (str(page.relative_to(ROOT)), script)
        for page in PAGES
        for script in _PYTHON.findall(page.read_text(encoding="utf-8"))
    ]


def test_the_readme_shows_python_that_runs_memprobe():
    assert any(page == "README.md" and "memprobe.run(" in script for page, script in scripts())


@pytest.mark.parametrize(("page", "script"), scripts())
@pytest.mark.usefixtures("desk")
def test_a_script_of_a_page_runs_as_it_stands(page, script):
    exec(compile(script, page, "exec"), {"__name__": "__main__"})
    if "memprobe.run(" in script:
        assert list(Path("reports").iterdir())


def test_the_probe_of_the_page_on_extending_measures(tiny, tmp_path, monkeypatch):
    import memprobe
    from memprobe.probes import discovery

    (script,) = [script for page, script in scripts() if page.endswith("extending.md")]
    module = {"__name__": "first_token"}
    exec(compile(script, "extending.md", "exec", dont_inherit=True), module)
    probe = module["PROBE"]
    found = discovery.built_in() | {probe.name: probe}
    monkeypatch.setattr(discovery, "_all", lambda: (found, {}))
    run = memprobe.run(
        probes=[probe.name, "recall"],
        settings=["recall.suffix_tokens=1"],
        model=tiny.model,
        data=tiny.items,
        out=tmp_path / "run",
        threads=1,
    )
    first, recall = (run.table(name).sort("step", "item_id") for name in (probe.name, "recall"))
    assert first["first_hit"].to_list() == recall["exact"].to_list()
    metrics = set(run.summary.filter(probe=probe.name)["metric"])
    assert metrics == {"first_hit_frac", "first_hit_excess_frac"}
