"""Recognition: does the model give a text that it has seen a higher likelihood than a foil?

Two-alternative forced choice between two strings by their mean -ln p per token, each scored alone. A tie
counts half; chance is 0.5. A foil can be likelier than the seen text before any training, so the gain since
the first checkpoint says more than the accuracy.

Source: Orhan (2023), section 2.1, https://arxiv.org/abs/2303.17557
"""

from dataclasses import dataclass

import polars as pl

from memprobe.probes.contract import About, Candidates, Metric, Probe, Ranking, Scores, arxiv, rows_with
from memprobe.probes.placement import foil_sums
from memprobe.probes.values import compared
from memprobe.tables.conditions import built
from memprobe.tables.keys import ALONE, item_table
from memprobe.tables.requests import Plan, request_frame
from memprobe.tables.schema import Column

RECOGNITION = item_table(
    "recognition",
    {
        "foil_kind": Column(pl.String(), "-", "how the foil was made", "not given"),
        "seen_nll_mean_nats": Column(pl.Float64(), "nats per token", "-ln p of the seen text, mean", ALONE),
        "foil_nll_mean_nats": Column(pl.Float64(), "nats per token", "-ln p of the foil, mean", ALONE),
        "seen_nll_sum_nats": Column(pl.Float64(), "nats", "-ln p of the seen text"),
        "foil_nll_sum_nats": Column(pl.Float64(), "nats", "-ln p of the foil"),
        "seen_tokens": Column(pl.Int32(), "tokens", "scored tokens of the seen text"),
        "foil_tokens": Column(pl.Int32(), "tokens", "scored tokens of the foil"),
        "margin_nats": Column(
            pl.Float64(),
            "nats per token",
            "foil minus seen mean -ln p; positive: the seen text is likelier",
            ALONE,
        ),
        "correct": Column(pl.Float64(), "0, 0.5 or 1", "1: the seen text is likelier, 0.5: a tie", ALONE),
    },
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Recognition has no options: both strings are scored in full."""


def plan(items: pl.DataFrame, settings: Settings) -> Plan:  # noqa: ARG001
    """Request the sums over both strings."""
    seen = items.select("item_id", start=0, score_from=0, stop="n_tokens")
    return Plan(pl.concat([request_frame(seen, detail="sums"), foil_sums(items)]))


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Compare the two strings of each item.

    Returns:
        The columns of `RECOGNITION` after the keys: `foil_kind`, and those that `compared` returns.
    """
    return scores.items.select("item_id", "foil_kind").join(compared(scores.spans), on="item_id")


def by_foil_kind(values: pl.DataFrame, *columns: pl.Expr) -> pl.DataFrame:
    """Return the values of all items without a condition, and again with their foil kind as condition."""
    pooled = values.select("item_id", *columns, condition=pl.lit(None, dtype=pl.String))
    kinds = values.filter(pl.col("foil_kind").is_not_null()).select(
        "item_id", *columns, condition=built(foil_kind="foil_kind")
    )
    return pl.concat([pooled, kinds])


def _correct(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    return by_foil_kind(table, pl.col("correct").alias("value"))


def _margin(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    # The margin is infinite if one string is impossible; a mean over it would not be finite.
    margin = pl.col("margin_nats")
    return by_foil_kind(table, pl.when(margin.is_finite()).then(margin).alias("value"))


def _both(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    # Higher must mean more like a seen text, so both sides are mean ln p.
    return by_foil_kind(
        table, (-pl.col("seen_nll_mean_nats")).alias("value"), (-pl.col("foil_nll_mean_nats")).alias("other")
    )


_ABOUT = About(
    measures="Each item is a text that was trained on beside a foil that was not; the probe asks which "
    "of the two the model finds likelier per token. It is the most sensitive of the probes: "
    "it finds traces of a text long before it can be recited.",
    how_to_read="accuracy_frac is 0.5 by chance and 1 where every seen text is preferred. Set it "
    "beside the first checkpoint (gain_frac), since a foil may be odd without any "
    "training.",
    limits="Foils that differ from the texts in length, style or topic are distinguished without memory. "
    "It says that a text left a trace, not that it can be extracted.",
    citation=arxiv(
        "orhan2023recognition",
        "Orhan, A. Emin",
        "Recognition, recall, and retention of few-shot memories in large language models",
        2023,
        "2303.17557",
    ),
)

# The length of the foil shows that an item has one: texts are not kept in a run.
_FOILED = Candidates(("foil",), lambda offered: rows_with(offered.table, "n_foil_tokens"))

PROBE = Probe(
    name="recognition",
    version=1,
    title="Is the seen text likelier than its foil?",
    formula="correct = 1 if NLL_mean(seen) < NLL_mean(foil), 0.5 if equal, else 0; chance 0.5",
    source="Orhan 2023, arXiv:2303.17557",
    about=_ABOUT,
    settings=Settings,
    candidates=_FOILED,
    plan=plan,
    measure=measure,
    table=RECOGNITION,
    metrics=(
        Metric("accuracy_frac", "fraction", "the seen text is preferred more often", "rate", _correct),
        Metric("margin_nats", "nats per token", "the seen text is likelier by more", "mean", _margin),
        Metric("auc", "fraction", "seen texts and foils are distinguished by likelihood alone", "auc", _both),
        Metric(
            "gain_frac",
            "fraction",
            "accuracy rose since the first checkpoint",
            "mean",
            _correct,
            since_first=True,
        ),
    ),
    rankings=(Ranking("recognition", "margin_nats", ("margin_nats", "foil_kind")),),
)
