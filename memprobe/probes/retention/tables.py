"""Tables of `retention`: items, curves by steps since exposure, and laws fitted to them."""

import polars as pl

from memprobe.tables.keys import ALONE, NO_CONDITION, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

RETENTION = item_table(
    "retention",
    {
        "first_step": Column(
            pl.Int64(), "optimizer updates", "when it had been trained on once", "never trained on"
        ),
        "last_step": Column(
            pl.Int64(), "optimizer updates", "when it was last trained on", "never trained on"
        ),
        "steps_since_exposure": Column(
            pl.Int64(), "optimizer updates", "step - last_step", "never trained on, or not for the last time"
        ),
        "recognition_correct": Column(
            pl.Float64(), "0, 0.5 or 1", "1: likelier than its foil, 0.5: a tie", f"no foil, or {ALONE}"
        ),
        "recall_exact": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", NO_CONDITION),
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the scored tokens", ALONE),
    },
)

_NO_FIT = "none, see reason"

_RETAINED = {
    "model": SEQUENCE,
    "outcome": Column(pl.String(), "-", "recall_exact, recognition_correct or logprob_mean_nats"),
}

_OF_GROUP = {
    "group": Column(pl.String(), "-", "the group of items", "all groups together"),
    "exposures": Column(pl.Int64(), "times", "of items trained on so often", "all items"),
}

_OF_OUTCOME = "fraction, or nats per token"

_NO_BASELINE = "a log-probability without never-trained items to compare with"

_ONE_CLUSTER = "items of a single cluster, or no draws that vary"

_NO_CURVE = "no curve, see reason"

# In `all_items` each lag has different items; in `same_items` all lags have the same items.
RETENTION_CURVE = TableSchema(
    name="retention_curve",
    key=("model", "outcome", "sample", "group", "exposures", "steps_since_exposure"),
    columns={
        **_RETAINED,
        "sample": Column(
            pl.String(), "-", "all_items: those seen at the lag; same_items: those seen at every one listed"
        ),
        **_OF_GROUP,
        "steps_since_exposure": Column(
            pl.Int64(), "optimizer updates", "by which the lag is called: the mean over all trained items"
        ),
        "lag_mean_steps": Column(pl.Float64(), "steps", "mean steps since exposure of the row's items"),
        "lag_min_steps": Column(pl.Int64(), "steps", "their smallest"),
        "lag_max_steps": Column(pl.Int64(), "steps", "their largest"),
        "estimate": Column(pl.Float64(), _OF_OUTCOME, "mean outcome of the items"),
        "ci_low": Column(pl.Float64(), _OF_OUTCOME, "lower end of its interval", _ONE_CLUSTER),
        "ci_high": Column(pl.Float64(), _OF_OUTCOME, "upper end of its interval", _ONE_CLUSTER),
        "ci_method": Column(pl.String(), "-", "how the interval was made", _ONE_CLUSTER),
        "baseline": Column(
            pl.Float64(),
            _OF_OUTCOME,
            "mean of never-trained items at the same checkpoints, of the item's group where it has two",
            "no never-trained items have the outcome",
        ),
        "excess": Column(
            pl.Float64(),
            _OF_OUTCOME,
            "estimate over baseline; without one, of a rate over chance (recall 0, recognition 0.5)",
            _NO_BASELINE,
        ),
        "excess_low": Column(
            pl.Float64(), _OF_OUTCOME, "lower end of its interval", f"{_NO_BASELINE}, or {_ONE_CLUSTER}"
        ),
        "excess_high": Column(
            pl.Float64(), _OF_OUTCOME, "upper end of its interval", f"{_NO_BASELINE}, or {_ONE_CLUSTER}"
        ),
        "excess_method": Column(pl.String(), "-", "how it was made", f"{_NO_BASELINE}, or {_ONE_CLUSTER}"),
        "n_items": Column(pl.Int64(), "items", "trained items at this lag"),
        "n_clusters": Column(pl.Int64(), "clusters", "their clusters"),
        "n_controls": Column(pl.Int64(), "items", "never-trained items that they are set against"),
    },
    open_ended=True,
)

RETENTION_FIT = TableSchema(
    name="retention_fit",
    key=("model", "outcome", "group", "exposures", "law"),
    columns={
        **_RETAINED,
        **_OF_GROUP,
        "law": Column(pl.String(), "-", "power, exponential or logarithmic decay of the excess"),
        "params": Column(
            pl.String(),
            "JSON",
            "a: excess at the first lag; exponent, decay_per_step or decay_per_decade and log10_tau; ends",
            _NO_FIT,
        ),
        "residual_se": Column(pl.Float64(), _OF_OUTCOME, "weighted residual standard error", _NO_FIT),
        "half_life_steps": Column(
            pl.Float64(), "steps", "from the first lag to half of the excess fitted there", "see reason"
        ),
        "half_life_lo": Column(
            pl.Float64(),
            "steps",
            "lower end of its interval given the law, at most the lags observed",
            "see reason",
        ),
        "half_life_hi": Column(pl.Float64(), "steps", "upper end", "beyond the lags observed, or see reason"),
        "aic": Column(
            pl.Float64(), "-", "smaller is better, among the laws of one curve", "residuals are 0, or no fit"
        ),
        "is_best": Column(pl.Boolean(), "-", "the law with the smallest AIC", _NO_FIT),
        "n_lags": Column(pl.Int64(), "lags", "points of the curve"),
        "first_lag_steps": Column(pl.Float64(), "steps", "mean of the first lag", _NO_CURVE),
        "last_lag_steps": Column(pl.Float64(), "steps", "mean of the last lag", _NO_CURVE),
        "n_items": Column(pl.Int64(), "items", "items in the fit, the same at every lag"),
        "n_clusters": Column(pl.Int64(), "clusters", "their clusters"),
        "against": Column(
            pl.String(), "-", "what the excess is over: never-trained items, or chance", _NO_BASELINE
        ),
        "reason": Column(
            pl.String(),
            "-",
            "why fit, half-life or an end is missing, or the curve does not follow the law",
            "all are there",
        ),
    },
    open_ended=True,
)
