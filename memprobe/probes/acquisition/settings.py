"""Options of `acquisition`."""

from dataclasses import dataclass
from typing import Literal

from memprobe.probes.placement import Align, length_problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of acquisition.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens of the fact; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        window_steps: Largest number of steps, from an injection's own step on, in which the highest level is
            searched; None: no limit. The window also ends before the item's next injection.
        min_gain_nats: An item counts as acquired if its level rose by more than this from before its first
            injection to the highest level after its last injection. Items that were not acquired are left
            out of the decay and counted.
        weight: Weight in the fit of the decay. `gain`: items are weighted by the nats that they gained, so
            that the noisy shares of tiny gains count little; `item`: all items count equally, as in the
            paper.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    window_steps: int | None = None
    min_gain_nats: float = 0.0
    weight: Literal["gain", "item"] = "gain"

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        if self.window_steps is not None and self.window_steps < 1:
            problems.append(f"window_steps is {self.window_steps}, not 1 or more")
        if not 0 <= self.min_gain_nats < float("inf"):
            problems.append(f"min_gain_nats is {self.min_gain_nats}, not 0 or more")
        if problems:
            raise ValueError("; ".join(problems))
