"""Checks of scored spans: values that no model can give are refused, before writing and after reading."""

import math
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from memprobe.tables.requests import REQUESTS, Spread, Unit
from memprobe.tables.spans import SPANS
from memprobe.wording import counted

# ln p is at most 0 except for rounding: float32 loses 1e-5 on logits of 100, a sum over labels no more.
ROUNDING_NATS = 1e-3
# Rounding of an entropy, which is a float32 sum over the vocabulary.
_ENTROPY_NATS = 1e-2
# Relative rounding of a float64 sum of the same float32 values in another order.
_SUM_SHARE = 1e-6
_LISTS = ("logprob_nats", "rank", "n_ties", "hit", "entropy_nats", "margin_nats")
_COUNTS = ("n_scored", "n_hits", "rank_sum", "gen_tokens", "gen_lcp_tokens")
_FRACTIONS = ("gen_match_frac", "rouge1_f", "rouge2_f", "rougeL_f")


def impossible(spans: pl.DataFrame, vocabulary: int | None = None) -> list[str]:
    """Return what is impossible in rows of `SPANS`, with counts; empty if all values are possible.

    Args:
        spans: Rows of `SPANS`.
        vocabulary: Number of tokens that the model scores; None if it is not known.
    """
    lists = [*_LISTS, *_schemes(spans), *_spread(spans)]
    found = _broken(spans, _of_rows() | _of_lengths(lists), "span")
    if found:
        return found
    scored = spans.filter(pl.col("logprob_nats").list.len() > 0).select(lists)
    rules = _of_tokens(_schemes(spans), vocabulary) | _of_spread(_spread(spans))
    return _broken(scored.explode(lists), rules, "token")


def _schemes(spans: pl.DataFrame) -> list[str]:
    return [name for name in spans.columns if name.startswith("logprob_") and name not in SPANS.columns]


def _spread(spans: pl.DataFrame) -> list[str]:
    """Return a list with the column of `Spread`; empty if the unit does not have it."""
    return [name for name in (Spread().column,) if name in spans.columns]


def _of_spread(columns: Iterable[str]) -> dict[str, pl.Expr]:
    """Return, by message, the rules on the standard deviation of ln p at one position."""
    return {
        f"{name} is {said}": rule
        for name in columns
        for said, rule in (
            ("below 0", pl.col(name) < 0),
            ("NaN", pl.col(name).is_nan()),
            ("missing", pl.col(name).is_null()),
        )
    }


def _broken(rows: pl.DataFrame, rules: Mapping[str, pl.Expr], noun: str) -> list[str]:
    """Return the broken rules, each with the number of rows that break it; null breaks no rule."""
    counts = rows.select(expr.fill_null(value=False).sum().alias(said) for said, expr in rules.items())
    return [f"{said} ({counted(int(n), noun)})" for said, n in counts.row(0, named=True).items() if n]


def _of_rows() -> dict[str, pl.Expr]:
    """Return, by message, the rules on whole spans."""
    total, n_scored, labels = pl.col("logprob_sum_nats"), pl.col("n_scored"), pl.col("choice_logprob_nats")
    of_tokens = pl.col("logprob_nats").cast(pl.List(pl.Float64)).list.sum()
    off = (total - of_tokens).abs() > _SUM_SHARE * (1 + of_tokens.abs())
    rules = {f"{name} is below 0": pl.col(name) < 0 for name in _COUNTS}
    rules |= {f"{name} is not between 0 and 1": ~pl.col(name).is_between(0, 1 + 1e-9) for name in _FRACTIONS}
    return rules | {
        "more hits than scored tokens": pl.col("n_hits") > n_scored,
        "more scored tokens than the span has": n_scored > pl.col("stop") - pl.col("score_from"),
        "more generated tokens agree than there are": pl.col("gen_lcp_tokens") > pl.col("gen_tokens"),
        "the sum of ln p is above 0 or NaN": ~(total <= ROUNDING_NATS * (1 + n_scored)) | total.is_nan(),
        "ln p of a label is above 0": labels.list.max() > ROUNDING_NATS,
        "ln p of a label is NaN": labels.list.eval(pl.element().is_nan()).list.any(),
        "the sum of ln p is not that of the tokens": off & of_tokens.is_finite(),
        "n_hits is not the number of hits": pl.col("hit").list.sum() != pl.col("n_hits"),
        "rank_sum is not the sum of the ranks": pl.col("rank").cast(pl.List(pl.Int64)).list.sum()
        != pl.col("rank_sum"),
    }


def _of_lengths(lists: Iterable[str]) -> dict[str, pl.Expr]:
    """Return, by message, the rules that token lists are absent or have one value per scored token."""
    length = pl.col("logprob_nats").list.len()
    return {
        f"{name} has not one value for each scored token": (
            (pl.col(name).list.len() != pl.col("n_scored")) | (length.is_not_null() & pl.col(name).is_null())
        )
        for name in lists
    }


def _of_tokens(schemes: Iterable[str], vocabulary: int | None) -> dict[str, pl.Expr]:
    """Return, by message, the rules on the values of one token."""
    rank, n_ties, hit = pl.col("rank"), pl.col("n_ties"), pl.col("hit")
    entropy, margin = pl.col("entropy_nats"), pl.col("margin_nats")
    logprobs = ("logprob_nats", *schemes)
    rules = {f"{name} is above 0": pl.col(name) > ROUNDING_NATS for name in logprobs}
    rules |= {f"{name} is NaN": pl.col(name).is_nan() for name in (*logprobs, "entropy_nats", "margin_nats")}
    rules |= {f"{name} is missing": pl.col(name).is_null() for name in (*_LISTS, *schemes)}
    rules |= {
        "rank is below 0": rank < 0,
        "n_ties is below 0": n_ties < 0,
        "a hit is not ranked 0": hit & (rank != 0),
        "a token ranked 0 alone is not a hit": (rank == 0) & (n_ties == 0) & ~hit,
        "a hit has a margin below 0": hit & (margin < 0),
        "a margin above 0 is not a hit": ~hit & (margin > 0) & margin.is_not_nan(),
        "entropy_nats is below 0": entropy < -_ENTROPY_NATS,
    }
    if vocabulary:
        rules |= {
            "rank is beyond the vocabulary": rank.cast(pl.Int64) + n_ties.cast(pl.Int64) >= vocabulary,
            "entropy_nats is above ln of the vocabulary": entropy > math.log(vocabulary) + _ENTROPY_NATS,
        }
    return rules


def other_requests(unit: Unit, spans: pl.DataFrame) -> str | None:
    """Return how the rows of a unit differ from what was asked; None if they do not."""
    n_rows, n_asked = spans.height, unit.requests.height
    if n_rows != n_asked:
        return f"it holds {counted(n_rows, 'row')} and not {n_asked:,}, one for each span that was asked for"
    unanswered = unit.requests.join(spans, on=REQUESTS.key, how="anti").height
    if unanswered:
        return f"{unanswered:,} of the {counted(n_asked, 'span')} that were asked for are not in it"
    absent = _absent(unit, spans)
    return f"it holds nothing under {', '.join(absent)}" if absent else None


def _absent(unit: Unit, spans: pl.DataFrame) -> list[str]:
    """Return the names of the statistics that were asked for and have no column."""
    dtype = SPANS.columns["logprob_nats"].dtype
    return [each.name for each in unit.statistics if spans.schema.get(each.column) != dtype]


def other_columns(schema: Mapping[str, pl.DataType]) -> str | None:
    """Return how a unit's columns differ from those of `SPANS`; None if they do not."""
    wrong = [name for name, column in SPANS.columns.items() if schema.get(name) != column.dtype]
    return f"its columns are not those of a unit: {', '.join(wrong)}" if wrong else None


def same_requests(units: Sequence[Unit], frames: Sequence[pl.DataFrame]) -> bool:
    """Return whether each unit holds what was asked: `other_requests` for all units at once."""
    if any(_absent(unit, frame) for unit, frame in zip(units, frames, strict=True)):
        return False
    asked = [unit.requests.select(*REQUESTS.key, unit=pl.lit(i)) for i, unit in enumerate(units)]
    held = [frame.select(*REQUESTS.key, unit=pl.lit(i)) for i, frame in enumerate(frames)]
    if [each.height for each in asked] != [each.height for each in held]:
        return False
    return (
        not asked or pl.concat(asked).join(pl.concat(held), on=[*REQUESTS.key, "unit"], how="anti").is_empty()
    )
