"""Items, and scores that follow from an item's id and position alone, for any probe's plan."""

import hashlib
import math
from collections.abc import Callable

import polars as pl
import pytest

from memprobe.probes.contract import Probe, Scores
from memprobe.tables.requests import REQUESTS, Scheme
from memprobe.tables.spans import SPANS
from memprobe.tables.views import TRIAL, Targets, Trials

Frame = Callable[..., pl.DataFrame]
ITEM_TYPES = {
    "item_id": pl.String,
    "group": pl.String,
    "exposures": pl.Int64,
    "first_step": pl.Int64,
    "last_step": pl.Int64,
    "doc_id": pl.String,
    "foil_kind": pl.String,
    "n_tokens": pl.Int32,
    "n_prefix_tokens": pl.Int32,
    "n_foil_tokens": pl.Int32,
    "boundary_shift": pl.Boolean,
}


def draw(*what: object) -> float:
    """A number from 0 to 1 that depends on nothing but its name; exact in float32."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:2], "big") / 65536


@pytest.fixture
def items_of() -> Frame:
    """Return a function from dicts to an item table as probes see it; what is left out is null."""

    def build(*rows: dict[str, object]) -> pl.DataFrame:
        full = [{name: row.get(name) for name in ITEM_TYPES} for row in rows]
        return pl.DataFrame(full, schema=ITEM_TYPES, orient="row")

    return build


@pytest.fixture
def spans_of() -> Frame:
    """Return a function from dicts of `SPANS` columns to a frame; what is left out is null."""

    def build(*rows: dict[str, object]) -> pl.DataFrame:
        names = [name for row in rows for name in row if name not in SPANS.columns]
        schema = {
            **{name: column.dtype for name, column in SPANS.columns.items()},
            **dict.fromkeys(names, pl.List(pl.Float32)),
        }
        full = [
            {name: row.get(name) for name in schema} | {"content_hash": "h", "part": row.get("part", "text")}
            for row in rows
        ]
        return SPANS.conform(pl.DataFrame(full, schema=schema, orient="row"))

    return build


@pytest.fixture
def tokens_row() -> Callable[..., dict[str, object]]:
    """Return a function that makes a `tokens` span out of its hits; unconditioned: the first has no score."""

    def build(
        item: str, hits: list[int], *, prefix: int = 4, unconditioned: bool = False, **more: object
    ) -> dict[str, object]:
        span = {
            "item_id": item,
            "start": 0,
            "score_from": prefix,
            "stop": prefix + len(hits) + unconditioned,
            "detail": "tokens",
        }
        statistics = {
            "n_scored": len(hits),
            "n_hits": sum(hits),
            "logprob_sum_nats": -0.5 * len(hits),
            "hit": [bool(hit) for hit in hits],
            "logprob_nats": [-0.5] * len(hits),
            "rank": [0 if hit else 3 for hit in hits],
            "n_ties": [0] * len(hits),
            "entropy_nats": [1.0] * len(hits),
            "margin_nats": [0.25 if hit else -1.5 for hit in hits],
        }
        return {**span, **statistics, **more}

    return build


def _answer(request: dict[str, object], schemes: frozenset[Scheme]) -> dict[str, object]:
    item, part = request["item_id"], request["part"]
    first = max(request["score_from"], request["start"] + 1)
    at = range(first, request["stop"])
    hits = [draw(item, part, place, "hit") < 0.7 for place in at]
    logprobs = [-4 * draw(item, part, place, "logprob") for place in at]
    row = dict(request)
    if request["detail"].startswith("search-"):
        return row | {"found": _search(item, part, request["stop"] - request["score_from"])}
    if request["detail"] == "choice":
        masses = [draw(item, part, label, "mass") / 2 for label in "AB"]
        # Of a question of one token nothing is known, as little as of any other item of one token.
        known = request["stop"] > 1
        return row | {"choice_logprob_nats": [math.log(each) for each in masses] if known else None}
    if request["detail"] in ("generate", "verify"):
        lcp = next((place for place, hit in enumerate(hits) if not hit), len(hits))
        n = len(hits) if request["detail"] == "generate" else min(lcp + 1, len(hits))
        return row | {"gen_tokens": n, "gen_lcp_tokens": lcp}
    row |= {"n_scored": len(at), "n_hits": sum(hits), "logprob_sum_nats": math.fsum(logprobs)}
    if request["detail"] == "sums":
        return row
    kept = {
        scheme.column: [
            -math.inf if scheme.top_k is not None and draw(item, place, "out") < 0.02 else value / 2
            for place, value in zip(at, logprobs, strict=True)
        ]
        for scheme in schemes
    }
    return (
        row
        | kept
        | {
            "hit": hits,
            "logprob_nats": logprobs,
            "rank": [0 if hit else 5 for hit in hits],
            "n_ties": [0] * len(at),
            "entropy_nats": [3 * draw(item, place, "entropy") for place in at],
            "margin_nats": [
                (1 if hit else -1) * draw(item, place, "margin") for place, hit in enumerate(hits)
            ],
        }
    )


def _search(item: object, part: object, n_tokens: int) -> dict[str, object] | None:
    """What a search finds: a prompt for two of three targets; of a single token, nothing was searched."""
    if n_tokens < 2:
        return None
    shortest = 1 + int(2 * n_tokens * draw(item, part, "shortest"))
    found = draw(item, part, "found") < 0.67
    return {
        "prompt_tokens": shortest if found else None,
        "verified": found,
        "censored_at_tokens": None if found else 5 * n_tokens,
        "evaluations_used": 1000,
        "evaluations_to_best": 400 if found else None,
        "final_ce_nats": 3 * draw(item, part, "loss"),
        "prompt_tokens_by_seed": [shortest if found else None],
        "n_refuted": 0,
        "prompt_roundtrip": found or None,
        "gzip_ratio": 0.5 + draw(item, part, "gzip"),
        "zlib_ratio": 0.6 + draw(item, part, "gzip"),
    }


def _seen(items: pl.DataFrame, view: object) -> pl.DataFrame | None:
    """Rows of a view of targets or trials, as if each item could be represented and had all there is."""
    if isinstance(view, Trials):
        return _trials(items, view)
    if not isinstance(view, Targets):
        return None
    n = (
        pl.col("n_tokens")
        if view.target_tokens is None
        else pl.min_horizontal("n_tokens", view.target_tokens)
    )
    kinds = [(0, "text"), *([(1, "random-all"), (2, "shuffled-all")] if view.controls else [])]
    plain = [
        items.select(
            "item_id",
            view=pl.lit(view.name),
            part=pl.lit(part),
            window=pl.lit(window, pl.Int32),
            start=pl.lit(0, pl.Int32),
            score_from=pl.lit(0, pl.Int32),
            stop=n.cast(pl.Int32),
        )
        for window, part in kinds
    ]
    # In a chat three tokens stand before what is searched for, and two behind it.
    chats = [
        each.with_columns(
            window=pl.col("window") + 3,
            part=pl.lit(f"{view.chat_part}-") + pl.col("part"),
            start=pl.lit(3, pl.Int32),
            score_from=pl.lit(5, pl.Int32),
            stop=pl.col("stop") + 5,
        )
        for each in plain
    ]
    return pl.concat([*plain, *(chats if view.chat else [])])


def _trials(items: pl.DataFrame, view: Trials) -> pl.DataFrame:
    """Rows of a view of trials: a question of as many tokens as the item, both concatenations likewise."""
    asked = [
        (prompt.name, condition, order)
        for prompt in view.prompts
        for condition in view.conditions
        for order in ("AB", "BA", *(["free"] if view.content_free else []))
    ]
    if view.likelihood:
        asked += [(None, condition, order) for condition in view.conditions for order in ("12", "21")]
    length = pl.col("n_tokens").cast(pl.Int32)
    rows = [
        items.select(
            "item_id",
            view=pl.lit(view.name),
            part=pl.lit(f"trial-{place // 2:08x}-{condition}-{order}"),
            window=pl.lit(place, pl.Int32),
            start=pl.lit(0, pl.Int32),
            score_from=pl.lit(0, pl.Int32) if prompt is None else length,
            stop=length,
            trial=pl.struct(
                prompt_id=pl.lit(prompt, pl.String),
                condition=pl.lit(condition),
                order=pl.lit(order),
                dropped_tokens=pl.lit(0, pl.Int32),
            ).cast(TRIAL),
        )
        for place, (prompt, condition, order) in enumerate(asked)
    ]
    return pl.concat(rows)


@pytest.fixture
def seen_by() -> Callable[..., pl.DataFrame]:
    """Return a function from a probe, its settings and items to what its plan is given."""

    def build(probe: Probe, settings: object, items: pl.DataFrame) -> pl.DataFrame:
        windows = _seen(items, probe.view(settings))
        return items if windows is None else items.join(windows, on="item_id", how="left")

    return build


@pytest.fixture
def scores_for(spans_of: Frame, seen_by: Frame) -> Callable[..., Scores]:
    """Return a function that answers every request of a probe's plan; without BOS."""

    def build(probe: Probe, settings: object, items: pl.DataFrame) -> Scores:
        plan = probe.plan(seen_by(probe, settings, items), settings)
        rows = [_answer(row, plan.statistics) for row in plan.requests.iter_rows(named=True)]
        assert plan.requests.columns == list(REQUESTS.columns)
        return Scores(spans_of(*rows), items, _seen(items, probe.view(settings)))

    return build


_TRIAL_COLUMNS = {
    "source_id": pl.String,
    "excerpt_id": pl.String,
    "excerpt_words": pl.Int64,
    "segment_words": pl.Int64,
    "distance_words": pl.Int64,
    "distance_bin": pl.Int64,
    "excerpt_start_frac": pl.Float64,
    "earlier_first": pl.Boolean,
    "split": pl.String,
}


@pytest.fixture
def trials(spans_of: Frame, items_of: Frame) -> Callable[..., Scores]:
    """Return a function from answers to the scores of trials of 20 tokens.

    `answers`: item to what was answered in each order, ln mass of both labels, or of `12` and `21` the ln p
    of the concatenation. An order may be `(template, order)` or `(template, condition, order)`, where it is
    not `one` and `in_context`. `items` says more of some items, `dropped` counts tokens by order.
    """

    def build(answers, *, items=None, dropped=None, too_long=(), n_scored=18) -> Scores:
        spans, windows = [], []
        for item, orders in answers.items():
            for window, (key, answer) in enumerate(orders.items()):
                prompt, condition, order = _placed(key)
                is_text = order in ("12", "21")
                place = (None, None, None) if item in too_long else (0, 2 if is_text else 20, 20)
                part = f"trial-{prompt}-{condition}-{order}"
                span = {"item_id": item, "part": part} | dict(
                    zip(("start", "score_from", "stop"), place, strict=True)
                )
                trial = (None if is_text else prompt, condition, order, (dropped or {}).get(order, 0))
                windows.append(
                    span | {"window": window, "trial": dict(zip(TRIAL.to_schema(), trial, strict=True))}
                )
                said = {"logprob_sum_nats": answer, "n_scored": n_scored} if is_text else {}
                said |= {} if is_text else {"choice_logprob_nats": answer}
                if item not in too_long:
                    spans.append(span | {"detail": "sums" if is_text else "choice"} | said)
        given = [{"item_id": item} | (items or {}).get(item, {}) for item in answers]
        more = [{name: row.get(name) for name in _TRIAL_COLUMNS} for row in given]
        table = pl.concat(
            [items_of(*given), pl.DataFrame(more, schema=_TRIAL_COLUMNS, orient="row")], how="horizontal"
        )
        ints = dict.fromkeys(("start", "score_from", "stop", "window"), pl.Int32)
        frame = pl.DataFrame(windows, schema_overrides={"trial": TRIAL, **ints}, orient="row")
        return Scores(spans_of(*spans), table, frame)

    return build


def _placed(key: str | tuple[str, ...]) -> tuple[str, str, str]:
    words = (key,) if isinstance(key, str) else key
    prompt, condition = (*words[:-1], *("one", "in_context")[len(words) - 1 :])
    return prompt, condition, words[-1]
