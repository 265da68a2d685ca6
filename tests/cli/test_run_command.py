"""`memprobe run` as a user meets it: streams, JSON, the dry run."""

import json
import re
import shutil

import pytest

from memprobe.pipeline import dry_run

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


# Streams


def test_results_go_to_stdout_and_progress_to_stderr(cli, tiny, tmp_path):
    answer = cli("run", "quickstart", *tiny.ask, "-o", tmp_path / "run")
    assert answer.code == 0
    assert "recall of main" in answer.out
    assert "24 items; float32 on cpu, BOS default" in answer.out
    lines = answer.err.splitlines()
    assert lines[:2] == ["reading items and checkpoints ...", "planning ..."]
    places = [line.split(":")[0] for line in lines if line.startswith("scoring ")]
    assert places == [f"scoring checkpoint {i + 1}/3 step{10 * i}" for i in range(3)]
    assert lines[-2:] == ["measuring ...", f"run directory: {tmp_path / 'run'}"]
    assert max(map(len, answer.out.splitlines())) <= 80
    assert not CONTROL.search(answer.out + answer.err)


def test_quiet_says_nothing_but_the_result(cli, tiny, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    answer = cli("run", "quickstart", *tiny.ask, "-o", run, "-q")
    assert answer.err == ""
    assert answer.out == cli("summary", finished).out


def test_quiet_does_not_silence_an_error(cli):
    assert "no suite and no probe was given" in cli("run", "-q").err


def test_json_is_one_document_and_nothing_else(cli, tiny, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    answer = cli("run", "quickstart", *tiny.ask, "-o", run, "--json")
    document = json.loads(answer.out)
    assert document["state"] == "done"
    assert document["run"] == str(run)
    assert document["failures"] == []
    assert {row["probe"] for row in document["summary"]} == {"recognition", "recall", "extraction"}
    assert "measuring ..." in answer.err


def test_json_of_an_incomplete_run_is_still_one_document(cli, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    (folder / "step10" / "model.safetensors").write_bytes(b"x" * 50)
    answer = cli("run", "-p", "recall", "-m", folder, "-d", tiny.items, "-o", tmp_path / "run", "--json")
    assert answer.code == 4
    document = json.loads(answer.out)
    assert document["state"] == "incomplete"
    assert [each["revision"] for each in document["failures"]] == ["step10"]


def test_a_dry_run_scores_nothing_writes_nothing_and_counts_what_is_left(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("memprobe.scoring.model.load", None)
    answer = cli("run", "quickstart", *tiny.ask, "-o", tmp_path / "run", "--dry-run")
    assert answer.code == 0, answer.err
    assert "3 of 3 units left" in answer.out
    assert f"run directory: {tmp_path / 'run'}" in answer.out.splitlines()
    assert not (tmp_path / "run").exists()
    document = json.loads(
        cli("run", "quickstart", *tiny.ask, "-o", tmp_path / "run", "--dry-run", "--json").out
    )
    assert document["totals"]["units_left"] == 3
    assert [row["step"] for row in document["checkpoints"]] == [0, 10, 20]


@pytest.mark.parametrize(("seconds", "told"), [(86_399.0, False), (259_200.0, True), (None, False)])
def test_a_dry_run_of_days_says_so_on_stderr(seconds, told, cli, tiny, tmp_path, monkeypatch):
    genuine = dry_run.forecast

    def slow(*args, **kwargs):
        found = genuine(*args, **kwargs)
        return dry_run.Forecast(found.checkpoints, found.totals | {"estimated_s": seconds})

    monkeypatch.setattr(dry_run, "forecast", slow)
    answer = cli("run", "-p", "recall", *tiny.ask, "-o", tmp_path / "run", "--dry-run", "--json")
    assert json.loads(answer.out)["totals"]["estimated_s"] == seconds
    assert ("note: about 3.0 days" in answer.err) is told
    assert (f"memprobe worker {tmp_path / 'run'}" in answer.err) is told


def test_items_left_out_are_counted_above_the_tables(cli, tiny, write, tmp_path):
    rows = ['{"text": "enough words to measure"}', '{"text": ""}', '{"text": "x"}']
    file = write("i.jsonl", "\n".join(rows))
    answer = cli(
        "run",
        "-p",
        "recall",
        "-m",
        tiny.model,
        "-d",
        file,
        "-o",
        tmp_path / "run",
        "--on-bad-item",
        "skip",
        "-q",
    )
    assert answer.code == 0, answer.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    left_out = manifest["items"]["n_skipped"] + manifest["items"]["n_unfit"]
    assert f"{left_out} left out (see skipped.jsonl)" in answer.out
    lines = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert len(lines) == left_out
