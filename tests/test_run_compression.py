"""Compression through the whole pipeline: what is written, what is started from, what is refused.

The search is the real one, on targets of two tokens that one of the checkpoints says after a single one.
"""

import json
import re
import shutil
import signal
import time

import numpy as np
import polars as pl
import pytest

import memprobe
from memprobe.checkpoints import resolve
from memprobe.errors import CheckpointError, ItemError
from memprobe.pipeline.shard import Shard
from memprobe.pipeline.worker import work
from memprobe.scoring import search as search_room
from memprobe.scoring.generate import Continuation, greedy
from memprobe.scoring.load import LoadOptions, load
from memprobe.tables.manifest import Manifest
from memprobe.tables.store import RunStore

SETTINGS = (
    "compression.target_tokens=2",
    "compression.n_items=4",
    "compression.controls=2",
    "compression.budget=250",
)


@pytest.fixture(scope="module")
def said(tiny, make, tmp_path_factory) -> str:
    """Items that begin with two tokens that the first of the tiny checkpoints, or the second, says."""
    texts: list[list[int]] = []
    for checkpoint in resolve([tiny.model])[0].checkpoints[:2]:
        loaded = load(checkpoint, LoadOptions())
        wanted = [Continuation(np.array([first]), np.zeros(2, np.int64), 2) for first in range(40)]
        pairs = sorted({tuple(each.tolist()) for each in greedy(loaded, wanted)})
        assert len(pairs) >= 3
        texts += [list(pair) for pair in pairs[:3]]
    rows = [
        {"item_id": f"i{n}", "input_ids": [*ids, 7, 8], "exposures": n % 3, "group": "ab"[n > 2]}
        for n, ids in enumerate(texts)
    ]
    return str(make.items(tmp_path_factory.mktemp("said") / "said.jsonl", rows))


@pytest.fixture
def run(run, said):
    """Return `memprobe.run` on these items."""
    return lambda **changes: run(**({"data": said} | changes))


@pytest.fixture
def ask(tiny, said) -> tuple[str, ...]:
    return ("-m", tiny.model, "-d", said, "--threads", "1")


@pytest.fixture(scope="module")
def compressed(tiny, said, tmp_path_factory):
    """A finished run over three checkpoints; tests must not change it."""
    return memprobe.run(
        probes="compression",
        settings=SETTINGS,
        model=tiny.model,
        data=said,
        threads=1,
        out=tmp_path_factory.mktemp("compressed") / "run",
    )


def command(*more: str) -> list[str]:
    return ["run", "-p", "compression", *(word for each in (*SETTINGS, *more) for word in ("--set", each))]


def test_every_target_is_searched_at_every_checkpoint(compressed):
    table = compressed.table("compression")
    # Two bytes have no second word to shuffle.
    assert table.group_by("target_kind", "step").len().sort("target_kind", "step").rows() == [
        (target, step, n) for target, n in (("item", 4), ("random", 2)) for step in (0, 10, 20)
    ]
    assert not table.select("step", "item_id", "target_kind").is_duplicated().any()
    assert set(table["target_tokens"]) == {2}
    # Six items, two of each of 0 to 2 exposures: of their order the places 0, 2 (5/3 rounded), 3 and 5.
    first = table.filter(pl.col("step") == 0, pl.col("target_kind") == "item")
    assert first["exposures"].sort().to_list() == [0, 1, 1, 2]
    assert table["evaluations_used"].max() <= 250
    assert table["target_bits"].null_count() == 0
    # What is found is consistent, whichever it is.
    hit = table.filter(~pl.col("is_censored"))
    assert 0 < hit.height < table.height
    assert (hit["acr"] == 2 / hit["prompt_tokens"]).all()
    missed = table.filter("is_censored")
    assert missed["acr"].null_count() == missed.height
    assert (missed["acr_upper_bound"] == 2 / missed["censored_at_tokens"]).all()


def test_the_summary_has_the_rate_the_medians_and_controls_apart(compressed):
    last = compressed.summary.filter(pl.col("step") == 20, pl.col("group").is_null())
    found = {(row["metric"], row["condition"]): row for row in last.iter_rows(named=True)}
    table = compressed.table("compression").filter(pl.col("step") == 20)
    for target, condition in (("item", None), ("random", "target=random")):
        rows = table.filter(pl.col("target_kind") == target)
        rate = found["memorized_frac", condition]
        assert rate["estimate"] == rows["acr"].fill_null(0).gt(1).mean()
        assert (rate["n_items"], rate["ci_method"]) == (rows.height, "wilson")
        ratio = found["acr_median", condition]
        assert ratio["estimate"] == rows["acr"].median()
        assert (ratio["n_items"], ratio["n_missing"]) == (rows["acr"].count(), rows["acr"].null_count())
        assert found["prompt_tokens_km_median", condition]["n_items"] == rows.height
    assert ("memorized_frac", "exposures=2") in found


def test_a_search_starts_from_the_prompt_of_the_checkpoint_before(compressed):
    table = compressed.table("compression").sort("item_id", "target_kind", "step")
    before = table.select(
        expected=pl.when(pl.col("prompt_tokens").is_not_null())
        .then("step")
        .shift(1)
        .over("item_id", "target_kind", order_by="step")
    )
    assert table["warm_from_step"].to_list() == before["expected"].to_list()
    assert table["warm_from_step"].count() > 0


def test_without_warm_starts_no_checkpoint_hangs_on_another(run, compressed):
    cold = run(probes="compression", settings=[*SETTINGS, "compression.warm_start=false"])
    table = cold.table("compression")
    assert table["warm_from_step"].null_count() == table.height
    # The first checkpoint starts from nothing in any case.
    alone = run(
        probes="compression",
        settings=[*SETTINGS, "compression.warm_start=false"],
        steps="0",
        out=cold.path.parent / "first",
    ).table("compression")
    first = compressed.table("compression").filter(pl.col("step") == 0)
    assert alone.equals(first)


def test_each_search_is_a_unit_and_what_is_held_is_not_searched_again(
    compressed, tiny, said, units_of, tmp_path
):
    copy = shutil.copytree(compressed.path, tmp_path / "run")
    before = units_of(copy)
    # Three checkpoints: six searches, and one unit of what is scored.
    assert len(before) == 3 * (6 + 1)
    again = memprobe.run(
        probes=["compression", "recall"],
        settings=SETTINGS,
        model=tiny.model,
        data=said,
        threads=1,
        out=copy,
    )
    after = units_of(copy)
    assert {name: after[name] for name in before} == before
    assert len(after) == 3 * (6 + 1 + 1)
    assert again.table("compression").equals(compressed.table("compression"))


# Whatever happens in between.


def test_a_run_killed_while_it_searches_ends_with_the_same_tables(
    compressed, ask, forked, tmp_path, tables_of, units_of
):
    asked = (*command(), *ask, "-o", "run")
    victim = forked(*asked, pause_s=0.02)
    while victim.process.is_alive() and len(list((tmp_path / "run").glob("units/*.parquet"))) < 11:
        time.sleep(0.002)
    victim.send(signal.SIGKILL)
    assert victim.answer().code == -signal.SIGKILL
    assert 11 <= len(units_of(tmp_path / "run")) < 21
    resumed = forked(*asked).answer()
    assert resumed.code == 0, resumed.err
    assert tables_of(tmp_path / "run") == tables_of(compressed.path)


def test_two_processes_end_with_the_same_tables(compressed, ask, forked, tmp_path, tables_of):
    started = [
        forked(*command(), *ask, "-o", "run", pause_s=0.05),
        forked("worker", "run", "--threads", 1, pause_s=0.05),
    ]
    for each in started:
        answer = each.answer()
        assert answer.code == 0, answer.err
    assert tables_of(tmp_path / "run") == tables_of(compressed.path)


def test_a_share_does_not_wait_for_what_another_share_has_not_begun(compressed, tmp_path, tables_of):
    copy = shutil.copytree(compressed.path, tmp_path / "run")
    for file in copy.glob("units/*.parquet"):
        file.unlink()
    first = work(copy, shard=Shard(1, 2))
    assert first.n_left > 0
    assert work(copy, shard=Shard(2, 2)).n_left == 0
    assert tables_of(copy) == tables_of(compressed.path)


def test_a_unit_that_cannot_be_read_is_searched_again_before_the_next(compressed, tiny, tmp_path, tables_of):
    copy = shutil.copytree(compressed.path, tmp_path / "run")
    found = compressed.table("compression").filter(pl.col("step") == 20, pl.col("warm_from_step") == 10)
    held = {file: pl.read_parquet(file) for file in copy.glob("units/*.parquet")}
    (target,) = found.select("item_id", "target_kind").rows()[:1]
    chain = [
        file
        for file, frame in held.items()
        if frame["found"][0] is not None
        and frame["item_id"][0] == target[0]
        and (frame["part"][0] == "text") == (target[1] == "item")
    ]
    assert len(chain) == 3
    steps = {file: int(pl.read_parquet_metadata(file)["step"]) for file in chain}
    (damaged,), (following,) = ([file for file in chain if steps[file] == step] for step in (10, 20))
    damaged.write_bytes(damaged.read_bytes()[:100])
    following.unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    RunStore(copy).write_manifest(Manifest.from_json(manifest | {"state": "scoring"}))
    work(copy)
    assert tables_of(copy) == tables_of(compressed.path)
    assert damaged.with_name(damaged.name + ".broken").exists()


def test_behind_a_checkpoint_that_fails_a_search_starts_from_nothing(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    weights = folder / "step10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = run(probes="compression", settings=SETTINGS, model=str(folder), steps=None)
    assert [each["revision"] for each in done.failures] == ["step10"]
    table = done.table("compression")
    assert set(table["step"]) == {0, 20}
    assert table["warm_from_step"].null_count() == table.height


def test_two_steps_with_the_same_weights_share_their_searches(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "copy" / "main")
    shutil.copy(folder / "step10" / "model.safetensors", folder / "step20" / "model.safetensors")
    table = run(probes="compression", settings=SETTINGS, model=str(folder), steps=None).table("compression")
    own = pl.exclude("step", "revision")
    ten, twenty = (table.filter(pl.col("step") == step).select(own) for step in (10, 20))
    assert ten.equals(twenty)
    # Neither from its own twin.
    assert set(table["warm_from_step"].drop_nulls()) <= {0}


# Text and ids.


def test_no_unit_and_no_table_holds_a_prompt_unless_it_is_asked_for(compressed, tiny, said, tmp_path):
    units = pl.concat(
        [pl.read_parquet(file) for file in compressed.path.glob("units/*.parquet")], how="diagonal"
    )
    held = units["found"].drop_nulls().struct.unnest()
    assert held["prompt_ids"].null_count() == held.height
    assert "prompt_ids" not in compressed.table("compression").columns
    shown = memprobe.run(
        probes="compression",
        settings=SETTINGS,
        model=tiny.model,
        data=said,
        threads=1,
        include_text=True,
        out=tmp_path / "shown",
    )
    table = shown.table("compression")
    lengths = table["prompt_ids"].list.len()
    assert lengths.to_list() == table["prompt_tokens"].to_list()
    same = [name for name in compressed.table("compression").columns if name in table.columns]
    assert table.select(same).equals(compressed.table("compression").select(same))
    # The seal is over the ids: nowhere in the run that hides them do their bytes stand.
    sealed = held["prompt_sealed"].drop_nulls().to_list()
    ids = [b"".join(each.to_bytes(4, "little") for each in row) for row in table["prompt_ids"].drop_nulls()]
    assert len(sealed) == len(ids) > 0
    assert not set(sealed) & set(ids)


# What is refused, and what is said.


def test_a_dry_run_counts_searches_and_evaluations(cli, ask, tmp_path):
    answer = cli(*command(), *ask, "-o", tmp_path / "run", "--dry-run", "--json", "-q")
    totals = json.loads(answer.out)["totals"]
    assert (totals["searches_left"], totals["evaluations_left"]) == (18, 18 * 250)
    assert totals["estimated_s"] is not None
    shown = cli(
        *command("compression.seeds=[1, 2]"), *ask, "--steps", "20", "-o", tmp_path / "run", "--dry-run"
    )
    assert "6 searches left: at most 3,000 candidates evaluated" in shown.out.splitlines()


def test_progress_tells_target_length_loss_and_what_is_left(cli, ask, tmp_path, monkeypatch):
    monkeypatch.setattr("memprobe.cli.console._LINE_EVERY_S", 0.0)
    answer = cli(*command(), *ask, "--steps", "20", "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    line = r"scoring checkpoint 1/1 step20: \d/7 units, target \d/6, trying \d+ tokens?, loss [\d.]+ nats, .*"
    assert re.search(line, answer.err)
    assert re.search(r", \d+/250 tried, about \d+ s left\n", answer.err)
    assert max(map(len, answer.out.splitlines())) <= 80 or str(tmp_path) in answer.out


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("budget=0", "budget is 0, not 1 or more"),
        ("budget=many", '`budget` is "many", not a whole number'),
        ("optimizer=gcq", '`optimizer` is "gcq", allowed: coordinate, gcg, random'),
        ("tau=gzop", "tau is `gzop`, not a number or one of gzip, zlib"),
        ("chat=true", "chat = true, and the tokenizer has no chat template"),
        ('groups=["canry"]', "no item has the group `canry`"),
        ("budgets=3", "unknown setting `budgets`, did you mean `budget`?"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_work(setting, told, cli, ask, tmp_path):
    answer = cli(
        "run",
        "-p",
        "compression",
        "--set",
        f"compression.{setting}",
        *ask,
        "--steps",
        "20",
        "-o",
        tmp_path / "r",
    )
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "r").exists()


def test_a_compressor_may_be_the_threshold(run):
    done = run(probes="compression", settings=[*SETTINGS, "compression.tau=gzip"])
    table = done.table("compression").filter(pl.col("target_kind") == "item")
    # Two bytes take 22 as a gzip file (one that is no text counts as the three of its stand-in).
    assert 2 / 22 in set(table["gzip_ratio"])
    assert table["gzip_ratio"].max() < 0.2
    rate = done.summary.filter(pl.col("metric") == "memorized_frac", pl.col("condition").is_null())
    assert rate["estimate"][0] == (~table["is_censored"]).mean()


def test_a_target_without_room_for_a_prompt_is_refused_with_its_place(run, tiny, make, tmp_path):
    # The context holds 96: of 96 tokens the last is not read, and one token of a prompt fills it.
    rows = [{"item_id": "fits", "text": "x" * 95 + "y"}, {"item_id": "long", "text": "x" * 96 + "y"}]
    data = make.items(tmp_path / "long.jsonl", rows)
    settings = ["compression.controls=0", "compression.budget=20"]
    with pytest.raises(ItemError, match="item long has 97 tokens to read, the model's context holds 96"):
        run(probes="compression", settings=settings, data=data)
    done = run(probes="compression", settings=settings, data=data, on_bad_item="skip")
    row = done.table("compression").row(0, named=True)
    assert (row["item_id"], row["censored_at_tokens"]) == ("fits", 1)


def test_an_empty_target_is_refused(run, make, tmp_path):
    data = make.items(tmp_path / "empty.jsonl", [{"item_id": "a", "text": ""}])
    with pytest.raises(ItemError, match="empty"):
        run(probes="compression", data=data)


def test_a_model_that_cannot_be_searched_is_a_failed_checkpoint(run, monkeypatch):
    def refuse(*_, **__):
        raise CheckpointError("the model has no input embeddings")

    monkeypatch.setattr(search_room, "search_prompt", refuse)
    done = run(probes="compression", settings=SETTINGS)
    assert [each["error"] for each in done.failures] == ["the model has no input embeddings"]
