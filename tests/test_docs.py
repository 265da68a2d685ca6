"""The documentation is whole: generated parts are what the code says, links and named files exist.

`make docs` also builds the pages as a site and fails on a broken link; these tests need no site generator.
"""

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from memprobe import errors
from memprobe.cli.app import INTERNAL, INTERRUPTED, app
from memprobe.cli.examples import EXAMPLES
from memprobe.options import RunOptions
from memprobe.probes.discovery import discover

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ALL = (ROOT / "README.md", ROOT / "probes" / "README.md", *PAGES)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`((?:memprobe|tests|data|probes)/[\w/.*-]+)`")

spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "tests" / "reference_pages.py")
reference_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference_pages)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosting sites make them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", head).lower()) for head in heads)
    return {each.strip().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_generated_parts_are_what_the_code_says(page):
    text = page.read_text(encoding="utf-8")
    assert reference_pages.filled(text) == text, "run `make reference`"


def test_a_part_that_is_out_of_date_would_be_noticed():
    page = "# x\n\n<!-- generated: reference recall -->\noutdated\n<!-- end -->\n"
    made = reference_pages.filled(page)
    assert "outdated" not in made
    assert "| `exact_frac` |" in made
    assert reference_pages.filled(made) == made


@pytest.mark.parametrize("page", ALL, ids=named)
def test_links_lead_somewhere(page):
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", ALL, ids=named)
def test_files_of_the_project_that_are_named_exist(page):
    for name in _FILE.findall(prose(page)):
        assert list(ROOT.glob(name)), name


def test_every_page_is_reached_from_the_start_page():
    linked = {(DOCS / link).resolve() for link in _LINK.findall(prose(DOCS / "index.md"))}
    gathered = set((DOCS / "validation").glob("coverage-*.md"))
    assert {named(page) for page in PAGES} - {named(page) for page in linked | gathered} == {"docs/index.md"}


def test_every_probe_has_a_page_with_its_parts():
    for name in discover():
        page = (DOCS / "probes" / f"{name}.md").read_text(encoding="utf-8")
        assert f"<!-- generated: about {name} -->" in page
        assert f"<!-- generated: reference {name} -->" in page


def test_the_readme_has_two_screens_and_one_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert text.count("![") == 1


def test_every_exit_code_is_on_its_page():
    page = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    first = " ".join(re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE))
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    raised = {each.exit_code for each in classes if issubclass(each, errors.MemprobeError)}
    assert raised | {0, 1, INTERNAL, INTERRUPTED} <= {int(code) for code in re.findall(r"\d+", first)}


def leaves(group: object, name: str = "") -> dict[str, object]:
    """Return every command by the words that call it."""
    if not hasattr(group, "commands"):
        return {name: group}
    found = {}
    for word, inner in group.commands.items():
        found |= leaves(inner, f"{name} {word}".strip())
    return found


COMMANDS = leaves(typer.main.get_command(app))


def test_every_command_has_examples_of_itself():
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, lines in EXAMPLES.items():
        assert all(line.startswith(f"memprobe {name}") for line in lines), name
        assert all(line in COMMANDS[name].epilog for line in lines), name


def test_help_shows_the_defaults_of_a_run(cli):
    options = {each.name: each for each in COMMANDS["run"].params}
    defaults = RunOptions()
    for name in ("device", "dtype", "bos", "seed", "on_bad_item", "keep_checkpoints"):
        assert options[name].show_default == str(getattr(defaults, name)), name
    for name in ("offline", "trust_remote_code", "allow_pickle", "include_text"):
        assert options[name].show_default == f"no-{name}".replace("_", "-"), name
        assert getattr(defaults, name) is False
    help_ = " ".join(cli("run", "--help").out.split())
    assert "[default: (auto)]" in help_
    assert "Examples: memprobe run quickstart" in help_
