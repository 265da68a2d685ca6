"""Trials, computed from answered requests: log-odds of the labels in both orders, chosen template, table.

Source: Pink et al. (2024), section 3, https://arxiv.org/abs/2410.08133; the contrast of both orders is ours.
"""

from collections.abc import Sequence

import polars as pl

from memprobe.probes.contract import Scores
from memprobe.probes.sort.tables import SORT
from memprobe.tables.views import FREE, LIKELIHOOD_ORDERS

# Optional columns of item files.
_GIVEN = (
    "source_id",
    "excerpt_id",
    "excerpt_words",
    "segment_words",
    "distance_words",
    "distance_bin",
    "excerpt_start_frac",
)
_KEYS = ["item_id", "prompt_id", "condition"]


def in_test(items: pl.DataFrame) -> pl.Expr:
    """Return whether an item is a test trial, which counts in estimates; true if it has no split."""
    return pl.col("split").fill_null("test") == "test" if "split" in items.columns else pl.lit(value=True)


def prompt_rows(scores: Scores) -> pl.DataFrame:
    """Return the results of each question with each template, from both orders together.

    Returns:
        `item_id, prompt_id, condition, is_test, delta, correct, position_bias, label_mass,
        content_free_nats, presented_correct, dropped_tokens`; also for validation trials if they were asked.
    """
    mass = pl.col("choice_logprob_nats").list
    answers = _spans(scores, "choice").with_columns(
        odds=mass.get(0) - mass.get(1), mass=mass.get(0).exp() + mass.get(1).exp()
    )
    return _with_odds(answers, _presented(scores.items))


def _with_odds(answers: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Compute contrast, bias and answers from the log-odds of the labels in each order."""
    odds = {order: pl.col("odds").filter(pl.col("order") == order).first() for order in ("AB", "BA", FREE)}
    shown = pl.col("mass").filter(pl.col("order") != FREE)
    ab, ba, free = (pl.col(order) for order in odds)
    calibration = pl.when("was_free").then(free).otherwise(0.0)
    as_shown = pl.when("earlier_first").then(ab - calibration).otherwise(calibration - ba)
    return (
        answers.group_by(_KEYS, maintain_order=True)
        .agg(
            **odds,
            was_free=(pl.col("order") == FREE).any(),
            label_mass=pl.when(shown.count() == 2).then(shown.mean()),
            dropped_tokens=pl.col("dropped_tokens").max(),
        )
        .join(items, on="item_id", how="left", maintain_order="left")
        .select(
            *_KEYS,
            "is_test",
            "label_mass",
            "dropped_tokens",
            # If neither label has mass, the difference of two infinities is NaN.
            delta=((ab - ba) / 2).fill_nan(None),
            position_bias=((ab + ba) / 2 - calibration).fill_nan(None),
            content_free_nats=free.fill_nan(None),
            presented=pl.when(pl.col("earlier_first").is_not_null()).then(as_shown.fill_nan(None)),
        )
        .with_columns(correct=right("delta"), presented_correct=right("presented"))
        .drop("presented")
    )


def _spans(scores: Scores, detail: str) -> pl.DataFrame:
    """Return the answered requests of one kind, with the fields of their question.

    Raises:
        ValueError: The trials are missing.
    """
    if scores.windows is None:
        raise ValueError("sort needs the trials that were shown to the model")
    # A string with two scored runs of tokens has two windows.
    asked = scores.windows.select("item_id", "part", "trial").unnest("trial").unique(maintain_order=True)
    spans = scores.spans.filter(pl.col("detail") == detail)
    return spans.join(asked, on=["item_id", "part"], maintain_order="left")


def _presented(items: pl.DataFrame) -> pl.DataFrame:
    given = pl.col("earlier_first") if "earlier_first" in items.columns else pl.lit(None, pl.Boolean)
    return items.select("item_id", is_test=in_test(items), earlier_first=given)


def right(name: str) -> pl.Expr:
    """Return 1 if a contrast is positive, 0.5 if it is 0, 0 if it is negative, null if it is null."""
    value = pl.col(name)
    return pl.when(value > 0).then(1.0).when(value == 0).then(0.5).when(value < 0).then(0.0)


def validated(asked: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return `prompt_id, validation_accuracy_frac, label_mass, n_trials, chosen` of each template in order.

    Args:
        asked: Rows from `prompt_rows`.
        names: Names of the templates; the first one of equally good templates is chosen.
    """
    known = asked.filter(~pl.col("is_test"), pl.col("correct").is_not_null())
    tried = known.group_by("prompt_id").agg(
        validation_accuracy_frac=pl.col("correct").mean(),
        label_mass=pl.col("label_mass").mean(),
        n_trials=pl.len().cast(pl.Int64),
    )
    ordered = pl.DataFrame({"prompt_id": list(names)}, schema={"prompt_id": pl.String}).join(
        tried, on="prompt_id", how="left", maintain_order="left"
    )
    best = pl.col("validation_accuracy_frac").arg_max().fill_null(0)
    return ordered.with_columns(
        pl.col("n_trials").fill_null(0), chosen=pl.int_range(pl.len(), dtype=pl.UInt32) == best
    )


def of_chosen(asked: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return the rows of `prompt_rows` for the chosen template."""
    chosen = validated(asked, names).filter("chosen")
    return asked.join(chosen, on="prompt_id", how="semi", maintain_order="left")


def trial_table(scores: Scores, asked: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of `SORT` after the keys: test trials, by question and by likelihood.

    Args:
        scores: Scores of one checkpoint.
        asked: Rows from `prompt_rows` for one template.
    """
    modes = [asked.with_columns(mode=pl.lit("prompt")), _likelihood_rows(scores)]
    rows = pl.concat(modes, how="diagonal").filter("is_test")
    items = scores.items.select(
        "item_id",
        *(
            pl.col(name)
            if name in scores.items.columns
            else pl.lit(None, SORT.columns[name].dtype).alias(name)
            for name in _GIVEN
        ),
    )
    return (
        rows.drop("is_test")
        .with_columns(truncated=pl.col("dropped_tokens") > 0)
        .join(items, on="item_id", how="left", maintain_order="left")
    )


def _total(order: str) -> pl.Expr:
    """Return ln p of all scored tokens of an order; null if the order or one of its runs has none."""
    rows = pl.col("order") == order
    scored = rows.any() & (~rows | (pl.col("n_scored") > 0)).all()
    return pl.when(scored).then(pl.col("logprob_sum_nats").filter(rows).sum())


def _likelihood_rows(scores: Scores) -> pl.DataFrame:
    """Compare the concatenations: `item_id, condition, is_test, delta, correct, dropped_tokens, mode`."""
    earlier, later = (_total(order) for order in LIKELIHOOD_ORDERS)
    return (
        _spans(scores, "sums")
        .group_by("item_id", "condition", maintain_order=True)
        .agg(delta=(earlier - later).fill_nan(None), dropped_tokens=pl.col("dropped_tokens").max())
        .with_columns(correct=right("delta"), mode=pl.lit("likelihood"))
        .join(
            _presented(scores.items).drop("earlier_first"),
            on="item_id",
            how="left",
            maintain_order="left",
        )
    )
