"""Profile: what did training on an item at one time change, and how long does the change last?

Items form cohorts by the first checkpoint that has seen them. Items never trained on (controls) show the
change that happens anyway. The effect on a cohort at a checkpoint is the change of its outcome since before
its training, minus the change of the controls over the same time.

Sources: Lesci et al. (2024), https://arxiv.org/abs/2406.04327; Callaway and Sant'Anna (2021),
https://doi.org/10.1016/j.jeconom.2020.12.001. The statistics are in memprobe/stats/did/.
"""

from typing import get_args

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
from memprobe.probes.placement import text_sums
from memprobe.probes.profile.estimate import Panel, estimate_outcome
from memprobe.probes.profile.settings import Outcome, Settings
from memprobe.probes.profile.tables import (
    PROFILE,
    PROFILE_AGG,
    PROFILE_DROPPED,
    PROFILE_ITEMS,
    PROFILE_PRETREND,
)
from memprobe.probes.values import MEAN_LOGPROB
from memprobe.tables.requests import Plan

_SCHEMAS = (PROFILE, PROFILE_AGG, PROFILE_PRETREND, PROFILE_DROPPED)


def plan(items: pl.DataFrame, settings: Settings) -> Plan:  # noqa: ARG001
    """Request the sums over all tokens of each item."""
    return text_sums(items)


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Return each item's outcomes at one checkpoint; null if it has no scored token."""
    n = pl.when(pl.col("n_scored") > 0).then("n_scored")
    return scores.spans.select(
        "item_id",
        logprob_mean_nats=MEAN_LOGPROB,
        exact=(pl.col("n_hits") == n).cast(pl.Float64),
        hit_frac=pl.col("n_hits") / n,
        rank_mean=-pl.col("rank_sum") / n,
    )


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:
    """Return the reasons why effects cannot be estimated; empty if they can."""
    panel = Panel.of(steps, items, settings.control, repeated=settings.repeated)
    if len(steps) < 2:
        return ["needs at least two checkpoints, before and after training on the items"]
    found = []
    if panel.treated.is_empty() and not panel.n_late:
        found.append("no item has a first_step, so there is nothing whose training could show")
    elif not panel.with_base(settings.anticipation):
        found.append(
            f"no item with a first_step between the checkpoints at step {steps[0]} and {steps[-1]}: "
            "none was scored before and after its training"
        )
    if settings.control != "not_yet" and panel.never.is_empty():
        late = ", or after the last checkpoint" if settings.control == "untrained" else ""
        found.append(
            f"no item is never trained on (first_step null){late}, so there is nothing to compare with"
        )
    return found


def estimate(history: History, settings: Settings) -> SequenceResult:
    """Estimate the profile of every outcome: effects, their means, tests and summary rows."""
    if stop := problems(history.steps, history.items, settings):
        return SequenceResult({}, no_estimates(), tuple(stop))
    panel = Panel.of(history.steps, history.items, settings.control, repeated=settings.repeated)
    tables: dict[str, list[pl.DataFrame]] = {schema.name: [] for schema in _SCHEMAS}
    estimates, warnings, left_out = [no_estimates()], [], dict(panel.left_out)
    if history.missing:
        warnings.append(f"left out, as they are not scored: {', '.join(history.missing)}")
    for outcome in settings.outcomes:
        result = estimate_outcome(history, panel, outcome, settings)
        estimates.append(result.estimates)
        warnings += result.warnings
        # Outcomes mostly lose the same items, so the largest number is taken, not the sum.
        left_out |= {reason: max(n, left_out.get(reason, 0)) for reason, n in result.left_out.items()}
        for name, rows in result.tables.items():
            tables[name].append(rows)
    built = {name: pl.concat(frames) for name, frames in tables.items() if frames}
    return SequenceResult(built, pl.concat(estimates), tuple(dict.fromkeys(warnings)), left_out)


def _metric(name: str, what: str) -> Metric:
    return Metric(
        name,
        "nats per token",
        f"training on an item raised its outcome more {what}",
        "sequence",
        not_of_items,
    )


_ABOUT = About(
    measures="By how much did training on an item at one time raise its log-probability, and how long "
    "does that last? Items are compared with items never trained on, before and after, so "
    "what the model learned anyway cancels out.",
    how_to_read="instantaneous is the effect by the first checkpoint after training, persistent at "
    "later ones, residual at the last; 0 is no effect. In the event study all estimates "
    "left of 0 should lie around 0: else treated and control items drifted apart before.",
    limits="It rests on parallel trends: controls that are other kinds of text bias it, and so do "
    "near-duplicates of controls in the training data. Errors within a cohort are correlated, "
    "so read the simultaneous bands.",
    citation="\n\n".join(
        (
            arxiv(
                "lesci2024causal",
                "Lesci, Pietro and Meister, Clara and Hofmann, Thomas and Vlachos, Andreas and Pimentel, "
                "Tiago",
                "Causal Estimation of Memorisation Profiles",
                2024,
                "2406.04327",
            ),
            "@article{callaway2021difference,\n  author = {Callaway, Brantly and Sant'Anna, Pedro H. C.},\n"
            "  title = {Difference-in-Differences with multiple time periods},\n"
            "  journal = {Journal of Econometrics},\n  volume = {225},\n  number = {2},\n"
            "  pages = {200--230},\n  year = {2021},\n  doi = {10.1016/j.jeconom.2020.12.001}\n}",
        )
    ),
)

PROBE = Probe(
    name="profile",
    version=1,
    title="What did training on an item change, and for how long?",
    formula="ATT(g, t) = mean_g(Y_t - Y_b) - mean_never(Y_t - Y_b); cohorts g, base b before training",
    source="Lesci et al. 2024, arXiv:2406.04327; Callaway and Sant'Anna 2021",
    about=_ABOUT,
    settings=Settings,
    candidates=DATED,
    plan=plan,
    measure=measure,
    table=PROFILE_ITEMS,
    metrics=(
        _metric("instantaneous", "by the first checkpoint after it"),
        _metric("persistent", "at later checkpoints"),
        _metric("residual", "at the last checkpoint"),
    ),
    over_time=OverTime(_SCHEMAS, estimate, problems, keeps_items=False),
    # No list of items: the sections of the probes that score these items say more about each.
    rankings=(),
    figures="memprobe.probes.profile.figures",
)

OUTCOMES: tuple[str, ...] = get_args(Outcome)
