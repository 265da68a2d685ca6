"""Tables of `stability`: scores of each task, its measures, and the gap after each change of task."""

import polars as pl

from memprobe.tables.keys import NO_CONDITION, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_EVAL_SET = Column(pl.String(), "-", "the group of items that tests one task")

_SETS = Column(pl.String(), "-", _EVAL_SET.meaning, "over the sets")

_UNDEFINED = "undefined, see reason"

_NO_INTERVAL = "undefined, or no interval, see reason"

_SCORED = "of the outcome"

# Item-level outcomes of `stability`; used between measuring and estimating, never written.
STABILITY_ITEMS = item_table(
    "stability_items",
    {
        "exact": Column(pl.Float64(), "0 or 1", "greedy decoding picks the whole suffix", NO_CONDITION),
        "hit_frac": Column(
            pl.Float64(), "fraction", "suffix tokens that greedy decoding picks", NO_CONDITION
        ),
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the suffix", NO_CONDITION),
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
