"""The table of `memprobe compare`: one row per difference between two runs."""

import polars as pl

from memprobe.tables.schema import Column, TableSchema

_NOT_COMPARED = "not compared, see reason"
_NO_SIDE = "not compared, or windows of a document, whose differences alone are taken"
_NO_STEP = "the checkpoint has no step, or the row is about all checkpoints"
_NO_INTERVAL = "not compared, or resampling shows no spread"

DIFFERENCES = TableSchema(
    name="differences",
    key=("model_base", "model_new", "step_base", "step", "probe", "metric", "group", "condition"),
    columns={
        "model_base": Column(pl.String(), "-", "the sequence in the base run"),
        "model_new": Column(pl.String(), "-", "the sequence in the new run"),
        "step_base": Column(
            pl.Int64(), "optimizer updates", "the checkpoint's step in the base run", _NO_STEP
        ),
        "step": Column(pl.Int64(), "optimizer updates", "the checkpoint's step in the new run", _NO_STEP),
        "probe": Column(pl.String(), "-", "the probe"),
        "metric": Column(pl.String(), "-", "the metric"),
        "group": Column(pl.String(), "-", "the group of items", "all items together"),
        "condition": Column(
            pl.String(), "-", "what else the number depends on, key=value;...", "nothing else"
        ),
        "base": Column(pl.Float64(), "see unit", "estimate in the base run, of the items compared", _NO_SIDE),
        "new": Column(pl.Float64(), "see unit", "estimate in the new run, of the items compared", _NO_SIDE),
        "difference": Column(
            pl.Float64(), "see unit", "new minus base, over the items that both runs hold", _NOT_COMPARED
        ),
        "ci_low": Column(pl.Float64(), "see unit", "lower end of the interval", _NO_INTERVAL),
        "ci_high": Column(pl.Float64(), "see unit", "upper end of the interval", _NO_INTERVAL),
        "ci_level": Column(pl.Float64(), "fraction", "coverage of the interval"),
        "ci_method": Column(pl.String(), "-", "how the interval was made", _NO_INTERVAL),
        "n_items": Column(pl.Int64(), "items", "items with a value in both runs"),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of these items"),
        "n_missing": Column(pl.Int64(), "items", "items whose value is undefined in one of the runs"),
        "n_changed": Column(
            pl.Int64(), "items", "of these, items with another value in the new run", _NOT_COMPARED
        ),
        "n_base_only": Column(
            pl.Int64(), "items", "items with a higher value in the base run: McNemar's b", "not a rate"
        ),
        "n_new_only": Column(
            pl.Int64(), "items", "items with a higher value in the new run: McNemar's c", "not a rate"
        ),
        "p_value": Column(
            pl.Float64(),
            "probability",
            "exact McNemar test of no difference",
            "not a rate, or items of one document depend on each other",
        ),
        "outcome": Column(
            pl.String(),
            "-",
            "worse (more memorized), better or unclear, as the interval lies above, below or across 0",
            "no interval, or the metric has no direction",
        ),
        "reason": Column(pl.String(), "-", "why it is not compared", "compared"),
        "unit": Column(pl.String(), "-", "unit of the difference and its interval"),
        "signature": Column(pl.String(), "-", "all that both numbers depend on but checkpoint and items"),
    },
)
