"""Settings of LoRA adapters: what can be measured as it was trained, and the words of each refusal."""

import json

import pytest

from memprobe.checkpoints import resolve
from memprobe.checkpoints.adapter import refuse_adapter
from memprobe.checkpoints.lora import init_kind, refusal
from memprobe.errors import CheckpointError

PLAIN = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"task_type": None},
        {"init_lora_weights": True},
        {"init_lora_weights": False},
        {"init_lora_weights": None},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "OLoRA"},
        {"use_dora": True, "use_rslora": True, "lora_bias": True, "rank_pattern": {"q_proj": 2}},
        {"trainable_token_indices": [1], "ensure_weight_tying": True, "layer_replication": [[0, 2]]},
        # Off, or a number that qualifies a switch which is off: a newer PEFT writes such lines.
        {"some_new_config": None, "use_new_thing": False, "new_group_size": 16, "new_patterns": {}},
        {"lora_dtype": "float32", "megatron_core": "megatron.core"},
    ],
    ids=str,
)
def test_settings_that_can_be_measured_are_not_refused(settings) -> None:
    assert refusal(PLAIN | settings) is None


@pytest.mark.parametrize(
    ("settings", "told", "fix"),
    [
        (
            {"init_lora_weights": "pissa_niter_4"},
            "`pissa_niter_4` takes a part out of the base by a random",
            "path_",
        ),
        (
            {"init_lora_weights": "corda"},
            "`corda` removes from the base a part that was computed from data",
            "path_",
        ),
        (
            {"init_lora_weights": "lora_ga"},
            "`lora_ga` removes from the base a part",
            "path_initial_model_for_weight_conversion",
        ),
        (
            {"init_lora_weights": "loftq"},
            "`loftq` replaces the base by a quantised one",
            "merge it in the process",
        ),
        ({"init_lora_weights": "newest"}, "`newest` is not known here", "merge_and_unload"),
        ({"init_lora_weights": 7}, "`7` is not known here", "merge_and_unload"),
        (
            {"alora_invocation_tokens": [1, 2]},
            "is active only after its invocation tokens",
            "measure its base model",
        ),
        ({"arrow_config": {"top_k": 2}}, "chooses among other adapters", "one by one"),
        ({"monteclora_config": {"num_samples": 8}}, "adds noise to its weights", "merge it"),
        ({"megatron_config": {"a": 1}}, "layers of Megatron", "merge_and_unload"),
        ({"use_qalora": True}, "quantised base", "merge_and_unload"),
        (
            {"use_new_thing": True},
            "sets `use_new_thing`, which memprobe does not know",
            "take it out of the file",
        ),
        (
            {"new_config": {"a": 1}},
            "sets `new_config`, which memprobe does not know",
            "take it out of the file",
        ),
    ],
    ids=str,
)
def test_settings_that_cannot_be_measured_are_refused_by_name(settings, told, fix) -> None:
    refused = refusal(PLAIN | settings)
    assert refused is not None
    assert told in refused[0]
    assert fix in refused[1]


def test_a_rapid_pissa_is_not_taken_for_the_exact_one() -> None:
    assert init_kind({"init_lora_weights": "pissa_niter_16"}) == "pissa_niter"
    assert init_kind({"init_lora_weights": "pissa"}) == "pissa"
    assert init_kind({}) == "true"


def adapter(make, contents, **settings) -> str:
    make("base")
    values = PLAIN | {"base_model_name_or_path": "../base"} | settings
    files = {
        "adapter_config.json": json.dumps(values).encode(),
        "adapter_model.safetensors": contents.safetensors(0, n_numbers=2),
    }
    return str(make("lora", files))


def test_an_adapter_that_is_refused_is_found_all_the_same_and_names_the_setting(make, contents) -> None:
    ((checkpoint,),) = (
        found.checkpoints for found in resolve([adapter(make, contents, init_lora_weights="pissa_niter_4")])
    )
    with pytest.raises(CheckpointError, match="pissa_niter_4"):
        refuse_adapter(checkpoint)


def test_an_adapter_on_a_quantised_base_is_refused_with_the_method(make, contents) -> None:
    folder = adapter(make, contents)
    make("base", config={"quantization_config": {"quant_method": "bitsandbytes"}})
    ((checkpoint,),) = (found.checkpoints for found in resolve([folder]))
    with pytest.raises(CheckpointError, match=r"is quantised \(bitsandbytes\)") as caught:
        refuse_adapter(checkpoint)
    assert "write the model that it was quantised from" in caught.value.problems[0].fix
