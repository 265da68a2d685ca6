"""Receivers of the progress of a run."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from memprobe.scoring.job import ScoringProgress


class Notes(Protocol):
    """Receives stages and notes: what the user should know, errors excluded."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def note(self, text: str) -> None:
        """Something is worth knowing."""


class Listener(Protocol):
    """Receives the progress of a run; a command line shows it."""

    def stage(self, name: str) -> None:
        """A stage begins: read, plan, score, measure."""

    def note(self, text: str) -> None:
        """Something the user should know that is not an error."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """A batch or a unit is done."""


class NullListener:
    """A listener that ignores every event."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def scoring(self, progress: "ScoringProgress") -> None:
        """Ignore it."""
