"""Forecast through the whole pipeline: several sequences of one run, and which of them are refused."""

import json
from pathlib import Path

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.again import measure_again
from memprobe.probes.forecast.tables import FORECAST
from memprobe.tables.store import RunStore
from memprobe.tables.summary import SUMMARY

SPANS = {"prefix_tokens": 10, "suffix_tokens": 1}
N = 24


def save_small(folder: Path, steps) -> Path:
    """Checkpoints of a model with fewer parameters than those of `tiny`, and no tokenizer."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    for step in steps:
        torch.manual_seed(5000 + step)
        config = GPTNeoXConfig(
            vocab_size=256,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=96,
            initializer_range=0.3,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory) -> tuple[str, str]:
    """A smaller sequence, and items whose last token the checkpoints of both pick, each of some of them."""
    import torch
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("two")
    small = save_small(root / "small", (10, 20))
    folders = [Path(tiny.model) / "step20", Path(tiny.model) / "step10", small / "step20"]
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders]
    rows = []
    for number in range(N):
        ids = [(7 * number + 13 * place) % 256 for place in range(10)]
        with torch.no_grad():
            picked = models[number % 3](torch.tensor([ids])).logits[0, -1].argmax().item()
        rows.append(
            {"item_id": f"i{number:02d}", "input_ids": [*ids, picked], "first_step": (5, 15)[number % 2]}
        )
    (root / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(small), str(root / "items.jsonl")


@pytest.fixture
def ask(run, tiny, two, tmp_path):
    """Return a run of forecast and recall over both sequences."""

    def asked(models=None, probes=("recall", "forecast"), out="run", **changes):
        settings = dict.fromkeys(probes, SPANS)
        tables = [{"kind": name, **values} for name, values in settings.items()]
        suite = tmp_path / "mine.toml"
        lines = ['[suite]\nname = "mine"\ntitle = "t"\nsource = "s"\n']
        lines += [
            "[[probe]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for table in tables
        ]
        suite.write_text("\n".join(lines))
        given = {"model": models or (tiny.model, two[0]), "data": two[1], "steps": None}
        return run(str(suite), **(given | {"out": tmp_path / out} | changes))

    return asked


def test_the_table_is_that_of_what_recall_says_of_the_same_checkpoints(ask) -> None:
    answered = ask()
    FORECAST.check(answered.table("forecast"))
    SUMMARY.check(answered.summary)
    exact = {
        key: dict(rows.select("item_id", "exact").rows())
        for key, rows in answered.table("recall").group_by("model", "step")
    }
    found = answered.table("forecast").filter(pl.col("seen").is_null())
    assert found.select("model", "predictor_model", "predictor_step").rows() == [
        ("main", "small", 20), ("main", "main", 0), ("main", "main", 10), ("small", "small", 10),
    ]  # fmt: skip
    for row in found.iter_rows(named=True):
        truth = exact[row["model"], 20]
        predicted = exact[row["predictor_model"], row["predictor_step"]]
        both = [(predicted[item], truth[item]) for item in truth]
        counts = [both.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))]
        assert [row[name] for name in ("tp", "fp", "fn", "tn")] == counts
    # Eight items end as the last checkpoint of `main` has it, eight as that of `small`.
    first = found.row(0, named=True)
    assert first["tp"] + first["fn"] >= 8
    assert first["fp"] >= 7
    sizes = {each["model"]: each["n_parameters"] for each in answered.manifest["checkpoints"]}
    assert first["compute_ratio"] == pytest.approx(sizes["small"] / sizes["main"])


def test_it_is_measured_again_from_units_alone(ask) -> None:
    answered = ask()
    again = measure_again(RunStore(answered.path))
    assert again.summary.equals(answered.summary)
    assert again.tables["forecast"].equals(answered.table("forecast"))
    assert again.warnings == answered.manifest["warnings"]


def test_the_order_of_the_models_changes_only_the_order_of_rows(ask, tiny, two) -> None:
    one, other = ask(), ask(models=(two[0], tiny.model), out="other")
    key = list(FORECAST.key)
    assert one.table("forecast").sort(key).equals(other.table("forecast").sort(key))


def test_one_checkpoint_is_predicted_by_a_smaller_model_beside_it(ask, tiny, two) -> None:
    answered = ask(models=(f"{tiny.model}/step20", f"{two[0]}/step20"))
    found = answered.table("forecast").filter(pl.col("seen").is_null())
    assert found.select("model", "predictor_model", "predictor_step").rows() == [("main", "small", 20)]
    assert set(answered.summary.filter(probe="forecast")["model"]) == {"main"}
    (text,) = [each for each in answered.manifest["warnings"] if "forecast" in each]
    assert text.startswith("small, forecast: one checkpoint, and no smaller model beside it")


def test_one_checkpoint_alone_is_refused_before_any_work(ask, tiny, tmp_path) -> None:
    with pytest.raises(ItemError, match="forecast: one checkpoint, and no smaller model beside it"):
        ask(models=f"{tiny.model}/step20")
    assert not (tmp_path / "run").exists()


def test_a_probe_that_looks_at_one_sequence_refuses_one_checkpoint_still(run, tiny, two) -> None:
    with pytest.raises(ItemError, match="profile: needs at least two checkpoints"):
        run(probes=["profile", "forecast"], model=(f"{tiny.model}/step20", two[0]), data=two[1], steps=None)


def test_a_control_model_predicts_nothing(ask, tiny, two) -> None:
    answered = ask(models=tiny.model, control=f"{two[0]}/step20")
    assert set(answered.table("forecast")["predictor_model"]) == {"main"}
    assert set(answered.table("forecast")["model"]) == {"main"}


def test_checkpoints_that_are_not_scored_are_named_and_the_others_go_on(ask) -> None:
    answered = ask()
    store = RunStore(answered.path)
    lost = [
        each for each in answered.manifest["checkpoints"] if (each["model"], each["step"]) == ("main", 10)
    ]
    for file in (answered.path / "units").glob("*"):
        if lost[0]["context"] in file.name:
            file.unlink()
    again = measure_again(store)
    assert again.unmeasured == ["main@step10"]
    assert "main, forecast: left out, as they are not scored: main@step10" in again.warnings
    found = again.tables["forecast"].filter(pl.col("seen").is_null(), pl.col("model") == "main")
    assert found["predictor_step"].to_list() == [20, 0]


def test_the_summary_shows_it_within_80_columns(cli, two, tiny, tmp_path) -> None:
    answer = cli(
        *("run", "-p", "forecast", "-m", tiny.model, "-m", two[0], "-d", two[1], "--threads", 1),
        *("--set", "forecast.prefix_tokens=10", "--set", "forecast.suffix_tokens=1", "-o", tmp_path / "run"),
    )
    assert answer.code == 0, answer.err
    assert "forecast of main, over its checkpoints" in answer.out
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines.index(["precision_frac"]) + 1 == next(
        place for place, line in enumerate(lines) if line[:1] == ["predictor=small"]
    )
    assert max(len(line) for line in answer.out.splitlines()) <= 80
