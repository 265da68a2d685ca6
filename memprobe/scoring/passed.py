"""Which checkpoints passed the checks of conduct.py, kept in `~/.cache/memprobe/conduct.json`.

An entry stands for one checkpoint, read to one length on one kind of device by one version of every package
that computes. Models that run any code but that of torch and transformers are checked in every run.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from torch import nn

from memprobe.checkpoints.cache import read_cache, write_cache

if TYPE_CHECKING:
    from memprobe.scoring.load import LoadedModel

RULES: Final = 1
"""Raised with every change of what conduct.py checks, so that what passed before is checked again."""

_CACHE: Final = "conduct.json"
_MOST_ENTRIES: Final = 2000
# transformers computes with these where they are installed.
_PACKAGES: Final = (
    "kernels",
    "flash-attn",
    "mamba-ssm",
    "causal-conv1d",
    "flash-linear-attention",
    "torchao",
)
_KNOWN_CODE: Final = ("torch.", "transformers.")


@dataclass(frozen=True, slots=True)
class Passed:
    """How a model that passed is read.

    Attributes:
        fast: Whether body and head may be called apart.
        vocabulary: Width of its logits.
    """

    fast: bool
    vocabulary: int


def entry_of(loaded: "LoadedModel", longest_tokens: int, weights: str) -> str | None:
    """Return the name of a model's entry: SHA-256 over all that the outcome depends on.

    Args:
        loaded: The model.
        longest_tokens: Longest sequence that the checks read.
        weights: The digest of its weights; empty: unknown.

    Returns:
        The name; None where the weights are unknown, or code runs that the versions say nothing about.
    """
    model = loaded.model
    if not weights or not _is_known(model):
        return None
    settings = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    on = [
        *_kind(model),
        *(str(next(model.parameters()).dtype), str(getattr(model.config, "_attn_implementation", None))),
        *_device(loaded.device),
        *(torch.__version__, transformers.__version__, *map(_version, _PACKAGES)),
        *(RULES, longest_tokens, weights),
    ]
    return hashlib.sha256(json.dumps([repr(settings), on]).encode()).hexdigest()


def _is_known(model: nn.Module) -> bool:
    """Whether all that is computed is code of torch and transformers."""
    return not any("forward" in vars(module) for module in model.modules()) and all(
        str(name).startswith(_KNOWN_CODE)
        for kind in {type(module) for module in model.modules()}
        for name in (kind.__module__, kind.forward.__module__)
    )


def _kind(model: nn.Module) -> tuple[str, str, int, int]:
    """Return the class, and the size and time of its source, which a checkout of transformers may change."""
    kind = type(model)
    status = Path(str(sys.modules[kind.__module__].__file__)).stat()
    return kind.__module__, kind.__qualname__, status.st_size, status.st_mtime_ns


def _device(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        return "cuda", torch.cuda.get_device_name(device)
    # A home folder may serve machines of several kinds.
    return device.type, str(torch.backends.cpu.get_cpu_capability()), str(torch.get_num_threads())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def recall(entry: str | None) -> Passed | None:
    """Return what is kept under a name; None: nothing, or nothing that can be read."""
    found: Any = read_cache(_CACHE).get(entry) if entry else None
    match found:
        case [bool(fast), int(vocabulary)] if vocabulary > 0 and not isinstance(vocabulary, bool):
            return Passed(fast, vocabulary)
    return None


def remember(entry: str | None, passed: Passed) -> None:
    """Keep that a model passed; the oldest entries make room."""
    if entry:
        entries = {**read_cache(_CACHE), entry: [passed.fast, passed.vocabulary]}
        write_cache(_CACHE, dict(list(entries.items())[-_MOST_ENTRIES:]))
