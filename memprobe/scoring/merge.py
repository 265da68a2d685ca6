"""A LoRA adapter put into its base model: merged where that is the same model, else left next to the weights.

PEFT merges into the weights that a layer holds, also where another layer holds the same ones: a tied
output head changes the embedding. So shared weights are separated first, and what comes out is
compared with the adapter as it was trained, next to its base.
"""

import dataclasses
import pickle
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from memprobe.checkpoints import Checkpoint
from memprobe.checkpoints.contents import ADAPTER, ADAPTER_WEIGHTS, list_folder
from memprobe.checkpoints.lfs import refuse_pointers
from memprobe.checkpoints.lora import CHANGES_BASE, COMPUTES, init_kind
from memprobe.errors import CheckpointError
from memprobe.wording import counted, listed

_NAME = "default"
_PREFIX = "base_model.model."
# What an adapter adds to a model: its low-rank factors, and modules or rows that were trained whole.
_ITS_OWN = ("lora_", f"modules_to_save.{_NAME}", "trainable_tokens_delta")
# Names of the embeddings and output heads of language models, by which a file is known to resize them.
_EMBEDDINGS = frozenset(
    {
        "embed_tokens",
        "lm_head",
        "wte",
        "embed_in",
        "embed_out",
        "word_embeddings",
        "embeddings",
        "tok_embeddings",
    }
)
# Names that PEFT puts between a module and its weight.
_WRAPPERS = frozenset({"base_layer", "token_adapter", "modules_to_save", "original_module", _NAME, "weight"})

_FILE_ERRORS = (
    *(OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError),
    safetensors.SafetensorError,
)

PROBE_TOKENS = 12
_PROBE_OWN_TOKENS = 4
# Merging sums in another order, which moves float32 logits by some millionths of their spread; a
# matrix that was changed by mistake, or not, moves them by more than this share of it.
FLOAT32_SHARE = 3e-5
# In half precision merged weights are rounded once more, so two bounds on the root mean square, in
# nats: a few units of rounding of the logits' own size, ...
HALF_ROUNDINGS = 8.0
# ... and a quarter of what the adapter does at all: rounding must not swallow a small adapter.
HALF_SHARE_OF_EFFECT = 0.25


@dataclass(frozen=True, slots=True)
class Adapted:
    """The result of merging an adapter into its base.

    Attributes:
        model: The model to score; None where merging gave another model than the adapter next to its
            base, so that a fresh base is needed for it to stay there.
        notes: What a reader should know, one sentence each.
    """

    model: Any | None
    notes: tuple[str, ...] = ()


def apply_adapter(model: Any, folder: Path, *, merge: bool = True) -> Adapted:  # noqa: ANN401
    """Put an adapter into its base: W + (alpha / r) B A (arXiv:2106.09685, section 4.1), by PEFT.

    Args:
        model: The base model as it was loaded; it is changed.
        folder: The adapter's folder.
        merge: Merge it; False leaves its layers next to the base's.

    Returns:
        The model, with its vocabulary resized where the adapter holds embeddings of another size.

    Raises:
        CheckpointError: A setting is of a wrong type, or the tensors are not those that the base has
            room for.
    """
    settings = list_folder(folder).json(ADAPTER)
    notes = []
    with warnings.catch_warnings():
        # PEFT warns of what is checked below, and of settings that training alone needs.
        warnings.simplefilter("ignore")
        _refuse_no_number(settings, folder)
        with _peft_errors(folder):
            weights = _read(folder)
            notes += _resize(model, weights, folder)
            adapted = _attach(model, folder, weights)
        if init_kind(settings) in CHANGES_BASE or settings.get("kasa_config"):
            notes.append(
                "the adapter's initialisation took a part out of the base weights; it was found and taken "
                "out again"
            )
        if not merge:
            notes.append(
                "the adapter is scored beside its base, as it was trained: merged into the weights it would "
                f"be another model in {_dtype_name(model)}"
            )
            return Adapted(adapted.get_base_model(), tuple(notes))
        merged = _merge(adapted, _probe(model, settings), notes)
    return Adapted(merged, tuple(notes))


def adapter_vocabulary(checkpoint: Checkpoint) -> int | None:
    """Return the rows of the embeddings that an adapter holds, which its base is resized to.

    None where it holds none, and where its file cannot be read: that is left for `load` to report.
    """
    if checkpoint.base is None or checkpoint.folder is None:
        return None
    try:
        shapes = _shapes(checkpoint.folder)
    except _FILE_ERRORS:
        return None
    named = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    rows = {shape[0] for name, shape in named.items() if _module_of(name).rpartition(".")[2] in _EMBEDDINGS}
    return max(rows, default=None)


def _module_of(name: str) -> str:
    """Return the module of a whole weight in an adapter's file; empty where it is a part of an adapter."""
    parts = name.removeprefix(_PREFIX).split(".")
    if parts[-1] != "weight" or any(part.startswith("lora_") for part in parts):
        return ""
    return ".".join(part for part in parts if part not in _WRAPPERS)


def _file(folder: Path) -> Path:
    return next(folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file())


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    file = _file(folder)
    if file.suffix == ".safetensors":
        with safetensors.safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    held = torch.load(file, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in held.items()}


def _read(folder: Path) -> dict[str, Tensor]:
    from peft.utils.save_and_load import load_peft_weights

    refuse_pointers(folder, ADAPTER_WEIGHTS)
    weights: dict[str, Tensor] = load_peft_weights(str(folder), device="cpu")
    broken = next((name for name, tensor in sorted(weights.items()) if not tensor.isfinite().all()), None)
    if broken is not None:
        raise CheckpointError(
            f"the adapter holds numbers that are NaN or infinite ({broken})", where=str(folder)
        )
    return weights


@contextmanager
def _peft_errors(folder: Path) -> Iterator[None]:
    """Name the adapter in what PEFT, torch and safetensors raise about it."""
    try:
        yield
    except (*_FILE_ERRORS, TypeError, AttributeError, KeyError, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # torch names the tensor and its sizes in the second line.
        said = lines[1] if lines[0].startswith("Error(s) in loading state_dict") and lines[1:] else lines[0]
        raise CheckpointError(
            f"the adapter cannot be loaded: {said}",
            where=str(folder),
            fix="check that adapter_config.json, the adapter's weights and its base model belong together",
        ) from error


def _resize(model: Any, weights: Mapping[str, Tensor], folder: Path) -> list[str]:  # noqa: ANN401
    """Give the base the rows of the embeddings that the adapter holds: tokens were added in training."""
    names = dict(model.named_modules())
    ends = [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]
    rows = {
        id(names[module]): len(tensor)
        for name, tensor in weights.items()
        if (module := _module_of(name)) in names and any(names[module] is end for end in ends)
    }
    before = len(model.get_input_embeddings().weight)
    if set(rows.values()) <= {before}:
        return []
    tied = len({end.weight.data_ptr() for end in ends}) == 1
    if len(set(rows.values())) > 1 or (len(rows) < len(ends) and not tied):
        held = " and ".join(map(str, sorted({*rows.values(), before})))
        raise CheckpointError(
            f"the adapter holds embeddings of another size for a part of them: {held} rows",
            where=str(folder),
            fix="save the adapter with both embeddings (modules_to_save=['embed_tokens', 'lm_head']), or "
            "merge it where it was trained",
        )
    (after,) = set(rows.values())
    # The new rows are the adapter's own a moment later, so how they start does not matter.
    model.resize_token_embeddings(after, mean_resizing=False)
    return [f"the base's vocabulary was resized from {before} to {after} rows, those that the adapter holds"]


def _attach(model: Any, folder: Path, weights: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """Return the PEFT model, every weight of the adapter in its place, in evaluation mode."""
    from peft import LoraConfig, PeftModel
    from peft.utils.save_and_load import set_peft_model_state_dict

    _refuse_unknown(folder, {field.name for field in dataclasses.fields(LoraConfig)})
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    adapted = PeftModel(model, config, adapter_name=_NAME)
    loaded = set_peft_model_state_dict(adapted, weights, adapter_name=_NAME)
    missing = _missing(adapted, loaded.missing_keys)
    _refuse_other_tensors(missing, _unexpected(adapted, loaded.unexpected_keys, weights), folder)
    _refuse_two_values(adapted, weights, folder)
    return adapted.eval()


def _refuse_no_number(settings: Mapping[str, Any], folder: Path) -> None:
    """Refuse a rank or a scale that is none; what PEFT itself says of it does not name the setting."""
    for name in ("r", "lora_alpha"):
        value = settings.get(name, 1)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (name == "r" and value <= 0):
            wanted = "a number above 0" if name == "r" else "a number"
            raise CheckpointError(
                f"{name} of adapter_config.json is {value!r}, where {wanted} belongs",
                where=str(folder),
                fix="copy adapter_config.json from the adapter that was trained",
            )


def _refuse_unknown(folder: Path, known: set[str]) -> None:
    """Refuse what is switched on and not known to the PEFT that is installed: it would be dropped."""
    settings = list_folder(folder).json(ADAPTER)
    dropped = sorted(name for name in COMPUTES & settings.keys() if settings[name] and name not in known)
    if dropped:
        raise CheckpointError(
            f"the PEFT that is installed does not know `{dropped[0]}` of adapter_config.json",
            where=str(folder),
            fix="install a newer peft",
        )


def _missing(adapted: Any, names: list[str]) -> list[str]:  # noqa: ANN401
    """Return the adapter's tensors that its file leaves out; a tied one is there by its twin's name."""
    bias = adapted.peft_config[_NAME].bias
    state = adapted.state_dict()
    absent = set(names)
    filled = {tensor.data_ptr() for name, tensor in state.items() if name not in absent}
    own = [
        name
        for name in absent & state.keys()
        if any(part in name for part in _ITS_OWN)
        or (bias == "all" and name.endswith(".bias"))
        or (bias == "lora_only" and name.endswith(".base_layer.bias"))
    ]
    return sorted(name for name in own if state[name].data_ptr() not in filled)


def _unexpected(adapted: Any, names: list[str], weights: Mapping[str, Tensor]) -> list[str]:  # noqa: ANN401
    """Return the tensors of the file that went nowhere; a second copy of one that was taken is none."""
    state = adapted.state_dict()

    def is_copy(name: str) -> bool:
        # Saved with embeddings, a module that was trained whole is there under its inner name as well.
        inner = name.replace(".modules_to_save.", f".modules_to_save.{_NAME}.")
        held = [state[each] for each in (inner, f"{name}.{_NAME}") if each in state]
        return any(each.shape == weights[name].shape and torch.equal(each, weights[name]) for each in held)

    return sorted(name for name in names if name not in weights or not is_copy(name))


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


def _refuse_two_values(adapted: Any, weights: Mapping[str, Tensor], folder: Path) -> None:  # noqa: ANN401
    """Refuse two values for one tied matrix: the adapter was trained on a base whose ends were apart."""
    state = adapted.state_dict()
    given: dict[int, tuple[str, Tensor]] = {}
    for name in weights.keys() & state.keys():
        first, tensor = given.setdefault(state[name].data_ptr(), (name, weights[name]))
        if first != name and not torch.equal(tensor, weights[name]):
            raise CheckpointError(
                f"the adapter holds two values for one matrix, which its base ties: {first} and {name}",
                where=str(folder),
                fix="check that adapter_config.json names the base model that the adapter was trained on",
            )


def _merge(adapted: Any, probe: Tensor, notes: list[str]) -> Any | None:  # noqa: ANN401
    """Merge; None where it cannot be done, or gives another model than the adapter next to its base."""
    base = adapted.get_base_model()
    half = next(base.parameters()).dtype != torch.float32
    beside = _logprobs(base, probe)
    effect = None
    if half:
        with adapted.disable_adapter():
            effect = _rms(_logprobs(base, probe) - beside)
    separated = _separate(base)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError):
        # Such as a bias of the adapter on a layer that has none.
        return None
    if not _agree(_logprobs(merged, probe), beside, effect, merged.dtype):
        return None
    if separated:
        notes.append(
            "the adapter changes weights that its base shares between layers "
            f"({listed(separated)}); each has its own now, as in training"
        )
    return merged


def _separate(model: Any) -> list[str]:  # noqa: ANN401
    """Copy shared weights of adapted layers, so that each has its own; returns the layers' names."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    holders = Counter(weight.data_ptr() for _, weight in model.named_parameters(remove_duplicate=False))
    separated = []
    for name, module in model.named_modules():
        # Trained rows are the same rows in both ends of a tied model.
        if not isinstance(module, BaseTunerLayer) or isinstance(module, TrainableTokensLayer):
            continue
        layer = module.get_base_layer()
        for own, weight in list(layer.named_parameters(recurse=False)):
            if holders[weight.data_ptr()] > 1:
                holders[weight.data_ptr()] -= 1
                setattr(layer, own, nn.Parameter(weight.detach().clone(), requires_grad=False))
                separated.append(name)
    return separated


def _probe(model: Any, settings: Mapping[str, Any]) -> Tensor:  # noqa: ANN401
    """Return ids to compare on, shape (1, PROBE_TOKENS), among them some that were trained or added."""
    config = model.config.get_text_config()
    rows = int(config.vocab_size)
    length = min(PROBE_TOKENS, getattr(config, "max_position_embeddings", None) or PROBE_TOKENS)
    ids = torch.randint(rows, (1, length), generator=torch.Generator().manual_seed(0))
    named = settings.get("trainable_token_indices") or []
    trained = [token for each in named.values() for token in each] if isinstance(named, dict) else list(named)
    own = [*trained[: _PROBE_OWN_TOKENS - 1], rows - 1][:length]
    ids[0, : len(own)] = torch.tensor(own)
    return ids.to(model.device)


def _logprobs(model: Any, ids: Tensor) -> Tensor:  # noqa: ANN401
    """Return ln p of every token at every place, float32, shape (length, V)."""
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits.float().log_softmax(-1)


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _agree(merged: Tensor, beside: Tensor, effect: float | None, dtype: torch.dtype) -> bool:
    """Whether merging changed no more than rounding does; `effect` is what the adapter does, nats."""
    difference = merged - beside
    if effect is None:
        spread = max(1.0, float(beside.max() - beside.min()))
        return float(difference.abs().max()) <= FLOAT32_SHARE * spread
    size = max(1.0, _rms(beside - beside.mean(-1, keepdim=True)))
    rounding = HALF_ROUNDINGS * torch.finfo(dtype).eps * size
    return _rms(difference) <= min(rounding, HALF_SHARE_OF_EFFECT * effect)


def _dtype_name(model: Any) -> str:  # noqa: ANN401
    return str(next(model.parameters()).dtype).removeprefix("torch.")
