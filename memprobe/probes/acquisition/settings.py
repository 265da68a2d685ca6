"""Options of `acquisition`."""

from dataclasses import dataclass
from typing import Literal

from memprobe.probes.placement import Align, length_problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of acquisition.

    Attributes:
        prefix_tokens: Tokens that condition; None: the item's whole prefix, or half of its tokens.
        suffix_tokens: Tokens of the fact; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of the item.
        window_steps: Number of steps, from that of the injection, in which the highest checkpoint is
            searched, but not beyond the item's next injection; None: up to that or the last checkpoint.
        min_gain_nats: An item counts as acquired if its level rose by more than this from before its first
            injection to the highest checkpoint after its last; the decay leaves out and counts the others.
        weight: Weight in the fit of the decay. `gain`: each item by the nats it gained, so that the noisy
            shares of tiny gains count little; `item`: each item once, as in the paper.

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
