"""The environment that a command starts in: streams, working directory, arguments, variables.

Streams that cannot show a character show a plain one instead. Values that would crash a library, or that
cannot be written to a file, are refused before any work.
"""

import codecs
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from memprobe.errors import InputError, Problem

_PLAIN: Final = "memprobe.plain"
_LEVELS: Final = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_MARKS: Final = (
    "─━═│┃║╌╍┄┅╴╸╶╺→←↑↓×·…–—−±≤≥≈‘’“”¦■●•",
    "--=|||--------><^vx.~---~<>~''\"\"|#**",
)
_STAND_INS: Final = {
    **dict.fromkeys(map(chr, range(0x250C, 0x2580)), "+"),
    **dict(zip(*_LEVELS, strict=True)),
    **dict(zip(*_MARKS, strict=True)),
}
# Widths that a terminal can have; with others, a table would be only blanks.
_COLUMNS: Final = range(20, 2001)
# Variables with the number of threads that libraries start; they crash if it is too large.
_THREADS: Final = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "VECLIB_MAXIMUM_THREADS", "TOKIO_WORKER_THREADS"),
)
# Variables whose value 0 does not mean that the library chooses.
_AT_LEAST_ONE: Final = ("POLARS_MAX_THREADS",)


def tame() -> None:
    """Make stdout and stderr accept every character, and limit the width of tables."""
    codecs.register_error(_PLAIN, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_PLAIN)
    for name in ("COLUMNS", "LINES"):
        if name in os.environ and not is_width(os.environ[name]):
            del os.environ[name]


def is_width(text: str) -> bool:
    """Return whether a text is the width of a terminal, in columns."""
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) in _COLUMNS


def takes_all(stream: Any) -> bool:  # noqa: ANN401
    """Return whether a stream's encoding has every character."""
    return str(getattr(stream, "encoding", "") or "").lower().startswith("utf")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Return plain characters for those that a stream's encoding lacks; an error handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(each) or _escape(each) for each in lacking), error.end


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def refuse() -> None:
    """Refuse to work in an environment that would lose results or crash a library.

    Raises:
        InputError: The environment has problems; the error lists all of them.
    """
    if problems := [*_of_folder(), *_of_arguments(), *_of_threads()]:
        raise InputError(problems)


def _of_folder() -> Iterator[Problem]:
    try:
        here = str(Path.cwd())
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        what = "does not exist any more" if gone else f"cannot be told: {error.strerror}"
        yield Problem(f"the working directory {what}", fix="change to a folder that exists: cd FOLDER")
        return
    if not is_text(here):
        what = "the working directory's name is not UTF-8, and cannot be written to the files of a run"
        yield Problem(what, _shown(here), "rename it, or work in another folder")


def _of_arguments() -> Iterator[Problem]:
    ours = ((f"variable {name}", value) for name, value in os.environ.items() if name.startswith("MEMPROBE_"))
    for name, value in (*(("argument", value) for value in sys.argv[1:]), *ours):
        if not is_text(value):
            encoding = sys.getfilesystemencoding()
            what = f"the {name} is not text in {encoding}, and cannot be written to the files of a run"
            yield Problem(what, _shown(value), "rename the file or folder" + _locale_fix(encoding))


def _locale_fix(encoding: str) -> str:
    return "" if encoding.lower().replace("-", "") == "utf8" else ", or set LC_ALL=C.UTF-8"


def _of_threads() -> Iterator[Problem]:
    from memprobe.options import most_threads

    most = most_threads()
    for name in _THREADS:
        value = os.environ.get(name, "").strip()
        if not (value.isascii() and value.isdigit()):
            continue
        # Python refuses to convert a number with thousands of digits.
        number = int(value[:20])
        if number > most or (number == 0 and name in _AT_LEAST_ONE):
            shown = value if len(value) <= 20 else f"a number of {len(value):,} digits"
            cores = os.cpu_count() or 1
            what = f"{name} is {shown}, and this machine has {cores} cores"
            yield Problem(what, fix=f"unset it, or give a number from 1 to {most}")


def is_text(name: str) -> bool:
    """Return whether a name from the system can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
