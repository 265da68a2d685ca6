"""The application: its commands, and the one place where exceptions become exit codes."""

import errno
import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memprobe._version import __version__
from memprobe.cli import (
    checkpoints,
    compare,
    console,
    data,
    doctor,
    export,
    fetch,
    figures,
    gate,
    init,
    inspect,
    lab,
    results,
    run,
    worker,
)
from memprobe.cli.examples import epilog
from memprobe.cli.signals import Terminated, ending
from memprobe.errors import IncompleteRunError, InputError, MemprobeError, Problem

INTERNAL, INTERRUPTED = 70, 130

# Errors of the operating system that are not bugs of memprobe, with their exit codes.
_REFUSED = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), InputError.exit_code),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG), InputError.exit_code),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), IncompleteRunError.exit_code),
}


class Commands(TyperGroup):
    """The group of all commands; turns what they raise into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run the command line; a reader who leaves early, as `head` does, is not a failure."""
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except BrokenPipeError as error:
            _forget_stdout()
            # An error raised before the last flush says more than the closed pipe.
            raise SystemExit(_code(error.__context__)) from None
        except SystemExit as error:
            if not isinstance(error.__context__, BrokenPipeError):
                raise
            _forget_stdout()
            raise SystemExit(0) from None
        except OSError as error:
            # Help and usage errors are written outside of any command, and the last lines after the command.
            _forget_stdout()
            raise SystemExit(_code(error.__context__) or _unexpected(error)) from None

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command.

        Raises:
            typer.Exit: The command failed; carries the exit code that the contract defines.
        """
        try:
            with ending():
                return super().invoke(ctx)
        except MemprobeError as error:
            console.show_problems(error.problems)
            _trace()
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            console.say("interrupted: finished work is kept, the same command goes on from here")
            raise typer.Exit(INTERRUPTED) from error
        except Terminated as error:
            by = "" if error.number == signal.SIGTERM else f" by {error}"
            console.say(f"terminated{by}: finished work is kept, the same command goes on from here")
            raise typer.Exit(128 + error.number) from error
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError, SystemExit):
            raise
        except BaseException as error:
            # A panic of Polars is not an Exception, and Python's own exit code for it would be 1.
            raise typer.Exit(_unexpected(error)) from error


def _unexpected(error: BaseException) -> int:
    """Report an error that is not a MemprobeError, and return the exit code."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "make room; the same command goes on from here" if full else "name another place"
        console.show_problems([Problem(f"the system says: {error.strerror}", str(error.filename or ""), fix)])
        code = _REFUSED[error.errno]
    else:
        console.say(f"internal error: {type(error).__name__}: {error}")
        console.say(
            f"this is a bug in memprobe {__version__}; "
            "please report it with the output of the same command and -v"
        )
        code = INTERNAL
    _trace()
    return code


def _code(error: BaseException | None) -> int:
    """Return the exit code of an error that was raised before; 0 if it has none."""
    if isinstance(error, typer.TyperException):
        return error.exit_code
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 0


def _forget_stdout() -> None:
    """Discard the buffered output, so that the interpreter's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _trace() -> None:
    if console.verbose():
        console.say(traceback.format_exc())


app = typer.Typer(
    cls=Commands,
    name="memprobe",
    help="Measures what language models remember of their training data, and for how long.",
    epilog="Start with `memprobe demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memprobe {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Measures what language models remember of their training data, and for how long."""


app.command("demo", epilog=epilog("demo"))(lab.demo)
app.command("init", epilog=epilog("init"))(init.init)
app.command("run", epilog=epilog("run"))(run.run)
app.command("fetch", epilog=epilog("fetch"))(fetch.fetch)
app.command("doctor", epilog=epilog("doctor"))(doctor.doctor)
app.command("worker", epilog=epilog("worker"))(worker.worker)
app.command("status", epilog=epilog("status"))(worker.status)
app.command("summary", epilog=epilog("summary"))(results.summary)
app.command("report", epilog=epilog("report"))(figures.report)
app.command("plot", epilog=epilog("plot"))(figures.plot)
app.command("export", epilog=epilog("export"))(export.export)
app.command("compare", epilog=epilog("compare"))(compare.compare)
app.command("gate", epilog=epilog("gate"))(gate.gate)
app.add_typer(inspect.probes, name="probes")
app.add_typer(data.data, name="data")
app.add_typer(checkpoints.checkpoints, name="checkpoints")
app.add_typer(lab.lab, name="lab")
