"""What a run directory answers: the same again, more, other questions, failures, privacy.

Numbers are compared between runs, never with goldens: those stand in the tests of scoring and stats.
"""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import InputError, InvalidRunError, RunMismatchError, SafetyError
from memprobe.tables.requests import ALWAYS
from memprobe.tables.store import RunStore


@pytest.fixture
def no_model(monkeypatch):
    """Make every attempt to load a model an error that no handler of ours catches."""
    from memprobe.scoring import model

    def refuse(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(model, "load", refuse)


# The same question again


def test_the_same_question_again_scores_nothing_and_gives_the_same(
    tiny, finished, tmp_path, no_model, tables_of, units_of
):
    again = shutil.copytree(finished, tmp_path / "run")
    before = units_of(again)
    memprobe.run("quickstart", model=tiny.model, data=tiny.items, threads=1, out=again)
    assert units_of(again) == before
    assert tables_of(again) == tables_of(finished)


def test_the_suite_file_of_a_run_repeats_it_elsewhere(finished, tmp_path, tables_of, units_of):
    repeated = memprobe.run(finished / "suite.toml", out=tmp_path / "again")
    assert tables_of(repeated.path) == tables_of(finished)
    assert units_of(repeated.path).keys() == units_of(finished).keys()


def test_fresh_scores_anew_and_keeps_files_that_are_not_the_runs(run, tmp_path, units_of):
    run(probes=["recall"])
    before = units_of(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run(probes=["recall"], limit=8, fresh=True)
    assert not units_of(tmp_path / "run").keys() & before.keys()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_fresh_refuses_a_directory_without_a_manifest(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        run(probes=["recall"], fresh=True)
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("wrong", [{"model": "nowhere"}, {"data": "nowhere.jsonl"}, {"steps": "77"}])
def test_fresh_with_a_wrong_question_costs_nothing_of_the_old_run(wrong, run, tmp_path, tables_of):
    run(probes=["recall"])
    before = tables_of(tmp_path / "run")
    with pytest.raises(InputError):
        run(probes=["recall"], fresh=True, **wrong)
    assert tables_of(tmp_path / "run") == before


# A run that grows


def test_recall_after_extraction_loads_no_model_and_gives_what_it_gives_alone(run, tmp_path, units_of):
    run(probes=["extraction", "recall"], settings=["recall.verify_items=1"], out=tmp_path / "both")
    run(probes=["extraction"])
    before = units_of(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memprobe.scoring.model.load", None)
        grown = run(probes=["recall"], settings=["recall.verify_items=0"])
    assert units_of(tmp_path / "run") == before
    assert grown.table("recall").equals(memprobe.open_run(tmp_path / "both").table("recall"))
    assert set(grown.summary["probe"]) == {"extraction", "recall"}
    assert [entry["probe"] for stage in grown.manifest["stages"] for entry in stage] == [
        "extraction",
        "recall",
    ]


def test_extraction_after_recall_scores_its_schemes_and_keeps_what_was_there(run, tmp_path, units_of):
    run(probes=["recall"])
    before = units_of(tmp_path / "run")
    grown = run(probes=["extraction"])
    after = units_of(tmp_path / "run")
    assert before.items() < after.items()
    alone = run(probes=["extraction"], out=tmp_path / "alone")
    assert grown.table("extraction").equals(alone.table("extraction"))


def test_recognition_after_recall_leaves_the_tables_of_recall_as_they_were(run, tmp_path):
    before = run(probes=["recall"]).table("recall")
    grown = run(probes=["recognition"])
    assert grown.table("recall").equals(before)
    alone = run(probes=["recognition"], out=tmp_path / "alone")
    assert grown.table("recognition").equals(alone.table("recognition"))
    # By default both pools hold the same items; the gain needs an earlier checkpoint, so it has no row.
    assert grown.summary.filter(probe="recognition")["metric"].unique().sort().to_list() == [
        "accuracy_frac",
        "auc",
        "margin_nats",
    ]


def test_the_suite_file_of_a_grown_run_holds_all_its_probes_and_repeats_it(run, tmp_path):
    run(probes=["extraction"])
    grown = run(probes=["recall"])
    repeated = memprobe.run(tmp_path / "run" / "suite.toml", out=tmp_path / "again")
    for name in ("extraction", "recall"):
        assert repeated.table(name).equals(grown.table(name))


def test_a_held_probe_asked_again_alone_keeps_the_others(run):
    run(probes=["extraction", "recall"])
    again = run(probes=["recall"])
    assert set(again.summary["probe"]) == {"extraction", "recall"}
    assert len(again.manifest["stages"]) == 1


# Another question


def _more_items(tmp_path, make):
    return {"data": str(make.items(tmp_path / "more.jsonl", make.rows(25)))}


def _other_weights(tmp_path, make):
    folder = make.sequence(tmp_path / "other" / "main", (20,), tokenizer=make.tokenizer(), salt=1)
    return {"model": str(folder)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_more_items, r"items differs: held [0-9a-f]+, asked [0-9a-f]+"),
        (_other_weights, r"checkpoint main@step20 \(step 20\) differs: held [0-9a-f]+, asked [0-9a-f]+"),
        ({"limit": 9}, r"items differs"),
        ({"bos": "none"}, r"BOS mode differs: held default, asked none"),
        ({"dtype": "bfloat16"}, r"dtype differs: held float32, asked bfloat16"),
        ({"seed": 7}, r"seed differs: held 0, asked 7"),
        ({"include_text": True}, r"include_text differs: held false, asked true"),
        ({"steps": "10,20"}, r"checkpoint main@step10 \(step 10\) is not in the run"),
        ({"steps": "10"}, r"checkpoint main@step20 \(step 20\) is in the run and was not asked for"),
        (
            {"settings": ["recall.suffix_tokens=3"]},
            r'settings of recall differ: held .*, asked .*"suffix_tokens": 3',
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_a_run_of_another_question_is_refused_with_what_differs(change, told, run, tmp_path, make, tables_of):
    run(probes=["recall"])
    before = tables_of(tmp_path / "run"), (tmp_path / "run" / "manifest.json").read_bytes()
    changes = change(tmp_path, make) if callable(change) else change
    with pytest.raises(RunMismatchError, match=told) as refused:
        run(probes=["recall"], **changes)
    assert refused.value.exit_code == 2
    assert "the run directory belongs to another question" in str(refused.value)
    assert "--fresh" in str(refused.value)
    assert (tables_of(tmp_path / "run"), (tmp_path / "run" / "manifest.json").read_bytes()) == before


def test_everything_that_differs_is_told_at_once(run):
    run(probes=["recall"])
    with pytest.raises(RunMismatchError) as refused:
        run(probes=["recall"], seed=1, bos="none", limit=5)
    # seed, BOS mode, items, the checkpoint's key (BOS is part of it), and the last line that says what to do
    assert len(refused.value.problems) == 5


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"batch_tokens": 64}, {"device": "cpu"}, {"offline": True}]
)
def test_what_changes_speed_alone_is_no_other_question(change, run):
    run(probes=["recall"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memprobe.scoring.model.load", None)
        run(probes=["recall"], **change)


def test_a_damaged_manifest_is_no_bug_and_fresh_mends_it(run, tmp_path):
    run(probes=["recall"])
    (tmp_path / "run" / "manifest.json").write_text('{"format": 1, "sta')
    with pytest.raises(InvalidRunError, match="the manifest cannot be used: it is not JSON"):
        run(probes=["recall"])
    assert run(probes=["recall"], fresh=True).manifest["state"] == "done"


# Where the answer goes


def test_the_default_directory_is_the_same_for_the_same_question_and_no_other(tiny, tmp_path, monkeypatch):
    from memprobe.pipeline.question import ask

    options = {"model": (tiny.model,), "data": (tiny.items,)}
    base = ask("quickstart", options=options).out
    assert base.parent == Path("reports")
    assert base.name.startswith("quickstart-")
    assert len(base.name) == len("quickstart-") + 8

    def out(suite="quickstart", probes=(), settings=(), **changes):
        return ask(suite, probes=probes, settings=settings, options=options | changes).out

    speed = {"threads": 1, "device": "cpu", "offline": True, "batch_tokens": 99}
    assert out(**speed) == base
    assert out(seed=0) == base
    others = [
        out(seed=1),
        out(limit=3),
        out(steps="0"),
        out(bos="none"),
        out(dtype="bfloat16"),
        out(include_text=True),
        out(on_bad_item="skip"),
        out(data=(tiny.items, tiny.items)),
        out(model=("elsewhere",)),
        out(probes=["recall"]),
        out(settings=["recall.suffix_tokens=3"]),
        out(None, probes=["recall"]),
        out("hayes2024"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert out(None, probes=["recall", "extraction"]).name.startswith("recall-extraction-")


# Several sequences, several files, ids alone


def test_two_sequences_with_different_tokenizers_share_a_run_and_keep_their_numbers(
    run, tiny, make, tmp_path
):
    folder = make.sequence(tmp_path / "other", (20, 30), tokenizer=make.tokenizer(reverse=True), salt=2)
    both = run(probes=["recall"], model=[tiny.model, str(folder)], steps=None)
    alone = [
        run(probes=["recall"], model=model, steps=None, out=tmp_path / f"alone{number}")
        for number, model in enumerate((tiny.model, str(folder)))
    ]
    assert both.table("recall").equals(pl.concat([each.table("recall") for each in alone]))
    assert both.summary.equals(pl.concat([each.summary for each in alone]))
    digests = {each["model"]: each["tokenizer_digest"] for each in both.manifest["checkpoints"]}
    assert len(set(digests.values())) == len(digests) == 2
    signatures = both.summary.group_by("model").agg(pl.col("signature").unique())
    assert signatures["signature"].list.len().to_list() == [1, 1]
    assert both.summary["signature"].n_unique() == 2


def test_two_sequences_of_one_name_are_told_apart_by_their_parents(run, tiny, make, tmp_path):
    other = make.sequence(tmp_path / "elsewhere" / "main", (20,), tokenizer=make.tokenizer(), salt=5)
    both = run(probes=["recall"], model=[tiny.model, str(other)])
    alone = run(probes=["recall"], model=str(other), out=tmp_path / "alone")
    first = f"{Path(tiny.model).parent.name}/main"
    assert both.summary["model"].unique(maintain_order=True).to_list() == [first, "elsewhere/main"]
    mine = both.table("recall").filter(model="elsewhere/main")
    assert mine.drop("model").equals(alone.table("recall").drop("model"))
    assert not mine.drop("model").equals(both.table("recall").filter(model=first).drop("model"))


def test_items_of_several_files_stand_in_order_and_limit_counts_them_together(run, tmp_path, make):
    rows = make.rows(9)
    files = [
        str(make.items(tmp_path / name, part))
        for name, part in (("a.jsonl", rows[:4]), ("b.jsonl", rows[4:]))
    ]
    done = run(probes=["recall"], data=files, limit=6)
    assert done.table("items")["item_id"].to_list() == [row["item_id"] for row in rows[:6]]
    assert done.manifest["items"]["n_items"] == 6
    assert done.table("recall").height == 6


def test_steps_choose_the_checkpoints(run):
    assert run(probes=["recall"], steps="0,20").table("recall")["step"].unique().to_list() == [0, 20]


def test_ids_alone_need_no_tokenizer(run, make, tmp_path):
    folder = make.sequence(tmp_path / "bare", (5,))
    rows = [{"item_id": f"n{i}", "input_ids": [(7 * i + j) % 256 for j in range(12)]} for i in range(6)]
    done = run(
        probes=["recall", "extraction"],
        model=str(folder),
        steps=None,
        data=str(make.items(tmp_path / "ids.jsonl", rows)),
    )
    assert done.table("recall").select("prefix_tokens", "suffix_tokens").unique().rows() == [(6, 6)]
    assert done.manifest["checkpoints"][0]["tokenizer_digest"] is None
    assert done.summary["signature"].str.contains("tok:none").all()


def test_two_steps_with_the_same_weights_are_a_note_and_not_scored_twice(run, tiny, tmp_path, units_of):
    folder = shutil.copytree(tiny.model, tmp_path / "twice" / "main")
    shutil.rmtree(folder / "step10")
    shutil.copytree(folder / "step20", folder / "step30")
    notes = []

    class Listener:
        def stage(self, name): ...
        def scoring(self, progress): ...
        def note(self, text):
            notes.append(text)

    done = run(probes=["recall"], model=str(folder), steps=None, listener=Listener())
    assert notes == ["main: step20 (step 20) and step30 (step 30) hold the same weights"]
    same = done.table("recall").drop("revision", "step", "model").partition_by("item_id")
    assert all(rows[1].equals(rows[2]) for rows in same)
    # Units are named by the weights, so two steps with the same weights share theirs.
    assert len({name.split("-")[0] for name in units_of(done.path)}) == 2


# Refusals, and what a manifest says


def test_a_pickle_is_refused_and_read_when_allowed_with_the_same_numbers(run, tiny, tmp_path, tables_of):
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny.model, tmp_path / "pickled" / "main")
    weights = folder / "step20" / "model.safetensors"
    torch.save(load_file(weights), folder / "step20" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(SafetyError, match="pickle"):
        run(probes=["recall"], model=str(folder))
    assert not (tmp_path / "run").exists()
    pickled = run(probes=["recall"], model=str(folder), allow_pickle=True)
    plain = run(probes=["recall"], out=tmp_path / "plain")
    assert pickled.table("recall").equals(plain.table("recall"))


def test_the_manifest_says_what_was_asked_done_and_with_what(finished, tiny):
    manifest = memprobe.open_run(finished).manifest
    assert manifest["format"] == 1
    assert manifest["state"] == "done"
    assert manifest["device"] == "cpu"
    assert manifest["dtype"] == "float32"
    assert manifest["flags"]["model"] == [tiny.model]
    assert [each["step"] for each in manifest["checkpoints"]] == [0, 10, 20]
    assert len({each["weights_digest"] for each in manifest["checkpoints"]}) == 3
    assert manifest["items"]["n_items"] == 24
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert {"torch", "transformers", "polars"} <= manifest["versions"].keys()
    assert manifest["timings"]["total_s"] >= manifest["timings"]["score_s"] > 0
    # 4 items verified at each of 3 checkpoints; by teacher forcing and by generation they are the same.
    assert manifest["checks"] == {"greedy_verified": 12, "greedy_tf_disagree": 0}


def test_every_summary_row_is_unique_and_carries_its_interval_and_n(finished):
    summary = memprobe.open_run(finished).summary
    assert summary.select(summary.columns[:7]).is_duplicated().sum() == 0
    assert summary["n_items"].min() > 0
    assert summary.filter(pl.col("ci_low") > pl.col("estimate")).is_empty()
    assert summary.filter(pl.col("ci_high") < pl.col("estimate")).is_empty()
    assert not summary.select(pl.col(pl.Float64).is_nan().any()).transpose().to_series().any()
    assert set(summary["group"].drop_nulls()) == {"canary", "control"}
    assert summary.filter(pl.col("condition") == "exposures=3", metric="exact_frac")["n_items"].to_list() == [
        6,
        6,
        6,
    ]


def test_further_columns_of_the_items_are_carried_into_every_item_table(finished):
    for name in ("recall", "extraction", "recognition"):
        table = memprobe.open_run(finished).table(name)
        assert table.columns[:7] == ["model", "revision", "step", "item_id", "group", "exposures", "colour"]
        assert table.select("item_id", "colour").unique().filter(item_id="i03")["colour"].to_list() == [
            "blue"
        ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"modle": "x"}, "unknown setting `modle`, did you mean `model`?"),
        ({"limit": 0}, "--limit is 0, not 1 or more"),
        ({"threads": 0}, "--threads is 0, not 1 or more"),
        ({"batch_tokens": -5}, "--batch-tokens is -5, not 1 or more"),
        ({"seed": -1}, "--seed is -1, not 0 or more"),
        ({"data": ()}, "nothing to measure: -d FILE not given"),
    ],
)
def test_impossible_options_are_refused_before_any_work(given, told, run, tmp_path):
    with pytest.raises(InputError, match=told):
        run(probes=["recall"], **given)
    assert not (tmp_path / "run").exists()


def test_a_directory_without_a_run_is_told_as_such(tmp_path):
    with pytest.raises(InvalidRunError, match=r"there is no run here: manifest\.json is missing"):
        memprobe.open_run(tmp_path)


# Columns under other names


def test_a_mapped_file_gives_the_tables_of_one_with_our_names(run, tiny, tmp_path, tables_of):
    rows = [json.loads(line) for line in Path(tiny.items).read_text(encoding="utf-8").splitlines()]
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text(
        "".join(
            json.dumps({"id" if k == "item_id" else k: v for k, v in row.items()}) + "\n" for row in rows
        ),
        encoding="utf-8",
    )
    ours = run(probes=["recall"], out=tmp_path / "ours")
    mapped = run(probes=["recall"], data=str(theirs), map="item_id=id", out=tmp_path / "mapped")
    assert tables_of(ours.path)["recall"] == tables_of(mapped.path)["recall"]
    assert mapped.about.flags["map"] == ["item_id=id"]
    # A worker, or the same question again, reads the file as the run did.
    again = run(probes=["recall"], data=str(theirs), map=["item_id=id"], out=tmp_path / "mapped")
    assert again.finished
    with pytest.raises(RunMismatchError, match="items differs"):
        run(probes=["recall"], data=str(theirs), out=tmp_path / "mapped")


# Runs of an earlier version


def rewrite_stages(run: Path, change) -> None:
    """Change each entry of the manifest's stages."""
    store = RunStore(run)
    manifest = store.read_manifest()
    stages = tuple(tuple(change(each) for each in stage) for stage in manifest.stages)
    store.write_manifest(manifest.changed(stages=stages))


def test_a_run_without_the_spread_of_ln_p_goes_on_and_is_not_scored_again(
    run, tmp_path, units_of, tables_of, monkeypatch
):
    out = tmp_path / "old"
    with monkeypatch.context() as patch:
        patch.delitem(ALWAYS, "sd_logp")
        run(probes=["recall"], out=out)
    rewrite_stages(out, lambda each: replace(each, keys=("probe", "version", "settings"), statistics=()))
    before = units_of(out)
    both = run(probes=["recognition"], out=out)
    assert {"recall", "recognition"} <= set(both.summary["probe"])
    assert {name: time for name, time in units_of(out).items() if name in before} == before
    in_turn = tmp_path / "new"
    run(probes=["recall"], out=in_turn)
    run(probes=["recognition"], out=in_turn)
    assert tables_of(out) == tables_of(in_turn)
    held = [set(pl.read_parquet_schema(file)) for file in sorted((in_turn / "units").glob("*.parquet"))]
    assert all("sd_logp_nats" in columns for columns in held)


def test_statistics_of_a_later_version_are_refused_by_name(run, tmp_path):
    out = tmp_path / "later"
    run(probes=["recall"], out=out)
    rewrite_stages(out, lambda each: replace(each, statistics=("sd_logp", "kurtosis")))
    with pytest.raises(RunMismatchError, match="holds kurtosis of each token, which this memprobe does not"):
        run(probes=["extraction"], out=out)


# Two questions at the same time


@pytest.mark.parametrize(("module", "moment"), [("api", "prepare"), ("score", "_score")])
def test_a_probe_that_another_process_adds_meanwhile_is_not_lost(
    module, moment, run, tmp_path, monkeypatch, tables_of
):
    """Whether it came before we wrote down what we ask, or while we scored."""
    module = importlib.import_module(f"memprobe.pipeline.{module}")
    genuine = getattr(module, moment)

    def with_another_behind_our_back(*args, **kwargs):
        result = genuine(*args, **kwargs)
        monkeypatch.setattr(module, moment, genuine)
        run(probes=["extraction"])
        return result

    monkeypatch.setattr(module, moment, with_another_behind_our_back)
    both = run(probes=["recall"])
    assert both.finished
    assert {"recall", "extraction"} <= set(both.summary["probe"])
    in_turn = tmp_path / "in-turn"
    run(probes=["recall"], out=in_turn)
    run(probes=["extraction"], out=in_turn)
    assert tables_of(both.path)["recall"] == tables_of(in_turn)["recall"]


def test_what_a_killed_process_left_half_written_goes_with_the_next(run, tmp_path):
    from memprobe.tables.processes import host, namespace_number

    run(probes=["recall"])
    units, here = tmp_path / "run" / "units", f"{host()}.{namespace_number()}"
    dead = units / f".x.parquet.{here}.99999999.0123456789ab.tmp"
    alive = units / f".y.parquet.{here}.1.0123456789ab.tmp"
    elsewhere = units / ".z.parquet.another-host.1.99999999.0123456789ab.tmp"
    for file in (dead, alive, elsewhere):
        file.write_bytes(b"half")
    run(probes=["recall"])
    assert (dead.exists(), alive.exists(), elsewhere.exists()) == (False, True, True)
