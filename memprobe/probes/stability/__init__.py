"""Stability: when training tasks follow each other, how much of the earlier ones is lost, and does it return?

A group of items is the evaluation set of one task, and `task_end_step` is the step at which the training on
this task ended. The scores of each set are followed over all checkpoints, so that losses between the ends of
tasks are also seen, even if they are made up for by the end of a task.

Sources: De Lange et al. (2023), https://arxiv.org/abs/2205.13452; Lopez-Paz and Ranzato (2017),
https://arxiv.org/abs/1706.08840; Chaudhry et al. (2018), https://arxiv.org/abs/1801.10112. The statistics
are in memprobe/stats/stability.py.
"""

from functools import partial

import polars as pl

from memprobe.probes.contract import About, Metric, OverTime, Probe, Scores, arxiv, not_of_items, with_column
from memprobe.probes.placement import suffix_sums
from memprobe.probes.stability.estimate import estimate, problems
from memprobe.probes.stability.settings import Settings
from memprobe.probes.stability.tables import STABILITY, STABILITY_GAPS, STABILITY_ITEMS, STABILITY_MEASURES


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Return each item's outcomes at one checkpoint; null if a suffix token has nothing before it."""
    n = pl.col("n_scored")
    whole = (n > 0) & (n == pl.col("stop") - pl.col("score_from"))
    values = {
        "exact": (pl.col("n_hits") == n).cast(pl.Float64),
        "hit_frac": pl.col("n_hits") / n,
        "logprob_mean_nats": pl.col("logprob_sum_nats") / n,
    }
    return scores.spans.select("item_id", **{name: pl.when(whole).then(of) for name, of in values.items()})


_metric = partial(Metric, unit="of the outcome", summary="sequence", values=not_of_items)

_ABOUT = About(
    measures="The items come in sets, each trained on in a task of its own: how much of the earlier "
    "sets is lost while later ones are trained on, and does it come back? Scores are followed "
    "at every checkpoint, not only at the ends of tasks.",
    how_to_read="acc and min_acc: higher is better kept. bwt below 0, wf, depth_of_gap and "
    "forgetting_chaudhry above 0: something was lost; recovery_steps says how long it "
    "takes to return.",
    limits="The minimum of noisy scores lies too low, the more the more checkpoints and the fewer "
    "items there are: read bias. What happens between two checkpoints is not seen.",
    citation="\n\n".join(
        (
            arxiv(
                "delange2023continual",
                "De Lange, Matthias and van de Ven, Gido and Tuytelaars, Tinne",
                "Continual evaluation for lifelong learning: Identifying the stability gap",
                2023,
                "2205.13452",
            ),
            arxiv(
                "lopezpaz2017gradient",
                "Lopez-Paz, David and Ranzato, Marc'Aurelio",
                "Gradient Episodic Memory for Continual Learning",
                2017,
                "1706.08840",
            ),
            arxiv(
                "chaudhry2018riemannian",
                "Chaudhry, Arslan and Dokania, Puneet K. and Ajanthan, Thalaiyasingam and Torr, Philip H. S.",
                "Riemannian Walk for Incremental Learning: Understanding Forgetting and Intransigence",
                2018,
                "1801.10112",
            ),
        )
    ),
)

PROBE = Probe(
    name="stability",
    version=1,
    title="What is lost of earlier tasks while a later one is trained, and does it return?",
    formula="min-ACC = mean over earlier sets of the lowest score after their task; BWT = mean(R_Ti - R_ii)",
    source="De Lange et al. 2023, arXiv:2205.13452; Lopez-Paz and Ranzato 2017; Chaudhry et al. 2018",
    about=_ABOUT,
    settings=Settings,
    candidates=with_column("task_end_step"),
    plan=suffix_sums,
    measure=measure,
    table=STABILITY_ITEMS,
    metrics=(
        _metric(name="acc", more_means="the sets score more when the last task has ended"),
        _metric(name="bwt", more_means="less is lost, or more gained, since each set's own task ended"),
        _metric(name="fwt", more_means="sets score more before their task than without any training"),
        _metric(
            name="forgetting_chaudhry",
            more_means="more is lost since the best end of a task",
            more_is_memorized=False,
        ),
        _metric(name="min_acc", more_means="the lowest scores after their task are higher"),
        _metric(name="wc_acc", more_means="the newest set and the lowest of the others score more"),
        _metric(
            name="wf", more_means="a larger drop within a window of checkpoints", more_is_memorized=False
        ),
        _metric(name="wp", more_means="a larger rise within a window of checkpoints"),
        _metric(
            name="depth_of_gap",
            more_means="earlier sets fall further after a switch",
            more_is_memorized=False,
        ),
        Metric(
            "recovery_steps",
            "steps",
            "it takes longer until a set is back at its score of the switch",
            "sequence",
            not_of_items,
            more_is_memorized=False,
        ),
    ),
    over_time=OverTime(
        (STABILITY, STABILITY_MEASURES, STABILITY_GAPS), estimate, problems, keeps_items=False
    ),
    # No list of items: the sections of the probes that score these items say more about each.
    rankings=(),
    figures="memprobe.probes.stability.figures",
)
