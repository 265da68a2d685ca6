"""Check of weight files for NaN and infinite numbers, which make every score NaN.

Scoring notices them at the first batch; `checkpoints verify` reads the files, which needs neither a forward
pass nor memory for a model. Results are cached by the SHA-256 of the file.
"""

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from memprobe.checkpoints import Checkpoint
from memprobe.checkpoints.cache import read_cache, write_cache
from memprobe.checkpoints.digest import file_digest
from memprobe.errors import CheckpointError, Problem
from memprobe.scoring.files import WeightFiles, read_files
from memprobe.scoring.fit import check_fit
from memprobe.scoring.outside import outside
from memprobe.wording import counted

_CACHE = "finite.json"
# A smaller file is read faster than the cache is written.
_CACHED_FROM_BYTES = 8 * 2**20
_CHUNK_NUMBERS = 2**24
_FIX = "copy or download the checkpoint again; if its training diverged, leave it out with --steps"


def finite_problems(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> tuple[Problem, ...]:
    """Return a problem if tensors that the model loads contain NaN or infinite numbers.

    Minus infinity in a vector is allowed, because biases that mask tokens use it.

    Args:
        checkpoint: A checkpoint whose weights fit its configuration; for an adapter, the base is read too.
        trust_remote_code: Whether code of the checkpoint may run if transformers does not have the model.
    """
    if checkpoint.whole.folder is None:
        return ()
    found: tuple[Problem, ...] = ()
    try:
        left_out = check_fit(checkpoint, trust_remote_code=trust_remote_code).left_out.keys()
        for part in dict.fromkeys((checkpoint.whole, checkpoint)):
            found += _problems(part, left_out if part is checkpoint.whole else ())
    except CheckpointError as error:
        return error.problems
    return found


def _problems(checkpoint: Checkpoint, left_out: Collection[str]) -> tuple[Problem, ...]:
    files = read_files(checkpoint)
    broken = sorted(
        name for file in checkpoint.weight_files for name in _broken(files, file) if name not in left_out
    )
    if not broken:
        return ()
    more = f" and {counted(len(broken) - 1, 'more tensor')}" if len(broken) > 1 else ""
    what = f"the weights hold numbers that are NaN or infinite ({broken[0]}{more}), so the model scores NaN"
    return (Problem(what, str(checkpoint.folder), _FIX),)


def _broken(files: WeightFiles, file: str) -> list[str]:
    """Return the tensors of one file with NaN or infinite numbers; results are cached per file."""
    path = files.folder / file
    if path.stat().st_size < _CACHED_FROM_BYTES:
        return _read(files, file)
    digest = file_digest(path)
    known = read_cache(_CACHE).get(digest)
    if isinstance(known, list) and all(isinstance(name, str) for name in known):
        return known
    found = _read(files, file)
    write_cache(_CACHE, {**read_cache(_CACHE), digest: found})
    return found


def _read(files: WeightFiles, file: str) -> list[str]:
    with outside("a tensor cannot be read", str(files.folder)):
        if not file.endswith(".safetensors"):
            named = {name: value for name, value in files.pickled.items() if files.tensors[name].file == file}
            return [name for name, value in named.items() if not _is_finite(value)]
        return _read_safetensors(files.folder / file)


def _read_safetensors(path: Path) -> list[str]:
    broken = []
    with safe_open(path, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            part = opened.get_slice(name)
            shape = part.get_shape()
            if len(shape) < 2:
                is_sound = _is_finite(opened.get_tensor(name))
            else:
                n_rows = max(1, _CHUNK_NUMBERS * shape[0] // max(1, torch.Size(shape).numel()))
                is_sound = all(_is_finite(part[row : row + n_rows]) for row in range(0, shape[0], n_rows))
            if not is_sound:
                broken.append(name)
    return broken


def _is_finite(values: Tensor) -> bool:
    if not values.is_floating_point() or not values.numel():
        return True
    if values.itemsize == 1:
        # torch cannot test one-byte numbers.
        values = values.float()
    if values.ndim < 2:
        return not bool((values.isnan() | values.isposinf()).any())
    return bool(values.isfinite().all())
