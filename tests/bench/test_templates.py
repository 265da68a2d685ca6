"""What `memprobe init` writes: suites that load, name every setting with its true default, and can be run.

Each template is checked against the code's own settings, so a setting that is added, renamed or gets
another default fails here until the templates say so.
"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from memprobe.bench.templates import template_names, write_template
from memprobe.errors import InputError, SuiteError
from memprobe.items import read_items
from memprobe.options import RunOptions, check_table
from memprobe.pipeline.suite import load_suite
from memprobe.probes.discovery import discover
from memprobe.shipped import shipped_folder

TEMPLATES = ("audit", "ci", "paper")
N_ITEMS = {"audit": 12, "ci": 80, "paper": 12}
GUIDES = {"audit": "README.md", "ci": "MEMPROBE.md", "paper": "README.md"}
MORE_FILES = {"ci": {"rules.toml", ".github/workflows/memprobe.yml"}}
_KEY = re.compile(r"(?:# )?(\w+) = (.+)")
_TABLE = re.compile(r"\[+(\w+)\]+")
_DEFAULT = re.compile(r"Default: (.+?)\.$")


def settings_shown(text):
    """Yield (table or kind, key, value as TOML, the comment above it) of each key, commented out or not."""
    place, comment = "", []
    for line in text.splitlines():
        if table := _TABLE.fullmatch(line):
            place, comment = table[1], []
        elif key := _KEY.fullmatch(line):
            if key[1] == "kind":
                place = tomllib.loads(line)["kind"]
            else:
                yield place, key[1], key[2], " ".join(comment)
            comment = []
        else:
            comment = [*comment, line.removeprefix("#").strip()] if line.startswith("#") else []


def _file(name):
    return shipped_folder("data") / "templates" / name / "suite.toml"


def source_of(name):
    return _file(name).read_text(encoding="utf-8")


def first_shown(name):
    """Return the first place where each (table or kind, key) is shown: the one that explains it."""
    shown = {}
    for place, key, value, comment in settings_shown(source_of(name)):
        shown.setdefault((place, key), (value, comment))
    return shown


def test_the_templates_are_those_of_the_contract():
    assert template_names() == list(TEMPLATES)


def test_keys_are_found_commented_out_or_not():
    text = (
        "[run]\n# What.\n# Default: 3.\n# seed = 4\nthreads = 2\n"
        '[[probe]]\nkind = "recall"\n# A. Default: 1.\nn = 1\n'
    )
    assert list(settings_shown(text)) == [
        ("run", "seed", "4", "What. Default: 3."),
        ("run", "threads", "2", ""),
        ("recall", "n", "1", "A. Default: 1."),
    ]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_setting_of_every_probe_in_it_is_mentioned(name):
    shown = first_shown(name)
    kinds = {entry.probe.name for entry in load_suite(_file(name)).entries}
    for kind in kinds:
        assert {key for place, key in shown if place == kind} == set(discover()[kind].options())


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_setting_named_exists_and_takes_the_value_shown(name):
    for (place, key), (value, _) in first_shown(name).items():
        if place == "suite":
            assert key in ("name", "title", "source")
            continue
        cls = RunOptions if place == "run" else discover()[place].settings
        given = tomllib.loads(f"{key} = {value}")
        assert check_table(given, cls, name)[1] == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_default_that_a_comment_claims_is_the_code_s(name):
    checked = 0
    for (place, key), (_, comment) in first_shown(name).items():
        claimed = _DEFAULT.search(comment)
        assert claimed, f"{place}.{key} does not say its default"
        if place == "suite":
            continue
        cls = RunOptions if place == "run" else discover()[place].settings
        default = getattr(cls(), key)
        if default is None:
            assert claimed[1].startswith("left out"), (place, key)
        else:
            given = tomllib.loads(f"{key} = {claimed[1]}")
            assert check_table(given, cls, "") == ({key: default}, []), (place, key)
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_written_names_its_own_items(name, tmp_path):
    started = write_template(name, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {file.relative_to(folder).as_posix() for file in started.files} == {
        *("suite.toml", "items.jsonl", GUIDES[name]),
        *MORE_FILES.get(name, ()),
    }
    assert started.files[0] == folder / "suite.toml"
    assert started.command == f"memprobe run {folder}/suite.toml -m MODEL"
    suite = load_suite(folder / "suite.toml")
    assert suite.run["data"] == (str(folder / "items.jsonl"),)
    assert read_items(suite.run["data"]).table.height == N_ITEMS[name]
    assert "FOLDER" not in "".join(file.read_text(encoding="utf-8") for file in started.files)
    assert started.command in (folder / GUIDES[name]).read_text(encoding="utf-8")


def test_the_ci_template_fits_into_a_repository_that_has_a_readme(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    write_template("ci", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / "rules.toml").is_file()


def test_the_working_directory_needs_no_name_in_front(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_template("audit", Path()).command == "memprobe run suite.toml -m MODEL"
    assert load_suite("suite.toml").run["data"] == ("items.jsonl",)


@pytest.mark.parametrize("folder", ['a "b"', "with space", "back\\slash", "it's", "ünï"])
def test_a_folder_s_name_is_quoted_as_toml_and_the_shell_take_it(folder, tmp_path):
    started = write_template("audit", tmp_path / folder)
    assert load_suite(started.files[0]).run["data"] == (str(tmp_path / folder / "items.jsonl"),)
    assert shlex.split(started.command)[2] == str(started.files[0])
    readme = (tmp_path / folder / "README.md").read_text(encoding="utf-8")
    (line, *_) = [each for each in readme.splitlines() if each.startswith("memprobe run")]
    assert shlex.split(line)[2] == str(started.files[0])


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    (tmp_path / "items.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"1 file would be overwritten: items\.jsonl") as caught:
        write_template("audit", tmp_path)
    assert caught.value.exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["items.jsonl"]
    assert (tmp_path / "items.jsonl").read_text() == "mine"


def test_a_file_in_the_folder_s_place_is_an_error(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="a file, not a folder"):
        write_template("audit", tmp_path / "x")


def test_an_unknown_template_suggests_one(tmp_path):
    with pytest.raises(InputError, match="unknown template `papre`, did you mean `paper`"):
        write_template("papre", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_wrong_key_in_a_template_would_be_noticed(name, tmp_path):
    text = source_of(name)
    (tmp_path / "suite.toml").write_text(
        text.replace("suffix_tokens = ", "sufix_tokens = ").replace("# sufix", "sufix")
    )
    with pytest.raises(SuiteError, match="did you mean `suffix_tokens`"):
        load_suite(tmp_path / "suite.toml")


def test_the_audit_has_as_many_controls_as_canaries_and_a_foil_for_each():
    items = read_items([str(shipped_folder("data") / "templates" / "audit" / "items.jsonl")]).table
    assert dict(items.group_by("group").len().iter_rows()) == {"canary": 6, "control": 6}
    assert items["foil"].null_count() == 0
    assert items.filter(group="control")["exposures"].unique().to_list() == [0]
    assert items.filter(group="canary")["exposures"].min() > 0


def test_the_paper_s_items_are_clusters_of_seen_and_unseen_documents():
    items = read_items([str(shipped_folder("data") / "templates" / "paper" / "items.jsonl")]).table
    assert items["doc_id"].n_unique() == 4
    assert items.select("doc_id", "group").unique().height == 4
    assert set(items["group"]) == {"seen", "unseen"}
    assert items.group_by("doc_id").len()["len"].unique().to_list() == [3]
