"""Retention: how much of an item is left, by the number of updates since it was last trained on?

At every checkpoint, the outcomes of recognition, recall and profile are measured for every item; curves order
them by the steps since the item's last exposure (the lag). Before its last exposure an item has no lag.
Curves compare items with never-trained items at the same checkpoints, which separates forgetting from other
changes of the model. Long lags are observed only for items trained on early. A curve must not change because
its items change, so fits and summary use the largest block of items and lags in which every item is observed
at every lag. Curves of all items are given as well.

Sources: Orhan (2023), section 2.3, https://arxiv.org/abs/2303.17557; Chang et al. (2024),
https://arxiv.org/abs/2406.11813. The statistics are in memprobe/stats/curves.py, lags.py and lag_curve.py.
"""

from dataclasses import dataclass

import polars as pl

from memprobe.probes.contract import (
    DATED,
    About,
    History,
    Metric,
    OverTime,
    Probe,
    Scores,
    SequenceResult,
    arxiv,
    no_estimates,
    not_of_items,
)
from memprobe.probes.placement import Align, Lengths, foil_sums, length_problems, place, text_sums
from memprobe.probes.retention.estimate import estimate_retention
from memprobe.probes.retention.tables import RETENTION, RETENTION_CURVE, RETENTION_FIT
from memprobe.probes.retention.timeline import Timeline
from memprobe.probes.values import MEAN_LOGPROB, RECITED, compared
from memprobe.tables.requests import Plan, request_frame


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of retention.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given for recall; None: the item's
            whole prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens to be recalled; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        draws: Number of resamples of the items, for the intervals of fits and of log-probabilities.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    draws: int = 500

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        if self.draws < 0:
            problems.append(f"draws is {self.draws}, not 0 or more")
        if problems:
            raise ValueError("; ".join(problems))


def plan(items: pl.DataFrame, settings: Settings) -> Plan:
    """Request the tokens of each suffix, and the sums over the whole item and over its foil."""
    placed = place(items, Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align))
    fitting = items.join(placed.unfit, on="item_id", how="anti", maintain_order="left")
    foiled = fitting.filter(pl.col("n_foil_tokens").is_not_null())
    suffixes = request_frame(placed.spans, detail="tokens")
    return Plan(pl.concat([suffixes, text_sums(fitting).requests, foil_sums(foiled)]), unfit=placed.unfit)


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Measure the outcomes of each item at one checkpoint.

    Returns:
        The columns of `RETENTION` after the keys. `recognition_correct` is null without a foil. Each outcome
        is null if the tokens that it needs are not scored, because nothing is before them.
        `steps_since_exposure` is null for an item never trained on, and before its last exposure.
    """
    sums = scores.spans.filter(pl.col("detail") == "sums")
    whole = sums.filter(pl.col("part") == "text").select("item_id", logprob_mean_nats=MEAN_LOGPROB)
    suffixes = scores.spans.filter(pl.col("detail") == "tokens").select("item_id", recall_exact=RECITED)
    since = pl.lit(scores.step, pl.Int64) - pl.col("last_step")
    return (
        whole.join(scores.items.select("item_id", "first_step", "last_step"), on="item_id")
        .join(suffixes, on="item_id", how="left")
        .join(compared(sums).select("item_id", recognition_correct="correct"), on="item_id", how="left")
        .with_columns(steps_since_exposure=pl.when(since >= 0).then(since))
    )


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:  # noqa: ARG001
    """Return the reasons why retention cannot be estimated; empty if it can."""
    if len(steps) < 2:
        return ["needs at least two checkpoints: with one, nothing can be seen to fade"]
    if items["first_step"].null_count() == items.height:
        return ["no item has a first_step, so none was trained on and could be forgotten"]
    first: int = items["last_step"].min()  # type: ignore[assignment]  # whole numbers, and one is there
    if first > steps[-1]:
        return [
            f"no checkpoint after any last_step: they begin at {first}, the last checkpoint is {steps[-1]}"
        ]
    return []


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Return curves by steps since exposure, their fits, and the summary."""
    if stop := problems(history.steps, history.items, settings):
        return SequenceResult({}, no_estimates(), tuple(stop))
    return estimate_retention(history, Timeline.of(history), settings.draws)


_ABOUT = About(
    measures="Every item is followed from the update in which it was last trained on: how much of it "
    "is recognised, recalled and likely, so many updates later? Curves are set beside items "
    "never trained on, at the same checkpoints.",
    how_to_read="An excess that falls to 0 is forgotten; half_life_steps says how soon half of it is. "
    "Read a law of forgetting together with its residual_se and the other laws.",
    limits="Late lags are seen only of items trained on early, so fits use the items that are seen at "
    "all lags; the warnings say how many. Near-duplicates elsewhere in the training data keep a "
    "text alive.",
    citation="\n\n".join(
        (
            arxiv(
                "orhan2023recognition",
                "Orhan, A. Emin",
                "Recognition, recall, and retention of few-shot memories in large language models",
                2023,
                "2303.17557",
            ),
            arxiv(
                "chang2024how",
                "Chang, Hoyeon and Park, Jinho and Ye, Seonghyeon and Yang, Sohee and Seo, Youngkyung and "
                "Chang, Du-Seong and Seo, Minjoon",
                "How Do Large Language Models Acquire Factual Knowledge During Pretraining?",
                2024,
                "2406.11813",
            ),
        )
    ),
)

PROBE = Probe(
    name="retention",
    version=2,
    title="What is left of an item, so many updates after it was last trained on?",
    formula="excess(t) = mean outcome of items t steps after last_step, minus that of never-trained ones",
    source="Orhan 2023, arXiv:2303.17557; Chang et al. 2024, arXiv:2406.11813",
    about=_ABOUT,
    settings=Settings,
    candidates=DATED,
    plan=plan,
    measure=measure,
    table=RETENTION,
    metrics=(
        Metric("recall_frac", "fraction", "more suffixes are still recalled whole", "sequence", not_of_items),
        Metric(
            "recognition_frac",
            "fraction",
            "seen texts are still preferred more often",
            "sequence",
            not_of_items,
        ),
        Metric(
            "half_life_steps",
            "steps",
            "half of the excess over controls lasts longer",
            "sequence",
            not_of_items,
        ),
    ),
    over_time=OverTime((RETENTION_CURVE, RETENTION_FIT), estimate, problems),
    # No list of items: the sections of the probes that score these items say more about each.
    rankings=(),
    figures="memprobe.probes.retention.figures",
)
