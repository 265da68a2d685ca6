"""The tensors of a checkpoint's weight files: names, types and sizes at once, values only on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from memprobe.checkpoints import Checkpoint, header
from memprobe.checkpoints.header import Stored
from memprobe.errors import CheckpointError
from memprobe.scoring.outside import outside

# Number of rows in which two matrices are compared at a time.
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The tensors in the weight files of one checkpoint.

    Attributes:
        folder: Folder of the files.
        tensors: Name to description of each tensor.
        pickled: Values of tensors from pickles, mapped into memory where possible, by name.
    """

    folder: Path
    tensors: Mapping[str, Stored]
    pickled: Mapping[str, Tensor]

    @property
    def n_numbers(self) -> int:
        """Number of values in all tensors together."""
        return sum(each.n_numbers for each in self.tensors.values())

    def rows(self, name: str, rows: Sequence[int]) -> Tensor:
        """Read some rows of the last two dimensions of a tensor; one with fewer dimensions is read whole.

        Raises:
            CheckpointError: The tensor cannot be read.
        """
        shape = self.tensors[name].shape
        place = (0,) * (len(shape) - 2)
        with outside("a tensor cannot be read", str(self.folder)):
            if len(shape) < 2:
                return self.whole(name)
            if name in self.pickled:
                return torch.stack([self.pickled[name][(*place, row)] for row in rows])
            with safe_open(self.folder / self.tensors[name].file, framework="pt") as file:
                part = file.get_slice(name)
                return torch.stack([part[(*place, slice(row, row + 1))].reshape(-1) for row in rows])

    def whole(self, name: str) -> Tensor:
        """Read a whole tensor.

        Raises:
            CheckpointError: The tensor cannot be read.
        """
        if name in self.pickled:
            return self.pickled[name]
        with (
            outside("a tensor cannot be read", str(self.folder)),
            safe_open(self.folder / self.tensors[name].file, framework="pt") as file,
        ):
            return file.get_tensor(name)  # type: ignore[no-any-return]

    def equal(self, one: str, two: str) -> bool:
        """Return whether two tensors hold the same values; they are compared piece by piece."""
        first, second = self.tensors[one], self.tensors[two]
        if first.shape != second.shape or not first.shape:
            return False
        with outside("a tensor cannot be read", str(self.folder)):
            if one in self.pickled:
                return torch.equal(self.pickled[one], self.pickled[two])
            with (
                safe_open(self.folder / first.file, framework="pt") as file,
                safe_open(self.folder / second.file, framework="pt") as other,
            ):
                ours, theirs = file.get_slice(one), other.get_slice(two)
                starts = range(0, first.shape[0], _CHUNK_ROWS)
                return all(
                    torch.equal(ours[n : n + _CHUNK_ROWS], theirs[n : n + _CHUNK_ROWS]) for n in starts
                )


def read_files(checkpoint: Checkpoint) -> WeightFiles:
    """Read names, types and sizes of the tensors in a checkpoint's weight files, without their values.

    Raises:
        CheckpointError: A file is damaged, or two files hold a tensor of the same name.
        ValueError: The weights are not on this machine.
    """
    if checkpoint.folder is None:
        raise ValueError(f"expected a checkpoint with its weights, got {checkpoint.label}")
    tensors: dict[str, Stored] = {}
    pickled: dict[str, Tensor] = {}
    for file in checkpoint.weight_files:
        path = checkpoint.folder / file
        found = header(path).tensors if file.endswith(".safetensors") else None
        if found is None:
            values = _read_pickle(path)
            found = {name: stored_as(value, file) for name, value in values.items()}
            pickled |= values
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            what = f"{twice[0]} is in two weight files, {tensors[twice[0]].file} and {file}"
            fix = "copy or download the checkpoint again"
            raise CheckpointError(what, where=str(checkpoint.folder), fix=fix)
        tensors |= found
    return WeightFiles(checkpoint.folder, tensors, pickled)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a pickle as the loader does; values are mapped into memory if possible."""
    with outside("a weight file cannot be read", str(path), fix="copy or download the file again"):
        try:
            held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError:
            # The format before torch 1.6 cannot be mapped.
            held = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}


def stored_as(value: Tensor, file: str = "") -> Stored:
    """Describe a tensor as its file would."""
    return Stored(str(value.dtype).removeprefix("torch."), tuple(value.shape), file)
