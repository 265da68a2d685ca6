"""`place` against the contract's paragraph "Spans", one case for each clause."""

import polars as pl
import pytest

from memprobe.probes.placement import Lengths, place


def placed(items_of, n: int, border: int | None, a: int | None, k: int | None, align: str):
    items = items_of({"item_id": "x", "n_tokens": n, "n_prefix_tokens": border})
    result = place(items, Lengths(a, k, align))
    assert result.spans.height + result.unfit.height == 1
    if result.unfit.height:
        return result.unfit.row(0)[1]
    assert result.spans.columns == ["item_id", "start", "score_from", "stop"]
    return result.spans.row(0)[1:]


@pytest.mark.parametrize(
    ("n", "a", "k", "align", "span"),
    [
        pytest.param(10, None, None, "start", (0, 5, 10), id="half-and-half"),
        pytest.param(11, None, None, "start", (0, 5, 11), id="floor-of-half"),
        pytest.param(10, 3, None, "start", (0, 3, 10), id="suffix-is-all-that-follows"),
        pytest.param(10, None, 2, "start", (0, 5, 7), id="half-then-k"),
        pytest.param(10, 3, 2, "start", (0, 3, 5), id="first-a-next-k"),
        pytest.param(10, 3, 7, "start", (0, 3, 10), id="exactly-long-enough"),
        pytest.param(10, 0, 4, "start", (0, 0, 4), id="no-prefix"),
        pytest.param(10, None, 2, "end", (0, 8, 10), id="last-k-after-all-before"),
        pytest.param(10, 3, 2, "end", (5, 8, 10), id="last-k-and-a-before"),
        pytest.param(10, 8, 2, "end", (0, 8, 10), id="end-exactly-long-enough"),
        pytest.param(10, None, 10, "end", (0, 0, 10), id="end-takes-all"),
        pytest.param(1, None, None, "start", (0, 0, 1), id="one-token"),
    ],
)
def test_items_without_a_border(n, a, k, align, span, items_of) -> None:
    assert placed(items_of, n, None, a, k, align) == span


@pytest.mark.parametrize("align", ["start", "end"])
@pytest.mark.parametrize(
    ("a", "k", "span"),
    [
        pytest.param(None, 6, (0, 4, 10), id="whole-prefix-whole-suffix"),
        pytest.param(3, 6, (1, 4, 10), id="last-a-of-the-prefix"),
        pytest.param(4, 2, (0, 4, 6), id="first-k-of-the-suffix"),
        pytest.param(1, 2, (3, 4, 6), id="both"),
        pytest.param(0, 2, (4, 4, 6), id="prefix-left-unused"),
    ],
)
def test_items_with_a_border_are_cut_there_whatever_the_alignment(a, k, span, align, items_of) -> None:
    assert placed(items_of, 10, 4, a, k, align) == span


def test_a_suffix_left_out_is_all_that_follows_the_border(items_of) -> None:
    assert placed(items_of, 10, 4, None, None, "start") == (0, 4, 10)
    assert placed(items_of, 10, 4, 2, None, "start") == (2, 4, 10)
    assert placed(items_of, 10, 0, None, None, "start") == (0, 0, 10)


@pytest.mark.parametrize(
    ("n", "border", "a", "k", "align", "reason"),
    [
        pytest.param(10, 4, 5, None, "start", "4 tokens before the suffix, prefix_tokens is 5", id="prefix"),
        pytest.param(10, 4, None, 7, "start", "6 tokens after the prefix, suffix_tokens is 7", id="suffix"),
        pytest.param(
            10, 4, 5, 2, "end", "4 tokens before the suffix, prefix_tokens is 5", id="prefix-at-end"
        ),
        pytest.param(
            10, 10, None, None, "start", "10 tokens, so none is left after a prefix of 10", id="all"
        ),
        pytest.param(10, None, 3, 8, "start", "7 tokens after the prefix, suffix_tokens is 8", id="free"),
        pytest.param(
            10, None, 10, None, "start", "10 tokens, so none is left after a prefix of 10", id="nothing-left"
        ),
        pytest.param(
            10, None, 12, 2, "start", "10 tokens, so none is left after a prefix of 12", id="longer-prefix"
        ),
        pytest.param(
            10, None, 9, 2, "end", "8 tokens before the suffix, prefix_tokens is 9", id="end-prefix"
        ),
        pytest.param(10, None, None, 11, "end", "10 tokens, suffix_tokens is 11", id="end-suffix"),
        pytest.param(10, None, 2, 11, "end", "10 tokens, suffix_tokens is 11", id="end-both"),
    ],
)
def test_an_item_with_fewer_tokens_is_too_short(n, border, a, k, align, reason, items_of) -> None:
    assert placed(items_of, n, border, a, k, align) == f"has {reason}"


def test_each_item_is_judged_by_itself_in_its_order(items_of) -> None:
    items = items_of(
        {"item_id": "b", "n_tokens": 10, "n_prefix_tokens": 6},
        {"item_id": "c", "n_tokens": 4},
        {"item_id": "a", "n_tokens": 20},
    )
    result = place(items, Lengths(4, 2, "start"))
    assert result.spans.rows() == [("b", 2, 6, 8), ("a", 0, 4, 6)]
    assert result.unfit["item_id"].to_list() == ["c"]
    assert result.spans.schema["start"] == pl.Int32
