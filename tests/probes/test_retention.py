"""Retention: steps since exposure and their borders, curves by hand, fits, what is null and what warns.

The laws, the lags and the curves have tests of their own; here they are put together.
"""

import json
import math

import numpy as np
import polars as pl
import pytest

from memprobe.probes import recall, recognition
from memprobe.probes.contract import History, Scores
from memprobe.probes.retention import PROBE, Settings, estimate, measure, plan, problems
from memprobe.probes.retention.tables import RETENTION_CURVE, RETENTION_FIT
from memprobe.tables.facts import with_trained
from memprobe.tables.requests import merge_requests

EXACT = 1e-9
STEPS = (0, 10, 20, 30, 40)


def history(rows, *, steps=STEPS, items=None, missing=()) -> History:
    """From item to (last_step, outcomes by step), and further columns; outcomes stand for all three."""
    names = list(rows)
    about = pl.DataFrame(
        [
            {"item_id": name, "group": None, "exposures": None, "first_step": rows[name][0]}
            | {"last_step": rows[name][0], "batch_id": None, "doc_id": None}
            | (items or {}).get(name, {})
            for name in names
        ],
        schema={
            **dict.fromkeys(("item_id", "group", "batch_id", "doc_id"), pl.String),
            **dict.fromkeys(("exposures", "first_step", "last_step"), pl.Int64),
        },
    )
    measured = [
        {
            "item_id": name,
            "step": step,
            "recall_exact": None if y is None else y > 0.5,
            "recognition_correct": y,
            "logprob_mean_nats": y,
        }
        for name in names
        for step, y in zip(steps, rows[name][1], strict=True)
    ]
    types = {"item_id": pl.String, "step": pl.Int64, "recall_exact": pl.Boolean}
    numbers = dict.fromkeys(("recognition_correct", "logprob_mean_nats"), pl.Float64)
    return History(
        rows=pl.DataFrame(measured, schema=types | numbers),
        steps=steps,
        missing=missing,
        items=with_trained(about, ("first_step",)),
        draws=lambda what: np.random.default_rng(len(what)),
    )


# Last trained on at 10 and between 10 and 20; two never trained on.
TOY = {
    "a1": (10, (0, 1, 1, 0, 0)),
    "a2": (10, (0, 1, 0, 0, 0)),
    "b1": (16, (0, 1, 1, 1, 0)),
    "n1": (None, (0, 0, 0, 0, 0)),
    "n2": (None, (0, 0, 1, 0, 0)),
}


def curve(told, outcome="recall_exact", sample="all_items", **keys) -> pl.DataFrame:
    frame = told.tables["retention_curve"].filter(outcome=outcome, sample=sample)
    for name in ("group", "exposures"):
        frame = frame.filter(pl.col(name).eq_missing(pl.lit(keys.get(name), frame.schema[name])))
    return frame


def test_the_curve_starts_at_the_first_checkpoint_at_or_after_the_last_exposure() -> None:
    rows = curve(estimate(history(TOY), Settings()))
    # a1, a2 are at lags 0, 10, 20, 30; b1 at 4, 14, 24; before those, nothing counts.
    expected = [(0, 4, 3), (10, 14, 3), (20, 24, 3), (30, 30, 2)]
    assert rows.select("lag_min_steps", "lag_max_steps", "n_items").rows() == expected
    assert rows["lag_mean_steps"].to_list() == pytest.approx([4 / 3, 34 / 3, 64 / 3, 30])
    # Called by the mean over all items: 4/3 steps after each distance, the nearest whole number.
    assert rows["steps_since_exposure"].to_list() == [1, 11, 21, 31]
    # Lag 0: a1, a2 at step 10, b1 at step 20. The last: a1 and a2 at step 40.
    assert rows["estimate"].to_list() == pytest.approx([1, 2 / 3, 0, 0])
    # Controls: 0 at step 10, 1/2 at 20, 0 at 30; of a1, a2 at 10 and b1 at 20: 1/6, then 2/6, 0, 0.
    assert rows["baseline"].to_list() == pytest.approx([1 / 6, 1 / 3, 0, 0])
    assert rows["excess"].to_list() == pytest.approx([5 / 6, 1 / 3, 0, 0])
    assert set(rows["n_controls"]) == {2}


def test_an_item_that_was_impossible_somewhere_has_no_log_probability_and_is_counted() -> None:
    # a1 and n1 are impossible at one checkpoint each, n1 long before anyone is looked at.
    rows = TOY | {"a1": (10, (0, 1, 1, -math.inf, 0)), "n1": (None, (-math.inf, 0, 0, 0, 0))}
    told = estimate(history(rows), Settings())
    found, without = (
        curve(each, "logprob_mean_nats")
        for each in (told, estimate(history({n: TOY[n] for n in ("a2", "b1", "n2")}), Settings()))
    )
    same = ("lag_min_steps", "estimate", "baseline", "excess", "n_items", "n_controls")
    assert found.select(same).rows() == without.select(same).rows()
    assert "logprob_mean_nats: 2 items left out, infinite at some checkpoint" in told.warnings
    everything = estimate(history({n: (at, (-math.inf,) * 5) for n, (at, _) in TOY.items()}), Settings())
    assert curve(everything, "logprob_mean_nats").is_empty()


def test_the_same_items_are_at_every_lag_of_the_curve_that_is_fitted() -> None:
    told = estimate(history(TOY), Settings())
    # Three items at three lags hold more values than two at four.
    rows = curve(told, sample="same_items")
    assert rows["n_items"].to_list() == [3, 3, 3]
    fit = told.tables["retention_fit"].filter(outcome="recall_exact")
    assert fit["law"].to_list() == ["power", "exponential", "logarithmic"]
    assert set(fit["n_lags"]) == {3}
    assert set(fit["n_items"]) == {3}
    assert set(fit["last_lag_steps"]) == {64 / 3}
    assert fit["is_best"].sum() == 1
    assert (fit["residual_se"] >= 0).all()
    assert told.warnings[-1].endswith(
        "logprob_mean_nats: fits are of 3 of 3 items and 3 of 4 lags, 1.33333 to 21.3333 steps: "
        "not all items are seen at all lags"
    )


def test_tables_keep_what_their_schemas_promise() -> None:
    told = estimate(history(TOY, items={"a1": {"group": "q", "exposures": 2}}), Settings())
    for schema in (RETENTION_CURVE, RETENTION_FIT):
        schema.conform(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))


@pytest.mark.parametrize(
    ("last", "step", "expected"), [(10, 9, None), (10, 10, 0), (10, 17, 7), (None, 17, None)]
)
def test_steps_since_exposure_are_none_before_the_last_exposure(
    last, step, expected, items_of, scores_for
) -> None:
    item = {"item_id": "i", "n_tokens": 8, "n_foil_tokens": 8, "first_step": last and 2, "last_step": last}
    scores = scores_for(PROBE, Settings(), items_of(item))
    row = measure(Scores(scores.spans, scores.items, step=step), Settings()).row(0, named=True)
    assert row["steps_since_exposure"] == expected
    assert row["first_step"] == (last and 2)


def test_items_are_measured_as_recall_and_recognition_measure_them(items_of, scores_for) -> None:
    items = items_of(
        *(
            {"item_id": f"i{n}", "n_tokens": 6 + n % 3, "n_foil_tokens": 7 if n % 2 else None}
            for n in range(12)
        )
    )
    mine = measure(scores_for(PROBE, Settings(), items), Settings()).sort("item_id")
    exact = recall.measure(scores_for(recall.PROBE, recall.Settings(), items), recall.Settings())
    assert mine["recall_exact"].to_list() == exact.sort("item_id")["exact"].to_list()
    foiled = items.filter(pl.col("n_foil_tokens").is_not_null())
    pairs = recognition.measure(
        scores_for(recognition.PROBE, recognition.Settings(), foiled), recognition.Settings()
    ).sort("item_id")
    known = mine.filter(pl.col("recognition_correct").is_not_null())
    assert known["item_id"].to_list() == foiled["item_id"].sort().to_list()
    assert known["recognition_correct"].to_list() == pairs["correct"].to_list()
    assert known["logprob_mean_nats"].to_list() == (-pairs["seen_nll_mean_nats"]).to_list()


def test_what_recall_and_recognition_ask_for_is_asked_but_once(items_of) -> None:
    items = items_of(*({"item_id": f"i{n}", "n_tokens": 9, "n_foil_tokens": 7} for n in range(3)))
    others = [
        recall.plan(items, recall.Settings(prefix_tokens=3, verify_items=0)).requests,
        recognition.plan(items, recognition.Settings()).requests,
    ]
    mine = plan(items, Settings(prefix_tokens=3)).requests
    assert merge_requests([mine, *others]).height == merge_requests(others).height == 9


def test_the_plan_leaves_out_items_too_short_to_be_recalled(items_of) -> None:
    items = items_of({"item_id": "long", "n_tokens": 9}, {"item_id": "short", "n_tokens": 3})
    planned = plan(items, Settings(prefix_tokens=4))
    assert planned.requests.select("item_id", "score_from", "stop", "detail").rows() == [
        ("long", 4, 9, "tokens"),
        ("long", 0, 9, "sums"),
    ]
    assert planned.unfit["item_id"].to_list() == ["short"]


def decaying(n: int, tau: float, *, never: int = 30) -> dict:
    """Items lost for good at times that fall exponentially, of one cohort at step 10; controls at 0."""
    rng = np.random.default_rng(2)
    until = rng.exponential(tau, n)
    rows = {
        f"i{k:03d}": (10, tuple([0.0] + [float(step - 10 <= until[k]) for step in STEPS[1:]]))
        for k in range(n)
    }
    return rows | {f"n{k}": (None, (0.0,) * len(STEPS)) for k in range(never)}


def test_a_half_life_is_found_and_summed_up() -> None:
    told = estimate(history(decaying(400, 15)), Settings())
    fit = told.tables["retention_fit"].filter(outcome="recall_exact", law="exponential").row(0, named=True)
    # exp(-t / 15) = 1/2 at 15 ln 2 = 10.4.
    assert fit["half_life_lo"] < 15 * math.log(2) < fit["half_life_hi"]
    assert fit["reason"] is None
    assert fit["against"] == "never-trained"
    params = json.loads(fit["params"])
    assert list(params) == [
        *("a", "a_lo", "a_hi", "decay_per_step", "decay_per_step_lo", "decay_per_step_hi"),
    ]
    assert params["decay_per_step"] == pytest.approx(math.log(2) / fit["half_life_steps"], rel=EXACT)
    halves = told.estimates.filter(metric="half_life_steps", condition="outcome=recall_exact;law=exponential")
    row = halves.row(0, named=True)
    assert row["estimate"] == fit["half_life_steps"]
    # The table takes the law as given, the summary does not.
    assert row["ci_low"] <= fit["half_life_lo"] < fit["half_life_hi"] <= row["ci_high"]
    assert row["ci_method"] == "calibrated-profile"
    assert (row["unit"], row["n_items"], row["n_missing"]) == ("steps", 400, 0)


def test_the_summary_has_the_first_lag_each_tenfold_and_the_last() -> None:
    steps = (0, 5, 7, 10, 20, 50, 100, 104, 105, 400)
    rows = {"a": (5, (1,) * 10), "b": (5, (0,) * 10), "n": (None, (0,) * 10)}
    told = estimate(history(rows, steps=steps), Settings())
    shown = told.estimates.filter(metric="recall_frac", condition=pl.col("condition"))
    # Lags 0, 2, 5, 15, 45, 95, 99, 100, 395: the next at least ten times as long as 0 (plus one) is 15.
    assert shown["condition"].to_list() == [f"steps_since_exposure={lag}" for lag in (0, 15, 395)]
    assert shown["estimate"].to_list() == [0.5] * 3
    assert set(shown["ci_method"]) == {"wilson"}


def test_groups_and_exposure_counts_have_curves_of_their_own() -> None:
    more = {"a1": {"group": "q", "exposures": 4}, "a2": {"group": "r", "exposures": 1}}
    more |= {name: {"group": "q"} for name in ("n2", "n3")} | {"n1": {"group": "r"}}
    told = estimate(history({**TOY, "n3": TOY["n2"], "n4": TOY["n1"]}, items=more), Settings())
    q = curve(told, group="q")
    # a1 beside n2 and n3, the controls of its group: 0, 1, 0, 0 at its checkpoints.
    assert q["estimate"].to_list() == [1, 1, 0, 0]
    assert q["baseline"].to_list() == [0, 1, 0, 0]
    # r has one control of its own, too few, and is set against all four, of whatever group.
    assert curve(told, group="r")["baseline"].to_list() == [0, 0.5, 0, 0]
    assert curve(told, exposures=4)["estimate"].to_list() == [1, 1, 0, 0]
    last = told.estimates.filter(metric="recall_frac", condition="steps_since_exposure=21;exposures=4")
    assert (last["estimate"].item(), last["n_items"].item()) == (0, 1)
    # One item each: whoever would bound them knows nothing of how items differ.
    fit = told.tables["retention_fit"].filter(outcome="recall_exact", group="q", law="logarithmic")
    assert fit["half_life_lo"].to_list() == [None]


def test_without_controls_rates_are_set_against_chance_and_log_probability_against_nothing() -> None:
    told = estimate(history({name: TOY[name] for name in ("a1", "a2", "b1")}), Settings())
    recognised = curve(told, "recognition_correct")
    assert (recognised["estimate"] - 0.5).to_list() == pytest.approx(recognised["excess"].to_list())
    assert recognised["baseline"].null_count() == recognised.height
    assert curve(told)["excess"].to_list() == pytest.approx(curve(told)["estimate"].to_list())
    gain = curve(told, "logprob_mean_nats")
    assert gain["excess"].null_count() == gain.height
    fit = told.tables["retention_fit"].filter(outcome="logprob_mean_nats")
    assert set(fit["reason"]) == {"no never-trained items to compare with"}
    assert fit["params"].null_count() == fit["residual_se"].null_count() == 3
    assert any("no item is never trained on" in text for text in told.warnings)
    half = told.estimates.filter(condition="outcome=logprob_mean_nats")
    assert half.select("estimate", "ci_low", "ci_method").rows() == [(None, None, None)]


def test_controls_without_a_foil_leave_recognition_to_chance() -> None:
    past = history(TOY)
    never = pl.col("item_id").is_in(["n1", "n2"])
    rows = past.rows.with_columns(recognition_correct=pl.when(~never).then("recognition_correct"))
    told = estimate(History(rows, past.steps, (), past.items, past.draws), Settings())
    assert set(told.tables["retention_fit"].filter(outcome="recognition_correct")["against"]) == {"chance"}
    assert any("recognition_correct: no never-trained item has it" in text for text in told.warnings)


def test_items_that_are_trained_on_too_late_are_counted_and_left_out() -> None:
    late = {**TOY, "z1": (41, (1,) * 5), "z2": (99, (1,) * 5)}
    told, alone = estimate(history(late), Settings()), estimate(history(TOY), Settings())
    assert any(
        "2 items left out, last trained on after the last checkpoint" in each for each in told.warnings
    )
    assert told.tables["retention_curve"].equals(alone.tables["retention_curve"])


def test_two_lags_are_too_few_for_a_fit_and_one_is_exactly_the_last_checkpoint() -> None:
    told = estimate(history({**TOY, **{f"l{n}": (30, (1,) * 5) for n in range(9)}}), Settings())
    # Nine items at two lags and three at four: 24 values of 12 items at the first two lags.
    fit = told.tables["retention_fit"].filter(outcome="recall_exact")
    assert set(fit["reason"]) == {"2 lags, and a fit needs 3"}
    assert fit["aic"].null_count() == fit["is_best"].null_count() == 3
    names = "recall_exact, recognition_correct, logprob_mean_nats"
    assert told.warnings == (f"{names}: 2 lags, and a fit needs 3",)
    end = estimate(history({"e": (40, (1,) * 5), "n": TOY["n1"]}), Settings())
    assert curve(end)["lag_max_steps"].to_list() == [0]


def test_nothing_ever_recalled_is_no_curve_to_fit() -> None:
    rows = {name: (last, (0,) * 5) for name, (last, _) in TOY.items()}
    told = estimate(history(rows), Settings())
    fit = told.tables["retention_fit"].filter(outcome="recall_exact")
    assert set(fit["reason"]) == {"the excess is 0 at every lag"}
    assert fit["residual_se"].null_count() == 3


def test_an_outcome_that_no_item_has_is_left_out() -> None:
    past = history(TOY)
    rows = past.rows.with_columns(recognition_correct=pl.lit(None, pl.Float64))
    told = estimate(History(rows, past.steps, (), past.items, past.draws), Settings())
    assert set(told.tables["retention_curve"]["outcome"]) == {"recall_exact", "logprob_mean_nats"}
    assert not told.estimates["metric"].str.contains("recognition").any()


def test_the_order_of_items_changes_nothing() -> None:
    rows = decaying(30, 15, never=5)
    one, other = (estimate(history(each), Settings()) for each in (rows, dict(reversed(rows.items()))))
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name])
    assert one.estimates.equals(other.estimates)


def test_items_of_one_document_are_a_cluster() -> None:
    doc = {name: {"doc_id": "d"} for name in ("a1", "a2")}
    rows = curve(estimate(history(TOY, items=doc), Settings()))
    assert rows["n_clusters"].to_list() == [2, 2, 2, 1]
    # Two items of one document and one of another are worth 9 / 5 documents: too few to say how they differ.
    assert rows["ci_method"].to_list() == [None] * 4
    told = estimate(history(TOY, items=doc), Settings()).estimates.filter(pl.col("metric") == "recall_frac")
    assert set(told["ci_method"]) == {"none:few-clusters"}


def test_missing_checkpoints_are_named() -> None:
    told = estimate(history(TOY, missing=("m@step5",)), Settings())
    assert told.warnings[0] == "left out, as they are not scored: m@step5"


@pytest.mark.parametrize(
    ("rows", "steps", "message"),
    [
        (TOY, (20,), "needs at least two checkpoints"),
        ({"n": TOY["n1"]}, STEPS, "no item has a first_step"),
        (
            {"z": (99, (1,) * 5)},
            STEPS,
            "no checkpoint after any last_step: they begin at 99, the last checkpoint",
        ),
    ],
)
def test_what_cannot_be_answered_is_said(rows, steps, message) -> None:
    past = history({name: (last, ys[: len(steps)]) for name, (last, ys) in rows.items()}, steps=steps)
    (found,) = problems(past.steps, past.items, Settings())
    assert found.startswith(message)
    told = estimate(past, Settings())
    assert (told.tables, told.warnings) == ({}, (found,))
    assert told.estimates.is_empty()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"draws": -1}, "draws is -1, not 0 or more"), ({"align": "end"}, 'align = "end" needs suffix_tokens')],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_without_draws_there_are_no_intervals_of_fits() -> None:
    told = estimate(history(decaying(60, 15)), Settings(draws=0))
    fit = told.tables["retention_fit"].filter(outcome="recall_exact", law="exponential").row(0, named=True)
    assert fit["half_life_steps"] is not None
    assert (fit["half_life_lo"], fit["half_life_hi"]) == (None, None)


def test_a_small_group_of_controls_among_many_leaves_no_fit_without_a_number() -> None:
    # Of 40 clusters of controls, a draw over all of them would often hold neither of the two of q.
    rng = np.random.default_rng(3)
    rows = {f"i{n}": (10, tuple(np.exp([0, 0, -1, -2, -3]) + rng.normal(0, 0.1, 5))) for n in range(12)}
    rows |= {f"n{n}": (None, tuple(rng.normal(0, 0.1, 5))) for n in range(40)}
    groups = {name: {"group": "q"} for name in [*(f"i{n}" for n in range(12)), "n0", "n1"]}
    told = estimate(history(rows, items=groups), Settings())
    for schema in (RETENTION_CURVE, RETENTION_FIT):
        schema.conform(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))
    fit = told.tables["retention_fit"].filter(outcome="logprob_mean_nats", group="q")
    assert fit["half_life_lo"].null_count() == 0
