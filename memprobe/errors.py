"""Errors that a user can cause or meet, each with the fix in the message.

MemprobeError
├── InputError            what we were given is wrong, found before any work     (exit 2)
│   ├── SuiteError            a suite file, a setting, a probe's name
│   ├── ItemError             an item file or an item
│   │   └── OutsideVocabularyError   ids that the model does not have
│   ├── RuleError             a file of gate rules
│   ├── CheckpointError       a model spec, a directory, a revision
│   │   └── UnloadableError   the files of one checkpoint of a sequence
│   └── RunMismatchError      a run directory that belongs to something else
├── InvalidRunError       the measurement cannot be trusted or does not exist    (exit 3)
│   ├── TableError            a table breaks its schema
│   ├── RunsDifferError       two runs whose numbers mean different things
│   └── BrokenUnitError       units are there and cannot be used
├── IncompleteRunError    some units or checkpoints failed, the rest is kept     (exit 4)
│   └── LostClaimError        another process took over what this one was about to write
└── SafetyError           pickle, remote code, or the network was refused        (exit 5)

A gate that measures fine and finds too much memorization raises nothing: that is a result
(exit 1). What no class here covers is a bug (exit 70).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

# The name to install; `memprobe` itself is another program on the package index.
DISTRIBUTION: Final = "memprobe-lm"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        what: What happened, with the numbers and their units.
        where: The file, line, column, key or item; empty where `what` says it all.
        fix: What to do about it; empty where nothing helps.
    """

    what: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class MemprobeError(Exception):
    """Root of all expected failures; carries one problem or several.

    Attributes:
        problems: All that was found, in the order in which it was found.
        exit_code: What the command line exits with.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, what: str | Sequence[Problem], *, where: str = "", fix: str = "") -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem(what, where, fix),) if isinstance(what, str) else tuple(what)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InputError(MemprobeError):
    """The input is wrong."""

    exit_code = 2


class SuiteError(InputError):
    """A suite file, a setting or a probe's name is wrong."""


class ItemError(InputError):
    """An item file or an item is wrong."""


class OutsideVocabularyError(ItemError):
    """Items hold ids that the model does not have.

    Attributes:
        reasons: What is wrong with each, by its `item_id`; the first where there are several.
        column: Of each, the column that holds the ids or the text.
    """

    def __init__(self, found: Sequence[tuple[str, str, Problem]]) -> None:
        """Take (item_id, column, problem) of each."""
        super().__init__([problem for _, _, problem in found])
        self.reasons = {item: problem.what for item, _, problem in reversed(found)}
        self.column = {item: column for item, column, _ in reversed(found)}


class RuleError(InputError):
    """A gate rule is wrong, or asks for what does not exist."""


class CheckpointError(InputError):
    """A model spec, directory or revision cannot be used."""


class UnloadableError(CheckpointError):
    """The files of one checkpoint are damaged or incomplete; the others may be sound."""


class RunMismatchError(InputError):
    """The run directory belongs to another question."""


class InvalidRunError(MemprobeError):
    """The measurement cannot be trusted, or there is none."""

    exit_code = 3


class TableError(InvalidRunError):
    """A table breaks its schema."""


class RunsDifferError(InvalidRunError):
    """Two runs cannot be compared: their numbers depend on different things."""


class BrokenUnitError(InvalidRunError):
    """Units are there and cannot be used.

    Attributes:
        reasons: Each of them, and why.
    """

    def __init__(self, reasons: Mapping[Path, str]) -> None:
        self.reasons = dict(reasons)
        fix = "repeat the same `memprobe run`: it sets the unit aside and scores it again"
        super().__init__(
            [Problem(f"a unit cannot be used: {reason}", str(file), fix) for file, reason in reasons.items()]
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The units' files."""
        return tuple(self.reasons)


class IncompleteRunError(MemprobeError):
    """Some units or checkpoints failed; the others are kept."""

    exit_code = 4


class LostClaimError(IncompleteRunError):
    """Another process took over what this one held, because it was stopped or could not be heard.

    A run catches it and continues: what this process was about to write, the other one writes.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(
            "another process took over what this one held while it was stopped; nothing was written",
            where=str(file),
            fix="run the same command again: it goes on from here",
        )


class SafetyError(MemprobeError):
    """Something unsafe was needed and not allowed."""

    exit_code = 5


def install_command(extra: str = "", *, upgrade: bool = False) -> str:
    """Return the command that installs memprobe, or one of its extras: `pip install 'memprobe-lm[lora]'`."""
    target = f"'{DISTRIBUTION}[{extra}]'" if extra else DISTRIBUTION
    return f"pip install {'-U ' if upgrade else ''}{target}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise a signal itself where it broke a wait inside of Python's `threading`.

    A signal that arrives while `Condition.wait` takes its lock back leaves the lock free. The release that
    follows then fails with a RuntimeError, which would hide what the signal raised.
    """
    try:
        yield
    except RuntimeError as error:
        if error.__context__ is None or isinstance(error.__context__, Exception):
            raise
        raise error.__context__ from None
