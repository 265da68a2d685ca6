"""Tables of `forecast`: how well an earlier checkpoint predicts a later one."""

import polars as pl

from memprobe.tables.keys import NO_CONDITION, NO_STEP, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

# Item-level outcomes of `forecast`; used between measuring and estimating, never written.
FORECAST_ITEMS = item_table(
    "forecast_items",
    {"exact": Column(pl.Boolean(), "-", "greedy decoding picks the whole suffix", NO_CONDITION)},
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
