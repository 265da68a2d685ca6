"""Checkpoints that fail, checkpoints that are mended, items that are left out."""

import json
import math
import shutil
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import InputError, RunMismatchError


@pytest.fixture
def broken(tiny, tmp_path):
    """Return a maker of copies of the tiny sequence whose step10 is damaged by a function of its file."""

    def make_broken(damage):
        folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
        damage(folder / "step10" / "model.safetensors")
        return folder

    return make_broken


def _cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def _garbage(file):
    file.write_bytes(b"\xff" * 200)


def _nan(file):
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    weights["embed_out.weight"][3] = math.nan
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "told"),
    [(_cut, "cannot be loaded"), (_garbage, "cannot be loaded"), (_nan, "the model scores NaN")],
)
def test_a_checkpoint_that_fails_is_recorded_and_the_others_are_as_ever(
    damage, told, broken, run, finished, tiny, tmp_path, units_of
):
    folder = broken(damage)
    done = run("quickstart", model=str(folder), steps=None)
    assert [each["revision"] for each in done.failures] == ["step10"]
    assert told in done.failures[0]["error"]
    assert done.manifest["state"] == "incomplete"
    lines = (done.path / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == done.failures
    whole = memprobe.open_run(finished)
    for name in ("summary", "recall", "extraction", "recognition"):
        assert done.table(name).equals(whole.table(name).filter(pl.col("step") != 10)), name


def _configured(**changes):
    def change(file):
        config = file.with_name("config.json")
        config.write_text(json.dumps(json.loads(config.read_text()) | changes))

    return change


def _extra(file):
    import torch
    from safetensors.torch import load_file, save_file

    save_file(load_file(file) | {"gpt_neox.layers.0.attention.dense.lora_A.weight": torch.ones(2, 16)}, file)


def _cut_config(file):
    file.with_name("config.json").write_text('{"model_type": "gpt_n')


def _pointer(file):
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize("step", [0, 10])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_configured(quantization_config={"quant_method": "nope"}), "quantised (nope)"),
        (_configured(layer_norm_eps="small"), "layer_norm_eps"),
        (_configured(num_attention_heads=0), "num_attention_heads"),
        (_configured(hidden_act="nope"), "hidden_act"),
        (_extra, "lora_A.weight (2 x 16)"),
        (_cut_config, "config.json is not valid JSON"),
        (_pointer, "Git LFS pointer"),
    ],
)
def test_whatever_is_wrong_with_one_checkpoint_the_others_are_scored(
    step, damage, told, run, finished, tiny, tmp_path
):
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    damage(folder / f"step{step}" / "model.safetensors")
    done = run("quickstart", model=str(folder), steps=None)
    assert [each["revision"] for each in done.failures] == [f"step{step}"]
    assert told in done.failures[0]["error"]
    whole = memprobe.open_run(finished)
    assert done.table("recall").equals(whole.table("recall").filter(pl.col("step") != step))


def test_what_is_noted_at_loading_is_kept_with_its_checkpoint(run, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "noted" / "main")
    code = {"AutoModelForCausalLM": "stale.Model"}
    for step in (0, 10, 20):
        _configured(auto_map=code)(folder / f"step{step}" / "model.safetensors")
    done = run("quickstart", model=str(folder), steps=None)
    (noted,) = done.manifest["load_notes"]
    assert "auto_map" in noted["text"]
    assert [revision for _, revision in noted["checkpoints"]] == ["step0", "step10", "step20"]


def test_a_dry_run_says_what_a_run_would_lose(broken, tiny, make):
    from memprobe.pipeline.dry_run import forecast
    from memprobe.pipeline.listener import NullListener
    from memprobe.pipeline.question import ask

    folder = broken(_extra)
    heard = []

    class Listener(NullListener):
        def note(self, text):
            heard.append(text)

    options = {"model": (str(folder),), "data": (tiny.items,), "threads": 1}
    found = forecast(ask(None, probes=("recall",), options=options, out=folder / "run"), Listener())
    assert found.totals["checkpoints_unloadable"] == 1
    assert any("step10 cannot be loaded" in text and "lora_A.weight" in text for text in heard)


def test_a_mended_checkpoint_completes_the_run_without_scoring_the_others_again(
    broken, run, tiny, finished, tables_of, units_of
):
    folder = broken(_cut)
    done = run("quickstart", model=str(folder), steps=None)
    before = units_of(done.path)
    shutil.copy(Path(tiny.model) / "step10" / "model.safetensors", folder / "step10")
    mended = run("quickstart", model=str(folder), steps=None)
    assert mended.failures == []
    assert mended.manifest["state"] == "done"
    assert not (mended.path / "errors.jsonl").exists()
    assert before.items() < units_of(mended.path).items()
    assert tables_of(mended.path) == tables_of(finished)


def test_a_failed_checkpoint_may_change_but_a_scored_one_may_not(broken, run, make):
    folder = broken(_cut)
    run("quickstart", model=str(folder), steps=None)
    make.sequence(folder, (20,), salt=3)
    with pytest.raises(RunMismatchError, match=r"main@step20 \(step 20\) differs") as refused:
        run("quickstart", model=str(folder), steps=None)
    assert "step10" not in str(refused.value)


# Items that are left out


def test_bad_and_unfit_items_are_left_out_and_counted_when_asked(run, make, tmp_path):
    rows = [
        *make.rows(4),
        {"item_id": "empty", "text": ""},
        {"item_id": "short", "prefix": "q", "suffix": "r"},
        {"item_id": "long", "text": "wxyz" * 60},
    ]
    data = str(make.items(tmp_path / "mixed.jsonl", rows))
    settings = ["recall.prefix_tokens=5", "recall.suffix_tokens=3"]
    with pytest.raises(InputError, match="empty"):
        run(probes=["recall"], data=data, settings=settings)
    done = run(probes=["recall"], data=data, settings=settings, on_bad_item="skip")
    about = done.manifest["items"]
    # `long` has enough tokens: exactly 5 + 3 of its 240 are read, which fit the context.
    assert (about["n_items"], about["n_skipped"], about["n_unfit"]) == (6, 1, 1)
    lines = [json.loads(line) for line in (done.path / "skipped.jsonl").read_text().splitlines()]
    assert [(line["item_id"], line["line"], line["probe"]) for line in lines] == [
        ("empty", 5, None),
        ("short", 6, "recall"),
    ]
    assert set(done.table("recall")["item_id"]) == {"i00", "i01", "i02", "i03", "long"}


def test_too_long_for_the_context_is_told_with_both_lengths(run, make, tmp_path):
    # 97 tokens: the last is predicted and never read, so 96 fit a context of 96; one more does not.
    rows = [{"item_id": "fits", "text": "a" * 97}, {"item_id": "long", "text": "b" * 98}]
    data = str(make.items(tmp_path / "long.jsonl", rows))
    with pytest.raises(
        InputError, match="item long has 97 tokens to read, the model's context holds 96"
    ) as told:
        run(probes=["recall"], data=data)
    assert "item fits" not in str(told.value)
    assert f"{data}, line 2" in str(told.value)
