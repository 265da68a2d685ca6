"""Headers of safetensors files: counts by hand, and every way in which a file can be broken."""

import json
import struct
from pathlib import Path

import pytest

from memprobe.checkpoints import header
from memprobe.errors import CheckpointError


def write_file(path: Path, entries: object, data: bytes, *, n_header_bytes: int | None = None) -> Path:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    length = len(raw) if n_header_bytes is None else n_header_bytes
    path.write_bytes(struct.pack("<Q", length) + raw + data)
    return path


def tensor(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_numbers_are_counted_by_dtype_without_boolean_masks(tmp_path: Path) -> None:
    entries = {
        "__metadata__": {"format": "pt"},
        # 2 x 3 float32 are 24 bytes, 5 bfloat16 are 10, a mask of 4 bools is 4, one scalar half is 2.
        "b": tensor("BF16", [5], 24, 34),
        "a": tensor("F32", [2, 3], 0, 24),
        "mask": tensor("BOOL", [2, 2], 34, 38),
        "scalar": tensor("F16", [], 38, 40),
    }
    found = header(write_file(tmp_path / "m.safetensors", entries, bytes(40)))
    assert found.n_tensors == 4
    assert found.numbers == {"bfloat16": 5, "float32": 6, "float16": 1}
    assert found.n_parameters == 12
    assert found.n_data_bytes == 40


def test_a_file_without_tensors_has_no_numbers(tmp_path: Path) -> None:
    assert header(write_file(tmp_path / "m.safetensors", {}, b"")).n_parameters == 0


def test_a_dtype_of_the_future_is_counted_under_its_own_name(tmp_path: Path) -> None:
    path = write_file(tmp_path / "m.safetensors", {"a": tensor("F4_X", [4], 0, 2)}, bytes(2))
    assert header(path).numbers == {"f4_x": 4}


A = tensor("F32", [2], 0, 8)


@pytest.mark.parametrize(
    ("entries", "data", "n_header_bytes", "what"),
    [
        pytest.param({"a": A}, bytes(5), None, "take 8 bytes and 5 are there", id="cut short"),
        pytest.param({"a": A}, bytes(9), None, "take 8 bytes and 9 are there", id="too long"),
        pytest.param({"a": A}, b"", 10**6, "header should take 1,000,000 bytes", id="header beyond the file"),
        pytest.param({"a": A}, b"", 2**63, "and the file has", id="absurd length"),
        pytest.param(b"not json", b"", None, "not a safetensors header", id="no JSON"),
        pytest.param(b"\xff\xfe", b"", None, "not a safetensors header", id="no text"),
        pytest.param([1], b"", None, "not a safetensors header", id="no object"),
        pytest.param({"a": 3}, b"", None, "not a safetensors header", id="no tensor"),
        pytest.param({"a": {"dtype": "F32"}}, b"", None, "not a safetensors header", id="no shape"),
        pytest.param({"a": A, "b": A}, bytes(8), None, "overlap or leave gaps", id="overlap"),
        pytest.param({"a": tensor("F32", [1], 4, 8)}, bytes(8), None, "overlap or leave gaps", id="gap"),
        pytest.param(
            {"a": tensor("F32", [3], 0, 8)}, bytes(8), None, "3 F32 numbers takes 8 bytes", id="wrong shape"
        ),
    ],
)
def test_a_broken_file_says_how(tmp_path: Path, entries, data, n_header_bytes, what) -> None:
    path = write_file(tmp_path / "m.safetensors", entries, data, n_header_bytes=n_header_bytes)
    with pytest.raises(CheckpointError) as caught:
        header(path)
    (problem,) = caught.value.problems
    assert problem.what.startswith("a weight file is cut short or corrupt: ")
    assert what in problem.what
    assert problem.where == str(path)
    assert problem.fix == "copy or download the file again"


@pytest.mark.parametrize("n_bytes", [0, 7])
def test_a_file_shorter_than_its_length_field_is_corrupt(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(bytes(n_bytes))
    with pytest.raises(CheckpointError, match=f"the file has {n_bytes}"):
        header(path)


def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a weight file cannot be read: No such file"):
        header(tmp_path / "none.safetensors")


def test_the_library_that_writes_such_files_agrees(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    save_file({"x": numpy.zeros((3, 4), "float32"), "y": numpy.zeros(7, "float16")}, path)
    assert header(path).numbers == {"float32": 12, "float16": 7}
