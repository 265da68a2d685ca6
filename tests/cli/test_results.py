"""`memprobe summary`, of finished and unfinished runs."""

import io
import json
import re
import shutil

from rich.console import Console

import memprobe


def test_summary_json_is_the_summary_table(cli, finished):
    document = json.loads(cli("summary", finished, "--json").out)
    assert document["state"] == "done"
    assert document["summary"] == memprobe.open_run(finished).summary.to_dicts()


def test_all_shows_the_conditions_that_the_short_form_counts(cli, finished):
    short, full = cli("summary", finished).out, cli("summary", finished, "--all").out
    # extraction's rate: 2 schemes, 5 n and 4 p are 40 conditions; those with p = 0.5 are 10.
    assert "30 more conditions: memprobe summary RUN --all" in short
    assert "scheme=top40;n=100;p=0.9" not in short
    assert full.count("scheme=top40;n=100;p=") >= 4
    assert "more conditions" not in full


def test_an_unfinished_run_shows_as_far_as_its_units_reach(cli, unfinished, finished):
    answer = cli("summary", unfinished, "--json")
    assert answer.code == 0
    assert "the run is not finished; repeat the same `memprobe run` to continue it" in answer.err
    document = json.loads(answer.out)
    assert document["state"] == "scoring"
    whole = memprobe.open_run(finished).summary
    assert document["summary"] == whole.filter(step=0).to_dicts()
    assert cli("summary", unfinished).code == 0


def test_looking_at_an_unfinished_run_writes_nothing(cli, unfinished):
    before = sorted(unfinished.rglob("*"))
    cli("summary", unfinished)
    cli("export", unfinished, "--to", "csv", "-o", unfinished.parent / "x.csv")
    assert sorted(unfinished.rglob("*")) == before


def test_a_summary_of_no_checkpoint_says_so(cli, unfinished):
    shutil.rmtree(unfinished / "units")
    answer = cli("summary", unfinished)
    assert answer.code == 0
    assert "no estimate: no checkpoint" in answer.out
    assert json.loads(cli("summary", unfinished, "--json").out)["summary"] == []


def test_what_is_piped_is_the_terminals_summary_without_its_codes(cli, finished):
    from memprobe.report.console import summary_view

    run = memprobe.open_run(finished)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, highlight=False, markup=False)
    console.print(summary_view(run.summary, run.about, run.doses), crop=False)
    shown = console.file.getvalue()
    assert "\x1b[" in shown
    piped = cli("summary", finished).out
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == piped
    assert max(map(len, piped.splitlines())) <= 80


def test_a_wider_page_holds_the_same_numbers(cli, finished, monkeypatch):
    narrow = cli("summary", finished).out
    monkeypatch.setattr("memprobe.cli.console._width", lambda: 200)
    wide = cli("summary", finished).out
    estimates = [sorted(re.findall(r"-?[\d.]+ \[[^\]]*\]", text)) for text in (narrow, wide)]
    assert len(estimates[0]) > 20
    assert estimates[0] == estimates[1]
