"""Loading: whole weights or none, no pickle unasked, and a swap that equals a fresh load to the bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from memprobe.errors import CheckpointError, InputError, SafetyError
from memprobe.scoring.load import (
    LoadOptions,
    load,
    mirrors,
    read_limits,
    read_weights,
    resolve_device,
    swap_weights,
)
from memprobe.tables.requests import Scheme

ALL = ["gpt_neox", "gpt2", "llama", "qwen2_tied", "opt", "gemma2", "mamba"]


@pytest.fixture
def copied(saved, tmp_path):
    """Return a maker of a private copy of a saved checkpoint."""

    def make(name: str, salt: int = 0, *, to: str = "copy", **options) -> Path:
        return Path(shutil.copytree(saved(name, salt, **options), tmp_path / to))

    return make


@pytest.fixture
def spans(id_items, ask, score):
    """Return the scores of some fixed ids under a model."""
    rng = np.random.default_rng(4)
    ids = {f"item{n}": rng.integers(3, 97, 9 + n).tolist() for n in range(4)}
    tokenised = id_items(ids)
    requests = [ask(item, 0, 0, len(each)) for item, each in ids.items()]

    def run(loaded):
        return score(loaded, tokenised, requests, further=(Scheme(top_k=5),))

    return run


def edit_weights(folder: Path, edit) -> None:
    file = folder / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    edit(weights)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ALL)
def test_swapped_weights_score_to_the_bit_as_a_fresh_load(name, saved, at, spans) -> None:
    first, second = (at(saved(name, salt)) for salt in (0, 1))
    loaded = load(first, LoadOptions())
    assert mirrors(loaded, read_weights(first))
    before = spans(loaded)
    assert swap_weights(loaded, read_weights(second))
    fresh = spans(load(second, LoadOptions()))
    assert spans(loaded).equals(fresh)
    assert not fresh.equals(before)
    assert swap_weights(loaded, read_weights(first))
    assert spans(loaded).equals(before)


def test_tied_weights_stay_tied_through_a_swap(saved, at) -> None:
    first, second = (at(saved("qwen2_tied", salt)) for salt in (0, 1))
    loaded = load(first, LoadOptions())
    assert "lm_head.weight" not in read_weights(first)
    assert swap_weights(loaded, read_weights(second))
    expected = read_weights(second)["model.embed_tokens.weight"]
    assert loaded.model.lm_head.weight.equal(expected)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_stored_in_half_load_and_swap_into_any_dtype(stored, dtype, saved, at, spans) -> None:
    first, second = (at(saved("gpt_neox", salt, dtype=stored)) for salt in (0, 1))
    loaded = load(first, LoadOptions(dtype=dtype))
    assert next(loaded.model.parameters()).dtype == getattr(torch, dtype)
    assert mirrors(loaded, read_weights(first))
    assert swap_weights(loaded, read_weights(second))
    assert spans(loaded).equals(spans(load(second, LoadOptions(dtype=dtype))))


def test_half_weights_in_float32_score_as_their_values_do_in_float32(saved, at, spans, loaded_from) -> None:
    half = load(at(saved("gpt_neox", dtype=torch.float16)), LoadOptions(dtype="float32"))
    exact = spans(loaded_from("gpt_neox"))["logprob_sum_nats"].to_numpy()
    rounded = spans(half)["logprob_sum_nats"].to_numpy()
    # The weights' own rounding (2**-11) shows, and arithmetic in half (several per cent) would not pass.
    assert 1e-5 < np.abs(exact - rounded).max() < 0.2
    assert read_limits(at(saved("gpt_neox", dtype=torch.float16))).stored_dtype == "float16"


def test_weights_of_another_model_do_not_mirror(saved, at) -> None:
    first, second = (at(saved("gpt_neox", salt)) for salt in (0, 1))
    loaded = load(first, LoadOptions())
    assert not mirrors(loaded, read_weights(second))
    assert not mirrors(loaded, read_weights(at(saved("llama"))))


@pytest.mark.parametrize("name", ["gpt_neox", "qwen2_tied"])
def test_a_checkpoint_that_lacks_a_parameter_never_keeps_the_one_before(name, saved, at, copied) -> None:
    loaded = load(at(saved(name)), LoadOptions())
    before = {key: tensor.clone() for key, tensor in loaded.model.state_dict().items()}
    full = read_weights(at(saved(name, 1)))
    for missing in full:
        lacking = {key: tensor for key, tensor in full.items() if key != missing}
        assert not mirrors(loaded, lacking)
        assert not swap_weights(loaded, lacking), missing
    assert all(before[key].equal(tensor) for key, tensor in loaded.model.state_dict().items())


def test_weights_of_another_shape_are_not_swapped_in(saved, at) -> None:
    loaded = load(at(saved("gpt_neox")), LoadOptions())
    before = {key: tensor.clone() for key, tensor in loaded.model.state_dict().items()}
    full = read_weights(at(saved("gpt_neox", 1)))
    for name in full:
        assert not swap_weights(loaded, full | {name: full[name][..., :-1]})
    assert all(before[key].equal(tensor) for key, tensor in loaded.model.state_dict().items())


def test_a_tensor_that_the_loader_renames_is_known_by_its_values(saved, at, spans) -> None:
    first, second = (at(saved("gpt_neox", salt)) for salt in (0, 1))
    loaded = load(first, LoadOptions())
    files, others = read_weights(first), read_weights(second)
    # Any name will do, as long as the values are those of one tensor and that one has no other source.
    renamed = [
        {("old." + key if "embed" in key else key): t for key, t in each.items()} for each in (files, others)
    ]
    assert mirrors(loaded, renamed[0])
    assert swap_weights(loaded, renamed[1])
    assert spans(loaded).equals(spans(load(second, LoadOptions())))


def test_two_tensors_of_equal_values_under_foreign_names_are_not_guessed(saved, at) -> None:
    loaded = load(at(saved("gpt_neox")), LoadOptions())
    files = read_weights(at(saved("gpt_neox")))
    # Norms start as ones: nothing tells which is which.
    assert not mirrors(loaded, {key.replace("layernorm.weight", "ln.g"): t for key, t in files.items()})


def test_tied_names_that_disagree_are_left_to_the_loader(saved, at) -> None:
    loaded = load(at(saved("qwen2_tied")), LoadOptions())
    weights = read_weights(at(saved("qwen2_tied", 1)))
    same = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    other = weights | {"lm_head.weight": weights["model.embed_tokens.weight"] + 1}
    assert not swap_weights(loaded, other)
    assert swap_weights(loaded, same)


def test_buffers_of_older_versions_in_the_files_do_not_hinder_a_swap(copied, at, spans) -> None:
    def add_old_buffers(weights) -> None:
        weights["gpt_neox.layers.0.attention.masked_bias"] = torch.tensor(-1e9)
        weights["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.arange(4.0)

    folders = [copied("gpt_neox", salt, to=f"copy{salt}") for salt in (0, 1)]
    for folder in folders:
        edit_weights(folder, add_old_buffers)
    first, second = map(at, folders)
    loaded = load(first, LoadOptions())
    assert mirrors(loaded, read_weights(first))
    assert swap_weights(loaded, read_weights(second))
    assert spans(loaded).equals(spans(load(second, LoadOptions())))


@pytest.mark.parametrize("name", ["gpt_neox", "qwen2_tied", "gpt2"])
def test_missing_parameters_are_an_error_and_never_random_numbers(name, copied, at) -> None:
    folder = copied(name)
    dropped = []

    def drop(weights) -> None:
        dropped.append(sorted(key for key in weights if "mlp" in key and "weight" in key)[0])
        del weights[dropped[0]]

    edit_weights(folder, drop)
    with pytest.raises(CheckpointError, match="the weights lack 1 parameter of the architecture") as caught:
        load(at(folder), LoadOptions())
    assert dropped[0].split(".")[-2] in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_untied_head_is_an_error(copied, at) -> None:
    folder = copied("llama")
    edit_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"lack 1 parameter .*lm_head\.weight"):
        load(at(folder), LoadOptions())


def test_a_config_of_another_size_is_an_error(copied, at) -> None:
    folder = copied("llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(CheckpointError):
        load(at(folder), LoadOptions())


@pytest.mark.parametrize("damage", ["short", "header", "zeros", "empty"])
def test_corrupt_safetensors_are_one_clear_error_and_are_not_read_ahead(damage, copied, at) -> None:
    folder = copied("gpt_neox")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    checkpoint = at(folder)
    file.write_bytes(
        {
            "short": content[: len(content) // 2],
            "header": content[:8] + b"}" * 40 + content[48:],
            "zeros": bytes(200),
            "empty": b"",
        }[damage]
    )
    assert read_weights(checkpoint) is None
    with pytest.raises(CheckpointError, match="the checkpoint cannot be loaded") as caught:
        load(checkpoint, LoadOptions())
    assert str(folder) in str(caught.value)


def test_a_vanished_file_is_one_clear_error(copied, at) -> None:
    folder = copied("gpt_neox")
    checkpoint = at(folder)
    (folder / "model.safetensors").unlink()
    assert read_weights(checkpoint) is None
    with pytest.raises(CheckpointError):
        load(checkpoint, LoadOptions())


@pytest.fixture
def pickled(copied):
    """A checkpoint whose weights are pytorch_model.bin."""
    folder = copied("gpt_neox")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def test_pickle_is_refused_without_the_flag_and_scores_the_same_with_it(
    pickled, at, spans, loaded_from
) -> None:
    checkpoint = at(pickled, allow_pickle=True)
    with pytest.raises(SafetyError, match=r"pickle[\s\S]*--allow-pickle") as caught:
        load(checkpoint, LoadOptions())
    assert caught.value.exit_code == 5
    loaded = load(checkpoint, LoadOptions(allow_pickle=True))
    assert spans(loaded).equals(spans(loaded_from("gpt_neox")))
    assert read_weights(checkpoint) is None


@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"PK\x03\x04 half a zip"])
def test_a_corrupt_pickle_is_one_clear_error(pickled, at, content) -> None:
    (pickled / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="the checkpoint cannot be loaded"):
        load(at(pickled, allow_pickle=True), LoadOptions(allow_pickle=True))


@pytest.mark.parametrize("config", ['{"model_type": "no_such_model"}', "{}", '{"model_type": 3}'])
def test_an_unknown_architecture_is_one_clear_error(copied, at, config) -> None:
    folder = copied("gpt_neox")
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="configuration"):
        read_limits(at(folder))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(at(folder), LoadOptions())


def test_loading_ends_in_evaluation_mode_with_blank_generation_settings(loaded_from) -> None:
    loaded = loaded_from("gpt_neox")
    assert not loaded.model.training
    assert loaded.vocabulary == 97
    assert loaded.model.generation_config.eos_token_id is None


def test_dropout_is_off(saved, at, spans, build_model, tmp_path) -> None:
    build_model("gpt2", attn_pdrop=0.9, resid_pdrop=0.9, embd_pdrop=0.9).save_pretrained(tmp_path)
    loaded = load(at(tmp_path), LoadOptions())
    assert spans(loaded).equals(spans(loaded))


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "unknown device"), ("cpu:1", "no device"), ("cuda:99", "no device"), ("", "unknown device")],
)
def test_a_device_that_is_not_there_is_refused(device, message) -> None:
    with pytest.raises(InputError, match=message):
        resolve_device(device)


def test_auto_is_a_device_that_is_there() -> None:
    assert resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == "cpu"


# Models larger than one device


@pytest.mark.parametrize(("n_bytes", "device"), [(10, "cuda:0"), (84, "cuda:0"), (86, "auto"), (500, "auto")])
def test_weights_that_do_not_fit_one_gpu_are_spread(n_bytes, device, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 200))
    assert resolve_device("auto", n_bytes=n_bytes) == device


def test_spreading_without_accelerate_says_what_to_install(saved, at, monkeypatch) -> None:
    import importlib.util

    genuine = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else genuine(name)
    )
    with pytest.raises(InputError, match=r"larger than one device") as caught:
        load(at(saved("gpt_neox")), LoadOptions(device="auto"))
    assert "memprobe-lm[multi-gpu]" in caught.value.problems[0].fix


@pytest.mark.parametrize("context", [1, 2, 5, 8, 12])
def test_a_model_with_a_short_context_can_be_loaded(context, saved, at) -> None:
    loaded = load(at(saved("gpt2", n_positions=context)), LoadOptions())
    assert loaded.vocabulary == 97
    assert loaded.fast


@pytest.mark.parametrize("n_tokens", [38, 39])
def test_positions_that_begin_behind_the_padding_shorten_what_can_be_read(tmp_path, at, n_tokens) -> None:
    from transformers import RobertaConfig, RobertaForCausalLM

    config = RobertaConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        is_decoder=True,
        pad_token_id=1,
    )
    RobertaForCausalLM(config).save_pretrained(tmp_path)
    assert read_limits(at(tmp_path)).context_tokens == 38
    loaded = load(at(tmp_path), LoadOptions())
    assert loaded.context_tokens == 38
    ids = torch.full((1, n_tokens), 5)
    if n_tokens == 38:
        assert loaded.model(input_ids=ids).logits.shape[1] == 38
    else:
        with pytest.raises((IndexError, RuntimeError)):
            loaded.model(input_ids=ids)
