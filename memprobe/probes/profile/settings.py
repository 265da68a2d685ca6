"""Options of `profile`."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["logprob_mean_nats", "exact", "hit_frac", "rank_mean"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of profile.

    Attributes:
        outcomes: Numbers of an item at a checkpoint, over all its tokens: `logprob_mean_nats`, `exact`,
            `hit_frac`, `rank_mean` (taken with a minus, so that more is better remembered).
        base: Before training, `varying` compares a checkpoint with the one before it, `universal` with the
            last before training.
        control: `never`: items never trained on; `untrained`: also items first trained on after the last
            checkpoint, which no checkpoint has seen; `not_yet`: also those that training came to later, as
            long as it has not come to them.
        anticipation: Checkpoints that an item may be felt before it was trained on, as through
            near-duplicates.
        cluster: `batch`: items of one batch_id depend on each other; `item`: they do not.
        repeated: Keep items with more than one exposure.
        draws: Multiplier draws for the bands that hold for all cells at once; 0: no such bands.
        balanced_to: Last event time of an event study over cohorts that are seen that long; None: none.

    Raises:
        ValueError: A value is outside its range.
    """

    outcomes: tuple[Outcome, ...] = ("logprob_mean_nats",)
    base: Literal["varying", "universal"] = "varying"
    control: Literal["never", "untrained", "not_yet"] = "never"
    anticipation: int = 0
    cluster: Literal["batch", "item"] = "batch"
    repeated: bool = False
    draws: int = 1000
    balanced_to: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}, not 0 or more"
            for name, value in (
                ("anticipation", self.anticipation),
                ("draws", self.draws),
                ("balanced_to", self.balanced_to),
            )
            if value is not None and value < 0
        ]
        if not self.outcomes:
            problems.append("outcomes is empty")
        if len(set(self.outcomes)) < len(self.outcomes):
            problems.append("outcomes has one outcome twice")
        if self.control == "untrained" and self.anticipation > 0:
            problems.append(
                "control is untrained and anticipation above 0: items that training comes to right after the "
                "last checkpoint may be felt by it, so use not_yet"
            )
        if problems:
            raise ValueError("; ".join(problems))
