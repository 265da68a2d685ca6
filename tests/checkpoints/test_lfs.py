"""Git LFS pointers in place of weights, configuration and tokenizer."""

import pytest

from memprobe.checkpoints.contents import list_folder
from memprobe.checkpoints.header import header
from memprobe.checkpoints.identity import Candidate, Options
from memprobe.checkpoints.local import describe_folder
from memprobe.checkpoints.survey import survey
from memprobe.errors import CheckpointError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"


def test_weights_that_are_a_pointer_are_told_apart_from_damaged_ones(make, contents) -> None:
    folder = make("m", contents.files() | {"model.safetensors": POINTER})
    with pytest.raises(CheckpointError, match=r"model.safetensors is a Git LFS pointer") as caught:
        header(folder / "model.safetensors")
    assert "git lfs pull" in caught.value.problems[0].fix


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_survey_names_weights_that_are_a_pointer(name, make, contents) -> None:
    files = contents.files()
    del files["model.safetensors"]
    folder = make("m", files | {name: POINTER})
    (row,) = survey([str(folder)], allow_pickle=True)[0].rows
    assert [each.what for each in row.problems] == [f"{name} is a Git LFS pointer, not the file itself"]


def test_a_configuration_that_is_a_pointer_is_named(make, contents) -> None:
    folder = make("m", contents.files() | {"config.json": POINTER})
    with pytest.raises(CheckpointError, match=r"config.json is a Git LFS pointer"):
        list_folder(folder).json("config.json")


def test_a_tokenizer_that_is_a_pointer_is_named(make, contents) -> None:
    folder = make("m", contents.files() | {"tokenizer.json": POINTER})
    with pytest.raises(CheckpointError, match=r"tokenizer.json is a Git LFS pointer"):
        describe_folder(Candidate("m", 0, folder), Options())
