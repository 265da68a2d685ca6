"""The command line: parse, call, print, exit code. Nothing here computes."""

# Only the built-in part of `signal`: importing the rest takes milliseconds in which Ctrl-C shows a traceback.
import _signal  # type: ignore[import-not-found]
import os
import sys


def main() -> None:
    """Run the command line; the entry point of `memprobe` and of `python -m memprobe`."""
    _end_quietly()
    for name in ("stdout", "stderr"):
        # Python sets a stream to None if it was closed at the start, as with `>&-`.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        from memprobe.cli import console, surroundings
        from memprobe.cli.app import app

        surroundings.tame()
        if console.plain(sys.stdout) or console.plain(sys.stderr):
            # Typer's help and usage errors draw with bold and dim even where NO_COLOR is set.
            os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
        app(prog_name="memprobe")
    except KeyboardInterrupt:
        sys.exit(130)


def _end_quietly() -> None:
    """Let Ctrl-C end the process silently with code 130 until a command begins.

    During imports, KeyboardInterrupt could be raised anywhere, even where it is only printed.
    """
    # Shells start background jobs with SIGINT ignored; it stays ignored.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, lambda *_: os._exit(128 + _signal.SIGINT))
