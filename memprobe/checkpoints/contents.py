"""Find a checkpoint's weights, config and tokenizer, or the reason why it cannot be used.

A `Listing` is either a folder on disk or a tree on the hub.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memprobe.checkpoints.identity import Options, WeightsFormat
from memprobe.checkpoints.lfs import is_pointer, refuse_pointer
from memprobe.checkpoints.native import has_native_class
from memprobe.errors import CheckpointError, Problem, SafetyError, UnloadableError
from memprobe.wording import listed

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZER_CONFIG = "tokenizer_config.json"
SINGLE: tuple[tuple[WeightsFormat, str], ...] = (
    ("safetensors", "model.safetensors"),
    ("pickle", "pytorch_model.bin"),
)
# Any of these files is a tokenizer; tokenizer_config.json alone has no vocabulary.
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
_ENCODER_DECODERS = ("t5", "mt5", "umt5", "longt5", "bart", "mbart", "pegasus", "marian", "whisper")
_OTHER_HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
GGUF_FIX = "pass the folder of the checkpoint that it was converted from, with safetensors weights"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one checkpoint.

    Attributes:
        where: The folder, or `org/name@revision`.
        sizes_bytes: Sizes by file name, only of files at the top level.
        read: Function that reads one small file; may raise OSError.
    """

    where: str
    sizes_bytes: Mapping[str, int]
    read: Callable[[str], bytes]

    def has(self, name: str) -> bool:
        """Return whether the file exists."""
        return name in self.sizes_bytes

    def ending(self, suffix: str) -> list[str]:
        """Return the names that end in `suffix`, sorted."""
        return sorted(name for name in self.sizes_bytes if name.endswith(suffix))

    def json(self, name: str) -> dict[str, Any]:
        """Read a file with one JSON object.

        Raises:
            UnloadableError: The file cannot be read, or is not a JSON object.
        """
        try:
            content = self.read(name)
            if is_pointer(content):
                raise refuse_pointer(name, self.where)
            value = json.loads(content)
        except OSError as error:
            raise UnloadableError(f"{name} cannot be read: {error}", where=self.where) from error
        except (ValueError, RecursionError) as error:
            raise UnloadableError(f"{name} is not valid JSON", where=self.where) from error
        if not isinstance(value, dict):
            raise UnloadableError(f"{name} is not a JSON object", where=self.where)
        return value


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight files of a checkpoint: sorted `files`, and `n_bytes`, their total size."""

    format: WeightsFormat
    files: tuple[str, ...]
    n_bytes: int


def list_folder(folder: Path) -> Listing:
    """List a folder on disk; broken links are left out.

    Raises:
        CheckpointError: The folder cannot be read.
    """
    try:
        sizes_bytes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise CheckpointError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from error
    return Listing(str(folder), sizes_bytes, lambda name: (folder / name).read_bytes())


def has_weights(listing: Listing) -> bool:
    """Return whether there are loadable weights, or an index of them."""
    names = [name for _, name in SINGLE]
    return any(listing.has(name) or listing.has(f"{name}.index.json") for name in names)


def has_tokenizer(listing: Listing) -> bool:
    """Return whether the files include a tokenizer with its vocabulary."""
    return any(map(listing.has, VOCABULARIES)) or bool(listing.ending(".tiktoken"))


def inspect(listing: Listing, options: Options) -> Weights:
    """Find the weights and check that they are those of a causal language model that may be loaded.

    Raises:
        UnloadableError: config.json is missing, or an index of shards cannot be read.
        CheckpointError: There are no weights, a shard is missing, or this kind of model is not measured.
        SafetyError: Loading needs pickle or remote code, which was not allowed.
    """
    weights = find_weights(listing)
    if weights.format == "lora":
        if problems := _pickle(weights, listing.where, options):
            raise SafetyError(problems)
        return weights
    if not listing.has(CONFIG):
        raise UnloadableError(
            "there are weights and no config.json, so the architecture is unknown",
            where=listing.where,
            fix="copy config.json from the model that was trained to this folder",
        )
    try:
        config = listing.json(CONFIG)
    except CheckpointError:
        # Loading reports the fault; the other checkpoints of its sequence are still measured.
        config = {}
    _check_architecture(config, listing.where)
    problems = [*_remote_code(config, listing, options), *_pickle(weights, listing.where, options)]
    if problems:
        raise SafetyError(problems)
    return weights


def find_weights(listing: Listing) -> Weights:
    """Return the weight files: safetensors before pickle, one file before shards, an adapter last.

    A merged model that still has its adapter's files counts as the merged model.

    Raises:
        CheckpointError: There are no weights, or a shard is missing.
    """
    for weights_format, name in SINGLE:
        if listing.has(name):
            return Weights(weights_format, (name,), listing.sizes_bytes[name])
        if listing.has(f"{name}.index.json"):
            files = _shards(listing, f"{name}.index.json")
            return Weights(weights_format, files, sum(listing.sizes_bytes[file] for file in files))
    for name in ADAPTER_WEIGHTS:
        if listing.has(ADAPTER) and listing.has(name):
            return Weights("lora", (name,), listing.sizes_bytes[name])
    raise _no_weights(listing)


def _shards(listing: Listing, index: str) -> tuple[str, ...]:
    weight_map = listing.json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and weight_map else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        what = f"{index} has no `weight_map` from tensors to files of this folder"
        raise UnloadableError(what, where=listing.where, fix="copy or download the checkpoint again")
    missing = sorted(name for name in names if not listing.has(name))
    if missing:
        what = f"{len(missing)} of {len(names)} weight shards missing: {listed(missing)}"
        raise CheckpointError(what, where=listing.where, fix="copy or download the missing files")
    return tuple(sorted(names))


def _no_weights(listing: Listing) -> CheckpointError:
    if listing.has(ADAPTER):
        what = f"there is an {ADAPTER} and no {ADAPTER_WEIGHTS[0]}, so the adapter has no weights"
        return CheckpointError(what, where=listing.where, fix="copy or download the missing file")
    if listing.ending(".gguf"):
        return CheckpointError("GGUF weights are not supported", where=listing.where, fix=GGUF_FIX)
    others = [*listing.ending(".safetensors"), *listing.ending(".bin"), *listing.ending(".pt")]
    what = f"there are no weights beside {CONFIG}" if listing.has(CONFIG) else "there is no checkpoint"
    if others:
        what += f"; {listed(others)} cannot be used without an index file"
    fix = "a checkpoint has model.safetensors, or model.safetensors.index.json and its shards"
    return CheckpointError(what, where=listing.where, fix=fix)


def _check_architecture(config: dict[str, Any], where: str) -> None:
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    named = names[0] if names else str(config.get("model_type", "unknown"))
    # Multimodal decoders (with a text_config) also end in ForConditionalGeneration, but are causal.
    conditional = any(name.endswith("ForConditionalGeneration") for name in names)
    by_name = conditional or config.get("model_type") in _ENCODER_DECODERS
    # An explicit False is respected: BartForCausalLM is only the decoder.
    if config.get("is_encoder_decoder", by_name and "text_config" not in config):
        what = f"{named} is an encoder-decoder, and only decoder-only language models are measured"
        raise CheckpointError(what, where=where, fix="pass a causal language model")
    if names and all(name.endswith(_OTHER_HEADS) for name in names):
        what = f"{named} predicts no next token, and only causal language models can be measured"
        raise CheckpointError(what, where=where, fix="pass a causal language model")


def _remote_code(config: dict[str, Any], listing: Listing, options: Options) -> list[Problem]:
    # If transformers has a class for the model, the checkpoint's own code is not run.
    if options.trust_remote_code or "auto_map" not in config or has_native_class(config):
        return []
    return [
        Problem(
            "the checkpoint brings its own code (auto_map in config.json), which loading would run",
            listing.where,
            "read that code, and pass --trust-remote-code if you trust it",
        )
    ]


def _pickle(weights: Weights, where: str, options: Options) -> list[Problem]:
    if options.allow_pickle or all(name.endswith(".safetensors") for name in weights.files):
        return []
    return [
        Problem(
            f"the weights are a pickle file ({listed(list(weights.files))}), which can run code when loaded",
            where,
            "convert them to safetensors, or pass --allow-pickle if you trust their origin",
        )
    ]
