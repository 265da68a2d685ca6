"""Every table that memprobe writes: names, keys, units, and what null means.

Item-level tables start with the same keys; a probe's own columns follow. Read this file to know
what a number in a Parquet or CSV file is.
"""

from dataclasses import replace

import polars as pl

from memprobe.tables.compression import COMPRESSION
from memprobe.tables.events import EVENT_TABLES
from memprobe.tables.keys import ITEM_KEYS, NO_STEP, SEQUENCE, item_table
from memprobe.tables.retention import RETENTION_CURVE, RETENTION_FIT
from memprobe.tables.schema import Column, TableSchema
from memprobe.tables.sort import SORT, SORT_ACCURACY, SORT_PROMPTS
from memprobe.tables.tasks import FORECAST, STABILITY, STABILITY_GAPS, STABILITY_MEASURES

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
# the suffix with probability p; inf where p_z is 0, at most 1.8e308 elsewhere.
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
            pl.Float64(),
            "probability",
            "p_z; 0: impossible; at least 4.9e-324, so use logp_nats",
            _NO_CONDITION,
        ),
        "max_rank": Column(pl.Int32(), "tokens", "worst rank of a suffix token, 0 is the top", _NO_CONDITION),
        "in_support": Column(pl.Boolean(), "-", "the scheme keeps every suffix token", _NO_CONDITION),
        "greedy": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", _NO_CONDITION),
    },
    key=("scheme", "prefix_tokens", "suffix_tokens"),
)

_AS_IDS = "the document was given as token ids, which have no characters"

EXTRACTION_WINDOWS = replace(
    EXTRACTION,
    key=(*EXTRACTION.key, "window"),
    columns={
        **EXTRACTION.columns,
        "doc_id": Column(pl.String(), "-", "the document's cluster", "a document of its own"),
        "window": Column(pl.Int32(), "-", "number of the window in its document, from 0"),
        "window_start_char": Column(pl.Int64(), "chars", "first character of the window", _AS_IDS),
        "suffix_start_char": Column(pl.Int64(), "chars", "first character of the suffix", _AS_IDS),
        "suffix_end_char": Column(pl.Int64(), "chars", "one past the suffix's last character", _AS_IDS),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document", _AS_IDS),
    },
)

# A character counts as covered at tau where the suffix of some window with p_z >= tau holds it.
COVERAGE = item_table(
    "coverage",
    {
        "scheme": Column(pl.String(), "-", "sampling scheme"),
        "tau": Column(pl.Float64(), "probability", "smallest p_z of a window that covers"),
        "coverage_frac": Column(pl.Float64(), "fraction", "covered characters of all of the document"),
        "covered_chars": Column(pl.Int64(), "chars", "covered characters"),
        "longest_run_chars": Column(pl.Int64(), "chars", "longest stretch of covered characters"),
        "document_chars": Column(pl.Int64(), "chars", "characters of the document"),
        "head_chars": Column(pl.Int64(), "chars", "before the first suffix: no window can cover them"),
        "tail_chars": Column(pl.Int64(), "chars", "behind the last suffix: no window can cover them"),
        "n_windows": Column(pl.Int64(), "windows", "windows of the document"),
        "n_short_windows": Column(pl.Int64(), "windows", "slices before the end with too few tokens"),
    },
    key=("scheme", "tau"),
)

_OUTCOME = Column(pl.String(), "-", "which number of an item the effect is on")
_NO_ERROR = "no error can be told: a single cluster, or none that varies"
_NO_DRAWS = "no bootstrap draws were asked for, or no error can be told"

# Item-level outcomes of `profile`; used between measuring and estimating, never written.
PROFILE_ITEMS = item_table(
    "profile_items",
    {
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the scored tokens", _ALONE),
        "exact": Column(pl.Float64(), "0 or 1", "greedy decoding picks every scored token", _ALONE),
        "hit_frac": Column(pl.Float64(), "fraction", "scored tokens that greedy decoding picks", _ALONE),
        "rank_mean": Column(
            pl.Float64(), "tokens", "minus the mean rank of the scored tokens: higher is more", _ALONE
        ),
    },
)

PROFILE = TableSchema(
    name="profile",
    key=("model", "outcome", "cohort_step", "step"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "cohort_step": Column(pl.Int64(), "optimizer updates", "first checkpoint that had seen the items"),
        "step": Column(pl.Int64(), "optimizer updates", "the checkpoint at which the effect is measured"),
        "base_step": Column(pl.Int64(), "optimizer updates", "the checkpoint that it is compared with"),
        "event_time": Column(pl.Int64(), "checkpoints", "from the cohort's checkpoint to this one"),
        "att": Column(pl.Float64(), "of the outcome", "effect on the treated; positive: better remembered"),
        "se_analytic": Column(
            pl.Float64(), "of the outcome", "standard error from influence functions", _NO_ERROR
        ),
        "se_boot": Column(pl.Float64(), "of the outcome", "standard error from multiplier draws", _NO_DRAWS),
        "lo": Column(pl.Float64(), "of the outcome", "lower end of the pointwise interval", _NO_ERROR),
        "hi": Column(pl.Float64(), "of the outcome", "upper end of the pointwise interval", _NO_ERROR),
        "lo_sim": Column(
            pl.Float64(), "of the outcome", "lower end of the band that holds for all cells", _NO_DRAWS
        ),
        "hi_sim": Column(pl.Float64(), "of the outcome", "upper end of that band", _NO_DRAWS),
        "n_treated": Column(pl.Int64(), "items", "items of the cohort"),
        "n_control": Column(pl.Int64(), "items", "control items"),
        "is_post": Column(pl.Boolean(), "-", "the checkpoint has seen the cohort's items"),
        "diff": Column(
            pl.Float64(), "of the outcome", "treated minus control at the step, no base taken off"
        ),
        "diff_se": Column(pl.Float64(), "of the outcome", "standard error of diff", _NO_ERROR),
    },
    open_ended=True,
)

PROFILE_AGG = TableSchema(
    name="profile_agg",
    key=("model", "outcome", "aggregation", "key"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "aggregation": Column(
            pl.String(), "-", "simple, cohort, event, calendar, persistent or event_balanced"
        ),
        "key": Column(
            pl.Int64(),
            "updates (cohort, calendar) or checkpoints (event)",
            "the cohort's step, the step, or the event time",
            "the mean over all of the kind",
        ),
        "att": PROFILE.columns["att"],
        "se": PROFILE.columns["se_analytic"],
        "lo": PROFILE.columns["lo"],
        "hi": PROFILE.columns["hi"],
        "lo_sim": Column(
            pl.Float64(),
            "of the outcome",
            "lower end of the band that holds for all keys of the kind",
            _NO_DRAWS,
        ),
        "hi_sim": PROFILE.columns["hi_sim"],
        "n_cells": Column(pl.Int64(), "cells", "cells of cohort and step in the mean"),
    },
    open_ended=True,
)

PROFILE_PRETREND = TableSchema(
    name="profile_pretrend",
    key=("model", "outcome", "test", "cohort_step"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "test": Column(
            pl.String(),
            "-",
            "wald and sup_t: no effect before treatment; base_gap: treated minus control at the base",
        ),
        "cohort_step": Column(pl.Int64(), "optimizer updates", "the cohort of a base gap", "all cohorts"),
        "statistic": Column(
            pl.Float64(), "-", "W, the largest |t|, or the gap in units of the outcome", "see reason"
        ),
        "se": Column(pl.Float64(), "of the outcome", "standard error of a base gap", "no base gap"),
        "df": Column(pl.Int64(), "-", "degrees of freedom of W", "not a Wald test"),
        "p_value": Column(
            pl.Float64(), "probability", "p value of the test", "a cohort's gap, or see reason"
        ),
        "n_cells": Column(pl.Int64(), "cells", "cells or means that were tested"),
        "reason": Column(pl.String(), "-", "why there is no statistic", "there is one"),
    },
    open_ended=True,
)

PROFILE_DROPPED = TableSchema(
    name="profile_dropped",
    key=("model", "outcome", "cohort_step", "step", "item_id"),
    columns={
        "model": SEQUENCE,
        "outcome": _OUTCOME,
        "cohort_step": Column(
            pl.Int64(), "optimizer updates", "the cohort", "seen after the last checkpoint, or one item"
        ),
        "step": Column(
            pl.Int64(), "optimizer updates", "the cell that is missing", "all cells of the cohort"
        ),
        "item_id": Column(pl.String(), "-", "the item that is left out", "a cohort, not an item"),
        "n_items": Column(pl.Int64(), "items", "items concerned"),
        "reason": Column(pl.String(), "-", "why no estimate is made of them"),
    },
    open_ended=True,
)

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
            pl.Float64(), "0, 0.5 or 1", "1: likelier than its foil, 0.5: a tie", f"no foil, or {_ALONE}"
        ),
        "recall_exact": RECALL.columns["exact"],
        "logprob_mean_nats": Column(pl.Float64(), "nats per token", "mean ln p of the scored tokens", _ALONE),
    },
)

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
_NO_FIT = "there is none, see reason"

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

# What decides an item's state in `forgetting`, and its level in `acquisition`; used between measuring and
# estimating, never written.
FORGETTING_ITEMS = item_table(
    "forgetting_items",
    {
        "level": Column(
            pl.Float64(),
            "fraction or nats",
            "share of suffix tokens that are hits, or ln p_z of the suffix",
            _NO_CONDITION,
        )
    },
)
ACQUISITION_ITEMS = item_table(
    "acquisition_items",
    {
        "logprob_mean_nats": Column(
            pl.Float64(), "nats per token", "mean ln p of the suffix tokens", _NO_CONDITION
        )
    },
)

TABLES = {
    schema.name: schema
    for schema in (
        *(RECOGNITION, RECALL, EXTRACTION, COVERAGE, COMPRESSION, SUMMARY, DOSE_RESPONSE),
        *(PROFILE, PROFILE_AGG, PROFILE_PRETREND, PROFILE_DROPPED),
        *(RETENTION, RETENTION_CURVE, RETENTION_FIT),
        *(SORT, SORT_ACCURACY, SORT_PROMPTS),
        *(STABILITY, STABILITY_MEASURES, STABILITY_GAPS, FORECAST),
        *EVENT_TABLES,
    )
}
