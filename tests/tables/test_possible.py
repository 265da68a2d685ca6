"""Values that no model gives, one by one; and that what a model does give passes."""

import math

import polars as pl
import pytest

from memprobe.tables.possible import impossible, other_columns, other_requests, same_requests
from memprobe.tables.requests import REQUESTS, Scheme, Unit
from memprobe.tables.spans import SPANS

NAN = float("nan")
KEY = {"item_id": "a", "part": "text", "start": 0, "score_from": 1, "stop": 4, "detail": "tokens"}
# Three tokens: a hit, one that ties with the best and is not a hit, one ranked seventh.
TOKENS = KEY | {
    "n_scored": 3,
    "logprob_sum_nats": -0.5 - 1.0 - 4.0,
    "n_hits": 1,
    "rank_sum": 7,
    "logprob_nats": [-0.5, -1.0, -4.0],
    "rank": [0, 0, 7],
    "n_ties": [0, 1, 0],
    "hit": [True, False, False],
    "entropy_nats": [0.7, 1.1, 2.0],
    "margin_nats": [1.5, 0.0, -3.0],
    "logprob_top40_nats": [-0.4, -0.9, float("-inf")],
    "sd_logp_nats": [0.9, 1.2, 0.0],
}
SUMS = KEY | {"detail": "sums", "n_scored": 3, "logprob_sum_nats": -5.5, "n_hits": 1, "rank_sum": 7}
CHOICE = KEY | {"detail": "choice", "choice_logprob_nats": [-0.7, -0.8]}
GENERATED = KEY | {"detail": "generate", "gen_tokens": 3, "gen_lcp_tokens": 2, "gen_match_frac": 2 / 3}
RIGHT = (TOKENS, SUMS, CHOICE, GENERATED, KEY | {"detail": "search-x", "found": {"prompt_tokens": 3}})


def test_what_a_model_gives_is_possible(spans_of) -> None:
    assert impossible(spans_of(*RIGHT), 256) == []
    assert impossible(SPANS.empty(), 256) == []
    # Nothing scored: the first token of an item has no condition.
    nothing = {name: [] for name, value in TOKENS.items() if isinstance(value, list)}
    sums = {"n_scored": 0, "logprob_sum_nats": 0.0, "n_hits": 0, "rank_sum": 0}
    assert impossible(spans_of(TOKENS | sums | nothing), 256) == []


def test_a_unit_of_an_earlier_version_has_no_spread(spans_of) -> None:
    assert (
        impossible(spans_of({name: of for name, of in TOKENS.items() if name != "sd_logp_nats"}), 256) == []
    )


def test_a_probability_of_nothing_is_possible(spans_of) -> None:
    inf = float("-inf")
    row = {"logprob_nats": [inf, -1.0, -4.0], "logprob_sum_nats": inf, "rank": [9, 0, 7], "rank_sum": 16}
    row |= {"hit": [False] * 3, "n_hits": 0, "margin_nats": [inf, 0.0, -3.0]}
    assert impossible(spans_of(TOKENS | row), 256) == []


def test_rounding_is_possible(spans_of) -> None:
    row = {"logprob_nats": [1e-6, 0.0, 2e-6], "logprob_sum_nats": 3e-6}
    assert impossible(spans_of(TOKENS | row), 256) == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (TOKENS | {"logprob_nats": [0.1, -1.0, -4.0], "logprob_sum_nats": -4.9}, "logprob_nats is above 0"),
        (TOKENS | {"logprob_top40_nats": [0.2, -0.9, -1.0]}, "logprob_top40_nats is above 0"),
        (TOKENS | {"logprob_nats": [NAN, -1.0, -4.0]}, "logprob_nats is NaN"),
        (TOKENS | {"logprob_top40_nats": [NAN, -0.9, -1.0]}, "logprob_top40_nats is NaN"),
        (TOKENS | {"entropy_nats": [NAN, 1.0, 1.0]}, "entropy_nats is NaN"),
        (TOKENS | {"margin_nats": [1.5, 0.0, NAN]}, "margin_nats is NaN"),
        (TOKENS | {"rank": [0, 0, None], "rank_sum": 0}, "rank is missing"),
        (TOKENS | {"rank": [0, 0, 256], "rank_sum": 256}, "rank is beyond the vocabulary"),
        (TOKENS | {"n_ties": [0, 1, 250]}, "rank is beyond the vocabulary"),
        (TOKENS | {"rank": [0, 0, -7], "rank_sum": -7}, "rank_sum is below 0"),
        (TOKENS | {"rank": [0, 8, -1]}, "rank is below 0"),
        (TOKENS | {"n_ties": [0, -1, 0]}, "n_ties is below 0"),
        (TOKENS | {"rank": [1, 0, 6]}, "a hit is not ranked 0"),
        (TOKENS | {"n_ties": [0, 0, 0]}, "a token ranked 0 alone is not a hit"),
        (TOKENS | {"margin_nats": [-1.5, 0.0, -3.0]}, "a hit has a margin below 0"),
        (TOKENS | {"margin_nats": [1.5, 0.5, -3.0]}, "a margin above 0 is not a hit"),
        (TOKENS | {"entropy_nats": [-0.7, 1.1, 2.0]}, "entropy_nats is below 0"),
        (TOKENS | {"entropy_nats": [0.7, 1.1, 5.6]}, "entropy_nats is above ln of the vocabulary"),
        (TOKENS | {"sd_logp_nats": [-0.1, 1.0, 1.0]}, "sd_logp_nats is below 0"),
        (TOKENS | {"sd_logp_nats": [NAN, 1.0, 1.0]}, "sd_logp_nats is NaN"),
        (TOKENS | {"sd_logp_nats": [1.0]}, "sd_logp_nats has not one value for each scored token"),
        (TOKENS | {"logprob_sum_nats": -5.4}, "the sum of ln p is not that of the tokens"),
        (TOKENS | {"n_hits": 2}, "n_hits is not the number of hits"),
        (TOKENS | {"rank_sum": 8}, "rank_sum is not the sum of the ranks"),
        (TOKENS | {"n_scored": 2}, "logprob_nats has not one value for each scored token"),
        (TOKENS | {"entropy_nats": [0.7, 1.1]}, "entropy_nats has not one value for each scored token"),
        (TOKENS | {"hit": None}, "hit has not one value for each scored token"),
        (SUMS | {"logprob_sum_nats": 0.1}, "the sum of ln p is above 0 or NaN"),
        (SUMS | {"n_hits": 4}, "more hits than scored tokens"),
        (SUMS | {"n_hits": -1}, "n_hits is below 0"),
        (SUMS | {"n_scored": 4}, "more scored tokens than the span has"),
        (CHOICE | {"choice_logprob_nats": [0.1, -3.0]}, "ln p of a label is above 0"),
        (CHOICE | {"choice_logprob_nats": [NAN, -3.0]}, "ln p of a label is NaN"),
        (GENERATED | {"gen_lcp_tokens": 4}, "more generated tokens agree than there are"),
        (GENERATED | {"gen_match_frac": 1.5}, "gen_match_frac is not between 0 and 1"),
        (GENERATED | {"rougeL_f": -0.5}, "rougeL_f is not between 0 and 1"),
    ],
)
def test_each_value_that_cannot_be_is_named(spans_of, row, told) -> None:
    assert told in " ".join(impossible(spans_of(*RIGHT[1:], row | {"item_id": "b"}, TOKENS), 256))


def test_the_bounds_of_a_vocabulary_need_one(spans_of) -> None:
    row = TOKENS | {"rank": [0, 0, 999], "rank_sum": 999, "entropy_nats": [0.7, 1.1, 9.0]}
    assert impossible(spans_of(row)) == []
    assert impossible(spans_of(row), 1000) == ["entropy_nats is above ln of the vocabulary (1 token)"]
    assert math.log(1000) < 9.0


# Requests and columns


def unit_of(frame: pl.DataFrame, *schemes: Scheme) -> Unit:
    return Unit(frame.select(*REQUESTS.columns), schemes)


def test_each_unit_holds_what_was_asked(spans_of) -> None:
    frames = [spans_of(KEY | {"item_id": f"i{i}"}, KEY | {"item_id": f"j{i}"}) for i in range(3)]
    units = [unit_of(frame) for frame in frames]
    assert same_requests(units, [frame.reverse() for frame in frames])
    assert same_requests([], [])
    assert [other_requests(*each) for each in zip(units, frames, strict=True)] == [None] * 3
    # Together they hold the same rows, each holds another one's.
    assert not same_requests(units, [frames[1], frames[0], frames[2]])
    assert not same_requests(units, [frames[0].head(1), *frames[1:]])
    doubled = pl.concat([frames[0].head(1), frames[0].head(1)])
    assert not same_requests(units, [doubled, *frames[1:]])
    assert "1 of the 2 spans that were asked for" in other_requests(units[0], doubled)


def test_a_scheme_has_a_column_of_its_own(spans_of) -> None:
    frame = spans_of(TOKENS)
    assert other_requests(unit_of(frame, Scheme(top_k=40)), frame) is None
    assert other_requests(unit_of(frame, Scheme(top_k=5)), frame) == "it holds nothing under top5"
    assert not same_requests([unit_of(frame, Scheme(top_k=5))], [frame])


def test_columns_of_another_type_or_none_are_named(spans_of) -> None:
    frame = spans_of(TOKENS)
    assert other_columns(frame.schema) is None
    assert other_columns(frame.drop("rank").schema) == "its columns are not those of a unit: rank"
    assert "n_hits" in other_columns(frame.with_columns(pl.col("n_hits").cast(pl.Int64)).schema)
