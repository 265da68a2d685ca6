"""Schemes and their names; requests merged without losing a token that was asked for.

Rungs: a table of cases, and a slow loop over positions on random requests.
"""

import random
import re

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.tables.requests import REQUESTS, Scheme, Search, merge_requests, request_frame


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (Scheme(), "full"),
        (Scheme(top_k=40), "top40"),
        (Scheme(top_p=0.9), "nucleus0.9"),
        (Scheme(top_k=40, top_p=0.9), "top40-nucleus0.9"),
        (Scheme(temperature=0.7), "full-t0.7"),
        (Scheme(temperature=2.0, top_k=1), "top1-t2"),
        (Scheme(temperature=0.5, top_k=40, top_p=0.95), "top40-nucleus0.95-t0.5"),
        (Scheme(top_p=0.99999999), "nucleus0.99999999"),
    ],
)
def test_schemes_have_the_contracts_names(scheme, name) -> None:
    assert scheme.name == name
    assert scheme.column == f"logprob_{name}_nats"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0, not above 0"),
        ({"temperature": -1.0}, "temperature is -1.0, not above 0"),
        ({"temperature": float("inf")}, "temperature is inf, not above 0"),
        ({"temperature": float("nan")}, "temperature is nan, not above 0"),
        ({"top_k": 0}, "top_k is 0, not 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0, not between 0 and 1"),
        ({"top_p": 1.0}, "top_p is 1.0, not between 0 and 1"),
        ({"top_p": 1.5}, "top_p is 1.5, not between 0 and 1"),
    ],
)
def test_impossible_schemes_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Scheme(**settings)


def test_a_request_frame_has_the_schema() -> None:
    spans = pl.DataFrame({"item_id": ["a"], "start": [0], "score_from": [2], "stop": [5], "more": ["x"]})
    frame = request_frame(spans, detail="sums", part="foil")
    REQUESTS.check(frame)
    assert frame.rows() == [("a", "foil", 0, 2, 5, "sums")]
    assert request_frame(spans, detail="tokens")["part"].to_list() == ["text"]


def tokens(item: str, *spans: tuple[int, int], start: int = 0, part: str = "text"):
    return [(item, part, start, lo, hi, "tokens") for lo, hi in spans]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        pytest.param([(10, 20), (15, 30)], [(10, 30)], id="overlapping"),
        pytest.param([(10, 20), (20, 30)], [(10, 30)], id="touching"),
        pytest.param([(10, 20), (21, 30)], [(10, 20), (21, 30)], id="one-token-apart"),
        pytest.param([(10, 40), (15, 20), (35, 45)], [(10, 45)], id="behind-an-inner-one"),
        pytest.param([(10, 40), (15, 20), (41, 45)], [(10, 40), (41, 45)], id="disjoint-behind-an-inner-one"),
        pytest.param([(10, 20), (10, 30)], [(10, 30)], id="same-beginning"),
        pytest.param([(10, 20), (10, 20)], [(10, 20)], id="twice"),
        pytest.param([(0, 5), (20, 25), (5, 10), (24, 26)], [(0, 10), (20, 26)], id="two-islands"),
    ],
)
def test_tokens_spans_of_one_start_become_their_union(asked, kept, requests_of) -> None:
    expected = requests_of(*tokens("a", *kept))
    assert_frame_equal(merge_requests([requests_of(*tokens("a", each)) for each in asked]), expected)


def test_spans_that_differ_in_item_part_or_start_stay_apart(requests_of) -> None:
    rows = [
        *tokens("a", (10, 20)),
        *tokens("a", (15, 30), start=5),
        *tokens("a", (15, 30), part="foil"),
        *tokens("b", (15, 30)),
    ]
    merged = merge_requests([requests_of(*rows)])
    assert sorted(merged.rows()) == sorted(rows)


@pytest.mark.parametrize(
    ("sums", "kept"),
    [
        pytest.param(("a", "text", 0, 12, 18), False, id="inside"),
        pytest.param(("a", "text", 0, 10, 20), False, id="equal"),
        pytest.param(("a", "text", 0, 9, 20), True, id="begins-before"),
        pytest.param(("a", "text", 0, 10, 21), True, id="ends-behind"),
        pytest.param(("a", "text", 1, 12, 18), True, id="other-start"),
        pytest.param(("a", "foil", 0, 12, 18), True, id="other-part"),
        pytest.param(("b", "text", 0, 12, 18), True, id="other-item"),
    ],
)
def test_sums_inside_tokens_add_nothing(sums, kept, requests_of) -> None:
    merged = merge_requests([requests_of(*tokens("a", (10, 20))), requests_of((*sums, "sums"))])
    assert ((*sums, "sums") in merged.rows()) == kept
    assert merged.height == 1 + kept


def test_sums_inside_the_union_of_two_spans_add_nothing(requests_of) -> None:
    merged = merge_requests([requests_of(*tokens("a", (10, 20), (20, 30)), ("a", "text", 0, 15, 25, "sums"))])
    assert merged.rows() == tokens("a", (10, 30))


def test_sums_of_different_spans_are_never_united(requests_of) -> None:
    rows = [("a", "text", 0, 0, 10, "sums"), ("a", "text", 0, 5, 15, "sums")]
    assert merge_requests([requests_of(*rows)]).rows() == rows


def test_verify_beside_generate_of_the_same_span_adds_nothing(requests_of) -> None:
    same = [("a", "text", 0, 5, 9, detail) for detail in ("generate", "verify")]
    assert merge_requests([requests_of(*same)]).rows() == same[:1]
    other = ("a", "text", 0, 5, 10, "verify")
    assert merge_requests([requests_of(*same, other)]).rows() == [same[0], other]


def test_generated_spans_are_kept_beside_tokens(requests_of) -> None:
    rows = [*tokens("a", (5, 9)), ("a", "text", 0, 5, 9, "verify")]
    assert merge_requests([requests_of(*rows)]).rows() == rows


def test_choices_are_kept_beside_all_else_and_asked_once(requests_of) -> None:
    rows = [("a", "text", 0, 9, 9, "choice"), *tokens("a", (5, 9))]
    merged = merge_requests([requests_of(*rows), requests_of(rows[0])])
    assert sorted(merged.rows()) == sorted(rows)


def test_nothing_asked_is_an_empty_table() -> None:
    assert_frame_equal(merge_requests([]), REQUESTS.empty())


@pytest.mark.parametrize("seed", range(20))
def test_merged_tokens_cover_exactly_what_was_asked(seed, requests_of) -> None:
    draw = random.Random(seed)
    rows = []
    for _ in range(12):
        lo = draw.randrange(30)
        rows += tokens(draw.choice("ab"), (lo, lo + draw.randrange(1, 8)), start=draw.choice([0, 0, 1]))
    merged = merge_requests(requests_of(row) for row in rows).rows()

    def positions(spans) -> set[tuple[str, int, int]]:
        return {(item, start, at) for item, _, start, lo, hi, _ in spans for at in range(lo, hi)}

    assert positions(merged) == positions(rows)
    # Maximal: no two spans of one start overlap or touch, so no position is scored twice.
    assert sum(hi - lo for _, _, _, lo, hi, _ in merged) == len(positions(rows))
    edges = {(item, start, lo) for item, _, start, lo, _, _ in merged}
    assert not edges & {(item, start, hi) for item, _, start, _, hi, _ in merged}
    draw.shuffle(rows)
    assert merge_requests(requests_of(row) for row in rows).rows() == merged


# Searches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0}, "budget is 0, not 1 or more"),
        ({"n_candidates": 0}, "n_candidates is 0, not 1 or more"),
        ({"top_k": -1}, "top_k is -1, not 1 or more"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0, not 1 or more"),
        ({"optimizer": "adam"}, "optimizer is `adam`, not one of coordinate, gcg, random"),
        ({"lengths": "up"}, "lengths is `up`, not one of bracket, miniprompt"),
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (2, 2)}, "seeds has one seed twice"),
        ({"seeds": (0, -1)}, "seeds has one below 0"),
    ],
)
def test_impossible_searches_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Search(**settings)


def test_a_search_is_known_by_all_that_it_is() -> None:
    other = [
        {"optimizer": "gcg"},
        {"lengths": "miniprompt"},
        {"budget": 1},
        {"n_candidates": 512},
        {"top_k": 512},
        {"seeds": (1,)},
        {"seeds": (0, 1)},
        {"max_prompt_tokens": 512},
        {"roundtrip": True},
        {"warm": False},
    ]
    keys = {Search(**each).key for each in ({}, *other)}
    assert len(keys) == len(other) + 1
    assert Search().key == Search(budget=20_000).key
    assert all(re.fullmatch("search-[0-9a-f]{8}", key) for key in keys)


def test_a_search_is_kept_once_and_beside_everything_else(requests_of) -> None:
    search = ("a", "text", 0, 0, 9, Search().key)
    other = ("a", "text", 0, 0, 9, Search(budget=5).key)
    rows = [*tokens("a", (0, 9)), search, other]
    assert set(merge_requests([requests_of(*rows), requests_of(search)]).rows()) == set(rows)
