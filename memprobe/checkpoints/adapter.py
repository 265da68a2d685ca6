"""LoRA adapters: check their settings and find the base model that they change, without loading it.

Settings: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from memprobe.checkpoints.client import UnreachableError
from memprobe.checkpoints.contents import ADAPTER, CONFIG, list_folder
from memprobe.checkpoints.hub import find_on_hub
from memprobe.checkpoints.identity import Candidate, Checkpoint, Options
from memprobe.checkpoints.local import checkpoint_in, named_path, no_tokenizer
from memprobe.checkpoints.lora import refusal
from memprobe.checkpoints.spec import HubSpec, is_hub_id, step_in_name
from memprobe.errors import (
    CheckpointError,
    MemprobeError,
    Problem,
    SafetyError,
    UnloadableError,
    install_command,
)

_INSTALL = f"{install_command('lora')}, or merge the adapter into its base (PEFT: merge_and_unload)"
_KEY = "base_model_name_or_path"
_MISSING_FIX = (
    f"put the base model there, or write its hub id or its folder (relative to the adapter's or to the "
    f"working directory) into {_KEY} of {ADAPTER}; with --offline, a hub id is found in the local cache alone"
)


def with_base(checkpoint: Checkpoint, options: Options) -> Checkpoint:
    """Return a LoRA adapter with the base model that it names; return other checkpoints unchanged.

    Parameters and dtype are those of the base, the size is the sum of both, and an adapter without a
    tokenizer gets the base's tokenizer.

    Whether the adapter can be measured is checked separately, by `refuse_adapter`.

    Raises:
        UnloadableError: The base is missing, is not a model, or is itself an adapter.
        CheckpointError: The hub does not answer, or there is no tokenizer.
        SafetyError: The base needs a permission that was not given.
    """
    if checkpoint.weights_format != "lora" or checkpoint.base is not None:
        return checkpoint
    if checkpoint.folder is None:
        raise ValueError(f"expected an adapter with a folder, got {checkpoint}")
    settings = list_folder(checkpoint.folder).json(ADAPTER)
    base = _base(settings, checkpoint.folder, options)
    if base.weights_format == "lora":
        what = f"the base model of the adapter, {base.label}, is itself an adapter"
        fix = "merge that one into its base first (PEFT: merge_and_unload, save_pretrained)"
        raise UnloadableError(what, where=str(checkpoint.folder), fix=fix)
    tokenizer_folder = checkpoint.tokenizer_folder or base.tokenizer_folder
    if tokenizer_folder is None and options.needs_tokenizer:
        raise no_tokenizer(str(checkpoint.folder))
    return replace(
        checkpoint,
        base=base,
        tokenizer_folder=tokenizer_folder,
        n_bytes=checkpoint.n_bytes + base.n_bytes,
        n_parameters=base.n_parameters,
        dtype=base.dtype,
    )


def refuse_adapter(checkpoint: Checkpoint) -> None:
    """Refuse an adapter that cannot be measured as trained; other checkpoints are accepted.

    Raises:
        CheckpointError: PEFT is not installed, the settings are not supported, or the base is quantised.
    """
    if checkpoint.base is None or checkpoint.folder is None:
        return
    where = str(checkpoint.folder)
    if importlib.util.find_spec("peft") is None:
        what = "this is a LoRA adapter, and peft, which merges it into its base model, is not installed"
        raise CheckpointError(what, where=where, fix=_INSTALL)
    if refused := refusal(list_folder(checkpoint.folder).json(ADAPTER)):
        what, fix = refused
        raise CheckpointError(what, where=where, fix=fix)
    _refuse_quantised(checkpoint.base, checkpoint.folder)


def _base(settings: dict[str, Any], folder: Path, options: Options) -> Checkpoint:
    """Find the base: a folder relative to the adapter or the working directory, else a model of the hub."""
    name = settings.get(_KEY)
    if not isinstance(name, str) or not name.strip():
        fix = f"write the folder or the hub id of the base model into {_KEY}"
        raise UnloadableError(f"{ADAPTER} names no base model", where=str(folder), fix=fix)
    options = replace(options, needs_tokenizer=False, tokenizer_folder=None)
    try:
        for place in _places(name, folder):
            if place.is_dir():
                return _in_folder(place, options)
        if not is_hub_id(name):
            raise CheckpointError("there is no such folder", fix=_MISSING_FIX)
        revision = str(settings.get("revision") or "main")
        source = find_on_hub(f"{name}@{revision}", HubSpec(name, (revision,)), offline=options.offline)
        return source.describe(source.candidates[0], options)
    except (CheckpointError, SafetyError) as error:
        raise _unusable(name, folder, error) from error


def _refuse_quantised(base: Checkpoint, folder: Path) -> None:
    """Refuse a base with quantised weights: added weights would be rounded away or misread."""
    settings = list_folder(base.small_files).json(CONFIG).get("quantization_config")
    if not settings:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    raise CheckpointError(
        f"the base model of the adapter, {base.label}, is quantised ({method or 'by an unknown method'}), "
        "and an adapter is merged into whole weights alone",
        where=str(folder),
        fix=f"write the model that it was quantised from into {_KEY} of {ADAPTER}; scores are then near "
        "those on the quantised base, and not equal",
    )


def _in_folder(folder: Path, options: Options) -> Checkpoint:
    """Describe the base in a folder; if the folder's name has a step, the model has its parent's name."""
    step = step_in_name(folder.name)
    base = checkpoint_in(Candidate(folder.name, step or 0, folder), folder, options, parent=folder.parent)
    return base if step is None else replace(base, model=folder.parent.name)


def _places(name: str, folder: Path) -> tuple[Path, ...]:
    """Return the paths that `name` may mean, first relative to the adapter; empty for an unknown `~user`."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        return ()
    return named_path(str(folder / path)), named_path(str(path))


def _unusable(name: str, folder: Path, error: CheckpointError | SafetyError) -> MemprobeError:
    """Return the error about a base, located at the adapter so that equal errors are merged."""
    front = f"the adapter's base model `{name}` cannot be used: "
    kind: type[MemprobeError] = UnloadableError
    if isinstance(error, SafetyError | UnreachableError):
        # A missing permission or network is not the adapter's fault.
        kind = type(error)
    return kind([Problem(front + each.what, str(folder), each.fix) for each in error.problems])
