"""A run over adapters: its tables are those of a run over the weights merged by hand."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from memprobe.checkpoints import resolve
from memprobe.scoring.fit import problems_of

# B A is added to W before the forward pass on both sides, in float32 sums of another order.
ATOL_NATS = 1e-5
STEPS = (0, 10, 20, 30)
SCALE = 2.0


@pytest.fixture
def sequences(tiny, make, tmp_path) -> tuple[Path, Path]:
    """Two sequences: whole, adapter, adapter, whole; and the same with the adapters merged."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = Path(tiny.model) / "step0"
    mixed, merged = tmp_path / "mixed" / "main", tmp_path / "merged" / "main"
    for step, source in ((0, "step0"), (30, "step20")):
        for folder in (mixed, merged):
            shutil.copytree(Path(tiny.model) / source, folder / f"step{step}")
    for step in (10, 20):
        settings = LoraConfig(r=2, lora_alpha=2 * SCALE, target_modules=["dense"], task_type="CAUSAL_LM")
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
        torch.manual_seed(step)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_" in name:
                    weight.copy_(torch.randn(weight.shape))
        adapted.save_pretrained(mixed / f"step{step}")
        parts = load_file(mixed / f"step{step}" / "adapter_model.safetensors")
        low, high = (parts[name] for name in sorted(parts))
        shutil.copytree(base, merged / f"step{step}")
        weights = load_file(base / "model.safetensors")
        (name,) = (each for each in weights if each.endswith("attention.dense.weight"))
        weights[name] = weights[name] + SCALE * high @ low
        save_file(weights, merged / f"step{step}" / "model.safetensors", metadata={"format": "pt"})
    for folder in (mixed, merged):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(Path(tiny.model) / file, folder)
    return mixed, merged


def test_adapters_among_whole_checkpoints_score_as_merged_ones(sequences, run, tmp_path, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    mixed, merged = (
        run(probes=["extraction"], model=str(folder), steps=None, offline=True, out=tmp_path / name)
        for folder, name in zip(sequences, ("a", "b"), strict=True)
    )
    keys = ["step", "item_id", "scheme"]
    left, right = (each.table("extraction").sort(keys) for each in (mixed, merged))
    assert left.select(keys).equals(right.select(keys))
    assert sorted(left["step"].unique()) == list(STEPS)
    found, wanted = (each.filter(scheme="full")["logp_nats"].to_numpy() for each in (left, right))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=ATOL_NATS)
    by_step = left.filter(scheme="full").group_by("step").agg(logp="logp_nats").sort("step")["logp"].to_list()
    # Each checkpoint has its own weights: none was swapped in or left over from the one before.
    assert all(np.abs(np.subtract(by_step[i], by_step[i + 1])).max() > 0.1 for i in range(3))
    about = {each["step"]: each for each in mixed.manifest["checkpoints"]}
    assert [about[step]["format"] for step in STEPS] == ["safetensors", "lora", "lora", "safetensors"]
    assert about[10]["base"] == "main@step0"
    assert about[0]["base"] is None


def test_an_adapter_that_is_refused_is_one_checkpoints_failure(sequences, run, tmp_path) -> None:
    mixed, _ = sequences
    file = mixed / "step10" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": "pissa_niter_4"}))
    done = run(probes=["recall"], model=str(mixed), steps=None, offline=True, out=tmp_path / "out")
    assert [each["revision"] for each in done.failures] == ["step10"]
    assert "pissa_niter_4" in done.failures[0]["error"]
    assert sorted(done.table("recall")["step"].unique()) == [0, 20, 30]
    (sequence,) = resolve([str(mixed)])
    said = {each.revision: problems_of(each) for each in sequence.checkpoints}
    assert [revision for revision, problems in said.items() if problems] == ["step10"]
