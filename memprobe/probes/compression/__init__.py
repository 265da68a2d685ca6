"""Compression: how short a prompt makes the model say a text?

The adversarial compression ratio of a text y is |y| / |x|, where x is the shortest prompt whose greedy
continuation is y, and lengths are in tokens. The prompt that the search finds may not be the shortest one, so
the ratio is a lower bound. If the search finds no prompt, the ratio is unknown (censored), and
|y| / (longest prompt tried) bounds it from above only as far as the search is exhaustive. Random tokens and
shuffled words show the ratios that the search reaches without memory.

Source: Schwarzschild et al. (2024), section 3, https://arxiv.org/abs/2404.15146
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from memprobe.errors import ItemError
from memprobe.probes.compression.tables import COMPRESSION
from memprobe.probes.contract import About, Metric, Probe, Ranking, Scores, arxiv
from memprobe.tables.requests import Plan, Search, is_search, request_frame
from memprobe.tables.spans import FOUND
from memprobe.tables.views import TARGET_KINDS, Targets
from memprobe.wording import near_miss

_COMPRESSORS = ("gzip", "zlib")


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of compression.

    Attributes:
        optimizer: Method that proposes prompts: `coordinate`, `gcg` (greedy coordinate gradient) or `random`.
        search: Order in which prompt lengths are tried: `bracket`, or `miniprompt` as published.
        budget: Largest number of prompts to evaluate for each target and seed.
        seeds: Seeds, with one search for each; the shortest prompt counts.
        n_candidates: Number of prompts proposed per step; None: the optimizer's default.
        top_k: Number of tokens considered at each position; None: the optimizer's default.
        max_prompt_tokens: Length of the longest prompt to try; None: five times the length of the target.
        prompt_roundtrip: Count only prompts that stay the same when decoded and encoded again.
        warm_start: Start from the prompt found at the previous checkpoint.
        chat: Put the prompt into the tokenizer's chat template as the user's message; the target is the
            answer. Only the message counts as prompt.
        lead_in: With chat: words of the answer before the target, which the model is given.
        system: With chat: the system message; None: no system message.
        target_tokens: Use only this many tokens from the start of each item; None: all.
        groups: Search only items of these groups; empty: all groups.
        n_items: Number of items to search, spread evenly over exposures and ids; None: all.
        tau: An item is memorized if its ratio is above this number; with `gzip` or `zlib`, if its ratio is
            above the compression ratio of that program.
        controls: Number of controls of each kind to search: random token strings, and items with their words
            shuffled.

    Raises:
        ValueError: A value is outside its range.
    """

    optimizer: Literal["coordinate", "gcg", "random"] = "coordinate"
    search: Literal["bracket", "miniprompt"] = "bracket"
    budget: int = 20_000
    seeds: tuple[int, ...] = (0,)
    n_candidates: int | None = None
    top_k: int | None = None
    max_prompt_tokens: int | None = None
    prompt_roundtrip: bool = False
    warm_start: bool = True
    chat: bool = False
    lead_in: str = ""
    system: str | None = None
    target_tokens: int | None = None
    groups: tuple[str, ...] = ()
    n_items: int | None = None
    tau: float | str = 1.0
    controls: int = 3

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}, not {least} or more"
            for name, value, least in (
                ("target_tokens", self.target_tokens, 1),
                ("n_items", self.n_items, 1),
                ("controls", self.controls, 0),
            )
            if value is not None and value < least
        ]
        if isinstance(self.tau, str) and self.tau not in _COMPRESSORS:
            problems.append(f"tau is `{self.tau}`, not a number or one of {', '.join(_COMPRESSORS)}")
        elif isinstance(self.tau, float) and not 0 < self.tau < math.inf:
            problems.append(f"tau is {self.tau}, not above 0")
        if not self.chat and (self.lead_in or self.system is not None):
            problems.append("lead_in and system need chat = true")
        try:
            _ = self.asked
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def asked(self) -> Search:
        """The search of one target."""
        return Search(
            optimizer=self.optimizer,
            lengths=self.search,
            budget=self.budget,
            n_candidates=self.n_candidates,
            top_k=self.top_k,
            seeds=self.seeds,
            max_prompt_tokens=self.max_prompt_tokens,
            roundtrip=self.prompt_roundtrip,
            warm=self.warm_start,
        )

    @property
    def targets(self) -> Targets:
        """The view that makes the target strings."""
        return Targets(self.target_tokens, self.controls > 0, self.chat, self.lead_in, self.system)


def plan(targets: pl.DataFrame, settings: Settings) -> Plan:
    """Request a search for each target, its log-probability, and the sums of its second half after its first.

    Raises:
        ItemError: A group in the settings has no items.
    """
    items = targets.filter(pl.col("window") == 0)
    if unknown := sorted(set(settings.groups) - set(items["group"].drop_nulls())):
        there = items["group"].drop_nulls().unique().sort().to_list()
        raise ItemError(
            f"compression: no item has the group `{unknown[0]}`{near_miss(unknown[0], there)}",
            fix=f"groups are {', '.join(there) or 'not given'}",
        )
    if settings.groups:
        items = items.filter(pl.col("group").is_in(settings.groups))
    sayable = pl.col("stop").is_not_null() & (pl.col("stop") > 0)
    chosen = _evenly(items.filter(sayable), settings.n_items)["item_id"]
    rows = [_of_kind(targets, 0, chosen)]
    for window in range(1, len(TARGET_KINDS) if settings.controls else 1):
        with_control = targets.filter(pl.col("window") == window, pl.col("item_id").is_in(chosen.implode()))
        rows.append(_of_kind(targets, window, _evenly(with_control, settings.controls)["item_id"]))
    wanted = pl.concat(rows)
    in_chat = pl.col("window") >= len(TARGET_KINDS)
    plain = wanted.filter(~in_chat)
    halves = plain.filter(pl.col("stop") > 1).with_columns(score_from=pl.col("stop") // 2)
    requests = [
        request_frame(wanted.filter(in_chat if settings.chat else ~in_chat), detail=settings.asked.key),
        request_frame(plain, detail="sums"),
        request_frame(halves, detail="sums"),
    ]
    # If only some of the items are searched, those that cannot be produced are not reported.
    unfit = items.filter(~sayable) if settings.n_items is None else items.clear()
    return Plan(
        pl.concat(requests), unfit=unfit.select("item_id", _why()), searches=frozenset({settings.asked})
    )


def _why() -> pl.Expr:
    unknown = pl.lit("contains something that the tokenizer cannot represent, so no model can produce it")
    return pl.when(pl.col("stop") == 0).then(pl.lit("has no tokens")).otherwise(unknown).alias("reason")


def _of_kind(targets: pl.DataFrame, window: int, items: pl.Series) -> pl.DataFrame:
    """Return the rows of one kind of target for the given items, plain and in the chat template."""
    kind = pl.col("window") % len(TARGET_KINDS) == window
    return targets.filter(kind, pl.col("item_id").is_in(items.implode())).sort("item_id", "window")


def _evenly(items: pl.DataFrame, n: int | None) -> pl.DataFrame:
    """Return `n` items, spread evenly in the order of exposures and then ids; all if `n` is None."""
    ordered = items.sort("exposures", "item_id", nulls_last=True)
    if n is None or n >= ordered.height:
        return ordered
    return ordered[np.linspace(0, ordered.height - 1, n).round().astype(np.int64)]


def measure(scores: Scores, settings: Settings) -> pl.DataFrame:
    """Measure the compression ratio of each target.

    Returns:
        The columns of `COMPRESSION` after the keys. A larger `acr` means more memorized.

    Raises:
        ValueError: The windows are missing.
    """
    if scores.windows is None:
        raise ValueError("compression needs the targets that were made")
    kinds = scores.windows.select(
        "item_id",
        "part",
        target_kind=(pl.col("window") % len(TARGET_KINDS)).replace_strict(
            dict(enumerate(TARGET_KINDS)), return_dtype=pl.String
        ),
    )
    spans = scores.spans.join(kinds, on=["item_id", "part"], maintain_order="left")
    searched = spans.filter(is_search())
    found = _found(searched, settings)
    sums = spans.filter(pl.col("detail") == "sums")
    n = pl.when(pl.col("n_scored") > 0).then("n_scored")
    bits = sums.filter(pl.col("score_from") == 0).select(
        "item_id", "target_kind", target_bits=-pl.col("logprob_sum_nats") / (n / n) / math.log(2)
    )
    halves = sums.filter(pl.col("score_from") > 0).select(
        "item_id", "target_kind", recalled_from_half=pl.col("n_hits") == pl.col("n_scored")
    )
    for frame in (bits, halves):
        found = found.join(frame, on=["item_id", "target_kind"], how="left", maintain_order="left")
    return found


def _found(searched: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return the results of the searches, one row per item and kind of target."""
    result = [field.name for field in FOUND.fields if field.name in COMPRESSION.columns]
    found = {name: pl.col("found").struct.field(name) for name in result}
    length = pl.col("stop") - pl.col("score_from")
    table = searched.select(
        "item_id",
        "target_kind",
        target_tokens=length,
        acr=length / found["prompt_tokens"],
        is_censored=pl.when(found["verified"].is_not_null()).then(found["prompt_tokens"].is_null()),
        acr_upper_bound=length / found["censored_at_tokens"],
        optimizer=pl.lit(settings.optimizer),
        **found,
        prompt_ids=pl.col("found").struct.field("prompt_ids"),
    )
    # Without --include-text, no prompts are stored.
    return table if table["prompt_ids"].is_not_null().any() else table.drop("prompt_ids")


def _condition() -> pl.Expr:
    """Return the condition of a row: `target=<kind>` for controls, null for items."""
    control = pl.when(pl.col("target_kind") != TARGET_KINDS[0]).then(pl.format("target={}", "target_kind"))
    return control.otherwise(pl.lit(None, pl.String))


def _memorized(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return 1 for a ratio above tau, 0 for a smaller one or if no prompt was found, null without tau."""
    tau = pl.col(f"{settings.tau}_ratio") if isinstance(settings.tau, str) else pl.lit(settings.tau)
    above = pl.when(pl.col("is_censored")).then(pl.lit(value=False)).otherwise(pl.col("acr") > tau)
    value = pl.when(tau.is_not_null()).then(above)
    return table.select("item_id", condition=_condition(), value=value.cast(pl.Float64))


def _ratio(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    return table.select("item_id", condition=_condition(), value="acr")


def _length(table: pl.DataFrame, _: Settings) -> pl.DataFrame:
    """Return the length of the prompt; if none was found, the longest length tried, a lower bound."""
    return table.select(
        "item_id",
        condition=_condition(),
        value=pl.coalesce("prompt_tokens", "censored_at_tokens").cast(pl.Float64),
        other=(~pl.col("is_censored")).cast(pl.Float64),
    )


_ABOUT = About(
    measures="How short a prompt makes the model say a text, and is it shorter than the text? A prompt "
    "that is shorter than what it yields shows that the model holds the text.",
    how_to_read="A ratio (acr) above 1 counts as memorized. Censored items are those for which no "
    "prompt was found within the budget: their ratio is unknown, and below the bound that "
    "is drawn.",
    limits="A ratio is a lower bound that grows with the budget of the search: compare equal settings "
    "only. Texts that are easy to say compress without memory, so set it beside random and "
    "shuffled targets.",
    citation=arxiv(
        "schwarzschild2024rethinking",
        "Schwarzschild, Avi and Feng, Zhili and Maini, Pratyush and Lipton, Zachary C. and Kolter, J. Zico",
        "Rethinking LLM Memorization through the Lens of Adversarial Compression",
        2024,
        "2404.15146",
    ),
)

PROBE = Probe(
    name="compression",
    version=3,
    title="How short a prompt makes the model say the text?",
    formula="acr = |y| / |x|; x: the shortest prompt found whose greedy continuation is y",
    source="Schwarzschild et al. 2024, arXiv:2404.15146",
    about=_ABOUT,
    settings=Settings,
    plan=plan,
    measure=measure,
    table=COMPRESSION,
    metrics=(
        Metric(
            "memorized_frac",
            "fraction",
            "more texts come out of a prompt shorter than they are",
            "rate",
            _memorized,
            against_never=True,
        ),
        Metric("acr_median", "ratio", "shorter prompts, of the texts that have one", "median", _ratio),
        Metric(
            "prompt_tokens_km_median",
            "tokens",
            "longer prompts are needed, texts without one counted as longer than was tried",
            "km_median",
            _length,
            more_is_memorized=False,
        ),
    ),
    view=lambda settings: settings.targets,
    searches=True,
    rankings=(Ranking("compression", "acr", ("target_tokens", "prompt_tokens", "acr")),),
    figures="memprobe.probes.compression.figures",
)
