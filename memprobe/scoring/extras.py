"""Tensors of the weight files that the model did not take: which can be left out, and which are refused.

A loader drops such tensors silently, but some of them change every score: biases that the configuration does
not have, factors of an adapter, scales of quantised weights, layers beyond the configured number. These are
refused. Buffers that old versions stored and new ones recompute, heads that do not predict the next token,
and parts of a multimodal model that do not read text are left out with a note.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from memprobe.checkpoints.header import Stored
from memprobe.errors import Problem
from memprobe.wording import counted

Kind = Literal[
    "adapter",
    "layer",
    "bias",
    "scale",
    "unknown",
    "mtp",
    "rotary",
    "mask",
    "counter",
    "head",
    "other",
    "ignored",
]
REFUSED: Mapping[str, tuple[str, str]] = {
    "adapter": (
        "of an adapter",
        "merge the adapter into its base (PEFT: merge_and_unload, save_pretrained)",
    ),
    "layer": (
        "of whole layers beyond those of config.json",
        "write the number of layers that was trained into num_hidden_layers of config.json",
    ),
    "bias": (
        "with biases",
        "use the config.json that the weights were trained with (attention_bias, mlp_bias, model_type)",
    ),
    "scale": (
        "with scales of quantised weights",
        "use the config.json with the quantization_config that the weights were written with",
    ),
    "unknown": ("of no known use", "check that config.json and the weights belong together"),
}
_NOTED: Mapping[str, str] = {
    "mtp": "layers that predict several tokens at once",
    "rotary": "rotary position buffers of an older version, which are computed again",
    "mask": "causal mask buffers of an older version, which are computed again",
    "counter": "counters and position indices",
    "head": "heads that predict no next token",
    "other": "parts that read no text",
    "ignored": "tensors that transformers leaves out for this architecture",
}
_ADAPTER = re.compile(
    r"(^|[._])lora_|\.base_layer\.|modules_to_save|original_module\.|(^|[._])(ia3_l|vera_lambda|hada_w|lokr_w|oft_r|prompt_encoder)"
)
_MTP = re.compile(r"(^|\.)(mtp|mtp_layers?|mtp_block|nextn)(\.|_)")
_MTP_PARTS = re.compile(r"\.(eh_proj|enorm|hnorm|shared_head)\.")
_LAYER = re.compile(r"(^|\.)(layers|layer|h|blocks|block)\.(?P<index>\d+)\.")
_ROTARY = re.compile(r"(^|\.)((original_)?inv_freq|(rotary|rope)\w*\.(cos|sin)_cached)$")
_MASK = re.compile(r"(attn|attention|self_attention)\.(bias|masked_bias|mask|causal_mask)$")
_COUNTER = re.compile(r"(^|\.)(num_batches_tracked|position_ids)$")
_HEAD = re.compile(r"(^|\.)(pooler|seq_relationship)\.")
_OTHER = re.compile(
    r"(^|[._])(vision|visual|image|video|audio|speech|vit|vqmodel|multi_?modal|mm|projector|connector|aligner"
    r"|resampler|talker|token2wav|code2wav)\w*\."
)
_BIAS = re.compile(r"(^|[._])bias(es)?$")
_SCALE = re.compile(
    r"(_scale|scale_inv|scale_2|scales|zeros|zero_point|zero_points|qweight|g_idx|SCB|absmax|quant_map"
    r"|quant_state\.\w+|weight_packed|weight_shape|weight_format|_blocks|weight\.meta|\.qdata)$"
)
_WHOLE = frozenset({"int64", "int32", "int16", "int8", "uint8"})
_BOOLEANS = frozenset({"bool", "uint8"})
# Old masks write minus infinity as -1e4 in half precision and as -1e9 otherwise.
_MASKED = -1e3
N_NAMED = 3


@dataclass(frozen=True, slots=True)
class Model:
    """The facts about a model that decide whether unused tensors may be left out.

    Attributes:
        n_layers: Number of layers in its configuration; None if not given there.
        is_composite: Whether it is the text part of a model of several parts.
        ignored: Patterns of names that transformers leaves out for this architecture.
    """

    n_layers: int | None
    is_composite: bool = False
    ignored: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Extras:
    """The tensors that a model did not take, by kind.

    Attributes:
        tensors: Kind to names of tensors.
        stored: Name to description in the files, for all these tensors.
    """

    tensors: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)

    def problems(self, where: str) -> list[Problem]:
        """Return the problems of tensors that must not be left out, one for each kind."""
        return [
            Problem(
                f"the weights hold {counted(len(names), 'tensor')} {REFUSED[kind][0]} that the model has no "
                f"place for: {named(names, self.stored)}",
                where,
                REFUSED[kind][1],
            )
            for kind, names in self.tensors.items()
            if kind in REFUSED
        ]

    def notes(self) -> tuple[str, ...]:
        """Return notes on the tensors that can be left out, one sentence for each kind."""
        return tuple(
            f"left out of the weight files, as {_NOTED[kind]}: {named(names, {})}"
            for kind, names in self.tensors.items()
            if kind in _NOTED
        )


def named(names: Sequence[str], stored: Mapping[str, Stored]) -> str:
    """Return the first names, with their sizes if known, and how many more there are."""
    shown = [f"{name} ({sized(stored[name].shape)})" if name in stored else name for name in names[:N_NAMED]]
    more = len(names) - N_NAMED
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def sized(shape: Sequence[int]) -> str:
    """Return a shape as `32 x 64`, or as `one number` if it has no dimensions."""
    return " x ".join(f"{each:,}" for each in shape) or "one number"


def sort_out(extra: Mapping[str, Stored], model: Model) -> Extras:
    """Sort the tensors that a model did not take by kind, from their names, types and sizes alone."""
    predicting = {_place(name) for name in extra if _MTP_PARTS.search(name)} - {None}
    found: dict[Kind, list[str]] = {}
    for name in sorted(extra):
        found.setdefault(_kind(name, extra[name], model, predicting), []).append(name)
    return Extras({kind: tuple(names) for kind, names in found.items()}, extra)


def _kind(name: str, stored: Stored, model: Model, predicting: set[str | None]) -> Kind:
    if _ADAPTER.search(name):
        return "adapter"
    if model.is_composite and _OTHER.search(name):
        return "other"
    if _MTP.search(name):
        return "mtp"
    if (
        (found := _LAYER.search(name))
        and model.n_layers is not None
        and int(found["index"]) >= model.n_layers
    ):
        return "mtp" if _place(name) in predicting else "layer"
    if _ROTARY.search(name):
        return "rotary"
    if _COUNTER.search(name) and stored.dtype in _WHOLE:
        return "counter"
    if _MASK.search(name) and _has_mask_shape(name, stored):
        return "mask"
    if _HEAD.search(name):
        return "head"
    if _BIAS.search(name):
        return "bias"
    if _SCALE.search(name):
        return "scale"
    return "ignored" if any(re.search(each, name) for each in model.ignored) else "unknown"


def _place(name: str) -> str | None:
    """Return the part of a name up to and including its layer number; None if it has no layer number."""
    found = _LAYER.search(name)
    return name[: found.end()] if found else None


def _has_mask_shape(name: str, stored: Stored) -> bool:
    """Return whether a tensor could be a mask: a single fill value, or a square over positions."""
    if name.endswith("masked_bias") or len(stored.shape) < 2:
        return name.endswith("masked_bias") and stored.n_numbers == 1
    *outer, n_rows, n_columns = stored.shape
    return n_rows == n_columns > 0 and set(outer) <= {1}


def is_mask(name: str, stored: Stored, rows: Callable[[Sequence[int]], Tensor]) -> bool:
    """Return whether a tensor's values are those of a causal mask, not parameters.

    Args:
        name: Name of the tensor.
        stored: Description of the tensor, which `sort_out` takes for a mask.
        rows: Reads rows of the last two dimensions, by number; a tensor of one number is read whole.
    """
    if name.endswith("masked_bias"):
        return float(rows([0]).reshape(-1)[0]) <= _MASKED
    if stored.dtype in _BOOLEANS:
        return True
    n = stored.shape[-1]
    wanted = sorted({0, n // 2, n - 1})
    expected = torch.zeros(len(wanted), n)
    for place, row in enumerate(wanted):
        expected[place, : row + 1] = 1
    return torch.equal(rows(wanted).float().reshape(len(wanted), n), expected)
