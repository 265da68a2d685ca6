"""Options of `profile`."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["logprob_mean_nats", "exact", "hit_frac", "rank_mean"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of profile.

    Attributes:
        outcomes: Outcomes of an item at a checkpoint, over all its tokens: `logprob_mean_nats` (mean ln p),
            `exact` (greedy decoding picks every token), `hit_frac` (share of tokens that it picks),
            `rank_mean` (mean rank with its sign changed, so that higher is better remembered).
        base: Base of effects before training: `varying` compares a checkpoint with the one before it,
            `universal` with the last one before training.
        control: Items to compare with. `never`: items never trained on; `untrained`: also items first trained
            on after the last checkpoint; `not_yet`: also items that are trained on later, as long as they are
            not yet trained on.
        anticipation: Number of checkpoints by which an effect may precede the training on an item, for
            example because of near-duplicates.
        cluster: `batch`: items of one batch_id depend on each other; `item`: items are independent.
        repeated: Keep items with more than one exposure.
        draws: Number of multiplier draws for the simultaneous bands over all cells; 0: no bands.
        balanced_to: Last event time of an additional event study, over only the cohorts that are observed
            that long; None: no such study.

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
