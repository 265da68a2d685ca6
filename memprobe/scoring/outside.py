"""The border to code that is not ours: whatever it raises about a checkpoint is that checkpoint's failure.

transformers, its quantisers and the code of models are fed with configurations and weights that anybody
may have written, and answer a bad one with whatever comes up inside them: AttributeError, TypeError,
ZeroDivisionError, AssertionError, ImportError, validation errors of their own. No list of types holds for
the next version, so this is the one place below the command line that catches `Exception`; what memprobe
itself raises passes, as does running out of memory on a GPU, which a run handles in its own way.
"""

import linecache
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch
from transformers import AutoConfig

from memprobe.checkpoints import Checkpoint
from memprobe.checkpoints.contents import CONFIG, list_folder
from memprobe.checkpoints.native import has_native_class
from memprobe.errors import CheckpointError, MemprobeError

_MAX_CHARS = 400
# These say what they are about in their own words; others get the name of their type in front.
_SPEAKING = (ImportError, OSError, ValueError, RuntimeError)
_INSTALL = re.compile(r"pip install (?P<what>[^`\n]+?)['\"]?(?=`|\)|$|\.\s)", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*")
# Settings that code mentions everywhere, and that say nothing of what failed.
_GENERAL = frozenset({"dtype", "torch_dtype", "model_type", "architectures"})
# Lists of layers are written out while a configuration is read, before anything can be compared with it.
_MAX_LAYERS = 10_000
_LAYERS = re.compile(r"(^|_)layers?$")


@contextmanager
def outside(
    doing: str,
    where: str,
    settings: Mapping[str, Any] | None = None,
    *,
    fix: str = "",
    in_model: bool = False,
) -> Iterator[None]:
    """Turn any exception of the code inside into a CheckpointError.

    Args:
        doing: What failed, as in `the checkpoint cannot be loaded`.
        where: The checkpoint.
        settings: Its config.json, whose fields are looked for in the failing line.
        fix: What to do, where the error does not say what to install.
        in_model: Only what comes out of a model's own modules, or out of transformers, counts; the rest is
            ours and passes.

    Raises:
        CheckpointError: Something was raised.
    """
    try:
        yield
    except (MemprobeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if in_model and not raised_in_model(error):
            raise
        said = f"{doing}: {_said(error)}{_fields(error, settings or {})}"
        raise CheckpointError(said, where=where, fix=_install(error) or fix) from error


def raised_in_model(error: BaseException) -> bool:
    """Whether an error came out of the forward pass of a torch module, or of transformers around it."""
    return any(
        module.partition(".")[0] == "transformers"
        or (module == "torch.nn.modules.module" and frame.f_code.co_name == "_call_impl")
        for frame, _ in walk_tb(error.__traceback__)
        for module in [str(frame.f_globals.get("__name__"))]
    )


def _install(error: BaseException) -> str:
    """Return how to install what an error says is missing, or an empty string."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"pip install {error.name.partition('.')[0]}"
    found = _INSTALL.search(str(error)) if isinstance(error, ImportError) else None
    return f"pip install {found['what'].strip()}" if found else ""


def _said(error: BaseException) -> str:
    """Return an error's text in one line, its type in front where the text alone is unclear."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The second line of a validation error holds the field's value.
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    kind = type(error).__name__
    if not text:
        return kind
    return (
        text[:_MAX_CHARS] if isinstance(error, _SPEAKING) or kind.startswith("Strict") else f"{kind}: {text}"
    )


def _fields(error: BaseException, settings: Mapping[str, Any]) -> str:
    """Return the settings that the innermost failing line is about, or an empty string."""
    if any(name in str(error) for name in settings if len(name) > 3):
        return ""
    if isinstance(error, KeyError) and (name := _holding(settings, error.args[0] if error.args else None)):
        return f" ({name} in {CONFIG})"
    for frame, number in reversed(list(walk_tb(error.__traceback__))):
        line = linecache.getline(frame.f_code.co_filename, number)
        names = [
            name for name in dict.fromkeys(_WORD.findall(line)) if name in settings and name not in _GENERAL
        ]
        if names:
            return f" ({', '.join(f'{name}={settings[name]!r:.60}' for name in names)} in {CONFIG})"
    return ""


def _holding(settings: Mapping[str, Any], value: object) -> str:
    """Return the setting that holds a word, with the word, or an empty string."""
    for name, held in settings.items():
        if isinstance(held, Mapping) and (inner := _holding(held, value)):
            return f"{name}.{inner}"
        if isinstance(value, str) and held == value:
            return f"{name}={value!r}"
    return ""


def read_config(checkpoint: Checkpoint, *, trust_remote_code: bool) -> Any:  # noqa: ANN401
    """Return transformers' configuration of a checkpoint, or of the base that an adapter changes.

    Raises:
        CheckpointError: It cannot be read, or asks for what no model has.
    """
    checkpoint.check_loadable()
    whole = checkpoint.whole
    settings = list_folder(whole.small_files).json(CONFIG)
    _refuse_absurd(settings, str(checkpoint.folder or checkpoint.label))
    fix = f"correct it in {CONFIG}, or copy the file from the model that was trained"
    with outside(
        "transformers cannot read the configuration",
        str(checkpoint.folder or checkpoint.label),
        settings,
        fix=fix,
    ):
        return AutoConfig.from_pretrained(
            whole.small_files,
            local_files_only=True,
            trust_remote_code=runs_code(settings, trust=trust_remote_code),
        )


def runs_code(settings: Mapping[str, Any], *, trust: bool) -> bool:
    """Whether a checkpoint's own code is run: where it is trusted and transformers has no such model."""
    return trust and not has_native_class(settings)


def _refuse_absurd(settings: Mapping[str, Any], where: str) -> None:
    """Refuse more layers than any model has: the lists of them alone could fill the memory."""
    inner = settings.get("text_config")
    for each in (settings, inner if isinstance(inner, dict) else {}):
        for name, value in each.items():
            is_count = isinstance(value, int) and not isinstance(value, bool)
            if is_count and _LAYERS.search(name) and value > _MAX_LAYERS:
                what = f"{name} of {CONFIG} is {value:,}, and no model has more than {_MAX_LAYERS:,} layers"
                raise CheckpointError(
                    what, where=where, fix=f"write the model's number of layers into {name}"
                )
