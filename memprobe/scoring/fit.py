"""Check that the weights of a checkpoint match its configuration, before any weights are loaded.

The model is built without memory (on the meta device) and compared with the names, types and sizes in the
files, after the same renaming that transformers applies when it loads. `run`, `checkpoints ls`, `verify` and
`--dry-run` all use this check, so that none of them finds what another overlooks. Checkpoints with equal
configurations and equal names, types and sizes of tensors are judged once; values, where they matter, are
checked in each.
"""

import hashlib
import importlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from memprobe.checkpoints import Checkpoint, config_digest
from memprobe.checkpoints.adapter import refuse_adapter
from memprobe.checkpoints.contents import CONFIG, list_folder
from memprobe.checkpoints.header import Stored
from memprobe.checkpoints.native import has_native_class
from memprobe.errors import CheckpointError, Problem
from memprobe.scoring.extras import N_NAMED, REFUSED, Extras, Model, is_mask, named, sized, sort_out
from memprobe.scoring.files import WeightFiles, read_files
from memprobe.scoring.outside import outside, read_config, runs_code
from memprobe.wording import counted

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
_TOGETHER = "check that config.json and the weights belong together"
# Models may hold a tensor several times, or tensors that are not stored; no real model needs more than this.
_MODEL_SHARE = 4
_FREE_NUMBERS = 2**28
_FREE_PARAMETERS = 10_000
# Packages that require others are listed together with them.
_PACKAGES = {
    "gptq": "optimum gptqmodel",
    "awq": "gptqmodel accelerate",
    "bitsandbytes": "bitsandbytes accelerate",
    "bitsandbytes_4bit": "bitsandbytes accelerate",
    "bitsandbytes_8bit": "bitsandbytes accelerate",
    "hqq": "hqq",
    "compressed-tensors": "compressed-tensors",
    "torchao": "torchao",
    "fbgemm_fp8": "fbgemm-gpu accelerate, on a machine with a GPU",
    "aqlm": "aqlm accelerate",
    "quanto": "optimum-quanto",
    "auto-round": "auto-round",
    "sinq": "sinq",
}
# transformers asks for these packages only while it loads.
_UNASKED = ("sinq",)


@dataclass(frozen=True, slots=True)
class Fit:
    """Facts about weights that fit the model.

    Attributes:
        notes: What a reader of the results should know, one sentence each.
        tensors: Name to description of all tensors in the files.
        left_out: The tensors that the model does not take.
        masks: Names of those left out because their values are those of masks.
        rotary: Names of those left out as rotary buffers.
        quantised: Method by which the weights are quantised, or None. The tensors that a quantised model does
            not take are known only after loading.
    """

    notes: tuple[str, ...]
    tensors: Mapping[str, Stored]
    left_out: Mapping[str, Stored] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    rotary: tuple[str, ...] = ()
    quantised: str | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """Judgement by configuration, names, types and sizes; the same for all checkpoints that share them."""

    problems: tuple[Problem, ...] = ()
    extras: Extras = field(default_factory=Extras)
    tied: tuple[tuple[str, str], ...] = ()
    quantised: str | None = None


_judged: dict[str, _Judged] = {}


def check_fit(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Fit:
    """Check a checkpoint's weights against its configuration; for an adapter, check its base.

    Args:
        checkpoint: The checkpoint, with its weights on this machine.
        trust_remote_code: Whether code of the checkpoint may run if transformers does not have the model.

    Raises:
        CheckpointError: transformers cannot read the configuration, a package is missing, the weights do not
            fit the model, or the adapter cannot be measured on it. All problems of the weights are
            reported at once.
    """
    checkpoint.check_loadable()
    refuse_adapter(checkpoint)
    whole = checkpoint.whole
    files = read_files(whole)
    settings = list_folder(whole.small_files).json(CONFIG)
    code = runs_code(settings, trust=trust_remote_code)
    # A judgement that depends on the checkpoint's own code holds only for this folder.
    place = str(whole.folder) if code else ""
    key = _identity(config_digest(whole), files.tensors, place)
    if key not in _judged:
        _judged[key] = _judge(checkpoint, files, settings, trust_remote_code=trust_remote_code)
    judged = _judged[key]
    where = str(whole.folder)
    problems = [*(Problem(each.what, where, each.fix) for each in judged.problems)]
    problems += _values(files, judged, where)
    if problems:
        raise CheckpointError(problems)
    kinds = judged.extras.tensors
    return Fit(
        (*own_code(settings), *judged.extras.notes(), *_told_quantised(judged.quantised)),
        files.tensors,
        judged.extras.stored,
        kinds.get("mask", ()),
        kinds.get("rotary", ()),
        judged.quantised,
    )


def check_config(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> None:
    """Check the configuration of a checkpoint whose weights are not on this machine.

    Raises:
        CheckpointError: transformers cannot read the configuration, a package for the weights is missing, or
            the adapter cannot be measured.
    """
    refuse_adapter(checkpoint)
    config = read_config(checkpoint, trust_remote_code=trust_remote_code)
    _quantised(config, str(checkpoint.folder or checkpoint.label))


def problems_of(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> tuple[Problem, ...]:
    """Return the problems that would keep a checkpoint from loading, found without loading it."""
    check = check_config if checkpoint.whole.folder is None else check_fit
    try:
        check(checkpoint, trust_remote_code=trust_remote_code)
    except CheckpointError as error:
        return error.problems
    return ()


def tokenizer_problems(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> tuple[Problem, ...]:
    """Return the problems in reading the tokenizer of a checkpoint; empty if it has no tokenizer."""
    # At the top this import would be circular: tokenising needs the limits that `load` reads.
    from memprobe.scoring.tokenizer import load_tokenizer

    folder = checkpoint.tokenizer_folder
    if folder is None:
        return ()
    try:
        with outside("the tokenizer cannot be read", str(folder)):
            load_tokenizer(folder, trust_remote_code=trust_remote_code)
    except CheckpointError as error:
        return error.problems
    return ()


def own_code(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the note for a checkpoint whose own code is not run because transformers has the model."""
    if "auto_map" not in settings or not has_native_class(settings):
        return ()
    return (
        f"{CONFIG} names code of its own (auto_map), and transformers has the model type "
        f"{settings['model_type']} itself: its class was used, and none of that code was run",
    )


def _told_quantised(method: str | None) -> tuple[str, ...]:
    return (
        (f"the weights are quantised ({method}), and are scored as transformers unpacks them",)
        if method
        else ()
    )


def _identity(config: str, tensors: Mapping[str, Stored], place: str) -> str:
    rows = [[name, each.dtype, each.shape] for name, each in sorted(tensors.items())]
    return hashlib.sha256(json.dumps([config, place, rows]).encode()).hexdigest()


def _judge(
    checkpoint: Checkpoint, files: WeightFiles, settings: Mapping[str, Any], *, trust_remote_code: bool
) -> _Judged:
    where = str(checkpoint.folder)
    config = read_config(checkpoint, trust_remote_code=trust_remote_code)
    _refuse_no_language_model(config, settings, where)
    if method := _quantised(config, where):
        return _Judged(quantised=method)
    with outside("the model cannot be built", where, settings, fix=_TOGETHER):
        model = _empty(config, files, code=runs_code(settings, trust=trust_remote_code))
        judged = _compare(model, files.tensors, _place(model, files.tensors), settings)
    if not judged.problems:
        # If names or sizes differ too, those problems say more.
        refuse_oversized(model, files.n_numbers, where)
    return judged


def _refuse_no_language_model(config: Any, settings: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "auto_map" in settings:
        return
    what = f"transformers has no causal language model of type {settings.get('model_type')}"
    raise CheckpointError(what, where=where, fix="pass a causal language model")


# Quantised weights


def _quantised(config: Any, where: str) -> str | None:  # noqa: ANN401
    """Return the method by which the weights are quantised, or None if they are not.

    Raises:
        CheckpointError: The method is unknown, or a package that it needs is not installed.
    """
    given = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(), "quantization_config", None
    )
    if given is None:
        return None
    from transformers.quantizers import AutoHfQuantizer

    method = str(
        given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", given)
    )
    doing = f"the weights are quantised ({method})"
    packages = _PACKAGES.get(method)
    with outside(doing, where, {"quantization_config": given}):
        if not AutoHfQuantizer.supports_quant_method(given):
            what = f"{doing}: transformers knows no such quant_method (quantization_config of {CONFIG})"
            raise CheckpointError(what, where=where, fix="pass the weights before they were quantised")
        try:
            quantiser = AutoHfQuantizer.from_config(given, pre_quantized=True)
            quantiser.validate_environment(device_map=None, weights_only=True)
            if method in _UNASKED:
                importlib.import_module(method)
        except ImportError as error:
            if not packages:
                raise
            # The error itself may name only the first of several packages.
            raise CheckpointError(f"{doing}: {error}", where=where, fix=f"pip install {packages}") from error
    return method


# The model without memory


def _empty(config: Any, files: WeightFiles, *, code: bool) -> Any:  # noqa: ANN401
    """Build the model without memory for its parameters; stop if it gets far more tensors than the files."""
    most = _MODEL_SHARE * len(files.tensors) + _FREE_PARAMETERS
    with torch.device("meta"), _no_initialisation(), _at_most(most, len(files.tensors), str(files.folder)):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=code, dtype=torch.float32)


@contextmanager
def _no_initialisation() -> Iterator[None]:
    """Skip random initialisation, which is not needed here, if this version of transformers can."""
    try:
        from transformers.initialization import no_init_weights
    except ImportError:
        yield
    else:
        with no_init_weights():
            yield


@contextmanager
def _at_most(n_parameters: int, n_stored: int, where: str) -> Iterator[None]:
    """Stop building a model once it has more than `n_parameters` parameter tensors."""
    count = 0

    def hear(_module: nn.Module, _name: str, _parameter: object) -> None:
        nonlocal count
        count += 1
        if count > n_parameters:
            what = (
                f"the model of {CONFIG} has over {n_parameters:,} tensors, and the weights hold {n_stored:,}"
            )
            raise CheckpointError(what, where=where, fix=_TOGETHER)

    handle = register_module_parameter_registration_hook(hear)
    try:
        yield
    finally:
        handle.remove()


def refuse_oversized(model: nn.Module, n_stored: int, where: str) -> None:
    """Refuse a model that would hold far more numbers than its weight files; tied parameters count once.

    Args:
        model: The model, built without memory.
        n_stored: Number of values in the weight files.
        where: Location of the checkpoint, for the error.

    Raises:
        CheckpointError: The model would hold too many numbers.
    """
    n_numbers = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
    if n_numbers > _MODEL_SHARE * n_stored + _FREE_NUMBERS:
        what = f"the model of {CONFIG} takes {n_numbers:,} numbers, and the weights hold {n_stored:,}"
        raise CheckpointError(what, where=where, fix=_TOGETHER)


# Names and sizes


@dataclass(frozen=True, slots=True)
class _Placed:
    """The places of the files' tensors in the model.

    Attributes:
        names: Name in the files to name in the model, for tensors that have a place in it.
        missing: Names in the model to which no tensor of the files goes.
        mismatched: Name in the model to its sizes in the files and in the model, where these differ.
        unconverted: Name in the model to the reason why it cannot be made from the files.
        twice: Names in the model to which several tensors go.
    """

    names: Mapping[str, str]
    missing: frozenset[str]
    mismatched: Mapping[str, tuple[Sequence[int], Sequence[int]]]
    unconverted: Mapping[str, str] = field(default_factory=dict)
    twice: tuple[str, ...] = ()


def _place(model: Any, tensors: Mapping[str, Stored]) -> _Placed:  # noqa: ANN401
    """Return the place of every tensor in the model, as transformers would choose it."""
    # These take two seconds to import, and a run that has nothing left to score does not need them.
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    rules = get_model_conversion_mapping(model)
    renamings = [each for each in rules if isinstance(each, WeightRenaming)]
    converters = [each for each in rules if isinstance(each, WeightConverter)]
    state = model.state_dict()
    names: dict[str, str] = {}
    converted = False
    for name in tensors:
        renamed, source = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        if renamed not in state and name in state:
            renamed, source = rename_source_key(name, [], [], model.base_model_prefix, state)
        if renamed in state:
            names[name] = renamed
            converted |= source is not None
    if converted:
        return _converted(model, tensors, names, rules)
    found = [(renamed, tensors[name].shape, tuple(state[renamed].shape)) for name, renamed in names.items()]
    return _Placed(
        names,
        frozenset(state.keys() - set(names.values())),
        {renamed: (held, expected) for renamed, held, expected in found if held != expected},
        twice=tuple(renamed for renamed, n in Counter(names.values()).items() if n > 1),
    )


def _converted(
    model: Any,  # noqa: ANN401
    tensors: Mapping[str, Stored],
    names: Mapping[str, str],
    rules: Sequence[object],
) -> _Placed:
    """Place tensors, some of which are split or combined, by loading them without values."""
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    empty = {name: torch.empty(each.shape, device="meta") for name, each in tensors.items()}
    config = LoadStateDictConfig(device_map={"": "meta"}, dtype=torch.float32, weight_mapping=rules)
    known = inspect.signature(convert_and_load_state_dict_in_model).parameters
    # Up to about transformers 5.2, this argument has no default.
    more = {"tp_plan": None} if "tp_plan" in known else {}
    info = convert_and_load_state_dict_in_model(model, empty, config, **more)[0]
    mismatched = {name: (tuple(ours), tuple(theirs)) for name, ours, theirs in info.mismatched_keys}
    failed = {
        name: text.strip().splitlines()[-2 if "\nError" in text else -1]
        for name, text in dict(info.conversion_errors).items()
        # An error that comes from loading without values says nothing about the weights.
        if "meta" not in text.rsplit("\n", 4)[-1].lower()
    }
    return _Placed(names, frozenset(info.missing_keys), mismatched, failed)


def _compare(
    model: Any,  # noqa: ANN401
    tensors: Mapping[str, Stored],
    placed: _Placed,
    settings: Mapping[str, Any],
) -> _Judged:
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    missing = _missing(model, placed, tied)
    n_layers = getattr(model.config, "num_hidden_layers", None)
    ignored = tuple(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    about = Model(n_layers, isinstance(settings.get("text_config"), dict), ignored)
    extras = sort_out({name: each for name, each in tensors.items() if name not in placed.names}, about)
    problems = [
        *lacking(missing),
        *of_other_size(placed.mismatched),
        *_unmade(placed.unconverted),
        *_odd_types(model, tensors, placed.names),
        *_twice(placed),
        *extras.problems(""),
    ]
    given = {renamed: name for name, renamed in placed.names.items()}
    pairs = tuple((given[one], given[two]) for one, two in tied.items() if one in given and two in given)
    return _Judged(tuple(problems), extras, pairs)


def _missing(model: Any, placed: _Placed, tied: Mapping[str, str]) -> list[str]:  # noqa: ANN401
    """Return the model's names that the files lack, except those tied to a given one or not needed."""
    groups: dict[str, set[str]] = {}
    for one, two in tied.items():
        groups.setdefault(two, {two}).add(one)
    given = {name for group in groups.values() if not group <= placed.missing for name in group}
    unneeded = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
    return sorted(
        name for name in placed.missing - given if not any(re.search(pattern, name) for pattern in unneeded)
    )


def lacking(missing: Sequence[str]) -> list[Problem]:
    """Return a problem if there are names in the model to which no tensor of the files goes."""
    if not missing:
        return []
    what = f"the weights lack {counted(len(missing), 'parameter')} of the architecture: {named(missing, {})}"
    return [Problem(what, fix=_TOGETHER)]


def of_other_size(mismatched: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> list[Problem]:
    """Return a problem if there are tensors with another size in the files than in the model."""
    if not mismatched:
        return []
    shown = [
        f"{name} is {sized(held)} in the files and {sized(expected)} in the model"
        for name, (held, expected) in sorted(mismatched.items())[:N_NAMED]
    ]
    more = len(mismatched) - len(shown)
    what = f"{counted(len(mismatched), 'tensor')} of another size than the model's: {'; '.join(shown)}"
    return [Problem(what + (f"; and {more:,} more" if more else ""), fix=_TOGETHER)]


def _unmade(unconverted: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(f"{name} of the model cannot be made from the files: {why}", fix=_TOGETHER)
        for name, why in sorted(unconverted.items())[:N_NAMED]
    ]


def _odd_types(model: Any, tensors: Mapping[str, Stored], names: Mapping[str, str]) -> list[Problem]:  # noqa: ANN401
    """Return a problem if numbers are packed or scaled but config.json does not mention quantisation."""
    state = model.state_dict()
    odd = [
        name
        for name, renamed in names.items()
        if tensors[name].dtype not in FLOATS and state[renamed].is_floating_point()
    ]
    if not odd:
        return []
    kinds = " and ".join(sorted({tensors[name].dtype for name in odd}))
    verb = "is" if len(odd) == 1 else "are"
    what = (
        f"{counted(len(odd), 'tensor')} of the model {verb} stored as {kinds}, and {CONFIG} has no "
        f"quantization_config that says what the numbers stand for: {named(sorted(odd), {})}"
    )
    return [Problem(what, fix="use the config.json that the weights were quantised with")]


def _twice(placed: _Placed) -> list[Problem]:
    if not placed.twice:
        return []
    what = f"several tensors of the files are one tensor of the model: {named(sorted(placed.twice), {})}"
    return [Problem(what, fix="leave one of them in the files")]


# Values


def _values(files: WeightFiles, judged: _Judged, where: str) -> list[Problem]:
    """Return the problems with the values of tensors that are left out or tied."""
    stored = files.tensors
    no_masks = [
        name
        for name in judged.extras.tensors.get("mask", ())
        if not is_mask(name, stored[name], lambda rows, name=name: files.rows(name, rows))  # type: ignore[misc]
    ]
    problems = []
    if no_masks:
        what, fix = REFUSED["bias"]
        text = f"the weights hold {counted(len(no_masks), 'tensor')} {what} that the model has no place for"
        problems.append(Problem(f"{text}: {named(no_masks, stored)}", where, fix))
    for one, two in judged.tied:
        if not files.equal(one, two):
            what = f"{one} and {two} differ in the files, and {CONFIG} ties them (tie_word_embeddings)"
            fix = f"write tie_word_embeddings: false into {CONFIG}, or leave out the one that was not trained"
            problems.append(Problem(what, where, fix))
    return problems
