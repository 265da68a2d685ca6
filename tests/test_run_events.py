"""Forgetting and acquisition through the whole pipeline: tables, shared units, and what stops them."""

import json
import math
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.discovery import find
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY

EVENT_TABLES = [*find("forgetting").schemas, *find("acquisition").schemas]


@pytest.fixture
def timed(tiny, tmp_path) -> str:
    """The tiny items, of which a third was trained on twice, a third once, and a third never."""
    rows = [json.loads(line) for line in Path(tiny.items).read_text().splitlines()]
    for number, row in enumerate(rows):
        steps = ([5, 15], [15], None)[number % 3]
        row |= {"exposures": None, "first_step": steps and steps[0], "exposure_steps": steps}
    file = tmp_path / "timed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_both_are_written_with_their_tables_and_summary_and_measured_again(run, timed) -> None:
    answered = run(probes=["forgetting", "acquisition"], data=timed, steps=None)
    for schema in EVENT_TABLES:
        schema.check(answered.table(schema.name))
    SUMMARY.check(answered.summary)
    assert answered.table("forgetting").height == answered.table("items").height
    # Checkpoints at 0, 10 and 20: a third has two injections, a third one.
    injections = answered.table("acquisition").group_by("injection_step").len().sort("injection_step")
    assert injections.rows() == [(5, 8), (15, 16)]
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    for schema in EVENT_TABLES:
        assert again.tables[schema.name].equals(answered.table(schema.name))


def test_states_and_levels_are_those_of_p_z_in_another_table(run, timed, tmp_path) -> None:
    run(probes=["extraction"], data=timed, steps=None)
    held = memprobe.open_run(tmp_path / "run").table("extraction")
    full = held.filter(scheme="full").sort("item_id", "step")
    last = full.filter(step=20)["logp_nats"]
    # A threshold that half of the items reach.
    tau = math.exp(last.median())
    settings = ["forgetting.state=pz", f"forgetting.tau_hi={tau}"]
    answered = run(probes=["forgetting", "acquisition"], settings=settings, data=timed, steps=None)
    states = answered.table("forgetting").sort("item_id")
    assert states["last_state"].to_list() == (last >= math.log(tau)).to_list()
    assert states["last_state"].n_unique() == 2
    means = full.select("item_id", before_step="step", l=pl.col("logp_nats") / pl.col("suffix_tokens"))
    beside = answered.table("acquisition").join(means, on=["item_id", "before_step"])
    assert beside.height == 24
    assert beside["l_before_nats"].to_list() == pytest.approx(beside["l"].to_list(), abs=1e-6)


def test_added_to_a_run_that_holds_recall_they_load_no_model(run, timed, monkeypatch) -> None:
    run(probes=["recall"], data=timed, steps=None)
    monkeypatch.setattr("memprobe.scoring.model.load", lambda *_: pytest.fail("a model was loaded"))
    added = run(probes=["forgetting", "acquisition"], data=timed, steps=None)
    assert set(added.summary["probe"]) == {"recall", "forgetting", "acquisition"}


def test_forgetting_needs_no_column(run, tiny) -> None:
    answered = run("toneva2019", data=tiny.items, steps=None)
    pooled = answered.summary.filter(pl.col("group").is_null(), pl.col("condition").is_null())
    assert pooled["metric"].to_list() == [
        "unforgettable_frac",
        "never_learned_frac",
        "n_forgetting_events",
        "first_forgotten_median_steps",
    ]


@pytest.mark.parametrize(
    ("probe", "changes", "message"),
    [
        ("forgetting", {"steps": "20"}, "needs at least two checkpoints"),
        ("acquisition", {"steps": "20"}, "needs at least two checkpoints"),
        ("acquisition", {"settings": ["acquisition.window_steps=2"]}, "no checkpoint lies within 2 steps"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(run, timed, tmp_path, probe, changes, message) -> None:
    with pytest.raises(ItemError, match=message):
        run(probes=[probe], data=timed, **({"steps": None} | changes))
    assert not (tmp_path / "run").exists()


def test_the_summary_fits_80_columns(cli, timed, tiny, tmp_path) -> None:
    answer = cli(
        *("run", "-p", "forgetting", "-p", "acquisition", "-m", tiny.model, "-d", timed),
        *("--threads", 1, "-o", tmp_path / "run"),
    )
    assert answer.code == 0, answer.err
    assert "forgetting of main, over its checkpoints" in answer.out
    assert "decay_per_decade" in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 80
