"""Stability through the whole pipeline: tables over a sequence of tasks, from scored units; what stops it."""

import json
from pathlib import Path

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.stability.tables import STABILITY, STABILITY_GAPS, STABILITY_MEASURES
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY

ENDS = {"first": 10, "second": 20}


def rewritten(tiny, tmp_path: Path, edit=None) -> str:
    """The tiny items in two groups, one for each task; every third belongs to none."""
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    for number, row in enumerate(rows):
        row["group"] = ("first", "second", "none")[number % 3]
        row["task_end_step"] = ENDS.get(row["group"])
        row["foil"] = row["foil_kind"] = None
        if edit:
            edit(number, row)
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def tasks(tiny, tmp_path) -> str:
    return rewritten(tiny, tmp_path)


def test_scores_of_each_set_are_written_with_their_measures(run, tasks) -> None:
    answered = run("delange2023", data=tasks, steps=None)
    for schema in (STABILITY, STABILITY_MEASURES, STABILITY_GAPS):
        schema.check(answered.table(schema.name))
    SUMMARY.check(answered.summary)
    cells = answered.table("stability").select("eval_set", "task_end_step", "step", "n_items").rows()
    assert cells == [(name, end, step, 8) for name, end in ENDS.items() for step in (0, 10, 20)]
    assert not (answered.path / "tables" / "stability_items.parquet").exists()
    # Windows of 10 and 100 checkpoints do not fit into three.
    wide = answered.summary.filter(pl.col("metric").is_in(["wf", "wp"]))
    assert (wide.height, wide["estimate"].null_count()) == (4, 4)
    assert any("3 checkpoints up to the end" in text for text in answered.manifest["warnings"])


def test_scores_are_those_of_recall_by_hand_and_its_spans_are_used_again(run, tasks, monkeypatch) -> None:
    recall = run(probes=["recall"], data=tasks, steps=None).table("recall")
    means = recall.group_by("group", "step").agg(pl.col("hit_frac").mean())
    by_hand = {(group, step): value for group, step, value in means.rows() if group in ENDS}
    monkeypatch.setattr("memprobe.scoring.model.load", lambda *_: pytest.fail("a model was loaded"))
    added = run(probes=["stability"], data=tasks, steps=None, settings="stability.outcome=hit_frac")
    scores = {
        (name, step): s
        for name, step, s in added.table("stability").select("eval_set", "step", "score").rows()
    }
    assert scores == pytest.approx(by_hand, abs=1e-12)
    bwt = added.summary.filter(pl.col("metric") == "bwt", pl.col("group").is_null())["estimate"].item()
    assert bwt == pytest.approx(by_hand["first", 20] - by_hand["first", 10], abs=1e-12)
    fwt = added.summary.filter(pl.col("metric") == "fwt", pl.col("group").is_null())["estimate"].item()
    assert fwt == pytest.approx(by_hand["second", 10] - by_hand["second", 0], abs=1e-12)


def test_it_is_measured_again_from_units_alone(run, tasks) -> None:
    answered = run("delange2023", data=tasks, steps=None)
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    assert again.tables["stability_gaps"].equals(answered.table("stability_gaps"))


def two_ends(number, row) -> None:
    if number == 3:
        row["task_end_step"] = 15


def beyond(number, row) -> None:
    if row["group"] == "second":
        row["task_end_step"] = 12


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (two_ends, r"stability: group first has 2 task_end_steps \(10, 15\)"),
        (beyond, "stability: no checkpoint belongs to the task of group second: none lies above step 10"),
        (lambda _, row: row.pop("group"), "stability: 16 items with a task_end_step and no group"),
        (lambda _, row: row.pop("task_end_step"), "stability needs task_end_step, which no item has"),
    ],
)
def test_tasks_that_cannot_be_are_refused_before_any_work(run, tiny, tmp_path, edit, message) -> None:
    with pytest.raises(ItemError, match=message):
        run("delange2023", data=rewritten(tiny, tmp_path, edit), steps=None)
    assert not (tmp_path / "run").exists()


def test_a_wrong_end_of_a_task_is_named_by_line_and_column(cli, tiny, tmp_path) -> None:
    def wrong(number, row):
        if number == 1:
            row["task_end_step"] = "late"

    items = rewritten(tiny, tmp_path, wrong)
    answer = cli("run", "delange2023", "-m", tiny.model, "-d", items, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "error: a string of 4 characters, not a whole number" in answer.err
    assert "line 2, column task_end_step" in answer.err


def test_the_summary_shows_it_within_80_columns(cli, tasks, tiny, tmp_path) -> None:
    answer = cli("run", "delange2023", "-m", tiny.model, "-d", tasks, "--threads", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "stability of main, over its checkpoints" in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 80
