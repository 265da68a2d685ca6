"""The options of a run: where and how it is measured, under the long names of their flags.

A suite says what is measured; these say on what, where and how. Precedence: flag, `MEMPROBE_*`
variable, the suite's `[run]` table, default.
"""

import math
import os
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

from memprobe.errors import InputError, Problem
from memprobe.parsing import INT64
from memprobe.wording import near_miss

Device = str
DType = Literal["auto", "float32", "bfloat16", "float16"]
BosMode = Literal["default", "none", "forced"]
OnBad = Literal["error", "skip"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The flags of a run.

    Attributes:
        model: Model specs.
        data: Item files.
        map: Columns of these files that are read under another name, as `OURS=THEIRS`.
        control: Spec of a model that did not train on the items; if it is a sequence, its last checkpoint.
        steps: Steps of the checkpoints to use, like `0,1000..143000:1000`; not for the control.
        stages: Training order of stages, like `stage1,stage2`; also for the control.
        tokenizer: Tokenizer to use instead of those of the checkpoints.
        limit: Number of items to use, from the start of all files together.
        device: auto, cpu, cuda:N or mps.
        dtype: auto, float32, bfloat16 or float16.
        batch_tokens: Tokens per batch, including padding; None: chosen once and kept.
        bos: Which tokens are put before a text.
        seed: Seed of every random draw.
        threads: CPU threads; None: the default of the library.
        offline: Refuse the network.
        keep_checkpoints: Most fetched checkpoints to keep on the disk; 0: keep all.
        trust_remote_code: Run code that comes with a model.
        allow_pickle: Read weights that are not safetensors.
        include_text: Write text and token ids into units, tables and reports.
        on_bad_item: What to do with a bad item: stop, or leave it out and count it.
    """

    model: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    control: str | None = None
    steps: str | None = None
    stages: str | None = None
    tokenizer: str | None = None
    limit: int | None = None
    device: Device = "auto"
    dtype: DType = "auto"
    batch_tokens: int | None = None
    bos: BosMode = "default"
    seed: int = 0
    threads: int | None = None
    offline: bool = False
    keep_checkpoints: int = 2
    trust_remote_code: bool = False
    allow_pickle: bool = False
    include_text: bool = False
    on_bad_item: OnBad = "error"

    def overlaid(self, given: Mapping[str, Any]) -> "RunOptions":
        """Return these options, replaced by the given ones that are neither None nor empty."""
        return replace(self, **{name: value for name, value in given.items() if value not in (None, ())})


class GivenOptions(TypedDict, total=False):
    """`RunOptions` as keyword arguments; missing ones, and None, mean the default."""

    model: str | Path | Sequence[str | Path]
    data: str | Path | Sequence[str | Path]
    map: str | Sequence[str]
    control: str | None
    steps: str | None
    stages: str | None
    tokenizer: str | None
    limit: int | None
    device: Device | None
    dtype: DType | None
    batch_tokens: int | None
    bos: BosMode | None
    seed: int | None
    threads: int | None
    offline: bool | None
    keep_checkpoints: int | None
    trust_remote_code: bool | None
    allow_pickle: bool | None
    include_text: bool | None
    on_bad_item: OnBad | None


def most_threads() -> int:
    """Return the largest number of CPU threads allowed: far more than is useful, and still safe."""
    return max(64, 4 * (os.cpu_count() or 1))


def number_ranges() -> dict[str, tuple[int, int]]:
    """Return the smallest and largest value of each numeric option."""
    # What counts items or tokens goes into 32 bits, a seed into 64.
    most = 2**31 - 1
    return {
        "limit": (1, most),
        "batch_tokens": (1, most),
        "threads": (1, most_threads()),
        "seed": (0, 2**63 - 1),
        "keep_checkpoints": (0, most),
    }


def check_number(name: str, value: int | None) -> None:
    """Check a numeric option; None if it was not given.

    Raises:
        InputError: It is outside its range; the message names the flag.
    """
    least, most = number_ranges()[name]
    if value is None or least <= value <= most:
        return
    flag = f"--{name.replace('_', '-')}"
    if value < least:
        raise InputError(f"{flag} is {value}, not {least} or more")
    asked = str(value) if value in INT64 else "a number beyond 64 bits"
    why = f"this machine has {os.cpu_count() or 1} cores; " if name == "threads" else ""
    raise InputError(
        f"{flag} is {asked}, not {most} or less", fix=f"{why}give a number from {least} to {most}"
    )


def convert(value: object, hint: Any) -> Any:  # noqa: ANN401
    """Return a TOML value as the type of a dataclass field.

    Raises:
        ValueError: The value is of another type; the message says what is allowed.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [each for each in get_args(hint) if each is not type(None)]
        return None if value is None else _convert_any(value, inner)
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"is {_shown(value)}, allowed: {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"is {_shown(value)}, not a list")
        return tuple(convert(each, get_args(hint)[0]) for each in value)
    if hasattr(hint, "__dataclass_fields__"):
        return _convert_table(value, hint)
    return _convert_plain(value, hint)


def _convert_any(value: object, hints: list[Any]) -> Any:  # noqa: ANN401
    """Return a value as the first type that it fits; an error message is about the first type."""
    for hint in hints[1:]:
        if isinstance(hint, type) and isinstance(value, hint):
            return convert(value, hint)
    return convert(value, hints[0])


def _convert_plain(value: object, hint: type) -> object:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if value in INT64 else value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"is {_shown(value)}, not {names[hint]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"is {value}, not a finite number")
    if isinstance(value, int) and value not in INT64:
        raise ValueError("is a whole number beyond 64 bits")
    return value


def _convert_table(value: object, hint: Any) -> Any:  # noqa: ANN401
    if isinstance(value, hint):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"is {_shown(value)}, not a table like {{ key = value }}")
    hints = get_type_hints(hint)
    for name in value:
        if name not in hints:
            raise ValueError(
                f"has the unknown key `{name}`{near_miss(name, hints)}; allowed: {', '.join(hints)}"
            )
    given = {}
    for name, each in value.items():
        try:
            given[name] = convert(each, hints[name])
        except ValueError as error:
            raise ValueError(f"holds a table in which `{name}` {error}") from error
    try:
        return hint(**given)
    except ValueError as error:
        raise ValueError(f"holds a table in which {error}") from error


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int) and value not in INT64:
        return "a number beyond 64 bits"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_table(table: Mapping[str, Any], cls: type, where: str) -> tuple[dict[str, Any], list[Problem]]:
    """Convert a TOML table to keyword arguments of a dataclass, and list all faults.

    Args:
        table: The table, as read from TOML.
        cls: The dataclass.
        where: File and table, for messages.
    """
    hints = get_type_hints(cls)
    allowed = [each.name for each in fields(cls)]
    good: dict[str, Any] = {}
    problems = []
    for name, value in table.items():
        if name not in hints:
            fix = f"settings are {', '.join(allowed)}" if allowed else "there are no settings here"
            problems.append(Problem(f"unknown setting `{name}`{near_miss(name, allowed)}", where, fix))
            continue
        try:
            good[name] = convert(value, hints[name])
        except ValueError as error:
            problems.append(Problem(f"`{name}` {error}", where))
    return good, problems
