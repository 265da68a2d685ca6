"""Shares of a run for workers: `--shard i/n` is every n-th unit, always the same ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from memprobe.errors import InputError
from memprobe.pipeline.plans import SequencePlan


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal shares of a run.

    Attributes:
        number: Number of the share, from 1.
        of: Number of shares.
    """

    number: int = 1
    of: int = 1

    def units(self, plans: Sequence[SequencePlan]) -> set[tuple[str, str]]:
        """Return the share's units as (context, unit).

        A share has every n-th unit of each checkpoint, with the start shifted by one from checkpoint to
        checkpoint: units are ordered by length, so without the shift one share would get the longest unit
        of every checkpoint. Searches are not shifted, because each starts from the prompt that was found at
        the checkpoint before.
        """
        owners: dict[tuple[str, str], int] = {}
        for plan in plans:
            for shift, target in enumerate(plan.targets):
                for number, (unit, work) in enumerate(plan.units.items()):
                    place = number if work.search else number + shift
                    # Two checkpoints with the same weights have the same units, and each unit has one owner.
                    owners.setdefault((target.context, unit), place % self.of)
        return {key for key, owner in owners.items() if owner == self.number - 1}


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Return the shard that a text `i/n` names.

    Raises:
        InputError: The text has another form, or i is not from 1 to n.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"the shard is `{text}`, not i/n with i from 1 to n",
            where="--shard",
            fix="write --shard 1/4 for the first of four workers, 4/4 for the last",
        )
    return Shard(int(match[1]), int(match[2]))
