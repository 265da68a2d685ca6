"""Forecast: does an earlier checkpoint, or a smaller model, memorize what the last checkpoint memorizes?

An item is memorized if greedy decoding from its prefix yields its whole suffix; teacher forcing decides this.
The items memorized by the target's last checkpoint are the truth; those memorized by a predictor are its
forecast.

Source: Biderman et al. (2023), https://arxiv.org/abs/2304.11158. The statistics are in
memprobe/stats/forecast.py.
"""

from functools import partial

import polars as pl

from memprobe.probes.contract import About, Metric, OverTime, Probe, Scores, arxiv, not_of_items
from memprobe.probes.forecast.estimate import check_predictors, estimate
from memprobe.probes.forecast.settings import Settings
from memprobe.probes.forecast.tables import FORECAST, FORECAST_ITEMS
from memprobe.probes.placement import suffix_sums


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Return whether each item is memorized; null if a suffix token has nothing before it."""
    n = pl.col("n_scored")
    whole = (n > 0) & (n == pl.col("stop") - pl.col("score_from"))
    return scores.spans.select("item_id", exact=pl.when(whole).then(pl.col("n_hits") == n))


def problems(steps: tuple[int, ...], items: pl.DataFrame, settings: Settings) -> list[str]:  # noqa: ARG001
    """Return no problems: only a predictor can be missing, and `check_predictors` checks that."""
    return []


_metric = partial(Metric, unit="fraction", summary="sequence", values=not_of_items)

_ABOUT = About(
    measures="Which items will the last checkpoint have memorized? An earlier checkpoint, or a smaller "
    "model, is taken as the forecast and judged as a classifier.",
    how_to_read="recall_frac is the share of what ends up memorized that the forecast names; "
    "precision_frac the share of what it names that stays. For finding what to remove from "
    "training, a missed item costs more: read f2 and recall_frac.",
    limits="Few items are memorized, so intervals are wide. Items that an early checkpoint has not yet "
    "seen cannot be forecast by it: read the rows of seen items.",
    citation=arxiv(
        "biderman2023emergent",
        "Biderman, Stella and Prashanth, USVSN Sai and Sutawika, Lintang and Schoelkopf, Hailey "
        "and Anthony, Quentin and Purohit, Shivanshu and Raff, Edward",
        "Emergent and Predictable Memorization in Large Language Models",
        2023,
        "2304.11158",
    ),
)

PROBE = Probe(
    name="forecast",
    version=1,
    title="Does an earlier checkpoint, or a smaller model, predict what the last one memorizes?",
    formula="precision = TP / (TP + FP), recall = TP / (TP + FN), F_b = (1 + b^2) P R / (b^2 P + R)",
    source="Biderman et al. 2023, arXiv:2304.11158",
    about=_ABOUT,
    settings=Settings,
    plan=suffix_sums,
    measure=measure,
    table=FORECAST_ITEMS,
    metrics=(
        _metric(name="precision_frac", more_means="more of what the predictor memorizes stays memorized"),
        _metric(name="recall_frac", more_means="more of what the last checkpoint memorizes is predicted"),
        _metric(name="f1", more_means="both, equally weighed"),
        _metric(name="f2", more_means="both, recall counting four times"),
    ),
    over_time=OverTime((FORECAST,), estimate, problems, keeps_items=False, check_predictors=check_predictors),
    # No list of items: the sections of the probes that score these items say more about each.
    rankings=(),
    figures="memprobe.probes.forecast.figures",
)
