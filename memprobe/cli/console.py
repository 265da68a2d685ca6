"""Output of the command line: results to stdout, everything else to stderr.

If a stream is not a terminal, or NO_COLOR is set, it gets plain lines without control codes.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from memprobe.cli.surroundings import is_text, is_width, takes_all
from memprobe.errors import Problem
from memprobe.tables.checked_json import finite
from memprobe.wording import counted, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

    from memprobe.scoring.chain import SearchStep
    from memprobe.scoring.job import ScoringProgress

_STATE = {"verbosity": 0}
_LINE_EVERY_S = 10.0
_DAY_S = 86_400.0
# Seconds after which a rate counts as known; 2 % of a run of a day or more always take longer.
_KNOWN_S = 60.0

# Version of --json output: raised when a key is renamed, removed or changes meaning, not when one is added.
JSON_SCHEMA_VERSION = 1


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Set how much goes to stderr for the rest of this command."""
    _STATE["verbosity"] = -1 if quiet else int(verbose)


def verbose() -> bool:
    """Return whether tracebacks and details were asked for."""
    return _STATE["verbosity"] > 0


def quiet() -> bool:
    """Return whether only errors go to stderr."""
    return _STATE["verbosity"] < 0


def plain(stream: Any) -> bool:  # noqa: ANN401
    """Return whether a stream must get plain lines only."""
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

    # The output holds the user's names: brackets and colons in them are not markup.
    literal = partial(Console, file=stream, highlight=False, markup=False, emoji=False)
    if plain(stream):
        return literal(force_terminal=False, color_system=None, width=_width())
    return literal()


@cache
def _width() -> int | None:
    """Return the width of plain output: COLUMNS, or wide enough that nothing is cut in a log."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if is_width(columns) else 120


def say(text: str) -> None:
    """Write a line to stderr at any verbosity; ignore errors of writing."""
    from memprobe.escape import visible

    # The text may hold names of items, and a terminal would obey control characters in them.
    harmless = "\n".join(visible(line) for line in text.split("\n"))
    with suppress(OSError):
        print(harmless, file=sys.stderr, flush=True)  # noqa: T201


def note(text: str) -> None:
    """Write a line to stderr, unless quiet."""
    if not quiet():
        say(text)


def show(renderable: "RenderableType") -> None:
    """Write a result to stdout."""
    stdout().print(renderable, crop=False)


def show_line(text: str) -> None:
    """Write a result line to stdout without wrapping, so that a path or command can be copied whole."""
    stdout().print(text, soft_wrap=True)


def show_json(value: Mapping[str, object]) -> None:
    """Write one JSON object to stdout, `schema_version` first; infinities become null.

    Raises:
        ValueError: The object holds NaN, which no table of memprobe has.
    """
    document = {"schema_version": JSON_SCHEMA_VERSION} | {key: finite(each) for key, each in value.items()}
    # Characters that the stream lacks are escaped as in JSON, so that readers get every name unchanged.
    text = json.dumps(document, indent=2, ensure_ascii=not takes_all(sys.stdout), allow_nan=False)
    print(text if is_text(text) else json.dumps(document, indent=2, allow_nan=False))  # noqa: T201


def tell_days(seconds: float, run: str) -> bool:
    """Return whether a run will take a day or more; if so, warn and say what shortens it."""
    if seconds < _DAY_S:
        return False
    note(
        f"note: about {seconds / _DAY_S:,.1f} days are left at this speed; more processes share them:\n"
        f"      memprobe worker {run}\n"
        "      A new run is shorter with fewer checkpoints (--steps) or items (--limit)\n"
        "      or, on a GPU, with --dtype bfloat16."
    )
    return True


def show_problems(problems: Iterable[Problem]) -> None:
    """Write problems to stderr: what is wrong, where, and what to do."""
    for problem in problems:
        say(f"error: {problem}")


@dataclass(slots=True)
class Progressing:
    """Shows the progress of a run: a bar on a terminal, a line now and then elsewhere.

    Use as a context manager; it is a `Listener` of `memprobe.run`.

    Attributes:
        run: The run directory, for the commands that messages suggest.
    """

    run: str = "RUN"
    started: float = field(default_factory=time.monotonic)
    last_line: float = 0.0
    last_revision: str = ""
    units_before: int = 0
    told_days: bool = False
    line: str = ""
    bar: "Progress | None" = None
    task: "TaskID | None" = None

    def __enter__(self) -> "Progressing":
        if not quiet() and not plain(sys.stderr):
            self.bar = _bar(lambda: self.line)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def stage(self, name: str) -> None:
        """Show which stage begins."""
        words = {"read": "reading items and checkpoints", "plan": "planning", "measure": "measuring"}
        if self.bar is not None:
            self.line = ""
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
        """Show a note."""
        note(f"note: {text}")

    def scoring(self, progress: "ScoringProgress") -> None:
        """Show checkpoint, units, items a second and the time left."""
        now = time.monotonic()
        if progress.items_done == 0:
            self.started, self.units_before = now, progress.units_done
        rate = progress.items_done / max(now - self.started, 1e-9)
        self._tell_days(progress, now - self.started)
        place = f"checkpoint {progress.checkpoint}/{progress.n_checkpoints} {progress.revision}"
        done = f"{progress.units_done}/{progress.n_units} units"
        said = search_line(progress.search) if progress.search else f"{rate:,.0f} items/s"
        if self.bar is not None:
            self.line = said if progress.search else ""
            self.bar.update(
                self._stage_task(),
                description=place,
                completed=progress.units_done,
                total=progress.n_units,
                rate=done if progress.search else f"{done}, {said}",
                visible=True,
            )
        elif progress.revision != self.last_revision or now - self.last_line > _LINE_EVERY_S:
            left = _time_left(
                now - self.started,
                progress.units_done - self.units_before,
                progress.n_units - progress.units_done,
            )
            # Units of a search take longer than others, so the rate of others does not tell the time left.
            note(f"scoring {place}: {done}, {said}{'' if progress.search else left}")
            self.last_line, self.last_revision = now, progress.revision

    def _tell_days(self, progress: "ScoringProgress", spent_s: float) -> None:
        done = progress.units_done - self.units_before
        if done > 0 and spent_s >= _KNOWN_S and not self.told_days:
            self.told_days = tell_days(spent_s / done * (progress.n_units - progress.units_done), self.run)


def search_line(step: "SearchStep") -> str:
    """Return the state of a search: target, length, loss, shortest prompt, tries and time left."""
    words = [f"target {step.target}/{step.n_targets}"]
    words += [f"trying {counted(step.n_tokens, 'token')}"]
    if step.best_loss_nats is not None:
        words.append(f"loss {step.best_loss_nats:.2f} nats")
    if step.best_tokens is not None:
        words.append(f"shortest {step.best_tokens:,}")
    words += [counted(step.n_matches, "match", "matches")]
    words.append(f"{step.evaluations_used:,}/{step.budget:,} tried")
    if step.left_s is not None:
        words.append(f"about {duration(step.left_s)} left")
    return ", ".join(words)


def _time_left(spent_s: float, done: int, left: int) -> str:
    return f", about {duration(spent_s / done * left)} left" if done > 0 else ""


def _bar(line: Callable[[], str]) -> "Progress":
    """Return a bar with a line of text below it, if there is any: the text would not fit next to it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class WithLine(Progress):
        def get_renderables(self) -> "Iterable[RenderableType]":
            yield from super().get_renderables()
            if text := line():
                yield Text(text)

    return WithLine(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
    )
