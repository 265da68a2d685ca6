"""Rates beside never-trained items and a control model: the rows there are, and their intervals.

Rungs: hand values, recomputation from the statistics' own functions, invariances, undefined cases.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.pipeline.contrast import Control, about_items
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context, summarise
from memprobe.probes.contract import Metric
from memprobe.probes.discovery import find
from memprobe.stats.differences import independent_difference, newcombe_paired
from memprobe.stats.intervals import wilson
from memprobe.tables.facts import is_trained
from memprobe.tables.summary import SUMMARY

CONTEXT = Context("m", "step10", 10, 0, "bos:default|float32|tok:abc")
ABOUT = {
    "item_id": pl.String,
    "group": pl.String,
    "exposures": pl.Int64,
    "first_step": pl.Int64,
    "doc_id": pl.String,
}
RATE = Metric("x_frac", "fraction", "more", "rate", lambda table, _: table, against_never=True)


def items(*rows: dict[str, object]) -> pl.DataFrame:
    named = [dict.fromkeys(ABOUT) | {"item_id": f"i{n:02}"} | row for n, row in enumerate(rows)]
    return pl.DataFrame(named, schema=ABOUT, orient="row")


def values(*numbers: float | None, condition: str | None = None) -> pl.DataFrame:
    rows = [(f"i{n:02}", condition, number) for n, number in enumerate(numbers)]
    schema = {"item_id": pl.String, "condition": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def rows_of(frame, about, control=None, metric=RATE, prefix=None, given=("exposures",)) -> pl.DataFrame:
    probe = replace(find("recognition"), name="toy", metrics=(metric,))
    found = summarise(
        Entry(probe, probe.settings()),
        {metric.name: frame},
        None,
        about,
        CONTEXT,
        prefix,
        given=given,
        control=None if control is None else Control("twin", "twin@step9:key", {metric.name: control}),
    )
    SUMMARY.check(found)
    return found


def pick(table: pl.DataFrame, metric: str, condition: str | None, group: str | None = None):
    found = table.filter(
        pl.col("metric") == metric,
        pl.col("condition").eq_missing(pl.lit(condition)),
        pl.col("group").eq_missing(pl.lit(group)),
    )
    assert found.height == 1, table
    return found.row(0, named=True)


# The rule


@pytest.mark.parametrize(
    ("exposures", "first_step", "given", "trained"),
    [
        (0, None, {"exposures"}, False),
        (1, None, {"exposures"}, True),
        # The file does not say.
        (None, None, {"exposures"}, None),
        (None, None, set(), None),
        # `first_step` says it where `exposures` does not.
        (None, None, {"first_step"}, False),
        (None, 700, {"first_step"}, True),
        (None, 0, {"first_step"}, True),
        # The count goes first where both speak.
        (0, None, {"exposures", "first_step"}, False),
        (3, None, {"exposures", "first_step"}, True),
        (0, 700, {"exposures", "first_step"}, False),
    ],
)
def test_who_was_trained_on(exposures, first_step, given, trained) -> None:
    frame = items({"exposures": exposures, "first_step": first_step})
    assert frame.select(is_trained(given)).item() is trained


def test_items_of_one_document_are_one_cluster_and_names_of_both_kinds_do_not_mix() -> None:
    found = about_items(items({"doc_id": "i01"}, {}, {"doc_id": "i01"}), ())
    assert found["cluster"].n_unique() == 2
    assert found["cluster"][0] == found["cluster"][2] != found["cluster"][1]


# Never-trained items

FIVE = items(
    {"exposures": 0, "group": "a"},
    {"exposures": 0, "group": "a"},
    {"exposures": 4, "group": "a"},
    {"exposures": 1, "group": "b"},
    {"exposures": 1, "group": "b"},
)


def test_beside_a_rate_stand_those_of_trained_and_never_trained_items_and_the_excess() -> None:
    table = rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0), FIVE)
    trained, never = pick(table, "x_frac", "trained=true"), pick(table, "x_frac", "trained=false")
    assert (trained["estimate"], trained["n_items"]) == (pytest.approx(2 / 3), 3)
    assert (never["estimate"], never["n_items"]) == (0.5, 2)
    assert (never["ci_low"], never["ci_method"]) == (wilson(1, 2).lo, "wilson")
    excess = pick(table, "x_excess_frac", "control=never-trained")
    assert excess["estimate"] == pytest.approx(2 / 3 - 1 / 2)
    expected = independent_difference(2 / 3, wilson(2, 3), 1 / 2, wilson(1, 2))
    assert (excess["ci_low"], excess["ci_high"]) == pytest.approx((expected.lo, expected.hi), rel=1e-12)
    assert (excess["ci_method"], excess["unit"]) == ("newcombe", "fraction")
    assert (excess["n_items"], excess["n_clusters"], excess["n_missing"]) == (5, 5, 0)
    assert excess["signature"] == trained["signature"]


def test_a_group_is_split_where_it_has_both_kinds() -> None:
    table = rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0), FIVE)
    assert pick(table, "x_frac", "trained=false", "a")["n_items"] == 2
    assert pick(table, "x_excess_frac", "control=never-trained", "a")["estimate"] == 0.5
    assert table.filter(pl.col("group") == "b")["condition"].to_list() == [None]


def test_the_split_goes_behind_what_a_condition_already_says() -> None:
    table = rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0, condition="n=1"), FIVE, prefix="k=2")
    pooled = table.filter(pl.col("group").is_null())["condition"].to_list()
    assert pooled == [
        *("k=2;n=1", "k=2;n=1;exposures=0", "k=2;n=1;exposures=1", "k=2;n=1;exposures=4"),
        *("k=2;n=1;trained=false", "k=2;n=1;trained=true", "k=2;n=1;control=never-trained"),
    ]


@pytest.mark.parametrize("exposures", [[0, 0, 0], [1, 2, 3], [None, None, None], [None, 0, 0], [1, 1, None]])
def test_without_both_kinds_there_is_no_split(exposures) -> None:
    table = rows_of(values(1.0, 0.0, 1.0), items(*({"exposures": count} for count in exposures)))
    assert not table["condition"].fill_null("").str.contains("trained|control").any()
    assert set(table["metric"]) == {"x_frac"}


def test_items_of_which_nothing_is_known_are_on_neither_side() -> None:
    about = items({"exposures": 0}, {"exposures": 2}, {"exposures": None})
    table = rows_of(values(0.0, 1.0, 1.0), about)
    assert [pick(table, "x_frac", f"trained={side}")["n_items"] for side in ("false", "true")] == [1, 1]
    assert pick(table, "x_frac", None)["n_items"] == 3


def test_a_metric_that_does_not_declare_it_has_no_split() -> None:
    metric = replace(RATE, against_never=False)
    table = rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0), FIVE, metric=metric)
    assert not table["condition"].fill_null("").str.contains("trained").any()


def test_clusters_make_the_excess_of_clustered_intervals() -> None:
    trained = [{"exposures": 1, "doc_id": doc} for doc in "yyzz"]
    table = rows_of(values(0.0, 1.0, 1.0, 0.0, 0.0, 0.0), items({"exposures": 0}, {"exposures": 0}, *trained))
    excess = pick(table, "x_excess_frac", "control=never-trained")
    trained, never = pick(table, "x_frac", "trained=true"), pick(table, "x_frac", "trained=false")
    assert (trained["ci_method"], trained["n_clusters"]) == ("pseudo-document-few", 2)
    below = np.hypot(trained["estimate"] - trained["ci_low"], never["ci_high"] - never["estimate"])
    assert excess["ci_low"] == pytest.approx(excess["estimate"] - below, rel=1e-12)
    assert excess["ci_method"] == "square-and-add (pseudo-document-few, wilson)"
    assert excess["n_clusters"] == 4


def test_a_side_without_a_value_leaves_the_excess_undefined() -> None:
    table = rows_of(values(None, None, 1.0, 1.0, 0.0), FIVE)
    excess = pick(table, "x_excess_frac", "control=never-trained")
    assert (excess["estimate"], excess["ci_low"], excess["ci_method"]) == (None, None, None)
    assert (excess["n_items"], excess["n_missing"]) == (3, 2)


def test_a_side_without_an_interval_leaves_the_excess_without_one() -> None:
    about = FIVE.with_columns(doc_id=pl.Series(["x", "x", "a", "b", "c"]))
    excess = pick(rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0), about), "x_excess_frac", "control=never-trained")
    assert excess["estimate"] == pytest.approx(2 / 3 - 1 / 2)
    assert (excess["ci_low"], excess["ci_method"]) == (None, "none:few-clusters")


# Control


def test_the_excess_over_a_control_is_paired_by_item() -> None:
    now, control = values(0.0, 1.0, 1.0, 1.0, 0.0), values(1.0, 1.0, 0.0, 0.0, 0.0)
    # In another order: pairs go by item.
    table = rows_of(now, FIVE, control=control.reverse())
    excess = pick(table, "x_excess_frac", "control=twin")
    assert excess["estimate"] == pytest.approx(3 / 5 - 2 / 5)
    # both: i01; first only: i02, i03; second only: i00; neither: i04.
    expected = newcombe_paired(1, 2, 1, 1)
    assert (excess["ci_low"], excess["ci_high"]) == (expected.lo, expected.hi)
    assert (excess["ci_method"], excess["n_items"]) == ("newcombe-paired", 5)
    assert excess["signature"].endswith("|control:twin@step9:key")
    assert pick(table, "x_excess_frac", "control=twin", "b")["estimate"] == 0.5


def test_half_a_pair_counts_as_missing() -> None:
    now, control = values(0.0, 1.0, None, 1.0, 0.0), values(None, 0.0, 1.0, 0.0, 0.0).head(4)
    excess = pick(rows_of(now, FIVE, control=control), "x_excess_frac", "control=twin")
    # i01 and i03 are whole: i00 and i04 lack the control, i02 the model.
    assert (excess["estimate"], excess["n_items"], excess["n_missing"]) == (1.0, 2, 3)


def test_pairs_in_documents_have_the_bound_by_documents() -> None:
    about = FIVE.with_columns(doc_id=pl.Series(["x", "x", "y", "y", "z"]))
    control = values(1.0, 1.0, 0.0, 0.0, 0.0)
    excess = pick(
        rows_of(values(0.0, 1.0, 1.0, 1.0, 0.0), about, control=control), "x_excess_frac", "control=twin"
    )
    assert (excess["ci_method"], excess["n_clusters"]) == ("pseudo-document-few-paired", 3)
    # Documents differ by -1/2, 1 and 0: three say little.
    assert -1 <= excess["ci_low"] < -0.3 < 0.6 < excess["ci_high"] <= 1


def test_a_control_goes_into_its_own_rows_alone() -> None:
    now = values(0.0, 1.0, 1.0, 1.0, 0.0)
    alone, beside = rows_of(now, FIVE), rows_of(now, FIVE, control=values(1.0, 1.0, 0.0, 0.0, 0.0))
    assert_frame_equal(beside.filter(~pl.col("condition").fill_null("").str.contains("twin")), alone)


def test_a_series_is_compared_window_by_window() -> None:
    g = np.random.default_rng(0)
    n = 200

    def series(shift: float) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "item_id": ["i00"] * n,
                "condition": pl.Series([None] * n, dtype=pl.String),
                "value": (g.random(n) < 0.3 + shift).astype(float),
                "position": list(range(n)),
                "overlap": [5] * n,
                "weight": [1.0] * n,
            }
        )

    now, control = series(0.4), series(0.0)
    excess = pick(rows_of(now, items({}), control=control.reverse()), "x_excess_frac", "control=twin")
    difference = (now["value"] - control["value"]).to_numpy()
    assert excess["estimate"] == pytest.approx(difference.mean(), rel=1e-12)
    assert excess["n_items"] == n
    assert excess["ci_low"] < excess["estimate"] < excess["ci_high"]
    # A fall is no less than 0 only because the metric is a fraction.
    fall = pick(rows_of(control, items({}), control=now), "x_excess_frac", "control=twin")
    assert fall["ci_low"] < fall["ci_high"] < 0


# What probes declare


@pytest.mark.parametrize(
    ("probe", "names"),
    [
        ("recall", {"exact_excess_frac"}),
        ("recognition", set()),
        (
            "extraction",
            {"rate_excess_frac", "max_rate_excess_frac", "greedy_rate_excess_frac", "coverage_excess_frac"},
        ),
    ],
)
def test_the_excess_is_declared_with_unit_and_direction(probe, names) -> None:
    metrics = {metric.name: metric for metric in find(probe).all_metrics}
    assert names == {name for name in metrics if name.endswith("_excess_frac")}
    for name in names:
        assert (metrics[name].unit, metrics[name].summary) == ("fraction", "difference")
        assert metrics[name].more_is_memorized
        assert not metrics[name].against_never
        assert find(probe).metric(name) == metrics[name]
