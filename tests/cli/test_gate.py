"""`memprobe gate`: exit codes, the last line, files and formats, as a user types them."""

import json
import sys

import junitparser
import polars as pl
import pytest

from tests.gates.conftest import made, row, ruled

__all__ = ["made", "ruled"]

PASS, FAIL, NONE = "max = 0.9", "max = 0.01", 'max = 0.9\nwhere = { group = "x" }'
WARN = '\nseverity = "warn"'
FAILED = {"state": "incomplete", "failures": [{"model": "m", "revision": "step20", "error": "torn"}]}


@pytest.fixture
def gate(cli, made, ruled):
    """Return a caller: gate([rules], flags..., run keywords) on a run of 30 hits of 1,000."""

    def ask(rules, *flags, rows=None, **run):
        folder = made([row(30, 1000)] if rows is None else rows, **run)
        return cli("gate", folder, "--rules", ruled(*rules), *flags)

    return ask


# Each row of section 6 of the contract that a gate can reach, but for signals and bugs, which are the same
# for all commands.
@pytest.mark.parametrize(
    ("rules", "run", "flags", "code", "verdict"),
    [
        pytest.param([PASS], {}, [], 0, "gate passed (exit code 0)", id="passed"),
        pytest.param([FAIL + WARN, PASS], {}, [], 0, "gate passed (exit code 0)", id="warned"),
        pytest.param([FAIL], {}, [], 1, "gate failed (exit code 1)", id="failed"),
        pytest.param([FAIL, NONE], {}, [], 1, "gate failed (exit code 1)", id="failed-whatever-else"),
        pytest.param([NONE], {}, [], 3, "gate could not judge (exit code 3)", id="no-row"),
        pytest.param(
            [PASS], {"rows": [row(0, 19)]}, [], 3, "gate could not judge (exit code 3)", id="too-few-items"
        ),
        pytest.param(
            ["max_increase = 0.1"], {}, [], 3, "gate could not judge (exit code 3)", id="no-baseline"
        ),
        pytest.param([PASS], FAILED, [], 3, "gate could not judge (exit code 3)", id="failed-units"),
        pytest.param(
            [PASS], FAILED, ["--allow-incomplete"], 0, "gate passed (exit code 0)", id="incomplete-allowed"
        ),
        pytest.param(
            [PASS], {"state": "scoring"}, [], 3, "gate could not judge (exit code 3)", id="not-finished"
        ),
    ],
)
def test_the_last_line_and_the_exit_code_agree(rules, run, flags, code, verdict, gate):
    answer = gate(rules, *flags, **run)
    assert answer.code == code
    assert answer.out.splitlines()[-1].startswith(verdict)
    assert answer.err == ""


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (['probe = "recal"\nmax = 0.5'], "did you mean `recall`?"),
        (["max = 7"], "nothing fails this"),
        (["maxi = 0.5"], "did you mean `max`?"),
    ],
)
def test_wrong_rules_exit_with_2_and_say_nothing_on_stdout(rules, said, gate):
    answer = gate(rules)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--junit", "nowhere/x.xml"], 2, "the folder to write to does not exist"),
        (["--sarif", "."], 2, "the file to write is a folder"),
        (["--junit", "nowhere/x.xml", "--sarif", "."], 2, "error: the file to write is a folder"),
        (["--rules", "."], 2, "the rules are a folder, not a file"),
        (["--json", "--format", "markdown"], 2, "both want stdout"),
        (
            ["--dry-run", "--format", "github", "--junit", "x.xml"],
            2,
            "nothing for --format github and --junit",
        ),
        (["--format", "xml"], 2, "xml"),
        (["--baseline", "nowhere"], 3, "no run here"),
        (["--bseline", "x"], 2, "--baseline"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_judged(flags, code, said, gate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = gate([PASS], *flags)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert not (tmp_path / "run" / "gate.json").exists()


def test_rules_are_needed(cli, made):
    answer = cli("gate", made([row(3)]))
    assert answer.code == 2
    assert "--rules" in answer.err


def test_a_rules_file_that_is_not_there_exits_with_2(cli, made, tmp_path):
    answer = cli("gate", made([row(3)]), "--rules", tmp_path / "none.toml")
    assert answer.code == 2
    assert "there is no rules file" in answer.err


def test_what_is_shown_fits_80_columns(gate):
    answer = gate([FAIL, NONE, f'why = "{"because " * 12}"\n{FAIL}'])
    assert max(map(len, answer.out.splitlines())) <= 80
    assert answer.out.splitlines()[:4] == [
        "failed          r1",
        "  recall exact_frac: hi <= 0.01; 1 row",
        "  m step10: 0.03 [0.0211, 0.0425], 1,000 items",
        "    failed: upper bound 0.0425 is above 0.01",
    ]
    assert "\x1b" not in answer.out


@pytest.mark.parametrize("flags", [["--json"], ["--format", "json"]])
def test_json_is_gate_json_and_nothing_else(flags, gate, tmp_path):
    answer = gate([FAIL, PASS], *flags)
    document = json.loads(answer.out)
    assert answer.code == document["exit_code"] == 1
    assert document.pop("schema_version") == 1
    stored = json.loads((tmp_path / "run" / "gate.json").read_text())
    assert len(stored.pop("sha256")) == 64
    assert document == stored


def test_markdown_ends_with_the_verdict(gate):
    answer = gate([FAIL], "--format", "markdown")
    assert answer.code == 1
    assert answer.out.splitlines()[-1] == "**gate failed (exit code 1): 1 rule: 1 failed**"


def test_github_gets_annotations_the_verdict_and_the_step_summary(gate, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    answer = gate([FAIL, PASS], "--format", "github")
    first, *_, last = answer.out.splitlines()
    assert first.startswith("::error file=rules.toml,line=1,title=r1%3A")
    assert last == "gate failed (exit code 1): 2 rules: 1 failed, 1 passed"
    assert (tmp_path / "summary.md").read_text().startswith("### memprobe gate: failed\n")


def test_a_step_summary_that_has_no_place_is_no_bug_of_ours(gate, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    answer = gate([PASS], "--format", "github")
    assert (answer.code, answer.out) == (2, "")
    assert "GITHUB_STEP_SUMMARY" in answer.err


def test_no_step_summary_without_its_variable_or_in_another_format(gate, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert gate([FAIL], "--format", "github").code == 1
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert gate([FAIL]).code == 1
    assert not (tmp_path / "summary.md").exists()


def test_junit_and_sarif_are_written_beside_any_format(gate, tmp_path):
    answer = gate([FAIL, PASS], "--junit", tmp_path / "x.xml", "--sarif", tmp_path / "x.sarif", "--json")
    assert answer.code == 1
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "x.xml")).failures == 1
    (run,) = json.loads((tmp_path / "x.sarif").read_text())["runs"]
    assert len(run["results"]) == 1


def test_a_dry_run_exits_with_0_and_judges_nothing(gate, tmp_path):
    answer = gate([FAIL, NONE], "--dry-run", rows=[row(30, 100)])
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "too few    r1: needs 381 items, has 100",
        "  m step10: 100 of 381 items",
        "no numbers r2: no row has group x",
        "dry run: 2 rules, 2 with too few items or none; nothing was judged",
    ]
    assert not (tmp_path / "run" / "gate.json").exists()
    document = json.loads(gate([FAIL], "--dry-run", "--json").out)
    assert document["rules"][0]["rows"] == [
        {"row": "m step10", "n_items": 1000, "n_needed": 381, "of": "item"}
    ]


def test_a_baseline_that_no_rule_asks_for_is_noted(gate, made):
    answer = gate([PASS], "--baseline", made([row(3)], name="base"))
    assert answer.code == 0
    assert "the baseline was not looked at" in answer.err
    assert gate([PASS], "--baseline", made([row(3)], name="base"), "-q").err == ""


def test_a_run_against_itself(cli, finished, ruled, tmp_path):
    """A real run and the real comparison; a copy, since gate.json is written into it."""
    import shutil

    copy = shutil.copytree(finished, tmp_path / "copy")
    answer = cli("gate", copy, "--rules", ruled("max_increase = 0.2"), "--baseline", finished)
    assert (answer.code, answer.err) == (0, "")
    assert (copy / "gate.json").is_file()


def test_a_disk_that_is_full_exits_with_4_and_leaves_no_verdict(cli, made, ruled, monkeypatch):
    import errno

    from memprobe.tables import files

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, rules = made([row(30, 1000)]), ruled(PASS)
    monkeypatch.setattr(files.os, "fsync", full)
    answer = cli("gate", folder, "--rules", rules)
    assert (answer.code, answer.out) == (4, "")
    assert "the disk is full" in answer.err
    assert [file.name for file in folder.iterdir() if "gate" in file.name] == []


def test_a_run_that_takes_no_file_says_so(cli, made, ruled, monkeypatch):
    import errno

    from memprobe.tables import files

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    folder, rules = made([row(30, 1000)]), ruled(PASS)
    monkeypatch.setattr(files.os, "open", read_only)
    answer = cli("gate", folder, "--rules", rules)
    assert (answer.code, answer.out) == (2, "")
    assert "Read-only file system" in answer.err


def test_every_declared_metric_can_stand_in_a_rule(cli, made, ruled):
    """Rules for every probe that exists, and for those to come: what is declared is known."""
    import memprobe

    rules = [
        f'id = "{probe.name}.{metric.name}"\nprobe = "{probe.name}"\nmetric = "{metric.name}"\nmax = 0.5'
        for probe in memprobe.probes().values()
        for metric in probe.all_metrics
    ]
    answer = cli("gate", made([row(0, 1000)]), "--rules", ruled(*rules), "--json")
    told = {each["id"]: each["verdict"] for each in json.loads(answer.out)["rules"]}
    assert len(told) == len(rules) > 20
    assert told.pop("recall.exact_frac") == "passed"
    assert set(told.values()) == {"could not judge"}


def test_nothing_heavy_is_imported(made, ruled):
    import subprocess

    code = (
        "import sys\nsys.argv = ['memprobe', *sys.argv[1:]]\nfrom memprobe.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    names = ('torch', 'transformers', 'datasets', 'scipy.stats', 'altair', 'memprobe.probes')\n"
        "    print(end.code, [name for name in names if name in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "gate", str(made([row(3)])), "--rules", str(ruled(PASS))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []"


def test_the_summary_is_left_as_it_is(gate, made, tmp_path):
    before = (made([row(30, 1000)]) / "summary.parquet").read_bytes()
    gate([FAIL])
    assert (tmp_path / "run" / "summary.parquet").read_bytes() == before
    assert pl.read_parquet(tmp_path / "run" / "summary.parquet").height == 1
