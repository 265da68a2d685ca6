"""The tables of forgetting and acquisition: what happened to items over a sequence of checkpoints."""

import polars as pl

from memprobe.tables.schema import Column, TableSchema

_SEQUENCE = Column(pl.String(), "-", "hub id, or name of the sequence's folder")
_GROUP = Column(pl.String(), "-", "the group of items", "all groups")
_CONDITION = Column(pl.String(), "-", "what else the items share, key=value", "nothing else")
_ITEM = {
    "model": _SEQUENCE,
    "item_id": Column(pl.String(), "-", "the item"),
    "group": Column(pl.String(), "-", "the item's group", "the item has no group"),
    "exposures": Column(pl.Int64(), "times", "how often the item was trained on", "not given"),
}
_NOT_COUNTED = "no checkpoint counts, see reason"
_NEVER_LEARNED = "never learned, or see reason"
_NEVER_FORGOTTEN = "never forgotten, or never learned"
_NO_INTERVAL = "none can be told: no event yet, all had theirs, or a single cluster"
_NO_RATE_INTERVAL = "no item at risk, or a single cluster"

# Checkpoints before an item's first_step do not count.
FORGETTING = TableSchema(
    name="forgetting",
    key=("model", "item_id"),
    columns={
        **_ITEM,
        "first_step": Column(
            pl.Int64(),
            "optimizer updates",
            "updates done when it was first trained on",
            "not given, or never",
        ),
        "n_checkpoints": Column(pl.Int64(), "checkpoints", "with a state, from first_step on"),
        "n_learning_events": Column(pl.Int64(), "events", "steps from not learned to learned", _NOT_COUNTED),
        "n_forgetting_events": Column(
            pl.Int64(), "events", "steps from learned to not learned", _NEVER_LEARNED
        ),
        "first_learned_step": Column(
            pl.Int64(), "optimizer updates", "first checkpoint at which it became learned", _NEVER_LEARNED
        ),
        "last_state": Column(pl.Boolean(), "-", "learned at the last checkpoint", _NOT_COUNTED),
        "longest_run_steps": Column(
            pl.Int64(),
            "steps",
            "from the first to the last checkpoint of the longest learned run; 0: a single checkpoint",
            _NEVER_LEARNED,
        ),
        "unforgettable": Column(pl.Boolean(), "-", "learned and never seen forgotten", _NEVER_LEARNED),
        "never_learned": Column(pl.Boolean(), "-", "learned at no checkpoint that counts", _NOT_COUNTED),
        "first_forgotten_lo_step": Column(
            pl.Int64(),
            "optimizer updates",
            "last checkpoint seen learned before it was first forgotten",
            _NEVER_FORGOTTEN,
        ),
        "first_forgotten_step": Column(
            pl.Int64(), "optimizer updates", "first checkpoint seen forgotten", _NEVER_FORGOTTEN
        ),
        "known_before": Column(
            pl.Boolean(), "-", "learned at the last checkpoint before first_step", "no first_step"
        ),
        "reason": Column(pl.String(), "-", "why the item is in no estimate", "it is in the estimates"),
    },
    open_ended=True,
)

FORGETTING_SURVIVAL = TableSchema(
    name="forgetting_survival",
    key=("model", "group", "condition", "t_since_learned_steps"),
    columns={
        "model": _SEQUENCE,
        "group": _GROUP,
        "condition": _CONDITION,
        "t_since_learned_steps": Column(pl.Int64(), "steps", "since the first learned checkpoint"),
        "n_at_risk": Column(pl.Int64(), "items", "not yet seen forgotten and still observed, just before"),
        "n_events": Column(pl.Int64(), "items", "first seen forgotten at this time"),
        "survival_frac": Column(pl.Float64(), "fraction", "Kaplan-Meier: not yet seen forgotten"),
        "lo": Column(pl.Float64(), "fraction", "lower end of the pointwise interval", _NO_INTERVAL),
        "hi": Column(pl.Float64(), "fraction", "upper end of the pointwise interval", _NO_INTERVAL),
        "survival_early_frac": Column(
            pl.Float64(),
            "fraction",
            "the same if each was forgotten right after the last checkpoint seen learned: the other end",
        ),
        "ci_method": Column(pl.String(), "-", "how the interval was made", _NO_INTERVAL),
        "n_items": Column(pl.Int64(), "items", "items that were learned"),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of these items"),
    },
    open_ended=True,
)

FORGETTING_HAZARD = TableSchema(
    name="forgetting_hazard",
    key=("model", "group", "condition", "from_step"),
    columns={
        "model": _SEQUENCE,
        "group": _GROUP,
        "condition": _CONDITION,
        "from_step": Column(pl.Int64(), "optimizer updates", "the checkpoint at which the interval begins"),
        "to_step": Column(pl.Int64(), "optimizer updates", "the next checkpoint"),
        "interval_steps": Column(pl.Int64(), "steps", "length of the interval"),
        "n_at_risk": Column(pl.Int64(), "items", "learned at its begin, and trained on by then"),
        "n_forgotten": Column(pl.Int64(), "items", "of these, not learned at its end"),
        "hazard_frac": Column(pl.Float64(), "fraction", "share forgotten in the interval", "no item at risk"),
        "lo": Column(pl.Float64(), "fraction", "lower end of the interval of hazard_frac", _NO_RATE_INTERVAL),
        "hi": Column(pl.Float64(), "fraction", "upper end of the interval of hazard_frac", _NO_RATE_INTERVAL),
        "ci_method": Column(pl.String(), "-", "how it was made", _NO_RATE_INTERVAL),
        "hazard_per_step": Column(
            pl.Float64(),
            "per step",
            "-ln(1 - hazard_frac) / interval_steps: a rate that intervals of all lengths share",
            "no item at risk, or all were forgotten",
        ),
        "n_not_learned": Column(pl.Int64(), "items", "not learned at its begin, and trained on by its end"),
        "n_learned": Column(pl.Int64(), "items", "of these, learned at its end"),
        "learning_frac": Column(pl.Float64(), "fraction", "share learned in the interval", "no item at risk"),
        "learning_lo": Column(
            pl.Float64(), "fraction", "lower end of the interval of learning_frac", _NO_RATE_INTERVAL
        ),
        "learning_hi": Column(
            pl.Float64(), "fraction", "upper end of the interval of learning_frac", _NO_RATE_INTERVAL
        ),
        "learning_ci_method": Column(pl.String(), "-", "how it was made", _NO_RATE_INTERVAL),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of the items at risk of being forgotten"),
    },
    open_ended=True,
)

_UNSEEN = "no checkpoint in the window"
_NO_BASE = "no checkpoint before it"
_NO_FIT = "there is none, see reason"
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
        "model": _SEQUENCE,
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
        "model": _SEQUENCE,
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

EVENT_TABLES = (
    *(FORGETTING, FORGETTING_SURVIVAL, FORGETTING_HAZARD),
    *(ACQUISITION, ACQUISITION_CURVE, ACQUISITION_FIT),
)
