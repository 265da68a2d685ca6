"""The CI script ends with the status of what it ran."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ("true", 0),
        ("sleep 0 & wait $!", 0),
        ("sleep 30 & true", 0),
        ("false", 1),
        ("sleep 30 & exit 3", 3),
        ("(exit 4) & finish $! /dev/null", 4),
    ],
)
def test_the_clean_up_keeps_the_status_of_the_steps(steps: str, status: int, tmp_path: Path) -> None:
    text = SCRIPT.read_text()
    definitions = text[: text.index("\nbrowser &\n")].replace('cd "$(dirname "$0")/.."', "")
    ended = subprocess.run(["bash", "-c", f"{definitions}\n{steps}\n"], cwd=tmp_path, timeout=20, check=False)
    assert ended.returncode == status
