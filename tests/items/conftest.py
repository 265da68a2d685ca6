"""Writes item files and reads the message of the error they cause."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from memprobe.errors import ItemError
from memprobe.items import read_items

Write = Callable[..., str]
Message = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes `content` (rows for JSONL, else text or bytes) and returns the path."""

    def write_file(name: str, content: object) -> str:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
        return str(path)

    return write_file


@pytest.fixture
def message(tmp_path: Path) -> Message:
    """Return a function that reads bad files and returns the message, paths without their folder."""

    def read_message(*specs: str, **options: object) -> str:
        with pytest.raises(ItemError) as caught:
            read_items(specs, **options)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return read_message
