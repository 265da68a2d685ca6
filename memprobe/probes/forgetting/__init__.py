"""Forgetting: how often and how soon are learned items forgotten, and which are never forgotten?

Each item is learned (1) or not learned (0) at each checkpoint. A learning event is a change from 0 to 1, a
forgetting event a change from 1 to 0. Before the first checkpoint the state is 0, so an item that is learned
at the first checkpoint has a learning event there. If the file gives first_step, checkpoints before it do not
count: an item that was learned at the last of them was known without training, and is in no estimate.

Changes that are undone between two checkpoints are not seen. Counts and times therefore depend on how dense
the checkpoints are, and the table of hazards gives the events of each interval.

Source: Toneva et al. (2019), section 3, https://arxiv.org/abs/1812.05159, where the state is taken at each
presentation of the training example; here it is taken at each checkpoint. The statistics are in
memprobe/stats/events.py and memprobe/stats/survival.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

import polars as pl

from memprobe.probes.contract import (
    About,
    History,
    OverTime,
    Probe,
    Ranking,
    Scores,
    SequenceResult,
    arxiv,
    no_estimates,
    sequence_metric,
)
from memprobe.probes.forgetting.estimate import Thresholds, estimate_events
from memprobe.probes.forgetting.tables import (
    FORGETTING,
    FORGETTING_HAZARD,
    FORGETTING_ITEMS,
    FORGETTING_SURVIVAL,
)
from memprobe.probes.placement import Align, length_problems, suffix_sums
from memprobe.probes.values import ALL_SCORED


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of forgetting.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens to be recalled; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        state: When an item counts as learned. `exact`: greedy decoding yields the whole suffix; `hit_frac`:
            greedy decoding picks a share of tau_hi or more of the suffix tokens; `pz`: the probability of the
            whole suffix is tau_hi or more.
        tau_hi: With `hit_frac` or `pz`: an item becomes learned at this value or above.
        tau_lo: With `hit_frac` or `pz`: a learned item is forgotten below this value; None: tau_hi. If it is
            lower than tau_hi, values that waver around tau_hi do not cause events.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    state: Literal["exact", "hit_frac", "pz"] = "exact"
    tau_hi: float | None = None
    tau_lo: float | None = None

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        given = [("tau_hi", self.tau_hi), ("tau_lo", self.tau_lo)]
        problems += [
            f"{name} is {value}, not above 0 and up to 1"
            for name, value in given
            if value is not None and not 0 < value <= 1
        ]
        if self.state == "exact":
            problems += [
                f'{name} has no meaning beside state = "exact"' for name, value in given if value is not None
            ]
        elif self.tau_hi is None:
            problems.append(f'state = "{self.state}" needs tau_hi')
        elif self.tau_lo is not None and self.tau_lo > self.tau_hi:
            problems.append(f"tau_lo is {self.tau_lo}, above tau_hi, {self.tau_hi}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def thresholds(self) -> Thresholds:
        """Values at which an item enters and leaves the learned state, in units of the column `level`."""
        enter = 1.0 if self.tau_hi is None else self.tau_hi
        leave = enter if self.tau_lo is None else self.tau_lo
        return (
            Thresholds(math.log(enter), math.log(leave)) if self.state == "pz" else Thresholds(enter, leave)
        )


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:
    """Return the value that decides each item's state at one checkpoint; null if a token was not scored."""
    n = pl.col("n_scored")
    level = pl.col("logprob_sum_nats") if settings.state == "pz" else pl.col("n_hits") / n
    return scores.spans.select("item_id", level=pl.when(ALL_SCORED).then(level))


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:  # noqa: ARG001
    """Return the reasons why forgetting cannot be estimated; empty if it can."""
    if len(steps) < 2:
        return ["needs at least two checkpoints, since an event is a change between two"]
    return []


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Count the events of each item, and estimate when learned items are forgotten."""
    if stop := problems(history.steps, history.items, settings):
        return SequenceResult({}, no_estimates(), tuple(stop))
    return estimate_events(history, settings.thresholds)


_ABOUT = About(
    measures="An item is learned when it is recalled at a checkpoint and was not before, and forgotten "
    "when it is lost again; the probe counts such events for each item. A survival curve "
    "shows how soon what was learned is first forgotten.",
    how_to_read="unforgettable_frac is the share of learned items that are never lost again; a "
    "survival curve that stays high says that memories last. n_forgetting_events above 1 "
    "means that items come and go.",
    limits="What happens between checkpoints is not seen, so runs with other checkpoints are not "
    "comparable. A value that trembles around the threshold makes events: tau_lo below tau_hi "
    "prevents them.",
    citation=arxiv(
        "toneva2019empirical",
        "Toneva, Mariya and Sordoni, Alessandro and Tachet des Combes, Remi and Trischler, Adam "
        "and Bengio, Yoshua and Gordon, Geoffrey J.",
        "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
        2019,
        "1812.05159",
    ),
)

PROBE = Probe(
    name="forgetting",
    version=1,
    title="How often, and how soon, is what was learned forgotten?",
    formula="learning event: state 0 -> 1; forgetting event: 1 -> 0; S(t): Kaplan-Meier since first learned",
    source="Toneva et al. 2019, arXiv:1812.05159",
    about=_ABOUT,
    settings=Settings,
    plan=suffix_sums,
    measure=measure,
    table=FORGETTING_ITEMS,
    metrics=(
        sequence_metric(
            "unforgettable_frac",
            "fraction",
            "more of the learned items are never forgotten",
            more_is_memorized=True,
        ),
        sequence_metric(
            "never_learned_frac", "fraction", "more items are never learned", more_is_memorized=False
        ),
        sequence_metric(
            "n_forgetting_events",
            "events",
            "learned items are forgotten more often",
            more_is_memorized=False,
        ),
        sequence_metric(
            "first_forgotten_median_steps",
            "steps",
            "half of the learned items last longer before they are first forgotten",
            more_is_memorized=True,
        ),
    ),
    over_time=OverTime(
        (FORGETTING, FORGETTING_SURVIVAL, FORGETTING_HAZARD), estimate, problems, keeps_items=False
    ),
    rankings=(
        Ranking(
            "forgetting",
            "n_forgetting_events",
            ("n_learning_events", "n_forgetting_events", "last_state"),
            title="Items most often forgotten",
        ),
    ),
    figures="memprobe.probes.forgetting.figures",
)
