"""The header of a safetensors file, read as bytes: 8 bytes of little-endian length, then JSON.

Format: https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memprobe.checkpoints.lfs import is_pointer, refuse_pointer
from memprobe.errors import CheckpointError

# The format's own limit, which keeps a corrupt length from filling the memory.
_MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as its file describes it.

    Attributes:
        dtype: Name such as `bfloat16`; a type unknown here has the format's name in lower case.
        shape: Dimensions of the tensor.
        file: Name of the file with the tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    file: str = ""

    @property
    def n_numbers(self) -> int:
        """Count of numbers in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The header of one safetensors file.

    Attributes:
        n_tensors: Number of tensors in the file.
        numbers: Count of numbers by dtype, without Boolean masks, which are not parameters.
        n_data_bytes: Total size of the tensors in bytes.
        tensors: The tensors by name.
    """

    n_tensors: int
    numbers: Mapping[str, int]
    n_data_bytes: int
    tensors: Mapping[str, Stored] = field(default_factory=dict)

    @property
    def n_parameters(self) -> int:
        """Count of numbers in the file, without Boolean masks."""
        return sum(self.numbers.values())


def header(path: Path) -> SafetensorsHeader:
    """Read and check the header of a safetensors file; the tensors are not read.

    Raises:
        CheckpointError: The file cannot be read, is cut short, or has a corrupt header.
    """
    try:
        n_file_bytes = path.stat().st_size
        with path.open("rb") as file:
            beginning = file.read(_LENGTH_BYTES)
            if is_pointer(beginning + file.read(len(beginning) * 4)):
                raise refuse_pointer(path.name, str(path))
            file.seek(_LENGTH_BYTES)
            n_header_bytes = int.from_bytes(beginning, "little")
            n_data_bytes = n_file_bytes - _LENGTH_BYTES - n_header_bytes
            if n_file_bytes < _LENGTH_BYTES or n_data_bytes < 0 or n_header_bytes > _MAX_HEADER_BYTES:
                what = f"its header should take {n_header_bytes:,} bytes and the file has {n_file_bytes:,}"
                raise _corrupt(path, what)
            raw = file.read(n_header_bytes)
    except OSError as error:
        raise CheckpointError(f"a weight file cannot be read: {error.strerror}", where=str(path)) from error
    return _checked(path, raw, n_data_bytes)


def _checked(path: Path, raw: bytes, n_data_bytes: int) -> SafetensorsHeader:
    try:
        entries = json.loads(raw)
        named = {name: entry for name, entry in entries.items() if name != _METADATA}
        tensors = list(named.values())
        spans = sorted((int(entry["data_offsets"][0]), int(entry["data_offsets"][1])) for entry in tensors)
        shapes = [(str(entry["dtype"]), math.prod(map(int, entry["shape"]))) for entry in tensors]
        lengths = [int(entry["data_offsets"][1]) - int(entry["data_offsets"][0]) for entry in tensors]
        stored = {
            name: Stored(dtype_name(str(entry["dtype"])), tuple(map(int, entry["shape"])), path.name)
            for name, entry in named.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise _corrupt(path, "its header is not a safetensors header") from error
    end = max((stop for _, stop in spans), default=0)
    if end != n_data_bytes:
        raise _corrupt(path, f"its tensors should take {end:,} bytes and {n_data_bytes:,} are there")
    starts = [start for start, _ in spans]
    if starts != [0, *(stop for _, stop in spans)][: len(spans)]:
        raise _corrupt(path, "its tensors overlap or leave gaps")
    for (dtype, n_numbers), n_bytes in zip(shapes, lengths, strict=True):
        if dtype in _DTYPES and n_numbers * _DTYPES[dtype][1] != n_bytes:
            raise _corrupt(path, f"a tensor of {n_numbers:,} {dtype} numbers takes {n_bytes:,} bytes")
    return SafetensorsHeader(len(tensors), numbers_by_dtype(shapes), n_data_bytes, stored)


def dtype_name(written: str) -> str:
    """Return the name of a dtype: `bfloat16` for the format's `BF16`, unknown names in lower case."""
    return _DTYPES.get(written, (written.lower(), 0))[0]


def numbers_by_dtype(shapes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the count of numbers by dtype, without Boolean masks, which are not parameters.

    Args:
        shapes: Dtype in the format's spelling (`BF16`) and count of numbers, for each tensor.
    """
    counts: Counter[str] = Counter()
    for dtype, n_numbers in shapes:
        if dtype != "BOOL":
            counts[dtype_name(dtype)] += n_numbers
    return dict(counts)


def _corrupt(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"a weight file is cut short or corrupt: {what}",
        where=str(path),
        fix="copy or download the file again",
    )
