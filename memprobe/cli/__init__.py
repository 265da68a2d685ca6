"""The command line: parse, call, print, exit code. Nothing here computes."""

import os
import sys


def main() -> None:
    """Run the command line; the entry point of `memprobe` and of `python -m memprobe`."""
    for name in ("stdout", "stderr"):
        # Started with one closed, as `>&-` does, Python has none.
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
