"""LoRA adapters: scores are those of the weights merged by hand; an adapter that does not fit is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from memprobe.checkpoints import weights_digest
from memprobe.errors import CheckpointError
from memprobe.scoring.load import LoadOptions, load, mirrors, read_weights
from memprobe.tables.requests import Scheme

# float32 sums in another order: B A first, then added, against one matrix that was added before saving.
MERGED_ATOL_NATS = 1e-5
RANK, ALPHA = 4, 6.0
TARGETS = {
    "gpt_neox": "query_key_value",
    "llama": "q_proj",
    "gpt2": "c_attn",
}


@pytest.fixture
def adapter(saved, tmp_path):
    """Return a maker of adapter folders on a saved base: adapter("llama", salt=1, use_rslora=True)."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def make(name: str = "gpt_neox", *, salt: int = 0, to: str = "adapter", **settings) -> Path:
        base = AutoModelForCausalLM.from_pretrained(saved(name))
        given = {"r": RANK, "lora_alpha": ALPHA, "target_modules": [TARGETS[name]], "task_type": "CAUSAL_LM"}
        adapted = get_peft_model(base, LoraConfig(**(given | settings)))
        generator = torch.Generator().manual_seed(salt)
        with torch.no_grad():
            for parameter_name, weight in adapted.named_parameters():
                if "lora_" in parameter_name or "modules_to_save" in parameter_name:
                    weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
        adapted.save_pretrained(tmp_path / to)
        return tmp_path / to

    return make


@pytest.fixture
def spans(id_items, ask, score):
    """Return the scores of some fixed ids under the checkpoint in a folder."""
    rng = np.random.default_rng(4)
    ids = {f"item{n}": rng.integers(3, 97, 9 + n).tolist() for n in range(4)}
    tokenised = id_items(ids)
    requests = [ask(item, 0, 0, len(each)) for item, each in ids.items()]
    return lambda loaded: score(loaded, tokenised, requests, further=(Scheme(top_k=5),))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def merge_by_hand(base: Path, adapter: Path, to: Path, *, scale: float, transposed: bool) -> Path:
    """W + scale B A, tensor by tensor, on the files themselves."""
    shutil.copytree(base, to)
    weights = safetensors.torch.load_file(base / "model.safetensors")
    parts = tensors(adapter)
    n_merged = 0
    for name in [name for name in parts if name.endswith("lora_A.weight")]:
        low, high = parts[name], parts[name.replace("lora_A", "lora_B")]
        change = scale * (high @ low)
        plain = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        (target,) = [each for each in weights if plain.endswith(each)]
        weights[target] = weights[target] + (change.T if transposed else change)
        n_merged += 1
    assert n_merged == 2, "one matrix in each of the two layers"
    safetensors.torch.save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def logprobs(scored) -> np.ndarray:
    return np.concatenate([np.asarray(each) for each in scored["logprob_nats"].to_list()])


# What it is equal to


@pytest.mark.parametrize(
    ("name", "settings", "scale"),
    [
        # alpha / r = 6 / 4
        pytest.param("gpt_neox", {}, 1.5, id="gpt_neox"),
        pytest.param("llama", {}, 1.5, id="llama"),
        pytest.param("gpt2", {"fan_in_fan_out": True}, 1.5, id="transposed-weights"),
        # arXiv:2312.03732: alpha / sqrt(r) = 6 / 2
        pytest.param("llama", {"use_rslora": True}, 3.0, id="rank-stabilised"),
        pytest.param("llama", {"task_type": None}, 1.5, id="no-task-named"),
    ],
)
def test_scores_are_those_of_the_weights_merged_by_hand(
    name, settings, scale, adapter, saved, at, spans, tmp_path
) -> None:
    folder = adapter(name, **settings)
    merged = merge_by_hand(saved(name), folder, tmp_path / "merged", scale=scale, transposed=name == "gpt2")
    found = logprobs(spans(load(at(folder), LoadOptions())))
    np.testing.assert_allclose(
        found, logprobs(spans(load(at(merged), LoadOptions()))), rtol=0, atol=MERGED_ATOL_NATS
    )
    # The adapter does something, or the test above would pass without it.
    assert np.abs(found - logprobs(spans(load(at(saved(name)), LoadOptions())))).max() > 0.1


def test_modules_that_were_trained_whole_replace_those_of_the_base(
    adapter, saved, at, spans, tmp_path
) -> None:
    folder = adapter("llama", modules_to_save=["lm_head"])
    merged = merge_by_hand(saved("llama"), folder, tmp_path / "merged", scale=ALPHA / RANK, transposed=False)
    weights = safetensors.torch.load_file(merged / "model.safetensors")
    weights["lm_head.weight"] = tensors(folder)["base_model.model.lm_head.weight"]
    safetensors.torch.save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    found, wanted = (logprobs(spans(load(at(each), LoadOptions()))) for each in (folder, merged))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=MERGED_ATOL_NATS)


def test_an_adapter_of_zeros_is_its_base_to_the_bit(adapter, saved, at, spans) -> None:
    folder = adapter()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors(folder).items()}
    safetensors.torch.save_file(zeros, folder / "adapter_model.safetensors")
    found, base = (logprobs(spans(load(at(each), LoadOptions()))) for each in (folder, saved("gpt_neox")))
    assert np.array_equal(found, base)


def test_a_merged_model_is_a_plain_one_on_the_fast_path(adapter, saved, at) -> None:
    loaded, plain = (load(at(each), LoadOptions()) for each in (adapter(), saved("gpt_neox")))
    assert loaded.fast
    assert type(loaded.model) is type(plain.model)
    assert loaded.model.state_dict().keys() == plain.model.state_dict().keys()
    assert not hasattr(loaded.model, "peft_config")


def test_bfloat16_is_merged_in_bfloat16(adapter, at) -> None:
    loaded = load(at(adapter()), LoadOptions(dtype="bfloat16"))
    assert {each.dtype for each in loaded.model.parameters()} == {torch.bfloat16}


def test_a_merged_model_that_kept_its_adapter_gets_it_once(adapter, saved, at, spans, tmp_path) -> None:
    folder = adapter()
    merged = merge_by_hand(saved("gpt_neox"), folder, tmp_path / "merged", scale=1.5, transposed=False)
    alone = logprobs(spans(load(at(merged), LoadOptions())))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / name, merged / name)
    assert at(merged).weights_format == "safetensors"
    assert np.array_equal(logprobs(spans(load(at(merged), LoadOptions()))), alone)


# Weights are never swapped into or out of an adapter


def test_an_adapters_weights_are_not_read_ahead(adapter, saved, at) -> None:
    checkpoint = at(adapter())
    assert read_weights(checkpoint) is None
    # A merged model does not mirror its base's files, so nothing would be swapped into it either.
    assert not mirrors(load(checkpoint, LoadOptions()), read_weights(at(saved("gpt_neox"))))


# What does not fit


def damage(folder: Path, edit) -> None:
    weights = tensors(folder)
    edit(weights)
    safetensors.torch.save_file(weights, folder / "adapter_model.safetensors")


def rename(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[name.replace("query_key_value", "dense")] = weights.pop(name)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda weights: weights.pop(sorted(weights)[0]), "1 tensor missing"),
        (rename, "4 tensors missing, 4 that the base has no place for"),
        (lambda weights: weights.update(spare=torch.zeros(2)), "1 that the base has no place for (spare)"),
    ],
)
def test_an_adapter_that_fits_in_part_is_refused(edit, told, adapter, at) -> None:
    folder = adapter()
    damage(folder, edit)
    with pytest.raises(CheckpointError) as caught:
        load(at(folder), LoadOptions())
    (problem,) = caught.value.problems
    assert problem.what.startswith("the adapter does not fit its base model: ")
    assert told in problem.what
    assert problem.where == str(folder)


def set_in_config(folder: Path, **values) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["no_such_module"]},
        {"r": 8},
        {"r": None},
        {"r": 0},
        {"lora_alpha": "much"},
        {"target_modules": 7},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_base_or_the_file_are_refused(values, adapter, at) -> None:
    folder = adapter()
    set_in_config(folder, **values)
    with pytest.raises(CheckpointError):
        load(at(folder), LoadOptions())


@pytest.mark.parametrize(("name", "value"), [("r", 0), ("r", "4"), ("r", None), ("lora_alpha", "much")])
def test_a_rank_or_scale_that_is_no_number_is_named(name, value, adapter, at) -> None:
    folder = adapter()
    set_in_config(folder, **{name: value})
    with pytest.raises(CheckpointError, match=f"{name} of adapter_config.json is {value!r}, where a number"):
        load(at(folder), LoadOptions())


def test_an_adapter_on_another_architecture_is_refused(adapter, saved, at) -> None:
    folder = adapter("llama")
    set_in_config(folder, base_model_name_or_path=str(saved("gpt_neox")))
    with pytest.raises(CheckpointError):
        load(at(folder), LoadOptions())


def test_a_truncated_adapter_is_refused(adapter, at) -> None:
    folder = adapter()
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(at(folder), LoadOptions())


def test_a_git_lfs_pointer_in_place_of_the_adapter_is_told_as_one(adapter, at) -> None:
    folder = adapter("gpt_neox")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    (folder / "adapter_model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is a Git LFS pointer"):
        load(at(folder), LoadOptions())


def test_a_damaged_base_is_refused_by_its_own_name(adapter, saved, at, tmp_path) -> None:
    folder = adapter()
    base = Path(shutil.copytree(saved("gpt_neox"), tmp_path / "base"))
    weights = safetensors.torch.load_file(base / "model.safetensors")
    weights.pop(sorted(weights)[0])
    safetensors.torch.save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    set_in_config(folder, base_model_name_or_path=str(base))
    with pytest.raises(CheckpointError, match="lack 1 parameter ") as caught:
        load(at(folder), LoadOptions())
    assert caught.value.problems[0].where == str(base)


# Who it is


def test_the_digest_covers_adapter_settings_and_base(adapter, saved, at, tmp_path) -> None:
    folder = adapter()
    digests = [weights_digest(at(folder))]
    set_in_config(folder, lora_alpha=2 * ALPHA)
    digests.append(weights_digest(at(folder)))
    damage(folder, lambda weights: weights[sorted(weights)[0]].add_(1))
    digests.append(weights_digest(at(folder)))
    set_in_config(folder, base_model_name_or_path=str(saved("gpt_neox", 1)))
    digests.append(weights_digest(at(folder)))
    assert len(set(digests)) == len(digests)
    # What does not change the merged weights does not change the digest.
    shutil.copytree(saved("gpt_neox", 1), tmp_path / "moved")
    set_in_config(folder, base_model_name_or_path="../moved", peft_version="9", inference_mode=False)
    assert weights_digest(at(folder)) == digests[-1]
