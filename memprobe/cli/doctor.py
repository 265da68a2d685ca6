"""`memprobe doctor`: checks whether this machine, or a model, is fit for measurements."""

from textwrap import fill
from typing import TYPE_CHECKING, Annotated

from memprobe.cli import console, options
from memprobe.errors import InvalidRunError, install_command
from memprobe.wording import counted

if TYPE_CHECKING:
    from memprobe.bench.doctor import Examination
    from memprobe.options import RunOptions
    from memprobe.scoring.devices import Device
    from memprobe.scoring.invariance import Invariance


# Lists are wrapped to this many columns even if plain output is wider: people read them.
_WIDTH = 79


def doctor(
    invariance: Annotated[
        bool,
        options.option(
            "--invariance", help="Score items alone and inside a batch, and compare; needs -m MODEL."
        ),
    ] = False,
    model: options.Model = None,
    data: options.Data = None,
    steps: options.Steps = None,
    stages: options.Stages = None,
    tokenizer: options.Tokenizer = None,
    limit: options.Limit = None,
    bos: options.Bos = None,
    device: options.Device = None,
    dtype: options.DType = None,
    threads: options.Threads = None,
    offline: options.Offline = None,
    trust_remote_code: options.RemoteCode = None,
    allow_pickle: options.Pickle = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Show versions, devices, threads and disk, what is wrong with them and how to fix it.

    With --invariance: whether a model scores an item alone as it does inside a ragged batch. Exit code
    3 where float32 does not; bfloat16 and float16 round, so their gap is shown and decides nothing.
    """
    options.begin(quiet, verbose)
    if not invariance:
        if model or data:
            console.note("note: -m and -d have an effect only with --invariance")
        _examine(json=json)
        return
    from memprobe.options import RunOptions

    given = {
        "model": tuple(model or ()),
        "data": tuple(data or ()),
        "steps": steps,
        "stages": stages,
        "tokenizer": tokenizer,
        "limit": limit,
        "bos": bos,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "offline": offline,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
    }
    _invariance(RunOptions().overlaid(given), json=json)


def _examine(*, json: bool) -> None:
    from memprobe.bench.doctor import examine

    found = examine()
    if json:
        console.show_json(found.as_json())
        return
    _show_software(found)
    _show_machine(found)
    for problem in found.problems:
        console.show_line(f"wrong: {problem}")
    console.show(
        f"{counted(len(found.problems), 'problem')} to fix" if found.problems else "nothing is wrong"
    )


def _show_software(found: "Examination") -> None:
    system = found.system
    console.show(
        f"memprobe {system['memprobe']}, Python {system['python']}, {system['system']} {system['machine']}"
    )
    needed = [each for each in found.packages if not each.extra]
    if needed:
        versions = [f"{each.name} {each.version or 'missing'}" for each in needed]
        console.show(fill(f"packages: {', '.join(versions)}", _WIDTH))
    for each in found.packages:
        if each.extra:
            state = each.version or f"not installed ({install_command(each.extra)})"
            console.show(f"optional: {each.name} {state}")
    for name, value in found.environment.items():
        console.show_line(f"environment: {name}={value}")


def _show_machine(found: "Examination") -> None:
    memory = f", {_gb(found.memory_bytes)} of memory" if found.memory_bytes else ""
    threads = f", torch takes {counted(found.threads, 'thread')}" if found.threads else ""
    console.show(f"machine: {counted(found.cores, 'core')}{threads}{memory}")
    for each in found.devices:
        console.show(f"device: {_device(each)}")
    console.show(
        f"disk: {_gb(found.here.free_bytes)} free here, {_gb(found.hub_cache.free_bytes)} at the hub cache"
    )
    console.show_line(f"hub cache: {found.hub_cache.path}")


def _device(device: "Device") -> str:
    parts = [f"{device.name} {device.title}".strip()]
    if device.memory_bytes is not None and device.free_bytes is not None:
        parts.append(f"{_gb(device.free_bytes)} of {_gb(device.memory_bytes)} free")
    support = {True: "bfloat16 in hardware", False: "no bfloat16 in hardware", None: "bfloat16 unknown"}
    return ", ".join([*parts, support[device.bfloat16]])


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"


def _invariance(asked: "RunOptions", *, json: bool) -> None:
    from memprobe.bench.doctor import check_invariance
    from memprobe.scoring.conduct import TOLERANCE_NATS

    console.note("scoring items alone and inside a batch ...")
    found = check_invariance(asked)
    if json:
        console.show_json(found.as_json())
    else:
        _show_invariance(found)
    if not found.holds:
        raise InvalidRunError(
            f"an item alone and inside a batch differs by {found.gap_nats:.2g} nats per token in float32, "
            f"more than {TOLERANCE_NATS:g}",
            where=found.label,
            fix="scores of this model cannot be trusted: it reads its padding; please report it",
        )


def _show_invariance(found: "Invariance") -> None:
    from memprobe.report.plain import headed, plain_table

    table = plain_table("The same item alone and inside a ragged batch")
    for name in ("item", "tokens", "largest gap, nats", "flips"):
        table.add_column(name, justify="left" if name == "item" else "right")
    for gap in found.gaps:
        table.add_row(gap.item_id, f"{gap.n_scored:,}", f"{gap.gap_nats:.1e}", f"{gap.n_flips:,}")
    console.show(headed(table))
    console.show(
        f"{found.dtype} on {found.device}, {found.path} path: largest gap {found.gap_nats:.1e} nats per token"
    )
    console.show(f"{counted(found.n_flips, 'greedy choice')} of {found.n_scored:,} flipped")
