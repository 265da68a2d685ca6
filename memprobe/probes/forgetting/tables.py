"""Tables of `forgetting`: events of each item, survival, and hazards."""

import polars as pl

from memprobe.tables.keys import NO_CONDITION, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_GROUP = Column(pl.String(), "-", "the group of items", "all groups")

_CONDITION = Column(pl.String(), "-", "what else the items share, key=value", "nothing else")

_ITEM = {
    "model": SEQUENCE,
    "item_id": Column(pl.String(), "-", "the item"),
    "group": Column(pl.String(), "-", "the item's group", "the item has no group"),
    "exposures": Column(pl.Int64(), "times", "how often the item was trained on", "not given"),
}

_NOT_COUNTED = "no checkpoint counts, see reason"

_NEVER_LEARNED = "never learned, or see reason"

_NEVER_FORGOTTEN = "never forgotten, or never learned"

_NO_INTERVAL = "none: no event yet, all had theirs, or a single cluster"

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
        "model": SEQUENCE,
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
        "model": SEQUENCE,
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

# The value that decides an item's state; used between measuring and estimating, never written.
FORGETTING_ITEMS = item_table(
    "forgetting_items",
    {
        "level": Column(
            pl.Float64(),
            "fraction or nats",
            "share of suffix tokens that are hits, or ln p_z of the suffix",
            NO_CONDITION,
        )
    },
)
