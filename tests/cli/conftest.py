"""Files written on the spot."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a writer of files: write("items.jsonl", content) -> path."""

    def to_file(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return to_file
