"""The table of `compression`."""

import polars as pl

from memprobe.tables.keys import item_table
from memprobe.tables.schema import Column

_NOT_SEARCHED = "nothing was searched"

_CENSORED = "no prompt was found: censored"

_FOUND = "a prompt was found"

_NO_TEXT = "there is no tokenizer, so the target has no text"

COMPRESSION = item_table(
    "compression",
    {
        "target_kind": Column(
            pl.String(), "-", "item, or a control made of it: random (tokens) or shuffled (its words)"
        ),
        "target_tokens": Column(pl.Int32(), "tokens", "length of the target, without BOS and lead-in"),
        "prompt_tokens": Column(
            pl.Int32(), "tokens", "length of the shortest prompt found, without BOS and template", _CENSORED
        ),
        "acr": Column(pl.Float64(), "-", "target_tokens over prompt_tokens; a lower bound", _CENSORED),
        "is_censored": Column(pl.Boolean(), "-", "no prompt was found within the budget", _NOT_SEARCHED),
        "censored_at_tokens": Column(pl.Int32(), "tokens", "longest prompt that was tried in vain", _FOUND),
        "acr_upper_bound": Column(
            pl.Float64(),
            "-",
            "target_tokens over censored_at_tokens: so far as searched, acr is below",
            _FOUND,
        ),
        "verified": Column(
            pl.Boolean(), "-", "greedy decoding, alone and in this dtype, says the target", _NOT_SEARCHED
        ),
        "optimizer": Column(pl.String(), "-", "how prompts are proposed"),
        "evaluations_used": Column(pl.Int64(), "candidates", "prompts evaluated, all seeds", _NOT_SEARCHED),
        "evaluations_to_best": Column(
            pl.Int64(), "candidates", "evaluated when the shortest was found", _CENSORED
        ),
        "final_ce_nats": Column(
            pl.Float64(),
            "nats per token",
            "mean -ln p of the target after the shortest prompt; where censored, after the best one",
            _NOT_SEARCHED,
        ),
        "prompt_tokens_by_seed": Column(
            pl.List(pl.Int32()), "tokens", "prompt_tokens of each seed; null in it: censored", _NOT_SEARCHED
        ),
        "n_refuted": Column(
            pl.Int32(), "prompts", "prompts that greedy decoding, alone, did not confirm", _NOT_SEARCHED
        ),
        "prompt_roundtrip": Column(
            pl.Boolean(),
            "-",
            "the prompt survives being decoded and encoded",
            f"{_CENSORED}; or no tokenizer",
        ),
        "warm_from_step": Column(
            pl.Int64(),
            "optimizer updates",
            "checkpoint whose prompt the search started from",
            "started from none",
        ),
        "gzip_ratio": Column(
            pl.Float64(), "-", "bytes of the target's text over those of its gzip file, level 9", _NO_TEXT
        ),
        "zlib_ratio": Column(pl.Float64(), "-", "the same with a zlib stream", _NO_TEXT),
        "target_bits": Column(
            pl.Float64(),
            "bits",
            "-log2 p of the target with nothing but BOS before it; without BOS, of all but its first token",
            "a target of one token, without BOS",
        ),
        "recalled_from_half": Column(
            pl.Boolean(),
            "-",
            "greedy decoding yields the second half from the first",
            "a target of one token",
        ),
    },
    key=("target_kind",),
    optional={
        "prompt_ids": Column(
            pl.List(pl.Int32()), "-", "tokens of the shortest prompt, with --include-text", "none was found"
        )
    },
)
