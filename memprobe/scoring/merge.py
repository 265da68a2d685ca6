"""A LoRA adapter merged into its base model, so that what is scored is one plain model."""

import warnings
from pathlib import Path
from typing import Any

from memprobe.errors import CheckpointError, counted

_NAME = "default"
# What an adapter adds to a model: its low-rank factors, and modules or rows that were trained whole.
_ITS_OWN = ("lora_", f"modules_to_save.{_NAME}", "trainable_tokens_")


def merge_adapter(model: Any, folder: Path) -> Any:  # noqa: ANN401
    """Return the model with the adapter's weights added to its own.

    W + (alpha / r) B A (arXiv:2106.09685, section 4.1) in the model's dtype, by PEFT.

    Args:
        model: The base model, on the CPU or wherever it was loaded.
        folder: The adapter's folder.

    Raises:
        CheckpointError: A setting is of a wrong type, or the tensors are not those that the base has
            room for.
    """
    from peft import LoraConfig, PeftModel
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    with warnings.catch_warnings():
        # PEFT warns of what is checked below, and of settings that training alone needs.
        warnings.simplefilter("ignore")
        try:
            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model, config, adapter_name=_NAME)
        except (TypeError, AttributeError) as error:
            what = f"adapter_config.json has a setting that PEFT cannot use: {error}"
            raise CheckpointError(what, where=str(folder), fix="copy or download the file again") from error
        weights = load_peft_weights(str(folder), device="cpu")
        loaded = set_peft_model_state_dict(adapted, weights, adapter_name=_NAME)
        missing = sorted(name for name in loaded.missing_keys if any(part in name for part in _ITS_OWN))
        _refuse_other_tensors(missing, sorted(loaded.unexpected_keys), folder)
        return adapted.merge_and_unload(safe_merge=True)


def _refuse_other_tensors(missing: list[str], unexpected: list[str], folder: Path) -> None:
    """Refuse an adapter that fits its base in part: the rest would be left at its random start."""
    if not missing and not unexpected:
        return
    counts = [f"{counted(len(missing), 'tensor')} missing"] if missing else []
    counts += [f"{len(unexpected)} that the base has no place for"] if unexpected else []
    raise CheckpointError(
        f"the adapter does not fit its base model: {', '.join(counts)} ({(missing + unexpected)[0]})",
        where=str(folder),
        fix="check that adapter_config.json names the base model that the adapter was trained on",
    )
