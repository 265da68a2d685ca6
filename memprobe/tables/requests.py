"""Requests of probes to scoring: spans to score, continuations to generate, prompts to search; schemes.

Positions count the item's own tokens from 0; BOS is never counted. One request reads the tokens
[start, stop) and scores [score_from, stop): the tokens before score_from are only context.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import polars as pl

from memprobe.tables.schema import Column, TableSchema

SEARCH_PREFIX = "search-"
_TIMES_TARGET = 5

# Values of the column `detail`:
#   tokens    statistics of each scored token
#   sums      one row of sums for the span
#   generate  the real greedy continuation of [start, score_from), as long as the span
#   verify    the same, but only until it confirms or refutes the teacher-forced result
#   choice    the mass on each of two labels after [start, stop); nothing is scored, so score_from = stop
# A search has its own key as `detail`: it looks for free tokens in front of [start, score_from) that make the
# model say [score_from, stop).
REQUESTS = TableSchema(
    name="requests",
    key=("item_id", "part", "start", "score_from", "stop", "detail"),
    columns={
        "item_id": Column(pl.String(), "-", "the item"),
        "part": Column(pl.String(), "-", "which string of the item: text, foil, or one that a view cut"),
        "start": Column(pl.Int32(), "tokens", "first token that is read"),
        "score_from": Column(pl.Int32(), "tokens", "first token that is scored"),
        "stop": Column(pl.Int32(), "tokens", "one past the last token"),
        "detail": Column(pl.String(), "-", "tokens, sums, generate, verify, choice or a search's key"),
    },
)

SPAN_KEY = ("item_id", "part", "start", "score_from", "stop")

OPTIMIZERS = ("coordinate", "gcg", "random")
LENGTH_SEARCHES = ("bracket", "miniprompt")


@dataclass(frozen=True, slots=True, order=True)
class Scheme:
    """A sampling scheme: temperature, then top-k, then top-p (nucleus), then renormalise.

    Attributes:
        temperature: Divides the logits; above 0.
        top_k: Exact number of tokens kept, by logit descending and id ascending; None keeps all.
        top_p: Mass that the smallest set of kept tokens reaches, with the crossing token included; None
            keeps all.

    Raises:
        ValueError: A value is outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, not above 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}, not 1 or more")
        if self.top_p is not None and not 0 < self.top_p < 1:
            raise ValueError(f"top_p is {self.top_p}, not between 0 and 1")

    @property
    def name(self) -> str:
        """The scheme's name in tables: `full`, `top40`, `nucleus0.9`, `top40-nucleus0.9`, `full-t0.7`."""
        parts = []
        if self.top_k is not None:
            parts.append(f"top{self.top_k}")
        if self.top_p is not None:
            parts.append(f"nucleus{self.top_p:.15g}")
        name = "-".join(parts) or "full"
        return name if self.temperature == 1 else f"{name}-t{self.temperature:.15g}"

    @property
    def column(self) -> str:
        """The column of the units that holds ln of the scheme's probability of the true token."""
        return f"logprob_{self.name}_nats"


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard deviation of ln p under the model's own next-token distribution, in nats.

    sqrt(sum_v p_v (ln p_v + H)^2), with the entropy H = -sum_v p_v ln p_v, of each position.
    """

    @property
    def name(self) -> str:
        """Name of the statistic in the manifest of a run."""
        return "sd_logp"

    @property
    def column(self) -> str:
        """The column of the units that holds the standard deviation."""
        return "sd_logp_nats"


# A value that scoring computes for each token in addition to the columns that every unit has.
Statistic = Scheme | Spread
# Statistics, by name, that every stage of a new run is scored with, whether or not a probe asks for them.
ALWAYS: dict[str, Statistic] = {each.name: each for each in (Spread(),)}


@dataclass(frozen=True, slots=True, order=True)
class Search:
    """Options of a search for the shortest prompt that makes the model say a target.

    Attributes:
        optimizer: Method that proposes candidates: `coordinate`, `gcg` or `random`.
        lengths: Order in which prompt lengths are tried: `bracket` or `miniprompt`.
        budget: Largest number of candidates evaluated for each target and seed.
        n_candidates: Candidates of one step; None: the optimizer's default.
        top_k: Tokens considered at a position; None: the optimizer's default.
        seeds: Seeds, with one search for each; the shortest prompt counts.
        max_prompt_tokens: Longest prompt tried; None: five times as long as the target.
        roundtrip: Count only prompts that survive decoding and encoding.
        warm: Start from the prompt found at the previous checkpoint, if there is one.

    Raises:
        ValueError: A value is outside its range.
    """

    optimizer: str = "coordinate"
    lengths: str = "bracket"
    budget: int = 20_000
    n_candidates: int | None = None
    top_k: int | None = None
    seeds: tuple[int, ...] = (0,)
    max_prompt_tokens: int | None = None
    roundtrip: bool = False
    warm: bool = True

    def __post_init__(self) -> None:
        counts = ("budget", "n_candidates", "top_k", "max_prompt_tokens")
        problems = [
            f"{name} is {value}, not 1 or more"
            for name in counts
            if (value := getattr(self, name)) is not None and value < 1
        ]
        problems += [
            f"{name} is `{value}`, not one of {', '.join(allowed)}"
            for name, value, allowed in (
                ("optimizer", self.optimizer, OPTIMIZERS),
                ("lengths", self.lengths, LENGTH_SEARCHES),
            )
            if value not in allowed
        ]
        if not self.seeds:
            problems.append("seeds is empty")
        if len(set(self.seeds)) < len(self.seeds):
            problems.append("seeds has one seed twice")
        if any(seed < 0 for seed in self.seeds):
            problems.append("seeds has one below 0")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def key(self) -> str:
        """The `detail` of requests for this search: `search-` and 8 hex digits of a hash of its fields."""
        options = ";".join(f"{name}={value}" for name, value in sorted(asdict(self).items()))
        return SEARCH_PREFIX + hashlib.sha256(options.encode()).hexdigest()[:8]

    def longest(self, target_tokens: int) -> int:
        """Return the longest prompt tried for a target, in tokens.

        The default is five times the target's length, as published by Schwarzschild et al. (2024).
        """
        return self.max_prompt_tokens or _TIMES_TARGET * target_tokens


def is_search(detail: str = "detail") -> pl.Expr:
    """Return whether a request is a search; `detail` is the name of the column with its detail."""
    return pl.col(detail).str.starts_with(SEARCH_PREFIX)


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests of one probe entry.

    Attributes:
        requests: Rows of `REQUESTS`.
        statistics: Statistics that the `tokens` requests are scored with besides those that every unit has.
        unfit: Items that have the columns that the probe needs but cannot be measured: `item_id, reason`.
        searches: The searches whose keys are the `detail` of requests.
    """

    requests: pl.DataFrame
    statistics: frozenset[Statistic] = frozenset()
    unfit: pl.DataFrame | None = None
    searches: frozenset[Search] = frozenset()


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work: requests that are scored together, and their statistics.

    Attributes:
        requests: Rows of `REQUESTS`.
        statistics: Statistics besides those that every unit has, in the order of their names.
        search: The search that the unit's only request asks for; None if it is not a search.
    """

    requests: pl.DataFrame
    statistics: tuple[Statistic, ...]
    search: Search | None = None


def request_frame(frame: pl.DataFrame, *, detail: str, part: str = "text") -> pl.DataFrame:
    """Return `REQUESTS` rows from a frame with `item_id, start, score_from, stop` and optionally `part`."""
    of = pl.col("part") if "part" in frame.columns else pl.lit(part)
    return REQUESTS.conform(
        frame.select("item_id", "start", "score_from", "stop", part=of, detail=pl.lit(detail))
    )


def merge_requests(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the different requests, without those that another request answers.

    `sums` are dropped inside a `tokens` span, and `verify` if the same span has `generate`; overlapping or
    touching `tokens` spans with the same start become their union.
    """
    requests = pl.concat([REQUESTS.empty(), *frames]).unique()
    tokens = _unite(requests.filter(pl.col("detail") == "tokens"))
    sums = requests.filter(pl.col("detail") == "sums")
    covered = (
        sums.join(tokens, on=["item_id", "part", "start"], suffix="_wide")
        .filter(pl.col("score_from_wide") <= pl.col("score_from"), pl.col("stop_wide") >= pl.col("stop"))
        .select(SPAN_KEY)
        .unique()
    )
    generate = requests.filter(pl.col("detail") == "generate")
    verify = requests.filter(pl.col("detail") == "verify")
    merged = pl.concat(
        [
            tokens,
            sums.join(covered, on=SPAN_KEY, how="anti"),
            generate,
            verify.join(generate, on=SPAN_KEY, how="anti"),
            requests.filter(pl.col("detail") == "choice"),
            requests.filter(is_search()),
        ]
    )
    return merged.sort(REQUESTS.key)


def _unite(tokens: pl.DataFrame) -> pl.DataFrame:
    """Return the spans, with overlapping or touching spans of the same (item, part, start) united."""
    group = ["item_id", "part", "start"]
    reach = pl.col("stop").cum_max().shift(1).over(group)
    return (
        tokens.sort(*group, "score_from", "stop")
        .with_columns(island=(pl.col("score_from") > reach).fill_null(value=False).cum_sum().over(group))
        .group_by(*group, "island", maintain_order=True)
        .agg(pl.col("score_from").min(), pl.col("stop").max(), pl.col("detail").first())
        .select(*REQUESTS.columns)
    )
