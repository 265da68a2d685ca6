"""Decide from a LoRA adapter's settings whether it can be measured as trained, before weights are read.

The settings are PEFT's (https://huggingface.co/docs/peft/package_reference/lora), as of version 0.21.2.
"""

from collections.abc import Mapping
from typing import Any

MERGE_FIX = (
    "merge the adapter into its base model (PEFT: merge_and_unload, save_pretrained) and pass that folder"
)
_MERGE_THERE = (
    "merge it in the process that trained it (PEFT: merge_and_unload, save_pretrained) and pass that folder"
)
_CONVERT = (
    "save it where it was trained with `path_initial_model_for_weight_conversion`, which makes a plain LoRA "
    f"of it, or {_MERGE_THERE}"
)

# Initialisations that leave the base unchanged: their initial values are replaced by the saved ones.
_LEAVES_BASE = frozenset({"true", "false", "none", "gaussian", "eva", "orthogonal", "mica"})
# Initialisations that remove a part of the base that its weights alone determine, so loading removes the
# same part again.
CHANGES_BASE = frozenset({"pissa", "olora"})
# Initialisations that remove a part of the base that is not saved and cannot be computed again.
_LOSES_BASE: Mapping[str, str] = {
    "pissa_niter": "takes a part out of the base by a random projection, which is drawn again at each load",
    "corda": "removes from the base a part that was computed from data and is not in the adapter",
    "lora_ga": "removes from the base a part that was computed from gradients and is not in the adapter",
    "loftq": "replaces the base by a quantised one, which depends on the quantiser that was installed",
}

# Settings that make the adapter compute something that memprobe supports neither merged nor attached.
_UNMEASURED: Mapping[str, tuple[str, str]] = {
    "alora_invocation_tokens": (
        "is active only after its invocation tokens (aLoRA), so scores depend on whether an item has them",
        "measure its base model, or an adapter without `alora_invocation_tokens`",
    ),
    "arrow_config": (
        "chooses among other adapters for each token (Arrow)",
        "measure those adapters one by one",
    ),
    "megatron_config": ("was trained on layers of Megatron", MERGE_FIX),
    "monteclora_config": ("adds noise to its weights (MonteCLoRA)", _MERGE_THERE),
    "use_qalora": ("works on a quantised base alone (QA-LoRA)", MERGE_FIX),
    "enable_lora": ("is of PEFT before 0.3, with parts of a matrix left out (`enable_lora`)", MERGE_FIX),
}

# Settings that change the computation; a PEFT version that does not know them would ignore them.
COMPUTES = frozenset(
    {
        *("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern", "layer_replication"),
        *("exclude_modules", "target_parameters", "trainable_token_indices", "ensure_weight_tying"),
        *("use_bdlora", "kasa_config"),
    }
)
_KNOWN = COMPUTES | frozenset(
    {
        *(
            "auto_mapping",
            "base_model_name_or_path",
            "inference_mode",
            "peft_type",
            "peft_version",
            "revision",
        ),
        *("task_type", "runtime_config"),
        *("r", "lora_alpha", "lora_dropout", "target_modules", "bias", "fan_in_fan_out", "modules_to_save"),
        *("init_lora_weights", "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
        # How the adapter was initialised or trained; the effect is in its saved weights.
        *("corda_config", "eva_config", "loftq_config", "lora_ga_config", "velora_config", "merge_weights"),
        # Settings of other trainers that concern only the training.
        *("lora_dtype", "lorap_lr_ratio", "lorap_emb_lr"),
    }
)


def init_kind(settings: Mapping[str, Any]) -> str:
    """Return the kind of initialisation, in lower case; `pissa_niter` without its number."""
    kind = str(settings.get("init_lora_weights", True)).lower()
    return "pissa_niter" if kind.startswith("pissa_niter") else kind


def refusal(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why an adapter with these settings cannot be measured, and the fix; None if it can be."""
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if kind != "LORA":
        return f"the adapter is of type {kind or 'unknown'}, and only LoRA is merged", MERGE_FIX
    if task not in (None, "CAUSAL_LM"):
        what = f"the adapter is for {task}, and only causal language models can be measured"
        return what, "pass the adapter of a causal language model"
    for name, (what, fix) in _UNMEASURED.items():
        if settings.get(name):
            return f"the adapter {what}", fix
    return _init_refusal(settings) or _unknown(settings)


def _init_refusal(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    kind = init_kind(settings)
    if kind in _LEAVES_BASE | CHANGES_BASE:
        return None
    name = settings["init_lora_weights"]
    named = f"the adapter cannot be loaded as it was trained: its initialisation `{name}`"
    if kind in _LOSES_BASE:
        return f"{named} {_LOSES_BASE[kind]}", _MERGE_THERE if kind == "loftq" else _CONVERT
    return f"{named} is not known here, and may have changed the base", MERGE_FIX


def _unknown(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse unknown settings that are switched on, because PEFT drops them with only a warning.

    Numbers are ignored: they only qualify another setting, which switches something on.
    """
    unknown = [name for name, value in settings.items() if name not in _KNOWN | _UNMEASURED.keys() and value]
    switches = sorted(
        name for name in unknown if not isinstance(settings[name], int | float) or settings[name] is True
    )
    if not switches:
        return None
    what = f"adapter_config.json sets `{switches[0]}`, which memprobe does not know and may change scores"
    return what, f"take it out of the file if it concerned the training alone, or {MERGE_FIX}"
