"""`answer` against a slow loop over positions; which held span is taken; `unanswered`.

Rungs: hand values, slow recomputation on random lists, invariance to what else is held.
"""

import random

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import TableError
from memprobe.tables.requests import REQUESTS, Scheme, Search
from memprobe.tables.spans import SPANS, answer, unanswered

TOP = Scheme(top_k=40)
LISTS = ("logprob_nats", "rank", "n_ties", "hit", "entropy_nats", "margin_nats", TOP.column)


def scored(
    draw: random.Random, item: str, start: int, lo: int, hi: int, *, conditioned: bool = True, salt: float = 0
) -> dict[str, object]:
    """A `tokens` span with random statistics; without a condition its first token has none."""
    n = hi - lo - (0 if conditioned else 1)
    # Quarters are exact in float32, so sums can be compared without a tolerance.
    row = {
        "logprob_nats": [-draw.randrange(40) / 4 - salt for _ in range(n)],
        "rank": [draw.randrange(99) for _ in range(n)],
        "n_ties": [draw.randrange(3) for _ in range(n)],
        "hit": [draw.random() < 0.5 for _ in range(n)],
        "entropy_nats": [draw.randrange(40) / 4 for _ in range(n)],
        "margin_nats": [draw.randrange(-40, 40) / 4 for _ in range(n)],
        TOP.column: [-draw.randrange(40) / 4 if draw.random() < 0.8 else float("-inf") for _ in range(n)],
    }
    return {
        **dict(zip(REQUESTS.columns, (item, "text", start, lo, hi, "tokens"), strict=True)),
        **row,
        "n_scored": n,
        "logprob_sum_nats": float(sum(row["logprob_nats"])),
        "n_hits": sum(row["hit"]),
    }


def by_position(row: dict[str, object], name: str) -> dict[int, object]:
    """Token position to value: the last entry of a list belongs to token stop - 1."""
    return {row["stop"] - len(row[name]) + place: value for place, value in enumerate(row[name])}


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_a_slice_equals_a_loop_over_positions(seed, conditioned, requests_of, spans_of) -> None:
    draw = random.Random(seed)
    first = 0 if not conditioned else draw.randrange(5)
    held = scored(draw, "a", 0, first, first + 12, conditioned=conditioned)
    asked = []
    for _ in range(8):
        lo = draw.choice([first, draw.randrange(first, first + 12)])
        asked.append(("a", "text", 0, lo, draw.randrange(lo + 1, first + 13), "tokens"))
    rows = sorted(set(asked))
    answered = answer(requests_of(*rows), spans_of(held), [TOP])
    assert answered.select(*REQUESTS.columns).rows() == rows
    for row in answered.iter_rows(named=True):
        window = range(row["score_from"], row["stop"])
        for name in LISTS:
            known = by_position(held, name)
            assert row[name] == [known[at] for at in window if at in known], name
        logprobs, hits = by_position(held, "logprob_nats"), by_position(held, "hit")
        inside = [at for at in window if at in logprobs]
        assert row["n_scored"] == len(inside)
        assert row["logprob_sum_nats"] == sum(logprobs[at] for at in inside)
        assert row["n_hits"] == sum(hits[at] for at in inside)


def test_slices_by_hand(requests_of, spans_of) -> None:
    # Tokens 0 to 4 without BOS: token 0 has no condition, the lists belong to tokens 1 to 4.
    held = scored(random.Random(0), "a", 0, 0, 5, conditioned=False)
    held |= {"logprob_nats": [-1.0, -2.0, -4.0, -8.0], "hit": [True, False, True, True]}
    asked = requests_of(
        ("a", "text", 0, 0, 1, "tokens"),
        ("a", "text", 0, 0, 3, "tokens"),
        ("a", "text", 0, 1, 3, "tokens"),
        ("a", "text", 0, 3, 5, "sums"),
    )
    answered = answer(asked, spans_of(held), [])
    assert answered["logprob_nats"].to_list() == [[], [-1.0, -2.0], [-1.0, -2.0], [-4.0, -8.0]]
    assert answered["n_scored"].to_list() == [0, 2, 2, 2]
    assert answered["logprob_sum_nats"].to_list() == [0.0, -3.0, -3.0, -12.0]
    assert answered["n_hits"].to_list() == [0, 1, 1, 2]


def test_sums_over_a_slice_are_taken_in_float64(requests_of, spans_of) -> None:
    held = scored(random.Random(0), "a", 0, 1, 2001)
    held["logprob_nats"] = [-0.1] * 2000
    answered = answer(requests_of(("a", "text", 0, 1, 2001, "sums")), spans_of(held), [])
    # float32(0.1) = 0.100000001490116; a float32 sum of 2,000 of them is off by 1e-3 and more.
    assert answered["logprob_sum_nats"].item() == pytest.approx(-2000 * float(np.float32(0.1)), abs=1e-9)


def plain(item: str, lo: int, hi: int, detail: str, **values: object) -> dict[str, object]:
    return {**dict(zip(REQUESTS.columns, (item, "text", 0, lo, hi, detail), strict=True)), **values}


def test_sums_and_generated_spans_are_answered_by_their_own_kind(requests_of, spans_of) -> None:
    held = spans_of(
        plain("a", 0, 5, "sums", n_scored=4, logprob_sum_nats=-7.5, n_hits=2),
        plain("a", 3, 5, "generate", gen_tokens=2, gen_lcp_tokens=1, gen_match_frac=0.5),
        plain("b", 3, 5, "verify", gen_tokens=1, gen_lcp_tokens=0),
        plain("b", 5, 5, "choice", choice_logprob_nats=[-0.5, float("-inf")]),
    )
    asked = requests_of(
        ("a", "text", 0, 0, 5, "sums"),
        ("a", "text", 0, 3, 5, "generate"),
        ("a", "text", 0, 3, 5, "verify"),
        ("b", "text", 0, 3, 5, "verify"),
        ("b", "text", 0, 5, 5, "choice"),
    )
    answered = answer(asked, held, [])
    assert answered["logprob_sum_nats"].to_list() == [-7.5, None, None, None, None]
    assert answered["n_scored"].to_list() == [4, None, None, None, None]
    assert answered["gen_tokens"].to_list() == [None, 2, 2, 1, None]
    assert answered["detail"].to_list() == ["sums", "generate", "verify", "verify", "choice"]
    assert answered["choice_logprob_nats"].to_list() == [*[None] * 4, [-0.5, float("-inf")]]


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        pytest.param((0, 1, 5, "tokens"), (0, 2, 5, "tokens"), id="begins-before"),
        pytest.param((0, 2, 6, "tokens"), (0, 2, 5, "tokens"), id="ends-behind"),
        pytest.param((0, 2, 5, "tokens"), (1, 2, 5, "tokens"), id="other-start"),
        pytest.param((0, 2, 5, "tokens"), (0, 2, 5, "sums"), id="tokens-from-sums"),
        pytest.param((0, 2, 4, "sums"), (0, 2, 5, "sums"), id="sums-from-wider-sums"),
        pytest.param((0, 2, 5, "generate"), (0, 2, 5, "verify"), id="generate-from-verify"),
        pytest.param((0, 2, 4, "generate"), (0, 2, 5, "generate"), id="generate-from-longer"),
        pytest.param((0, 2, 5, "verify"), (0, 2, 5, "tokens"), id="verify-from-tokens"),
        pytest.param((0, 5, 5, "choice"), (0, 6, 6, "choice"), id="choice-behind-a-longer-prompt"),
        pytest.param((0, 5, 5, "choice"), (0, 2, 5, "tokens"), id="choice-from-tokens"),
    ],
)
def test_what_cannot_answer_is_refused_with_the_counts(asked, held, requests_of, spans_of) -> None:
    start, lo, hi, detail = held
    row = scored(random.Random(0), "a", start, lo, hi) | {"detail": detail}
    requests = requests_of(("a", "text", *asked))
    with pytest.raises(TableError, match="spans: 1 of 1 requests have no answer"):
        answer(requests, spans_of(row), [])
    earlier = requests_of(("a", "text", *held)).with_columns(has_statistics=pl.lit(value=True))
    assert_frame_equal(unanswered(requests, earlier), requests)


def test_tokens_need_all_their_schemes_and_sums_need_none(requests_of, spans_of) -> None:
    without = {k: v for k, v in scored(random.Random(0), "a", 0, 2, 6).items() if k != TOP.column}
    tokens = requests_of(("a", "text", 0, 2, 5, "tokens"))
    with pytest.raises(TableError, match="1 of 1 requests"):
        answer(tokens, spans_of(without), [TOP])
    assert answer(tokens, spans_of(without), [])["n_scored"].item() == 3
    sums = requests_of(("a", "text", 0, 2, 5, "sums"))
    assert answer(sums, spans_of(without), [TOP])["n_scored"].item() == 3


def test_the_span_that_holds_the_scheme_is_taken_although_a_narrower_one_does_not(
    requests_of, spans_of
) -> None:
    draw = random.Random(0)
    narrow = {k: v for k, v in scored(draw, "a", 0, 2, 5).items() if k != TOP.column}
    wide = scored(draw, "a", 0, 0, 9)
    answered = answer(requests_of(("a", "text", 0, 2, 5, "tokens")), spans_of(narrow, wide), [TOP])
    assert answered["logprob_nats"].item().to_list() == wide["logprob_nats"][2:5]


def test_the_narrowest_span_is_taken_and_of_equals_the_first(requests_of, spans_of) -> None:
    draw = random.Random(0)
    wide, narrow = scored(draw, "a", 0, 0, 9), scored(draw, "a", 0, 2, 6, salt=100)
    twin = scored(draw, "a", 0, 1, 5, salt=1000)
    asked = requests_of(("a", "text", 0, 2, 5, "tokens"))
    for held in ([wide, narrow, twin], [narrow, wide, twin], [narrow, twin, wide]):
        answered = answer(asked, spans_of(*held), [TOP])
        assert answered["logprob_nats"].item().to_list() == narrow["logprob_nats"][:3]


def test_sums_prefer_tokens_so_that_adding_a_probe_changes_no_digit(requests_of, spans_of) -> None:
    own = plain("a", 2, 5, "sums", n_scored=3, logprob_sum_nats=-99.0, n_hits=0)
    tokens = scored(random.Random(0), "a", 0, 2, 5)
    answered = answer(requests_of(("a", "text", 0, 2, 5, "sums")), spans_of(own, tokens), [])
    assert answered["logprob_sum_nats"].item() == tokens["logprob_sum_nats"]


def test_answers_have_the_schema_and_the_order_of_the_key(requests_of, spans_of) -> None:
    draw = random.Random(3)
    held = [scored(draw, item, 0, 1, 9) for item in "cab"]
    asked = [(item, "text", 0, lo, 8, "tokens") for item in "bca" for lo in (5, 2)]
    answered = answer(requests_of(*asked), spans_of(*held), [TOP])
    SPANS.check(answered)
    assert answered.select(*REQUESTS.columns).rows() == sorted(asked)
    draw.shuffle(asked)
    draw.shuffle(held)
    assert_frame_equal(answer(requests_of(*asked), spans_of(*held), [TOP]), answered)


def test_of_equal_spans_the_first_one_answers(requests_of, spans_of) -> None:
    draw = random.Random(0)
    units = [[scored(draw, f"i{n}", 0, 0, 9) for n in range(200)] for _ in range(2)]
    asked = requests_of(*((f"i{n}", "text", 0, 0, 9, "tokens") for n in range(200)))
    held = [spans_of(*rows) for rows in units]
    found = answer(asked, pl.concat(held), []).sort("item_id")
    assert_frame_equal(
        found.select("item_id", "logprob_nats"), held[0].select("item_id", "logprob_nats").sort("item_id")
    )


def test_unanswered_keeps_what_earlier_requests_do_not_cover(requests_of) -> None:
    earlier = requests_of(
        ("a", "text", 0, 5, 20, "tokens"),
        ("b", "text", 0, 0, 20, "sums"),
        ("c", "text", 0, 5, 9, "generate"),
    ).with_columns(has_statistics=pl.lit(value=True))
    asked = requests_of(
        ("a", "text", 0, 5, 20, "tokens"),
        ("a", "text", 0, 4, 20, "tokens"),
        ("a", "text", 0, 6, 9, "sums"),
        ("b", "text", 0, 0, 20, "sums"),
        ("b", "text", 0, 0, 20, "tokens"),
        ("c", "text", 0, 5, 9, "verify"),
        ("c", "text", 0, 5, 9, "generate"),
        ("d", "text", 0, 5, 9, "tokens"),
    )
    left = [row[:5] for row in unanswered(asked, earlier).rows()]
    assert left == [("a", "text", 0, 4, 20), ("b", "text", 0, 0, 20), ("d", "text", 0, 5, 9)]


def test_unanswered_asks_anew_for_tokens_that_lack_a_scheme(requests_of) -> None:
    tokens, sums = ("a", "text", 0, 5, 9, "tokens"), ("a", "text", 0, 6, 9, "sums")
    earlier = requests_of(("a", "text", 0, 5, 9, "tokens")).with_columns(has_statistics=pl.lit(value=False))
    assert unanswered(requests_of(tokens, sums), earlier).rows() == [tokens]


def test_a_search_is_answered_by_the_same_search_and_nothing_else(requests_of, spans_of) -> None:
    one, two = (Search(budget=budget).key for budget in (1, 2))
    same = plain("a", 0, 9, one, found={"prompt_tokens": 3})
    tokens = scored(random.Random(0), "a", 0, 0, 9)
    asked = requests_of(("a", "text", 0, 0, 9, one))
    assert answer(asked, spans_of(tokens, same), [])["found"].item()["prompt_tokens"] == 3
    for other in (("a", "text", 0, 0, 9, two), ("a", "text", 0, 0, 8, one), ("a", "text", 0, 1, 9, one)):
        with pytest.raises(TableError, match="1 of 1 requests have no answer"):
            answer(requests_of(other), spans_of(tokens, same), [])
    earlier = requests_of(("a", "text", 0, 0, 9, one)).with_columns(has_statistics=pl.lit(value=False))
    asked_twice = requests_of(("a", "text", 0, 0, 9, one), ("a", "text", 0, 0, 9, two))
    assert unanswered(asked_twice, earlier)["detail"].to_list() == [two]
