"""Adapters of many kinds: what is scored is the model that was trained, kept in memory as the reference.

The reference is PEFT's own forward of the adapter beside its base, before it was saved.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from memprobe.checkpoints.adapter import refuse_adapter
from memprobe.errors import CheckpointError
from memprobe.scoring.forward import TokenSequence, score_batch, scoring_mode
from memprobe.scoring.load import LoadOptions, load, read_limits
from memprobe.scoring.merge import _agree, apply_adapter
from memprobe.tables.requests import Scheme

# float32: merged weights sum in another order than the adapter beside its base, on logits of 10 and more.
ATOL_NATS = 1e-4
# An adapter of these tests moves some token by more than this; half of it lost would be seen.
EFFECT_NATS = 0.1
IDS = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(6))
TARGETS = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value"]}
TIED = "the adapter changes weights that its base shares between layers"
BESIDE = "the adapter is scored beside its base"
RESIZED = "the base's vocabulary was resized"


class Trained:
    """An adapter in a folder, and the logits of the model that it was saved from, shape (2, 12, V)."""

    def __init__(self, folder: Path, logits: torch.Tensor) -> None:
        self.folder, self.logits = folder, logits


@pytest.fixture
def trained(saved, tmp_path):
    """Return a maker of adapters with their reference: trained("qwen2_tied", target_modules=["lm_head"])."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def make(
        name="llama", *, rows=None, pickle=False, convert=False, dtype=torch.float32, **settings
    ) -> Trained:
        base = AutoModelForCausalLM.from_pretrained(saved(name), dtype=dtype).eval()
        if rows is not None:
            torch.manual_seed(2)
            base.resize_token_embeddings(rows)
        given = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS.get(name, ["q_proj", "v_proj"])}
        torch.manual_seed(1)
        adapted = get_peft_model(base, LoraConfig(**(given | {"task_type": "CAUSAL_LM"} | settings))).eval()
        if convert:
            adapted.peft_config["default"].init_lora_weights = True
            adapted.save_pretrained(tmp_path / "start")
            adapted.peft_config["default"].init_lora_weights = settings["init_lora_weights"]
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in (each for each in adapted.parameters() if each.requires_grad):
                weight.add_(torch.randn(weight.shape, generator=generator).to(weight.dtype), alpha=0.15)
            logits = adapted(input_ids=IDS).logits.float()
        start = {"path_initial_model_for_weight_conversion": str(tmp_path / "start")} if convert else {}
        adapted.save_pretrained(tmp_path / "adapter", safe_serialization=not pickle, **start)
        # What is drawn at the load must not be what was drawn at the start.
        torch.manual_seed(99)
        return Trained(tmp_path / "adapter", logits)

    return make


def load_at(at, folder: Path, *, dtype: str = "float32", **allowed):
    return load(at(folder, **allowed), LoadOptions(dtype=dtype, allow_pickle=bool(allowed)))


def scored(loaded) -> np.ndarray:
    """Return ln p of the tokens of `IDS` but the first, by the path that scoring takes."""
    with scoring_mode():
        parts = score_batch(loaded, [TokenSequence(row.numpy(), 1) for row in IDS], (Scheme(),))
    return np.concatenate([part.logprob.numpy() for part in parts])


def wanted(reference: Trained) -> np.ndarray:
    table = reference.logits.double().log_softmax(-1)[:, :-1]
    return table.gather(2, IDS[:, 1:, None])[..., 0].numpy().ravel()


def set_in_config(folder: Path, **values) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


ENDS = {
    "lm_head": ["q_proj", "lm_head"],
    "embed_tokens": ["embed_tokens"],
    "both": ["embed_tokens", "lm_head"],
}
KINDS = [
    *(("qwen2_tied", {"target_modules": modules}, TIED) for modules in ENDS.values()),
    ("qwen2_tied", {"target_modules": ENDS["both"], "ensure_weight_tying": True}, TIED),
    ("qwen2_tied", {"target_modules": ["lm_head"], "use_dora": True}, TIED),
    ("gpt2", {"target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}, TIED),
    ("qwen2_tied", {"modules_to_save": ["lm_head"]}, None),
    ("qwen2_tied", {"modules_to_save": ["embed_tokens"]}, None),
    ("qwen2_tied", {"modules_to_save": ENDS["both"]}, None),
    ("qwen2_tied", {"modules_to_save": ENDS["both"], "ensure_weight_tying": True}, None),
    ("qwen2_tied", {"trainable_token_indices": [5, 70]}, None),
    ("llama", {"trainable_token_indices": {"embed_tokens": [5, 70]}}, None),
    ("qwen2_tied", {"trainable_token_indices": [5, 70], "target_modules": ENDS["lm_head"]}, BESIDE),
    ("llama", {"init_lora_weights": "pissa"}, "the adapter's initialisation took a part out"),
    ("llama", {"init_lora_weights": "olora"}, "the adapter's initialisation took a part out"),
    ("qwen2_tied", {"init_lora_weights": "pissa", "target_modules": ["lm_head"]}, TIED),
    ("llama", {"init_lora_weights": "orthogonal"}, None),
    ("llama", {"init_lora_weights": "mica"}, None),
    ("llama", {"init_lora_weights": False}, None),
    ("llama", {"lora_bias": True}, BESIDE),
    ("gpt_neox", {"lora_bias": True, "bias": "all"}, None),
    ("gpt_neox", {"bias": "lora_only"}, None),
    ("llama", {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}, "use_rslora": True}, None),
    ("llama", {"target_modules": "all-linear", "layers_to_transform": None, "use_dora": True}, None),
    ("llama", {"layers_to_transform": [0], "exclude_modules": ["v_proj"], "lora_alpha": 30}, None),
    ("llama", {"layer_replication": [(0, 2), (1, 2)]}, TIED),
]


@pytest.mark.parametrize(("name", "settings", "note"), KINDS, ids=str)
def test_scores_are_those_of_the_model_that_was_trained(name, settings, note, trained, at, saved) -> None:
    reference = trained(name, **settings)
    loaded = load_at(at, reference.folder)
    np.testing.assert_allclose(scored(loaded), wanted(reference), rtol=0, atol=ATOL_NATS)
    assert [text.startswith(note) for text in loaded.notes if note].count(True) == (note is not None)
    assert note is not None or not loaded.notes
    alone = scored(load(at(saved(name)), LoadOptions()))
    assert np.abs(alone - wanted(reference)).max() > EFFECT_NATS


def test_ends_that_were_tied_are_apart_after_merging_and_the_fast_path_stays(trained, at) -> None:
    loaded = load_at(at, trained("qwen2_tied", target_modules=["lm_head"]).folder)
    embedding, head = loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()
    assert embedding.weight.data_ptr() != head.weight.data_ptr()
    assert loaded.fast
    assert not loaded.model.config.tie_word_embeddings


def test_an_adapter_that_touches_no_end_leaves_the_ends_tied(trained, at) -> None:
    loaded = load_at(at, trained("qwen2_tied").folder)
    embedding, head = loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()
    assert embedding.weight.data_ptr() == head.weight.data_ptr()
    assert not loaded.notes


def test_lora_on_the_experts_of_a_mixture_is_measured(at, tmp_path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, MixtralConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=97, num_local_experts=4, num_key_value_heads=2, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    settings = LoraConfig(r=2, target_modules=["q_proj"], target_parameters=names, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, settings).eval()
    with torch.no_grad():
        for weight in (each for each in adapted.parameters() if each.requires_grad):
            weight.normal_(0, 0.3)
        reference = Trained(tmp_path / "adapter", adapted(input_ids=IDS).logits)
    adapted.save_pretrained(reference.folder)
    np.testing.assert_allclose(
        scored(load_at(at, reference.folder)), wanted(reference), rtol=0, atol=ATOL_NATS
    )


def test_an_adapter_in_a_pickle_needs_permission_and_scores_alike(trained, at) -> None:
    reference = trained("qwen2_tied", pickle=True, target_modules=["lm_head"])
    assert [file.name for file in reference.folder.glob("adapter_model.*")] == ["adapter_model.bin"]
    loaded = load_at(at, reference.folder, allow_pickle=True)
    np.testing.assert_allclose(scored(loaded), wanted(reference), rtol=0, atol=ATOL_NATS)


def test_a_lossy_initialisation_that_was_converted_is_measured(trained, at) -> None:
    reference = trained("llama", init_lora_weights="pissa_niter_2", convert=True)
    assert json.loads((reference.folder / "adapter_config.json").read_text())["init_lora_weights"] is True
    np.testing.assert_allclose(
        scored(load_at(at, reference.folder)), wanted(reference), rtol=0, atol=ATOL_NATS
    )


def test_a_lossy_initialisation_would_be_another_model_at_each_load(trained, at, saved) -> None:
    # Why it is refused: forced through, the same files give the trained model only by luck.
    reference = trained("llama", init_lora_weights="pissa_niter_0")
    with pytest.raises(CheckpointError, match="`pissa_niter_0` takes a part out of the base"):
        refuse_adapter(at(reference.folder))
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        adapted = apply_adapter(AutoModelForCausalLM.from_pretrained(saved("llama")), reference.folder)
        again = adapted.model(input_ids=IDS).logits
    assert (again - reference.logits).abs().max() > EFFECT_NATS


# Half precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["q_proj", "lm_head"]], ids=str)
def test_half_precision_is_merged_where_only_rounding_differs(dtype, modules, trained, at) -> None:
    reference = trained("qwen2_tied", dtype=getattr(torch, dtype), target_modules=modules)
    loaded = load_at(at, reference.folder, dtype=dtype)
    assert not any(text.startswith(BESIDE) for text in loaded.notes)
    error = scored(loaded) - wanted(reference)
    # Eight roundings of logits of about 4, the bound of the check itself.
    assert np.sqrt(np.mean(error**2)) < 8 * torch.finfo(getattr(torch, dtype)).eps * 4


def test_rounding_does_not_swallow_a_small_adapter(trained, at, saved) -> None:
    reference = trained("llama")
    file = reference.folder / "adapter_model.safetensors"
    # Below half a unit in the last place of nearly every weight of the base.
    small = {name: tensor * 0.03 for name, tensor in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(small, file)
    loaded = load_at(at, reference.folder, dtype="bfloat16")
    assert [text for text in loaded.notes if text.startswith(BESIDE)]
    assert "another model in bfloat16" in loaded.notes[0]


@pytest.mark.parametrize(
    ("moved", "effect", "dtype", "agrees"),
    [
        # float32: 3e-5 of a spread of 10 is 3e-4 nats, at any single token.
        (2.9e-4, None, torch.float32, True),
        (3.1e-4, None, torch.float32, False),
        # bfloat16: one entry of 16 moved by x has a root mean square of x / 4; 8 units of 2^-7 of a size of
        # sqrt(((10 - 5)^2 x 8 + (0 - 5)^2 x 8) / 16) = 5 are 0.3125 nats.
        (1.2, 10.0, torch.bfloat16, True),
        (1.3, 10.0, torch.bfloat16, False),
        # A quarter of an effect of 0.4 nats is 0.1.
        (0.39, 0.4, torch.bfloat16, True),
        (0.41, 0.4, torch.bfloat16, False),
        # An adapter that does nothing agrees with itself, and NaN with nothing.
        (0.0, 0.0, torch.bfloat16, True),
        (float("nan"), 1.0, torch.bfloat16, False),
        (float("nan"), None, torch.float32, False),
    ],
)
def test_agreement_is_bounded_by_rounding_and_by_the_effect(moved, effect, dtype, agrees) -> None:
    beside = torch.tensor([[0.0, -10.0] * 8])
    merged = beside.clone()
    merged[0, 3] += moved
    assert _agree(merged, beside, effect, dtype) is agrees


def test_a_merge_that_gives_another_model_is_not_used(trained, at, monkeypatch) -> None:
    from memprobe.scoring import merge

    # As PEFT alone merges: into the matrix that both ends hold.
    monkeypatch.setattr(merge, "_separate", lambda model: [])
    reference = trained("qwen2_tied", target_modules=["lm_head"])
    loaded = load_at(at, reference.folder)
    assert any(text.startswith(BESIDE) for text in loaded.notes)
    assert not loaded.fast
    np.testing.assert_allclose(scored(loaded), wanted(reference), rtol=0, atol=ATOL_NATS)


# Vocabularies


@pytest.mark.parametrize("rows", [104, 90], ids=["tokens-added", "padding-cut-off"])
@pytest.mark.parametrize("name", ["qwen2_tied", "llama", "gpt2"])
def test_the_base_is_resized_as_the_adapter_says(name, rows, trained, at) -> None:
    reference = trained(name, rows=rows)
    loaded = load_at(at, reference.folder)
    assert loaded.notes == (f"{RESIZED} from 97 to {rows} rows, those that the adapter holds",)
    assert loaded.vocabulary == rows
    assert read_limits(at(reference.folder)).vocabulary == rows
    np.testing.assert_allclose(scored(loaded), wanted(reference), rtol=0, atol=ATOL_NATS)


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [5, 103]},
        {"target_modules": ["lm_head", "q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["qwen2_tied", "llama"])
def test_added_tokens_that_were_trained_are_the_trained_ones(name, settings, trained, at) -> None:
    reference = trained(name, rows=104, **settings)
    loaded = load_at(at, reference.folder)
    with torch.no_grad():
        found = loaded.model(input_ids=IDS).logits
    # Every column, those of the added tokens too.
    assert torch.allclose(found, reference.logits, rtol=0, atol=ATOL_NATS)
    assert read_limits(at(reference.folder)).vocabulary == 104


def test_lora_on_a_resized_embedding_is_measured_where_the_head_is_tied_to_it(trained, at) -> None:
    settings = {"rows": 104, "target_modules": ["embed_tokens", "q_proj"]}
    reference = trained("qwen2_tied", **settings)
    with torch.no_grad():
        found = load_at(at, reference.folder).model(input_ids=IDS).logits
    assert torch.allclose(found, reference.logits, rtol=0, atol=ATOL_NATS)
    # PEFT saves the end that has an adapter alone: of a head apart, the added rows are lost.
    with pytest.raises(
        CheckpointError, match="embeddings of another size for a part of them: 97 and 104 rows"
    ):
        load_at(at, trained("llama", **settings).folder)


def test_a_resized_adapter_in_a_pickle_says_its_rows(trained, at) -> None:
    reference = trained("llama", rows=104, pickle=True)
    assert read_limits(at(reference.folder, allow_pickle=True)).vocabulary == 104


@pytest.mark.parametrize("pickle", [False, True])
def test_a_file_that_cannot_be_read_is_left_for_loading_to_report(pickle, trained, at) -> None:
    folder = trained("llama", pickle=pickle).folder
    (file,) = folder.glob("adapter_model.*")
    file.write_bytes(file.read_bytes()[:-9])
    allowed = {"allow_pickle": True} if pickle else {}
    assert read_limits(at(folder, **allowed)).vocabulary == 97
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_at(at, folder, **allowed)


def test_an_adapter_with_one_end_of_another_size_is_refused(trained, at) -> None:
    reference = trained("llama", rows=104)
    file = reference.folder / "adapter_model.safetensors"
    kept = {
        name: tensor for name, tensor in safetensors.torch.load_file(file).items() if "lm_head" not in name
    }
    safetensors.torch.save_file(kept, file)
    with pytest.raises(
        CheckpointError, match="embeddings of another size for a part of them: 97 and 104 rows"
    ):
        load_at(at, reference.folder)


def test_a_plain_adapter_has_the_vocabulary_of_its_base(trained, at) -> None:
    assert read_limits(at(trained("llama").folder)).vocabulary == 97


# What cannot be put in its place


def test_a_bias_that_was_not_saved_is_missing(trained, at) -> None:
    reference = trained("gpt_neox", bias="lora_only")
    file = reference.folder / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in safetensors.torch.load_file(file).items() if "bias" not in name}
    safetensors.torch.save_file(kept, file)
    with pytest.raises(CheckpointError, match="2 tensors missing"):
        load_at(at, reference.folder)


def test_two_values_for_one_tied_matrix_are_refused(trained, at) -> None:
    reference = trained("qwen2_tied", rows=104)
    file = reference.folder / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(file)
    (head,) = (name for name in weights if name.endswith("lm_head.weight"))
    weights[head] = weights[head] + 1
    safetensors.torch.save_file(weights, file)
    with pytest.raises(CheckpointError, match="two values for one matrix, which its base ties"):
        load_at(at, reference.folder)


def test_numbers_that_are_none_are_named(trained, at) -> None:
    reference = trained("llama")
    file = reference.folder / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(file)
    name = sorted(weights)[0]
    weights[name][0, 0] = torch.nan
    safetensors.torch.save_file(weights, file)
    with pytest.raises(CheckpointError) as caught:
        load_at(at, reference.folder)
    assert f"NaN or infinite ({name})" in caught.value.problems[0].what


def test_sizes_that_do_not_fit_are_told_with_the_tensor(trained, at) -> None:
    reference = trained("llama")
    set_in_config(reference.folder, r=8)
    with pytest.raises(CheckpointError, match=r"size mismatch for .*lora_A") as caught:
        load_at(at, reference.folder)
    assert caught.value.problems[0].where == str(reference.folder)


# Sequences


def test_each_adapter_changes_a_base_of_its_own(trained, at, saved) -> None:
    plain = saved("qwen2_tied")
    before = (plain / "model.safetensors").read_bytes()
    reference = trained("qwen2_tied", target_modules=["lm_head"])
    first = scored(load_at(at, reference.folder))
    base = scored(load(at(plain), LoadOptions()))
    assert np.array_equal(first, scored(load_at(at, reference.folder)))
    assert np.array_equal(base, scored(load(at(plain), LoadOptions())))
    assert (plain / "model.safetensors").read_bytes() == before
