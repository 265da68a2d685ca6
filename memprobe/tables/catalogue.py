"""Every table that memprobe writes: names, keys, units, and what null means.

Item-level tables start with the same keys; a probe's own columns follow. Read this file to know
what a number in a Parquet or CSV file is.
"""

from collections.abc import Mapping

import polars as pl

from memprobe.tables.schema import Column, TableSchema

ITEM_KEYS: Mapping[str, Column] = {
    "model": Column(pl.String(), "-", "hub id, or name of the sequence's folder"),
    "revision": Column(pl.String(), "-", "git revision, or name of the checkpoint's folder"),
    "step": Column(pl.Int64(), "optimizer updates", "the checkpoint's training step"),
    "item_id": Column(pl.String(), "-", "the item"),
    "group": Column(pl.String(), "-", "the item's group", "the item has no group"),
    "exposures": Column(pl.Int64(), "times", "how often the item was trained on", "not given"),
}


def item_table(name: str, columns: Mapping[str, Column], *, key: tuple[str, ...] = ()) -> TableSchema:
    """Return an item-level table: the keys, the probe's columns, then the user's own columns."""
    return TableSchema(
        name=name,
        key=("model", "revision", "step", "item_id", *key),
        columns={**ITEM_KEYS, **columns},
        open_ended=True,
    )


_ALONE = "a string has no token with a condition"
_NO_CONDITION = "the first suffix token has no condition"
_NOT_GENERATED = "not generated in full"

RECOGNITION = item_table(
    "recognition",
    {
        "foil_kind": Column(pl.String(), "-", "how the foil was made", "not given"),
        "seen_nll_mean_nats": Column(pl.Float64(), "nats per token", "-ln p of the seen text, mean", _ALONE),
        "foil_nll_mean_nats": Column(pl.Float64(), "nats per token", "-ln p of the foil, mean", _ALONE),
        "seen_nll_sum_nats": Column(pl.Float64(), "nats", "-ln p of the seen text"),
        "foil_nll_sum_nats": Column(pl.Float64(), "nats", "-ln p of the foil"),
        "seen_tokens": Column(pl.Int32(), "tokens", "scored tokens of the seen text"),
        "foil_tokens": Column(pl.Int32(), "tokens", "scored tokens of the foil"),
        "margin_nats": Column(
            pl.Float64(),
            "nats per token",
            "foil minus seen mean -ln p; positive: the seen text is likelier",
            _ALONE,
        ),
        "correct": Column(pl.Float64(), "0, 0.5 or 1", "1: the seen text is likelier, 0.5: a tie", _ALONE),
    },
)

RECALL = item_table(
    "recall",
    {
        "prefix_tokens": Column(pl.Int32(), "tokens", "tokens that condition"),
        "suffix_tokens": Column(pl.Int32(), "tokens", "tokens to be recalled"),
        "exact": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", _NO_CONDITION),
        "lcp_tokens": Column(pl.Int32(), "tokens", "suffix tokens before the first miss", _NO_CONDITION),
        "hit_frac": Column(
            pl.Float64(),
            "fraction",
            "suffix tokens that are hits given the true tokens before",
            _NO_CONDITION,
        ),
        "es_frac": Column(
            pl.Float64(),
            "fraction",
            "extraction strength: share of the suffix behind its last miss",
            _NO_CONDITION,
        ),
        "min_margin_nats": Column(
            pl.Float64(),
            "nats",
            "smallest logit(true) - best other; positive exactly when `exact`, but for ties",
            _NO_CONDITION,
        ),
        "gen_match_frac": Column(
            pl.Float64(), "fraction", "generated tokens that agree by position", _NOT_GENERATED
        ),
        "rouge1_f": Column(pl.Float64(), "fraction", "ROUGE-1 F of the suffix alone", _NOT_GENERATED),
        "rouge2_f": Column(pl.Float64(), "fraction", "ROUGE-2 F of the suffix alone", _NOT_GENERATED),
        "rougeL_f": Column(pl.Float64(), "fraction", "ROUGE-L F of the suffix alone", _NOT_GENERATED),
    },
    key=("prefix_tokens", "suffix_tokens"),
)

# `extraction` has one column n_at_p<p> for each p that was asked: sampled continuations needed to see
# the suffix with probability p; inf where p_z is 0.
EXTRACTION = item_table(
    "extraction",
    {
        "scheme": Column(pl.String(), "-", "sampling scheme"),
        "prefix_tokens": Column(pl.Int32(), "tokens", "tokens that condition"),
        "suffix_tokens": Column(pl.Int32(), "tokens", "tokens to be extracted"),
        "logp_nats": Column(
            pl.Float64(), "nats", "ln p_z of the suffix under the scheme; -inf: impossible", _NO_CONDITION
        ),
        "pz": Column(
            pl.Float64(), "probability", "p_z; 0 where it underflows, so use logp_nats", _NO_CONDITION
        ),
        "max_rank": Column(pl.Int32(), "tokens", "worst rank of a suffix token, 0 is the top", _NO_CONDITION),
        "in_support": Column(pl.Boolean(), "-", "the scheme keeps every suffix token", _NO_CONDITION),
        "greedy": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", _NO_CONDITION),
    },
    key=("scheme", "prefix_tokens", "suffix_tokens"),
)

SUMMARY = TableSchema(
    name="summary",
    key=("model", "revision", "step", "probe", "metric", "group", "condition"),
    columns={
        "model": ITEM_KEYS["model"],
        "revision": Column(pl.String(), "-", "the checkpoint's revision", "the row is about all checkpoints"),
        "step": Column(
            pl.Int64(), "optimizer updates", "the checkpoint's step", "the row is about all checkpoints"
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
        "ci_method": Column(pl.String(), "-", "how the interval was made", "there is no interval"),
        "n_items": Column(pl.Int64(), "items", "items in the estimate"),
        "n_clusters": Column(pl.Int64(), "clusters", "clusters of items that overlap"),
        "n_missing": Column(pl.Int64(), "items", "items whose value is undefined"),
        "unit": Column(pl.String(), "-", "unit of the estimate and its interval"),
        "version": Column(pl.Int64(), "-", "version of the probe's definition"),
        "signature": Column(pl.String(), "-", "all that the number depends on but checkpoint and items"),
    },
)

TABLES = {schema.name: schema for schema in (RECOGNITION, RECALL, EXTRACTION, SUMMARY)}
