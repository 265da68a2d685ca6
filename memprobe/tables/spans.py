"""The scored spans that units hold, and the search for those that answer a request.

There is one row per span; token statistics are lists whose last entry belongs to token stop - 1. Besides
the columns named here, there is one list column for each further statistic: `logprob_<scheme>_nats` for
each sampling scheme, and `sd_logp_nats`.
"""

from collections.abc import Iterable

import polars as pl

from memprobe.errors import TableError
from memprobe.tables.requests import REQUESTS, Statistic, is_search
from memprobe.tables.schema import Column, TableSchema

_FLOATS = pl.List(pl.Float32())
_INTS = pl.List(pl.Int32())
_NO_TOKENS = "the span was asked for as sums or a choice, or generated"
_NO_SCORES = "the span was generated or asked for a choice, not scored"
_NOT_GENERATED = "nothing was generated for this span"

# Result of a search. `prompt_ids` is null unless text is written; for `prompt_sealed` see sealed.py.
FOUND = pl.Struct(
    {
        "prompt_tokens": pl.Int32(),
        "verified": pl.Boolean(),
        "censored_at_tokens": pl.Int32(),
        "evaluations_used": pl.Int64(),
        "evaluations_to_best": pl.Int64(),
        "final_ce_nats": pl.Float64(),
        "prompt_tokens_by_seed": pl.List(pl.Int32()),
        "n_refuted": pl.Int32(),
        "prompt_roundtrip": pl.Boolean(),
        "warm_from_step": pl.Int64(),
        "target_bytes": pl.Int64(),
        "gzip_ratio": pl.Float64(),
        "zlib_ratio": pl.Float64(),
        "prompt_sealed": pl.Binary(),
        "prompt_ids": pl.List(pl.Int32()),
    }
)

SPANS = TableSchema(
    name="spans",
    key=REQUESTS.key,
    columns={
        **REQUESTS.columns,
        "content_hash": Column(pl.String(), "-", "hash of the item's content"),
        "n_scored": Column(
            pl.Int32(), "tokens", "scored tokens; one less where the first has no condition", _NO_SCORES
        ),
        "logprob_sum_nats": Column(pl.Float64(), "nats", "sum of ln p of the true tokens", _NO_SCORES),
        "n_hits": Column(pl.Int32(), "tokens", "true tokens that greedy decoding picks", _NO_SCORES),
        "rank_sum": Column(pl.Int64(), "tokens", "sum of the ranks of the true tokens", _NO_SCORES),
        "logprob_nats": Column(_FLOATS, "nats", "ln p of each true token", _NO_TOKENS),
        "rank": Column(_INTS, "tokens", "tokens scored strictly higher than the true one", _NO_TOKENS),
        "n_ties": Column(_INTS, "tokens", "other tokens scored the same", _NO_TOKENS),
        "hit": Column(pl.List(pl.Boolean()), "-", "greedy decoding picks the true token", _NO_TOKENS),
        "entropy_nats": Column(_FLOATS, "nats", "entropy of the next-token distribution", _NO_TOKENS),
        "margin_nats": Column(_FLOATS, "nats", "logit of the true token minus the best other", _NO_TOKENS),
        "gen_tokens": Column(pl.Int32(), "tokens", "tokens generated", _NOT_GENERATED),
        "gen_lcp_tokens": Column(
            pl.Int32(), "tokens", "generated tokens before the first miss", _NOT_GENERATED
        ),
        "gen_match_frac": Column(
            pl.Float64(), "fraction", "positions where generated and true agree", "not generated in full"
        ),
        "rouge1_f": Column(pl.Float64(), "fraction", "ROUGE-1 F of the suffix", "not generated in full"),
        "rouge2_f": Column(pl.Float64(), "fraction", "ROUGE-2 F of the suffix", "not generated in full"),
        "rougeL_f": Column(pl.Float64(), "fraction", "ROUGE-L F of the suffix", "not generated in full"),
        "choice_logprob_nats": Column(
            pl.List(pl.Float64()),
            "nats",
            "ln of the next token's mass on each label, in the order of the labels",
            "no choice was asked for",
        ),
        "found": Column(FOUND, "-", "what the search found; fields as in `compression`", "nothing searched"),
    },
    open_ended=True,
)

_TOKEN_LISTS = ("logprob_nats", "rank", "n_ties", "hit", "entropy_nats", "margin_nats")


def unanswered(requests: pl.DataFrame, earlier: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `requests` that no row of `earlier` answers.

    Args:
        requests: Rows of `REQUESTS`.
        earlier: Rows of `REQUESTS` with the column `has_statistics`: whether they are scored with all
            statistics that the `tokens` requests need.
    """
    answered = _matches(requests, earlier).select(REQUESTS.key).unique()
    return requests.join(answered, on=REQUESTS.key, how="anti", maintain_order="left")


def answer(requests: pl.DataFrame, held: pl.DataFrame, statistics: Iterable[Statistic]) -> pl.DataFrame:
    """Return one row of `SPANS` for each request, cut out of the spans in `held`.

    Token statistics are sliced to the requested span and the sums are computed over the slice, so
    the answer does not depend on other requests of the same run. If several spans answer a request, the one
    with the lowest preference number is taken, then the narrowest, then the first in `held`.

    Raises:
        TableError: A request has no answer.
    """
    names = [each.column for each in statistics]
    matches = _matches(requests, _with_statistics(held, statistics))
    width = pl.col("wide_stop") - pl.col("wide_from")
    best = matches.sort(*REQUESTS.key, "preference", width, maintain_order=True).unique(
        REQUESTS.key, keep="first", maintain_order=True
    )
    if best.height != requests.height:
        raise TableError(
            f"spans: {requests.height - best.height} of {requests.height} requests have no answer"
        )
    return _cut(best, [*_TOKEN_LISTS, *names]).select(*SPANS.columns, *names)


def _with_statistics(held: pl.DataFrame, statistics: Iterable[Statistic]) -> pl.DataFrame:
    """Return the spans with `has_statistics`, and a null column for each statistic that none has."""
    absent = [each.column for each in statistics if each.column not in held.columns]
    frame = held.with_columns(pl.lit(None, dtype=_FLOATS).alias(name) for name in absent)
    usable = pl.all_horizontal(
        [pl.col(each.column).is_not_null() for each in statistics] or [pl.lit(value=True)]
    )
    return frame.with_columns(has_statistics=usable)


def _matches(requests: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Pair each request with the held spans that answer it; the best has the lowest preference."""
    wide = held.rename({"score_from": "wide_from", "stop": "wide_stop", "detail": "wide_detail"})
    same = (pl.col("wide_from") == pl.col("score_from")) & (pl.col("wide_stop") == pl.col("stop"))
    covers = (pl.col("wide_from") <= pl.col("score_from")) & (pl.col("wide_stop") >= pl.col("stop"))
    from_tokens = covers & (pl.col("wide_detail") == "tokens")
    preference = (
        pl.when((pl.col("detail") == "tokens") & from_tokens & pl.col("has_statistics"))
        .then(0)
        .when((pl.col("detail") == "sums") & from_tokens)
        .then(0)
        .when((pl.col("detail") == "sums") & same & (pl.col("wide_detail") == "sums"))
        .then(1)
        .when((pl.col("detail") == "choice") & same & (pl.col("wide_detail") == "choice"))
        .then(0)
        .when(is_search() & same & (pl.col("wide_detail") == pl.col("detail")))
        .then(0)
        .when(pl.col("detail").is_in(["generate", "verify"]) & same & (pl.col("wide_detail") == "generate"))
        .then(0)
        .when((pl.col("detail") == "verify") & same & (pl.col("wide_detail") == "verify"))
        .then(1)
    )
    return (
        requests.join(wide, on=["item_id", "part", "start"], maintain_order="left_right")
        .with_columns(preference=preference)
        .filter(pl.col("preference").is_not_null())
    )


def _cut(best: pl.DataFrame, lists: list[str]) -> pl.DataFrame:
    """Slice the token lists to the requested span; sums and counts follow from the slice."""
    has_tokens = pl.col("wide_detail") == "tokens"
    # The first token of an item without BOS has no score, so lists are aligned at their end.
    length = pl.min_horizontal(
        pl.col("stop") - pl.col("score_from"),
        pl.col("logprob_nats").list.len().cast(pl.Int32) - (pl.col("wide_stop") - pl.col("stop")),
    )
    offset = (
        pl.col("logprob_nats").list.len().cast(pl.Int32) - (pl.col("wide_stop") - pl.col("stop")) - length
    )
    sliced = best.with_columns(
        pl.when(has_tokens).then(pl.col(name).list.slice(offset, length)).alias(name) for name in lists
    )
    return sliced.with_columns(
        n_scored=pl.when(has_tokens)
        .then(pl.col("logprob_nats").list.len().cast(pl.Int32))
        .otherwise("n_scored"),
        logprob_sum_nats=pl.when(has_tokens)
        .then(pl.col("logprob_nats").cast(pl.List(pl.Float64)).list.sum())
        .otherwise("logprob_sum_nats"),
        n_hits=pl.when(has_tokens).then(pl.col("hit").list.sum().cast(pl.Int32)).otherwise("n_hits"),
        rank_sum=pl.when(has_tokens)
        .then(pl.col("rank").cast(pl.List(pl.Int64)).list.sum())
        .otherwise("rank_sum"),
    )
