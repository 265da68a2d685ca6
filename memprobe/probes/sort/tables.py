"""Tables of `sort`: trials, the accuracy of each cell, and the choice of a prompt template."""

import polars as pl

from memprobe.tables.keys import ITEM_KEYS, SEQUENCE, item_table
from memprobe.tables.schema import Column, TableSchema

_NOT_GIVEN = "not given"

_LIKELIHOOD = "likelihood mode: no question is asked"

_NOT_PROMPT = f"{_LIKELIHOOD}; or neither label has any mass"

_POOLED = "all of them together"

# One row per item, condition and mode, without trials of the validation split.
SORT = item_table(
    "sort",
    {
        "source_id": Column(pl.String(), "-", "the document", _NOT_GIVEN),
        "excerpt_id": Column(pl.String(), "-", "the excerpt, in its document", _NOT_GIVEN),
        "excerpt_words": Column(pl.Int64(), "words", "length of the excerpt", _NOT_GIVEN),
        "segment_words": Column(pl.Int64(), "words", "length of each segment", _NOT_GIVEN),
        "distance_words": Column(
            pl.Int64(), "words", "from the start of one segment to the start of the other", _NOT_GIVEN
        ),
        "distance_bin": Column(pl.Int64(), "-", "bin of the distance, from 0", _NOT_GIVEN),
        "excerpt_start_frac": Column(
            pl.Float64(), "fraction", "where in its document the excerpt begins, 0 to 1", _NOT_GIVEN
        ),
        "condition": Column(
            pl.String(), "-", "in_context: the excerpt is in the prompt; parametric: it is not"
        ),
        "mode": Column(
            pl.String(), "-", "prompt: a question with two labels; likelihood: both concatenations"
        ),
        "prompt_id": Column(pl.String(), "-", "the prompt template", _LIKELIHOOD),
        "delta": Column(
            pl.Float64(),
            "nats",
            "prompt: half the change of ln mass(first label) - ln mass(second) when the earlier segment "
            "moves to the front; likelihood: ln p(earlier then later) - ln p(later then earlier); "
            "positive: the right order is preferred",
            "undefined: neither label has any mass, or nothing of a segment is scored",
        ),
        "correct": Column(
            pl.Float64(), "0, 0.5 or 1", "1: delta is positive, 0.5: it is 0", "delta is undefined"
        ),
        "position_bias": Column(
            pl.Float64(),
            "nats",
            "mean over both orders of ln mass(first label) - ln mass(second), less that of the content-free "
            "prompt where it was asked; positive: the label of what is shown first is preferred",
            _NOT_PROMPT,
        ),
        "label_mass": Column(
            pl.Float64(), "fraction", "next-token mass of both labels, mean over both orders", _LIKELIHOOD
        ),
        "truncated": Column(pl.Boolean(), "-", "the context has no room for the whole excerpt"),
        "dropped_tokens": Column(pl.Int64(), "tokens", "of the prompt, left out for lack of room; at most"),
        "content_free_nats": Column(
            pl.Float64(),
            "nats",
            "ln mass(first label) - ln mass(second) after the prompt without content",
            "not asked for, or neither label has any mass",
        ),
        "presented_correct": Column(
            pl.Float64(),
            "0, 0.5 or 1",
            "the same of the one order that the trial prescribes, as published; content-free log-odds, "
            "where asked for, taken off",
            f"the item does not say `earlier_first`; or {_NOT_PROMPT}",
        ),
    },
    key=("condition", "mode"),
)

_CHECKPOINT = {
    "model": SEQUENCE,
    "revision": Column(pl.String(), "-", "the checkpoint's revision"),
    "step": ITEM_KEYS["step"],
}

_CELL = {
    "excerpt_words": Column(pl.Int64(), "words", "length of the excerpt", _POOLED),
    "segment_words": Column(pl.Int64(), "words", "length of each segment", _POOLED),
    "distance_bin": Column(pl.Int64(), "-", "bin of the distance, from 0", _POOLED),
    "position_bin": Column(
        pl.Int64(), "-", "quarter of the document that the excerpt begins in, 1 to 4", _POOLED
    ),
}

# Likelihood mode is reported only in excess of a control, so it is in the summary and not in this table.
SORT_ACCURACY = TableSchema(
    name="sort_accuracy",
    key=("model", "revision", "step", "mode", "condition", "group", *_CELL),
    columns={
        **_CHECKPOINT,
        "mode": Column(pl.String(), "-", "prompt; likelihood is meaningful only next to a control"),
        "condition": Column(pl.String(), "-", "in_context or parametric"),
        "group": Column(pl.String(), "-", "the items' group", _POOLED),
        **_CELL,
        "accuracy_frac": Column(
            pl.Float64(), "fraction", "trials with the right order, ties half; chance 0.5", "no trial counts"
        ),
        "ci_low": Column(pl.Float64(), "fraction", "lower end of its 95% interval", "see n_clusters"),
        "ci_high": Column(pl.Float64(), "fraction", "upper end of its 95% interval", "see n_clusters"),
        "ci_method": Column(
            pl.String(),
            "-",
            "how it was made; pseudo-document takes documents x excerpts as one each; none:few-clusters: "
            "there is none, as fewer than two do not show how they differ",
            "not recorded by an earlier version",
        ),
        "p_binomial": Column(
            pl.Float64(),
            "probability",
            "exact two-sided binomial against chance, ties left out",
            "trials share an excerpt or document cluster, so are not independent; or all are ties",
        ),
        "label_mass": Column(
            pl.Float64(), "fraction", "next-token mass of both labels, mean", "no trial counts"
        ),
        "position_bias_frac": Column(
            pl.Float64(),
            "fraction",
            "share of presentations answered with the first label, less that with the second, -1 to 1",
            "no trial counts",
        ),
        "presented_accuracy_frac": Column(
            pl.Float64(),
            "fraction",
            "accuracy of one presentation for each trial, as published",
            "no trial says which one",
        ),
        "human_accuracy_frac": Column(
            pl.Float64(),
            "fraction",
            "readers who had finished the book about a week before (Pink et al. 2024), from memory",
            "the condition is not parametric, or segments of this length were not tried",
        ),
        "n_trials": Column(pl.Int64(), "trials", "trials that count"),
        "n_clusters": Column(pl.Int64(), "clusters", "documents x excerpts of these trials"),
    },
)

# Written only if a template was chosen among several.
SORT_PROMPTS = TableSchema(
    name="sort_prompts",
    key=("model", "revision", "step", "prompt_id"),
    columns={
        **_CHECKPOINT,
        "prompt_id": Column(pl.String(), "-", "the prompt template"),
        "validation_accuracy_frac": Column(
            pl.Float64(), "fraction", "accuracy on the validation trials, all conditions", "no trial counts"
        ),
        "label_mass": Column(pl.Float64(), "fraction", "next-token mass of both labels, mean", "no trial"),
        "n_trials": Column(pl.Int64(), "trials", "validation trials x conditions that count"),
        "chosen": Column(pl.Boolean(), "-", "estimates are made with this template"),
    },
)
