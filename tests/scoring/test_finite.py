"""Numbers in weight files that are none: found in every format, and where they forbid nothing by intent."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memprobe.checkpoints import resolve
from memprobe.scoring import finite
from memprobe.scoring.finite import finite_problems

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved("gpt_neox"), tmp_path / "model"))


def problems(folder: Path) -> list[str]:
    (sequence,) = resolve([str(folder)], allow_pickle=True, needs_tokenizer=False)
    return [each.what for each in finite_problems(sequence.checkpoints[0])]


def edit(folder: Path, name: str, value: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    assert weights[name].shape == value.shape, "a test that damages nothing"
    save_file(weights | {name: value}, folder / "model.safetensors")


def weight_of(folder: Path, name: str) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[name].clone()


def test_sound_weights_have_no_problem(folder) -> None:
    assert problems(folder) == []


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_matrix_with_one_number_that_is_none_is_named(folder, value: float) -> None:
    matrix = weight_of(folder, "embed_out.weight")
    matrix[-1, -1] = value
    edit(folder, "embed_out.weight", matrix)
    (what,) = problems(folder)
    assert "(embed_out.weight)" in what


@pytest.mark.parametrize(("value", "n_problems"), [(NAN, 1), (INF, 1), (-INF, 0)])
def test_minus_infinity_in_a_vector_is_a_bias_that_forbids(folder, value: float, n_problems: int) -> None:
    bias = weight_of(folder, "gpt_neox.final_layer_norm.bias")
    bias[0] = value
    edit(folder, "gpt_neox.final_layer_norm.bias", bias)
    assert len(problems(folder)) == n_problems


def test_every_piece_of_a_matrix_is_read(folder, monkeypatch) -> None:
    monkeypatch.setattr(finite, "_CHUNK_NUMBERS", 50)
    for row in (0, 7, -1):
        matrix = weight_of(folder, "embed_out.weight")
        matrix[row, 0] = NAN
        edit(folder, "embed_out.weight", matrix)
        assert len(problems(folder)) == 1
        matrix[row, 0] = 0.0
        edit(folder, "embed_out.weight", matrix)


def test_a_pickle_is_read_too(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embed_out.weight"][0, 0] = NAN
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (what,) = problems(folder)
    assert "(embed_out.weight)" in what


def test_what_the_model_does_not_take_is_not_looked_at(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    extra = {"gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9)}
    save_file(weights | extra, folder / "model.safetensors")
    assert problems(folder) == []


def test_numbers_of_one_byte_are_read() -> None:
    values = torch.zeros(4, 4).to(torch.float8_e4m3fn)
    assert finite._is_finite(values)
    values[1, 1] = NAN
    assert not finite._is_finite(values)
    assert finite._is_finite(torch.zeros(2, 2, dtype=torch.int8))


def test_a_file_once_read_is_remembered_by_its_content(folder, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(finite, "_CACHED_FROM_BYTES", 0)
    read = []
    monkeypatch.setattr(finite, "_is_finite", lambda values: read.append(1) or bool(values.isfinite().all()))
    assert problems(folder) == []
    n_read = len(read)
    assert n_read > 0
    assert problems(folder) == []
    assert len(read) == n_read
    matrix = weight_of(folder, "embed_out.weight")
    matrix[0, 0] = NAN
    edit(folder, "embed_out.weight", matrix)
    assert len(problems(folder)) == 1
    assert len(json.loads((tmp_path / "cache" / "memprobe" / "finite.json").read_text())) == 2
