"""Parsers of known columns: each checks one value and returns it in the column's type."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.items.raw import RefusedError
from memprobe.parsing import INT64
from memprobe.wording import counted

_INT64_MAX: Final = 2**63 - 1
_SHOWN_CHARS: Final = 20
_SPLITS: Final = ("test", "validation")


def as_text(value: object) -> str:
    """Return a text; messages never quote a refused value.

    Raises:
        RefusedError: It is not a string, or empty.
    """
    if not isinstance(value, str):
        raise RefusedError(f"{kind(value)}, not a string")
    if not value:
        raise RefusedError("empty", "remove the item, or give it some text")
    return value


def as_name(value: object) -> str:
    """Return a name; a whole number becomes a text.

    Raises:
        RefusedError: It is neither a string nor a whole number, or empty.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise RefusedError(f"{kind(value)}, not a string or a whole number")
    if not value:
        raise RefusedError("empty", "use null, or leave the key out, if there is none")
    return value


def as_count(value: object) -> int:
    """Return a whole number of at least 0; 3.0 is accepted, since nulls turn data frame columns into floats.

    Raises:
        RefusedError: It is not such a number, or does not fit int64.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError(f"{shown(value)}, not a whole number", sort="not a whole number")
    if not 0 <= value <= _INT64_MAX:
        raise RefusedError(
            f"{shown(value)}, below 0" if value < 0 else "does not fit 64 bits",
            sort="below 0" if value < 0 else "",
        )
    return value


def as_ids(value: object) -> NDArray[np.int64]:
    """Return token ids, shape (n_tokens,).

    Raises:
        RefusedError: It is not a list, is empty, or holds anything but whole numbers of at least 0.
    """
    if isinstance(value, pl.Series):
        ids = value.to_numpy()
    elif not isinstance(value, list):
        raise RefusedError(f"{kind(value)}, not a list of token ids")
    elif set(map(type, value)) <= {int}:
        # numpy turns numbers beyond 64 bits into Python objects.
        ids = np.array(value) if value else np.empty(0, dtype=np.int64)
    else:
        raise _wrong_id(value)
    if not len(ids):
        raise RefusedError("empty", "remove the item, or give it some token ids")
    if ids.dtype.kind not in "iu":
        raise RefusedError("has null, a fraction or a number beyond 64 bits; token ids are whole numbers")
    if ids.min() < 0 or ids.max() > _INT64_MAX:
        place = int(np.argmax((ids < 0) | (ids > _INT64_MAX))) + 1
        raise RefusedError(
            f"token id {place} of {len(ids)} is below 0 or beyond 64 bits",
            sort="a token id is below 0 or beyond 64 bits",
        )
    return ids.astype(np.int64)


def as_steps(value: object) -> list[int]:
    """Return training steps, which must be ascending; an item twice in one batch gives its step twice.

    Raises:
        RefusedError: It is not a list, is empty, holds anything but whole numbers of at least 0, or is not
            ascending.
    """
    if not isinstance(value, list):
        raise RefusedError(
            f"{kind(value)}, not a list of steps", "write it as [100, 250]", sort="not a list of steps"
        )
    if not value:
        raise RefusedError("empty", "use null, or leave the key out, if there is none")
    steps = []
    for place, each in enumerate(value, start=1):
        try:
            steps.append(as_count(each))
        except RefusedError as error:
            what = f"step {place} of {len(value)} is {error.fault.what}"
            raise RefusedError(what, sort=f"a step is {error.fault.kind}") from error
    for place, (before, after) in enumerate(pairwise(steps), start=2):
        if after < before:
            what = f"step {place} of {len(steps)}, {after}, comes after {before}"
            raise RefusedError(what, "give the steps in ascending order", sort="steps not in ascending order")
    return steps


def as_share(value: object) -> float:
    """Return a number from 0 to 1.

    Raises:
        RefusedError: It is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RefusedError(f"{shown(value)}, not a number from 0 to 1", sort="not a number from 0 to 1")
    return float(value)


def as_truth(value: object) -> bool:
    """Return true or false.

    Raises:
        RefusedError: It is neither.
    """
    if not isinstance(value, bool):
        raise RefusedError(f"{shown(value)}, not true or false", sort="not true or false")
    return value


def as_split(value: object) -> str:
    """Return test or validation.

    Raises:
        RefusedError: It is neither.
    """
    if value not in _SPLITS:
        what = "not test or validation"
        raise RefusedError(f"{shown(value)}, {what}", "validation trials choose the prompt", sort=what)
    return str(value)


def _wrong_id(values: list[object]) -> RefusedError:
    place, value = next((n, v) for n, v in enumerate(values, start=1) if type(v) is not int)
    return RefusedError(
        f"token id {place} of {len(values)} is {kind(value)}, not a whole number",
        sort=f"a token id is {kind(value)}, not a whole number",
    )


PARSERS: Final[Mapping[str, Callable[[object], object]]] = {
    "item_id": as_name,
    "text": as_text,
    "prefix": as_text,
    "suffix": as_text,
    "input_ids": as_ids,
    "foil": as_text,
    "foil_kind": as_name,
    "group": as_name,
    "exposures": as_count,
    "first_step": as_count,
    "last_step": as_count,
    "exposure_steps": as_steps,
    "trained": as_truth,
    "task_end_step": as_count,
    "batch_id": as_name,
    "doc_id": as_name,
    "segment_1": as_text,
    "segment_2": as_text,
    "source_id": as_name,
    "excerpt_id": as_name,
    "excerpt_words": as_count,
    "segment_words": as_count,
    "distance_words": as_count,
    "distance_bin": as_count,
    "excerpt_start_frac": as_share,
    "earlier_first": as_truth,
    "split": as_split,
}


def kind(value: object) -> str:
    """Return the kind of a value in words for the user."""
    if value is None:
        return "null"
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", bytes: "raw bytes"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def shown(value: object) -> str:
    """Return a number as the user wrote it, but only the length of a string.

    If the columns of a row are shifted, a column of numbers may hold text of the item.
    """
    if isinstance(value, str):
        return f"a string of {counted(len(value), 'character')}"
    if isinstance(value, int) and value not in INT64:
        return "a number beyond 64 bits"
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:  # noqa: PLR0124
        return repr(value)[:_SHOWN_CHARS]
    return kind(value)
