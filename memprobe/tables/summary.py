"""Schemas of the tables that all probes share: the summary, and the growth of rates with a dose."""

import polars as pl

from memprobe.tables.keys import ITEM_KEYS, NO_STEP
from memprobe.tables.schema import Column, TableSchema

SUMMARY = TableSchema(
    name="summary",
    key=("model", "revision", "step", "probe", "metric", "group", "condition"),
    columns={
        "model": ITEM_KEYS["model"],
        "revision": Column(pl.String(), "-", "the checkpoint's revision", "the row is about all checkpoints"),
        "step": Column(
            pl.Int64(),
            "optimizer updates",
            "the checkpoint's step",
            "the checkpoint has no step, or, where revision is null too, the row is about all checkpoints",
        ),
        "probe": Column(pl.String(), "-", "the probe"),
        "metric": Column(pl.String(), "-", "the metric"),
        "group": Column(pl.String(), "-", "the group of items", "all items together"),
        "condition": Column(
            pl.String(), "-", "what else the number depends on, key=value;...", "nothing else"
        ),
        "estimate": Column(pl.Float64(), "see unit", "the estimate", "undefined for these items"),
        "ci_low": Column(pl.Float64(), "see unit", "lower end of the interval", "undefined for these items"),
        "ci_high": Column(pl.Float64(), "see unit", "upper end of the interval", "undefined for these items"),
        "ci_level": Column(pl.Float64(), "fraction", "coverage of the interval"),
        "ci_method": Column(
            pl.String(),
            "-",
            "how the interval was made; none:REASON where there is none (all-equal: the items agree, and how "
            "far others may differ is not known; few-clusters: worth fewer than two of equal size; long-run: "
            "a passage longer than the blocks; few-for-median: it may lie beyond all values; biased: a "
            "minimum or maximum that noise moves; unfit: the curve follows no law)",
            "there is no interval",
        ),
        "n_items": Column(pl.Int64(), "items", "items in the estimate"),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of items that overlap"),
        "n_missing": Column(pl.Int64(), "items", "items whose value is undefined"),
        "unit": Column(pl.String(), "-", "unit of the estimate and its interval"),
        "version": Column(pl.Int64(), "-", "version of the probe's definition"),
        "signature": Column(pl.String(), "-", "all that the number depends on but checkpoint and items"),
    },
)

_ALL_MODELS = "the row is about the last checkpoints of several models"
_NO_FIT = "none, see reason"

# One row per fit over at least two doses; items known to be never trained on are left out.
DOSE_RESPONSE = TableSchema(
    name="dose_response",
    key=("model", "revision", "step", "probe", "metric", "group", "condition", "dose", "fit"),
    columns={
        "model": Column(pl.String(), "-", ITEM_KEYS["model"].meaning, _ALL_MODELS),
        "revision": Column(pl.String(), "-", "the checkpoint's revision", _ALL_MODELS),
        "step": Column(
            pl.Int64(), "optimizer updates", "the checkpoint's step", f"{NO_STEP}, or {_ALL_MODELS}"
        ),
        **{name: SUMMARY.columns[name] for name in ("probe", "metric", "group", "condition")},
        "dose": Column(pl.String(), "-", "exposures, prefix_tokens or parameters"),
        "fit": Column(
            pl.String(), "-", "linear_log10: least squares on log10 of the dose; logistic: of its log odds"
        ),
        "slope": Column(pl.Float64(), "see unit", "change of the rate per tenfold of the dose", _NO_FIT),
        "se": Column(pl.Float64(), "see unit", "standard error of the slope, cluster-robust", _NO_FIT),
        "ci_low": Column(pl.Float64(), "see unit", "lower end of the slope's interval", _NO_FIT),
        "ci_high": Column(pl.Float64(), "see unit", "upper end of the slope's interval", _NO_FIT),
        "ci_level": Column(pl.Float64(), "fraction", "coverage of the interval"),
        "ci_method": Column(pl.String(), "-", "how the interval was made", _NO_FIT),
        "p_value": Column(pl.Float64(), "probability", "two-sided, of no slope", _NO_FIT),
        "intercept": Column(pl.Float64(), "see unit", "of the fit at a dose of 1", _NO_FIT),
        "r2_of_means": Column(
            pl.Float64(),
            "fraction",
            "R^2 of a line through the mean outcome of each dose: of a handful of means, no evidence",
            "fewer than three doses, or their means agree",
        ),
        "n_items": Column(pl.Int64(), "items", "items in the fit"),
        "n_outcomes": Column(pl.Int64(), "outcomes", "outcomes in the fit; an item recurs under each dose"),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of outcomes that may depend on each other"),
        "n_levels": Column(pl.Int64(), "doses", "different doses"),
        "reason": Column(pl.String(), "-", "why slope or error is missing", "both are there"),
        "unit": Column(pl.String(), "-", "unit of the slope: fraction or log odds per tenfold"),
        "version": SUMMARY.columns["version"],
        "signature": SUMMARY.columns["signature"],
    },
)
