"""Tables of `stability` and `forecast`."""

import polars as pl

from memprobe.tables.keys import NO_STEP, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_NO_CONDITION = "the first suffix token has no condition"
_EVAL_SET = Column(pl.String(), "-", "the group of items that tests one task")
_SETS = Column(pl.String(), "-", _EVAL_SET.meaning, "over the sets")
_UNDEFINED = "undefined, see reason"
_NO_INTERVAL = "undefined, or no interval can be told, see reason"
_SCORED = "of the outcome"

# Item-level outcomes of `stability`; used between measuring and estimating, never written.
STABILITY_ITEMS = item_table(
    "stability_items",
    {
        "exact": Column(pl.Float64(), "0 or 1", "greedy decoding picks the whole suffix", _NO_CONDITION),
        "hit_frac": Column(
            pl.Float64(), "fraction", "suffix tokens that greedy decoding picks", _NO_CONDITION
        ),
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the suffix", _NO_CONDITION),
    },
)

STABILITY = TableSchema(
    name="stability",
    key=("model", "eval_set", "step"),
    columns={
        "model": SEQUENCE,
        "eval_set": _EVAL_SET,
        "task_end_step": Column(pl.Int64(), "optimizer updates", "updates done when the set's task ended"),
        "step": Column(pl.Int64(), "optimizer updates", "the checkpoint"),
        "score": Column(pl.Float64(), _SCORED, "mean outcome of the set's items; higher is better"),
        "lo": Column(pl.Float64(), _SCORED, "lower end of its interval", "the draws do not vary"),
        "hi": Column(pl.Float64(), _SCORED, "upper end of its interval", "the draws do not vary"),
        "ci_method": Column(pl.String(), "-", "how the interval was made", "there is none"),
        "n_items": Column(pl.Int64(), "items", "items of the set with a finite outcome at every checkpoint"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents that they belong to"),
    },
    open_ended=True,
)

STABILITY_MEASURES = TableSchema(
    name="stability_measures",
    key=("model", "metric", "window", "eval_set"),
    columns={
        "model": SEQUENCE,
        "metric": Column(pl.String(), "-", "the measure, as in the summary"),
        "window": Column(pl.Int64(), "checkpoints", "width of the windows of wf and wp", "it has none"),
        "eval_set": _SETS,
        "estimate": Column(pl.Float64(), "of the outcome or steps", "the measure", _UNDEFINED),
        "lo": Column(pl.Float64(), "of the outcome or steps", "lower end of its interval", _NO_INTERVAL),
        "hi": Column(pl.Float64(), "of the outcome or steps", "upper end of its interval", _NO_INTERVAL),
        "ci_method": Column(pl.String(), "-", "how the interval was made", "there is none"),
        "bias": Column(
            pl.Float64(),
            _SCORED,
            "mean of the bootstrap minus the estimate: so far noise of the items shifts it",
            _NO_INTERVAL,
        ),
        "n_items": Column(pl.Int64(), "items", "items of the sets in it"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents that they belong to"),
        "spacing_min_steps": Column(
            pl.Int64(), "steps", "fewest updates from a checkpoint to the next", "one checkpoint alone"
        ),
        "spacing_max_steps": Column(pl.Int64(), "steps", "most of them", "one checkpoint alone"),
        "reason": Column(pl.String(), "-", "why estimate or interval is missing", "both are there"),
    },
    open_ended=True,
)

STABILITY_GAPS = TableSchema(
    name="stability_gaps",
    key=("model", "switch_step", "eval_set"),
    columns={
        "model": SEQUENCE,
        "switch_step": Column(pl.Int64(), "optimizer updates", "last checkpoint of a task: the next begins"),
        "until_step": Column(pl.Int64(), "optimizer updates", "last checkpoint of that next task"),
        "eval_set": _EVAL_SET,
        "depth_of_gap": Column(
            pl.Float64(), _SCORED, "score at the switch minus the lowest after it; negative: it only rose"
        ),
        "depth_lo": Column(pl.Float64(), _SCORED, "lower end of its interval", "the draws do not vary"),
        "depth_hi": Column(pl.Float64(), _SCORED, "upper end of its interval", "the draws do not vary"),
        "depth_bias": Column(
            pl.Float64(), _SCORED, STABILITY_MEASURES.columns["bias"].meaning, "the draws do not vary"
        ),
        "trough_step": Column(pl.Int64(), "optimizer updates", "checkpoint of the lowest score"),
        "recovery_steps": Column(
            pl.Int64(),
            "steps",
            "updates from the switch to the first checkpoint past the lowest that is back; 0: never below",
            "not back when the next task ended",
        ),
        "recovery_lo": Column(pl.Int64(), "updates", "lower end of its interval", "see reason"),
        "recovery_hi": Column(pl.Int64(), "updates", "upper end of its interval", "see reason"),
        "n_items": Column(pl.Int64(), "items", "items of the set"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents that they belong to"),
        "reason": Column(pl.String(), "-", "why recovery_steps or its interval is missing", "both are there"),
    },
    open_ended=True,
)

# Item-level outcomes of `forecast`; used between measuring and estimating, never written.
FORECAST_ITEMS = item_table(
    "forecast_items",
    {"exact": Column(pl.Boolean(), "-", "greedy decoding picks the whole suffix", _NO_CONDITION)},
)

_NOTHING_PREDICTED = "the predictor memorizes no item"
_NOTHING_TRUE = "the target memorizes no item"
_NO_SPREAD = "undefined, or the draws do not vary"

FORECAST = TableSchema(
    name="forecast",
    key=("model", "predictor_model", "predictor_step", "group", "seen"),
    columns={
        "model": SEQUENCE,
        "predictor_model": Column(pl.String(), "-", "the same sequence, or a smaller model of the run"),
        "predictor_step": Column(pl.Int64(), "optimizer updates", "the checkpoint that predicts", NO_STEP),
        "target_step": Column(
            pl.Int64(), "optimizer updates", "the checkpoint that is predicted: the last", NO_STEP
        ),
        "group": Column(pl.String(), "-", "the group of items", "all items together"),
        "seen": Column(
            pl.Boolean(),
            "-",
            "true: items that training had come to by predictor_step; false: that it came to later",
            "all items, those never trained on too",
        ),
        "tp": Column(pl.Int64(), "items", "memorized by both"),
        "fp": Column(pl.Int64(), "items", "memorized by the predictor alone"),
        "fn": Column(pl.Int64(), "items", "memorized by the target alone"),
        "tn": Column(pl.Int64(), "items", "memorized by neither"),
        "precision_frac": Column(pl.Float64(), "fraction", "tp of tp + fp", _NOTHING_PREDICTED),
        "precision_lo": Column(pl.Float64(), "fraction", "lower end of its interval", _NOTHING_PREDICTED),
        "precision_hi": Column(pl.Float64(), "fraction", "upper end of its interval", _NOTHING_PREDICTED),
        "recall_frac": Column(pl.Float64(), "fraction", "tp of tp + fn", _NOTHING_TRUE),
        "recall_lo": Column(pl.Float64(), "fraction", "lower end of its interval", _NOTHING_TRUE),
        "recall_hi": Column(pl.Float64(), "fraction", "upper end of its interval", _NOTHING_TRUE),
        "f1": Column(
            pl.Float64(), "fraction", "harmonic mean of precision and recall", "one of them is undefined"
        ),
        "f1_lo": Column(pl.Float64(), "fraction", "lower end of its interval", _NO_SPREAD),
        "f1_hi": Column(pl.Float64(), "fraction", "upper end of its interval", _NO_SPREAD),
        "f2": Column(
            pl.Float64(), "fraction", "the same, recall counting four times", "one of them is undefined"
        ),
        "f2_lo": Column(pl.Float64(), "fraction", "lower end of its interval", _NO_SPREAD),
        "f2_hi": Column(pl.Float64(), "fraction", "upper end of its interval", _NO_SPREAD),
        "phi": Column(
            pl.Float64(),
            "-",
            "correlation of predictor and target, -1 to 1",
            "predictor or target is the same for all items",
        ),
        "phi_lo": Column(pl.Float64(), "-", "lower end of its interval", _NO_SPREAD),
        "phi_hi": Column(pl.Float64(), "-", "upper end of its interval", _NO_SPREAD),
        "rates_ci_method": Column(
            pl.String(), "-", "how intervals of precision and recall were made", "neither is defined"
        ),
        "f_ci_method": Column(pl.String(), "-", "how the other intervals were made", "there is none"),
        "mcnemar_p_value": Column(
            pl.Float64(),
            "probability",
            "exact, two-sided: of the target's items, as many are found as by the predictor one row before",
            "the first predictor of its kind, part of the items, items of one document, or nothing memorized",
        ),
        "compute_ratio": Column(
            pl.Float64(),
            "-",
            "training compute of predictor over target by 6 N D, with as many tokens in every step",
            "number of parameters not known, or the target is untrained",
        ),
        "n_items": Column(pl.Int64(), "items", "items that both were asked"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents that they belong to"),
        "n_missing": Column(pl.Int64(), "items", "items that one of both could not be asked"),
    },
    open_ended=True,
)
