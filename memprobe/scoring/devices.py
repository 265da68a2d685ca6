"""The devices that this machine can compute on, as torch sees them."""

from dataclasses import dataclass
from pathlib import Path

import torch

# Names that Linux gives to instructions that multiply bfloat16, on x86 and on Arm.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Device:
    """A device that scoring could use.

    Attributes:
        name: Name as `--device` takes it.
        title: Product name; empty if the system does not report it.
        memory_bytes: Total memory; None for a CPU and where memory is shared.
        free_bytes: Free memory; None where `memory_bytes` is.
        bfloat16: Whether it multiplies bfloat16 in hardware; None if unknown.
    """

    name: str
    title: str
    memory_bytes: int | None
    free_bytes: int | None
    bfloat16: bool | None


def devices() -> list[Device]:
    """Return the CPU and every accelerator that scoring could use."""
    found = [_cpu()]
    if torch.cuda.is_available():
        found += [_cuda(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None, None, None))
    return found


def cuda_build() -> str | None:
    """Return the CUDA or ROCm version that torch was built for; None for a CPU build."""
    return torch.version.cuda or torch.version.hip


def cpu_threads() -> int:
    """Return the number of CPU threads that torch uses unless `--threads` says otherwise."""
    return torch.get_num_threads()


def set_cpu_threads(threads: int) -> None:
    """Set the number of CPU threads that torch uses."""
    torch.set_num_threads(threads)


def _cpu() -> Device:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Device("cpu", "", None, None, None)
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(about.get("flags", about.get("Features", "")).split())
    return Device(
        "cpu", about.get("model name", ""), None, None, bool(flags & _BF16_FLAGS) if flags else None
    )


def _cuda(number: int) -> Device:
    free, total = torch.cuda.mem_get_info(number)
    with torch.cuda.device(number):
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(f"cuda:{number}", torch.cuda.get_device_name(number), total, free, bfloat16)
