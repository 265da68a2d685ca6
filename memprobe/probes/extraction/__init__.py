"""Extraction: how many samples does it take until the model emits the suffix, and with what probability?

p_z is the probability of the whole suffix under a sampling scheme, given the prefix. The item is
(n, p)-discoverably extractable if n samples contain the suffix with probability at least p. All computations
use ln p_z, so that nothing underflows.

Source: Hayes et al. (2024), section 3, https://arxiv.org/abs/2410.19482
"""

import math
import sys
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.contract import About, Derived, Metric, Probe, Ranking, Scores, arxiv
from memprobe.probes.extraction.tables import COVERAGE, EXTRACTION, EXTRACTION_WINDOWS
from memprobe.probes.extraction.windows import (
    CARRIED,
    coverage_table,
    coverage_values,
    in_series,
    plan_windows,
    window_problems,
    window_view,
)
from memprobe.probes.placement import Align, Lengths, chat_problems, length_problems, place, place_chats
from memprobe.probes.values import ALL_SCORED, RECITED
from memprobe.tables.conditions import built
from memprobe.tables.requests import Plan, Scheme, request_frame
from memprobe.tables.views import CharWindows, Chat, TokenWindows

# The smallest probability above 0, and ln of the largest number, in float64.
_LEAST, _LN_MOST = math.ulp(0.0), math.log(sys.float_info.max)
_DEFAULT_SCHEMES = (Scheme(top_k=40), Scheme())


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of extraction.

    Attributes:
        prefix_tokens: Number of tokens before the suffix that the model is given; None: the item's whole
            prefix, or half of its tokens if it has no given prefix.
        suffix_tokens: Tokens to be extracted; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of an item that has no given prefix.
        schemes: Sampling schemes to measure.
        n: Numbers of samples for which the extraction rate is computed.
        p: Probabilities with which the suffix must be among the samples.
        chat: Put the prefix into the tokenizer's chat template as the user's message; the suffix is the
            answer. The table's column `prefix_tokens` then also counts the tokens of the template.
        stride_tokens: Slide a window of prefix and suffix over each document by this many tokens.
        stride_chars: Slide the window by this many characters instead. A window then consists of the first
            tokens of a slice of the document; the slice has 8 characters per token and is tokenised alone.
        tau: With a stride: thresholds of p_z; a window covers the text of its suffix if its p_z is at least
            the threshold.
        longest_passage: With a stride: length of the longest passage that can be memorized, in the stride's
            unit. Intervals treat passages as independent if they are twice this length apart; None: if they
            are a twentieth of the document apart.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    schemes: tuple[Scheme, ...] = _DEFAULT_SCHEMES
    n: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    p: tuple[float, ...] = (0.1, 0.5, 0.9, 0.999)
    chat: bool = False
    stride_tokens: int | None = None
    stride_chars: int | None = None
    tau: tuple[float, ...] = (0.001, 0.01, 0.1, 0.5, 0.9)
    longest_passage: int | None = None

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        lengths = (self.prefix_tokens, self.suffix_tokens)
        problems += window_problems(*lengths, self.align, self.stride_tokens, self.stride_chars)
        problems += chat_problems(self.chat, self.prefix_tokens, self.align)
        if self.longest_passage is not None and self.longest_passage < 1:
            problems.append(f"longest_passage is {self.longest_passage}, not 1 or more")
        if self.longest_passage is not None and self.stride_tokens is None and self.stride_chars is None:
            problems.append(
                "longest_passage needs stride_tokens or stride_chars: without, no windows are read"
            )
        if not self.schemes:
            problems.append("schemes is empty")
        if len({scheme.name for scheme in self.schemes}) < len(self.schemes):
            problems.append("schemes has one scheme twice")
        if not self.n or min(self.n) < 1:
            problems.append(f"n is {list(self.n)}, not one or more numbers of 1 or more")
        if not self.p or not all(0 < p < 1 for p in self.p):
            problems.append(f"p is {list(self.p)}, not one or more numbers between 0 and 1")
        if not self.tau or not all(0 < tau <= 1 for tau in self.tau):
            problems.append(f"tau is {list(self.tau)}, not one or more numbers above 0 and up to 1")
        # If a number were given twice, every item would count twice in the rate.
        for name, values in (("n", self.n), ("p", [column_of(p) for p in self.p]), ("tau", self.tau)):
            if len(set(values)) < len(values):
                problems.append(f"{name} has one number twice")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def windows(self) -> TokenWindows | CharWindows | None:
        """The windows that are read; None if there is no stride."""
        return window_view(self.prefix_tokens, self.suffix_tokens, self.stride_tokens, self.stride_chars)


def _passage_windows(settings: Settings) -> int | None:
    """Return the number of windows in the longest passage that can be memorized; None if it is not known."""
    stride = settings.stride_tokens or settings.stride_chars
    if settings.longest_passage is None or stride is None:
        return None
    return -(-settings.longest_passage // stride)


def samples_needed(logp_nats: NDArray[np.float64], p: float) -> NDArray[np.float64]:
    """Return the number of samples that contain the suffix with probability at least `p`.

        n = ceil(ln(1 - p) / ln(1 - p_z)), at least 1

    Args:
        logp_nats: ln p_z, shape (n_items,), at most 0; -inf for an impossible suffix.
        p: Wanted probability, between 0 and 1.

    Returns:
        Shape (n_items,): whole numbers as float64; inf where p_z is 0. Below p_z = 1e-15, where
        1 - p_z rounds to 1 in float64, ln n = ln(-ln(1 - p)) - ln p_z is used. Numbers above the largest
        float64, 1.8e308, are replaced by it, so that inf always means impossible.
    """
    goal = math.log1p(-p)
    n = np.full_like(logp_nats, np.inf)
    certain = logp_nats >= 0
    tiny = (logp_nats < math.log(1e-15)) & ~np.isneginf(logp_nats)
    plain = ~certain & ~tiny & ~np.isneginf(logp_nats)
    n[certain] = 1
    # If the quotient is a whole number, as for p = p_z = 0.5, rounding in exp and log must not add 1.
    n[plain] = np.ceil(goal / np.log1p(-np.exp(logp_nats[plain])) * (1 - 1e-14))
    n[tiny] = np.exp(np.minimum(math.log(-goal) - logp_nats[tiny], _LN_MOST))
    return np.maximum(n, 1)


def plan(items: pl.DataFrame, settings: Settings) -> Plan:
    """Request the tokens of each suffix under every scheme."""
    if settings.windows is not None:
        return plan_windows(items, settings.schemes, settings.windows)
    lengths = Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align)
    placed = place_chats(items, lengths) if settings.chat else place(items, lengths)
    return Plan(
        request_frame(placed.spans, detail="tokens"),
        statistics=frozenset(settings.schemes),
        unfit=placed.unfit,
    )


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:
    """Measure the extraction of each item under each scheme.

    Returns:
        The columns of `EXTRACTION` after the keys, and `n_at_p<p>` for each p. An item is more extractable
        if `logp_nats` is higher or fewer samples are needed. With a stride, the columns are those of
        `EXTRACTION_WINDOWS`, with one row per window.
    """
    spans, keys = scores.spans, ["item_id"]
    if settings.windows is not None and scores.windows is not None:
        documents = scores.items.select("item_id", "doc_id")
        windows = scores.windows.select("item_id", "part", "start", *CARRIED)
        spans = spans.join(windows, on=["item_id", "part", "start"], maintain_order="left")
        spans = spans.join(documents, on="item_id", maintain_order="left")
        keys = ["item_id", "doc_id", *CARRIED]
    return pl.concat([_one_scheme(spans, scheme, settings.p, keys) for scheme in settings.schemes])


def _one_scheme(spans: pl.DataFrame, scheme: Scheme, ps: tuple[float, ...], keys: list[str]) -> pl.DataFrame:
    frame = spans.select(
        *keys,
        scheme=pl.lit(scheme.name),
        prefix_tokens=pl.col("score_from") - pl.col("start"),
        suffix_tokens=pl.col("stop") - pl.col("score_from"),
        # A suffix with nothing before its first token has no p_z.
        logp_nats=pl.when(ALL_SCORED).then(pl.col(scheme.column).cast(pl.List(pl.Float64)).list.sum()),
        max_rank=pl.when(ALL_SCORED).then(pl.col("rank").list.max()),
        greedy=RECITED,
    )
    logp = frame["logp_nats"].to_numpy().astype(np.float64)
    counts = {column_of(p): samples_needed(np.where(np.isnan(logp), -np.inf, logp), p) for p in ps}
    known = pl.col("logp_nats").is_not_null()
    return frame.with_columns(
        # A pz of 0 always means impossible.
        pz=pl.when(pl.col("logp_nats") > -math.inf)
        .then(pl.col("logp_nats").exp().clip(lower_bound=_LEAST))
        .otherwise(pl.col("logp_nats").exp()),
        in_support=pl.col("logp_nats") > -math.inf,
    ).with_columns(
        pl.when(known).then(pl.Series(name, values)).alias(name) for name, values in counts.items()
    )


def column_of(p: float) -> str:
    """Return the name of the column with the number of samples needed for `p`."""
    return f"n_at_p{p:.15g}"


def _values(table: pl.DataFrame, settings: Settings, **values: pl.Expr) -> pl.DataFrame:
    """Return `item_id, condition, value`; for windows, also the columns of a series."""
    if settings.windows is None:
        return table.select("item_id", **values)
    return in_series(
        table.select("item_id", "window", **values), _overlap(table, settings), _passage_windows(settings)
    )


def _overlap(table: pl.DataFrame, settings: Settings) -> int:
    """Return the number of windows on one side, itself included, with which a window shares text."""
    windows = settings.windows
    if windows is None:
        return 1
    if isinstance(windows, TokenWindows):
        return -(-windows.n_tokens // windows.stride)
    n_chars = (table["suffix_end_char"] - table["window_start_char"]).to_numpy()
    return math.ceil(float(np.median(n_chars)) / windows.stride) if len(n_chars) else 1


def _rate(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return whether each item is (n, p)-extractable, for every scheme, n and p."""
    return pl.concat(
        [
            _values(
                table,
                settings,
                condition=built(scheme="scheme", n=pl.lit(n), p=pl.lit(f"{p:.15g}")),
                value=(pl.col(column_of(p)) <= n).cast(pl.Float64),
            )
            for n in settings.n
            for p in settings.p
        ]
    )


def _in_support(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    value = pl.col("in_support").cast(pl.Float64)
    return _values(table, settings, condition=built(scheme="scheme"), value=value)


def _greedy(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    key = ["item_id", "prefix_tokens", "suffix_tokens", *(["window"] if settings.windows else [])]
    one = table.unique(key, keep="first", maintain_order=True)
    value = pl.col("greedy").cast(pl.Float64)
    return _values(one, settings, condition=pl.lit(None, dtype=pl.String), value=value)


def _coverage(table: pl.DataFrame, scores: Scores, settings: Settings) -> pl.DataFrame:
    return coverage_table(table, scores, settings.tau)


def _covered(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    return coverage_values(table, settings.tau, passage_windows=_passage_windows(settings))


_ABOUT = About(
    measures="With what probability does a sample from the model hold the whole suffix, given the "
    "prefix? From it follows how many samples n a determined user needs to see the text with "
    "probability p.",
    how_to_read="rate_frac is the share of items that n samples yield with probability p; it grows "
    "with n, so quote it with n, p and the sampling scheme. A curve that is still rising "
    "at the largest n says that more patience extracts more.",
    limits="It takes samples as independent and the prefix as known. max_rate_frac is 1 by definition "
    "for sampling that cuts nothing off; set all rates beside items never trained on.",
    citation=arxiv(
        "hayes2024measuring",
        "Hayes, Jamie and Swanberg, Marika and Chaudhari, Harsh and Yona, Itay and Shumailov, Ilia "
        "and Nasr, Milad and Choquette-Choo, Christopher A. and Lee, Katherine and Cooper, A. "
        "Feder",
        "Measuring memorization in language models via probabilistic extraction",
        2024,
        "2410.19482",
    ),
)

PROBE = Probe(
    name="extraction",
    version=1,
    title="With what probability do n samples hold the suffix?",
    formula="p_z = prod_t phi(p)(z_t | before); (n, p)-extractable iff 1 - (1 - p_z)^n >= p",
    source="Hayes et al. 2024, arXiv:2410.19482",
    about=_ABOUT,
    settings=Settings,
    plan=plan,
    measure=measure,
    table=EXTRACTION,
    metrics=(
        Metric(
            "rate_frac",
            "fraction",
            "more items extractable with n samples and probability p",
            "rate",
            _rate,
            against_never=True,
        ),
        Metric(
            "max_rate_frac",
            "fraction",
            "more items that some number of samples extracts",
            "rate",
            _in_support,
            against_never=True,
        ),
        Metric(
            "greedy_rate_frac",
            "fraction",
            "more items extracted by greedy decoding",
            "rate",
            _greedy,
            against_never=True,
        ),
        Metric(
            "coverage_frac",
            "fraction",
            "more of the documents' text in suffixes of windows with p_z of tau or more",
            "mean",
            _covered,
            against_never=True,
            of_windows=True,
        ),
    ),
    view=lambda settings: Chat() if settings.chat else settings.windows,
    window_table=EXTRACTION_WINDOWS,
    derived=(Derived(COVERAGE, _coverage, of_windows=True),),
    swept="prefix_tokens",
    dose="prefix_tokens",
    rankings=(
        Ranking("extraction", "logp_nats", ("scheme", "suffix_tokens", "logp_nats", "max_rank")),
        Ranking("coverage", "coverage_frac", ("scheme", "tau", "coverage_frac", "longest_run_chars")),
    ),
    figures="memprobe.probes.extraction.figures",
)
