"""Which number speaks for a probe: rows that can be read, and the one that must be chosen."""

import polars as pl

from memprobe.report.estimates import headlines, leading_condition
from memprobe.tables.conditions import broken_down
from memprobe.tables.selection import last_step, part_of, pooled
from tests.report.conftest import summary_rows


def test_the_headline_is_the_first_metric_at_the_last_step_of_all_items() -> None:
    summary = summary_rows(
        {"step": 5, "revision": "step5", "estimate": 0.1},
        {"metric": "hit_frac", "estimate": 0.2},
        {"condition": "trained=false", "estimate": 0.3},
        {"group": "a", "estimate": 0.4},
        {"condition": "exposures=8", "estimate": 0.6},
        {"estimate": 0.5},
    )
    (found,) = headlines(summary, {"recall": ["exact_frac", "hit_frac"]})
    assert (found.probe, found.model, found.metric, found.row["estimate"]) == (
        "recall",
        "m",
        "exact_frac",
        0.5,
    )


def test_each_model_has_its_own_last_step() -> None:
    summary = summary_rows(
        {"step": 5, "revision": "step5"}, {}, {"model": "n", "step": 5, "revision": "step5", "estimate": 0.9}
    )
    found = headlines(summary, {"recall": ["exact_frac"]})
    assert [(each.model, each.row["step"]) for each in found] == [("m", 10), ("n", 5)]
    assert last_step(summary)["step"].to_list() == [10, 5]


def test_a_metric_that_the_summary_lacks_gives_way_to_the_next() -> None:
    (found,) = headlines(summary_rows({"metric": "hit_frac"}), {"recall": ["exact_frac", "hit_frac"]})
    assert found.metric == "hit_frac"
    assert headlines(summary_rows({}), {"recall": ["es_frac"], "extraction": ["rate_frac"]}) == []


def test_of_conditions_none_speaks_first_and_of_a_whole_sequence_the_last() -> None:
    both = summary_rows({"condition": "foil_kind=a"}, {"condition": None})
    assert leading_condition(both) is None
    told = summary_rows(
        *({"step": None, "revision": None, "condition": f"predictor=step{n}"} for n in (1, 2, 3))
    )
    assert leading_condition(told) == "predictor=step3"
    rates = summary_rows(*({"condition": f"scheme=full;n={n};p=0.5"} for n in (1, 10, 100, 1000, 10_000)))
    # The quarter of five: the second, as `memprobe summary` chooses it.
    assert leading_condition(rates) == "scheme=full;n=10;p=0.5"


def test_parts_lose_their_key_and_rows_of_two_parts_are_none() -> None:
    summary = summary_rows(
        {"condition": "scheme=full;exposures=8"},
        {"condition": "exposures=16"},
        {"condition": "exposures=16;trained=true"},
        {"condition": "scheme=full"},
    )
    found = part_of(summary, "exposures")
    assert found.select("condition", "part").rows() == [("scheme=full", "8"), (None, "16")]
    assert pooled(summary)["condition"].to_list() == ["scheme=full"]


def test_a_key_inside_another_word_is_no_part() -> None:
    summary = summary_rows({"condition": "steps_since_exposures=3"}, {"condition": "foil=untrained=1"})
    assert part_of(summary, "exposures").is_empty()
    assert pooled(summary).height == 2
    assert summary.filter(pl.col("condition").is_null()).is_empty()


def test_the_condition_that_others_break_down_speaks_for_them_wherever_it_says_more() -> None:
    # The pooled row of `sort`, of an excess too, where the control stands behind what breaks it down.
    whole, near = "mode=likelihood;control=twin", "mode=likelihood;distance_bin=0;control=twin"
    assert broken_down([near, whole]) == [whole]
    assert broken_down(["scheme=full;n=1", "scheme=full;n=10"]) == []
    rows = pl.DataFrame({"condition": [near, whole], "step": [1, 1], "revision": ["step1", "step1"]})
    assert leading_condition(rows) == whole


def test_what_is_told_against_a_control_alone_has_a_headline() -> None:
    rows = summary_rows(
        {"metric": "exact_excess_frac", "condition": "mode=x;control=never-trained", "estimate": 0.25}
    )
    (told,) = headlines(rows, {"recall": ["exact_frac", "exact_excess_frac"]})
    assert (told.metric, told.row["estimate"]) == ("exact_excess_frac", 0.25)
