"""Entries that differ in one length: the same items, the same suffix, and nothing scored twice.

Rungs: hand values, counting over plain tables, refusals.
"""

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.planning import plan_entries
from memprobe.pipeline.plans import Lengths
from memprobe.pipeline.suite import Entry, load_suite, suite_of, with_settings
from memprobe.pipeline.sweep import score_one_suffix, sweeps
from memprobe.pipeline.units import cut_stages

SCHEMA = {
    "item_id": pl.String,
    "content_hash": pl.String,
    "doc_id": pl.String,
    "n_tokens": pl.Int32,
    "n_prefix_tokens": pl.Int32,
    "n_foil_tokens": pl.Int32,
}


def lengths(*n_tokens: int, context: int | None = None, prefix: int | None = None) -> Lengths:
    rows = [(f"i{i}", f"h{i}", None, n, prefix, None) for i, n in enumerate(n_tokens)]
    return Lengths(pl.DataFrame(rows, schema=SCHEMA, orient="row"), 0, context, frozenset())


def entries(*settings: str, probe: str = "recall") -> tuple[Entry, ...]:
    return with_settings(suite_of([probe]), [f"{probe}.{each}" for each in settings]).entries


SWEPT = entries("prefix_tokens=[2,4,8]", "suffix_tokens=3", 'align="end"', "verify_items=0")


def items_of(plans) -> list[list[str]]:
    return [sorted(each.plan.requests["item_id"].unique()) for each in plans]


def test_entries_that_differ_in_the_swept_setting_alone_are_a_sweep_in_its_order() -> None:
    mixed = [*reversed(SWEPT), *entries("prefix_tokens=[2,5]"), *entries()]
    assert sweeps(mixed) == [[2, 1, 0], [3, 4]]
    assert sweeps(entries("prefix_tokens=4")) == []
    assert sweeps(entries(probe="recognition")) == []


def test_an_item_too_short_for_the_longest_context_is_in_none_of_the_rates() -> None:
    # The longest needs 8 + 3 tokens; i1 has 6, which is enough for 2 + 3.
    plans, unfit = plan_entries(SWEPT, lengths(11, 6, 30))
    assert items_of(plans) == [["i0", "i2"]] * 3
    assert [each.n_items for each in plans] == [2, 2, 2]
    assert unfit.rows() == [("i1", "recall", "has 3 tokens before the suffix, prefix_tokens is 8")]


def test_an_item_too_long_for_the_context_with_the_longest_prefix_is_in_none() -> None:
    # An item with its own border: the suffix begins there, whatever comes before.
    long, _ = plan_entries(SWEPT, lengths(20, 20, context=10, prefix=9))
    assert items_of(long) == [["i0", "i1"]] * 3
    with pytest.raises(ItemError, match="none of 2 items"):
        plan_entries(SWEPT, lengths(20, 20, context=9, prefix=9))


def test_entries_that_are_no_sweep_keep_their_own_items() -> None:
    both = (*entries("prefix_tokens=2", "suffix_tokens=3"), *entries("prefix_tokens=8", "suffix_tokens=4"))
    plans, _ = plan_entries(both, lengths(12, 6))
    assert items_of(plans) == [["i0", "i1"], ["i0"]]


def test_the_suffix_is_the_same_tokens_after_every_context() -> None:
    plans, _ = plan_entries(SWEPT, lengths(11, 30))
    spans = [each.plan.requests.select("item_id", "start", "score_from", "stop").rows() for each in plans]
    # Counted from the end: items of 11 and 30 tokens, 3 of suffix, and 2, 4 or 8 before them.
    assert spans == [
        [("i0", 6, 8, 11), ("i1", 25, 27, 30)],
        [("i0", 4, 8, 11), ("i1", 23, 27, 30)],
        [("i0", 0, 8, 11), ("i1", 19, 27, 30)],
    ]
    assert score_one_suffix([each.plan for each in plans])


def test_contexts_that_begin_with_the_item_push_the_suffix_along() -> None:
    plans, _ = plan_entries(entries("prefix_tokens=[2,4]", "suffix_tokens=3"), lengths(11, 30))
    assert not score_one_suffix([each.plan for each in plans])


def test_carlinis_nine_contexts_cost_nine_passes_and_nothing_twice() -> None:
    suite = load_suite("carlini2022")
    table = lengths(500, 650)
    plans, _ = plan_entries(suite.entries, table)
    units = cut_stages([plans], table.table)
    scored = pl.concat([unit.requests for unit in units.values()]).filter(pl.col("detail") == "tokens")
    assert scored.height == 9 * 2
    assert scored.unique(["item_id", "start"]).height == 9 * 2
    assert set(scored["stop"] - scored["score_from"]) == {50}
    # 50 to 450 of context in steps of 50, and the suffix each time: 2,250 + 9 * 50 for each item.
    assert (scored["stop"] - scored["start"]).sum() == 2 * 2700
