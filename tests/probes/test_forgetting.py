"""Forgetting: check 13 of the methods through the probe, its tables by hand, what is left out, what warns."""

import math
import time

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import History, Scores
from memprobe.probes.forgetting import PROBE, Settings, problems
from memprobe.probes.forgetting import estimate as ask
from memprobe.probes.forgetting.tables import FORGETTING, FORGETTING_HAZARD, FORGETTING_SURVIVAL
from memprobe.tables.facts import with_trained

EXACT = 1e-12
STEPS = (0, 10, 20, 30, 40, 60, 80, 100)
CHECK_13 = {
    "a": (0, 1, 1, 0, 1, 0, 0, 1),
    "b": (0,) * 8,
    "c": (0, 1, 1, 1, 1, 1, 1, 1),
}


def history(levels, *, first=None, steps=STEPS, missing=(), **columns) -> History:
    names = list(levels)
    given = {"group": {}, "exposures": {}, "doc_id": {}, "first_step": first or {}} | columns
    types = {"group": pl.String, "exposures": pl.Int64, "doc_id": pl.String, "first_step": pl.Int64}
    items = pl.DataFrame({"item_id": names}).with_columns(
        pl.Series(name, [given[name].get(item) for item in names], dtype=dtype)
        for name, dtype in types.items()
    )
    rows = [
        {"item_id": name, "step": step, "level": level}
        for name in names
        for step, level in zip(steps, levels[name], strict=True)
    ]
    return History(
        rows=pl.DataFrame(rows, schema={"item_id": pl.String, "step": pl.Int64, "level": pl.Float64}),
        steps=steps,
        missing=missing,
        items=with_trained(items, ("first_step",) if first else ()),
        draws=lambda what: np.random.default_rng(len(what)),
    )


def item(told, name: str) -> dict:
    return told.tables["forgetting"].filter(item_id=name).row(0, named=True)


def estimate(told, metric: str, *, group=None, condition=None) -> dict:
    of = told.estimates.filter(
        pl.col("metric") == metric,
        pl.col("group").eq_missing(pl.lit(group, pl.String)),
        pl.col("condition").eq_missing(pl.lit(condition, pl.String)),
    )
    return of.row(0, named=True)


def test_a_count_that_is_the_same_for_all_items_has_no_interval_of_no_width() -> None:
    # No one of three items is forgotten: that is no proof that at most 0 are.
    told = ask(history(dict.fromkeys("abc", (0, 1, 1, 1, 1, 1, 1, 1))), Settings())
    row = estimate(told, "n_forgetting_events")
    assert (row["estimate"], row["ci_low"], row["ci_high"], row["ci_method"]) == (
        0,
        None,
        None,
        "none:all-equal",
    )


def test_check_13_of_the_methods() -> None:
    told = ask(history(CHECK_13), Settings())
    a, b, c = (item(told, name) for name in "abc")
    assert (a["n_learning_events"], a["n_forgetting_events"], a["first_learned_step"]) == (3, 2, 10)
    assert (a["unforgettable"], a["never_learned"], a["last_state"]) == (False, False, True)
    # Seen learned at 20, forgotten at 30; runs of 10, 0 and 0 steps.
    assert (a["first_forgotten_lo_step"], a["first_forgotten_step"], a["longest_run_steps"]) == (20, 30, 10)
    assert (b["never_learned"], b["n_learning_events"], b["n_forgetting_events"]) == (True, 0, None)
    assert (b["unforgettable"], b["first_learned_step"], b["longest_run_steps"]) == (None, None, None)
    assert (c["unforgettable"], c["n_forgetting_events"], c["first_forgotten_step"]) == (True, 0, None)
    assert c["longest_run_steps"] == 90
    assert {row["n_checkpoints"] for row in (a, b, c)} == {8}


def test_the_summary_by_hand() -> None:
    told = ask(history(CHECK_13), Settings())
    # Learned: a and c. Unforgettable: c. Never learned: b of three.
    unforgettable = estimate(told, "unforgettable_frac")
    assert (unforgettable["estimate"], unforgettable["n_items"], unforgettable["n_missing"]) == (0.5, 2, 1)
    assert unforgettable["ci_method"] == "wilson"
    assert estimate(told, "never_learned_frac")["estimate"] == pytest.approx(1 / 3, abs=EXACT)
    events = estimate(told, "n_forgetting_events")
    # Two and none: t with one degree of freedom, 12.7062, times half of their distance; no count is below 0.
    assert (events["estimate"], events["ci_low"]) == (1, 0)
    assert events["ci_high"] == pytest.approx(1 + 12.7062, abs=1e-4)
    # One of two forgotten 20 steps after it was learned: S = 1/2 there.
    assert estimate(told, "first_forgotten_median_steps")["estimate"] == 20


def test_a_median_that_is_not_reached_is_null_with_its_bound() -> None:
    kept = {f"k{n}": (0, 1, 1, 1) for n in range(39)} | {"lost": (0, 1, 0, 0)}
    row = estimate(ask(history(kept, steps=(0, 10, 20, 50)), Settings()), "first_forgotten_median_steps")
    # Learned at 10, observed to 50: the median is more than 40 steps.
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == (None, 40, None)
    assert row["ci_method"] == "greenwood-log-log"
    never = estimate(ask(history({"b": (0, 0)}, steps=(0, 1)), Settings()), "first_forgotten_median_steps")
    assert (never["estimate"], never["ci_low"], never["ci_method"], never["n_items"]) == (None, None, None, 0)


def test_survival_and_its_early_end_by_hand() -> None:
    levels = {
        "a": (1, 1, 0, 0),  # learned at 0, last seen at 10, forgotten at 30
        "b": (0, 1, 0, 1),  # learned at 10, forgotten at 30: 20 steps, or at once
        "c": (0, 0, 1, 1),  # learned at 30, still at 40: left after 10 steps
        "d": (1, 1, 1, 1),  # left after 40 steps
        "e": (0, 0, 0, 0),  # never learned: in no curve
    }
    rows = ask(history(levels, steps=(0, 10, 30, 40)), Settings()).tables["forgetting_survival"]
    found = rows.filter(pl.col("group").is_null()).select(
        "t_since_learned_steps", "n_at_risk", "n_events", "survival_frac", "survival_early_frac"
    )
    # Late: events at 30 (a) and 20 (b), left at 10 (c) and 40 (d). Early: b right after 0, of four; a right
    # after 10, when c has left, of two.
    assert found.rows() == [
        (0, 4, 0, 1.0, 0.75),
        (10, 4, 0, 1.0, 0.375),
        (20, 3, 1, pytest.approx(2 / 3), 0.375),
        (30, 2, 1, pytest.approx(1 / 3), 0.375),
        (40, 1, 0, pytest.approx(1 / 3), 0.375),
    ]
    # An item that is learned at the last checkpoint is no longer there when others are forgotten.
    late = ask(history(levels | {"f": (0, 0, 0, 1)}, steps=(0, 10, 30, 40)), Settings())
    assert late.tables["forgetting_survival"]["survival_early_frac"].to_list()[0] == 0.75
    assert rows["lo"].to_list()[:2] == [None, None]
    inside = rows.filter(pl.col("survival_frac") < 1)
    assert (inside["lo"] < inside["survival_frac"]).all()
    assert (inside["survival_frac"] < inside["hi"]).all()


def test_hazards_count_what_each_interval_changed() -> None:
    told = ask(history(CHECK_13), Settings())
    rows = told.tables["forgetting_hazard"].filter(pl.col("group").is_null())
    assert rows["from_step"].to_list() == list(STEPS[:-1])
    # By hand from a, b, c: learned at the begin, of these forgotten; not learned, of these learned.
    assert rows["n_at_risk"].to_list() == [0, 2, 2, 1, 2, 1, 1]
    assert rows["n_forgotten"].to_list() == [0, 0, 1, 0, 1, 0, 0]
    assert rows["n_not_learned"].to_list() == [3, 1, 1, 2, 1, 2, 2]
    assert rows["n_learned"].to_list() == [2, 0, 0, 1, 0, 0, 1]
    assert rows["hazard_frac"].to_list() == [None, 0, 0.5, 0, 0.5, 0, 0]
    # -ln(1 - 1/2) over 10 and 20 steps; null where nothing was at risk.
    per_step = rows["hazard_per_step"].to_list()
    assert per_step[0] is None
    assert (per_step[2], per_step[4]) == pytest.approx((math.log(2) / 10, math.log(2) / 20))
    assert rows["lo"].to_list()[0] is None


def test_checkpoints_before_the_first_step_do_not_count() -> None:
    levels = {
        "known": (1, 1, 1, 0),
        "learned": (0, 0, 1, 0),
        "lucky": (1, 0, 1, 1),
        "later": (0, 0, 0, 0),
        "never": (0, 1, 0, 0),
    }
    first = {"known": 15, "learned": 20, "lucky": 15, "later": 99}
    told = ask(history(levels, first=first, steps=(0, 10, 20, 30)), Settings())
    known, lucky, later = (item(told, name) for name in ("known", "lucky", "later"))
    assert (known["known_before"], known["reason"]) == (True, "was learned before it was trained on")
    assert (known["n_learning_events"], known["n_forgetting_events"]) == (0, 1)
    assert known["unforgettable"] is None
    # Learned at 0 by chance, but not at 10, the last before its training: learned at 20.
    assert (lucky["known_before"], lucky["first_learned_step"], lucky["n_checkpoints"]) == (False, 20, 2)
    assert (later["n_checkpoints"], later["never_learned"]) == (0, None)
    assert later["reason"] == "is not trained on by the last checkpoint"
    assert item(told, "never")["known_before"] is None
    assert estimate(told, "unforgettable_frac", condition="trained=true")["n_items"] == 2
    assert estimate(told, "unforgettable_frac", condition="trained=false")["n_items"] == 1
    assert told.warnings[:2] == (
        "1 item left out, not trained on by the last checkpoint",
        "1 item left out, learned at a checkpoint before they were trained on",
    )
    # Exactly at its first step a checkpoint counts, and an item not yet trained on is not at risk.
    hazards = told.tables["forgetting_hazard"].filter(pl.col("condition") == "trained=true")
    assert hazards["n_not_learned"].to_list() == [0, 2, 0]


def test_groups_and_exposure_counts_have_rows_of_their_own() -> None:
    told = ask(
        history(CHECK_13, group={"a": "x", "b": "x", "c": "y"}, exposures={"a": 1, "b": 1, "c": 8}),
        Settings(),
    )
    assert estimate(told, "never_learned_frac", group="x")["estimate"] == 0.5
    assert estimate(told, "never_learned_frac", condition="exposures=8")["estimate"] == 0
    assert set(told.tables["forgetting_hazard"]["group"].drop_nulls()) == {"x", "y"}


def test_hysteresis_and_thresholds_of_the_other_states() -> None:
    trembling = {"t": (0.2, 0.55, 0.45, 0.55, 0.45, 0.55, 0.45, 0.55)}
    plain = ask(history(trembling), Settings(state="hit_frac", tau_hi=0.5))
    assert item(plain, "t")["n_forgetting_events"] == 3
    wide = ask(history(trembling), Settings(state="hit_frac", tau_hi=0.5, tau_lo=0.3))
    assert item(wide, "t")["n_forgetting_events"] == 0
    # ln p_z against ln tau.
    settings = Settings(state="pz", tau_hi=0.5)
    found = ask(history({"p": (math.log(0.49), math.log(0.5), -math.inf)}, steps=(0, 1, 2)), settings)
    assert (item(found, "p")["first_learned_step"], item(found, "p")["n_forgetting_events"]) == (1, 1)


def test_documents_are_clusters() -> None:
    copies = {f"{name}{n}": levels for name, levels in CHECK_13.items() for n in range(4)}
    doc = {name: name[0] for name in copies}
    told = ask(history(copies, doc_id=doc), Settings())
    row = estimate(told, "never_learned_frac")
    assert (row["n_items"], row["n_clusters"], row["ci_method"]) == (12, 3, "pseudo-document-few")
    alone = estimate(ask(history(CHECK_13), Settings()), "never_learned_frac")
    assert row["ci_high"] - row["ci_low"] >= alone["ci_high"] - alone["ci_low"]
    assert estimate(told, "n_forgetting_events")["ci_method"] == "cluster-hall-t"
    assert told.tables["forgetting_survival"]["n_clusters"].unique().to_list() == [2]


def test_an_item_without_a_state_somewhere_is_listed_and_counted() -> None:
    told = ask(history(CHECK_13 | {"gap": (0, None, 1, 1, 1, 1, 1, 1)}, missing=("m@step9",)), Settings())
    gap = item(told, "gap")
    assert (gap["n_checkpoints"], gap["n_learning_events"], gap["never_learned"]) == (7, None, None)
    assert gap["reason"] == "has no state at some checkpoint"
    found = estimate(told, "never_learned_frac")
    assert (found["n_items"], found["n_missing"]) == (3, 1)
    assert "left out, as they are not scored: m@step9" in told.warnings
    assert "1 item left out, without a state at some checkpoint" in told.warnings


def test_checkpoints_too_far_apart_are_warned_of_with_their_lengths() -> None:
    flicker = {f"f{n}": (0, 1, 0, 0) for n in range(5)}
    told = ask(history(flicker, steps=(0, 10, 500, 600)), Settings())
    assert any("of 5 forgotten items, 5 were forgotten by the" in text for text in told.warnings)
    assert any("checkpoints are 10 to 490 steps apart" in text for text in told.warnings)
    slow = {f"f{n}": (0, 1, 1, 0) for n in range(5)}
    assert ask(history(slow, steps=(0, 10, 500, 600)), Settings()).warnings == ()


def test_the_order_of_items_and_rows_changes_nothing() -> None:
    g = np.random.default_rng(0)
    levels = {f"i{n:02d}": tuple((g.random(8) < 0.5).astype(float)) for n in range(40)}
    doc = {name: f"d{n // 3}" for n, name in enumerate(levels)}
    one = ask(history(levels, doc_id=doc), Settings())
    past = history(dict(reversed(levels.items())), doc_id=doc)
    past = History(past.rows.sample(fraction=1, shuffle=True, seed=1), past.steps, (), past.items, past.draws)
    other = ask(past, Settings())
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name])
    assert one.estimates.equals(other.estimates)


def test_tables_keep_what_their_schemas_promise_also_where_nothing_is_learned() -> None:
    for levels in (CHECK_13, {"b": (0,) * 8}, {"gap": (None,) * 8}):
        told = ask(history(levels), Settings())
        for schema in (FORGETTING, FORGETTING_SURVIVAL, FORGETTING_HAZARD):
            schema.check(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))


def test_one_checkpoint_is_refused_and_no_number_is_made() -> None:
    past = history({"a": (1,)}, steps=(5,))
    (found,) = problems((5,), past.items, Settings())
    assert "needs at least two checkpoints" in found
    told = ask(past, Settings())
    assert (told.tables, told.estimates.height, told.warnings) == ({}, 0, (found,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state": "hit_frac"}, 'state = "hit_frac" needs tau_hi'),
        ({"tau_hi": 0.5}, 'tau_hi has no meaning beside state = "exact"'),
        ({"state": "pz", "tau_hi": 0.0}, "tau_hi is 0.0, not above 0 and up to 1"),
        ({"state": "pz", "tau_hi": 0.5, "tau_lo": 0.6}, "tau_lo is 0.6, above tau_hi, 0.5"),
        ({"suffix_tokens": 0}, "suffix_tokens is 0, not 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_the_level_is_the_share_of_hits_or_ln_pz_of_the_suffix(spans_of, items_of) -> None:
    span = {"item_id": "a", "start": 0, "score_from": 4, "stop": 8, "detail": "sums"}
    sums = {"n_scored": 4, "n_hits": 3, "logprob_sum_nats": -6.0}
    # Without a condition for the first of its tokens, the suffix as a whole has no state.
    rows = spans_of(span | sums, span | sums | {"item_id": "b", "n_scored": 3, "n_hits": 3})
    scores = Scores(rows, items_of({"item_id": "a"}, {"item_id": "b"}))
    assert PROBE.measure(scores, Settings())["level"].to_list() == [0.75, None]
    pz = PROBE.measure(scores, Settings(state="pz", tau_hi=0.5))
    assert pz["level"].to_list() == [-6.0, None]


@pytest.mark.slow
def test_a_panel_of_pythias_size_takes_seconds() -> None:
    g = np.random.default_rng(0)
    n, steps = 16_000, tuple(range(0, 154_000, 1000))
    ids = [f"i{k:05d}" for k in range(n)]
    items = pl.DataFrame(
        {"item_id": ids, "group": [f"g{k % 4}" for k in range(n)], "doc_id": [f"d{k // 4}" for k in range(n)]}
    ).with_columns(exposures=pl.lit(None, pl.Int64), first_step=pl.Series(g.integers(0, 140_000, n)))
    level = (g.random((n, 154)) < 0.7).astype(np.float64)
    rows = pl.DataFrame(
        {"item_id": np.repeat(ids, 154), "step": np.tile(steps, n), "level": level.ravel()}
    ).sort("step", "item_id")
    began = time.perf_counter()
    items = with_trained(items, ("first_step",))
    told = ask(History(rows, steps, (), items, lambda _: g), Settings())
    # About 1.5 s on two quiet cores.
    assert time.perf_counter() - began < 15
    assert told.tables["forgetting"].height == n
