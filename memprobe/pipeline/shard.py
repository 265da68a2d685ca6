"""Which units of a run are one worker's: `--shard i/n`, every n-th one, the same ones every time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from memprobe.errors import InputError
from memprobe.pipeline.plans import SequencePlan


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal shares of a run.

    Attributes:
        number: Which, from 1.
        of: How many there are.
    """

    number: int = 1
    of: int = 1

    def units(self, plans: Sequence[SequencePlan]) -> set[tuple[str, str]]:
        """Return the share's units as (context, unit).

        Of each checkpoint every n-th unit, beginning one further with each next checkpoint: units are
        ordered by length, and so no share gets the longest of every checkpoint. A search stays with its
        share, as it starts from what it found at the checkpoint before.
        """
        owners: dict[tuple[str, str], int] = {}
        for plan in plans:
            for shift, target in enumerate(plan.targets):
                for number, (unit, work) in enumerate(plan.units.items()):
                    place = number if work.search else number + shift
                    # Two checkpoints with the same weights have the same units, which have one owner.
                    owners.setdefault((target.context, unit), place % self.of)
        return {key for key, owner in owners.items() if owner == self.number - 1}


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Read `i/n`.

    Raises:
        InputError: It has another form, or i is not from 1 to n.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"the shard is `{text}`, not i/n with i from 1 to n",
            where="--shard",
            fix="write --shard 1/4 for the first of four workers, 4/4 for the last",
        )
    return Shard(int(match[1]), int(match[2]))
