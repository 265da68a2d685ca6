"""Tiny models of all causal architectures of transformers that can be made small: no sound one is refused.

Rung: the model's own forward of each text alone. What cannot be made small or has no text configuration is
left out; enough must remain. Slow: about 150 models.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring.conduct import settle
from memprobe.scoring.forward import TokenSequence, score_batch, scoring_mode
from memprobe.scoring.load import LoadedModel, quiet_libraries

ATOL = 2e-5
PARAMETERS_MAX, LONGEST = 2e7, 100
AT_LEAST = 120
# Attention over the whole text (CPMAnt, XLM, XLNet), predictions that change with the text's length
# (ProphetNet), a language that must be named first (X-MOD).
REFUSED = {"cpmant", "prophetnet", "xlm", "xlnet", "xmod"}
SMALL: dict[str, Any] = {
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input"], 97),
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "dim", "lru_width", "embedding_size"], 32),
    **dict.fromkeys(["word_embed_proj_dim", "attention_hidden_size"], 32),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "d_ff", "decoder_ffn_dim", "ffn_hidden_size"], 48),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], 128),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "moe_intermediate_size", "sliding_window"], 16),
    **dict.fromkeys(["mamba_d_head", "shared_expert_intermediate_size", "chunk_size"], 16),
    **dict.fromkeys(["head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "state_size"], 8),
    **dict.fromkeys(["mamba_d_state", "linear_key_head_dim", "linear_value_head_dim", "block_size"], 8),
    **dict.fromkeys(["index_head_dim", "hidden_size_per_layer_input", "ssm_state_size"], 8),
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "attn_layer_period", "expert_layer_period"], 2),
    **dict.fromkeys(["num_key_value_heads", "linear_num_key_heads", "n_mamba_heads", "mamba_expand"], 2),
    **dict.fromkeys(["n_shared_experts", "n_group", "topk_group", "mamba_n_groups", "n_groups"], 1),
    **dict.fromkeys(["max_window_layers", "attn_layer_offset", "expert_layer_offset"], 1),
    **dict.fromkeys(["first_k_dense_replace", "moe_layer_start_index", "num_memory_blocks"], 1),
    **dict.fromkeys(["mamba_n_heads", "mamba_d_conv", "linear_num_value_heads", "conv_kernel"], 4),
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "is_decoder": True, "qkv_bias": False},
    # Few heads of an indexer tie at zero, and ties fall by the length of the call.
    **{"index_topk": 8, "index_n_heads": 32, "num_kv_shared_layers": 0},
}
# What goes wrong in making a model out of sizes that were not meant for it.
CANNOT = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError, ImportError)


def small_config(name: str) -> Any:
    """Return the configuration of an architecture with what it has of the small sizes."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[name]
    whole = kind()
    text = whole.get_text_config()
    fixed = {each for each in SMALL if isinstance(getattr(type(text), each, None), property)}
    values = {each: n for each, n in SMALL.items() if hasattr(text, each) and each not in fixed}
    if hasattr(text, "qk_rope_head_dim"):
        values = values | {"num_key_value_heads": 4}
        values.pop("head_dim", None)
    own = not isinstance(getattr(type(text), "layer_types", None), property)
    if own and "layer_types" not in type(text).attribute_map and getattr(text, "layer_types", None):
        layers = list(dict.fromkeys(text.layer_types)) * 2
        values["layer_types"] = layers[: max(2, len(layers) // 2)]
        counts = {"num_hidden_layers", "n_layer", "num_layers"} & set(values)
        values |= dict.fromkeys(counts, len(values["layer_types"]))
    if type(text) is kind:
        return kind(**values)
    inside = next(each for each in ("text_config", "decoder_config", "llm_config") if hasattr(whole, each))
    return kind(**{inside: values})


def small_models(dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
    """Yield every architecture that can be made small, by the name of its type."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        try:
            config = small_config(name)
            with torch.device("meta"):
                sizes = [p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()]
            if sum(sizes) > PARAMETERS_MAX:
                continue
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).eval().to(dtype)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(2.5 if weight.ndim > 1 else 1)
                model(input_ids=torch.arange(3, 40)[None], use_cache=False)
        except (*CANNOT, StopIteration, StrictDataclassError):
            if name not in REFUSED:
                continue
        yield name, model


def largest_gap(loaded: LoadedModel, texts: list) -> float:
    """Return the largest difference of ln p in a batch from the model's own, each text alone, nats."""
    with scoring_mode():
        scored = score_batch(loaded, [TokenSequence(ids, 1) for ids in texts], [])
        gap = 0.0
        for ids, statistics in zip(map(torch.from_numpy, texts), scored, strict=True):
            logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0].double()
            expected = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            gap = max(gap, float((statistics.logprob - expected).abs().max()))
    return gap


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sound_architectures_pass_and_score_as_alone(dtype) -> None:
    quiet_libraries()
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 97, n) for n in (30, 9, 60)]
    passed, refused, gaps = [], {}, {}
    for name, model in small_models(dtype):
        loaded = LoadedModel(model=model, device=torch.device("cpu"))
        try:
            settle(loaded, LONGEST)
        except CheckpointError as error:
            refused[name] = str(error)
            continue
        passed.append(name)
        if dtype == torch.float32:
            gaps[name] = largest_gap(loaded, texts)
    assert {name: gap for name, gap in gaps.items() if not gap <= ATOL} == {}
    assert set(refused) <= REFUSED, refused
    assert len(passed) >= AT_LEAST
