"""Forecast from what checkpoints memorize to table and summary: check 14, who predicts whom, what is said."""

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import History, OtherSequence, Scores
from memprobe.probes.forecast import PROBE, Settings, estimate
from memprobe.probes.forecast.estimate import check_predictors
from memprobe.probes.forecast.tables import FORECAST
from memprobe.stats.intervals import wilson

EXACT = 1e-9
STEPS = (0, 50, 100)
# Check 14: of 100 items, 8 by both, 2 by the predictor alone, 12 by the target alone.
EARLY = [True] * 8 + [True] * 2 + [False] * 12 + [False] * 78
LATE = [True] * 8 + [False] * 2 + [True] * 12 + [False] * 78
IDS = [f"i{number:03d}" for number in range(100)]
CHECK_14 = {0: [False] * 100, 50: EARLY, 100: LATE}


def rows_of(memorized: dict[int, list], ids=IDS) -> pl.DataFrame:
    frames = [
        pl.DataFrame({"item_id": ids, "step": step, "exact": values}, schema_overrides={"exact": pl.Boolean})
        for step, values in memorized.items()
    ]
    return pl.concat(frames).with_columns(pl.col("step").cast(pl.Int64))


def other(name, memorized, n_parameters, *, ids=IDS, same_tokens=True) -> OtherSequence:
    return OtherSequence(name, tuple(memorized), n_parameters, same_tokens, rows_of(memorized, ids))


def history(memorized=CHECK_14, *, others=(), n_parameters=1000, first=None, doc=None, group=None, **more):
    items = pl.DataFrame(
        {
            "item_id": IDS,
            "group": [group(i) if group else None for i in range(100)],
            "first_step": [first(i) if first else None for i in range(100)],
            "doc_id": [doc(i) if doc else None for i in range(100)],
        },
        schema={"item_id": pl.String, "group": pl.String, "first_step": pl.Int64, "doc_id": pl.String},
    )
    return History(
        rows=more.pop("rows", rows_of(memorized)),
        steps=tuple(memorized),
        missing=more.pop("missing", ()),
        items=items,
        draws=lambda what: np.random.default_rng(len(what)),
        model="big",
        n_parameters=n_parameters,
        others=tuple(others),
    )


def row(told, step, *, model="big", group=None, seen=None) -> dict:
    return (
        told.tables["forecast"]
        .filter(
            pl.col("predictor_model") == model,
            pl.col("predictor_step") == step,
            pl.col("group").eq_missing(pl.lit(group, pl.String)),
            pl.col("seen").eq_missing(pl.lit(seen, pl.Boolean)),
        )
        .row(0, named=True)
    )


def test_check_14_through_the_probe() -> None:
    found = row(estimate(history(), Settings()), 50)
    assert [found[name] for name in ("tp", "fp", "fn", "tn")] == [8, 2, 12, 78]
    assert found["precision_frac"] == pytest.approx(0.8, abs=EXACT)
    assert found["recall_frac"] == pytest.approx(0.4, abs=EXACT)
    assert found["f1"] == pytest.approx(0.5333333333, abs=EXACT)
    assert found["f2"] == pytest.approx(0.4444444444, abs=EXACT)
    assert (found["precision_lo"], found["recall_hi"]) == (wilson(8, 10).lo, wilson(8, 20).hi)
    assert found["f1_lo"] < found["f1"] < found["f1_hi"]
    assert (found["n_items"], found["n_missing"], found["target_step"]) == (100, 0, 100)


def test_exchanging_predictor_and_target_exchanges_precision_and_recall() -> None:
    one = row(estimate(history(), Settings()), 50)
    exchanged = row(estimate(history({50: LATE, 100: EARLY}), Settings()), 50)
    for ours, theirs in (("precision", "recall"), ("recall", "precision")):
        assert exchanged[f"{ours}_frac"] == one[f"{theirs}_frac"]
        assert exchanged[f"{ours}_lo"] == one[f"{theirs}_lo"]


def test_an_untrained_predictor_has_no_precision_and_no_f() -> None:
    found = row(estimate(history(), Settings()), 0)
    assert (found["precision_frac"], found["f1"], found["phi"]) == (None, None, None)
    assert found["recall_frac"] == 0
    assert found["compute_ratio"] == 0


def test_the_table_keeps_what_its_schema_promises() -> None:
    told = estimate(history(first=lambda i: i, group=lambda i: "ab"[i % 2]), Settings())
    FORECAST.conform(told.tables["forecast"].select(pl.lit("m").alias("model"), pl.all()))
    # Two predictors, each of all items, two groups, and items seen and not.
    assert told.tables["forecast"].height == 2 * 5
    assert set(told.estimates["metric"]) == {metric.name for metric in PROBE.metrics}


def test_a_smaller_model_predicts_a_larger_one_and_no_other_does() -> None:
    small, same, big = (
        other(name, {40: LATE, 80: EARLY}, n) for name, n in (("s", 500), ("e", 1000), ("b", 9999))
    )
    told = estimate(history({100: LATE}, others=(same, big, small)), Settings())
    assert told.tables["forecast"].select("predictor_model", "predictor_step").rows() == [("s", 80)]
    found = row(told, 80, model="s")
    assert found["precision_frac"] == pytest.approx(0.8, abs=EXACT)
    # 6 N D: 500 parameters for 80 steps, of 1,000 for 100.
    assert found["compute_ratio"] == pytest.approx(0.4, abs=EXACT)
    every = estimate(history({100: LATE}, others=(small,)), Settings(of_others="all"))
    assert every.tables["forecast"]["predictor_step"].to_list() == [40, 80]
    assert row(every, 40, model="s")["recall_frac"] == 1
    # The summary keeps to the last of each model.
    assert set(every.estimates["condition"]) == {"predictor=s"}


def test_smaller_models_stand_first_by_size_then_own_steps() -> None:
    others = (other("m", {80: EARLY}, 700), other("s", {80: EARLY}, 500))
    told = estimate(history(others=others), Settings())
    assert told.tables["forecast"].select("predictor_model", "predictor_step").rows() == [
        ("s", 80), ("m", 80), ("big", 0), ("big", 50),
    ]  # fmt: skip


def test_a_model_of_unknown_size_is_no_predictor_and_that_is_said() -> None:
    unknown = other("dark", {80: EARLY}, None)
    told = estimate(history(others=(unknown,)), Settings())
    assert "dark" not in told.tables["forecast"]["predictor_model"]
    assert any(
        "dark is not a predictor: its number of parameters is not known" in text for text in told.warnings
    )
    told = estimate(history(others=(other("s", {80: EARLY}, 5),), n_parameters=None), Settings())
    assert set(told.tables["forecast"]["predictor_model"]) == {"big"}
    assert any("its number of parameters is not known" in text for text in told.warnings)


def test_another_tokenizer_is_warned_of() -> None:
    told = estimate(history(others=(other("s", {80: EARLY}, 5, same_tokens=False),)), Settings())
    assert any("s has another tokenizer" in text for text in told.warnings)
    same = estimate(history(others=(other("s", {80: EARLY}, 5),)), Settings())
    assert not same.warnings


def test_only_items_that_both_were_asked_count_and_the_others_are_counted() -> None:
    # The small model was asked the first 40 items and one that the big one was not.
    small = other("s", {80: [*EARLY[:40], True]}, 5, ids=[*IDS[:40], "z"])
    told = estimate(history(others=(small,)), Settings())
    found = row(told, 80, model="s")
    assert (found["tp"], found["fp"], found["fn"], found["tn"]) == (8, 2, 12, 18)
    assert (found["n_items"], found["n_missing"]) == (40, 61)
    undefined = {0: [False] * 100, 50: [None, *EARLY[1:]], 100: LATE}
    found = row(estimate(history(undefined), Settings()), 50)
    assert (found["tp"], found["n_items"], found["n_missing"]) == (7, 99, 1)


def test_items_seen_by_the_predictor_are_told_from_those_that_come_later() -> None:
    # The first 30 items from step 50 on, exactly at the predictor; the next 30 later; the rest never.
    told = estimate(history(first=lambda i: 50 if i < 30 else 51 if i < 60 else None), Settings())
    seen, later, both = (row(told, 50, seen=each) for each in (True, False, None))
    assert (seen["n_items"], later["n_items"], both["n_items"]) == (30, 30, 100)
    assert (seen["tp"], later["tp"], later["tn"]) == (8, 0, 30)
    shown = set(told.estimates["condition"])
    assert shown == {"predictor=step50", "predictor=step50;seen=true"}
    assert told.tables["forecast"].filter(pl.col("seen").is_not_null()).height == 4
    assert estimate(history(), Settings()).tables["forecast"]["seen"].null_count() == 2


def test_groups_have_rows_of_their_own() -> None:
    told = estimate(history(group=lambda i: "a" if i < 10 else "b"), Settings())
    assert (row(told, 50, group="a")["precision_frac"], row(told, 50, group="a")["n_items"]) == (0.8, 10)
    rows = told.estimates.filter(metric="recall_frac")
    assert dict(rows.select("group", "estimate").rows()) == {None: 0.4, "a": 1.0, "b": 0.0}


def test_the_summary_shows_the_checkpoints_nearest_to_shares_of_training() -> None:
    steps = (0, 1, 2, 4, 8, 16, 32, 64, 100, 128, 240, 250, 256)
    told = estimate(history(dict.fromkeys(steps, EARLY) | {256: LATE}), Settings())
    # Of 256: 32, 64 and 128; all twelve are in the table.
    assert set(told.estimates["condition"]) == {"predictor=step32", "predictor=step64", "predictor=step128"}
    assert told.tables["forecast"].height == 12


def test_ratios_of_the_summary_say_of_how_many_items_they_are() -> None:
    told = estimate(history(), Settings())
    assert dict(told.estimates.select("metric", "n_items").rows()) == {
        "precision_frac": 10, "recall_frac": 20, "f1": 100, "f2": 100,
    }  # fmt: skip
    assert dict(told.estimates.select("metric", "ci_method").rows()) == {
        "precision_frac": "wilson",
        "recall_frac": "wilson",
        "f1": "pseudo-document-weighted",
        "f2": "pseudo-document-weighted",
    }


def test_items_of_one_document_are_drawn_together() -> None:
    told = estimate(history(doc=lambda i: f"d{i // 4}"), Settings())
    found = row(told, 50)
    assert (found["n_clusters"], found["rates_ci_method"]) == (25, "pseudo-document-few, pseudo-document")
    alone = row(estimate(history(), Settings()), 50)
    assert found["f1_hi"] - found["f1_lo"] > 1.3 * (alone["f1_hi"] - alone["f1_lo"])
    assert found["mcnemar_p_value"] is None


def test_a_later_checkpoint_is_tested_against_the_one_before() -> None:
    # Of the 20 items that the target memorizes, step 0 has none and step 50 has 8: 2 * 0.5^8.
    found = row(estimate(history(), Settings()), 50)
    assert found["mcnemar_p_value"] == pytest.approx(2 * 0.5**8, abs=EXACT)
    assert row(estimate(history(), Settings()), 0)["mcnemar_p_value"] is None
    # Items from 22 on share documents, the 20 before them that the target memorizes do not.
    apart = estimate(history(doc=lambda i: None if i < 22 else f"d{i // 4}"), Settings())
    assert row(apart, 50)["mcnemar_p_value"] == found["mcnemar_p_value"]


def test_a_target_that_memorizes_nothing_is_said() -> None:
    told = estimate(history({0: [False] * 100, 50: EARLY, 100: [False] * 100}), Settings())
    assert row(told, 50)["recall_frac"] is None
    assert "the checkpoint at step 100 memorizes none of 100 items, so recall is undefined" in told.warnings


def test_the_order_of_items_changes_nothing() -> None:
    backwards = rows_of(CHECK_14).reverse()
    one, two = estimate(history(), Settings()), estimate(history(rows=backwards), Settings())
    assert one.tables["forecast"].equals(two.tables["forecast"])
    assert one.estimates.equals(two.estimates)


def test_what_is_not_scored_is_named() -> None:
    told = estimate(history(missing=("big@step99",)), Settings())
    assert "left out, as they are not scored: big@step99" in told.warnings


def test_one_checkpoint_needs_a_smaller_model_beside_it() -> None:
    own = OtherSequence("big", (100,), 1000, same_tokens=True)
    assert check_predictors(own, (other("s", {80: EARLY}, 999),)) == []
    for others in ((), (other("same", {80: EARLY}, 1000),), (other("larger", {80: EARLY}, 1001),)):
        assert "no smaller model beside it" in check_predictors(own, others)[0]
    dark = check_predictors(own, (other("dark", {80: EARLY}, None),))
    assert dark == ["one checkpoint, and the number of parameters of dark is not known"]
    assert check_predictors(OtherSequence("big", (50, 100), None, same_tokens=True), ()) == []
    told = estimate(history({100: LATE}), Settings())
    assert (told.tables, told.estimates.height) == ({}, 0)
    assert "no smaller model beside it" in told.warnings[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"draws": 99}, "draws is 99, not 100 or more"), ({"prefix_tokens": -1}, "prefix_tokens is -1")],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_memorized_is_every_token_of_the_suffix_and_null_where_the_first_has_no_condition(
    spans_of, items_of
) -> None:
    span = {"start": 0, "score_from": 4, "stop": 8, "detail": "sums", "n_scored": 4, "logprob_sum_nats": -1.0}
    rows = spans_of(
        span | {"item_id": "a", "n_hits": 4},
        span | {"item_id": "b", "n_hits": 3},
        span | {"item_id": "c", "n_hits": 4, "score_from": 3},
    )
    table = PROBE.measure(Scores(rows, items_of(*({"item_id": name} for name in "abc"))), Settings())
    assert dict(table.rows()) == {"a": True, "b": False, "c": None}


def test_a_predictor_that_predicts_nothing_has_no_f_in_the_summary() -> None:
    nothing = {0: [False] * 100, 50: [False] * 100, 100: LATE}
    found = estimate(history(nothing), Settings()).estimates.filter(pl.col("group").is_null())
    rows = (
        found.select("metric", "estimate", "ci_low", "ci_high", "n_items").unique(maintain_order=True).rows()
    )
    told = {metric: rest for metric, *rest in rows}
    for metric in ("precision_frac", "f1", "f2"):
        assert told[metric][:3] == [None, None, None]
    # What is true is still counted: none of 20 was predicted.
    assert told["recall_frac"][0] == 0
    assert (told["precision_frac"][3], told["recall_frac"][3], told["f1"][3]) == (0, 20, 100)
    # Predictions that all fail are known to be bad: 0.
    wrong = {0: [False] * 100, 50: [False] * 90 + [True] * 10, 100: LATE}
    assert row(estimate(history(wrong), Settings()), 50)["f1"] == 0
