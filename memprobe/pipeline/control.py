"""The control: one checkpoint of a model that did not train on the items, scored like all others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from memprobe.checkpoints import Checkpoint, CheckpointSequence
from memprobe.errors import CheckpointError
from memprobe.tables.manifest import ControlEntry

if TYPE_CHECKING:
    from memprobe.scoring.tokenise import TokenisedItems


@dataclass(frozen=True, slots=True)
class Models:
    """The checkpoints of a run.

    Attributes:
        sequences: All sequences; the control is a checkpoint of one, or a last sequence of its own.
        control: The control; None if there is none.
    """

    sequences: tuple[CheckpointSequence, ...]
    control: ControlEntry | None = None


def add_control(
    sequences: Sequence[CheckpointSequence], found: CheckpointSequence, note: Callable[[str], None]
) -> Models:
    """Return the sequences with the control among them.

    Args:
        sequences: The audited sequences.
        found: The sequence that the spec of the control names; its last checkpoint is the control.
        note: Receives a note on the chosen checkpoint if there are several.
    """
    chosen = found.checkpoints[-1]
    if len(found.checkpoints) > 1:
        n = len(found.checkpoints)
        note(f"the control {found.model} has {n} checkpoints: its last, {chosen.revision}, is used")
    for each in (checkpoint for sequence in sequences for checkpoint in sequence.checkpoints):
        if _place(each) == _place(chosen):
            return Models(tuple(sequences), _described(each, each.label))
    # Two sequences of one name would be one in the tables.
    taken = {sequence.model for sequence in sequences}
    name = chosen.label if chosen.model in taken else chosen.model
    chosen = replace(chosen, model=name)
    return Models((*sequences, CheckpointSequence(name, (chosen,))), _described(chosen, name))


def _place(checkpoint: Checkpoint) -> tuple[str, str]:
    if checkpoint.folder is not None and checkpoint.repo is None:
        return str(checkpoint.folder.resolve()), ""
    return str(checkpoint.repo), checkpoint.commit or checkpoint.revision


def _described(checkpoint: Checkpoint, label: str) -> ControlEntry:
    return ControlEntry(model=checkpoint.model, revision=checkpoint.revision, label=label)


def refuse_other_tokens(models: Models, tokenised: "Sequence[TokenisedItems]") -> None:
    """Refuse a control whose tokenizer gives an item other tokens than those of the models.

    Raises:
        CheckpointError: There is such an item; its prefix and suffix would differ.
    """
    if models.control is None:
        return
    names = [sequence.model for sequence in models.sequences]
    control = tokenised[names.index(models.control.model)]
    for name, each in zip(names, tokenised, strict=True):
        differing = {key[0] for key, ids in each.ids.items() if not _same(ids, control.ids.get(key))}
        if differing:
            raise CheckpointError(
                f"the control {models.control.label} cuts {len(differing):,} of "
                f"{each.table.height:,} items into other tokens than {name}, so rates are not comparable",
                fix="name a control with the same tokenizer, or give one for both with --tokenizer",
            )


def _same(ids: Any, other: Any) -> bool:  # noqa: ANN401
    return other is not None and np.array_equal(ids, other)
