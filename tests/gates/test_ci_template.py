"""`memprobe init --template ci`: a workflow whose commands exist, and rules that judge a run."""

import importlib.util
import json
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from memprobe.bench.templates import write_template
from memprobe.gates.judge import gate
from memprobe.gates.need import items_needed
from memprobe.items import read_items
from memprobe.shipped import shipped_folder
from tests.gates.conftest import row

TEMPLATE = shipped_folder("data") / "templates" / "ci"


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "with space"
    write_template("ci", folder)
    return folder


@pytest.fixture
def steps(written):
    """The steps of the only job."""
    text = (written / ".github" / "workflows" / "memprobe.yml").read_text()
    # YAML 1.1 takes the key `on` for true.
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read", "security-events": "write"}
    (job,) = workflow["jobs"].values()
    assert set(job["env"]) == {"MODEL", "INSTALL_FROM"}
    return job["steps"]


def commands(steps):
    lines = [line for each in steps if "run" in each for line in each["run"].splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("memprobe ")]


def like_the_demo(canary_hits, n=36):
    """Rows such as the demo's: canaries, controls and all items together, at two checkpoints."""
    return [
        row(hits if group == "canary" else 0, n, step=step, group=group, **about)
        for step, hits in ((0, 0), (490, canary_hits))
        for group in (None, "canary", "control")
        for about in (
            {"probe": "recall", "metric": "exact_frac"},
            *(
                {
                    "probe": "extraction",
                    "metric": "rate_frac",
                    "condition": f"scheme={scheme};n={tries};p=0.5",
                }
                for scheme in ("top40", "full")
                for tries in (1, 1000)
            ),
        )
    ]


def test_the_workflow_measures_then_judges(steps, written):
    run, judge = commands(steps)
    assert run[:2] == ["run", f"{written}/suite.toml"]
    assert judge[:4] == ["gate", "reports/ci", "--rules", f"{written}/rules.toml"]
    assert run[run.index("-o") + 1] == judge[1]


def test_what_the_judge_writes_is_what_the_other_steps_take(steps):
    judge = commands(steps)[1]
    junit, sarif = (judge[judge.index(flag) + 1] for flag in ("--junit", "--sarif"))
    uploads = {each["uses"].partition("@")[0]: each["with"] for each in steps if "with" in each}
    assert uploads["actions/upload-artifact"]["path"].split() == ["reports/ci", junit, sarif]
    assert uploads["github/codeql-action/upload-sarif"]["sarif_file"] == sarif


def with_own_items(folder, change):
    """Change every item of the template, as a user does who puts in real canaries."""
    file = folder / "items.jsonl"
    rows = [change(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def own(row):
    return row | {"suffix": row["suffix"].replace("-", "/")}


@pytest.fixture
def asked(steps, cli, tiny, tmp_path, monkeypatch):
    """Return a caller of both commands of the workflow, which answers what the gate says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()

    def ask():
        run, judge = commands(steps)
        assert cli(*(tiny.model if each == "$MODEL" else each for each in run), "--threads", "1").code == 0
        return cli(*judge)

    return ask


def test_its_commands_are_those_of_the_command_line(asked, written, tmp_path):
    """They run as they stand on a model that remembers nothing: with items of one's own every rule is met."""
    with_own_items(written, own)
    answer = asked()
    assert (answer.code, answer.err) == (0, "")
    last = answer.out.splitlines()[-1]
    assert last.startswith("gate passed (exit code 0): 2 rules: 2 passed; 1 warning rule: 1 passed")
    assert (tmp_path / "gate.xml").is_file()
    assert (tmp_path / "gate.sarif").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row, "40 of its 40 items are the template's placeholder items"),
        # One item of one's own hides nothing.
        (
            lambda row: own(row) if row["item_id"] == "canary-01" else row,
            "39 of its 40 items are the template's placeholder items",
        ),
        # Neither a name nor a lost foil makes a placeholder one's own.
        (
            lambda row: (
                row | {"item_id": f"my-{row['item_id']}"} | ({"foil": None} if row["exposures"] else {})
            ),
            "40 of its 40 items are the template's placeholder items",
        ),
        (
            lambda row: own(row) | {"exposures": 0},
            "none of its 40 items was ever trained on, so there is nothing to remember",
        ),
    ],
)
def test_canaries_that_no_model_could_have_learned_are_no_pass(change, said, asked, written):
    with_own_items(written, change)
    answer = asked()
    assert answer.code == 3
    assert said in answer.out
    assert answer.out.splitlines()[-1].startswith("gate could not judge (exit code 3)")


def test_a_control_that_is_left_only_warns_as_the_guide_says(asked, written):
    with_own_items(written, lambda row: own(row) if row["group"] == "canary" else row)
    answer = asked()
    assert answer.code == 0
    assert "40 of its 40 items are the template's placeholder items" in answer.out
    assert answer.out.splitlines()[-1].endswith("1 warning rule: 1 could not be judged")


@pytest.mark.parametrize(("canary_hits", "code"), [(0, 0), (21, 1)])
def test_its_rules_judge_a_run_like_the_demo_s(canary_hits, code, written, made):
    result = gate(made(like_the_demo(canary_hits)), written / "rules.toml")
    assert result.exit_code == code
    assert [len(each.rows) for each in result.rules] == [1, 1, 1]
    assert all(each.verdict != "could not judge" for each in result.rules)


def test_its_items_are_as_many_as_its_rules_need(written):
    rules = tomllib.loads((written / "rules.toml").read_text())["rule"]
    counts = dict(read_items([str(written / "items.jsonl")]).table.group_by("group").len().iter_rows())
    for rule in rules:
        assert counts[rule["where"]["group"]] >= items_needed("max", rule["max"], level=0.95)


def test_the_numbers_in_its_texts_are_true():
    for name in ("rules.toml", "MEMPROBE.md"):
        text = (TEMPLATE / name).read_text()
        for rate, shown in ((0.1, "10%"), (0.05, "5%"), (0.01, "1%")):
            assert shown in text
            assert str(items_needed("max", rate, level=0.95)) in text


def test_the_rule_in_its_comments_is_good_too(written, finished, tmp_path):
    """What a user takes the comment signs off is read and judged."""
    file = written / "rules.toml"
    text = file.read_text()
    block = text[text.index("# [[rule]]") :]
    file.write_text("\n".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines()))
    before = shutil.copytree(finished, tmp_path / "before")
    (told,) = gate(finished, file, baseline=before).rules
    assert told.rule.id == "no-regression"
    assert told.rows


def test_the_items_are_what_their_maker_draws():
    place = Path(__file__).parents[1] / "goldens" / "make_ci_items.py"
    spec = importlib.util.spec_from_file_location("make_ci_items", place)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (TEMPLATE / "items.jsonl").read_text() == maker.text()
    items = maker.items()
    assert len({each["prefix"] for each in items}) == len(items) == 80
    assert len({each["suffix"] for each in items}) == 80


@pytest.mark.slow
def test_its_rules_judge_the_demo(written, cli, tmp_path):
    assert cli("demo", "-o", tmp_path / "demo", "--threads", "1", "-q").code == 0
    answer = cli("gate", tmp_path / "demo", "--rules", written / "rules.toml")
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("gate failed (exit code 1): 2 rules: 2 failed")
