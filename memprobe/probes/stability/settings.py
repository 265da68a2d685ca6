"""Options of `stability`."""

from dataclasses import dataclass
from typing import Literal

from memprobe.probes.placement import Align, length_problems

Outcome = Literal["exact", "hit_frac", "logprob_mean_nats"]
_FEWEST_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of stability.

    Attributes:
        outcome: Score of an item at a checkpoint, higher is better: `exact` (greedy decoding picks every
            token of the suffix), `hit_frac`, `logprob_mean_nats`.
        prefix_tokens: Tokens that condition; None: the item's whole prefix, or half of its tokens.
        suffix_tokens: Tokens that are scored; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of the item.
        windows: Widths of the windows of WF and WP, in checkpoints.
        draws: Bootstrap draws of items, for intervals and bias.

    Raises:
        ValueError: A value is outside its range.
    """

    outcome: Outcome = "exact"
    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    windows: tuple[int, ...] = (10, 100)
    draws: int = 1000

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        problems += [f"windows has {each}, not 2 or more" for each in self.windows if each < 2]
        if len(set(self.windows)) < len(self.windows):
            problems.append("windows has one width twice")
        if self.draws < _FEWEST_DRAWS:
            problems.append(f"draws is {self.draws}, not {_FEWEST_DRAWS} or more")
        if problems:
            raise ValueError("; ".join(problems))
