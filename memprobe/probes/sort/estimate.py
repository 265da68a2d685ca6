"""Aggregate tables of `sort`: accuracy of each cell with its interval, and the choice of a template.

Reference: Pink et al. (2024), https://arxiv.org/abs/2410.08133, section 4 (155 readers).
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from memprobe.probes.contract import Scores
from memprobe.probes.sort.tables import SORT_ACCURACY, SORT_PROMPTS
from memprobe.probes.sort.trials import prompt_rows, validated
from memprobe.probes.sort.values import BREAKDOWNS, position_bias
from memprobe.stats.binomial import binomial_p
from memprobe.stats.intervals import FEW_CLUSTERS, LEVEL
from memprobe.stats.rates import rate_interval
from memprobe.tables.conditions import built

# Accuracy of the human readers in the paper, by the number of words of a segment.
HUMANS = {50: 0.64, 20: 0.56}
Draws = Callable[..., np.random.Generator]
_KEYS = ("model", "revision", "step")
_CUTS: tuple[tuple[str, ...], ...] = (
    (),
    *((name,) for name in BREAKDOWNS),
    ("excerpt_words", "segment_words"),
    ("excerpt_words", "segment_words", "distance_bin"),
)


def accuracy_table(
    table: pl.DataFrame,
    about: pl.DataFrame,
    _: Scores,
    settings: Any,  # noqa: ANN401
    __: Draws,
) -> pl.DataFrame:
    """Return the columns of `SORT_ACCURACY` after the checkpoint's keys.

    Args:
        table: Rows of `SORT`.
        about: `item_id, group, cluster`.
        settings: Settings of the probe.
    """
    share = position_bias(table, settings).select("item_id", "condition", first="value")
    trials = (
        table.filter(pl.col("mode") == "prompt")
        .with_columns(position=BREAKDOWNS["position"], of=built(condition="condition", mode="mode"))
        .join(share, left_on=["item_id", "of"], right_on=["item_id", "condition"], how="left")
        .drop("group")
        .join(about, on="item_id", how="left")
        .filter(pl.col("correct").is_not_null())
        .sort("item_id")
    )
    groups = trials["group"].drop_nulls().unique().sort().to_list()
    rows = chain.from_iterable(
        _cells(trials if group is None else trials.filter(pl.col("group") == group), group, cut)
        for group in (None, *groups)
        for cut in _CUTS
    )
    columns = {name: column.dtype for name, column in SORT_ACCURACY.columns.items() if name not in _KEYS}
    return pl.DataFrame(list(rows), schema=columns, orient="row")


def _cells(trials: pl.DataFrame, group: str | None, cut: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield one row for each mode, condition and combination of values of the columns in `cut`."""
    known = trials.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in cut)) if cut else trials
    parts = known.partition_by("mode", "condition", *cut, as_dict=True, maintain_order=True)
    for (mode, condition, *values), rows in sorted(parts.items()):
        cell = dict(zip(cut, values, strict=True))
        yield {
            "mode": mode,
            "condition": condition,
            "group": group,
            **{name: cell.get(name) for name in ("excerpt_words", "segment_words", "distance_bin")},
            "position_bin": cell.get("position"),
            **_estimates(rows),
            "human_accuracy_frac": HUMANS.get(cell.get("segment_words", 0))
            if condition == "parametric"
            else None,
        }


def _estimates(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the estimates of one cell from its trials."""
    correct = rows["correct"].to_numpy().astype(np.float64)
    numbers, clusters = np.unique(rows["cluster"].to_numpy(), return_inverse=True)
    interval = rate_interval(correct, clusters.astype(np.int64), level=LEVEL)
    decided = correct[correct != 0.5]
    independent = len(numbers) == len(correct) and len(decided) > 0
    mass, first, presented = rows.select(pl.col("label_mass", "first", "presented_correct").mean()).row(0)
    return {
        "accuracy_frac": float(correct.mean()),
        "ci_low": interval.lo if interval else None,
        "ci_high": interval.hi if interval else None,
        "ci_method": interval.method if interval else FEW_CLUSTERS,
        "p_binomial": binomial_p(int(decided.sum()), len(decided)) if independent else None,
        "label_mass": mass,
        "position_bias_frac": None if first is None else 2 * first - 1,
        "presented_accuracy_frac": presented,
        "n_trials": len(correct),
        "n_clusters": len(numbers),
    }


def prompts_table(
    _: pl.DataFrame,
    __: pl.DataFrame,
    scores: Scores,
    settings: Any,  # noqa: ANN401
    ___: Draws,
) -> pl.DataFrame:
    """Return the columns of `SORT_PROMPTS` after the checkpoint's keys; no rows if there was no choice."""
    names = [prompt.name for prompt in settings.used]
    if len(names) < 2:
        return SORT_PROMPTS.empty().drop(_KEYS)
    return validated(prompt_rows(scores), names)
