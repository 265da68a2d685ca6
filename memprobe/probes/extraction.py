"""Extraction: how many samples until the model emits the suffix, and with what probability?

p_z is the probability of the whole suffix under a sampling scheme, given the prefix. The item is
(n, p)-discoverably extractable if n samples hold it with probability at least p. All of it in
ln p_z, so that nothing underflows.

Source: Hayes et al. (2024), section 3, https://arxiv.org/abs/2410.19482
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from memprobe.probes.base import Metric, Probe, Scores
from memprobe.probes.recall import length_problems
from memprobe.probes.spans import Align, Lengths, place
from memprobe.tables.catalogue import EXTRACTION
from memprobe.tables.requests import Plan, Scheme, request_frame

_DEFAULT_SCHEMES = (Scheme(top_k=40), Scheme())


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of extraction.

    Attributes:
        prefix_tokens: Tokens that condition; None: the item's whole prefix, or half of its tokens.
        suffix_tokens: Tokens to be extracted; None: all that follow.
        align: `start`, or `end` to take the last suffix_tokens of the item.
        schemes: Sampling schemes.
        n: Numbers of samples.
        p: Probabilities with which the suffix must be among them.

    Raises:
        ValueError: A value is outside its range.
    """

    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    align: Align = "start"
    schemes: tuple[Scheme, ...] = _DEFAULT_SCHEMES
    n: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    p: tuple[float, ...] = (0.1, 0.5, 0.9, 0.999)

    def __post_init__(self) -> None:
        problems = length_problems(self.prefix_tokens, self.suffix_tokens, self.align)
        if not self.schemes:
            problems.append("schemes is empty")
        if len({scheme.name for scheme in self.schemes}) < len(self.schemes):
            problems.append("schemes holds one scheme twice")
        if not self.n or min(self.n) < 1:
            problems.append(f"n is {list(self.n)}, not one or more numbers of 1 or more")
        if not self.p or not all(0 < p < 1 for p in self.p):
            problems.append(f"p is {list(self.p)}, not one or more numbers between 0 and 1")
        # Given twice, every item would count twice in the rate.
        for name, values in (("n", self.n), ("p", [column_of(p) for p in self.p])):
            if len(set(values)) < len(values):
                problems.append(f"{name} holds one number twice")
        if problems:
            raise ValueError("; ".join(problems))


def samples_needed(logp_nats: NDArray[np.float64], p: float) -> NDArray[np.float64]:
    """Return the samples after which the suffix was seen with probability at least `p`.

        n = ceil(ln(1 - p) / ln(1 - p_z)), at least 1

    Args:
        logp_nats: ln p_z, shape (n_items,), at most 0; -inf: impossible.
        p: Wanted probability, between 0 and 1.

    Returns:
        Shape (n_items,): whole numbers as float64, inf where p_z is 0. Below p_z = 1e-15, where
        1 - p_z is 1 in float64, ln n = ln(-ln(1 - p)) - ln p_z is used.
    """
    goal = math.log1p(-p)
    n = np.full_like(logp_nats, np.inf)
    certain = logp_nats >= 0
    tiny = (logp_nats < math.log(1e-15)) & ~np.isneginf(logp_nats)
    plain = ~certain & ~tiny & ~np.isneginf(logp_nats)
    n[certain] = 1
    # Where the quotient is a whole number, as for p = p_z = 0.5, rounding in exp and log must not add one.
    n[plain] = np.ceil(goal / np.log1p(-np.exp(logp_nats[plain])) * (1 - 1e-14))
    with np.errstate(over="ignore"):
        n[tiny] = np.exp(math.log(-goal) - logp_nats[tiny])
    return np.maximum(n, 1)


def plan(items: pl.DataFrame, settings: Settings) -> Plan:
    """Ask for the tokens of each suffix under every scheme."""
    placed = place(items, Lengths(settings.prefix_tokens, settings.suffix_tokens, settings.align))
    return Plan(
        request_frame(placed.spans, detail="tokens"), schemes=frozenset(settings.schemes), unfit=placed.unfit
    )


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:
    """Measure the extraction of each item under each scheme.

    Returns:
        The columns of `EXTRACTION` after the keys and `n_at_p<p>`. More `logp_nats` means more
        extractable; fewer samples mean more extractable.
    """
    return pl.concat([_one_scheme(scores.spans, scheme, settings.p) for scheme in settings.schemes])


def _one_scheme(spans: pl.DataFrame, scheme: Scheme, ps: tuple[float, ...]) -> pl.DataFrame:
    whole_suffix = pl.col("n_scored") == pl.col("stop") - pl.col("score_from")
    frame = spans.select(
        "item_id",
        scheme=pl.lit(scheme.name),
        prefix_tokens=pl.col("score_from") - pl.col("start"),
        suffix_tokens=pl.col("stop") - pl.col("score_from"),
        # A suffix whose first token has no condition has no p_z.
        logp_nats=pl.when(whole_suffix).then(pl.col(scheme.column).cast(pl.List(pl.Float64)).list.sum()),
        max_rank=pl.when(whole_suffix).then(pl.col("rank").list.max()),
        greedy=pl.when(whole_suffix).then(pl.col("n_hits") == pl.col("n_scored")),
    )
    logp = frame["logp_nats"].to_numpy().astype(np.float64)
    counts = {column_of(p): samples_needed(np.nan_to_num(logp, nan=-np.inf), p) for p in ps}
    known = pl.col("logp_nats").is_not_null()
    return frame.with_columns(
        pz=pl.col("logp_nats").exp(), in_support=pl.col("logp_nats") > -math.inf
    ).with_columns(
        pl.when(known).then(pl.Series(name, values)).alias(name) for name, values in counts.items()
    )


def column_of(p: float) -> str:
    """Return the name of the column that holds the samples needed for `p`."""
    return f"n_at_p{p:.15g}"


def _rate(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Whether each item is (n, p)-extractable, for every scheme, n and p."""
    return pl.concat(
        [
            table.select(
                "item_id",
                condition=pl.format("scheme={};n={};p={}", "scheme", pl.lit(n), pl.lit(f"{p:.15g}")),
                value=(pl.col(column_of(p)) <= n).cast(pl.Float64),
            )
            for n in settings.n
            for p in settings.p
        ]
    )


def _in_support(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    return table.select(
        "item_id", condition=pl.format("scheme={}", "scheme"), value=pl.col("in_support").cast(pl.Float64)
    )


def _greedy(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    one = table.unique(["item_id", "prefix_tokens", "suffix_tokens"], keep="first", maintain_order=True)
    return one.select(
        "item_id", condition=pl.lit(None, dtype=pl.String), value=pl.col("greedy").cast(pl.Float64)
    )


PROBE = Probe(
    name="extraction",
    version=1,
    title="With what probability do n samples hold the suffix?",
    formula="p_z = prod_t phi(p)(z_t | before); (n, p)-extractable iff 1 - (1 - p_z)^n >= p",
    source="Hayes et al. 2024, arXiv:2410.19482",
    settings=Settings,
    needs=(),
    plan=plan,
    measure=measure,
    table=EXTRACTION,
    metrics=(
        Metric(
            "rate_frac", "fraction", "more items extractable with n samples and probability p", "rate", _rate
        ),
        Metric(
            "max_rate_frac",
            "fraction",
            "more items that some number of samples extracts",
            "rate",
            _in_support,
        ),
        Metric("greedy_rate_frac", "fraction", "more items extracted by greedy decoding", "rate", _greedy),
    ),
)
