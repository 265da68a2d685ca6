"""The limits of a sequence: each checkpoint is read, the smallest counts, a broken one hides no other."""

import json
import shutil
from pathlib import Path

import pytest

from memprobe.checkpoints import resolve
from memprobe.errors import CheckpointError
from memprobe.pipeline.limits import read_all_limits


class Heard:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def limits(tiny, tmp_path):
    """Return the reader of limits after changes to the configurations, by step."""

    def read(**changes: dict[str, object]):
        folder = Path(shutil.copytree(tiny.model, tmp_path / "main"))
        for step, change in changes.items():
            file = folder / step / "config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | change))
        heard = Heard()
        (found,) = read_all_limits(resolve([str(folder)]), heard, trust_remote_code=False)
        return found, heard.notes

    return read


def test_equal_limits_are_those_of_all_and_nothing_is_said(limits) -> None:
    found, notes = limits()
    assert (found.context_tokens, found.vocabulary, notes) == (96, 256, [])


def test_the_smallest_counts_wherever_it_is_and_is_said(limits) -> None:
    found, notes = limits(step20={"max_position_embeddings": 64, "vocab_size": 200})
    assert (found.context_tokens, found.vocabulary) == (64, 200)
    assert notes == [
        "main: the vocabulary differs (256 tokens in step0, step10; 200 tokens in step20), and the smallest "
        "counts for all",
        "main: the context differs (96 tokens in step0, step10; 64 tokens in step20), and the smallest "
        "counts for all",
    ]


def test_a_broken_first_configuration_leaves_the_others(limits) -> None:
    found, _ = limits(step0={"layer_norm_eps": "small"})
    assert (found.context_tokens, found.vocabulary) == (96, 256)


def test_all_broken_is_an_error_that_is_said_once(limits) -> None:
    broken = {"layer_norm_eps": "small"}
    with pytest.raises(CheckpointError, match="layer_norm_eps") as caught:
        limits(step0=broken, step10=broken, step20=broken)
    (problem,) = caught.value.problems
    assert problem.where.count("/main/step") == 3
