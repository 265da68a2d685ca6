"""JSONL and JSON lists -> raw rows; the standard json module, made strict and aware of lines."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from memprobe.errors import ItemError
from memprobe.items.raw import Fault, Once, RawFile, RawRow, RefusedError, decode_utf8

_BLANK = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_jsonl(path: Path, spec: str, limit: int | None) -> RawFile:
    """Read one JSON object per line; blank lines are skipped.

    Lines after the first `limit` rows count for the digest but are not parsed.

    Raises:
        ItemError: The file is not UTF-8.
    """
    rows: list[RawRow] = []
    once = Once()
    digest, columns, offset = hashlib.sha256(), dict[str, None](), 0
    with path.open("rb") as stream:
        # Only \n ends a line here: str.splitlines would cut at U+2028, which JSON allows in strings.
        for line, data in enumerate(stream, start=1):
            digest.update(data)
            if limit is None or len(rows) < limit:
                text = decode_utf8(data, spec, first_byte=offset, first_line=line)
                if not text.isspace() and text:
                    rows.append(once.row(row_from_json(line, text)))
                    columns.update(dict.fromkeys(rows[-1].values))
            offset += len(data)
    return RawFile(spec, digest.hexdigest(), "line", tuple(columns), tuple(rows))


def read_json(path: Path, spec: str, limit: int | None) -> RawFile:
    """Read a list of JSON objects.

    Raises:
        ItemError: The file is not UTF-8, not JSON, or not a list.
    """
    data = path.read_bytes()
    rows: list[RawRow] = []
    columns = dict[str, None]()
    once = Once()
    try:
        for place, source in enumerate(_elements(decode_utf8(data, spec), spec), start=1):
            if limit is not None and len(rows) >= limit:
                break
            rows.append(once.row(row_from_json(place, source)))
            columns.update(dict.fromkeys(rows[-1].values))
    except json.JSONDecodeError as error:
        raise ItemError(
            f"no JSON: {error.msg}",
            where=f"{spec}, line {error.lineno}, character {error.colno}",
            fix="a .json file is one list of objects; one object per line is .jsonl",
        ) from error
    except ItemError:
        raise
    except (RecursionError, ValueError) as error:
        what = "nested too deeply, or a number with thousands of digits"
        raise ItemError(what, where=f"{spec}, item {len(rows) + 1}") from error
    return RawFile(spec, hashlib.sha256(data).hexdigest(), "item", tuple(columns), tuple(rows))


def row_from_json(line: int, text: str) -> RawRow:
    """Return the JSON object in `text` as a row, or a row whose fault says why there is none."""
    try:
        value = _STRICT.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RefusedError as error:
        return RawRow(line, {}, (error.fault,))
    except json.JSONDecodeError as error:
        what = f"no JSON: {error.msg}"
        return RawRow(line, {}, (Fault("", f"{what} at character {error.pos + 1}", sort=what),))
    except UnicodeEncodeError:
        return RawRow(
            line, {}, (Fault("", "holds half of a surrogate pair (\\ud800 to \\udfff), which is not text"),)
        )
    except (RecursionError, ValueError):
        return RawRow(line, {}, (Fault("", "nested too deeply, or a number with thousands of digits"),))
    if not isinstance(value, dict):
        return RawRow(line, {}, (Fault("", "no JSON object", 'an item looks like {"text": "..."}'),))
    return RawRow(line, value)


def _elements(text: str, spec: str) -> Iterator[str]:
    """Yield the JSON source of each element of the list in `text`."""
    at = _skip_blank(text, 0)
    if text[at : at + 1] != "[":
        raise ItemError(
            "no list of objects",
            where=spec,
            fix="put the items into one list, [{...}, {...}]; one object per line is .jsonl",
        )
    at = _skip_blank(text, at + 1)
    if text[at : at + 1] == "]":
        end = at
    else:
        while True:
            _, end = _LENIENT.raw_decode(text, at)
            yield text[at:end]
            end = _skip_blank(text, end)
            if text[end : end + 1] != ",":
                break
            at = _skip_blank(text, end + 1)
    if text[end : end + 1] != "]":
        raise json.JSONDecodeError("expecting ',' or ']'", text, end)
    if (rest := _skip_blank(text, end + 1)) != len(text):
        raise json.JSONDecodeError("there is more text after the list", text, rest)


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedError("given twice", "keep one of the two", column=twice)
    return found


def _refuse_constant(name: str) -> object:
    raise RefusedError(f"{name} is not a number", "an unknown value is null, or the key is left out")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise RefusedError("a number is too large for float64")
    return value


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
_LENIENT = json.JSONDecoder()
