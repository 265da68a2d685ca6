"""Two runs made from one with known changes: every difference by hand, or item by item in the test.

Rungs: hand arithmetic, slow recomputation, invariances (order of rows, swapped sides), undefined cases;
the coverage of the intervals by simulation is slow.
"""

import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import memprobe
from memprobe.comparison.differences import of_metric
from memprobe.errors import InputError, RunsDifferError
from memprobe.probes.contract import Metric, not_of_items
from memprobe.stats.differences import newcombe_paired
from memprobe.stats.ranking import auc
from memprobe.tables.differences import DIFFERENCES
from memprobe.tables.store import RunStore
from tests.comparison.conftest import RECALL_ENTRY
from tests.manifests import said_of

IDS = tuple(f"i{place:02}" for place in range(12))
# Items 0 to 3 are exact under both, 4 under the base alone, 5 to 9 under the new run alone.
BASE = [*[True] * 4, True, *[False] * 5, False, False]
NEW = [*[True] * 4, False, *[True] * 5, False, False]
MARGINS = [0.5, -0.25, 1.0, 0.0, 0.75, -1.5, 2.0, 0.125, 0.25, -0.5, 0.375, 1.25]
# Sums and quotients of short decimals: float64 rounding alone.
ATOL = 1e-12


def one(frame: pl.DataFrame, **where) -> dict:
    """The one row under these keys; group, condition: none unless given."""
    keys = {"probe": "recall", "group": None, "condition": None} | where
    for name, value in keys.items():
        frame = frame.filter(pl.col(name).eq_missing(pl.lit(value, dtype=frame.schema[name])))
    (row,) = frame.to_dicts()
    return row


@pytest.fixture
def pair(make_run):
    return make_run("base", IDS, {10: BASE}), make_run("new", IDS, {10: NEW})


def test_a_rate_differs_by_the_items_that_changed(pair) -> None:
    found = memprobe.compare(*pair)
    row = one(found.differences, metric="exact_frac")
    # 5 of 12 exact became 9 of 12: a = 4 both, b = 1 base alone, c = 5 new alone, d = 2 neither.
    assert (row["base"], row["new"], row["difference"]) == pytest.approx((5 / 12, 9 / 12, 4 / 12), abs=ATOL)
    assert (row["n_base_only"], row["n_new_only"], row["n_items"], row["n_missing"]) == (1, 5, 12, 0)
    assert row["n_changed"] == 6
    # Exact McNemar: 2 (1 + 6) / 2^6.
    assert row["p_value"] == pytest.approx(14 / 64, abs=ATOL)
    interval = newcombe_paired(4, 5, 1, 2)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.lo, interval.hi), abs=ATOL)
    assert (row["ci_method"], row["outcome"], row["reason"]) == ("newcombe-paired", "unclear", None)
    assert (row["step"], row["step_base"], row["unit"]) == (10, 10, "fraction")


@pytest.mark.parametrize(
    ("apart", "n_changed", "outcome"),
    [(9e-6, 0, None), (1.1e-5, 12, "worse")],
)
def test_values_that_rounding_alone_tells_apart_are_the_same(apart, n_changed, outcome, make_run) -> None:
    # In another batch equal weights score all items a little higher: no interval could hold 0. A hair of
    # spread, so that resampling has something to find.
    moved = [each + apart * (1 + 1e-3 * place) for place, each in enumerate(MARGINS)]
    runs = [
        make_run(name, IDS, {10: BASE}, {10: values}) for name, values in (("base", MARGINS), ("new", moved))
    ]
    found = memprobe.compare(*runs, probes=["recognition"]).differences
    row = one(found, probe="recognition", metric="margin_nats")
    assert (row["n_changed"], row["outcome"]) == (n_changed, outcome)
    assert row["difference"] == pytest.approx(apart if n_changed else 0, rel=0.01)
    # The other score of the pair counts too: the foil's likelihood moved, the text's did not.
    assert one(found, probe="recognition", metric="auc")["n_changed"] == n_changed


def test_only_the_steps_that_are_asked_for_are_read(make_run) -> None:
    runs = [make_run(name, IDS, {0: BASE, 10: BASE, 20: NEW}) for name in ("base", "new")]
    told = []
    some = memprobe.compare(*runs, steps=[20], listener=lambda *each: told.append(each)).differences
    every = memprobe.compare(*runs).differences
    assert_frame_equal(some, every.filter(step=20))
    # Two probes at one checkpoint; the gain over the first checkpoint is there, too.
    assert told == [(0, 2), (1, 2)]
    assert one(some, probe="recognition", metric="gain_frac")["reason"] is None


def test_groups_and_exposures_are_differences_over_their_own_items(pair) -> None:
    found = memprobe.compare(*pair).differences
    both = list(zip(BASE, NEW, strict=True))
    for group, start in (("even", 0), ("odd", 1)):
        part = both[start::2]
        row = one(found, metric="exact_frac", group=group)
        assert row["difference"] == pytest.approx(np.mean([now - was for was, now in part]), abs=ATOL)
        assert row["n_items"] == 6
    for count in range(3):
        part = both[count::3]
        row = one(found, metric="exact_frac", condition=f"exposures={count}")
        assert row["difference"] == pytest.approx(np.mean([now - was for was, now in part]), abs=ATOL)


def test_the_excess_over_never_trained_items_is_the_difference_of_two_differences(pair) -> None:
    found = memprobe.compare(*pair).differences
    changes = [now - was for was, now in zip(BASE, NEW, strict=True)]
    never, trained = np.mean(changes[0::3]), np.mean(changes[1::3] + changes[2::3])
    row = one(found, metric="exact_excess_frac", condition="control=never-trained")
    assert row["difference"] == pytest.approx(trained - never, abs=ATOL)
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["n_items"] == 12
    assert row["base"] == pytest.approx(
        np.mean([BASE[place] for place in range(12) if place % 3]) - np.mean(BASE[0::3]), abs=ATOL
    )


def test_means_and_areas_are_of_the_same_items(make_run) -> None:
    shifted = [margin + change for margin, change in zip(MARGINS, np.linspace(-0.1, 0.9, 12), strict=True)]
    base = make_run("base", IDS, {10: BASE}, {10: MARGINS})
    new = make_run("new", IDS, {10: BASE}, {10: shifted})
    found = memprobe.compare(base, new).differences
    row = one(found, probe="recognition", metric="margin_nats")
    # The mean of the changes, -0.1 to 0.9 in equal steps, is 0.4, all of it within them.
    assert row["difference"] == pytest.approx(0.4, abs=ATOL)
    assert 0 < row["ci_low"] < 0.4 < row["ci_high"] < 0.9
    assert (row["ci_method"], row["outcome"], row["p_value"]) == ("bootstrap", "worse", None)
    area = one(found, probe="recognition", metric="auc")
    seen = np.full(12, -2.0)
    foils = [-(2.0 + np.array(each)) for each in (MARGINS, shifted)]
    assert area["base"] == pytest.approx(auc(seen, foils[0]), abs=ATOL)
    assert area["difference"] == pytest.approx(auc(seen, foils[1]) - auc(seen, foils[0]), abs=ATOL)
    assert area["ci_low"] <= area["difference"] <= area["ci_high"]


def test_a_gain_is_over_each_runs_own_first_checkpoint(make_run) -> None:
    same = [False] * 12
    flat, up = [-1.0] * 12, [1.0] * 12
    half = [1.0] * 6 + [-1.0] * 6
    base = make_run("base", IDS, {0: same, 10: same}, {0: half, 10: up})
    new = make_run("new", IDS, {0: same, 10: same}, {0: flat, 10: up})
    found = memprobe.compare(base, new).differences
    row = one(found.filter(step=10), probe="recognition", metric="gain_frac")
    # The base rose from 1/2 to 1, the new run from 0 to 1.
    assert (row["base"], row["new"], row["difference"]) == (0.5, 1.0, 0.5)
    assert found.filter(pl.col("metric") == "gain_frac", pl.col("step") == 0).is_empty()


def test_a_run_beside_itself_differs_in_nothing(make_run) -> None:
    run = make_run("base", IDS, {0: BASE, 10: NEW}, {0: MARGINS, 10: MARGINS[::-1]})
    found = memprobe.compare(run, run)
    assert found.differences["difference"].unique().to_list() == [0.0]
    assert found.worse.is_empty()
    assert found.notes == ()
    assert found.differences["p_value"].drop_nulls().unique().to_list() == [1.0]


def test_swapping_the_runs_swaps_the_signs(pair) -> None:
    there, back = (
        memprobe.compare(*runs, metrics=["exact_frac", "lcp_tokens"]).differences
        for runs in (pair, pair[::-1])
    )
    assert there["difference"].to_list() == pytest.approx([-each for each in back["difference"]], abs=ATOL)
    assert there["n_base_only"].to_list() == back["n_new_only"].to_list()
    rates = [frame.filter(metric="exact_frac") for frame in (there, back)]
    assert rates[0]["ci_low"].to_list() == pytest.approx([-each for each in rates[1]["ci_high"]], abs=ATOL)


def test_neither_the_order_of_rows_nor_what_else_is_compared_matters(pair, make_run) -> None:
    whole = memprobe.compare(*pair).differences
    table = pair[1].path / "tables" / "recall.parquet"
    RunStore(pair[1].path).write_table("recall", pl.read_parquet(table).reverse())
    assert_frame_equal(memprobe.compare(*pair).differences, whole)
    part = memprobe.compare(*pair, probes=["recall"], metrics=["lcp_tokens"]).differences
    assert_frame_equal(part, whole.filter(metric="lcp_tokens"))
    DIFFERENCES.check(whole)


def test_items_are_matched_by_id_and_content_and_the_others_listed(make_run) -> None:
    hashes = [f"hash of {item}" for item in IDS]
    hashes[5] = "another text"
    base = make_run("base", IDS, {10: BASE})
    new = make_run(
        "new", (*IDS[1:], "i99"), {10: [*NEW[1:], True]}, columns={"content_hash": [*hashes[1:], "h"]}
    )
    found = memprobe.compare(base, new)
    assert found.items.base_only == ("i00",)
    assert found.items.new_only == ("i99",)
    assert found.items.changed == ("i05",)
    assert found.notes == (
        "1 item in the base run alone: i00",
        "1 item in the new run alone: i99",
        "1 item with different content in the two runs: i05",
    )
    row = one(found.differences, metric="exact_frac")
    # Without items 0 and 5: b = 1 (item 4), c = 4 (items 6 to 9), of 10.
    assert (row["n_items"], row["n_base_only"], row["n_new_only"]) == (10, 1, 4)
    assert row["difference"] == pytest.approx(0.3, abs=ATOL)


def test_an_item_without_a_value_in_one_run_counts_for_neither(make_run) -> None:
    base = make_run("base", IDS, {10: [None, *BASE[1:]]})
    new = make_run("new", IDS, {10: [*NEW[:11], None]})
    row = one(memprobe.compare(base, new).differences, metric="exact_frac")
    assert (row["n_items"], row["n_missing"]) == (10, 2)
    # 4 of the 10 that are left were exact, then 8.
    assert (row["base"], row["new"]) == pytest.approx((0.4, 0.8), abs=ATOL)


def test_items_of_one_document_count_together_and_have_no_mcnemar(make_run) -> None:
    columns = {"doc_id": ["a"] * 4 + ["b"] * 4 + ["c"] * 4}
    runs = [make_run(name, IDS, {10: exact}, columns=columns) for name, exact in (("b", BASE), ("n", NEW))]
    row = one(memprobe.compare(*runs).differences, metric="exact_frac")
    assert (row["n_clusters"], row["ci_method"], row["p_value"]) == (3, "pseudo-document-few-paired", None)
    # Of the documents a, b, c: 0, (-1 + 3) / 4 and 2 / 4; three say little.
    assert row["ci_low"] < 0
    assert 0.5 < row["ci_high"] <= 1


def test_checkpoints_match_by_step_and_single_ones_whatever_their_steps(make_run) -> None:
    base = make_run("base", IDS, {0: BASE, 10: BASE, 20: BASE})
    new = make_run("new", IDS, {10: NEW, 20: BASE, 30: NEW})
    found = memprobe.compare(base, new)
    assert sorted(set(found.differences["step"])) == [10, 20]
    assert found.notes == ("main: step 0 in the base run alone", "main: step 30 in the new run alone")
    assert memprobe.compare(base, new, steps="15..25").differences["step"].unique().to_list() == [20]
    single = make_run("one", IDS, {700: BASE}, model="other")
    row = one(memprobe.compare(single, make_run("two", IDS, {3: NEW})).differences, metric="exact_frac")
    assert (row["model_base"], row["model_new"], row["step_base"], row["step"]) == ("other", "main", 700, 3)
    with pytest.raises(RunsDifferError, match="no checkpoint of the one run is in the other"):
        memprobe.compare(single, new)


def test_all_that_numbers_depend_on_and_that_differs_is_named_at_once(make_run, pair) -> None:
    entry = {"probe": "recall", "version": 1, "settings": {"align": "start", "suffix_tokens": 5}}
    other = make_run(
        "other",
        IDS,
        {10: NEW},
        bos="none",
        dtype="bfloat16",
        stages=[[entry]],
        checkpoints=[{"model": "main", "revision": "step10", "step": 10, "tokenizer_digest": "b" * 64}],
    )
    with pytest.raises(RunsDifferError) as caught:
        memprobe.compare(pair[0], other)
    told = [problem.what for problem in caught.value.problems]
    assert told == [
        "settings of recall differ: suffix_tokens is left out in the base run, 5 in the new one",
        "the BOS mode differs: default in the base run, none in the new one",
        "the dtype differs: float32 in the base run, bfloat16 in the new one",
        "the tokenizer differs: aaaaaaaaaaaa in the base run, bbbbbbbbbbbb in the new one (digests)",
    ]
    assert caught.value.exit_code == 3


def test_another_version_of_a_probe_is_refused(make_run, pair) -> None:
    entry = {"probe": "recall", "version": 99, "settings": {}}
    other = make_run("other", IDS, {10: NEW}, stages=[[entry]])
    with pytest.raises(
        RunsDifferError, match="version of recall differs: 1 in the base run, 99 in the new one"
    ):
        memprobe.compare(pair[0], other)


def test_what_changes_no_number_may_differ(make_run, pair) -> None:
    entry = {"probe": "recall", "version": 1, "settings": {"align": "start", "verify_items": 0}}
    other = make_run("other", IDS, {10: NEW}, stages=[[entry]])
    found = memprobe.compare(pair[0], other)
    assert found.notes == ("recognition is in the base run alone",)
    assert set(found.differences["probe"]) == {"recall"}


def test_probes_that_agree_can_be_compared_alone(make_run, pair) -> None:
    entry = {"probe": "recall", "version": 1, "settings": {"align": "start", "suffix_tokens": 5}}
    recognition = {"probe": "recognition", "version": 1, "settings": {}}
    other = make_run("other", IDS, {10: NEW}, stages=[[recognition], [entry]])
    with pytest.raises(RunsDifferError, match="name the probes that agree with -p"):
        memprobe.compare(pair[0], other)
    assert set(memprobe.compare(pair[0], other, probes=["recognition"]).differences["probe"]) == {
        "recognition"
    }


def test_entries_of_a_sweep_match_by_their_settings_whatever_stands_beside_them(make_run) -> None:
    def entry(prefix: int) -> dict:
        return {"probe": "recall", "version": 1, "settings": {"align": "start", "prefix_tokens": prefix}}

    base = make_run("base", IDS, {10: BASE}, stages=[[entry(8)]])
    new = make_run("new", IDS, {10: NEW}, stages=[[entry(4), entry(8)]])
    table = new.path / "tables" / "recall.parquet"
    rows = pl.read_parquet(table)
    worse = rows.with_columns(exact=pl.lit(value=False), entry=pl.lit("prefix_tokens=4"))
    both = pl.concat([worse, rows.with_columns(entry=pl.lit("prefix_tokens=8"))])
    RunStore(new.path).write_table("recall", both)
    found = memprobe.compare(base, new)
    row = one(found.differences, metric="exact_frac", condition="prefix_tokens=8")
    assert row["difference"] == pytest.approx(4 / 12, abs=ATOL)
    assert found.notes == ("1 of 2 settings of recall in the new run are in the base run",)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"probes": ["recal"]}, "did you mean `recall`"),
        ({"metrics": ["exact_fraq"]}, "did you mean `exact_frac`"),
        ({"steps": [11]}, "step 11 is not there"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(asked, told, pair) -> None:
    with pytest.raises(InputError, match=told):
        memprobe.compare(*pair, **asked)


def test_all_wrong_names_are_named_at_once(pair) -> None:
    with pytest.raises(InputError) as caught:
        memprobe.compare(*pair, probes=["recal"], metrics=["exact_fraq", "auk"])
    assert [each.what.split("`")[1] for each in caught.value.problems] == ["recal", "exact_fraq", "auk"]


def test_a_probe_of_one_run_alone_is_a_difference_of_the_runs(make_run, pair) -> None:
    other = make_run("other", IDS, {10: NEW}, stages=[[RECALL_ENTRY]])
    with pytest.raises(RunsDifferError, match="no probe `recognition` in both runs"):
        memprobe.compare(pair[0], other, probes=["recognition"])


def test_items_that_only_a_second_model_holds_are_compared(make_run) -> None:
    """The first model's context was too short for an item: it is compared for the second one."""
    runs = []
    for name in ("base", "new"):
        run = make_run(name, IDS, {10: BASE}, model="long")
        more = make_run(f"{name} more", IDS[1:], {10: NEW[1:]}, model="a short one")
        for table in ("items", "recall", "recognition"):
            both = [each.path / "tables" / f"{table}.parquet" for each in (run, more)]
            RunStore(run.path).write_table(table, pl.concat(pl.read_parquet(file) for file in both))
        about = run.manifest
        about["checkpoints"] = [*more.manifest["checkpoints"], *about["checkpoints"]]
        (run.path / "manifest.json").write_text(json.dumps(about))
        runs.append(run)
    found = memprobe.compare(*runs)
    assert found.items.both == IDS
    counts = {
        model: one(found.differences, metric="exact_frac", model_new=model)["n_items"]
        for model in ("a short one", "long")
    }
    assert counts == {"a short one": 11, "long": 12}


def test_runs_without_a_common_item_are_not_compared(make_run, pair) -> None:
    other = make_run("other", [f"x{item}" for item in IDS], {10: NEW})
    with pytest.raises(RunsDifferError, match="no item of the one run is in the other"):
        memprobe.compare(pair[0], other)


def test_what_is_told_of_a_sequence_is_listed_with_the_reason(make_run) -> None:
    told = {
        **{"model": "main", "probe": "forgetting", "metric": "unforgettable_frac", "estimate": 0.5},
        **{
            "ci_level": 0.95,
            "n_items": 12,
            "n_clusters": 12,
            "n_missing": 0,
            "unit": "fraction",
            "version": 1,
        },
    }
    entry = {"probe": "forgetting", "version": 1, "settings": {"align": "start", "state": "exact"}}
    from memprobe.pipeline.signature import signature
    from memprobe.pipeline.suite import Entry
    from memprobe.probes.discovery import find

    probe = find("forgetting")
    told["signature"] = signature(Entry(probe, probe.settings()), f"bos:default|float32|tok:{'a' * 12}")
    runs = [
        make_run(name, IDS, {0: BASE, 10: exact}, summary=[told], stages=[[entry]])
        for name, exact in (("b", BASE), ("n", NEW))
    ]
    (row,) = memprobe.compare(*runs).differences.to_dicts()
    assert (row["metric"], row["step"], row["difference"]) == ("unforgettable_frac", None, None)
    assert row["reason"] == "it is estimated from the whole sequence and has no item values"


def about(n: int) -> pl.DataFrame:
    keys = pl.DataFrame({"item_id": [f"i{place:03}" for place in range(n)]})
    place = pl.int_range(n, dtype=pl.UInt32)
    return keys.with_columns(
        group=pl.lit(None, pl.String),
        exposures=pl.lit(None, pl.Int64),
        item=place,
        cluster=place,
        trained=pl.lit(None, pl.Boolean),
    )


def values(**columns) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    return pl.DataFrame(
        {
            "item_id": [f"i{place:03}" for place in range(n)],
            "condition": pl.Series([None] * n, dtype=pl.String),
        }
        | columns
    )


def metric(summary: str, unit: str = "tokens", **more) -> Metric:
    return Metric("m", unit, "more", summary, not_of_items, **more)


def test_medians_are_of_both_sides_and_one_not_reached_is_said() -> None:
    base, new = values(value=[1.0, 2, 3, 9, 10]), values(value=[2.0, 4, 5, 9, 12])
    (row,) = of_metric(metric("median"), base, new, about(5), None, ("0",))
    assert (row["base"], row["new"], row["difference"]) == (3.0, 5.0, 2.0)
    known, unknown = [1.0] * 5, [1.0, 1.0, 0.0, 0.0, 0.0]
    reached, open_ended = (values(value=[1.0, 2, 3, 9, 10], other=each) for each in (known, unknown))
    (row,) = of_metric(metric("km_median"), reached, reached, about(5), None, ("0",))
    assert (row["base"], row["difference"]) == (3.0, 0.0)
    (row,) = of_metric(metric("km_median"), reached, open_ended, about(5), None, ("0",))
    assert (row["difference"], row["ci_low"], row["base"], row["new"]) == (None, None, 3.0, None)
    assert row["reason"] == "the median is not reached in the new run"


def test_less_of_a_metric_that_counts_down_is_worse() -> None:
    base, new = (values(value=list(np.arange(20.0) + shift)) for shift in (5, 0))
    new = new.with_columns(value=pl.col("value") + pl.int_range(20) % 2)
    up, down = metric("mean"), metric("mean", more_is_memorized=False)
    assert [
        row["outcome"] for each in (up, down) for row in of_metric(each, base, new, about(20), None, ("0",))
    ] == [
        "better",
        "worse",
    ]
    (row,) = of_metric(Metric("m", "tokens", "", "mean", not_of_items), base, new, about(20), None, ("0",))
    assert row["outcome"] is None


def test_a_difference_of_rates_is_compared_as_one_and_may_lie_below_nought() -> None:
    # Base: (0 - 1, 0 - 1, 1/2 - 1/2) and again; new: 1 - 0 in the first of each three.
    base = values(value=[0.0, 0.0, 0.5] * 2, other=[1.0, 1.0, 0.5] * 2)
    new = values(value=[1.0, 0.0, 0.5] * 2, other=[0.0, 1.0, 0.5] * 2)
    (row,) = of_metric(metric("difference", "fraction"), base, new, about(6), None, ("0",))
    assert (row["base"], row["new"], row["difference"]) == pytest.approx((-2 / 3, 0, 2 / 3), abs=ATOL)
    assert row["ci_low"] <= 2 / 3 <= row["ci_high"] <= 2
    (row,) = of_metric(metric("difference", "fraction"), base, base, about(6), None, ("0",))
    # 2 (1 - 0.025^(1/6)) of differences between -2 and 2, none of which is anything but 0.
    assert (row["difference"], row["ci_high"]) == pytest.approx((0, 2 * (1 - 0.025 ** (1 / 6))), abs=1e-6)


def test_a_metric_that_says_nothing_of_memory_is_neither_better_nor_worse() -> None:
    base, new = values(value=list(np.arange(20.0))), values(value=list(np.arange(20.0) * 3 + 5))
    directed, undirected = (metric("mean", more_is_memorized=each) for each in (True, None))
    outcomes = [
        row["outcome"]
        for each in (directed, undirected)
        for row in of_metric(each, base, new, about(20), None, ("0",))
    ]
    assert outcomes == ["worse", None]


def test_values_in_a_series_are_compared_place_by_place() -> None:
    n, rng = 40, np.random.default_rng(0)
    was, now = rng.random(n), rng.random(n)
    frames = [
        pl.DataFrame(
            {
                "item_id": ["i000"] * n,
                "condition": pl.Series([None] * n, dtype=pl.String),
                "value": each,
                "position": np.arange(n),
                "overlap": [2] * n,
                "weight": np.arange(n) % 2 + 1.0,
            }
        )
        for each in (was, now)
    ]
    (row,) = of_metric(metric("mean", "fraction"), *frames, about(1), None, ("0",))
    weights = np.arange(n) % 2 + 1.0
    assert row["difference"] == pytest.approx(np.average(now - was, weights=weights), abs=ATOL)
    assert row["ci_method"] == "pseudo-block"


def test_an_infinite_value_has_no_mean() -> None:
    base, new = values(value=[1.0, 2, np.inf]), values(value=[1.0, 2, 3])
    (row,) = of_metric(metric("mean"), base, new, about(3), None, ("0",))
    assert row["difference"] is None
    assert "infinite" in row["reason"]


def test_a_checkpoint_that_failed_is_not_compared(make_run, pair) -> None:
    file = pair[1].path / "manifest.json"
    failed = {"failures": [{"model": "main", "revision": "step10"}]}
    file.write_text(json.dumps(said_of(**json.loads(file.read_text()) | failed)))
    with pytest.raises(RunsDifferError, match="no checkpoint"):
        memprobe.compare(*pair)


def test_what_failures_left_of_two_sequences_is_not_matched_as_single_checkpoints(make_run) -> None:
    failed = [[{"model": "main", "revision": f"step{step}", "step": step}] for step in (10, 0)]
    runs = [
        make_run(name, IDS, {0: BASE, 10: NEW}, failures=each)
        for name, each in zip(("base", "new"), failed, strict=True)
    ]
    with pytest.raises(RunsDifferError, match="no checkpoint of the one run is in the other"):
        memprobe.compare(*runs)


def test_a_model_that_failed_in_the_other_run_is_not_matched_with_another_model(make_run) -> None:
    both = [
        {"model": model, "revision": "step10", "step": 10, "tokenizer_digest": "a" * 64}
        for model in ("large", "small")
    ]
    failed = [{"model": "small", "revision": "step10", "step": 10}]
    base = make_run("base", IDS, {10: BASE}, model="large", checkpoints=both, failures=failed)
    small = make_run("new", IDS, {10: NEW}, model="small")
    with pytest.raises(RunsDifferError):
        memprobe.compare(base, small)
    with pytest.raises(RunsDifferError):
        memprobe.compare(small, base)


# Percentile and Newcombe intervals of 60 pairs; 3 standard errors of 500 simulations are 0.03.
COVERAGE_LO, COVERAGE_HI = 0.92, 0.985


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rate", "mean", "clusters"])
def test_intervals_of_paired_runs_hold_the_truth_as_often_as_they_say(kind) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for draw in range(500):
        n = 60 if kind != "clusters" else 120
        keys = about(n)
        if kind == "rate":
            # P(1, 0) = 0.05 and P(0, 1) = 0.2: the truth is 0.15.
            u = rng.random(n)
            was, now, truth = (u < 0.35) * 1.0, ((u >= 0.05) & (u < 0.55)) * 1.0, 0.15
        elif kind == "mean":
            shared = rng.normal(size=n)
            was, now, truth = shared + rng.normal(size=n), shared + 0.3 + rng.normal(size=n), 0.3
        else:
            # 40 documents of 3 items, whose change the items share.
            keys = keys.with_columns(cluster=pl.int_range(n, dtype=pl.UInt32) // 3)
            change = np.repeat(rng.normal(0.3, 1, size=40), 3)
            was = rng.normal(size=n)
            now, truth = was + change, 0.3
        (row,) = of_metric(
            metric("rate" if kind == "rate" else "mean", "fraction" if kind == "rate" else "nats"),
            values(value=was),
            values(value=now),
            keys,
            None,
            (str(draw),),
        )
        held += row["ci_low"] <= truth <= row["ci_high"]
    assert COVERAGE_LO < held / 500 < COVERAGE_HI


def test_ids_are_listed_in_order(make_run) -> None:
    base = make_run("base", IDS, {10: BASE})
    new = make_run("new", IDS[:3], {10: NEW[:3]})
    found = memprobe.compare(base, new)
    assert all(one <= other for one, other in pairwise(found.items.base_only))
    assert found.notes == ("9 items in the base run alone: i03, i04, i05, i06, i07 and 4 more",)
