"""Loading of models from checkpoints, the choice of path, and swapping weights within a sequence.

The fast path runs the body and then the output head on the positions that matter; it is taken only if it
gives the model's own logits bit for bit. A sequence of checkpoints that differ only in their weights is
loaded once: the next weights are read while the current ones are used for scoring.
"""

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig

from memprobe.checkpoints import Checkpoint, weights_digest
from memprobe.checkpoints.contents import CONFIG, list_folder
from memprobe.checkpoints.header import Stored
from memprobe.errors import CheckpointError, InputError, SafetyError, install_command
from memprobe.scoring.borders import Borders
from memprobe.scoring.conduct import settle
from memprobe.scoring.extras import Model, is_mask, sort_out
from memprobe.scoring.files import read_files, stored_as
from memprobe.scoring.fit import FLOATS, Fit, check_fit, lacking, of_other_size
from memprobe.scoring.merge import adapter_vocabulary, apply_adapter
from memprobe.scoring.outside import outside, read_config, runs_code

# Weights may take this share of a GPU; activations and logits need the rest.
_MODEL_SHARE = 0.85
# Positions of these models begin after the padding id, so the rows up to it in the position table serve no
# text.
_COUNTED_FROM_PADDING = frozenset(
    {
        *("roberta", "roberta-prelayernorm", "camembert", "xlm-roberta", "xlm-roberta-xl", "xmod"),
        "data2vec-text",
    }
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# If PEFT is installed, transformers applies an adapter that it finds next to whole weights; a merged model
# that kept its adapter would get it twice. This makes it look in a folder that does not exist.
_NO_ADAPTER = {"subfolder": ".no-adapter"}
# 2 GB in float32, which take a second or two to load.
TRIED_PARAMETERS_MAX = 500_000_000
_CANNOT = "the checkpoint cannot be loaded"
# Frequencies that were stored in half precision are rounded by less than this.
_ROUNDED = 0.01


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options for loading models.

    Attributes:
        device: `cpu`, `cuda:N` or `mps`; `auto` spreads a model over several devices.
        dtype: float32, bfloat16 or float16.
        trust_remote_code: Whether to run code that is next to the weights.
        allow_pickle: Whether to read weights that are not safetensors.
        longest_tokens: Length of the longest sequence of the run, up to which behaviour is checked; 0 if
            unknown.
    """

    device: str = "cpu"
    dtype: str = "float32"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    longest_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The context and vocabulary of a model.

    Attributes:
        context_tokens: Longest input in tokens, BOS included; None if the configuration sets no limit.
        vocabulary: Number of rows of its embedding.
        bos_id: The configuration's BOS id; None if it has none.
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
        device: The device that its inputs go to.
        fast: Whether body and head can be called separately; see `conduct.choose_path`.
        vocabulary: Width of its logits.
        scratch: Buffers that are reused, by name.
        fit: Facts about the files that it was loaded from.
        renamed: Name in the weight files to name in the model, for tensors that the loader renames; see
            `mirrors`.
        notes: What a reader of the results should know about how it was loaded, one sentence each.
        borders: Lengths at which its arithmetic changes.
        settled: Whether what its scores depend on was checked conclusively.
        shares: Whether several rows can continue one cache; None if not tried yet, see prefix.py.
    """

    model: Any
    device: torch.device
    fast: bool = False
    vocabulary: int = 0
    scratch: dict[str, Tensor] = field(default_factory=dict)
    fit: Fit = field(default_factory=lambda: Fit((), {}))
    renamed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    borders: Borders = field(default_factory=Borders)
    settled: bool = False
    shares: bool | None = None

    @property
    def context_tokens(self) -> int | None:
        """Longest input in tokens; None if the configuration sets no limit."""
        return _context_tokens(self.model.config.get_text_config())

    @property
    def head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self.model.get_output_embeddings()
        return head


def resolve_device(device: str, *, n_bytes: int = 0) -> str:
    """Return the device that `auto` stands for, or check the one that is named.

    Args:
        device: The value of `--device`.
        n_bytes: Bytes of the largest model's weights.

    Returns:
        The device. If there are several GPUs, `auto` stands for the one with this process's number on its
        machine, as given by torchrun (LOCAL_RANK) or Slurm (SLURM_LOCALID), else for the first one. If the
        weights do not fit on that GPU and must be spread, the result is `auto`.

    Raises:
        InputError: The device is unknown or this machine does not have it.
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
    """Return the number of this process's GPU if a launcher started one process per GPU, else 0."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        rank = os.environ.get(variable, "")
        if rank.isdigit():
            # Slurm may show each task only its own GPU, which then has number 0.
            return int(rank) % max(n_gpus, 1)
    return 0


def read_limits(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Limits:
    """Read the limits of a model from its configuration, without its weights.

    Raises:
        CheckpointError: The configuration cannot be read or names an unknown architecture.
    """
    where = str(checkpoint.folder or checkpoint.label)
    config = read_config(checkpoint, trust_remote_code=trust_remote_code)
    with outside(f"{CONFIG} does not say what the model can read", where):
        text = config.get_text_config()
        vocabulary = int(text.vocab_size)
        bos = getattr(text, "bos_token_id", None)
    context_tokens = _context_tokens(text)
    for name, value in (("vocab_size", vocabulary), *_contexts(text)[:1]):
        if value <= 0:
            fix = f"write the model's number into {name} of {CONFIG}"
            raise CheckpointError(f"{name} of {CONFIG} is {value:,}", where=where, fix=fix)
    dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return Limits(
        context_tokens=context_tokens,
        vocabulary=adapter_vocabulary(checkpoint) or vocabulary,
        bos_id=bos if isinstance(bos, int) else None,
        stored_dtype=dtype if dtype in DTYPES else "float32",
    )


def _context_tokens(config: Any) -> int | None:  # noqa: ANN401
    """Return the longest input that a text configuration allows, or None if it sets no limit."""
    named = next((value for _, value in _contexts(config) if value > 0), None)
    padding = getattr(config, "pad_token_id", None)
    if (
        named is None
        or getattr(config, "model_type", "") not in _COUNTED_FROM_PADDING
        or not isinstance(padding, int)
    ):
        return named
    return max(named - padding - 1, 1)


def _contexts(config: Any) -> list[tuple[str, int]]:  # noqa: ANN401
    """Return the settings that limit the length of the input, the decisive one first."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    found = [(name, getattr(config, name, None)) for name in names]
    return [(name, value) for name, value in found if isinstance(value, int)]


def load(checkpoint: Checkpoint, options: LoadOptions) -> LoadedModel:
    """Load a checkpoint and choose its path; gradients can flow through its weights, which get none.

    Raises:
        CheckpointError: The weights are damaged, incomplete or of an unknown architecture.
        InputError: The model must be spread over devices and accelerate is not installed.
        SafetyError: The weights are a pickle, and pickles are not allowed.
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
            fix=f"{install_command('multi-gpu')}, or pass --device cpu",
        )
    fit = _fitting(checkpoint, options)
    # The engine works in inference mode, but tensors made in that mode cannot take part in gradients.
    with torch.inference_mode(mode=False), torch.no_grad():
        model, notes = _model(checkpoint, options, placement, fit)
    # A blank configuration: min_length, penalties or a forbidden eos in the model's own one would make greedy
    # decoding differ from the argmax.
    model.generation_config = GenerationConfig()
    model.eval()
    model.requires_grad_(requires_grad=False)
    device = model.device if placement else torch.device(options.device)
    loaded = LoadedModel(model=model, device=device, fit=fit, notes=(*fit.notes, *notes))
    weights = weights_digest(checkpoint)
    settle(loaded, options.longest_tokens, where=str(checkpoint.folder), weights=weights)
    return loaded


def try_out(checkpoint: Checkpoint, *, trust_remote_code: bool, allow_pickle: bool) -> bool | None:
    """Load a checkpoint as a run would, to check how it behaves, and drop it again.

    Returns:
        Whether the result holds for all weights of this architecture; None if the weights are not on this
        machine, or too large to be loaded only for this.

    Raises:
        CheckpointError: A run could not score the checkpoint.
    """
    n_numbers = checkpoint.whole.n_parameters
    if checkpoint.folder is None or n_numbers is None or n_numbers > TRIED_PARAMETERS_MAX:
        return None
    device = resolve_device("auto", n_bytes=4 * n_numbers)
    options = LoadOptions(
        "cpu" if device == "auto" else device,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    return load(checkpoint, options).settled


def _fitting(checkpoint: Checkpoint, options: LoadOptions) -> Fit:
    try:
        return check_fit(checkpoint, trust_remote_code=options.trust_remote_code)
    except CheckpointError as error:
        said = [replace(each, what=f"{_CANNOT}: {each.what}") for each in error.problems]
        raise CheckpointError(said) from error


def _model(
    checkpoint: Checkpoint,
    options: LoadOptions,
    placement: dict[str, object],
    fit: Fit,
    *,
    merge: bool = True,
) -> tuple[Any, tuple[str, ...]]:
    """Return a checkpoint's model on its device, with its adapter merged in or attached, and notes on it."""
    whole = checkpoint.whole
    settings = list_folder(whole.small_files).json(CONFIG)
    with outside(_CANNOT, str(checkpoint.folder), settings):
        model, info = AutoModelForCausalLM.from_pretrained(
            whole.folder,
            dtype=DTYPES[options.dtype],
            local_files_only=True,
            trust_remote_code=runs_code(settings, trust=options.trust_remote_code),
            use_safetensors=whole.weights_format == "safetensors",
            output_loading_info=True,
            # Otherwise its error refers to a report that nobody sees; `_refuse_incomplete` names the tensors.
            ignore_mismatched_sizes=True,
            adapter_kwargs=_NO_ADAPTER,
            **placement,
        )
        _refuse_incomplete(info, whole)
        notes = (*_judge_left_out(model, info, fit, whole), *_other_positions(model, fit, whole))
        if checkpoint.base is not None and checkpoint.folder is not None:
            adapted = apply_adapter(model, checkpoint.folder, merge=merge)
            if adapted.model is None:
                # Merging changed the base, so it is read again.
                del model, adapted
                return _model(checkpoint, options, placement, fit, merge=False)
            model, notes = adapted.model, (*notes, *adapted.notes)
        return (model if placement else model.to(options.device)), notes


def _refuse_incomplete(info: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse weights that leave a parameter with random values: the scores would be random.

    `check_fit` finds this beforehand, unless the weights are quantised.
    """
    missing = sorted(info.get("missing_keys") or ())
    mismatched = {name: (held, wanted) for name, held, wanted in info.get("mismatched_keys") or ()}
    if problems := [*lacking(missing), *of_other_size(mismatched)]:
        where = str(checkpoint.folder)
        raise CheckpointError(
            [replace(each, what=f"{_CANNOT}: {each.what}", where=where) for each in problems]
        )


def _judge_left_out(model: Any, info: dict[str, Any], fit: Fit, checkpoint: Checkpoint) -> tuple[str, ...]:  # noqa: ANN401
    """Judge the tensors that a quantised model did not take; for other models `check_fit` has done so."""
    if not fit.quantised:
        return ()
    left_out = {
        name: fit.tensors.get(name, Stored("unknown", ())) for name in info.get("unexpected_keys") or ()
    }
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    extras = sort_out(left_out, Model(n_layers, model.config is not model.config.get_text_config()))
    if problems := extras.problems(str(checkpoint.folder)):
        raise CheckpointError(problems)
    return extras.notes()


def _other_positions(model: Any, fit: Fit, checkpoint: Checkpoint) -> tuple[str, ...]:  # noqa: ANN401
    """Return a note if old files contain other rotary frequencies than the model computes."""
    ours = [each for name, each in model.named_buffers() if name.endswith("inv_freq")]
    stored = [name for name in fit.rotary if name.endswith("inv_freq")][:1]
    for name in stored if ours else ():
        theirs = read_files(checkpoint).whole(name).float()
        same_size = [each.float().cpu() for each in ours if each.shape == theirs.shape]
        if not any(torch.allclose(each, theirs, rtol=_ROUNDED, atol=_ROUNDED) for each in same_size):
            return (
                f"the weight files hold other rotary frequencies ({name}) than {CONFIG} gives, and those of "
                f"{CONFIG} were used, as transformers does",
            )
    return ()


def read_weights(checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """Read a checkpoint's safetensors into memory; return None if that is not possible.

    Meant to run in a thread, so it touches no model. A damaged file is left for `load` to report.
    """
    if checkpoint.folder is None or checkpoint.weights_format != "safetensors":
        return None
    weights: dict[str, Tensor] = {}
    try:
        for name in checkpoint.weight_files:
            # The loader only maps the file; the copy reads it from the disk.
            part = safetensors.torch.load_file(Path(checkpoint.folder) / name)
            weights.update({key: tensor.clone() for key, tensor in part.items()})
    except (OSError, safetensors.SafetensorError):
        return None
    return weights


def mirrors(loaded: LoadedModel, weights: dict[str, Tensor]) -> bool:
    """Return whether these weights, copied tensor by tensor, give exactly the model loaded from them.

    This is true only if every parameter and buffer that the model saves is in the files, or tied to one
    that is, with equal values. A tensor that the loader renamed is recognised by its values, if exactly one
    tensor of the model has these values and no other source; `loaded.renamed` stores the names found.
    Merged or converted weights never mirror the model. Tensors that the model did not take, such as buffers
    of older versions, are ignored, as the loader ignores them.
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
    """Return whether the weights fit and replace every tensor of the model; tied names must agree."""
    given: dict[int, Tensor] = {}
    for name in weights.keys() & state.keys():
        if state[name].shape != weights[name].shape:
            return False
        twin = given.setdefault(state[name].data_ptr(), weights[name])
        if twin is not weights[name] and not torch.equal(twin, weights[name]):
            return False
    return all(tensor.data_ptr() in given for tensor in state.values())


def swap_weights(loaded: LoadedModel, weights: dict[str, Tensor]) -> bool:
    """Copy the next checkpoint's weights into the model; change nothing and return False if they do not fit.

    A tensor missing in the files would keep the previous checkpoint's values, so such weights do not fit.
    """
    state = loaded.model.state_dict()
    if not _as_judged(loaded, state, weights):
        return False
    given = _as_named(loaded, weights)
    fits = _fills(state, given)
    if fits:
        with torch.no_grad():
            for name in given.keys() & state.keys():
                state[name].copy_(given[name])
    return fits


def _as_judged(loaded: LoadedModel, state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Return whether the judgement of the files that the model was loaded from also holds for these weights.

    Tensors that the model does not take must be the same as before, and masks must still be masks; tensors
    that it takes must be plain numbers. Anything else is left to `load`, which judges it again.
    """
    left_out = {name for name in weights if loaded.renamed.get(name, name) not in state}
    judged = loaded.fit.left_out
    return (
        left_out == judged.keys()
        and all(_alike(judged[name], weights[name]) for name in left_out)
        and all(_masks(name, weights[name]) for name in loaded.fit.masks)
        and all(
            _plain(weights[name], state[loaded.renamed.get(name, name)]) for name in weights.keys() - left_out
        )
    )


def _plain(theirs: Tensor, ours: Tensor) -> bool:
    """Return whether a tensor is stored as plain floats, if the model's tensor has floats."""
    return not ours.is_floating_point() or stored_as(theirs).dtype in FLOATS


def _alike(judged: Stored, tensor: Tensor) -> bool:
    """Return whether two tensors differ only in values, or in how precisely the values are stored."""
    kind = stored_as(tensor)
    return judged.shape == kind.shape and (judged.dtype == kind.dtype or {judged.dtype, kind.dtype} <= FLOATS)


def _masks(name: str, tensor: Tensor) -> bool:
    def rows(numbers: Sequence[int]) -> Tensor:
        return tensor.reshape(-1, tensor.shape[-1])[list(numbers)] if tensor.ndim > 1 else tensor

    return is_mask(name, stored_as(tensor), rows)


def quiet_libraries() -> None:
    """Hide transformers' progress bars and advice; those of memprobe say what matters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
