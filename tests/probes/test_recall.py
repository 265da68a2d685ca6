"""Recall from hits: hand values of exact, LCP, EM and ES, a slow loop, the check by generation.

Rungs: hand values (methods, section 22, check 8), slow recomputation, undefined cases.
"""

import random

import polars as pl
import pytest

from memprobe.probes.contract import Scores
from memprobe.probes.recall import PROBE, Settings, checks, measure, plan


@pytest.fixture
def recalled(items_of, spans_of):
    def build(*rows: dict[str, object], **settings: object) -> pl.DataFrame:
        return measure(Scores(spans_of(*rows), items_of()), Settings(**settings))

    return build


# Labels (1, 2, 3, 4): which predictions agree.
@pytest.mark.parametrize(
    ("hits", "exact", "lcp", "em", "es"),
    [
        pytest.param([0, 0, 0, 0], False, 0, 0.0, 0.0, id="9999"),
        pytest.param([0, 0, 0, 1], False, 0, 0.25, 0.25, id="9994"),
        pytest.param([1, 0, 1, 1], False, 1, 0.75, 0.5, id="1934"),
        pytest.param([1, 1, 1, 1], True, 4, 1.0, 1.0, id="1234"),
        pytest.param([1, 1, 0, 0], False, 2, 0.5, 0.0, id="last-misses"),
        pytest.param([1, 1, 1, 0], False, 3, 0.75, 0.0, id="only-last-misses"),
        pytest.param([0, 1, 1, 1], False, 0, 0.75, 0.75, id="only-first-misses"),
        pytest.param([1], True, 1, 1.0, 1.0, id="one-token"),
    ],
)
def test_a_suffix_by_hand(hits, exact, lcp, em, es, recalled, tokens_row) -> None:
    (row,) = recalled(tokens_row("a", hits, prefix=3)).iter_rows(named=True)
    assert (row["exact"], row["lcp_tokens"], row["hit_frac"], row["es_frac"]) == (exact, lcp, em, es)
    assert (row["prefix_tokens"], row["suffix_tokens"]) == (3, len(hits))
    assert row["gen_match_frac"] is None


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_a_loop_over_tokens(seed, recalled, tokens_row) -> None:
    draw = random.Random(seed)
    suffixes = [[draw.random() < 0.7 for _ in range(draw.randrange(1, 9))] for _ in range(20)]
    table = recalled(*(tokens_row(f"i{i:02}", hits) for i, hits in enumerate(suffixes))).sort("item_id")
    for hits, row in zip(suffixes, table.iter_rows(named=True), strict=True):
        n = len(hits)
        sufficient = next(k for k in range(n + 1) if all(hits[k:]))
        assert row["es_frac"] == pytest.approx(1 - sufficient / n, abs=1e-12)
        assert row["lcp_tokens"] == next((i for i, hit in enumerate(hits) if not hit), n)
        assert row["hit_frac"] == pytest.approx(sum(hits) / n, abs=1e-12)
        assert row["exact"] == all(hits)
        assert row["exact"] == (row["lcp_tokens"] == n) == (row["min_margin_nats"] > 0)


def test_the_smallest_margin_is_the_most_fragile_token(recalled, tokens_row) -> None:
    table = recalled(tokens_row("a", [1, 1, 1], margin_nats=[2.0, 0.5, 7.0]))
    assert table["min_margin_nats"].item() == 0.5


def test_a_suffix_whose_first_token_has_no_condition_is_null(recalled, tokens_row) -> None:
    """From the item's first token without BOS; every scored token hits, and still nothing is known."""
    known = tokens_row("known", [1, 1])
    without = tokens_row("without", [1, 1], prefix=0, unconditioned=True)
    empty = tokens_row("empty", [], prefix=0, unconditioned=True)
    table = recalled(known, without, empty)
    measures = ["exact", "lcp_tokens", "hit_frac", "es_frac", "min_margin_nats"]
    assert table.filter(pl.col("item_id") == "known").select(measures).null_count().row(0) == (0,) * 5
    for item in ("without", "empty"):
        assert table.filter(pl.col("item_id") == item).select(measures).row(0) == (None,) * 5
    assert table["suffix_tokens"].to_list() == [2, 3, 1]


def test_generated_suffixes_stand_beside_their_item(recalled, tokens_row) -> None:
    generated = {
        **{"item_id": "b", "start": 0, "score_from": 4, "stop": 7, "detail": "generate"},
        **{"gen_tokens": 3, "gen_lcp_tokens": 1, "gen_match_frac": 2 / 3},
        **{"rouge1_f": 0.5, "rouge2_f": 0.25, "rougeL_f": 0.5},
    }
    table = recalled(tokens_row("a", [1, 1]), tokens_row("b", [1, 0, 1]), generated, generate=True)
    assert table["item_id"].to_list() == ["a", "b"]
    assert table["gen_match_frac"].to_list() == [None, 2 / 3]
    assert table["rouge2_f"].to_list() == [None, 0.25]


def test_a_verified_item_gets_no_generated_values(recalled, tokens_row) -> None:
    verify = {"item_id": "a", "start": 0, "score_from": 4, "stop": 6, "detail": "verify"}
    table = recalled(tokens_row("a", [1, 1]), verify | {"gen_tokens": 2, "gen_lcp_tokens": 2})
    assert table.height == 1
    assert table["gen_match_frac"].to_list() == [None]


@pytest.mark.parametrize(
    ("hits", "gen_tokens", "gen_lcp", "agrees"),
    [
        pytest.param([1, 1, 1], 3, 3, True, id="whole"),
        pytest.param([1, 0, 1], 3, 1, True, id="part-at-the-same-miss"),
        pytest.param([1, 1, 1], 3, 2, False, id="generation-misses-earlier"),
        pytest.param([1, 0, 1], 3, 2, False, id="generation-goes-further"),
        pytest.param([1, 1, 0], 2, 2, True, id="as-far-as-generated"),
        pytest.param([1, 1, 1], 2, 2, True, id="cut-before-the-end"),
        pytest.param([1, 1, 0], 2, 1, False, id="misses-within-what-was-generated"),
        pytest.param([0, 1, 1], 1, 0, True, id="first-token"),
    ],
)
@pytest.mark.parametrize("detail", ["generate", "verify"])
def test_generation_confirms_or_contradicts_teacher_forcing(
    hits, gen_tokens, gen_lcp, agrees, detail, spans_of, tokens_row
) -> None:
    span = {"item_id": "a", "start": 0, "score_from": 4, "stop": 4 + len(hits), "detail": detail}
    spans = spans_of(
        tokens_row("a", hits),
        tokens_row("unverified", [1, 1]),
        span | {"gen_tokens": gen_tokens, "gen_lcp_tokens": gen_lcp},
    )
    assert checks(spans) == {"greedy_verified": 1, "greedy_tf_disagree": 0 if agrees else 1}


def test_nothing_generated_is_nothing_verified(spans_of, tokens_row) -> None:
    assert checks(spans_of(tokens_row("a", [1]))) == {"greedy_verified": 0, "greedy_tf_disagree": 0}


@pytest.fixture
def many(items_of) -> pl.DataFrame:
    return items_of(*({"item_id": f"item-{i}", "n_tokens": 10} for i in range(30)))


def details(frame: pl.DataFrame, detail: str) -> set[str]:
    return set(frame.filter(pl.col("detail") == detail)["item_id"])


def test_a_fixed_sample_is_verified_whatever_else_is_asked(many) -> None:
    asked = plan(many, Settings(verify_items=4)).requests
    sample = details(asked, "verify")
    assert len(sample) == 4
    assert details(asked, "tokens") == set(many["item_id"])
    assert details(plan(many.reverse(), Settings(verify_items=4)).requests, "verify") == sample
    assert details(plan(many, Settings(verify_items=9)).requests, "verify") > sample
    assert (
        details(plan(many.filter(pl.col("item_id").is_in(sample)), Settings()).requests, "verify") == sample
    )


def test_verification_can_be_left_out_and_generation_replaces_it(many) -> None:
    assert set(plan(many, Settings(verify_items=0)).requests["detail"]) == {"tokens"}
    generated = plan(many, Settings(generate=True)).requests
    assert set(generated["detail"]) == {"tokens", "generate"}
    assert details(generated, "generate") == set(many["item_id"])
    assert details(plan(many, Settings(verify_items=99)).requests, "verify") == set(many["item_id"])


def test_the_plan_places_the_suffix_and_lists_who_is_too_short(items_of) -> None:
    items = items_of({"item_id": "long", "n_tokens": 10}, {"item_id": "short", "n_tokens": 5})
    planned = plan(items, Settings(prefix_tokens=4, suffix_tokens=2, align="end", verify_items=0))
    assert planned.requests.rows() == [("long", "text", 4, 8, 10, "tokens")]
    assert planned.unfit["item_id"].to_list() == ["short"]
    assert planned.statistics == frozenset()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefix_tokens": -1}, "prefix_tokens is -1, not 0 or more"),
        ({"suffix_tokens": 0}, "suffix_tokens is 0, not 1 or more"),
        ({"align": "end"}, 'align = "end" needs suffix_tokens'),
        ({"verify_items": -1}, "verify_items is -1, not 0 or more"),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        PROBE.settings(**settings)
