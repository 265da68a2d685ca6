"""Tables of `profile`: effects by cohort and step, their means, pre-trends, and items and cells left out."""

import polars as pl

from memprobe.tables.keys import ALONE, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_OUTCOME = Column(pl.String(), "-", "which number of an item the effect is on")

_NO_ERROR = "no standard error: a single cluster, or clusters that do not vary"

_NO_DRAWS = "no bootstrap draws were asked for, or there is no standard error"

# Item-level outcomes of `profile`; used between measuring and estimating, never written.
PROFILE_ITEMS = item_table(
    "profile_items",
    {
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the scored tokens", ALONE),
        "exact": Column(pl.Float64(), "0 or 1", "greedy decoding picks every scored token", ALONE),
        "hit_frac": Column(pl.Float64(), "fraction", "scored tokens that greedy decoding picks", ALONE),
        "rank_mean": Column(
            pl.Float64(), "tokens", "minus the mean rank of the scored tokens: higher is more", ALONE
        ),
    },
)

PROFILE = TableSchema(
    name="profile",
    key=("model", "outcome", "cohort_step", "step"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "cohort_step": Column(pl.Int64(), "optimizer updates", "first checkpoint that had seen the items"),
        "step": Column(pl.Int64(), "optimizer updates", "the checkpoint at which the effect is measured"),
        "base_step": Column(pl.Int64(), "optimizer updates", "the checkpoint that it is compared with"),
        "event_time": Column(pl.Int64(), "checkpoints", "from the cohort's checkpoint to this one"),
        "att": Column(pl.Float64(), "of the outcome", "effect on the treated; positive: better remembered"),
        "se_analytic": Column(
            pl.Float64(), "of the outcome", "standard error from influence functions", _NO_ERROR
        ),
        "se_boot": Column(pl.Float64(), "of the outcome", "standard error from multiplier draws", _NO_DRAWS),
        "lo": Column(pl.Float64(), "of the outcome", "lower end of the pointwise interval", _NO_ERROR),
        "hi": Column(pl.Float64(), "of the outcome", "upper end of the pointwise interval", _NO_ERROR),
        "lo_sim": Column(
            pl.Float64(), "of the outcome", "lower end of the simultaneous band over all cells", _NO_DRAWS
        ),
        "hi_sim": Column(pl.Float64(), "of the outcome", "upper end of that band", _NO_DRAWS),
        "n_treated": Column(pl.Int64(), "items", "items of the cohort"),
        "n_control": Column(pl.Int64(), "items", "control items"),
        "is_post": Column(pl.Boolean(), "-", "the checkpoint has seen the cohort's items"),
        "diff": Column(
            pl.Float64(), "of the outcome", "treated minus control at the step, no base taken off"
        ),
        "diff_se": Column(pl.Float64(), "of the outcome", "standard error of diff", _NO_ERROR),
    },
    open_ended=True,
)

PROFILE_AGG = TableSchema(
    name="profile_agg",
    key=("model", "outcome", "aggregation", "key"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "aggregation": Column(
            pl.String(), "-", "simple, cohort, event, calendar, persistent or event_balanced"
        ),
        "key": Column(
            pl.Int64(),
            "updates (cohort, calendar) or checkpoints (event)",
            "the cohort's step, the step, or the event time",
            "the mean over all of the kind",
        ),
        "att": PROFILE.columns["att"],
        "se": PROFILE.columns["se_analytic"],
        "lo": PROFILE.columns["lo"],
        "hi": PROFILE.columns["hi"],
        "lo_sim": Column(
            pl.Float64(),
            "of the outcome",
            "lower end of the simultaneous band over all keys of the kind",
            _NO_DRAWS,
        ),
        "hi_sim": PROFILE.columns["hi_sim"],
        "n_cells": Column(pl.Int64(), "cells", "cells of cohort and step in the mean"),
    },
    open_ended=True,
)

PROFILE_PRETREND = TableSchema(
    name="profile_pretrend",
    key=("model", "outcome", "test", "cohort_step"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "test": Column(
            pl.String(),
            "-",
            "wald and sup_t: no effect before treatment; base_gap: treated minus control at the base",
        ),
        "cohort_step": Column(pl.Int64(), "optimizer updates", "the cohort of a base gap", "all cohorts"),
        "statistic": Column(
            pl.Float64(), "-", "W, the largest |t|, or the gap in units of the outcome", "see reason"
        ),
        "se": Column(pl.Float64(), "of the outcome", "standard error of a base gap", "no base gap"),
        "df": Column(pl.Int64(), "-", "degrees of freedom of W", "not a Wald test"),
        "p_value": Column(
            pl.Float64(), "probability", "p value of the test", "a cohort's gap, or see reason"
        ),
        "n_cells": Column(pl.Int64(), "cells", "cells or means that were tested"),
        "reason": Column(pl.String(), "-", "why there is no statistic", "there is one"),
    },
    open_ended=True,
)

PROFILE_DROPPED = TableSchema(
    name="profile_dropped",
    key=("model", "outcome", "cohort_step", "step", "item_id"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "cohort_step": Column(
            pl.Int64(), "optimizer updates", "the cohort", "seen after the last checkpoint, or one item"
        ),
        "step": Column(
            pl.Int64(), "optimizer updates", "the cell that is missing", "all cells of the cohort"
        ),
        "item_id": Column(pl.String(), "-", "the item that is left out", "a cohort, not an item"),
        "n_items": Column(pl.Int64(), "items", "items concerned"),
        "reason": Column(pl.String(), "-", "why no estimate is made of them"),
    },
    open_ended=True,
)
