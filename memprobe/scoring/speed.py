"""How fast this device multiplies matrices, to estimate how long a run takes."""

import time

import torch

from memprobe.scoring.load import DTYPES

_SIZE = 1024


def matmul_flops_per_s(
    device: str, dtype: str, *, threads: int | None = None, budget_s: float = 0.2
) -> float:
    """Return floating-point operations per second of square matrix products of 1,024 rows.

    Args:
        device: Where to measure; `auto`, a model spread over GPUs, measures the first.
        dtype: float32, bfloat16 or float16.
        threads: CPU threads; None leaves torch's choice.
        budget_s: Seconds to measure for.
    """
    if threads:
        torch.set_num_threads(threads)
    # A spread model works on one device after the other: the first speaks for all.
    device = "cuda:0" if device == "auto" else device
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(_SIZE, _SIZE, generator=generator).to(device, DTYPES[dtype])
    a @ a
    _wait(device)
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < budget_s:
        a @ a
        products += 1
        _wait(device)
    return products * 2 * _SIZE**3 / (time.perf_counter() - started)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
