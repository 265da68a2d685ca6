"""`memprobe compare`: what it shows, writes and exits with."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import memprobe
from memprobe.cli import compare as module
from memprobe.tables.store import RunStore


@pytest.fixture
def worse(finished, tmp_path, monkeypatch):
    """A copy of the finished run in which every item of the last step is recalled whole."""
    # By a short name: a path of 80 characters would be folded.
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(finished, Path("worse"))
    file = run / "tables" / "recall.parquet"
    rows = pl.read_parquet(file)
    exact = pl.when(pl.col("step") == 20).then(True).otherwise("exact")
    store = RunStore(run)
    store.write_manifest(store.read_manifest().changed(tables={}))
    store.write_table("recall", rows.with_columns(exact=exact))
    return run


def test_what_is_worse_is_shown_with_its_interval_and_is_1_on_request(cli, finished, worse):
    answer = cli("compare", finished, worse, "-p", "recall")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[:4] == [
        f"base: {finished}",
        "new:  worse",
        "24 items in both, 3 steps, 0 to 20",
        "difference: new - base; in brackets: 95% intervals",
    ]
    (line,) = [line for line in lines if line.startswith("exact_frac ")]
    assert line.split()[-1] == "worse"
    assert "Worse beyond the interval" in answer.out
    assert all(len(line) <= 80 for line in lines)
    failed = cli("compare", finished, worse, "-p", "recall", "--fail-on", "worse")
    assert failed.code == 1
    n = memprobe.compare(finished, worse, probes=["recall"]).worse.height
    assert n > 0
    assert failed.err.splitlines()[-1] == f"failed: {n} differences worse beyond the interval"


def test_a_run_beside_itself_passes(cli, finished):
    answer = cli("compare", finished, finished, "-p", "recall", "--fail-on", "worse")
    assert answer.code == 0
    assert answer.err == "passed: no difference is worse beyond its interval\n"


def test_nothing_that_could_be_judged_is_3_and_never_a_pass(cli, finished):
    answer = cli("compare", finished, finished, "--metric", "lcp_tokens", "--fail-on", "worse")
    assert answer.code == 3
    assert "no difference has an interval" in answer.err


def test_runs_that_differ_are_3_and_the_differences_named(cli, finished, worse):
    store = RunStore(worse)
    store.write_manifest(store.read_manifest().changed(bos="none", dtype="bfloat16"))
    answer = cli("compare", finished, worse)
    assert (answer.code, answer.out) == (3, "")
    assert "the BOS mode differs: default in the base run, none in the new one" in answer.err
    assert "the dtype differs: float32 in the base run, bfloat16 in the new one" in answer.err


def test_json_holds_the_differences_and_nothing_else_is_on_stdout(cli, finished, worse):
    answer = cli("compare", finished, worse, "-p", "recall", "--json", "--fail-on", "worse")
    document = json.loads(answer.out)
    found = memprobe.compare(finished, worse, probes=["recall"])
    assert answer.code == 1
    assert document["n_worse"] == found.worse.height
    assert document["items"]["n_both"] == 24
    assert len(document["differences"]) == found.differences.height
    assert document["differences"][0] == found.differences.to_dicts()[0]


def test_a_csv_of_the_differences_is_read_back(cli, finished, worse, tmp_path):
    file = tmp_path / "d.csv"
    answer = cli("compare", finished, worse, "-p", "recall", "--to", "csv", "-o", file)
    assert answer.code == 0
    assert f"wrote {file}" in answer.err
    found = memprobe.compare(finished, worse, probes=["recall"]).differences
    assert memprobe.read_csv(file, "differences").equals(found)
    assert cli("compare", finished, worse, "-p", "recall", "--to", "csv").out.encode() == file.read_bytes()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--fail-on", "better"], "'better' is not one of"),
        (["-p", "recal"], "did you mean `recall`?"),
        (["--metric", "exact"], "did you mean `exact_frac`?"),
        (["--steps", "5"], "step 5 is not there"),
        (["-o", "x"], "-o needs a format"),
        (["--json", "--to", "csv"], "both want stdout"),
    ],
)
def test_wrong_usage_is_named(args, told, cli, finished):
    answer = cli("compare", finished, finished, *args)
    assert answer.code in (2, 3)
    assert told in " ".join(answer.err.replace("│", " ").split())


def test_an_unfinished_run_is_compared_as_far_as_its_units_reach(cli, finished, unfinished):
    found = memprobe.compare(finished, unfinished, probes=["recall"])
    assert found.differences.filter(pl.col("reason").is_null())["step"].unique().to_list() == [0]
    assert set(found.differences["difference"].drop_nulls()) == {0.0}
    assert cli("compare", finished, unfinished, "-p", "recall").code == 0


@pytest.mark.parametrize(("to", "sign"), [("latex", "\\begin{tabular}"), ("markdown", "| **recall** |")])
def test_a_papers_table_of_the_differences_has_both_runs(to, sign, cli, finished, worse):
    answer = cli("compare", finished, worse, "-p", "recall", "--steps", "20", "--to", to)
    assert answer.code == 0
    assert sign in answer.out
    assert "main at step 20: both runs over the same items" in answer.out


def test_a_long_comparison_says_ever_less_often_how_far_it_is(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    telling = module._Telling()
    for done in range(100):
        telling.told(done, 100)
        now += 4.0
    lines = capsys.readouterr().err.splitlines()
    # Every 4 s a table. At 12 s: 12 / 3 * 97 s are left. At 24 s: 24 / 6 * 94.
    assert lines[0] == (
        "compared 3 of 100 tables of a checkpoint, about 388 s left; --steps and --metric compare fewer"
    )
    assert lines[1] == "compared 6 of 100 tables of a checkpoint, about 376 s left"
    # Then where a third more has gone by: 36, 48, 64, 88, 120, 160, 216, 288 and 384 s.
    assert len(lines) == 11


def test_a_run_that_lost_a_table_is_3_and_not_a_run_that_was_not_measured(cli, finished, tmp_path):
    lost = shutil.copytree(finished, tmp_path / "lost")
    (lost / "tables" / "recall.parquet").unlink()
    for pair in ((finished, lost), (lost, finished)):
        answer = cli("compare", *pair)
        assert answer.code == 3, answer.out
        assert "the run has no table `recall`" in answer.err
