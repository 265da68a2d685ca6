"""`memprobe report` and `memprobe plot`, as they are typed; a run in every state that one can be in."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def half(run: Path) -> None:
    """Make a finished run one that was killed: the units of its last checkpoint are not there."""
    manifest = json.loads((run / "manifest.json").read_text())
    for unit in (run / "units").glob(f"{manifest['checkpoints'][-1]['context']}-*"):
        unit.unlink()
    RunStore(run).write_manifest(Manifest.from_json(manifest | {"state": "scoring"}))


def test_a_report_is_written_into_the_run_and_its_path_goes_to_stdout(cli, copy) -> None:
    answer = cli("report", copy)
    assert answer.code == 0
    assert answer.out.split() == [str(copy / "report.html")]
    assert answer.err.startswith(f"wrote {copy / 'report.html'}: ")
    page = (copy / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    # Nothing of the machine's clock or chance is in it.
    assert cli("report", copy, "-o", copy / "again.html", "-q").err == ""
    assert (copy / "again.html").read_text() == page


def test_json_names_the_file(cli, copy) -> None:
    said = json.loads(cli("report", copy, "--json", "-q").out)
    assert said["file"] == str(copy / "report.html")
    assert said["n_bytes"] == (copy / "report.html").stat().st_size


def test_an_unfinished_run_is_shown_as_far_as_it_is_scored(cli, copy) -> None:
    half(copy)
    answer = cli("report", copy)
    assert answer.code == 0, answer.err
    page = (copy / "report.html").read_text()
    assert "The run is not finished" in page
    assert "main step20: 0 of " in page
    assert "step 0 to 20" in page
    assert cli("plot", copy, "--kind", "recall", "-o", copy / "x.svg").code == 0


def test_a_verdict_on_an_earlier_state_of_the_run_is_marked(cli, copy, tmp_path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nid = "x"\nprobe = "recall"\nmetric = "exact_frac"\nmax = 0.9\n')
    assert cli("gate", copy, "--rules", rules).code == 0
    assert cli("report", copy).code == 0
    assert "earlier state" not in (copy / "report.html").read_text()
    summary = pl.read_parquet(copy / "summary.parquet")
    digest = RunStore(copy).write_table("summary", summary.head(summary.height - 1))
    RunStore(copy).write_manifest(RunStore(copy).read_manifest().changed(tables={"summary": digest}))
    assert cli("report", copy).code == 0
    assert "earlier state of this run: run the gate again" in (copy / "report.html").read_text()
    assert cli("gate", copy, "--rules", rules).code == 0
    assert cli("report", copy).code == 0
    assert "earlier state" not in (copy / "report.html").read_text()


def test_what_the_gate_wrote_is_shown_and_what_it_did_not_is_an_error(cli, copy) -> None:
    rule = {"id": "r1", "verdict": "passed", "severity": "error", "probe": "recall", "metric": "exact_frac"}
    gate = {"format": 1, "verdict": "passed", "rules_file": "r.toml", "line": "gate: passed", "rules": [rule]}
    (copy / "gate.json").write_text(json.dumps(gate))
    assert cli("report", copy).code == 0
    assert "gate: passed" in (copy / "report.html").read_text()
    (copy / "gate.json").write_text("{")
    answer = cli("report", copy)
    assert answer.code == 3
    assert "gate.json" in answer.err


def test_texts_that_the_run_does_not_hold_cannot_be_included(cli, finished, tmp_path) -> None:
    answer = cli("report", finished, "--include-text", "-o", tmp_path / "x.html")
    assert answer.code == 2
    assert "the run has no texts" in answer.err
    assert not (tmp_path / "x.html").exists()


def test_a_report_with_texts_is_its_owners_alone(cli, run, tmp_path) -> None:
    run("quickstart", include_text=True)
    assert cli("report", tmp_path / "run", "--include-text").code == 0
    file = tmp_path / "run" / "report.html"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "quokka-" in file.read_text()
    assert cli("report", tmp_path / "run", "-o", tmp_path / "without.html").code == 0
    assert "quokka-" not in (tmp_path / "without.html").read_text()


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_a_figure_is_written_in_the_format_of_its_ending(cli, finished, tmp_path, ending) -> None:
    file = tmp_path / f"x.{ending}"
    answer = cli("plot", finished, "--kind", "recall.hit_frac", "-o", file)
    assert (answer.code, answer.out.split()) == (0, [str(file)])
    assert file.read_bytes().startswith({"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}[ending])


def test_a_figure_of_several_panels_names_the_others(cli, finished, tmp_path) -> None:
    answer = cli("plot", finished, "--kind", "extraction-samples", "-o", tmp_path / "x.svg")
    assert "note: other panels, with --panel: top40" in answer.err
    other = cli(
        "plot", finished, "--kind", "extraction-samples", "--panel", "top40", "-o", tmp_path / "y.svg"
    )
    assert other.code == 0
    assert "note" not in other.err


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("--kind", "recal", "-o", "x.svg"), 2, "did you mean `recall`?"),
        (("-o", "x.svg"), 2, "kinds here: recognition, recognition-exposures, recall"),
        (("--kind", "recall"), 2, "-o recall.pdf"),
        (("--kind", "recall", "-o", "x.gif"), 2, "end the name with .svg, .pdf or .png"),
        (("--kind", "recall", "-o", "nowhere/x.svg"), 2, "the folder to write to does not exist"),
        (("--kind", "recall", "-o", "x.svg", "--width-mm", "5"), 2, "--width-mm is 5, not 40 to 400"),
        (("--kind", "recall", "-o", "x.svg", "--panel", "z"), 2, "has no panel `z`"),
        (("--kind", "coverage-map", "-o", "x.svg"), 3, "nothing to draw"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_writes_nothing(
    cli, finished, tmp_path, monkeypatch, given, code, words
):
    monkeypatch.chdir(tmp_path)
    answer = cli("plot", finished, *given)
    assert answer.code == code
    assert words in answer.err
    assert list(tmp_path.iterdir()) == []


def test_no_run_is_an_error_for_both(cli, tmp_path) -> None:
    for given in (("report", tmp_path), ("plot", tmp_path, "--kind", "recall", "-o", tmp_path / "x.svg")):
        answer = cli(*given)
        assert answer.code == 3
        assert "there is no run here" in answer.err


def test_a_report_needs_no_torch_and_help_no_altair(finished, tmp_path) -> None:
    code = (
        "import sys; from memprobe.cli.app import app; heavy = lambda: "
        "[m for m in ('torch', 'transformers', 'datasets', 'scipy.stats', 'altair', 'vl_convert')"
        " if m in sys.modules]\n"
        "before = heavy()\n"
        f"sys.argv = ['memprobe', 'report', {str(finished)!r}, '-q', '-o', {str(tmp_path / 'x.html')!r}]\n"
        "try: app()\nexcept SystemExit: print(before, heavy())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.splitlines()[-1] == "[] ['altair', 'vl_convert']"
