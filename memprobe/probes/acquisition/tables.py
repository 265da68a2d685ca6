"""Tables of `acquisition`: the exposures of each item, the part of the gain that is left, and its decay."""

import polars as pl

from memprobe.tables.keys import NO_CONDITION, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_GROUP = Column(pl.String(), "-", "the group of items", "all groups")

_ITEM = {
    "model": SEQUENCE,
    "item_id": Column(pl.String(), "-", "the item"),
    "group": Column(pl.String(), "-", "the item's group", "the item has no group"),
    "exposures": Column(pl.Int64(), "times", "how often the item was trained on", "not given"),
}

_UNSEEN = "no checkpoint in the window"

_NO_BASE = "no checkpoint before it"

_NO_FIT = "none, see reason"

_ONE_CLUSTER = "a single cluster"

_NO_SPREAD = "a single cluster, or draws that do not vary"

# Level: mean ln p of the suffix tokens.
ACQUISITION = TableSchema(
    name="acquisition",
    key=("model", "item_id", "injection"),
    columns={
        **_ITEM,
        "injection": Column(pl.Int64(), "-", "number of the injection of this item, from 1"),
        "injection_step": Column(pl.Int64(), "optimizer updates", "updates done when it was trained on"),
        "before_step": Column(
            pl.Int64(), "optimizer updates", "last checkpoint before the injection", _NO_BASE
        ),
        "n_since_before": Column(
            pl.Int64(), "injections", "injections since that checkpoint, this one included; 1: it alone"
        ),
        "window_checkpoints": Column(
            pl.Int64(), "checkpoints", "in the window after the injection, before the next one"
        ),
        "window_coverage_frac": Column(
            pl.Float64(),
            "fraction",
            "of the steps of the window that have a checkpoint",
            "the window lies behind the last checkpoint",
        ),
        "lam_step": Column(
            pl.Int64(), "optimizer updates", "checkpoint of the window with the highest level", _UNSEEN
        ),
        "t_lam_steps": Column(pl.Int64(), "steps", "from the injection to it", _UNSEEN),
        "l_pre_nats": Column(
            pl.Float64(),
            "nats per token",
            "level at the last checkpoint before the first injection",
            _NO_BASE,
        ),
        "l_before_nats": Column(pl.Float64(), "nats per token", "level at before_step", _NO_BASE),
        "l_lam_nats": Column(pl.Float64(), "nats per token", "level at lam_step", _UNSEEN),
        "effectivity_nats": Column(
            pl.Float64(),
            "nats per token",
            "l_lam_nats - l_before_nats; positive: raised",
            f"{_UNSEEN}, or {_NO_BASE}",
        ),
        "acquired": Column(
            pl.Boolean(),
            "-",
            "l_lam_nats lies more than min_gain_nats above l_pre_nats",
            f"{_UNSEEN}, or {_NO_BASE}",
        ),
    },
    open_ended=True,
)

ACQUISITION_CURVE = TableSchema(
    name="acquisition_curve",
    key=("model", "group", "t_since_lam_steps"),
    columns={
        "model": SEQUENCE,
        "group": _GROUP,
        "t_since_lam_steps": Column(
            pl.Int64(), "steps", "since the highest checkpoint after the last injection"
        ),
        "retainability_mean": Column(
            pl.Float64(), "fraction", "mean over items of (l - l_pre) / (l_lam - l_pre)"
        ),
        "lo": Column(pl.Float64(), "fraction", "lower end of the pointwise interval", _ONE_CLUSTER),
        "hi": Column(pl.Float64(), "fraction", "upper end of the pointwise interval", _ONE_CLUSTER),
        "ci_method": Column(pl.String(), "-", "how the interval was made", _ONE_CLUSTER),
        "retainability_pooled": Column(
            pl.Float64(), "fraction", "sum of l - l_pre over sum of l_lam - l_pre: small gains weigh little"
        ),
        "n_items": Column(pl.Int64(), "items", "acquired items with a checkpoint at this time"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents of these items"),
    },
    open_ended=True,
)

ACQUISITION_FIT = TableSchema(
    name="acquisition_fit",
    key=("model", "group"),
    columns={
        "model": SEQUENCE,
        "group": _GROUP,
        "decay_per_decade": Column(
            pl.Float64(), "per tenfold of t", "a of R = -a log10(t / tau); positive: it is forgotten", _NO_FIT
        ),
        "decay_lo": Column(pl.Float64(), "per tenfold of t", "lower end of its interval", _NO_SPREAD),
        "decay_hi": Column(pl.Float64(), "per tenfold of t", "upper end of its interval", _NO_SPREAD),
        "tau_steps": Column(pl.Float64(), "steps", "time at which the line is 0", _NO_FIT),
        "tau_lo": Column(pl.Float64(), "steps", "lower end of its interval", "a single cluster, or no tau"),
        "tau_hi": Column(
            pl.Float64(), "steps", "upper end of its interval", "a single cluster, no tau, or beyond 10^15"
        ),
        "ci_method": Column(pl.String(), "-", "how the intervals were made", _NO_SPREAD),
        "r2": Column(pl.Float64(), "fraction", "variance of the points that the line explains", _NO_FIT),
        "residual_se": Column(
            pl.Float64(),
            "fraction",
            "standard deviation of the points around the line",
            "fewer than 3 points",
        ),
        "n_points": Column(pl.Int64(), "points", "items at times after their highest checkpoint"),
        "n_items": Column(pl.Int64(), "items", "acquired items that are in the fit"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents of these items"),
        "n_excluded": Column(pl.Int64(), "items", "measured items that were not acquired"),
        "reason": Column(pl.String(), "-", "why decay or tau is missing", "both are there"),
    },
    open_ended=True,
)

ACQUISITION_ITEMS = item_table(
    "acquisition_items",
    {
        "logprob_mean_nats": Column(
            pl.Float64(), "nats per token", "mean ln p of the suffix tokens", NO_CONDITION
        )
    },
)
