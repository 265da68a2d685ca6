"""What `--dry-run` foretells is what a run then does, counted by hand on four items."""

import shutil
from pathlib import Path

import polars as pl
import pytest

import memprobe
from memprobe.errors import RunMismatchError
from memprobe.pipeline import dry_run as module
from memprobe.pipeline.dry_run import EFFICIENCY, READ_BYTES_PER_S, forecast
from memprobe.pipeline.listener import NullListener
from memprobe.pipeline.question import ask

# No model is loaded here, so speed is given; so slow that the tenths of a second that are shown matter.
FLOPS_PER_S = 1e5


@pytest.fixture(autouse=True)
def _given_speed(monkeypatch):
    monkeypatch.setattr(module, "_flops_per_s", lambda prepared: FLOPS_PER_S)


@pytest.fixture
def question(tiny, tmp_path, make):
    """Return a question on items of 10, 12, 14 and 16 tokens, of which the last two have a foil of 5."""
    rows = [
        {"item_id": f"n{length}", "text": "x" * (length - 1) + "y", "foil": "abcde" if length > 13 else None}
        for length in (10, 12, 14, 16)
    ]
    data = str(make.items(tmp_path / "lengths.jsonl", rows))

    def put(probes=("recall",), **changes):
        options = {"model": (tiny.model,), "data": (data,), "threads": 1} | changes
        return ask(None, probes=probes, options=options, out=tmp_path / "run")

    return put


def test_tokens_are_those_that_are_read_once(question):
    # recall reads every item whole: 10 + 12 + 14 + 16 = 52; extraction the same spans, so nothing more.
    for probes in (["recall"], ["recall", "extraction"]):
        found = forecast(question(probes), NullListener())
        assert found.checkpoints["tokens_left"].to_list() == [52, 52, 52]
        assert found.totals["tokens_left"] == 156
    # recognition reads the two items with a foil whole, and two foils of 5: 14 + 16 + 5 + 5.
    assert forecast(question(["recognition"]), NullListener()).totals["tokens_left"] == 3 * 40
    # Together the items are read once: 52 + 10.
    assert forecast(question(["recognition", "recall"]), NullListener()).totals["tokens_left"] == 3 * 62


def test_what_choices_share_is_counted_once(tiny, tmp_path, make):
    # Two trials of one excerpt of 30 bytes, asked in both orders: 30 + 1 tokens are shared by all four,
    # and 2 + 1 + 2 + 1 + 1 stand behind them: 31 + 4 * 7 = 59 and not 4 * 38 = 152.
    template = tmp_path / "prompts.toml"
    template.write_text(
        '[[prompt]]\nname = "n"\nin_context = "{excerpt}|{first}|{second}"\n'
        'parametric = "{first}{second}"\nstem = "S"\n'
    )
    excerpt = "ab..........cd..........ef...."
    rows = [
        {"item_id": later, "text": excerpt, "segment_1": "ab", "segment_2": later} for later in ("cd", "ef")
    ]
    data = str(make.items(tmp_path / "trials.jsonl", rows))
    put = ask(
        None,
        probes=("sort",),
        settings=(f'sort.prompt_file="{template}"', 'sort.conditions=["in_context"]'),
        options={"model": (tiny.model,), "data": (data,), "threads": 1},
        out=tmp_path / "run",
    )
    found = forecast(put, NullListener())
    assert found.checkpoints["tokens_left"].to_list() == [59, 59, 59]
    assert found.checkpoints["units"].to_list() == [1, 1, 1]


def test_time_is_two_flops_per_parameter_and_token_and_the_reading(question, tiny):
    found = forecast(question(), NullListener())
    parameters = found.checkpoints["parameters"][0]
    n_bytes = sum(file.stat().st_size for file in Path(tiny.model).glob("step*/model.safetensors"))
    assert found.totals["bytes"] == n_bytes
    expected = 2 * parameters * 156 / (EFFICIENCY * FLOPS_PER_S) + n_bytes / READ_BYTES_PER_S
    assert found.totals["estimated_s"] == round(expected, 1)
    # The model by hand: two embeddings of 256 x 16, and a layer of some 2,300 numbers and two norms.
    assert 2 * 256 * 16 < parameters < 2 * 256 * 16 + 4_000


def test_nothing_is_written_and_no_model_loaded(question, tmp_path, monkeypatch):
    monkeypatch.setattr("memprobe.scoring.model.load", None)
    forecast(question(), NullListener())
    assert not (tmp_path / "run").exists()


def test_the_units_foretold_are_the_units_written(question, tmp_path, units_of):
    asked = question(["recall", "recognition"])
    foretold = forecast(asked, NullListener()).totals["units"]
    memprobe.run(asked.suite, model=asked.options.model, data=asked.options.data, threads=1, out=asked.out)
    assert len(units_of(tmp_path / "run")) == foretold
    after = forecast(asked, NullListener())
    assert (after.totals["units_left"], after.totals["tokens_left"], after.totals["estimated_s"]) == (
        0,
        0,
        0.0,
    )


def test_what_is_done_does_not_count_and_fresh_counts_it_again(question, tmp_path):
    asked = question()
    memprobe.run(asked.suite, model=asked.options.model, data=asked.options.data, threads=1, out=asked.out)
    one = next((tmp_path / "run" / "units").glob("*.parquet"))
    one.unlink()
    found = forecast(asked, NullListener())
    assert found.totals["units_left"] == 1
    assert sorted(found.checkpoints["tokens_left"].to_list()) == [0, 0, 52]
    assert forecast(asked, NullListener(), fresh=True).totals["units_left"] == 3


def test_another_question_is_refused_unless_fresh(question):
    asked = question()
    memprobe.run(asked.suite, model=asked.options.model, data=asked.options.data, threads=1, out=asked.out)
    with pytest.raises(RunMismatchError):
        forecast(question(seed=4), NullListener())
    assert forecast(question(seed=4), NullListener(), fresh=True).totals["units_left"] == 3


def test_a_checkpoint_whose_header_cannot_be_read_has_no_time(question, tiny, tmp_path):
    folder = shutil.copytree(tiny.model, tmp_path / "broken" / "main")
    (folder / "step10" / "model.safetensors").write_bytes(b"x" * 50)
    found = forecast(question(model=(str(folder),)), NullListener())
    assert found.totals["estimated_s"] is None
    assert found.checkpoints["parameters"].is_null().to_list() == [False, True, False]


def test_skipped_and_unfit_items_are_counted(question):
    asked = question(on_bad_item="skip")
    longer = ask(
        None,
        probes=["recall"],
        settings=["recall.prefix_tokens=8", "recall.suffix_tokens=5"],
        options={"model": asked.options.model, "data": asked.options.data, "on_bad_item": "skip"},
        out=asked.out,
    )
    # Of lengths 10, 12, 14 and 16, the first two have fewer than 13 tokens.
    totals = forecast(longer, NullListener()).totals
    assert (totals["items"], totals["items_skipped"]) == (4, 2)
    assert totals["tokens_left"] == 3 * 2 * 13


def test_json_holds_rows_and_totals(question):
    document = forecast(question(), NullListener()).as_json()
    assert document.keys() == {"checkpoints", "totals"}
    assert pl.DataFrame(document["checkpoints"])["step"].to_list() == [0, 10, 20]


def test_a_model_spread_over_gpus_is_timed_on_the_first(monkeypatch):
    import torch

    from memprobe.scoring import speed

    asked = []

    def to_cpu(tensor, device, dtype):
        asked.append(device)
        return tensor.type(dtype)

    monkeypatch.setattr(torch.Tensor, "to", to_cpu)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert speed.matmul_flops_per_s("auto", "float32", budget_s=0.0) >= 0
    assert asked == ["cuda:0"]
