"""Check a tokenizer's files before anything is loaded, without importing transformers.

Each part of tokenizer.json (normalizer, pre_tokenizer, model, post_processor, decoder) is passed on its own
to the installed tokenizers library with an empty vocabulary, so that an unknown kind is found and named.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from memprobe.checkpoints.contents import TOKENIZER_CONFIG
from memprobe.checkpoints.digest import tokenizer_digest
from memprobe.errors import CheckpointError, Problem

T = TypeVar("T")

TOKENIZER_JSON: Final = "tokenizer.json"
# Names of SentencePiece models; the first may also be a tiktoken file.
SENTENCEPIECE: Final = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
PARTS: Final = ("normalizer", "pre_tokenizer", "post_processor", "decoder")

_LFS: Final = b"version https://git-lfs.github.com/spec/"
_OTHER: Final = "or name another tokenizer with --tokenizer"
_NEWER: Final = f"pip install --upgrade tokenizers transformers, {_OTHER}"
_COPY: Final = f"copy or download the file again, {_OTHER}"
# Files of a tokenizer that hold one JSON object.
_OBJECTS: Final = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", TOKENIZER_JSON)
_OTHERS: Final = (*SENTENCEPIECE, "tiktoken.model", "vocab.json", "merges.txt", "chat_template.jinja")
_TOKEN: Final = (str, dict)
_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
# Allowed types of the fields of tokenizer_config.json that are set.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "tokenizer_class": (str,),
    "chat_template": (str, list, dict),
    "added_tokens_decoder": (dict,),
    "additional_special_tokens": (list, dict),
    "extra_special_tokens": (list, dict),
    "add_prefix_space": (bool,),
    "add_bos_token": (bool,),
    "add_eos_token": (bool,),
    "split_special_tokens": (bool,),
    "legacy": (bool,),
    "do_lower_case": (bool,),
    "model_max_length": (int, float),
    "auto_map": (list, dict),
    **dict.fromkeys(_TOKENS, _TOKEN),
}
_NAMES: Final[Mapping[type, str]] = {
    **{str: "a text", list: "a list", dict: "an object", bool: "true or false"},
    **{int: "a number", float: "a number"},
}
_looked_into: dict[str, tuple[Problem, ...]] = {}


def tokenizer_problems(folder: Path) -> tuple[Problem, ...]:
    """Return why the tokenizer in a folder cannot be read; empty if no fault is known.

    Files with the same contents are checked once, whatever their folder.
    """
    try:
        digest = tokenizer_digest(folder)
    except CheckpointError as error:
        return _problems(folder) or error.problems
    if digest not in _looked_into:
        _looked_into[digest] = _problems(folder)
    return tuple(replace(each, where=str(folder / Path(each.where).name)) for each in _looked_into[digest])


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is no file.

    Raises:
        ValueError: The file is not a JSON object; the message says what it is.
    """
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("is nested too deeply to be read") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"holds {_NAMES.get(type(held), 'something else')}, not an object")
    return held


def parse_part(name: str, part: Any) -> Any:  # noqa: ANN401
    """Return one part of tokenizer.json as a Tokenizer with only that part and no vocabulary.

    Raises:
        ValueError: The installed tokenizers cannot read it.
    """
    from tokenizers import Tokenizer

    empty = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    return of_tokenizers(lambda: Tokenizer.from_str(json.dumps(empty | {name: part})))


def of_tokenizers(call: Callable[[], T]) -> T:
    """Return the result of a call of the tokenizers library.

    Raises:
        ValueError: The library raised Exception itself, ValueError, TypeError or OverflowError.
    """
    try:
        return call()
    except Exception as error:
        if type(error) not in (Exception, ValueError, TypeError, OverflowError):
            raise
        raise ValueError(str(error).strip().splitlines()[0]) from error


def _problems(folder: Path) -> tuple[Problem, ...]:
    found = [
        Problem(what, str(folder / name), _COPY)
        for name in (*_OBJECTS, *_OTHERS)
        if (folder / name).is_file() and (what := _pointer(folder / name))
    ]
    return tuple(found) or _contents(folder)


def _contents(folder: Path) -> tuple[Problem, ...]:
    held: dict[str, dict[str, Any]] = {}
    found = []
    for name in _OBJECTS:
        try:
            held[name] = read_object(folder / name)
        except ValueError as error:
            found.append(Problem(f"{name} {error}", str(folder / name), _COPY))
    found += _types(held.get(TOKENIZER_CONFIG, {}), folder / TOKENIZER_CONFIG)
    if (folder / TOKENIZER_JSON).is_file():
        found += _pipeline(held.get(TOKENIZER_JSON), folder / TOKENIZER_JSON)
    else:
        found += _packages(folder)
    return tuple(found)


def _pointer(path: Path) -> str:
    with path.open("rb") as file:
        is_pointer = file.read(len(_LFS)) == _LFS
    return (
        f"{path.name} is a Git LFS pointer, not the file itself (git lfs pull gets it)" if is_pointer else ""
    )


def _types(config: Mapping[str, Any], path: Path) -> list[Problem]:
    """Return a problem for each field of tokenizer_config.json with a wrong type."""
    found = []
    for name, allowed in _TYPES.items():
        value = config.get(name)
        is_wrong = not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        if value is not None and is_wrong:
            wanted = " or ".join(dict.fromkeys(_NAMES[kind] for kind in allowed))
            what = f"`{name}` of {path.name} is {json.dumps(value)[:60]}, not {wanted}"
            found.append(Problem(what, str(path), f"repair it, {_OTHER}"))
    return found


def _pipeline(held: dict[str, Any] | None, path: Path) -> list[Problem]:
    """Return a problem for each part of tokenizer.json that the installed tokenizers cannot read."""
    if held is None:
        return []
    found = []
    if held.get("version", "1.0") != "1.0":
        found.append(_unknown(f"its format is version {json.dumps(held['version'])[:40]}", path))
    for name in (*PARTS, "model"):
        part = _without_vocabulary(held.get("model")) if name == "model" else held.get(name)
        if name == "model" and not isinstance(part, dict):
            found.append(Problem(f"{path.name} holds no model", str(path), _COPY))
            continue
        try:
            parse_part(name, part)
        except ValueError as error:
            kind = part.get("type") if isinstance(part, dict) else None
            named = f"`{kind}`" if kind else "without a kind"
            found.append(_unknown(f"its {name.replace('_', '-')} {named} cannot be read ({error})", path))
    return found


def _without_vocabulary(model: Any) -> Any:  # noqa: ANN401
    if not isinstance(model, dict):
        return model
    # A Unigram model must have at least one token.
    listed = isinstance(model.get("vocab"), list)
    small = dict(model) | {"vocab": [["", 0.0]] if listed else {}}
    small |= {"merges": []} if "merges" in model else {}
    return small | {"unk_id": 0} if model.get("unk_id") is not None else small


def _unknown(what: str, path: Path) -> Problem:
    from tokenizers import __version__

    newer = f"{path.name} is newer than the installed tokenizers {__version__}, or damaged: {what}"
    return Problem(newer, str(path), _NEWER)


def _packages(folder: Path) -> list[Problem]:
    """Return a problem if packages that a tokenizer without tokenizer.json needs are not installed."""
    path = bare_model(folder)
    if path is None:
        return []
    needed = ("sentencepiece", "google.protobuf") if is_sentencepiece(path) else ("tiktoken",)
    lacking = [name.removeprefix("google.") for name in needed if not _is_installed(name)]
    if not lacking:
        return []
    verb = "is" if len(lacking) == 1 else "are"
    what = f"{path.name} needs {' and '.join(lacking)}, which {verb} not installed"
    return [Problem(what, str(path), f"pip install {' '.join(lacking)}, {_OTHER}")]


def bare_model(folder: Path) -> Path | None:
    """Return the SentencePiece or tiktoken file of a tokenizer without tokenizer.json, or None."""
    named = (folder / name for name in (*SENTENCEPIECE, "tiktoken.model"))
    return next((path for path in named if path.is_file()), None)


def is_sentencepiece(path: Path) -> bool:
    """Return whether a file begins like a SentencePiece model; tiktoken files are lines of base64."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
