"""Item values to estimates: the rows there are, their intervals, and what they may not depend on.

Rungs: hand values, slow recomputation from the statistics' own functions, invariances, undefined cases.
"""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.pipeline.estimate import estimate_series
from memprobe.pipeline.signature import condition_prefixes, signature
from memprobe.pipeline.suite import Entry, load_suite, suite_of, with_settings
from memprobe.pipeline.summarise import Context, item_values, summarise
from memprobe.probes.contract import Metric
from memprobe.probes.discovery import find
from memprobe.stats.blocks import Series
from memprobe.stats.intervals import wilson
from memprobe.stats.ranking import paired_auc
from memprobe.tables.summary import SUMMARY

CONTEXT = Context("m", "step10", 10, 0, "bos:default|float32|tok:abc")
SCHEMA = {"item_id": pl.String, "condition": pl.String, "value": pl.Float64}


def metric(summary: str, name: str = "x_frac", unit: str = "fraction", **more: object) -> Metric:
    return Metric(name, unit, "more of it", summary, lambda table, _: table, **more)


def entry(*metrics: Metric) -> Entry:
    probe = replace(find("recognition"), name="toy", metrics=metrics)
    return Entry(probe, probe.settings())


def values_of(*rows: tuple[str, str | None, float | None], others: list[float | None] | None = None):
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    return frame if others is None else frame.with_columns(other=pl.Series(others, dtype=pl.Float64))


def about(*rows: dict[str, object]) -> pl.DataFrame:
    schema = {"item_id": pl.String, "group": pl.String, "exposures": pl.Int64, "doc_id": pl.String}
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema, orient="row")


ITEMS = about(
    {"item_id": "a", "group": "canary", "exposures": 2},
    {"item_id": "b", "group": "canary", "exposures": 16},
    {"item_id": "c", "group": "bio"},
    {"item_id": "d", "group": "canary", "exposures": 16},
    {"item_id": "e"},
)
ALONE = [(name, None, value) for name, value in zip("abcde", (1.0, 0.0, 1.0, 0.5, 0.0), strict=True)]


def rows_of(summary: str, values, items=ITEMS, first=None, context=CONTEXT, prefix=None, **more):
    one = entry(metric(summary, **more))
    given = None if first is None else {"x_frac": first}
    return summarise(one, {"x_frac": values}, given, items, context, prefix)


def pick(table: pl.DataFrame, group: str | None = None, condition: str | None = None) -> dict[str, object]:
    found = table.filter(
        pl.col("group").eq_missing(pl.lit(group)), pl.col("condition").eq_missing(pl.lit(condition))
    )
    assert found.height == 1
    return found.row(0, named=True)


def test_one_row_for_all_items_for_each_group_and_for_each_exposure_count() -> None:
    table = rows_of("rate", values_of(*ALONE))
    SUMMARY.check(table)
    assert table.select("group", "condition", "n_items", "estimate").rows() == [
        (None, None, 5, 0.5),
        ("bio", None, 1, 1.0),
        ("canary", None, 3, 0.5),
        (None, "exposures=2", 1, 1.0),
        (None, "exposures=16", 2, 0.25),
    ]
    assert set(table.select("model", "revision", "step", "probe", "metric", "unit", "version").rows()) == {
        ("m", "step10", 10, "toy", "x_frac", "fraction", 1)
    }


def test_conditions_are_summarised_apart_and_exposures_are_added_to_them() -> None:
    frame = values_of(("a", "n=1", 0.0), ("a", "n=10", 1.0), ("b", "n=1", 0.0), ("b", "n=10", 0.0))
    table = rows_of("rate", frame)
    assert table.filter(pl.col("group").is_null())["condition"].to_list() == [
        *("n=1", "n=1;exposures=2", "n=1;exposures=16"),
        *("n=10", "n=10;exposures=2", "n=10;exposures=16"),
    ]
    assert pick(table, condition="n=10")["estimate"] == 0.5
    assert pick(table, group="canary", condition="n=1")["n_items"] == 2


def test_what_tells_an_entry_from_its_twins_goes_in_front_of_the_condition() -> None:
    table = rows_of("rate", values_of(("a", "n=1", 0.0), ("c", None, 0.0)), prefix="prefix_tokens=50")
    assert set(table.filter(pl.col("group").is_null())["condition"]) == {
        *("prefix_tokens=50", "prefix_tokens=50;n=1", "prefix_tokens=50;n=1;exposures=2"),
    }


def test_a_rate_of_independent_items_has_wilsons_interval() -> None:
    row = pick(rows_of("rate", values_of(*ALONE)))
    expected = wilson(2.5, 5)
    assert (row["ci_low"], row["ci_high"], row["ci_method"]) == (expected.lo, expected.hi, "wilson")
    assert (row["ci_level"], row["n_clusters"]) == (0.95, 5)


def documents(*docs: str | None) -> pl.DataFrame:
    return about(*({"item_id": f"i{n}", "doc_id": doc} for n, doc in enumerate(docs)))


def numbered(*values: float | None) -> pl.DataFrame:
    return values_of(*((f"i{n}", None, value) for n, value in enumerate(values)))


@pytest.mark.parametrize("summary", ["rate", "mean"])
def test_items_of_one_document_take_the_bound_by_documents(summary) -> None:
    values = numbered(1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    row = pick(rows_of(summary, values, documents("x", "x", "x", "x", "y", "y", None, None)))
    assert row["ci_method"] == "pseudo-document-few"
    assert (row["n_items"], row["n_clusters"]) == (8, 4)
    assert row["estimate"] == 0.625
    assert row["ci_low"] < 0.625 < row["ci_high"]


def test_a_mean_of_shares_takes_the_bound_by_items() -> None:
    row = pick(rows_of("mean", values_of(*ALONE)))
    assert (row["ci_method"], row["n_clusters"]) == ("pseudo-document", 5)
    assert row["ci_low"] < row["estimate"] < row["ci_high"]


def test_one_item_with_a_small_share_does_not_narrow_the_bound_of_none() -> None:
    # Resampling 20 items of which one has 0.05 gives [0, 0.0075].
    none, one = (pick(rows_of("mean", numbered(*[0.0] * 19, v), documents(*[None] * 20))) for v in (0, 0.05))
    assert one["ci_high"] >= none["ci_high"] == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-6)


def test_a_mean_without_bounds_takes_students_interval() -> None:
    row = pick(rows_of("mean", values_of(*ALONE), unit="tokens"))
    assert (row["ci_method"], row["n_clusters"]) == ("hall-t", 5)
    assert row["ci_low"] < row["estimate"] < row["ci_high"]


@pytest.mark.parametrize("docs", ["abcd", "aabbccdd"])
def test_a_mean_of_items_that_all_agree_has_no_interval_and_says_why(docs) -> None:
    # Resampling would say 0 [0, 0].
    row = pick(rows_of("mean", numbered(*[0.0] * len(docs)), documents(*docs), unit="tokens"))
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == (0, None, None)
    assert row["ci_method"] == "none:all-equal"


def test_a_change_of_shares_since_the_first_checkpoint_is_a_difference() -> None:
    now, first = numbered(*[0.5] * 19, 0.75), numbered(*[0.5] * 20)
    row = pick(rows_of("mean", now, documents(*[None] * 20), first=first, since_first=True))
    assert (row["estimate"], row["ci_method"]) == (0.0125, "pseudo-document-paired")
    assert row["ci_high"] >= 1 - 0.025 ** (1 / 20)


def test_a_document_and_an_item_of_the_same_name_are_not_one_cluster() -> None:
    items = about({"item_id": "i0", "doc_id": "i1"}, {"item_id": "i1"})
    assert pick(rows_of("rate", numbered(0.0, 1.0), items))["n_clusters"] == 2


def test_an_auc_has_the_interval_of_its_pairs() -> None:
    ours, theirs = [3.0, 1.0, 2.0, 5.0, 4.0], [1.5, 2.5, 0.5, 1.0, 4.5]
    frame = values_of(*((name, None, v) for name, v in zip("abcde", ours, strict=True)), others=theirs)
    row = pick(rows_of("auc", frame))
    expected = paired_auc(np.array(ours), np.array(theirs))
    assert (row["estimate"], row["ci_low"]) == (expected.auc, expected.interval.lo)
    assert row["ci_method"] == "delong-logit-t"
    clustered = pick(rows_of("auc", frame, ITEMS.with_columns(doc_id=pl.Series(["x", "x", "y", "y", None]))))
    assert (clustered["ci_method"], clustered["n_clusters"]) == (
        "square-and-add (pseudo-document-few)",
        3,
    )
    assert clustered["estimate"] == row["estimate"]


@pytest.mark.parametrize("summary", ["rate", "mean", "auc"])
def test_one_cluster_has_an_estimate_and_no_interval(summary) -> None:
    frame = numbered(1.0, 0.0, 0.5)
    frame = frame.with_columns(other=pl.Series([0.5, 0.25, 1.0])) if summary == "auc" else frame
    row = pick(rows_of(summary, frame, documents("x", "x", "x")))
    assert row["estimate"] is not None
    assert (row["ci_low"], row["ci_high"], row["ci_method"]) == (None, None, "none:few-clusters")
    assert (row["n_items"], row["n_clusters"]) == (3, 1)


def test_one_item_has_a_mean_and_no_interval_but_a_rate_has_wilsons() -> None:
    assert pick(rows_of("mean", numbered(0.25), documents(None)))["ci_method"] == "none:few-clusters"
    row = pick(rows_of("rate", numbered(1.0), documents(None)))
    assert (row["ci_low"], row["ci_high"]) == (wilson(1, 1).lo, 1.0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_clustered_rate_without_spread_keeps_an_interval_of_width(value) -> None:
    """Resampling clusters that all agree would say that the rate is known exactly."""
    row = pick(rows_of("rate", numbered(*[value] * 6), documents("x", "x", "y", "y", "z", "z")))
    assert row["ci_low"] <= value <= row["ci_high"]
    assert row["ci_high"] - row["ci_low"] > 0.3


def test_undefined_values_are_counted_and_left_out() -> None:
    row = pick(rows_of("rate", values_of(*ALONE[:3], ("d", None, None), ("e", None, None))))
    assert (row["n_items"], row["n_missing"], row["n_clusters"]) == (3, 2, 3)
    assert row["estimate"] == pytest.approx(2 / 3, rel=1e-12)


def test_nothing_defined_is_null_with_its_count() -> None:
    row = pick(rows_of("mean", values_of(("a", None, None), ("b", None, None))))
    assert (row["estimate"], row["ci_low"], row["ci_method"]) == (None, None, None)
    assert (row["n_items"], row["n_clusters"], row["n_missing"]) == (0, 0, 2)


def test_half_a_pair_is_no_pair() -> None:
    frame = values_of(
        *((name, None, v) for name, v in zip("abcd", (3.0, None, 1.0, 2.0), strict=True)),
        others=[1.0, 0.0, None, 1.5],
    )
    row = pick(rows_of("auc", frame))
    assert (row["n_items"], row["n_missing"]) == (2, 2)
    assert row["estimate"] == 1.0


# Gain since the first checkpoint


def test_the_gain_is_the_mean_of_changes_since_the_first_checkpoint() -> None:
    now = values_of(("a", None, 1.0), ("b", None, 1.0), ("a", "k=1", 0.5))
    first = values_of(("b", None, 0.5), ("a", None, 0.0), ("a", "k=1", 1.0))
    table = rows_of("mean", now, first=first, since_first=True)
    # (1 - 0 + 1 - 0.5) / 2; under its own condition 0.5 - 1.
    assert pick(table)["estimate"] == 0.75
    assert pick(table, condition="k=1")["estimate"] == -0.5


def test_the_first_checkpoint_itself_has_no_gain() -> None:
    table = rows_of("mean", values_of(*ALONE), since_first=True)
    assert table.is_empty()
    SUMMARY.check(table)


def test_a_change_from_or_to_nothing_is_missing() -> None:
    now = values_of(("a", None, 1.0), ("b", None, None), ("c", None, 1.0))
    first = values_of(("a", None, None), ("b", None, 0.5), ("c", None, 0.0))
    row = pick(rows_of("mean", now, first=first, since_first=True))
    assert (row["n_items"], row["n_missing"], row["estimate"]) == (1, 2, 1.0)


# What nothing may depend on


def world(n: int = 60) -> tuple[pl.DataFrame, pl.DataFrame]:
    g = np.random.default_rng(0)
    items = about(
        *(
            {"item_id": f"i{k:02}", "group": "ab"[k % 2], "doc_id": f"d{k // 3}", "exposures": k % 4}
            for k in range(n)
        )
    )
    rows = [(f"i{k:02}", f"n={c}", float(v)) for c in (1, 10) for k, v in enumerate(g.normal(size=n))]
    return values_of(*rows), items


@pytest.mark.parametrize("summary", ["mean", "auc"])
def test_the_order_of_values_and_of_items_does_not_matter(summary) -> None:
    values, items = world()
    if summary == "auc":
        values = values.with_columns(other=pl.col("value").shift(7).fill_null(0.1))
    one = rows_of(summary, values, items, unit="nats")
    for seed in (1, 2):
        other = rows_of(
            summary,
            values.sample(fraction=1, shuffle=True, seed=seed),
            items.sample(fraction=1, shuffle=True, seed=seed + 10),
            unit="nats",
        )
        assert_frame_equal(one, other, check_exact=True)


def test_what_else_is_summarised_does_not_change_a_row() -> None:
    values, items = world()
    both = rows_of("mean", values, items, unit="nats")
    alone = rows_of("mean", values.filter(condition="n=10"), items, unit="nats")
    assert_frame_equal(both.filter(pl.col("condition").str.starts_with("n=10")), alone, check_exact=True)


def test_intervals_of_items_need_no_draws() -> None:
    g = np.random.default_rng(1).normal(size=20)
    items = about(*({"item_id": f"i{k:02}", "group": "ab"[k // 20]} for k in range(40)))
    values = values_of(*((f"i{k:02}", c, float(g[k % 20])) for c in ("n=1", "n=2") for k in range(40)))
    for summary in ("mean", "median"):
        table = rows_of(summary, values, items, unit="nats")
        assert len({pick(table, group, f"n={n}")["ci_low"] for group in "ab" for n in (1, 2)}) == 1
        other = rows_of(summary, values, items, unit="nats", context=replace(CONTEXT, seed=1))
        assert_frame_equal(table, other, check_exact=True)


def test_draws_of_blocks_depend_on_all_words_of_the_seed() -> None:
    series = [Series(np.random.default_rng(1).normal(size=200), np.ones(200), 2)]
    seeds = [("0", "p", "m", "a", "n=1"), ("1", "p", "m", "a", "n=1"), ("0", "p", "m", "a", "n=2")]
    lows = [estimate_series(metric("mean", "y", "nats"), series, seed)[1].interval.lo for seed in seeds]
    assert len(set(lows)) == 3
    assert estimate_series(metric("mean", "y", "nats"), series, seeds[0])[1].interval.lo == lows[0]


# Signatures and prefixes


def test_a_signature_holds_all_settings_but_those_that_change_no_estimate() -> None:
    (recall,) = suite_of(["recall"]).entries
    (more,) = with_settings(suite_of(["recall"]), ["recall.verify_items=9"]).entries
    (other,) = with_settings(suite_of(["recall"]), ["recall.suffix_tokens=9"]).entries
    base = signature(recall, "bos:none")
    assert base.startswith("recall|v1|")
    assert base.endswith("|bos:none")
    assert signature(more, "bos:none") == base
    assert signature(other, "bos:none") != base
    assert signature(recall, "bos:forced") != base
    assert signature(Entry(replace(recall.probe, version=2), recall.settings), "bos:none") != base


def test_signatures_of_different_schemes_differ() -> None:
    variants = ["[{top_k = 40}]", "[{top_p = 0.9}]", "[{temperature = 0.9}]", "[{}]", "[{top_k = 40}, {}]"]
    signatures = {
        signature(with_settings(suite_of(["extraction"]), [f"extraction.schemes={each}"]).entries[0], "s")
        for each in variants
    }
    assert len(signatures) == len(variants)


def test_twins_are_told_apart_by_the_settings_in_which_they_differ() -> None:
    assert condition_prefixes(load_suite("carlini2022").entries) == [
        f"prefix_tokens={context}" for context in range(50, 500, 50)
    ]
    assert condition_prefixes(load_suite("quickstart").entries) == [None, None, None]


def test_the_values_of_every_metric_are_taken_from_the_table() -> None:
    seen: list[object] = []

    def note(table: pl.DataFrame, settings: object) -> pl.DataFrame:
        seen.append(settings)
        return table.select("item_id", condition=pl.lit(None, pl.String), value=pl.lit(math.e))

    one = entry(replace(metric("mean"), values=note))
    found = item_values(one, pl.DataFrame({"item_id": ["a", "b"]}))
    assert found["x_frac"]["value"].to_list() == [math.e, math.e]
    assert seen == [one.settings]
