"""Documents and token streams made on the spot, by hand: nothing of what is tested writes them."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from memprobe.documents.source import Document, Documents

# Codes of the ids' types in an .idx: Megatron-LM, megatron/core/datasets/indexed_dataset.py, `DType`.
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "float32": 7, "uint16": 8}


@pytest.fixture
def documents() -> Callable[..., Documents]:
    """Return a maker of documents: documents(a="text", b="text")."""

    def make(**texts: str) -> Documents:
        found = tuple(Document(name, name, text, f"{name}.txt, line 1", {}) for name, text in texts.items())
        return Documents(found, {})

    return make


@pytest.fixture
def megatron(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of `.bin` and `.idx`: megatron("x", [[1, 2], [3]], "uint16") -> path of the .bin."""

    def write(
        name: str, entries: Sequence[Sequence[int]], dtype: str = "int32", *, modes: bool = False
    ) -> Path:
        data = b"".join(np.asarray(entry, dtype).tobytes() for entry in entries)
        sizes = [len(entry) for entry in entries]
        places = [sum(sizes[:number]) * np.dtype(dtype).itemsize for number in range(len(sizes))]
        head = b"MMIDIDX\x00\x00" + struct.pack("<QB", 1, CODES[dtype]) + struct.pack("<QQ", len(sizes), 2)
        body = struct.pack(f"<{len(sizes)}i", *sizes) + struct.pack(f"<{len(sizes)}q", *places)
        tail = struct.pack("<2q", 0, len(sizes)) + (bytes(len(sizes)) if modes else b"")
        (tmp_path / f"{name}.idx").write_bytes(head + body + tail)
        (tmp_path / f"{name}.bin").write_bytes(data)
        return tmp_path / f"{name}.bin"

    return write


@pytest.fixture
def npy(tmp_path: Path) -> Callable[..., str]:
    """Return a writer of .npy files: npy("x", [1, 2], "uint16") -> its path."""

    def write(name: str, values: object, dtype: str = "int64") -> str:
        file = tmp_path / f"{name}.npy"
        np.save(file, np.asarray(values, dtype))
        return str(file)

    return write
