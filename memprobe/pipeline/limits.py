"""What the models of a sequence can read: the smallest limits in the checkpoints' configurations.

A checkpoint whose configuration cannot be read is left to the pass over checkpoints, which records it as
failed and scores the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from memprobe.checkpoints import Checkpoint, CheckpointSequence, config_digest
from memprobe.errors import CheckpointError, Problem
from memprobe.wording import listed

if TYPE_CHECKING:
    from memprobe.scoring.load import Limits


class _Notes(Protocol):
    def note(self, text: str) -> None:
        """Something is worth knowing."""


def read_all_limits(
    sequences: Sequence[CheckpointSequence], notes: _Notes, *, trust_remote_code: bool
) -> list["Limits"]:
    """Return, for each sequence, the smallest vocabulary and context of its checkpoints.

    Raises:
        CheckpointError: None of a sequence's configurations can be read.
    """
    return [_of_sequence(each, notes, trust_remote_code=trust_remote_code) for each in sequences]


def _of_sequence(sequence: CheckpointSequence, notes: _Notes, *, trust_remote_code: bool) -> "Limits":
    found: dict[str, Limits] = {}
    broken: list[CheckpointError] = []
    known: dict[str, Limits] = {}
    for each in sequence.checkpoints:
        try:
            found[each.revision] = _read(each, known, trust_remote_code=trust_remote_code)
        except CheckpointError as error:
            broken.append(error)
    if not found:
        raise CheckpointError(_once(broken))
    vocabularies = {revision: each.vocabulary for revision, each in found.items()}
    contexts = {revision: each.context_tokens for revision, each in found.items()}
    _tell(sequence.model, "vocabulary", vocabularies, notes.note)
    _tell(sequence.model, "context", contexts, notes.note)
    first = next(iter(found.values()))
    limited = [each for each in contexts.values() if each is not None]
    return replace(first, vocabulary=min(vocabularies.values()), context_tokens=min(limited, default=None))


def _read(checkpoint: Checkpoint, known: dict[str, "Limits"], *, trust_remote_code: bool) -> "Limits":
    """Read a checkpoint's limits; equal configurations are read once, unless they may run code."""
    from memprobe.scoring.load import read_limits

    if trust_remote_code:
        return read_limits(checkpoint, trust_remote_code=True)
    digest = config_digest(checkpoint)
    if digest not in known:
        known[digest] = read_limits(checkpoint)
    return known[digest]


def _once(errors: Iterable[CheckpointError]) -> list[Problem]:
    """Return all problems, with those that differ only in their place merged."""
    places: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        for each in error.problems:
            places.setdefault((each.what, each.fix), []).append(each.where)
    return [Problem(what, listed(where), fix) for (what, fix), where in places.items()]


def _tell(model: str, name: str, values: Mapping[str, int | None], note: Callable[[str], None]) -> None:
    """Note limits that differ between checkpoints."""
    groups: dict[int | None, list[str]] = {}
    for revision, value in values.items():
        groups.setdefault(value, []).append(revision)
    if len(groups) > 1:
        shown = [
            f"{'no limit' if value is None else f'{value:,} tokens'} in {listed(revisions)}"
            for value, revisions in groups.items()
        ]
        note(f"{model}: the {name} differs ({'; '.join(shown)}), and the smallest counts for all")
