"""Stability from outcomes of items to tables and summary: check 9, what is refused, what is said."""

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import History, Scores
from memprobe.probes.stability import PROBE, Settings, estimate, problems
from memprobe.probes.stability.tables import STABILITY, STABILITY_GAPS, STABILITY_MEASURES
from memprobe.stats.intervals import wilson

EXACT = 1e-9
STEPS = (1, 2, 3, 4, 5)
# Methods section 22, check 9: set, task_end_step, scores; set 2 and the begin of set 1 are not in it.
CHECK_9 = {
    "first": (1, (0.9, 0.4, 0.7, 0.6, 0.65)),
    "second": (3, (0.0, 0.0, 0.8, 0.5, 0.75)),
    "third": (5, (0.0, 0.0, 0.0, 0.0, 0.95)),
}
N = 20


def history(sets=CHECK_9, *, steps=STEPS, missing=(), doc=None, edit=None, outcome="exact") -> History:
    """N items per set, of which as many succeed at each step as its score says."""
    items, rows = [], []
    for name, (end, scores) in sets.items():
        for number in range(N):
            item = {"item_id": f"{name}-{number:02d}", "group": name, "task_end_step": end}
            items.append(item | {"doc_id": doc(name, number) if doc else None})
            for step, score in zip(steps, scores, strict=True):
                value = float(number < round(score * N))
                rows.append({"item_id": item["item_id"], "step": step, outcome: value})
    if edit:
        edit(items, rows)
    schema = {"item_id": pl.String, "group": pl.String, "task_end_step": pl.Int64, "doc_id": pl.String}
    return History(
        rows=pl.DataFrame(rows, schema={"item_id": pl.String, "step": pl.Int64, outcome: pl.Float64}),
        steps=steps,
        missing=missing,
        items=pl.DataFrame(items, schema=schema),
        draws=lambda what: np.random.default_rng(len(what)),
    )


def pooled(told) -> dict[str, float | None]:
    rows = told.estimates.filter(pl.col("group").is_null())
    return {
        (name if condition is None else f"{name};{condition}"): value
        for name, condition, value in rows.select("metric", "condition", "estimate").rows()
    }


def test_check_9_through_the_probe() -> None:
    found = pooled(estimate(history(), Settings(windows=(2, 10))))
    expected = {"min_acc": 0.45, "wc_acc": 0.95 / 3 + 0.3, "acc": 2.35 / 3, "bwt": -0.15}
    for name, value in (expected | {"forgetting_chaudhry": 0.15}).items():
        assert found[name] == pytest.approx(value, abs=EXACT)
    assert found["wf;window=10"] is None
    assert found["fwt"] is None
    # Switch at 1: 0.9 to 0.4; at 3: 0.7 to 0.6 and 0.8 to 0.5.
    assert found["depth_of_gap"] == pytest.approx((0.5 + 0.1 + 0.3) / 3, abs=EXACT)
    assert found["recovery_steps"] is None


def test_the_windows_of_a_set_begin_where_the_task_before_ended() -> None:
    told = estimate(history(), Settings(windows=(2,)))
    rows = told.tables["stability_measures"].filter(metric="wf", window=2)
    assert dict(rows.select("eval_set", "estimate").rows()) == pytest.approx(
        {None: (0.5 + 0.3 + 0.0) / 3, "first": 0.5, "second": 0.3, "third": 0.0}, abs=EXACT
    )


def test_tables_keep_what_their_schemas_promise() -> None:
    told = estimate(history(), Settings())
    for schema in (STABILITY, STABILITY_MEASURES, STABILITY_GAPS):
        schema.conform(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))
    assert told.tables["stability"].height == 15
    assert told.tables["stability_gaps"].select("switch_step", "eval_set", "trough_step").rows() == [
        (1, "first", 2),
        (3, "first", 4),
        (3, "second", 4),
    ]
    assert set(told.estimates["metric"]) == {metric.name for metric in PROBE.metrics}
    assert set(told.estimates["unit"]) == {"fraction", "steps"}


def test_scores_have_wilsons_interval_where_items_stand_alone() -> None:
    row = estimate(history(), Settings()).tables["stability"].row(1, named=True)
    assert (row["eval_set"], row["step"], row["score"], row["ci_method"]) == ("first", 2, 0.4, "wilson")
    assert (row["lo"], row["hi"]) == (wilson(8, 20).lo, wilson(8, 20).hi)


def test_items_of_one_document_are_drawn_together() -> None:
    # Ten documents of two items that agree: half as many that can differ.
    told = estimate(history(doc=lambda name, number: f"{name}{number // 2}"), Settings())
    alone = estimate(history(), Settings())
    assert set(told.tables["stability"]["n_clusters"]) == {10}
    widths = [
        each.estimates.filter((pl.col("metric") == "acc") & pl.col("group").is_null())
        .select(pl.col("ci_high") - pl.col("ci_low"))
        .item()
        for each in (told, alone)
    ]
    assert widths[0] > 1.2 * widths[1]
    methods = set(told.tables["stability"].filter(pl.col("score").is_between(0.01, 0.99))["ci_method"])
    assert methods == {"pseudo-document"}


def test_scores_of_documents_have_the_bound_by_documents() -> None:
    told = estimate(history(doc=lambda name, number: f"{name}{number // 2}"), Settings())
    row = told.tables["stability"].filter(eval_set="third", step=1).row(0, named=True)
    # No hit in 10 documents: 1 - 0.025^(1/10).
    assert (row["score"], row["ci_method"]) == (0, "pseudo-document")
    assert row["hi"] == pytest.approx(1 - 0.025 ** (1 / 10), abs=1e-6)


def test_a_set_of_one_document_leaves_all_measures_without_interval() -> None:
    told = estimate(
        history(doc=lambda name, number: "d" if name == "second" else f"{name}{number}"), Settings()
    )
    assert "group second has a single document, so there is no interval" in told.warnings
    assert told.estimates["estimate"].null_count() < told.estimates.height
    assert told.estimates["ci_low"].null_count() == told.estimates.height
    assert told.tables["stability"].filter(eval_set="second", step=4)["ci_method"].to_list() == [None]


def test_transfer_is_over_an_untrained_checkpoint() -> None:
    sets = {
        "a": (10, (0.0, 0.5, 0.4)),
        "b": (20, (0.1, 0.3, 0.9)),
    }
    found = pooled(estimate(history(sets, steps=(0, 10, 20)), Settings(windows=())))
    assert found["fwt"] == pytest.approx(0.3 - 0.1, abs=EXACT)
    # Where the first task ended at step 0, that checkpoint is trained on it.
    before = {"a": (0, (0.6, 0.5, 0.4)), "b": (20, (0.1, 0.3, 0.9))}
    told = estimate(history(before, steps=(0, 10, 20)), Settings(windows=()))
    assert pooled(told)["fwt"] is None
    assert any(
        "fwt: the first checkpoint, at step 0, is not an untrained model" in text for text in told.warnings
    )
    assert pooled(told)["bwt"] == pytest.approx(-0.2, abs=EXACT)


def test_a_set_that_is_back_says_after_how_many_updates() -> None:
    sets = {"a": (10, (0.0, 0.8, 0.2, 0.8, 0.8)), "b": (40, (0.0, 0.0, 0.5, 0.5, 0.9))}
    told = estimate(history(sets, steps=(0, 10, 20, 30, 40)), Settings(windows=()))
    gap = told.tables["stability_gaps"].row(0, named=True)
    # The switch is at 10, and 0.8 is back at 30.
    assert (gap["recovery_steps"], gap["until_step"]) == (20, 40)
    assert pooled(told)["recovery_steps"] == 20


def test_a_median_of_times_is_none_where_half_of_the_sets_are_not_back() -> None:
    # Tasks end at 1, 3, 5 and 7. After each switch `a` is back two updates later; `b` and `c` never are.
    sets = {
        "a": (1, (0.0, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2, 0.8)),
        "b": (3, (0.0, 0.0, 0.0, 0.8, 0.6, 0.7, 0.5, 0.6)),
        "c": (5, (0.0, 0.0, 0.0, 0.0, 0.0, 0.8, 0.6, 0.7)),
        "d": (7, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8)),
    }
    told = estimate(history(sets, steps=tuple(range(8))), Settings(windows=()))
    assert told.tables["stability_gaps"]["recovery_steps"].to_list() == [2, 2, None, 2, None, None]
    assert pooled(told)["recovery_steps"] is None
    assert any("half of the sets or more are not back" in text for text in told.warnings)


def test_no_interval_of_a_score_reaches_above_1() -> None:
    # 19 of 20: quantiles of the draws reach down to 0.85, and mirrored up to 1.05.
    told = estimate(history(), Settings())
    row = told.estimates.filter(metric="acc", group="third").row(0, named=True)
    assert (row["estimate"], row["ci_high"]) == (0.95, 1.0)


def test_noise_that_lowers_a_minimum_is_measured_and_warned_of() -> None:
    rng = np.random.default_rng(0)

    def shuffled(items, rows):
        for row in rows:
            row["exact"] = float(rng.random() < 0.6)

    steps = tuple(range(1, 13))
    sets = {"a": (2, (0.6,) * 12), "b": (12, (0.6,) * 12)}
    told = estimate(history(sets, steps=steps, edit=shuffled), Settings(windows=()))
    row = told.tables["stability_measures"].filter(metric="min_acc", eval_set="a").row(0, named=True)
    assert row["bias"] < -0.02
    # No resampling shows how far it is off: no interval.
    assert (row["lo"], row["hi"], row["ci_method"]) == (None, None, "none:biased")
    assert row["reason"].startswith("noise of the items biases it")
    assert any(
        text.startswith("noise of the items biases") and "min_acc by -0." in text for text in told.warnings
    )


def test_the_order_of_items_changes_nothing() -> None:
    def backwards(items, rows):
        items.reverse()
        rows.reverse()

    one, other = estimate(history(), Settings()), estimate(history(edit=backwards), Settings())
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name])
    assert one.estimates.equals(other.estimates)


def test_an_item_without_an_outcome_somewhere_is_left_out_and_counted() -> None:
    def gap(items, rows):
        rows[2]["exact"] = None

    told = estimate(history(edit=gap), Settings())
    assert told.tables["stability"].filter(eval_set="first")["n_items"].unique().to_list() == [N - 1]
    rows = told.estimates.filter(metric="acc")
    assert dict(rows.select("group", "n_missing").rows()) == {None: 1, "first": 1, "second": 0, "third": 0}
    assert any("1 item left out, without a finite outcome" in text for text in told.warnings)


def test_an_item_that_was_impossible_somewhere_is_left_out_and_counted() -> None:
    def masked(items, rows):
        rows[2]["logprob_mean_nats"] = -np.inf

    told = estimate(history(edit=masked, outcome="logprob_mean_nats"), Settings(outcome="logprob_mean_nats"))
    rows = told.estimates.filter(metric="acc")
    assert rows["estimate"].is_finite().all()
    assert dict(rows.select("group", "n_missing").rows()) == {None: 1, "first": 1, "second": 0, "third": 0}
    assert any("1 item left out, without a finite outcome" in text for text in told.warnings)


def test_a_lowest_score_far_above_all_draws_of_it_has_no_interval_and_says_why() -> None:
    # At each checkpoint another item fails: the lowest score is 1 - 1/N, and in a draw of items with one of
    # them three times 1 - 3/N, whose mirror image lies above 1.
    steps = tuple(range(1, N + 2))
    told = estimate(
        history({"first": (1, (1.0,) * len(steps)), "second": (N + 1, (1.0,) * len(steps))}, steps=steps,
                edit=lambda _, rows: [row.update(exact=0.0) for row in rows
                                      if row["step"] == int(row["item_id"][-2:]) + 2]),
        Settings(windows=(2,)),
    )  # fmt: skip
    for row in told.estimates.filter(metric="min_acc").iter_rows(named=True):
        assert row["estimate"] == pytest.approx(1 - 1 / N)
        assert (row["ci_low"], row["ci_high"]) == (None, None)
        assert row["ci_method"] in ("none:biased", None)


def test_an_end_of_a_task_that_no_checkpoint_meets_is_said() -> None:
    # The checkpoints end at 5, 2 steps before the third task does.
    late = {name: (end + 2 * (name == "third"), scores) for name, (end, scores) in CHECK_9.items()}
    text = "the last one before stands for it: third (step 5 of 7)"
    assert any(text in each for each in estimate(history(late), Settings()).warnings)
    assert not any("stands for it" in each for each in estimate(history(), Settings()).warnings)


def test_a_checkpoint_that_failed_is_named() -> None:
    told = estimate(history(missing=("m@step9",)), Settings())
    assert "left out, as they are not scored: m@step9" in told.warnings


def test_checkpoints_behind_the_last_task_and_uneven_spacing_are_said() -> None:
    sets = {"a": (10, (0.1, 0.8, 0.2, 0.8)), "b": (30, (0.0, 0.0, 0.5, 0.5))}
    told = estimate(history(sets, steps=(0, 10, 30, 35)), Settings(windows=(2,)))
    assert "1 checkpoint behind the end of the last task in no measure" in told.warnings
    assert any("checkpoints are 10 to 20 updates apart" in text for text in told.warnings)
    row = told.tables["stability_measures"].row(0, named=True)
    assert (row["spacing_min_steps"], row["spacing_max_steps"]) == (10, 20)


def test_items_that_belong_to_no_task_are_left_alone() -> None:
    def more(items, rows):
        items.append({"item_id": "x", "group": None, "task_end_step": None, "doc_id": None})
        rows.append({"item_id": "x", "step": 1, "exact": 1.0})

    assert pooled(estimate(history(edit=more), Settings())) == pooled(estimate(history(), Settings()))


def one_group_of_two(items, rows):
    items[0]["task_end_step"] = 4


def no_group(items, rows):
    items[0]["group"] = items[1]["group"] = None


@pytest.mark.parametrize(
    ("sets", "steps", "edit", "message"),
    [
        (CHECK_9, STEPS, one_group_of_two, r"group first has 2 task_end_steps \(1, 4\)"),
        (CHECK_9, STEPS, no_group, "2 items with a task_end_step and no group"),
        (
            {"a": (3, (0,) * 5), "b": (3, (0,) * 5)},
            STEPS,
            None,
            "groups a and b have one task_end_step, 3",
        ),
        (
            {"a": (3, (0,) * 2), "b": (9, (0,) * 2)},
            (3, 10),
            None,
            "task of group b: none lies above step 3 and up to its task_end_step 9",
        ),
        ({"a": (3, (0,))}, (0,), None, "none lies above step 0 and up to its task_end_step 3"),
    ],
)
def test_what_cannot_be_measured_is_said_and_no_number_is_made(sets, steps, edit, message) -> None:
    past = history(sets, steps=steps, edit=edit)
    found = problems(past.steps, past.items, Settings())
    assert pl.Series(found).str.contains(message).any()
    told = estimate(past, Settings())
    assert (told.tables, told.estimates.height) == ({}, 0)
    assert pl.Series(told.warnings).str.contains(message).any()


def test_a_set_without_a_complete_item_stops_all() -> None:
    def hollow(items, rows):
        for row in rows:
            if row["item_id"].startswith("second") and row["step"] == 4:
                row["exact"] = None

    told = estimate(history(edit=hollow), Settings())
    assert told.tables == {}
    assert "no item of group second has a finite outcome at every checkpoint" in told.warnings


def test_other_outcomes_have_their_unit() -> None:
    told = estimate(history(outcome="logprob_mean_nats"), Settings(outcome="logprob_mean_nats"))
    assert set(told.estimates["unit"]) == {"nats per token", "steps"}
    assert set(told.tables["stability"]["ci_method"].drop_nulls()) == {"expanded-bootstrap"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows": (1, 10)}, "windows has 1, not 2 or more"),
        ({"windows": (10, 10)}, "windows has one width twice"),
        ({"draws": 99}, "draws is 99, not 100 or more"),
        ({"suffix_tokens": 0}, "suffix_tokens is 0, not 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_outcomes_are_of_the_suffix_and_null_where_its_first_token_has_no_condition(
    spans_of, items_of
) -> None:
    span = {"item_id": "a", "start": 0, "score_from": 4, "stop": 8, "detail": "sums"}
    sums = {"n_scored": 4, "n_hits": 3, "logprob_sum_nats": -6.0, "rank_sum": 10}
    rows = spans_of(span | sums, span | sums | {"item_id": "b", "score_from": 0, "stop": 5})
    table = PROBE.measure(Scores(rows, items_of({"item_id": "a"}, {"item_id": "b"})), Settings())
    assert table.row(0, named=True) == {
        "item_id": "a", "exact": 0.0, "hit_frac": 0.75, "logprob_mean_nats": -1.5,
    }  # fmt: skip
    assert table.row(1)[1:] == (None, None, None)


def test_window_forgetting_of_a_set_that_only_rises_is_negative() -> None:
    rises = {"first": (1, (0.1, 0.2, 0.4, 0.6, 0.9)), "second": (5, (0.0, 0.1, 0.2, 0.3, 0.5))}
    told = estimate(history(rises), Settings(windows=(2,)))
    each = told.tables["stability_measures"].filter(metric="wf", window=2)
    # Minus the smallest rise of each: 0.2 - 0.1, and 0.1 - 0; not cut off at 0, and the mean of both.
    assert dict(each.select("eval_set", "estimate").rows()) == pytest.approx(
        {None: -0.1, "first": -0.1, "second": -0.1}, abs=EXACT
    )
    # A set that rises offsets one that falls by as much: minus 0.1 and 0.3.
    both = {"first": (1, (0.1, 0.2, 0.4, 0.6, 0.9)), "second": (5, (0.9, 0.9, 0.6, 0.6, 0.6))}
    assert pooled(estimate(history(both), Settings(windows=(2,))))["wf;window=2"] == pytest.approx(
        0.1, abs=EXACT
    )
    falls = {"first": (1, (0.9, 0.6, 0.4, 0.2, 0.1)), "second": (5, (0.5, 0.3, 0.2, 0.1, 0.0))}
    assert pooled(estimate(history(falls), Settings(windows=(2,))))["wp;window=2"] == pytest.approx(
        -0.1, abs=EXACT
    )
