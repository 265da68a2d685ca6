"""Checkpoints to models: loading, the choice of path, and swapping weights within a sequence.

The fast path runs the body and then the output head on the positions that matter; it is taken only
where it gives the very bits of the model's own logits. A sequence of checkpoints that differ in
nothing but their weights is loaded once: the next weights are read while the current ones score.
"""

import importlib.util
import json
import logging
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from memprobe.checkpoints import Checkpoint
from memprobe.errors import CheckpointError, InputError, SafetyError, counted
from memprobe.scoring.merge import adapter_vocabulary, apply_adapter

# Weights may take this share of a GPU; activations and logits need the rest.
_MODEL_SHARE = 0.85

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Where PEFT is installed, transformers applies an adapter that lies beside whole weights; a merged
# model that kept its adapter would get it twice. It looks for one in this folder, which is not there.
_NO_ADAPTER = {"subfolder": ".no-adapter"}
_READABLE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    safetensors.SafetensorError,
    json.JSONDecodeError,
    pickle.UnpicklingError,
    EOFError,
)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are loaded.

    Attributes:
        device: `cpu`, `cuda:N` or `mps`; `auto` spreads a model over several devices.
        dtype: float32, bfloat16 or float16.
        trust_remote_code: Run code that lies beside the weights.
        allow_pickle: Read weights that are not safetensors.
    """

    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can read.

    Attributes:
        context_tokens: Longest input, BOS included; None where the configuration sets none.
        vocabulary: Number of rows of its embedding.
        bos_id: The configuration's BOS id, None where it has none.
        stored_dtype: The dtype that the weights are stored in.
    """

    context_tokens: int | None
    vocabulary: int
    bos_id: int | None
    stored_dtype: str


@dataclass(slots=True)
class LoadedModel:
    """A model ready to score.

    Attributes:
        model: The causal language model, in evaluation mode.
        device: Where its inputs go.
        fast: Whether body and head may be called apart; see `choose_path`.
        vocabulary: Width of its logits.
        scratch: Buffers that are used again, by shape.
        renamed: Name in the weight files to name in the model, where the loader renames; see `mirrors`.
        notes: What a reader of its numbers should know about how it was loaded, one sentence each.
    """

    model: Any
    device: torch.device
    fast: bool = False
    vocabulary: int = 0
    scratch: dict[str, Tensor] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def context_tokens(self) -> int | None:
        """Longest input; None where the configuration sets none."""
        return _context_tokens(self.model.config.get_text_config())

    @property
    def head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self.model.get_output_embeddings()
        return head


def resolve_device(device: str, *, n_bytes: int = 0) -> str:
    """Return the device that `auto` stands for, or check the one that is named.

    Args:
        device: As the flag gives it.
        n_bytes: Bytes of the largest model's weights.

    Returns:
        The device: of several GPUs the one of this process's number on its machine, where torchrun
        (LOCAL_RANK) or Slurm (SLURM_LOCALID) gives one, else the first; `auto` where the weights do not
        fit it and must be spread.

    Raises:
        InputError: The device is unknown or not there.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        gpu = _gpu_of_this_process(torch.cuda.device_count())
        free_bytes, _ = torch.cuda.mem_get_info(gpu)
        return f"cuda:{gpu}" if n_bytes < _MODEL_SHARE * free_bytes else "auto"
    kind = device.split(":", 1)[0]
    there = {
        "cpu": device == "cpu",
        "cuda": torch.cuda.is_available(),
        "mps": device == "mps" and torch.backends.mps.is_available(),
    }
    if kind not in there:
        raise InputError(
            f"unknown device `{device}`", where="--device", fix="devices are auto, cpu, cuda:N, mps"
        )
    if not there[kind]:
        raise InputError(f"there is no device `{device}` here", where="--device", fix="use --device cpu")
    if kind == "cuda" and ":" in device:
        number = device.split(":", 1)[1]
        if not number.isdigit() or int(number) >= torch.cuda.device_count():
            raise InputError(
                f"there is no device `{device}` here",
                where="--device",
                fix=f"devices are cuda:0 to cuda:{torch.cuda.device_count() - 1}",
            )
    return device


def _gpu_of_this_process(n_gpus: int) -> int:
    """Return which GPU is this process's own where a launcher started one process per GPU."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        rank = os.environ.get(variable, "")
        if rank.isdigit():
            # Slurm may show each task its own GPU only, which is then number 0.
            return int(rank) % max(n_gpus, 1)
    return 0


def read_limits(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Limits:
    """Read what the model can take from its configuration, without its weights.

    Raises:
        CheckpointError: The configuration cannot be read or names an unknown architecture.
    """
    try:
        config = AutoConfig.from_pretrained(
            checkpoint.whole.small_files, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"transformers cannot read the configuration: {_first_line(error)}", where=str(checkpoint.folder)
        ) from error
    text = config.get_text_config()
    bos = getattr(text, "bos_token_id", None)
    dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return Limits(
        context_tokens=_context_tokens(text),
        vocabulary=adapter_vocabulary(checkpoint) or int(text.vocab_size),
        bos_id=bos if isinstance(bos, int) else None,
        stored_dtype=dtype if dtype in DTYPES else "float32",
    )


def _context_tokens(config: Any) -> int | None:  # noqa: ANN401
    """Return the longest input that a text configuration names, or None."""
    return next(
        (
            value
            for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
            if isinstance(value := getattr(config, name, None), int) and value > 0
        ),
        None,
    )


def load(checkpoint: Checkpoint, options: LoadOptions) -> LoadedModel:
    """Load a checkpoint and choose its path; its weights take part in gradients and have none themselves.

    Raises:
        CheckpointError: The weights are damaged, incomplete or of an unknown architecture.
        InputError: The model must be spread over devices and accelerate is not installed.
        SafetyError: Only a pickle is there and it is not allowed.
    """
    whole = checkpoint.whole
    if whole.weights_format == "pickle" and not options.allow_pickle:
        raise SafetyError(
            "the weights are a pickle, which can run code when read",
            where=str(whole.folder),
            fix="convert them to safetensors, or pass --allow-pickle if you trust their source",
        )
    placement: dict[str, object] = {"device_map": "auto"} if options.device == "auto" else {}
    if placement and importlib.util.find_spec("accelerate") is None:
        raise InputError(
            "the model is larger than one device, and accelerate, which spreads it, is not installed",
            where=str(checkpoint.folder),
            fix="pip install 'memprobe[multi-gpu]', or pass --device cpu",
        )
    # Tensors made in inference mode, in which the engine works, can be in no gradient at all.
    notes: list[str] = []
    with torch.inference_mode(mode=False), torch.no_grad():
        model = _model(checkpoint, options, placement, notes)
    # A blank one: min_length, penalties or a forbidden eos in the model's own would make greedy
    # decoding something else than the argmax.
    model.generation_config = GenerationConfig()
    model.eval()
    model.requires_grad_(requires_grad=False)
    device = model.device if placement else torch.device(options.device)
    loaded = LoadedModel(model=model, device=device, notes=tuple(notes))
    choose_path(loaded)
    return loaded


def _model(
    checkpoint: Checkpoint,
    options: LoadOptions,
    placement: dict[str, object],
    notes: list[str],
    *,
    merge: bool = True,
) -> Any:  # noqa: ANN401
    """Return a checkpoint's model on its device, an adapter merged in or beside it; adds to `notes`."""
    whole = checkpoint.whole
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            whole.folder,
            dtype=DTYPES[options.dtype],
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=whole.weights_format == "safetensors",
            output_loading_info=True,
            adapter_kwargs=_NO_ADAPTER,
            **placement,
        )
        _refuse_incomplete(info, whole)
        if checkpoint.base is not None and checkpoint.folder is not None:
            adapted = apply_adapter(model, checkpoint.folder, merge=merge)
            if adapted.model is None:
                # Merging changed the base, so a fresh one is read.
                del model, adapted
                return _model(checkpoint, options, placement, notes, merge=False)
            model = adapted.model
            notes.extend(adapted.notes)
    except _READABLE_ERRORS as error:
        raise CheckpointError(
            f"the checkpoint cannot be loaded: {_first_line(error)}", where=str(checkpoint.folder)
        ) from error
    return model if placement else model.to(options.device)


def _refuse_incomplete(info: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse weights that leave a parameter to chance: its score would be a random number."""
    missing = sorted(info.get("missing_keys") or ())
    mismatched = sorted(str(key) for key in (info.get("mismatched_keys") or ()))
    if missing or mismatched:
        named = ", ".join([*missing, *mismatched][:3])
        lacking = counted(len(missing) + len(mismatched), "parameter")
        raise CheckpointError(
            f"the weights lack {lacking} of the architecture: {named}",
            where=str(checkpoint.folder),
            fix="check that config.json and the weights belong together",
        )


def choose_path(loaded: LoadedModel) -> None:
    """Take the fast path if body and head give the model's own logits, to the bit, on a small batch.

    Logit scaling, soft-capping or an unusual head show up as a difference; a model that reads its
    right padding shows up when a sequence changes beside a longer one. Both take the model's own
    path, with an attention mask.
    """
    model = loaded.model
    config = model.config.get_text_config()
    length = min(12, _context_tokens(config) or 12)
    short_length = max(1, min(5, length - 1))
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(int(config.vocab_size), (2, length), generator=rng).to(loaded.device)
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits
        loaded.vocabulary = own.shape[-1]
        head = model.get_output_embeddings()
        body = model.base_model
        if body is model or head is None or not isinstance(head, nn.Linear):
            return
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
        if hidden.shape[-1] != head.in_features or not torch.equal(head(hidden), own):
            return
        short = body(input_ids=ids[:1, :short_length], use_cache=False).last_hidden_state
        tolerance = 64 * torch.finfo(hidden.dtype).eps * max(1.0, float(hidden.abs().max()))
        loaded.fast = float((hidden[:1, :short_length] - short).abs().max()) <= tolerance


def read_weights(checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """Read a checkpoint's safetensors into memory; None where the plain copy is not possible.

    Meant for a thread: it touches no model. A damaged file is left for `load` to report.
    """
    if checkpoint.folder is None or checkpoint.weights_format != "safetensors":
        return None
    weights: dict[str, Tensor] = {}
    try:
        for name in checkpoint.weight_files:
            # The loader maps the file; a copy is what reads it from the disk.
            part = safetensors.torch.load_file(Path(checkpoint.folder) / name)
            weights.update({key: tensor.clone() for key, tensor in part.items()})
    except (OSError, safetensors.SafetensorError):
        return None
    return weights


def mirrors(loaded: LoadedModel, weights: dict[str, Tensor]) -> bool:
    """Whether these files, copied tensor by tensor, give exactly the model that was loaded from them.

    True only where every parameter and buffer that the model saves is in the files, or tied to one
    that is, with equal values. A tensor that the loader renamed is known by its values, if exactly
    one tensor of the model has them and no other source; `loaded.renamed` keeps what was found. Merged
    or converted weights never mirror; tensors that became nothing, such as buffers of older
    versions, are passed over as the loader passes over them.
    """
    state = loaded.model.state_dict()
    named = weights.keys() & state.keys()
    if not all(_equal(state[name], weights[name]) for name in named):
        return False
    filled = {state[name].data_ptr() for name in named}
    renamed = {}
    for name in weights.keys() - named:
        found = [
            each
            for each, ours in state.items()
            if ours.data_ptr() not in filled and _equal(ours, weights[name])
        ]
        if len({state[each].data_ptr() for each in found}) > 1:
            return False
        if found:
            renamed[name] = found[0]
    loaded.renamed = renamed
    return _fills(state, _as_named(loaded, weights))


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours, theirs.to(device=ours.device, dtype=ours.dtype))


def _as_named(loaded: LoadedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {loaded.renamed.get(name, name): tensor for name, tensor in weights.items()}


def _fills(state: dict[str, Tensor], weights: dict[str, Tensor]) -> bool:
    """Whether the weights fit and leave no tensor of the model as it was; tied names must agree."""
    given: dict[int, Tensor] = {}
    for name in weights.keys() & state.keys():
        if state[name].shape != weights[name].shape:
            return False
        twin = given.setdefault(state[name].data_ptr(), weights[name])
        if twin is not weights[name] and not torch.equal(twin, weights[name]):
            return False
    return all(tensor.data_ptr() in given for tensor in state.values())


def swap_weights(loaded: LoadedModel, weights: dict[str, Tensor]) -> bool:
    """Copy the next checkpoint's weights into the model; False, and nothing done, where they do not fit.

    What is missing in the files would keep the value of the checkpoint before, so it does not fit.
    """
    state = loaded.model.state_dict()
    named = _as_named(loaded, weights)
    fits = _fills(state, named)
    if fits:
        with torch.no_grad():
            for name in named.keys() & state.keys():
                state[name].copy_(named[name])
    return fits


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def quiet_libraries() -> None:
    """Keep transformers' progress bars and advice off the screen; ours say what matters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
