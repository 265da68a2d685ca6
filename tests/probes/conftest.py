"""Items, and scores that follow from an item's id and position alone, for any probe's plan."""

import hashlib
import math
from collections.abc import Callable

import polars as pl
import pytest

from memprobe.probes.base import Probe, Scores
from memprobe.tables.requests import REQUESTS, Scheme
from memprobe.tables.spans import SPANS

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


@pytest.fixture
def scores_for(spans_of: Frame) -> Callable[..., Scores]:
    """Return a function that answers every request of a probe's plan; without BOS."""

    def build(probe: Probe, settings: object, items: pl.DataFrame) -> Scores:
        plan = probe.plan(items, settings)
        rows = [_answer(row, plan.schemes) for row in plan.requests.iter_rows(named=True)]
        assert plan.requests.columns == list(REQUESTS.columns)
        return Scores(spans_of(*rows), items)

    return build
