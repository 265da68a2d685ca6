"""Values of spans that several probes use."""

import polars as pl

# Whether every token of the span was scored; without BOS, an item's first token is not.
ALL_SCORED = pl.col("n_scored") == pl.col("stop") - pl.col("score_from")
# Whether greedy decoding yields the whole span: every token is the greedy choice given the true tokens before
# it. Null if a token of the span was not scored.
RECITED = pl.when(ALL_SCORED).then(pl.col("n_hits") == pl.col("n_scored"))
# Mean ln p of the scored tokens; null if there are none.
MEAN_LOGPROB = pl.col("logprob_sum_nats") / pl.when(pl.col("n_scored") > 0).then("n_scored")


def compared(spans: pl.DataFrame) -> pl.DataFrame:
    """Compare the text of each item with its foil by the mean -ln p of their tokens.

    Args:
        spans: Rows of `SPANS`: for each item one row with the part `text` and one with the part `foil`.

    Returns:
        `item_id`; `_nll_mean_nats`, `_nll_sum_nats` and `_tokens` with the prefixes `seen` (the text) and
        `foil`; `margin_nats`, foil minus text; and `correct`: 1 if the text is likelier, 0.5 for a tie,
        else 0. `margin_nats` and `correct` are null if text or foil has no scored token. If both strings are
        impossible, it is a tie: `correct` is 0.5, and `margin_nats` is null.
    """
    seen, foil = (_nll(spans, part, name) for part, name in (("text", "seen"), ("foil", "foil")))
    margin = pl.col("foil_nll_mean_nats") - pl.col("seen_nll_mean_nats")
    equal = pl.col("foil_nll_mean_nats") == pl.col("seen_nll_mean_nats")
    correct = pl.when(equal).then(0.5).otherwise((margin > 0).cast(pl.Float64))
    return seen.join(foil, on="item_id", maintain_order="left").with_columns(
        margin_nats=margin.fill_nan(None), correct=pl.when(margin.is_not_null()).then(correct)
    )


def _nll(spans: pl.DataFrame, part: str, name: str) -> pl.DataFrame:
    total = -pl.col("logprob_sum_nats")
    return spans.filter(pl.col("part") == part).select(
        "item_id",
        pl.when(pl.col("n_scored") > 0).then(total / pl.col("n_scored")).alias(f"{name}_nll_mean_nats"),
        total.alias(f"{name}_nll_sum_nats"),
        pl.col("n_scored").alias(f"{name}_tokens"),
    )
