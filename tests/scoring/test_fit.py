"""Weights against their configuration: what does not belong together is refused before it is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers.quantizers

from memprobe.errors import CheckpointError
from memprobe.scoring import fit as module
from memprobe.scoring.fit import check_fit, problems_of, refuse_oversized
from memprobe.scoring.load import LoadOptions, load, mirrors, read_limits, read_weights, swap_weights

LAYER = "model.layers.0."


@pytest.fixture
def copied(saved, tmp_path):
    """Return a maker of a private copy of a saved checkpoint."""

    def make(name: str, salt: int = 0, *, to: str = "copy", **options) -> Path:
        return Path(shutil.copytree(saved(name, salt, **options), tmp_path / to))

    return make


def edit(folder: Path, change) -> Path:
    file = folder / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    change(weights)
    safetensors.torch.save_file({name: each.contiguous() for name, each in weights.items()}, file)
    return folder


def add(folder: Path, **tensors: torch.Tensor) -> Path:
    return edit(folder, lambda weights: weights.update({k.replace("__", "."): t for k, t in tensors.items()}))


def configure(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def refused(at, folder: Path) -> str:
    """Return why; `load` must refuse the same, word for word."""
    checkpoint = at(folder)
    problems = problems_of(checkpoint)
    assert problems
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint, LoadOptions())
    for mine, its in zip(problems, caught.value.problems, strict=True):
        assert its.what == f"the checkpoint cannot be loaded: {mine.what}"
    return "\n".join(str(each) for each in problems)


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "qwen2_tied", "opt", "gemma2", "mamba"])
def test_whole_weights_fit_and_nothing_is_noted(name, saved, at) -> None:
    found = check_fit(at(saved(name)))
    assert (found.notes, found.left_out, found.masks) == ((), {}, ())


# What changes the numbers


@pytest.mark.parametrize(
    ("tensor", "shape", "told"),
    [
        (LAYER + "self_attn.q_proj.bias", (32,), "1 tensor with biases"),
        (LAYER + "self_attn.q_proj.lora_A.default.weight", (4, 32), "1 tensor of an adapter"),
        (LAYER + "self_attn.q_proj.base_layer.weight", (32, 32), "1 tensor of an adapter"),
        ("lm_head.modules_to_save.default.weight", (97, 32), "1 tensor of an adapter"),
        (LAYER + "self_attn.q_proj.weight_scale_inv", (1, 1), "1 tensor with scales of quantised weights"),
        (LAYER + "self_attn.q_proj.SCB", (32,), "1 tensor with scales"),
        (LAYER + "self_attn.q_proj.qzeros", (1, 4), "1 tensor with scales"),
        (LAYER + "self_attn.q_proj.weight.absmax", (16,), "1 tensor with scales"),
        (LAYER + "self_attn.q_proj.weight.quant_state.bitsandbytes__nf4", (16,), "1 tensor with scales"),
        ("model.layers.2.mlp.up_proj.weight", (48, 32), "1 tensor of whole layers beyond"),
        ("model.something.weight", (3,), "1 tensor of no known use"),
        ("v_head.summary.weight", (1, 32), "1 tensor of no known use"),
    ],
)
def test_a_tensor_that_the_model_did_not_take_is_refused_by_name_and_size(
    tensor, shape, told, copied, at
) -> None:
    folder = edit(copied("llama"), lambda weights: weights.update({tensor: torch.ones(shape)}))
    message = refused(at, folder)
    assert told in message
    assert f"{tensor} ({' x '.join(map(str, shape))})" in message


def test_a_configuration_with_fewer_layers_names_the_others(copied, at) -> None:
    message = refused(at, configure(copied("llama"), num_hidden_layers=1))
    assert "9 tensors of whole layers beyond those of config.json" in message
    assert "model.layers.1.input_layernorm.weight" in message


@pytest.mark.parametrize("n_layers", [-1, 0])
def test_no_layers_at_all_are_fewer_than_the_weights_have(n_layers, copied, at) -> None:
    assert "18 tensors of whole layers" in refused(at, configure(copied("llama"), num_hidden_layers=n_layers))


def test_a_configuration_with_more_layers_names_what_is_missing(copied, at) -> None:
    assert "the weights lack 9 parameters" in refused(at, configure(copied("llama"), num_hidden_layers=3))


def test_another_size_is_told_with_both_sizes(copied, at) -> None:
    message = refused(at, configure(copied("llama"), intermediate_size=40))
    assert "model.layers.0.mlp.down_proj.weight is 32 x 48 in the files and 32 x 40 in the model" in message
    assert "report above" not in message


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8])
def test_packed_numbers_without_a_word_of_quantisation_are_refused(dtype, copied, at) -> None:
    name = LAYER + "mlp.up_proj.weight"
    folder = edit(copied("llama"), lambda weights: weights.update({name: weights[name].to(dtype)}))
    message = refused(at, folder)
    assert str(dtype).removeprefix("torch.") in message
    assert name in message


def test_double_precision_is_plain_numbers(copied, at) -> None:
    name = LAYER + "mlp.up_proj.weight"
    check_fit(at(edit(copied("llama"), lambda weights: weights.update({name: weights[name].double()}))))


def test_two_tensors_for_one_place_are_refused(copied, at) -> None:
    folder = edit(
        copied("llama"), lambda weights: weights.update({"norm.weight": weights["model.norm.weight"] + 1})
    )
    assert "several tensors of the files are one tensor of the model: model.norm.weight" in refused(
        at, folder
    )


def test_a_tensor_in_two_shards_is_refused(copied, at) -> None:
    folder = copied("llama")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = dict(list(weights.items())[:12])
    safetensors.torch.save_file(first, folder / "a.safetensors")
    safetensors.torch.save_file(weights, folder / "b.safetensors")
    index = {name: "a.safetensors" if name in first else "b.safetensors" for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "is in two weight files, a.safetensors and b.safetensors" in refused(at, folder)


def test_shards_are_judged_together(copied, at) -> None:
    folder = add(copied("llama"), extra__bias=torch.ones(3))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for number, name in enumerate(sorted(weights)):
        index[name] = f"{number % 2}.safetensors"
    for file in set(index.values()):
        safetensors.torch.save_file({k: t for k, t in weights.items() if index[k] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "extra.bias (3)" in refused(at, folder)


def test_pickles_are_judged_as_well(copied, at) -> None:
    folder = copied("llama")
    weights = safetensors.torch.load_file(folder / "model.safetensors") | {"extra.bias": torch.ones(3)}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    checkpoint = at(folder, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"extra.bias \(3\)"):
        load(checkpoint, LoadOptions(allow_pickle=True))


# What may be left out


def test_layers_that_predict_several_tokens_are_noted(copied, at) -> None:
    last = "model.layers.2."
    names = {f"{last}{part}.weight": torch.ones(3) for part in ("eh_proj", "enorm", "hnorm", "mlp.up_proj")}
    folder = edit(copied("llama"), lambda weights: weights.update(names | {"mtp.fc.weight": torch.ones(2)}))
    loaded = load(at(folder), LoadOptions())
    (note,) = loaded.notes
    assert "predict several tokens at once" in note
    assert f"{last}eh_proj.weight" in note


def test_rotary_buffers_are_noted_and_those_of_another_base_twice(copied, at) -> None:
    name = LAYER + "self_attn.rotary_emb.inv_freq"
    same = 1 / 10000 ** (torch.arange(0, 8, 2) / 8)
    for values, n_notes in ((same, 1), (same.half(), 1), (1 / 500000 ** (torch.arange(0, 8, 2) / 8), 2)):
        folder = edit(
            copied("llama", to=f"c{n_notes}{values.dtype}"), lambda w, v=values: w.update({name: v})
        )
        notes = load(at(folder), LoadOptions()).notes
        assert len(notes) == n_notes
        assert "rotary position buffers" in notes[0]
    assert "other rotary frequencies" in notes[1]


def masks(n: int = 96) -> torch.Tensor:
    return torch.tril(torch.ones(1, 1, n, n))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float32])
def test_masks_of_older_versions_are_noted(dtype, copied, at) -> None:
    old = {
        "gpt_neox.layers.0.attention.bias": masks().to(dtype),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e4),
    }
    folder = edit(copied("gpt_neox"), lambda weights: weights.update(old))
    (note,) = load(at(folder), LoadOptions()).notes
    assert "causal mask buffers" in note


@pytest.mark.parametrize(
    "values",
    [torch.ones(32), torch.ones(32, 32), torch.zeros(1, 1, 8, 8), masks(8).mT, torch.randn(1, 1, 8, 8)],
)
@pytest.mark.parametrize("name", ["gpt_neox.layers.0.attention.bias", "gpt_neox.layers.0.attn.bias"])
def test_a_bias_that_has_the_name_of_a_mask_is_refused(name, values, copied, at) -> None:
    folder = edit(copied("gpt_neox"), lambda weights: weights.update({name: values.contiguous()}))
    assert "with biases" in refused(at, folder)


def test_a_mask_that_fills_with_nothing_is_a_bias(copied, at) -> None:
    name = "gpt_neox.layers.0.attention.masked_bias"
    folder = edit(copied("gpt_neox"), lambda weights: weights.update({name: torch.tensor(0.5)}))
    assert "with biases" in refused(at, folder)


def test_a_tied_head_may_be_there_if_it_is_the_same(copied, at) -> None:
    def head(weights, more: float) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + more

    assert check_fit(at(edit(copied("qwen2_tied"), lambda w: head(w, 0)))).notes == ()
    message = refused(at, edit(copied("qwen2_tied", to="other"), lambda w: head(w, 1)))
    assert "lm_head.weight and model.embed_tokens.weight differ in the files" in message


def test_an_untied_configuration_of_tied_weights_lacks_its_head(copied, at) -> None:
    message = refused(at, configure(copied("qwen2_tied"), tie_word_embeddings=False))
    assert "lack 1 parameter of the architecture: lm_head.weight" in message


# A later checkpoint whose weights are copied in


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (LAYER + "self_attn.q_proj.bias", torch.ones(32)),
        ("model.rotary_emb.inv_freq", torch.ones(4)),
        ("extra", torch.ones(1)),
    ],
)
def test_other_tensors_than_the_first_had_are_left_to_a_fresh_load(name, values, saved, at) -> None:
    first = at(saved("llama"))
    loaded = load(first, LoadOptions())
    assert mirrors(loaded, read_weights(first))
    following = read_weights(at(saved("llama", 1)))
    assert not swap_weights(loaded, following | {name: values})
    assert swap_weights(loaded, following)


def test_masks_are_looked_at_in_each_checkpoint(copied, at) -> None:
    name = "gpt_neox.layers.0.attention.bias"
    first = at(edit(copied("gpt_neox"), lambda weights: weights.update({name: masks(8)})))
    loaded = load(first, LoadOptions())
    weights = read_weights(first)
    assert mirrors(loaded, weights)
    assert swap_weights(loaded, weights)
    assert not swap_weights(loaded, weights | {name: torch.randn(1, 1, 8, 8)})


def test_scaled_numbers_are_not_copied_in(saved, at) -> None:
    first = at(saved("llama"))
    loaded = load(first, LoadOptions())
    weights = read_weights(first)
    name = LAYER + "mlp.up_proj.weight"
    assert not swap_weights(loaded, weights | {name: weights[name].to(torch.float8_e4m3fn)})


# Configurations


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"hidden_act": "nope"}, "hidden_act='nope'"),
        ({"rope_parameters": {"rope_type": "zzz"}}, "rope_parameters.rope_type='zzz'"),
        ({"dtype": "float9"}, "float9"),
        ({"vocab_size": None}, "vocab_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers of config.json is 1,000,000,000"),
        ({"vocab_size": 9_700_000}, "is 97 x 32 in the files and 9,700,000 x 32 in the model"),
    ],
)
def test_a_broken_configuration_is_the_checkpoints_failure_and_the_field_is_named(
    changes, told, copied, at
) -> None:
    assert told in refused(at, configure(copied("llama"), **changes))


@pytest.mark.parametrize(
    ("method", "fix"),
    [
        ("gptq", "pip install optimum gptqmodel"),
        ("awq", "pip install gptqmodel accelerate"),
        ("bitsandbytes", "pip install bitsandbytes accelerate"),
        ("hqq", "pip install hqq"),
        ("compressed-tensors", "pip install compressed-tensors"),
    ],
)
def test_quantised_weights_name_what_to_install(method, fix, copied, at, monkeypatch) -> None:
    def missing(*args, **more):
        raise ImportError("it is not installed")

    # Whatever is installed where the test runs.
    monkeypatch.setattr(transformers.quantizers.AutoHfQuantizer, "from_config", missing)
    how = {"quant_method": method, "bits": 4, "load_in_8bit": True}
    message = refused(at, configure(copied("llama"), quantization_config=how))
    assert f"quantised ({method})" in message
    assert fix in message


def test_a_package_that_transformers_misses_only_while_it_loads_is_named_before(copied, at) -> None:
    folder = configure(copied("llama"), quantization_config={"quant_method": "sinq"})
    assert "fix:   pip install sinq" in refused(at, folder)


def test_sizes_of_quantised_weights_are_told_and_no_report_is_spoken_of(copied, at) -> None:
    # fp8 is unpacked on a CPU, and plain weights under it are taken as they are.
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    folder = configure(copied("llama"), quantization_config=settings)
    edit(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is 3 in the files and \d+ in the model"):
        load(at(folder), LoadOptions())


def test_an_unknown_quantisation_is_refused_where_transformers_would_pass_over_it(copied, at) -> None:
    message = refused(at, configure(copied("llama"), quantization_config={"quant_method": "nope"}))
    assert "quantised (nope)" in message


def test_a_model_type_without_a_causal_model_is_named(copied, at) -> None:
    assert "no causal language model of type vit" in refused(at, configure(copied("llama"), model_type="vit"))


@pytest.mark.parametrize("field", ["vocab_size", "max_position_embeddings"])
def test_a_limit_below_one_is_refused(field, copied, at) -> None:
    with pytest.raises(CheckpointError, match=f"{field} of config.json is -5"):
        read_limits(at(configure(copied("llama"), **{field: -5})))


def test_the_native_class_is_used_and_no_code_of_the_checkpoint_runs(copied, at, tmp_path) -> None:
    folder = configure(
        copied("llama"),
        auto_map={"AutoConfig": "stale.LlamaConfig", "AutoModelForCausalLM": "stale.LlamaForCausalLM"},
    )
    ran = tmp_path / "ran"
    (folder / "stale.py").write_text(f"open({str(ran)!r}, 'w')\nraise ValueError\n")
    for trust in (False, True):
        checkpoint = at(folder, trust_remote_code=trust)
        assert read_limits(checkpoint, trust_remote_code=trust).vocabulary == 97
        loaded = load(checkpoint, LoadOptions(trust_remote_code=trust))
        assert type(loaded.model).__module__.startswith("transformers.")
        (note,) = loaded.notes
        assert "llama itself" in note
    assert not ran.exists()


# Memory


def test_a_model_far_larger_than_its_weights_is_refused() -> None:
    with torch.device("meta"):
        large = torch.nn.Linear(2**15, 2**15)
    with pytest.raises(CheckpointError, match=r"takes 1,073,774,592 numbers, and the weights hold 10"):
        refuse_oversized(large, 10, "here")
    refuse_oversized(large, 2**30, "here")


def test_a_model_of_far_more_tensors_is_not_even_built(copied, at, monkeypatch) -> None:
    monkeypatch.setattr(module, "_FREE_PARAMETERS", 5)
    message = refused(at, configure(copied("llama"), num_hidden_layers=40))
    assert "has over 89 tensors, and the weights hold 21" in message


def test_equal_checkpoints_are_judged_once(saved, at, monkeypatch) -> None:
    check_fit(at(saved("llama")))
    monkeypatch.setattr(module, "_judge", None)
    check_fit(at(saved("llama", 1)))
