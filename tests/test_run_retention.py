"""Retention through the whole pipeline: tables over a sequence, from units alone, and what stops it."""

import json
from pathlib import Path

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.retention.tables import RETENTION, RETENTION_CURVE, RETENTION_FIT
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY


def rewritten(tiny, tmp_path: Path, steps) -> str:
    """The tiny items with the first and last training step that `steps` gives for their number."""
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    file = tmp_path / "timed.jsonl"
    for number, row in enumerate(rows):
        row["exposures"] = None
        row["first_step"], row["last_step"] = steps(number)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def timed(tiny, tmp_path) -> str:
    # Checkpoints at 0, 10 and 20: last trained on at 0, between 0 and 10, or never.
    return rewritten(tiny, tmp_path, lambda number: ((0, 0), (0, 5), (None, None))[number % 3])


def test_retention_of_a_sequence_is_written_by_item_and_over_time(run, timed) -> None:
    answered = run(probes=["retention"], data=timed, steps=None)
    for schema in (RETENTION, RETENTION_CURVE, RETENTION_FIT):
        schema.check(answered.table(schema.name))
    SUMMARY.check(answered.summary)
    rows = answered.table("retention").filter(pl.col("item_id").is_in(["i00", "i01", "i02"]))
    # step - last_step, from the step of the last exposure on.
    assert rows.sort("item_id", "step")["steps_since_exposure"].to_list() == [
        *(0, 10, 20),
        *(None, 5, 15),
        *(None, None, None),
    ]
    every = answered.table("retention_curve").filter(
        pl.col("group").is_null(), outcome="logprob_mean_nats", sample="all_items"
    )
    assert every.select("lag_min_steps", "lag_max_steps", "n_items", "n_controls").rows() == [
        (0, 5, 16, 8),
        (10, 15, 16, 8),
        (20, 20, 8, 8),
    ]
    # Every second item has a foil: recognition is null for the others, and no missing value.
    assert answered.table("retention")["recognition_correct"].null_count() == 12 * 3
    assert set(answered.table("retention_fit")["against"]) == {"never-trained"}


def test_the_excess_is_that_of_the_outcomes_by_hand(run, timed) -> None:
    answered = run(probes=["retention"], data=timed, steps=None)
    values = answered.table("retention").rename({"logprob_mean_nats": "y"})
    never = values.filter(pl.col("first_step").is_null())
    # i00, i03, ... are the group control, which has no never-trained item, and is set against all of them.
    assert set(never["group"]) == {"canary"}
    level = never.group_by("step").agg(control=pl.col("y").mean())
    at_20 = values.filter(steps_since_exposure=20).join(level, on="step")
    by_hand = (at_20["y"] - at_20["control"]).mean()
    row = answered.table("retention_curve").filter(
        pl.col("group").is_null(), outcome="logprob_mean_nats", sample="all_items", lag_min_steps=20
    )
    assert row["excess"].item() == pytest.approx(by_hand, abs=1e-9)


def test_retention_added_to_a_run_that_holds_the_spans_loads_no_model(run, timed, monkeypatch) -> None:
    foiled = [json.loads(line) for line in Path(timed).read_text().splitlines()]
    file = Path(timed).with_name("foiled.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in foiled if row["foil"]))
    first = run(probes=["recognition", "recall"], data=str(file), steps=None)
    monkeypatch.setattr("memprobe.scoring.model.load", lambda *_: pytest.fail("a model was loaded"))
    added = run(probes=["retention"], data=str(file), steps=None)
    both = first.table("recall").join(added.table("retention"), on=["item_id", "step"])
    assert both.height == 36
    assert (both["exact"] == both["recall_exact"]).all()
    pairs = first.table("recognition").join(added.table("retention"), on=["item_id", "step"])
    assert (pairs["correct"] == pairs["recognition_correct"]).all()


def test_retention_is_measured_again_from_units_alone(run, timed) -> None:
    answered = run(probes=["retention"], data=timed, steps=None)
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    for name in ("retention", "retention_curve", "retention_fit"):
        assert again.tables[name].equals(answered.table(name))


@pytest.mark.parametrize(
    ("steps", "asked", "message"),
    [
        (lambda n: (5, 5) if n % 2 else (None, None), "20", "needs at least two checkpoints"),
        (lambda _: (None, None), None, "no item has a first_step"),
        (lambda _: (5, 21), None, "no checkpoint after any last_step: they begin at 21"),
    ],
)
def test_retention_that_cannot_be_is_refused_before_any_work(
    run, tiny, tmp_path, steps, asked, message
) -> None:
    with pytest.raises(ItemError, match=message):
        run(probes=["retention"], data=rewritten(tiny, tmp_path, steps), steps=asked)
    assert not (tmp_path / "run").exists()


def test_orhans_suite_needs_training_steps_and_goes_on_without_retention(cli, tiny, tmp_path) -> None:
    plain = cli("run", "orhan2023", *tiny.one, "-o", tmp_path / "run")
    assert plain.code == 2
    assert "retention needs first_step, which no item has" in plain.err
    assert "name the other probes with -p to leave retention out" in " ".join(plain.err.split())
    others = ("-p", "recognition", "-p", "recall")
    assert cli("run", "orhan2023", *others, *tiny.one, "-o", tmp_path / "run").code == 0


def test_the_summary_shows_retention_within_80_columns(cli, timed, tiny, tmp_path) -> None:
    answer = cli("run", "orhan2023", "-m", tiny.model, "-d", timed, "--threads", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "retention of main, over its checkpoints" in answer.out
    told = answer.out.split("retention of main, over its checkpoints")[1].splitlines()
    assert "recall_frac" in told[3]
    assert told[4].split()[:4] == ["steps_since_exposure=3", "0.00", "[0.00,", "0.19]"]
    assert max(len(line) for line in answer.out.splitlines()) <= 80
