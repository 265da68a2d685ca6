"""Profile through the whole pipeline: tables over a sequence, from scored units alone, and what stops it."""

import json
from pathlib import Path

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.profile.tables import PROFILE, PROFILE_AGG, PROFILE_DROPPED, PROFILE_PRETREND
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY


def rewritten(tiny, tmp_path: Path, first_step) -> str:
    """The tiny items with the training step that `first_step` gives for their number."""
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    file = tmp_path / "timed.jsonl"
    for number, row in enumerate(rows):
        row["exposures"] = None
        row["first_step"] = first_step(number)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def timed(tiny, tmp_path) -> str:
    # Checkpoints at 0, 10 and 20: cohorts 10 and 20, and a third of the items never trained on.
    return rewritten(tiny, tmp_path, lambda number: (5, 20, None)[number % 3])


def test_a_profile_of_a_sequence_is_written_with_its_tests_and_its_summary(run, timed) -> None:
    answered = run("lesci2024", data=timed, steps=None)
    for schema in (PROFILE, PROFILE_AGG, PROFILE_PRETREND, PROFILE_DROPPED):
        schema.check(answered.table(schema.name))
    cells = answered.table("profile").select("cohort_step", "step", "n_treated", "n_control").rows()
    assert cells == [(10, 10, 8, 8), (10, 20, 8, 8), (20, 10, 8, 8), (20, 20, 8, 8)]
    SUMMARY.check(answered.summary)
    pooled = answered.summary.filter(pl.col("group").is_null())
    assert pooled["metric"].to_list() == ["instantaneous", "persistent", "residual"]
    assert pooled["step"].null_count() == pooled["revision"].null_count() == 3
    # Item-level outcomes are not written.
    assert not (answered.path / "tables" / "profile_items.parquet").exists()
    assert answered.manifest["warnings"] == [
        text for text in answered.manifest["warnings"] if "main, profile" in text
    ]


def test_the_effect_is_that_of_the_outcomes_by_hand(run, timed) -> None:
    # The mean ln p per token of each item at each checkpoint, through another probe's table.
    answered = run("lesci2024", data=timed, steps=None)
    run(probes=["recognition"], data=timed, steps=None)
    nll = answered.table("recognition").select("item_id", "step", y=-pl.col("seen_nll_mean_nats"))
    first = pl.DataFrame([json.loads(line) for line in Path(timed).read_text().splitlines()])
    wide = nll.join(first.select("item_id", "first_step"), on="item_id").with_columns(pl.col("y"))
    means = {
        (first_step, step): y
        for first_step, step, y in wide.group_by("first_step", "step").agg(pl.col("y").mean()).rows()
    }
    # Only every second item has a foil, so take those alone in a run of their own.
    foiled = [json.loads(line) for line in Path(timed).read_text().splitlines()]
    file = Path(timed).with_name("foiled.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in foiled if row["foil"]))
    alone = run("lesci2024", data=str(file), steps=None, out=Path(timed).with_name("alone"))
    att = alone.table("profile").filter(cohort_step=10, step=20)["att"].item()
    by_hand = means[5, 20] - means[5, 0] - (means[None, 20] - means[None, 0])
    assert att == pytest.approx(by_hand, abs=1e-6)


def test_a_profile_is_measured_again_from_units_alone(run, timed) -> None:
    answered = run("lesci2024", data=timed, steps=None)
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    assert again.tables["profile"].equals(answered.table("profile"))


def test_a_profile_added_to_a_run_that_holds_the_spans_loads_no_model(run, timed, monkeypatch) -> None:
    # Recognition asks for the sums of every text that has a foil.
    foiled = [json.loads(line) for line in Path(timed).read_text().splitlines()]
    file = Path(timed).with_name("foiled.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in foiled if row["foil"]))
    run(probes=["recognition"], data=str(file), steps=None)
    monkeypatch.setattr("memprobe.scoring.model.load", lambda *_: pytest.fail("a model was loaded"))
    added = run(probes=["profile"], data=str(file), steps=None)
    assert added.table("profile").height == 4
    assert set(added.summary["probe"]) == {"recognition", "profile"}


@pytest.mark.parametrize(
    ("first_step", "steps", "message"),
    [
        (lambda _: 5, None, "no item is never trained on"),
        (lambda number: 5 if number % 2 else None, "20", "at least two checkpoints"),
        (lambda number: 90 if number % 2 else None, None, "between the checkpoints at step 0 and 20"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_before_any_work(
    run, tiny, tmp_path, first_step, steps, message
) -> None:
    with pytest.raises(ItemError, match=message):
        run("lesci2024", data=rewritten(tiny, tmp_path, first_step), steps=steps)
    assert not (tmp_path / "run").exists()


def test_the_summary_shows_the_profile_within_80_columns(cli, timed, tiny, tmp_path) -> None:
    answer = cli("run", "lesci2024", "-m", tiny.model, "-d", timed, "--threads", 1, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "profile of main, over its checkpoints" in answer.out
    assert "instantaneous" in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 80


def test_a_control_model_of_one_checkpoint_is_asked_nothing_over_time(run, timed, make, tmp_path) -> None:
    control = make.sequence(tmp_path / "twin", (20,), tokenizer=make.tokenizer(), salt=7)
    answered = run(probes=["profile", "recall"], data=timed, steps=None, control=str(control / "step20"))
    assert set(answered.table("profile")["model"]) == {"main"}
    assert answered.summary.filter(metric="exact_excess_frac").height
    assert not any("at least two checkpoints" in text for text in answered.manifest["warnings"])


def test_items_that_leave_the_probe_are_counted_in_the_head_of_the_summary(run, tiny, tmp_path, cli) -> None:
    # At 0 there is no base, 25 is after the last checkpoint; a count without a step is no control.
    items = rewritten(tiny, tmp_path, lambda number: (5, 0, 25, None)[number % 4])
    rows = [json.loads(line) for line in Path(items).read_text().splitlines()]
    rows[3]["exposures"] = 8
    Path(items).write_text("".join(json.dumps(row) + "\n" for row in rows))
    answered = run("lesci2024", data=items, steps=None)
    said = {each["reason"]: each["n_items"] for each in answered.manifest["left_out"]}
    assert said == {
        "trained on, but without a first_step": 1,
        "trained on at or before the first checkpoint": 6,
        "not trained on by the last checkpoint": 6,
    }
    assert answered.table("profile")["n_control"].unique().to_list() == [5]
    head = " ".join(cli("summary", answered.path).out.split())
    assert "profile: 13 items left out (1 trained on, but without a first_step, 6 trained on at or" in head
    assert "note: 6 items of first_step 0 (i01, i05, i09, ...)" in head


def test_a_column_of_nulls_says_never_to_the_summary_and_to_forgetting_alike(run, tiny, tmp_path) -> None:
    items = rewritten(tiny, tmp_path, lambda number: None)
    rows = [json.loads(line) for line in Path(items).read_text().splitlines()]
    for row in rows[:4]:
        row["exposures"] = 3
    Path(items).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(probes=["recall", "forgetting"], data=items, steps=None).summary.filter(
        pl.col("condition").str.contains("trained="), pl.col("group").is_null()
    )
    for metric in ("exact_frac", "never_learned_frac"):
        n_items = found.filter(pl.col("metric") == metric).unique("condition").sort("condition")["n_items"]
        assert n_items.to_list() == [20, 4], metric


def test_thirty_copies_of_a_text_as_controls_are_one_and_the_head_says_so(run, tiny, tmp_path, cli) -> None:
    items = rewritten(tiny, tmp_path, lambda number: 5 if number % 2 else None)
    rows = [json.loads(line) for line in Path(items).read_text().splitlines()]
    treated = [row for row in rows if row["first_step"] is not None]
    controls = [rows[0] | {"item_id": f"copy{number:02d}"} for number in range(30)]
    Path(items).write_text("".join(json.dumps(row) + "\n" for row in [*treated, *controls]))
    answered = run("lesci2024", data=items, steps=None)
    pooled = answered.summary.filter(pl.col("group").is_null())
    assert pooled["ci_low"].null_count() == pooled.height
    assert pooled["n_clusters"].unique().to_list() == [len(treated) + 1]
    assert answered.manifest["items"]["n_copies"] == 29
    told = "note: 30 items hold 1 content under several ids (copy00 = copy01 = copy02 = ...)"
    assert told in " ".join(cli("summary", answered.path).out.split())
    # Scored and measured again from its tables alone, the run says the same.
    assert measure_again(RunStore(answered.path)).summary.equals(answered.summary)
    assert "same_content_as" not in answered.table("profile").columns


def test_rates_count_copies_as_one_cluster_however_the_text_is_given(run, tiny, make, tmp_path) -> None:
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()][:6]
    given = [{key: row[key] for key in ("item_id", "prefix", "suffix")} for row in rows]
    first = given[0]
    text, border = first["prefix"] + first["suffix"], len(first["prefix"]) - 2
    given.append({"item_id": "other-cut", "prefix": text[:border], "suffix": text[border:]})
    ids = make.tokenizer()(text, add_special_tokens=False)["input_ids"]
    whole = {"item_id": "ids", "input_ids": ids}
    file = tmp_path / "copied.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in given))
    answered = run(probes=["recall"], data=str(file), steps=None)
    exact = answered.summary.filter(pl.col("metric") == "exact_frac")
    assert set(exact.select("n_items", "n_clusters").rows()) == {(7, 6)}
    file.write_text("".join(json.dumps(row) + "\n" for row in [*given, whole]))
    more = run(probes=["recall"], data=str(file), steps=None, out=tmp_path / "more")
    assert more.manifest["items"]["n_copies"] == 2
    exact = more.summary.filter(pl.col("metric") == "exact_frac")
    assert set(exact.select("n_items", "n_clusters").rows()) == {(8, 6)}


def test_without_copies_nothing_is_said_and_no_table_knows_of_them(run, timed) -> None:
    answered = run("lesci2024", data=timed, steps=None)
    assert answered.manifest["items"]["n_copies"] == 0
    assert not any("several ids" in text for text in answered.manifest["notes"])
    assert "same_content_as" not in answered.table("items").columns
