"""The flags that mean the same everywhere, as annotated types; one `MEMPROBE_*` variable per long flag."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from memprobe.cli import console, surroundings
from memprobe.errors import InputError
from memprobe.options import RunOptions, check_number, number_ranges

# Maximum number of digits of a number in an option.
_DIGITS = 20

# Defaults that `--help` shows for flags whose None means that the choice is made later.
_CHOSEN_LATER = {"batch_tokens": "auto", "threads": "torch decides", "limit": "all items", "resume": "resume"}


def option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:  # noqa: ANN401
    """Return an option that can also be given as a `MEMPROBE_*` variable; `--help` shows its default."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    name = long.removeprefix("--").replace("-", "_")
    return typer.Option(
        *names,
        help=help,
        envvar=f"MEMPROBE_{name.upper()}",
        show_envvar=False,
        show_default=_shown_default(name) or True,
        rich_help_panel=panel,
        **more,
    )


def _shown_default(name: str) -> str:
    """Return the default of a flag of `RunOptions` in words; empty if the flag has none there.

    Commands take None for a flag that was not given, so that a suite's `[run]` table can set it.
    """
    value = getattr(RunOptions(), name, None)
    if name in _CHOSEN_LATER or value in (None, ()):
        return _CHOSEN_LATER.get(name, "")
    return ("" if value else "no-") + name.replace("_", "-") if isinstance(value, bool) else str(value)


def _in_range(name: str) -> Callable[[int | None], int | None]:
    """Return a callback that checks an option's value before any library uses it."""

    def check(value: int | None) -> int | None:
        check_number(name, value)
        return value

    return check


_WHAT, _HOW, _SAFE, _SHOWN = "What is measured", "Where and how fast", "Safety", "Output"

Model = Annotated[
    list[str] | None,
    option(
        "--model",
        "-m",
        help="Model: a folder, or org/name@step{0,1000}. Repeatable.",
        metavar="SPEC",
        panel=_WHAT,
    ),
]
Data = Annotated[
    list[str] | None,
    option(
        "--data",
        "-d",
        help="Item file (jsonl, json, csv, parquet, txt, hf:NAME:SPLIT). Repeatable.",
        metavar="FILE",
        panel=_WHAT,
    ),
]
Map = Annotated[
    list[str] | None,
    option(
        "--map",
        help="Read a column of the item files under another name, like text=sentence. Repeatable.",
        metavar="OURS=THEIRS",
        panel=_WHAT,
    ),
]
Control = Annotated[
    str | None,
    option(
        "--control",
        help="A model that did not train on the items: rates are also given in excess of its own.",
        metavar="SPEC",
        panel=_WHAT,
    ),
]
ProbeNames = Annotated[
    list[str] | None,
    option("--probe", "-p", help="Only this probe. Repeatable.", metavar="NAME", panel=_WHAT),
]
Settings = Annotated[
    list[str] | None,
    option(
        "--set",
        help="A probe's setting, like recall.suffix_tokens=20. Repeatable.",
        metavar="PROBE.KEY=VALUE",
        panel=_WHAT,
    ),
]
Steps = Annotated[
    str | None,
    option("--steps", help="Which checkpoints, like 0,1000..143000:1000.", metavar="STEPS", panel=_WHAT),
]
Stages = Annotated[
    str | None,
    option(
        "--stages",
        help="Training order of stages, like stage1,stage2; steps continue from one stage to the next.",
        metavar="LABELS",
        panel=_WHAT,
    ),
]
Tokenizer = Annotated[
    str | None,
    option("--tokenizer", help="Use this tokenizer for all checkpoints.", metavar="SPEC", panel=_WHAT),
]
Limit = Annotated[
    int | None,
    option(
        "--limit",
        "-L",
        help="The first N items of all files together.",
        metavar="N",
        panel=_WHAT,
        callback=_in_range("limit"),
    ),
]
Bos = Annotated[
    Literal["default", "none", "forced"] | None,
    option(
        "--bos",
        help="Tokens before a text: those that the tokenizer adds, none, or BOS.",
        panel=_WHAT,
    ),
]
OnBadItem = Annotated[
    Literal["error", "skip"] | None,
    option(
        "--on-bad-item", help="What to do with a bad item: stop, or leave it out and count it.", panel=_WHAT
    ),
]
Seed = Annotated[
    int | None,
    option("--seed", help="Of every random draw.", metavar="N", panel=_WHAT, callback=_in_range("seed")),
]
Out = Annotated[Path | None, option("--out", "-o", help="The run directory.", metavar="PATH", panel=_SHOWN)]
Device = Annotated[
    str | None, option("--device", help="auto, cpu, cuda:N or mps.", metavar="DEVICE", panel=_HOW)
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    option("--dtype", help="auto: float32 on a CPU, the stored dtype elsewhere.", panel=_HOW),
]
BatchTokens = Annotated[
    str | None, option("--batch-tokens", help="Tokens of one batch, or auto.", metavar="N|auto", panel=_HOW)
]
KeepCheckpoints = Annotated[
    str | None,
    option(
        "--keep-checkpoints",
        help="Keep at most this many fetched checkpoints on disk; `all` keeps every one.",
        metavar="N|all",
        panel=_HOW,
    ),
]
Threads = Annotated[
    int | None,
    option("--threads", help="CPU threads.", metavar="N", panel=_HOW, callback=_in_range("threads")),
]
Resume = Annotated[
    bool | None,
    option("--resume/--fresh", help="Go on where a run stopped, or empty its directory first.", panel=_HOW),
]
Offline = Annotated[bool | None, option("--offline/--no-offline", help="Refuse the network.", panel=_SAFE)]
RemoteCode = Annotated[
    bool | None,
    option(
        "--trust-remote-code/--no-trust-remote-code", help="Run code that comes with a model.", panel=_SAFE
    ),
]
Pickle = Annotated[
    bool | None,
    option("--allow-pickle/--no-allow-pickle", help="Read weights that are not safetensors.", panel=_SAFE),
]
IncludeText = Annotated[
    bool | None,
    option("--include-text/--no-include-text", help="Write text and token ids to tables.", panel=_SAFE),
]
Quiet = Annotated[bool, option("--quiet", "-q", help="Only errors on stderr.", panel=_SHOWN)]
Verbose = Annotated[
    bool, option("--verbose", "-v", help="Print more, and tracebacks of errors.", panel=_SHOWN)
]
Json = Annotated[bool, option("--json", help="Print only JSON to stdout.", panel=_SHOWN)]


def batch_tokens(text: str | None) -> int | None:
    """Return the number that `--batch-tokens` gives; None for auto.

    Raises:
        InputError: It is neither a number nor `auto`.
    """
    return None if text == "auto" else _number("batch_tokens", text, "auto")


def keep_checkpoints(text: str | None) -> int | None:
    """Return the number that `--keep-checkpoints` gives; 0 for all, None if it was not given.

    Raises:
        InputError: It is neither a number nor `all`.
    """
    return 0 if text == "all" else _number("keep_checkpoints", text, "all")


def _number(name: str, text: str | None, word: str) -> int | None:
    if text is None:
        return None
    least, most = number_ranges()[name]
    digits = text.isascii() and text.isdigit()
    # Python refuses to convert a number with thousands of digits.
    if digits and (len(text) > _DIGITS or int(text) > most):
        raise InputError(f"--{name.replace('_', '-')} is more than {most}", fix=f"give {word} or a number")
    if not digits or int(text) < least:
        raise InputError(f"--{name.replace('_', '-')} is {text}, not {word} or a number of {least} or more")
    return int(text)


def begin(quiet: bool, verbose: bool) -> None:
    """Set up the output of a command, and refuse to start in an environment in which it would fail.

    Raises:
        InputError: The working directory, an argument or a variable cannot be used.
    """
    console.set_verbosity(quiet, verbose)
    surroundings.refuse()
