"""`--control`: which checkpoint it is, how it is scored, what is in excess of it, and what is refused.

Numbers are compared with tables of the same run; the intervals are tested in stats and test_contrast.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import polars as pl
import pytest

import memprobe
from memprobe.errors import CheckpointError, RunMismatchError


@pytest.fixture(scope="module")
def world(make, tmp_path_factory) -> SimpleNamespace:
    """Two sequences, a single checkpoint, and a twin with another tokenizer."""
    root = tmp_path_factory.mktemp("control")
    rows = [row | {"first_step": None if row["exposures"] == 0 else 5} for row in make.rows(12)]
    return SimpleNamespace(
        main=str(make.sequence(root / "main", (0, 20), tokenizer=make.tokenizer())),
        twin=str(make.sequence(root / "twin", (0, 20), tokenizer=make.tokenizer(), salt=5)),
        namesake=str(make.sequence(root / "other" / "main", (20,), tokenizer=make.tokenizer(), salt=6)),
        foreign=str(make.sequence(root / "foreign", (20,), tokenizer=make.tokenizer(reverse=True))),
        items=str(make.items(root / "items.jsonl", rows)),
    )


@pytest.fixture(scope="module")
def audited(world, tmp_path_factory):
    """Recall of the whole suffix by one token, which random models do hit, beside a control."""
    return memprobe.run(
        probes=["recall"],
        settings=["recall.suffix_tokens=1", "recall.verify_items=0"],
        model=world.main,
        data=world.items,
        control=world.twin,
        threads=1,
        out=tmp_path_factory.mktemp("audited") / "run",
    )


def excess(summary: pl.DataFrame, control: str) -> pl.DataFrame:
    ending = f"control={control}"
    return summary.filter(pl.col("condition").fill_null("").str.ends_with(ending))


def test_the_last_checkpoint_of_a_sequence_is_the_control_and_is_scored_like_the_others(audited) -> None:
    manifest = audited.manifest
    assert manifest["control"] == {"model": "twin", "revision": "step20", "label": "twin"}
    scored = audited.table("recall").select("model", "revision").unique().sort("model", "revision").rows()
    assert scored == [("main", "step0"), ("main", "step20"), ("twin", "step20")]


def test_each_rate_of_the_others_has_its_excess_over_the_control_by_item(audited) -> None:
    found = excess(audited.summary, "twin").filter(pl.col("group").is_null())
    assert found.select("model", "step", "metric").rows() == [
        ("main", 0, "exact_excess_frac"),
        ("main", 20, "exact_excess_frac"),
    ]
    table = audited.table("recall").with_columns(exact=pl.col("exact").cast(pl.Float64))
    for step in (0, 20):
        ours, theirs = (
            table.filter(model=model, step=at).sort("item_id")["exact"]
            for model, at in (("main", step), ("twin", 20))
        )
        row = found.filter(step=step).row(0, named=True)
        assert row["estimate"] == pytest.approx((ours - theirs).mean(), abs=1e-12)
        assert (row["n_items"], row["ci_method"]) == (12, "newcombe-paired")
        assert "|control:twin@step20:" in row["signature"]


def test_the_control_has_no_excess_over_itself(audited) -> None:
    assert excess(audited.summary, "twin").filter(model="twin").is_empty()
    assert excess(audited.summary, "never-trained").filter(model="twin").height > 0


def test_the_control_is_no_point_of_the_dose_response_to_size(world, tmp_path) -> None:
    # One model and a control of another size: nothing to compare sizes with.
    table = memprobe.run(
        probes=["recall"],
        model=world.main,
        data=world.items,
        control=world.twin,
        threads=1,
        out=tmp_path / "r",
    ).doses
    assert "parameters" not in set(table["dose"])


def test_a_run_with_a_control_is_measured_again_without_a_model(audited, tmp_path) -> None:
    from memprobe.pipeline.again import measure_again
    from memprobe.tables.store import RunStore

    copy = shutil.copytree(audited.path, tmp_path / "run")
    again = measure_again(RunStore(copy))
    assert again.summary.equals(audited.summary)
    assert again.tables["dose_response"].equals(audited.table("dose_response"))


def test_the_suite_file_repeats_the_run_with_its_control(audited, tmp_path, tables_of) -> None:
    assert 'control = "' in (audited.path / "suite.toml").read_text()
    repeated = memprobe.run(audited.path / "suite.toml", out=tmp_path / "again")
    assert tables_of(repeated.path) == tables_of(audited.path)


def test_another_control_is_another_question(world, audited, tmp_path) -> None:
    copy = shutil.copytree(audited.path, tmp_path / "run")
    asked = {"probes": ["recall"], "model": world.main, "data": world.items, "threads": 1, "out": copy}
    settings = ["recall.suffix_tokens=1", "recall.verify_items=0"]
    with pytest.raises(RunMismatchError, match="control differs: held twin, asked none"):
        memprobe.run(settings=settings, **asked)
    with pytest.raises(RunMismatchError, match="control differs: held twin, asked main@step0"):
        memprobe.run(settings=settings, control=f"{world.main}/step0", **asked)


def test_a_checkpoint_of_the_sequence_may_be_the_control_and_is_scored_once(world, tmp_path) -> None:
    run = memprobe.run(
        probes=["recall"],
        model=world.main,
        data=world.items,
        control=f"{world.main}/step0",
        threads=1,
        out=tmp_path / "run",
    )
    assert [(each["model"], each["step"]) for each in run.manifest["checkpoints"]] == [
        ("main", 0),
        ("main", 20),
    ]
    assert set(excess(run.summary, "main@step0")["step"]) == {20}


def test_a_control_of_the_same_name_is_told_apart_by_its_revision(world, tmp_path) -> None:
    run = memprobe.run(
        probes=["recall"],
        model=world.main,
        data=world.items,
        control=world.namesake,
        threads=1,
        out=tmp_path / "run",
    )
    assert run.table("recall")["model"].unique().sort().to_list() == ["main", "main@step20"]
    assert set(excess(run.summary, "main@step20")["model"]) == {"main"}


def test_a_control_with_other_tokens_is_refused_before_any_work(world, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"the control foreign cuts 12 of 12 items into other tokens"):
        memprobe.run(
            probes=["recall"], model=world.main, data=world.items, control=world.foreign, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_the_command_line_says_which_checkpoint_and_shows_both_excesses(world, cli, tmp_path) -> None:
    asked = ("run", "-p", "recall", "-m", world.main, "-d", world.items, "--threads", 1, "-o", tmp_path / "r")
    answer = cli(*asked, "--control", world.twin)
    assert answer.code == 0, answer.err
    assert "note: the control twin has 2 checkpoints: its last, step20, is used" in answer.err
    assert "control: twin, step20" in answer.out
    assert "In excess, step 20" in answer.out
    assert "over never-trained" in answer.out
    assert "over twin" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    document = json.loads(cli("summary", tmp_path / "r", "--json").out)
    assert any(row["condition"] == "control=twin" for row in document["summary"])


@pytest.mark.parametrize("spec", ["nowhere", "no/where/at/all", " "])
def test_a_control_that_is_not_there_is_2(spec, world, cli, tmp_path) -> None:
    asked = ("run", "-p", "recall", "-m", world.main, "-d", world.items, "-o", tmp_path / "r")
    answer = cli(*asked, "--control", spec, "--offline")
    assert answer.code == 2
    assert not (tmp_path / "r").exists()


def test_a_control_is_in_the_forecast(world, cli, tmp_path) -> None:
    asked = ("run", "-p", "recall", "-m", world.main, "-d", world.items, "-o", tmp_path / "r", "--dry-run")
    models = [
        line.split()[0] for line in cli(*asked, "--control", world.twin).out.splitlines() if "step" in line
    ]
    assert models.count("twin") == 1


def test_a_question_without_a_control_or_stages_keeps_its_directory() -> None:
    from memprobe.options import RunOptions
    from memprobe.pipeline.manifest import question_digest
    from memprobe.pipeline.suite import settings_table, suite_of

    suite = suite_of(["recall"])
    plain = RunOptions(model=("m",), data=("d",))
    for given in ({"control": "c"}, {"stages": "a,b"}, {"map": ("text=a",)}):
        assert question_digest(suite, plain) != question_digest(suite, plain.overlaid(given))
    # As it was made before there was such an option.
    left_out = (
        "device",
        "threads",
        "offline",
        "batch_tokens",
        "keep_checkpoints",
        "control",
        "stages",
        "map",
    )
    settings = settings_table(suite.entries[0].settings)
    asked = {
        "entries": [{"probe": "recall", "version": 1, "settings": settings}],
        "options": {name: value for name, value in asdict(plain).items() if name not in left_out},
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=list).encode()).hexdigest()
    assert question_digest(suite, plain) == digest[:8]
