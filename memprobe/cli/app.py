"""The application: its commands, and the one place where exceptions become exit codes."""

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from memprobe import __version__
from memprobe.cli import console, inspect, lab, results, run
from memprobe.errors import MemprobeError

INTERNAL, INTERRUPTED, TERMINATED = 70, 130, 143


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it must pass every handler of ordinary errors."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise Terminated


class Commands(TyperGroup):
    """The group of all commands; turns what they raise into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command.

        Raises:
            typer.Exit: With the code of the contract.
        """
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except MemprobeError as error:
            console.show_problems(error.problems)
            _trace()
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            console.say("interrupted: finished work is kept, the same command goes on from here")
            raise typer.Exit(INTERRUPTED) from error
        except Terminated as error:
            console.say("terminated: finished work is kept, the same command goes on from here")
            raise typer.Exit(TERMINATED) from error
        except BrokenPipeError as error:
            # Whoever read our output has gone, as `head` does: there is nobody left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            console.say(f"internal error: {type(error).__name__}: {error}")
            console.say(
                "this is a bug in memprobe; please report it with the output of the same command and -v"
            )
            _trace()
            raise typer.Exit(INTERNAL) from error
        finally:
            signal.signal(signal.SIGTERM, before)


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


app.command("demo")(lab.demo)
app.command("run")(run.run)
app.command("summary")(results.summary)
app.command("export")(results.export)
app.add_typer(inspect.probes, name="probes")
app.add_typer(lab.lab, name="lab")
