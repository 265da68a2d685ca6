"""Acquisition: how much does one exposure raise the log-probability of a fact, and how fast does that decay?

An item tests a fact (its doc_id); its level is the mean ln p of its suffix. Each exposure is an injection.
The checkpoint with the highest level in a window after the injection is the local acquisition maximum (LAM).
The rise of the level up to the LAM is the effectivity. The retainability R(t) is the share of the rise since
before the first injection that is left t steps after the LAM of the last injection; it decays as
R(t) = -a log10(t / tau).

Steps count the updates done: an injection at step u is seen by checkpoints with step >= u, and the level
before it is that of the last checkpoint with a smaller step. A window begins at u and ends before the item's
next injection, or after window_steps steps if that is earlier. If some steps of the window have no
checkpoint, the maximum can be missed. The maximum of noisy values is too high; effectivity_null_nats
estimates by how much.

Source: Chang et al. (2024), sections 3.2 and 4.3, https://arxiv.org/abs/2406.11813. Unlike in their code,
items that were never acquired are excluded and counted, not trimmed as outliers. The statistics are in
memprobe/stats/acquisition.py.
"""

import polars as pl

from memprobe.probes.acquisition.estimate import estimate_acquisition
from memprobe.probes.acquisition.injections import Injections
from memprobe.probes.acquisition.settings import Settings
from memprobe.probes.acquisition.tables import (
    ACQUISITION,
    ACQUISITION_CURVE,
    ACQUISITION_FIT,
    ACQUISITION_ITEMS,
)
from memprobe.probes.contract import (
    DATED,
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
from memprobe.probes.placement import suffix_sums


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Return each item's level at one checkpoint; null if a suffix token has nothing before it."""
    n = pl.col("n_scored")
    whole_suffix = n == pl.col("stop") - pl.col("score_from")
    return scores.spans.select(
        "item_id", logprob_mean_nats=pl.when(whole_suffix).then(pl.col("logprob_sum_nats") / n)
    )


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:
    """Return the reasons why acquisition cannot be estimated; empty if it can."""
    if len(steps) < 2:
        return ["needs at least two checkpoints, before and after an injection"]
    if items["first_step"].null_count() == items.height:
        return ["no item has a first_step, so there is no injection to look at"]
    found = Injections.of(items, steps, settings.window_steps)
    if not found.rows.height:
        return [
            f"no item says when it was trained on each time: {found.n_unclear:,} of more than one exposure "
            "lack exposure_steps"
        ]
    if found.with_both_sides:
        return []
    if Injections.of(items, steps, None).with_both_sides:
        return [
            f"no checkpoint lies within {settings.window_steps:,} steps of an injection: set window_steps to "
            "the spacing of the checkpoints or more, or leave it out"
        ]
    return [
        f"no injection between the checkpoints at step {steps[0]:,} and {steps[-1]:,}: none was scored "
        "before and after it"
    ]


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Estimate effectivity, the share of acquired items, and the decay of what they gained."""
    if stop := problems(history.steps, history.items, settings):
        return SequenceResult({}, no_estimates(), tuple(stop))
    return estimate_acquisition(history, settings)


_ABOUT = About(
    measures="By how much does one exposure of a text raise its log-probability, and how fast is what "
    "was gained lost again? It follows each item from the checkpoint before an exposure to "
    "its highest point after, and on.",
    how_to_read="effectivity_nats is the rise of one exposure; set it beside effectivity_null_nats, "
    "the rise of windows without any. decay_per_decade is the share of the gain that is "
    "lost while the time since the highest point grows tenfold.",
    limits="Sparse checkpoints miss the highest point, and a maximum of noisy values lies too high. "
    "Exposures with no checkpoint between them count as one.",
    citation=arxiv(
        "chang2024how",
        "Chang, Hoyeon and Park, Jinho and Ye, Seonghyeon and Yang, Sohee and Seo, Youngkyung and "
        "Chang, Du-Seong and Seo, Minjoon",
        "How Do Large Language Models Acquire Factual Knowledge During Pretraining?",
        2024,
        "2406.11813",
    ),
)

PROBE = Probe(
    name="acquisition",
    version=1,
    title="How much does one exposure teach a fact, and how fast is it forgotten?",
    formula="effectivity = l(LAM) - l(before); R(t) = (l(LAM+t) - l_pre)/(l(LAM) - l_pre) = -a log10(t/tau)",
    source="Chang et al. 2024, arXiv:2406.11813",
    about=_ABOUT,
    settings=Settings,
    candidates=DATED,
    plan=suffix_sums,
    measure=measure,
    table=ACQUISITION_ITEMS,
    metrics=(
        sequence_metric(
            "effectivity_nats", "nats per token", "an injection raised the level more", more_is_memorized=True
        ),
        sequence_metric(
            "effectivity_null_nats",
            "nats per token",
            "more of effectivity_nats is there without an injection: noise, or general learning",
            more_is_memorized=False,
        ),
        sequence_metric(
            "acquired_frac",
            "fraction",
            "more items score higher after their last injection than before the first",
            more_is_memorized=True,
        ),
        sequence_metric(
            "decay_per_decade",
            "per decade",
            "what was acquired is forgotten faster",
            more_is_memorized=False,
        ),
    ),
    over_time=OverTime(
        (ACQUISITION, ACQUISITION_CURVE, ACQUISITION_FIT), estimate, problems, keeps_items=False
    ),
    rankings=(
        Ranking("acquisition", "effectivity_nats", ("injection", "injection_step", "effectivity_nats")),
    ),
    figures="memprobe.probes.acquisition.figures",
)
