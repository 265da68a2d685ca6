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
        outcome: Score of an item at a checkpoint; higher is better. `exact`: greedy decoding picks every
            token of the suffix; `hit_frac`: share of the suffix tokens that it picks; `logprob_mean_nats`:
            mean ln p of the suffix tokens.
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens that are scored; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        windows: Widths, in checkpoints, of the windows of WF (windowed forgetting: the largest drop) and WP
            (windowed plasticity: the largest rise).
        draws: Number of bootstrap draws of items, for intervals and bias.

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
