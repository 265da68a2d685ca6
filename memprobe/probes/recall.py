"""Recall: does the model finish a text that it was trained on, word for word?

Teacher forcing decides this without generating: free-running greedy decoding equals the true suffix
exactly if every true token is the greedy choice given the true tokens before it, and the first miss is the
same for both. After the first miss they differ, so there are two shares of matching tokens: `hit_frac`
(given the true tokens) and `gen_match_frac` (of generated tokens). By default, a few items are also generated
and compared.

Sources: Orhan (2023), section 2.2, https://arxiv.org/abs/2303.17557; Carlini et al. (2022), section 3,
https://arxiv.org/abs/2202.07646; extraction strength as in Carlini et al. (2021).
"""

import hashlib
from dataclasses import dataclass
from functools import partial

import polars as pl

from memprobe.probes.contract import About, Metric, Probe, Ranking, Scores, arxiv, whole
from memprobe.probes.placement import Align, Lengths, chat_problems, length_problems, place, place_chats
from memprobe.probes.values import ALL_SCORED
from memprobe.tables.keys import NO_CONDITION, item_table
from memprobe.tables.requests import Plan, request_frame
from memprobe.tables.schema import Column
from memprobe.tables.views import Chat

_NOT_GENERATED = "not generated in full"

RECALL = item_table(
    "recall",
    {
        "prefix_tokens": Column(pl.Int32(), "tokens", "tokens that condition"),
        "suffix_tokens": Column(pl.Int32(), "tokens", "tokens to be recalled"),
        "exact": Column(pl.Boolean(), "-", "greedy decoding yields the whole suffix", NO_CONDITION),
        "lcp_tokens": Column(pl.Int32(), "tokens", "suffix tokens before the first miss", NO_CONDITION),
        "hit_frac": Column(
            pl.Float64(),
            "fraction",
            "suffix tokens that are hits given the true tokens before",
            NO_CONDITION,
        ),
        "es_frac": Column(
            pl.Float64(),
            "fraction",
            "extraction strength: share of the suffix behind its last miss",
            NO_CONDITION,
        ),
        "min_margin_nats": Column(
            pl.Float64(),
            "nats",
            "smallest logit(true) - best other; positive exactly when `exact`, but for ties",
            NO_CONDITION,
        ),
        "gen_match_frac": Column(
            pl.Float64(), "fraction", "generated tokens that agree by position", _NOT_GENERATED
        ),
        "rouge1_f": Column(pl.Float64(), "fraction", "ROUGE-1 F of the suffix alone", _NOT_GENERATED),
        "rouge2_f": Column(pl.Float64(), "fraction", "ROUGE-2 F of the suffix alone", _NOT_GENERATED),
        "rougeL_f": Column(pl.Float64(), "fraction", "ROUGE-L F of the suffix alone", _NOT_GENERATED),
    },
    key=("prefix_tokens", "suffix_tokens"),
    optional={"gen_text": Column(pl.String(), "-", "what was generated", _NOT_GENERATED)},
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of recall.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens to be recalled; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        generate: Generate every suffix as well, for `gen_match_frac` and ROUGE.
        verify_items: Number of items whose result is checked by generation; they are chosen by a hash of
            their id.
        chat: Put the prefix into the tokenizer's chat template as the user's message; the suffix is the
            answer. The table's column `prefix_tokens` then also counts the tokens of the template.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    generate: bool = False
    verify_items: int = 4
    chat: bool = False

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        problems += chat_problems(self.chat, self.prefix_tokens, self.align)
        if self.verify_items < 0:
            problems.append(f"verify_items is {self.verify_items}, not 0 or more")
        if problems:
            raise ValueError("; ".join(problems))


def plan(items: pl.DataFrame, settings: Settings) -> Plan:
    """Request the tokens of each suffix, and the generation of some or all suffixes."""
    lengths = Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align)
    placed = place_chats(items, lengths) if settings.chat else place(items, lengths)
    asked = [request_frame(placed.spans, detail="tokens")]
    if settings.generate:
        asked.append(request_frame(placed.spans, detail="generate"))
    elif settings.verify_items:
        asked.append(request_frame(_sample(placed.spans, settings.verify_items), detail="verify"))
    return Plan(pl.concat(asked), unfit=placed.unfit)


def _sample(spans: pl.DataFrame, n_items: int) -> pl.DataFrame:
    """Return the items whose ids have the lowest hashes, so that the sample does not depend on the order."""
    order = pl.col("item_id").map_elements(
        lambda item: hashlib.sha256(item.encode()).hexdigest(), return_dtype=pl.String
    )
    return spans.sort(order).head(n_items)


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:  # noqa: ARG001
    """Measure the recall of each item.

    Returns:
        The columns of `RECALL` after the keys. Larger values mean more recalled.
        `lcp_tokens`: hits before the first miss. `es_frac`: 1 - (last miss + 1) / n, the share of the
        suffix that follows its last miss; 0 if the last token misses, 1 if all hit. All are null if there
        is nothing before the first suffix token.
    """
    tokens = scores.spans.filter(pl.col("detail") == "tokens")
    n = pl.col("n_scored")
    hits = pl.col("hit")
    # The running minimum is 1 up to the first miss and 0 after it, so its sum counts the hits before the
    # miss; the same from the end.
    front = hits.list.eval(pl.element().cum_min()).list.sum().cast(pl.Int32)
    back = hits.list.reverse().list.eval(pl.element().cum_min()).list.sum()
    values = {
        "exact": pl.col("n_hits") == n,
        "lcp_tokens": front,
        "hit_frac": pl.col("n_hits") / n,
        "es_frac": back / n,
        "min_margin_nats": pl.col("margin_nats").list.min().cast(pl.Float64),
    }
    measured = tokens.select(
        "item_id",
        prefix_tokens=pl.col("score_from") - pl.col("start"),
        suffix_tokens=pl.col("stop") - pl.col("score_from"),
        **{name: pl.when(ALL_SCORED).then(value) for name, value in values.items()},
    )
    generated = scores.spans.filter(pl.col("detail") == "generate")
    extra = ["gen_text"] if "gen_text" in generated.columns else []
    columns = ["gen_match_frac", "rouge1_f", "rouge2_f", "rougeL_f", *extra]
    return measured.join(
        generated.select("item_id", *columns), on="item_id", how="left", maintain_order="left"
    )


def checks(spans: pl.DataFrame) -> dict[str, int]:
    """Count the generated suffixes, and those whose first miss is not the one of teacher forcing."""
    tokens = spans.filter(pl.col("detail") == "tokens").select(
        "item_id", lcp=pl.col("hit").list.eval(pl.element().cum_min()).list.sum()
    )
    generated = spans.filter(pl.col("detail").is_in(["generate", "verify"]), pl.col("gen_tokens") > 0)
    both = generated.join(tokens, on="item_id")
    agree = both["gen_lcp_tokens"] == pl.Series(
        both.select(pl.min_horizontal("lcp", "gen_tokens")).to_series()
    )
    return {"greedy_verified": both.height, "greedy_tf_disagree": int((~agree).sum())}


def _column(column: str, table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    return whole(table, column)


def _lcp(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    """Return the number of tokens before the first miss; it is at most the number of suffix tokens."""
    return whole(table, "lcp_tokens").with_columns(most=table["suffix_tokens"].cast(pl.Float64))


_ABOUT = About(
    measures="Given the beginning of a text, does greedy decoding yield its end, token for token? "
    "Every item that does is memorized in the sense of discoverable extraction.",
    how_to_read="exact_frac is the share of items whose whole suffix follows; lcp_tokens and hit_frac "
    "show how far the others come. Set it beside items never trained on (trained=false): "
    "what is recalled there is guessed.",
    limits="Short or predictable suffixes are recalled without memory, and one token that is cut "
    "otherwise than in training can hide memory. Greedy decoding finds less than many samples "
    "do: see extraction.",
    citation="\n\n".join(
        (
            arxiv(
                "orhan2023recognition",
                "Orhan, A. Emin",
                "Recognition, recall, and retention of few-shot memories in large language models",
                2023,
                "2303.17557",
            ),
            arxiv(
                "carlini2022quantifying",
                "Carlini, Nicholas and Ippolito, Daphne and Jagielski, Matthew and Lee, Katherine and "
                "Tramer, Florian and Zhang, Chiyuan",
                "Quantifying Memorization Across Neural Language Models",
                2022,
                "2202.07646",
            ),
        )
    ),
)

PROBE = Probe(
    name="recall",
    version=1,
    title="Does the model finish the text word for word?",
    formula="exact = every suffix token is the argmax given the true tokens before it",
    source="Orhan 2023, arXiv:2303.17557; Carlini et al. 2022, arXiv:2202.07646",
    about=_ABOUT,
    settings=Settings,
    plan=plan,
    measure=measure,
    table=RECALL,
    metrics=(
        Metric(
            "exact_frac",
            "fraction",
            "more suffixes recalled whole",
            "rate",
            partial(_column, "exact"),
            against_never=True,
        ),
        Metric(
            "lcp_tokens",
            "tokens",
            "longer recall before the first miss",
            "mean",
            _lcp,
        ),
        Metric(
            "hit_frac",
            "fraction",
            "more suffix tokens are the greedy choice",
            "mean",
            partial(_column, "hit_frac"),
        ),
        Metric(
            "es_frac", "fraction", "less of the true suffix is needed", "mean", partial(_column, "es_frac")
        ),
    ),
    checks=checks,
    view=lambda settings: Chat() if settings.chat else None,
    cosmetic=("verify_items",),
    swept="prefix_tokens",
    dose="prefix_tokens",
    follows=("data split",),
    rankings=(
        Ranking("recall", "min_margin_nats", ("exact", "lcp_tokens", "suffix_tokens", "min_margin_nats")),
    ),
)
