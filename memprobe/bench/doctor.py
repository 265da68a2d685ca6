"""Is this machine fit to measure? Versions, devices, threads, disk, caches, and what to fix.

`examine` looks and changes nothing; `check_invariance` scores a handful of items in two ways.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from memprobe.errors import DISTRIBUTION, CheckpointError, ItemError, Problem, install_command
from memprobe.options import RunOptions
from memprobe.shipped import shipped_folder
from memprobe.wording import counted

if TYPE_CHECKING:
    from memprobe.checkpoints import Checkpoint
    from memprobe.scoring.devices import Device
    from memprobe.scoring.invariance import Invariance
    from memprobe.scoring.load import LoadedModel

# Less than this is soon full: a run writes megabytes, one model of a billion parameters 2 to 4 GB.
_RUN_BYTES, _CACHE_BYTES = 10**9, 10**10
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_TELLING = (*_OFFLINE, "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that memprobe uses.

    Attributes:
        name: Name in the package registry.
        wanted: The versions that are allowed, like `>=2.8,<3`.
        version: The installed version; None if it is not installed.
        extra: The extra that installs it; empty if every installation needs it.
    """

    name: str
    wanted: str
    version: str | None
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """A place on disk.

    Attributes:
        path: The folder, which need not exist.
        free_bytes: Free bytes.
        writable: Whether this user may write there.
    """

    path: str
    free_bytes: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings of an examination of this machine.

    Attributes:
        system: Operating system, machine, Python and memprobe.
        packages: Packages that memprobe needs, and packages of its extras.
        devices: The CPU and every accelerator; empty if torch cannot be imported.
        cores: CPU cores that this process may use.
        threads: Threads that torch uses; None if torch cannot be imported.
        memory_bytes: Memory of the machine; None if unknown.
        here: The working directory.
        hub_cache: Where models and data sets from the hub are.
        environment: Environment variables that change the behaviour, and every `MEMPROBE_*`.
        problems: What is wrong, and how to fix it.
    """

    system: Mapping[str, str]
    packages: tuple[Package, ...]
    devices: "tuple[Device, ...]"
    cores: int
    threads: int | None
    memory_bytes: int | None
    here: Disk
    hub_cache: Disk
    environment: Mapping[str, str]
    problems: tuple[Problem, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        return asdict(self)


def examine() -> Examination:
    """Examine this machine and report problems for a run."""
    packages = tuple(_packages())
    problems = [problem for package in packages if (problem := _package_problem(package))]
    found, threads, torch_problems = _devices()
    here, cache = _disk(Path.cwd()), _disk(_hub_cache())
    problems += [*torch_problems, *_disk_problems(here, cache)]
    cores = _cores()
    if threads is not None and threads > cores:
        problems.append(
            Problem(
                f"torch takes {counted(threads, 'thread')} and this process may use {counted(cores, 'core')}",
                fix=f"pass --threads {cores}, or set OMP_NUM_THREADS={cores}",
            )
        )
    environment = _environment()
    problems += _environment_problems(environment)
    return Examination(
        _system(), packages, found, cores, threads, _memory_bytes(), here, cache, environment, tuple(problems)
    )


def _system() -> dict[str, str]:
    from memprobe._version import __version__

    return {
        "memprobe": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def _packages() -> Iterator[Package]:
    """Yield the requirements of the installed distribution, without development tools."""
    from packaging.requirements import Requirement

    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for line in wanted:
        requirement = Requirement(line)
        extra = str(requirement.marker).partition("extra == ")[2].strip("\"'") if requirement.marker else ""
        if extra not in ("dev", "docs"):
            yield Package(requirement.name, str(requirement.specifier), _version(requirement.name), extra)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package_problem(package: Package) -> Problem | None:
    """Return what is wrong with a package; one that belongs to an extra may be missing."""
    from packaging.specifiers import SpecifierSet

    if package.version is None:
        missing = Problem(f"{package.name} is not installed", fix=install_command(package.extra))
        return None if package.extra else missing
    if SpecifierSet(package.wanted).contains(package.version, prereleases=True):
        return None
    return Problem(
        f"{package.name} is {package.version}, memprobe needs {package.wanted}",
        fix=install_command(package.extra, upgrade=True),
    )


def _devices() -> "tuple[tuple[Device, ...], int | None, list[Problem]]":
    try:
        from memprobe.scoring.devices import cpu_threads, cuda_build, devices
    except ImportError as error:
        text = str(error).splitlines()[0]
        return (), None, [Problem(f"torch cannot be imported: {text}", fix="install torch again")]
    found = tuple(devices())
    problems = []
    if _sees_nvidia() and not any(device.name.startswith("cuda") for device in found):
        problems.append(_unused_gpu(cuda_build()))
    return found, cpu_threads(), problems


def _sees_nvidia() -> bool:
    return any(Path("/proc/driver/nvidia/gpus").glob("*")) or any(Path("/dev").glob("nvidia[0-9]*"))


def _unused_gpu(build: str | None) -> Problem:
    """Return why torch does not use the system's NVIDIA GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Problem("CUDA_VISIBLE_DEVICES hides every GPU", fix="unset it to score on a GPU")
    if build is None:
        return Problem(
            "there is an NVIDIA GPU, and this torch is built for the CPU alone",
            fix="install the CUDA build: choose it on PyTorch's install page",
        )
    return Problem(
        f"there is an NVIDIA GPU, and torch, built for CUDA {build}, cannot use it",
        fix="update the driver, or install a torch built for an older CUDA; nvidia-smi shows the driver's",
    )


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _disk(path: Path) -> Disk:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return Disk(str(path), shutil.disk_usage(there).free, os.access(there, os.W_OK))


def _disk_problems(here: Disk, cache: Disk) -> Iterator[Problem]:
    for disk, least, name, fix in (
        (here, _RUN_BYTES, "the working directory", "make room, or name another run directory with -o"),
        (cache, _CACHE_BYTES, "the hub cache", "make room, or set HF_HUB_CACHE to another disk"),
    ):
        if not disk.writable:
            yield Problem(f"{name} cannot be written to", disk.path, fix.removeprefix("make room, or "))
        if disk.free_bytes < least:
            free, need = disk.free_bytes / 1e9, least / 1e9
            yield Problem(f"{name} has {free:.1f} GB free, less than {need:.0f} GB", disk.path, fix)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux says which cores a process may use
        return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _environment() -> dict[str, str]:
    """Return the relevant variables; for a token, only whether it is set."""
    telling = {name: os.environ[name] for name in _TELLING if name in os.environ}
    ours = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MEMPROBE_")}
    token = {"HF_TOKEN": "(set)"} if os.environ.get("HF_TOKEN") else {}
    return telling | ours | token


def _environment_problems(environment: Mapping[str, str]) -> Iterator[Problem]:
    on = [name for name in _OFFLINE if environment.get(name, "").lower() in ("1", "true", "yes", "on")]
    if on and "HF_HUB_OFFLINE" not in on:
        yield Problem(
            f"HF_HUB_OFFLINE is not set beside {' and '.join(on)}: models are still looked up on the hub",
            fix="set HF_HUB_OFFLINE=1 as well, or pass --offline",
        )


def check_invariance(options: RunOptions) -> "Invariance":
    """Score a handful of items alone and inside a ragged batch; see `memprobe.scoring.invariance`.

    Args:
        options: As of a run: the last checkpoint of the first model is taken; without item files, texts
            that ship.

    Raises:
        InputError: The model or the items cannot be used.
        SafetyError: Something unsafe, or the network under `offline`, would be needed.
    """
    from memprobe.items import read_items
    from memprobe.scoring.invariance import choose_items, measure_invariance
    from memprobe.scoring.load import read_limits
    from memprobe.scoring.tokenise import tokenise
    from memprobe.scoring.tokenizer import load_tokenizer

    data = options.data or (str(shipped_folder("data") / "invariance.jsonl"),)
    items = read_items(
        data,
        limit=options.limit,
        on_bad=options.on_bad_item,
        offline=options.offline,
        mapping=options.map if options.data else (),
    )
    checkpoint = _last_checkpoint(options, needs_tokenizer=items.table["input_ids"].null_count() > 0)
    limits = read_limits(checkpoint, trust_remote_code=options.trust_remote_code)
    folder = checkpoint.tokenizer_folder
    tokenizer = load_tokenizer(folder, trust_remote_code=options.trust_remote_code) if folder else None
    # Foils are compared with nothing here, and items given as ids need no tokenizer without them.
    table = items.table.with_columns(foil=pl.lit(None, dtype=pl.String))
    chosen = choose_items(tokenise(table, tokenizer, bos=options.bos, limits=limits), limits.context_tokens)
    if not chosen:
        raise ItemError("no item has a token to score", where=", ".join(data), fix="give longer items")
    longest = max(len(each.ids) for each in chosen.values())
    loaded = _load(checkpoint, options, limits.stored_dtype, longest)
    return measure_invariance(loaded, chosen, label=checkpoint.label)


def _last_checkpoint(options: RunOptions, *, needs_tokenizer: bool) -> "Checkpoint":
    from memprobe.checkpoints import fetch, resolve

    if not options.model:
        raise CheckpointError("no model was given", fix="name one with -m MODEL")
    sequences = resolve(
        options.model[:1],
        steps=options.steps,
        stages=options.stages,
        tokenizer=options.tokenizer,
        offline=options.offline,
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
        needs_tokenizer=needs_tokenizer,
    )
    return fetch(sequences[0].checkpoints[-1], offline=options.offline)


def _load(
    checkpoint: "Checkpoint", options: RunOptions, stored_dtype: str, longest_tokens: int
) -> "LoadedModel":
    from memprobe.scoring.devices import set_cpu_threads
    from memprobe.scoring.load import LoadOptions, load, quiet_libraries, resolve_device

    quiet_libraries()
    if options.threads:
        set_cpu_threads(options.threads)
    device = resolve_device(options.device, n_bytes=checkpoint.n_bytes)
    usual = "float32" if device == "cpu" else stored_dtype
    dtype = usual if options.dtype == "auto" else options.dtype
    wanted = LoadOptions(device, dtype, options.trust_remote_code, options.allow_pickle, longest_tokens)
    return load(checkpoint, wanted)
