"""Options of `forecast`."""

from dataclasses import dataclass
from typing import Literal

from memprobe.probes.placement import Align, length_problems

_FEWEST_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of forecast.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens to be recalled; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        of_others: Checkpoints of smaller models in the run that are used as predictors: the `last`, or `all`.
        draws: Number of bootstrap draws of items, for the intervals of F1, F2 and phi.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    of_others: Literal["last", "all"] = "last"
    draws: int = 1000

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        if self.draws < _FEWEST_DRAWS:
            problems.append(f"draws is {self.draws}, not {_FEWEST_DRAWS} or more")
        if problems:
            raise ValueError("; ".join(problems))
