"""TOML and JSON that others wrote: read, or refused with the reason and the line.

Beyond what the standard library refuses by name: numbers that no table can hold, numbers of thousands of
digits, which Python does not convert, nesting that nothing downstream could walk, and bytes that are no
UTF-8. All of them are `UnreadableError`, so that no caller has to know what Python raises for each.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

MAX_DEPTH: Final = 64
INT64: Final = range(-(2**63), 2**63)
_NESTED: Final = f"nested more than {MAX_DEPTH} deep"


class UnreadableError(ValueError):
    """A text is not what it should be; the message says why and, where it is known, in which line."""


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """Return what a TOML document holds; a byte-order mark in front is passed over.

    Raises:
        UnreadableError: It is not TOML or not UTF-8, holds a whole number beyond 64 bits, or is nested
            too deeply.
    """
    import tomllib

    text = _decoded(data)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableError(str(error)) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableError(_reason(error)) from error
    if key := _beyond_bounds(found):
        raise UnreadableError(f"`{key}` is a whole number beyond 64 bits{_line_of(text, key)}")
    return found


def parse_json(data: bytes | str) -> Any:  # noqa: ANN401
    """Return what a JSON document holds.

    NaN and infinities, which are not JSON, are refused; so are whole numbers beyond 64 bits.

    Raises:
        UnreadableError: It is not JSON or not UTF-8, holds such a number, or is nested too deeply.
    """
    text = _decoded(data)
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise UnreadableError(f"{error.msg} at {line}column {error.colno}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableError(_reason(error)) from error
    if key := _beyond_bounds(found):
        raise UnreadableError(f"`{key}` is a whole number beyond 64 bits")
    return found


def _beyond_bounds(found: object) -> str:
    """Return the key of a whole number beyond 64 bits, or an empty string.

    Raises:
        UnreadableError: What was read is nested too deeply.
    """
    for key, value, depth in _walked(found):
        if depth > MAX_DEPTH:
            raise UnreadableError(_NESTED)
        if isinstance(value, int) and value not in INT64:
            return str(key) or "a value"
    return ""


def read_toml(file: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        UnreadableError: As `parse_toml`.
        OSError: The file cannot be read.
    """
    return parse_toml(file.read_bytes())


def read_json(file: Path) -> Any:  # noqa: ANN401
    """Return what a JSON file holds.

    Raises:
        UnreadableError: As `parse_json`.
        OSError: The file cannot be read.
    """
    return parse_json(file.read_bytes())


def is_nested_deeper(value: object, at_most: int = MAX_DEPTH) -> bool:
    """Return whether lists and mappings are in each other more than `at_most` deep."""
    return any(depth > at_most for _, _, depth in _walked(value))


def _decoded(data: bytes | str) -> str:
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark.
        place = len(data) - len(error.object) + error.start
        line = data[:place].count(b"\n") + 1
        raise UnreadableError(f"not UTF-8: byte 0x{data[place]:02x} in line {line}") from error


def _walked(value: object) -> Iterator[tuple[str, object, int]]:
    """Yield every value inside a value, with its key and its depth; without recursion, so at any depth."""
    left: list[tuple[str, object, int]] = [("", value, 0)]
    while left:
        key, inner, depth = left.pop()
        yield key, inner, depth
        if isinstance(inner, Mapping):
            left += [(str(name), each, depth + 1) for name, each in inner.items()]
        elif isinstance(inner, list | tuple):
            left += [(key, each, depth + 1) for each in inner]


def _reason(error: Exception) -> str:
    """Return an error in words; the interpreter's own message may be about its settings."""
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, RecursionError):
        return _NESTED
    if "digits" in str(error):
        return "a number of thousands of digits"
    return str(error)


def _refuse_constant(name: str) -> object:
    raise UnreadableError(f"{name} is not a valid JSON number")


def _line_of(text: str, key: str) -> str:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.partition("=")[0].strip().strip("\"'") == key:
            return f" (line {number})"
    return ""
