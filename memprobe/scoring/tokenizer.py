"""A tokenizer as its own files have it.

A tokenizer class of transformers may build its own pipeline and leave out the normalizer, pre-tokenizer or
decoder that tokenizer.json holds; which class is taken depends on the model's configuration too. The file is
what the model was trained with, so the file is followed, and it is said.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memprobe.checkpoints.tokenizer_files import (
    TOKENIZER_JSON,
    bare_model,
    is_sentencepiece,
    of_tokenizers,
    parse_part,
    read_object,
    tokenizer_problems,
)
from memprobe.errors import CheckpointError, SafetyError
from memprobe.scoring.bare_model import adds_prefix, disagreements, follow, refuse_disagreement

_OTHER = "name another tokenizer with --tokenizer"
# Spaces in front, doubled and at the end, a line end, digits, punctuation, accents composed and decomposed,
# capitals, another script.
_PROBES = (
    *("a", " a", "  a  b ", "a\nb\n\n c", "\tx", "In 1984, 12.50 (x-ray)!", "don't I'll"),
    *("caf\u00e9 cafe\u0301", "ÀÉ ﬁ ½", "漢字 かな", "नमस्ते", "a_b/c@d"),
)
_MODEL_FIELDS = (
    *("byte_fallback", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"),
    *("fuse_unk", "unk_token", "unk_id"),
)


def load_tokenizer(
    folder: Path,
    *,
    trust_remote_code: bool = False,
    note: Callable[[str], None] = lambda _: None,
    texts: Sequence[str] = (),
) -> Any:  # noqa: ANN401
    """Load a tokenizer from its folder; where there is a tokenizer.json, its pipeline is used.

    Args:
        folder: The folder.
        trust_remote_code: A tokenizer that has no tokenizer.json may run its own code.
        note: Receives what the user should know about it.
        texts: Those of the items, on which a converted SentencePiece model is compared with its original.

    Raises:
        CheckpointError: It cannot be read, or its files contradict each other.
        SafetyError: It would run its own code.
    """
    if problems := tokenizer_problems(folder):
        raise CheckpointError(
            [replace(each, what=f"the tokenizer cannot be loaded: {each.what}") for each in problems]
        )
    config = read_object(folder / "tokenizer_config.json")
    if not (folder / TOKENIZER_JSON).is_file():
        tokenizer = _without_pipeline(folder, config, trust_remote_code)
        path = bare_model(folder)
        has_original = path is not None and is_sentencepiece(path) and not _own_code(config)
        return _as_original(tokenizer, path, config, texts, note) if path and has_original else tokenizer
    held = read_object(folder / TOKENIZER_JSON)
    tokenizer = _by_class(folder, config, held, note)
    _without_dropout(tokenizer, note)
    _say_new_tokens(tokenizer, held, note)
    return tokenizer


def _without_pipeline(folder: Path, config: Mapping[str, Any], trust_remote_code: bool) -> Any:  # noqa: ANN401
    """Load a tokenizer that has no tokenizer.json."""
    if _own_code(config) and not trust_remote_code:
        raise SafetyError(
            "the tokenizer brings its own code (auto_map in tokenizer_config.json) and no tokenizer.json",
            where=str(folder),
            fix=f"read that code, and pass --trust-remote-code if you trust it, or {_OTHER}",
        )
    return _loaded(AutoTokenizer, folder, trust_remote_code=trust_remote_code)


def _as_original(
    tokenizer: Any,  # noqa: ANN401
    path: Path,
    config: Mapping[str, Any],
    texts: Sequence[str],
    note: Callable[[str], None],
) -> Any:  # noqa: ANN401
    """Return a converted SentencePiece model that encodes as the original does, and say what was changed."""
    if not disagreements(tokenizer, path, (*_PROBES, *texts)):
        return tokenizer
    name = type(tokenizer).__name__
    of_config, of_file = config.get("add_prefix_space"), adds_prefix(path)
    if of_config is not None and of_config != of_file:
        raise _contradiction("add_prefix_space", of_config, of_file, name, path)
    tokens = {key: each for key, each in tokenizer.special_tokens_map.items() if isinstance(each, str)}
    known = {key: each for key, each in tokens.items() if key not in config}
    plain = _loaded(PreTrainedTokenizerFast, path.parent, tokens=known)
    follow(plain, path)
    plain.backend_tokenizer.post_processor = tokenizer.backend_tokenizer.post_processor
    refuse_disagreement(plain, path, (*_PROBES, *texts), len(texts))
    note(
        f"transformers' {name} gives the same text other ids than the SentencePiece model {path.name}, which "
        f"was followed: a space is {'put' if of_file else 'not put'} in front of a text"
    )
    return plain


def _own_code(config: Mapping[str, Any]) -> bool:
    found = config.get("auto_map") or ()
    return bool(found) and (isinstance(found, list) or "AutoTokenizer" in found)


def _by_class(
    folder: Path, config: Mapping[str, Any], held: Mapping[str, Any], note: Callable[[str], None]
) -> Any:  # noqa: ANN401
    """Load what has a tokenizer.json by the class that transformers takes, or, if it differs, without one."""
    if _own_code(config):
        note("the tokenizer's own code (auto_map) was not run: tokenizer.json holds all that is needed")
        return _plain(folder, held, {})
    try:
        tokenizer = _loaded(AutoTokenizer, folder)
    except CheckpointError as error:
        plain = _plain(folder, held, {})
        note(f"tokenizer.json was read without its class: {error.problems[0].what}")
        return plain
    name = type(tokenizer).__name__
    differing = replaced(tokenizer, held)
    _say_pattern(tokenizer, note)
    if not differing or (differing == ("pre-tokenizer",) and config.get("fix_mistral_regex")):
        return tokenizer
    _refuse_contradiction(config, held, name, folder)
    plain = _plain(folder, held, _named_by_class(tokenizer, config, held))
    is_seen = any(_ids(tokenizer, text) != _ids(plain, text) for text in _PROBES)
    note(
        f"transformers' {name} replaces the {' and '.join(differing)} of tokenizer.json, which was followed: "
        f"{'the same text has other ids under the class' if is_seen else 'a probe text has the same ids'}"
    )
    return plain


def _ids(tokenizer: Any, text: str) -> list[int] | None:  # noqa: ANN401
    """Return the ids of a text; None where the tokenizer has none for it."""
    try:
        return of_tokenizers(lambda: list(tokenizer(text)["input_ids"]))
    except ValueError:
        return None


def _loaded(
    kind: Any,  # noqa: ANN401
    folder: Path,
    *,
    trust_remote_code: bool = False,
    tokens: Mapping[str, str] | None = None,
) -> Any:  # noqa: ANN401
    """Load a tokenizer by a class of transformers.

    Raises:
        CheckpointError: The class cannot read it, for whatever reason.
    """
    try:
        return kind.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code, **(tokens or {})
        )
    # Files that do not fit a class show as any exception of it, and tokenizers raises bare ones.
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        kinds = (OSError, ValueError, ImportError)
        what = lines[0] if type(error) is Exception or isinstance(error, kinds) else repr(error)
        raise CheckpointError(
            f"the tokenizer cannot be loaded: {what}", where=str(folder), fix=_OTHER
        ) from error


def _plain(folder: Path, held: Mapping[str, Any], tokens: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Load the pipeline of tokenizer.json as it is.

    Raises:
        CheckpointError: It cannot be loaded, or transformers changes it nevertheless.
    """
    tokenizer = _loaded(PreTrainedTokenizerFast, folder, tokens=tokens)
    if differing := replaced(tokenizer, held):
        raise CheckpointError(
            f"transformers replaces the {' and '.join(differing)} of tokenizer.json, so that a text would "
            "get other ids than in training",
            where=str(folder / TOKENIZER_JSON),
            fix=f"give the items as input_ids, or {_OTHER}",
        )
    return tokenizer


def _named_by_class(tokenizer: Any, config: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, str]:  # noqa: ANN401
    """Return the special tokens that the class alone names and that tokenizer.json holds."""
    known = _vocabulary(held) | {each["content"]: each["id"] for each in held.get("added_tokens") or ()}
    named = tokenizer.special_tokens_map
    return {
        key: str(token)
        for key, token in named.items()
        if key.endswith("_token") and key not in config and isinstance(token, str) and token in known
    }


def replaced(tokenizer: Any, held: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ANN401
    """Return the names of the parts of tokenizer.json that a loaded tokenizer does not have.

    Parts that differ in what changes no id (how offsets are trimmed) are equal.

    Args:
        tokenizer: A transformers tokenizer.
        held: The contents of its tokenizer.json.
    """
    if not bool(getattr(tokenizer, "is_fast", False)):
        return ("whole pipeline",)
    core = tokenizer.backend_tokenizer
    found = [
        name.replace("_", "-")
        for name in ("normalizer", "pre_tokenizer", "decoder")
        if _form(getattr(core, name)) != _form(getattr(parse_part(name, held.get(name)), name))
    ]
    if _in_front(core, core.post_processor) != _in_front(core, _post_processor(held)):
        found.append("post-processor")
    if _other_model(core, held["model"]):
        found.append("model")
    return (*found, "added tokens") if _other_added(core, held) else tuple(found)


def _post_processor(held: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return parse_part("post_processor", held.get("post_processor")).post_processor


def _form(part: Any) -> Any:  # noqa: ANN401
    """Return a part of a pipeline as JSON values, equal for parts that work alike."""
    return None if part is None else _simple(json.loads(part.__getstate__()))


def _simple(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        return [_simple(each) for each in value] if isinstance(value, list) else value
    kept = {key: _simple(each) for key, each in value.items() if key != "trim_offsets"}
    for steps in ("normalizers", "pretokenizers", "decoders"):
        if kept.get("type") == "Sequence" and steps in kept:
            return kept[steps][0] if len(kept[steps]) == 1 else (kept if kept[steps] else None)
    return kept


def _in_front(core: Any, processor: Any) -> list[int] | None:  # noqa: ANN401
    """Return the ids of a letter with all that a post-processor puts around it; None where it has none."""
    try:
        encoding = of_tokenizers(lambda: core.encode("a", add_special_tokens=False))
    except ValueError:
        return None
    return list(encoding.ids if processor is None else processor.process(encoding, None, True).ids)


def _vocabulary(held: Mapping[str, Any]) -> dict[str, int]:
    vocabulary = held["model"].get("vocab") or {}
    if isinstance(vocabulary, dict):
        return dict(vocabulary)
    return {entry[0]: number for number, entry in enumerate(vocabulary)}


def _other_model(core: Any, model: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether a model differs from the file's in kind, vocabulary or a setting that changes ids."""
    if model.get("type", type(core.model).__name__) != type(core.model).__name__:
        return True
    for name in _MODEL_FIELDS:
        ours, files = getattr(core.model, name, None), model.get(name)
        # Where bytes stand for what is unknown, nothing is.
        is_moot = "unk" in name and bool(model.get("byte_fallback"))
        if name in model and not is_moot and (ours or None) != (files or None):
            return True
    return bool(core.get_vocab(with_added_tokens=False) != _vocabulary({"model": model}))


def _other_added(core: Any, held: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether an added token of the file is missing or has another id."""
    return any(core.token_to_id(each["content"]) != each["id"] for each in held.get("added_tokens") or ())


def _refuse_contradiction(
    config: Mapping[str, Any], held: Mapping[str, Any], name: str, folder: Path
) -> None:
    """Refuse files that ask for two tokenizers: which of them the model was trained with is unknown."""
    for key, of_file in _settings(held).items():
        of_config = config.get(key)
        if of_config is not None and of_config != of_file:
            raise _contradiction(key, of_config, of_file, name, folder / TOKENIZER_JSON)


def _contradiction(key: str, of_config: Any, of_file: bool, name: str, path: Path) -> CheckpointError:  # noqa: ANN401
    both = json.dumps(of_config), json.dumps(of_file)
    return CheckpointError(
        f"tokenizer_config.json says {key} = {both[0]}, which transformers' {name} does, and {path.name} has "
        f"{key} = {both[1]}: which of them the model was trained with is not known, and a text has other ids "
        "under each",
        where=str(path),
        fix=f"copy the tokenizer, make both agree (without {key} in tokenizer_config.json, {path.name} is "
        "followed), and name the copy with --tokenizer",
    )


def _settings(held: Mapping[str, Any]) -> dict[str, bool]:
    """Return the settings of a pipeline that tokenizer_config.json can name too."""
    found: dict[str, bool] = {}
    normalizers = _steps(held.get("normalizer"), "normalizers")
    steps = [*normalizers, *_steps(held.get("pre_tokenizer"), "pretokenizers")]
    for step in steps:
        kind = step.get("type")
        if kind == "ByteLevel" and "add_prefix_space" in step:
            found["add_prefix_space"] = found.get("add_prefix_space", False) or step["add_prefix_space"]
        elif kind == "Metaspace":
            found["add_prefix_space"] = step.get("prepend_scheme", "always") != "never"
        elif kind == "Prepend":
            found["add_prefix_space"] = True
        elif kind == "BertNormalizer":
            found["do_lower_case"] = bool(step.get("lowercase", True))
            found["tokenize_chinese_chars"] = bool(step.get("handle_chinese_chars", True))
            if step.get("strip_accents") is not None:
                found["strip_accents"] = bool(step["strip_accents"])
    return found


def _steps(part: Any, name: str) -> list[dict[str, Any]]:  # noqa: ANN401
    if not isinstance(part, dict):
        return []
    return [each for step in part[name] for each in _steps(step, name)] if name in part else [part]


def _say_pattern(tokenizer: Any, note: Callable[[str], None]) -> None:  # noqa: ANN401
    """Note what transformers reports about a pattern that some Mistral tokenizers were published with."""
    is_fixed = getattr(getattr(tokenizer, "backend_tokenizer", None), "fix_mistral_regex", None)
    if is_fixed is not None:
        note(
            "tokenizer_config.json asks for fix_mistral_regex: the pattern of tokenizer.json was replaced"
            if is_fixed
            else "transformers says that the pattern in this Mistral tokenizer.json is not that of training: "
            'set "fix_mistral_regex": true in tokenizer_config.json if it should be replaced'
        )


def _without_dropout(tokenizer: Any, note: Callable[[str], None]) -> None:  # noqa: ANN401
    model = tokenizer.backend_tokenizer.model
    if getattr(model, "dropout", None):
        model.dropout = None
        note(
            "tokenizer.json asks for merges to be dropped at random, which is for training; none was dropped"
        )


def _say_new_tokens(tokenizer: Any, held: Mapping[str, Any], note: Callable[[str], None]) -> None:  # noqa: ANN401
    """Note which tokens have ids from transformers that tokenizer.json does not have."""
    size = len(_vocabulary(held).keys() | {each["content"] for each in held.get("added_tokens") or ()})
    if len(tokenizer) <= size:
        return
    known = _vocabulary(held).keys() | {each["content"] for each in held.get("added_tokens") or ()}
    new = {token: number for token, number in tokenizer.get_added_vocab().items() if token not in known}
    used = [name for name in ("bos_token", "eos_token") if getattr(tokenizer, name, None) in new]
    for name in used:
        token = getattr(tokenizer, name)
        note(
            f"the {name} {token!r} is not in tokenizer.json and got the new id {new[token]}, "
            "on which the model may never have been trained"
        )
