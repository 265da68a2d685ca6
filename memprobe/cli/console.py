"""What the command line writes: results to stdout, everything else to stderr.

Not a terminal, or NO_COLOR: plain lines without control codes.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from memprobe.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

    from memprobe.scoring.engine import ScoringProgress

_STATE = {"verbosity": 0}
_LINE_EVERY_S = 10.0


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Set how much goes to stderr for the rest of this command."""
    _STATE["verbosity"] = -1 if quiet else int(verbose)


def verbose() -> bool:
    """Whether tracebacks and details were asked for."""
    return _STATE["verbosity"] > 0


def quiet() -> bool:
    """Whether nothing but errors goes to stderr."""
    return _STATE["verbosity"] < 0


def plain(stream: Any) -> bool:  # noqa: ANN401
    """Whether a stream takes plain lines only."""
    return bool(os.environ.get("NO_COLOR")) or not stream.isatty() or os.environ.get("TERM") == "dumb"


def stdout() -> "Console":
    """Return a console for results."""
    return _console(sys.stdout)


def stderr() -> "Console":
    """Return a console for progress and messages."""
    return _console(sys.stderr)


def _console(stream: Any) -> "Console":  # noqa: ANN401
    from functools import partial

    from rich.console import Console

    # What is shown is names and numbers of the user's: brackets and colons in it mean nothing.
    literal = partial(Console, file=stream, highlight=False, markup=False, emoji=False)
    if plain(stream):
        return literal(force_terminal=False, color_system=None, width=_width())
    return literal()


@cache
def _width() -> int | None:
    """Return the width of plain output: COLUMNS, or wide enough that nothing is cut in a log."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdigit() and int(columns) else 120


def say(text: str) -> None:
    """Write a line to stderr, whatever the verbosity."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def note(text: str) -> None:
    """Write a line to stderr, unless quiet."""
    if not quiet():
        say(text)


def show(renderable: "RenderableType") -> None:
    """Write a result to stdout."""
    stdout().print(renderable, crop=False)


def show_line(text: str) -> None:
    """Write a result line to stdout that is not wrapped: a path or a command, to be copied whole."""
    stdout().print(text, soft_wrap=True)


def show_json(value: object) -> None:
    """Write one JSON document to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201


def show_problems(problems: Iterable[Problem]) -> None:
    """Write what went wrong to stderr: what, where, what to do."""
    for problem in problems:
        say(f"error: {problem}")


@dataclass(slots=True)
class Progressing:
    """Shows how a run goes on: a bar on a terminal, a line now and then elsewhere.

    Use as a context manager; it is a `Listener` of `memprobe.run`.
    """

    started: float = field(default_factory=time.monotonic)
    last_line: float = 0.0
    last_revision: str = ""
    units_before: int = 0
    bar: "Progress | None" = None
    task: "TaskID | None" = None

    def __enter__(self) -> "Progressing":
        if not quiet() and not plain(sys.stderr):
            self.bar = _bar()
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def stage(self, name: str) -> None:
        """Say which stage begins."""
        words = {"read": "reading items and checkpoints", "plan": "planning", "measure": "measuring"}
        if self.bar is not None:
            if self.task is not None and name == "measure":
                self.bar.update(self.task, visible=False)
            self.bar.update(self._stage_task(), description=words.get(name, "scoring"), total=None)
        elif name in words:
            note(f"{words[name]} ...")

    def _stage_task(self) -> "TaskID":
        if self.bar is None:
            raise ValueError("there is no bar")
        if self.task is None:
            self.task = self.bar.add_task("", total=None, rate="")
        return self.task

    def note(self, text: str) -> None:
        """Say something that is no error."""
        note(f"note: {text}")

    def scoring(self, progress: "ScoringProgress") -> None:
        """Show checkpoint, units, items a second and the time left."""
        now = time.monotonic()
        if progress.items_done == 0:
            self.started, self.units_before = now, progress.units_done
        rate = progress.items_done / max(now - self.started, 1e-9)
        place = f"checkpoint {progress.checkpoint}/{progress.n_checkpoints} {progress.revision}"
        if self.bar is not None:
            self.bar.update(
                self._stage_task(),
                description=place,
                completed=progress.units_done,
                total=progress.n_units,
                rate=f"{progress.units_done}/{progress.n_units} units, {rate:,.0f} items/s",
                visible=True,
            )
        elif progress.revision != self.last_revision or now - self.last_line > _LINE_EVERY_S:
            left = _time_left(
                now - self.started,
                progress.units_done - self.units_before,
                progress.n_units - progress.units_done,
            )
            note(
                f"scoring {place}: {progress.units_done}/{progress.n_units} units, {rate:,.0f} items/s{left}"
            )
            self.last_line, self.last_revision = now, progress.revision


def _time_left(spent_s: float, done: int, left: int) -> str:
    return f", about {spent_s / done * left:,.0f} s left" if done > 0 else ""


def _bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
    )
