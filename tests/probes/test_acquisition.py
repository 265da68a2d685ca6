"""Acquisition: check 12 of the methods through the probe, injections by hand, the null, what is left out."""

import math
import time

import numpy as np
import polars as pl
import pytest

from memprobe.probes.acquisition import PROBE, Settings, problems
from memprobe.probes.acquisition import estimate as ask
from memprobe.probes.acquisition.tables import ACQUISITION, ACQUISITION_CURVE, ACQUISITION_FIT
from memprobe.probes.contract import History, Scores
from memprobe.tables.facts import with_trained

EXACT = 1e-9
STEPS = (0, 10, 20, 30, 40)
# Injected once, at step 5: from -4 up to -2 at 10, then down.
ONCE = {"a": (-4.0, -2.0, -2.4, -3.0, -3.2)}


def history(levels, exposures_at, *, steps=STEPS, missing=(), **columns) -> History:
    """`exposures_at`: item to its steps; absent: never trained on; a tuple: its first and last step alone."""
    names = list(levels)
    given = {"group": {}, "exposures": {}, "doc_id": {}} | columns
    items = pl.DataFrame(
        {
            "item_id": names,
            "first_step": [exposures_at.get(name, [None])[0] for name in names],
            "last_step": [exposures_at.get(name, [None])[-1] for name in names],
            "exposure_steps": [
                at if isinstance(at := exposures_at.get(name), list) else None for name in names
            ],
            **{key: [given[key].get(name) for name in names] for key in ("group", "exposures", "doc_id")},
        },
        schema_overrides={
            **dict.fromkeys(("first_step", "last_step", "exposures"), pl.Int64),
            **dict.fromkeys(("group", "doc_id"), pl.String),
            "exposure_steps": pl.List(pl.Int64),
        },
    )
    rows = [
        {"item_id": name, "step": step, "logprob_mean_nats": level}
        for name in names
        for step, level in zip(steps, levels[name], strict=True)
    ]
    types = {"item_id": pl.String, "step": pl.Int64, "logprob_mean_nats": pl.Float64}
    return History(
        rows=pl.DataFrame(rows, schema=types),
        steps=steps,
        missing=missing,
        items=with_trained(items, ("first_step",)),
        draws=lambda what: np.random.default_rng(len(what)),
    )


def row(told, item: str, injection: int = 1) -> dict:
    return told.tables["acquisition"].filter(item_id=item, injection=injection).row(0, named=True)


def estimate(told, metric: str, *, group=None) -> dict:
    of = told.estimates.filter(
        pl.col("metric") == metric,
        pl.col("group").eq_missing(pl.lit(group, pl.String)),
        pl.col("condition").is_null(),
    )
    return of.row(0, named=True)


def test_one_injection_by_hand() -> None:
    told = ask(history(ONCE, {"a": [5]}), Settings())
    assert {name: value for name, value in row(told, "a").items() if value is not None} == {
        "item_id": "a",
        "injection": 1,
        "injection_step": 5,
        "before_step": 0,
        "n_since_before": 1,
        "window_checkpoints": 4,
        # Checkpoints at 10, 20, 30 and 40 of the 36 steps 5 to 40.
        "window_coverage_frac": pytest.approx(4 / 36),
        "lam_step": 10,
        "t_lam_steps": 5,
        "l_pre_nats": -4.0,
        "l_before_nats": -4.0,
        "l_lam_nats": -2.0,
        "effectivity_nats": 2.0,
        "acquired": True,
    }
    curve = told.tables["acquisition_curve"].filter(pl.col("group").is_null())
    # (-2.4 + 4) / 2, (-3 + 4) / 2, (-3.2 + 4) / 2 at 10, 20 and 30 steps after the highest.
    assert curve["t_since_lam_steps"].to_list() == [10, 20, 30]
    assert curve["retainability_mean"].to_list() == pytest.approx([0.8, 0.5, 0.4])
    assert curve["retainability_pooled"].to_list() == pytest.approx([0.8, 0.5, 0.4])
    assert curve["lo"].to_list() == [None] * 3


def test_check_12_of_the_methods() -> None:
    steps = (0, 100, 101, 110, 200, 1100)
    kept = (0, 1, 0.8, 0.6, 0.4, 0.2)
    flat = (0, -1, -1, -1, -1, -1)
    told = ask(history({"a": kept, "not": flat}, {"a": [100], "not": [100]}, steps=steps), Settings())
    fit = told.tables["acquisition_fit"].row(0, named=True)
    assert fit["decay_per_decade"] == pytest.approx(0.2, abs=EXACT)
    assert fit["tau_steps"] == pytest.approx(1e4, rel=EXACT)
    assert (fit["n_points"], fit["n_items"], fit["reason"]) == (4, 1, None)
    # The item that never rose is excluded and counted, not turned around.
    assert fit["n_excluded"] == 1
    assert row(told, "not")["acquired"] is False
    assert estimate(told, "acquired_frac")["estimate"] == 0.5
    assert estimate(told, "decay_per_decade")["n_missing"] == 1


def test_each_injection_looks_up_to_the_next_and_retention_begins_after_the_last() -> None:
    levels = {"a": (-4.0, -2.0, -3.0, -1.0, -2.5)}
    told = ask(history(levels, {"a": [10, 30]}), Settings())
    first, second = row(told, "a", 1), row(told, "a", 2)
    # Exactly at 10 and 30: those checkpoints have seen it; the one before has not.
    assert (first["before_step"], first["lam_step"], first["window_checkpoints"]) == (0, 10, 2)
    assert first["effectivity_nats"] == 2.0
    assert (second["before_step"], second["l_before_nats"], second["l_pre_nats"]) == (20, -3.0, -4.0)
    assert (second["lam_step"], second["effectivity_nats"]) == (30, 2.0)
    curve = told.tables["acquisition_curve"]
    # (-2.5 + 4) / (-1 + 4), from before the first injection, after the highest of the second.
    assert curve.select("t_since_lam_steps", "retainability_mean").rows() == [(10, pytest.approx(0.5))]


def test_injections_between_two_checkpoints_are_told_apart_from_single_ones() -> None:
    told = ask(history(ONCE, {"a": [3, 7, 7, 99]}), Settings())
    one, two, late = (row(told, "a", n) for n in (1, 2, 3))
    # No checkpoint between 3 and 7: the rise after 7 is that of both. Given twice, 7 is one injection.
    assert (one["window_checkpoints"], one["effectivity_nats"], one["acquired"]) == (0, None, None)
    assert (two["n_since_before"], two["effectivity_nats"]) == (2, 2.0)
    assert (late["before_step"], late["window_checkpoints"], late["window_coverage_frac"]) == (40, 0, None)
    assert any("1 of 1 injection follow another of the same item" in text for text in told.warnings)
    # The last injection that a checkpoint has seen is the one that counts.
    assert told.tables["acquisition_fit"]["n_items"].to_list() == [1]


def test_a_window_may_be_narrower_than_the_way_to_the_next() -> None:
    levels = {"a": (-4.0, -3.0, -2.0, -3.0, -3.5)}
    wide, narrow = (ask(history(levels, {"a": [5]}), Settings(window_steps=width)) for width in (None, 10))
    assert (row(wide, "a")["lam_step"], row(narrow, "a")["lam_step"]) == (20, 10)
    # 10 steps: 5 to 14.
    assert row(narrow, "a")["window_coverage_frac"] == pytest.approx(0.1)


def test_an_item_seen_once_needs_no_list_and_one_seen_more_often_does() -> None:
    levels = dict.fromkeys(("once", "unknown", "often", "spread"), ONCE["a"])
    at = dict.fromkeys(levels, (5, 5)) | {"spread": (5, 15)}
    told = ask(history(levels, at, exposures={"once": 1, "often": 3}), Settings())
    assert told.tables["acquisition"]["item_id"].to_list() == ["once", "unknown"]
    assert "2 items of more than one exposure left out, without exposure_steps" in told.warnings
    assert estimate(told, "effectivity_nats")["n_missing"] == 2


def test_no_checkpoint_before_an_injection_is_no_base() -> None:
    told = ask(history(ONCE | {"b": ONCE["a"]}, {"a": [0], "b": [5]}), Settings())
    early = row(told, "a")
    assert (early["before_step"], early["l_pre_nats"], early["effectivity_nats"]) == (None, None, None)
    assert (early["acquired"], early["lam_step"]) == (None, 10)
    assert estimate(told, "effectivity_nats")["n_items"] == 1


def test_gains_up_to_a_least_one_are_not_acquired() -> None:
    told = ask(history(ONCE, {"a": [5]}), Settings(min_gain_nats=2.0))
    assert row(told, "a")["acquired"] is False
    fit = told.tables["acquisition_fit"].row(0, named=True)
    assert (fit["decay_per_decade"], fit["n_excluded"]) == (None, 1)
    assert fit["reason"] == "no item was acquired: none rose by more than 2 nats per token"


def test_the_null_is_the_same_window_over_never_trained_items() -> None:
    levels = ONCE | {"n": (-3.0, -3.5, -2.5, -2.8, -2.9), "m": (-1.0, -1.0, -1.2, -1.0, -1.0)}
    found = estimate(ask(history(levels, {"a": [5]}), Settings()), "effectivity_null_nats")
    # Highest of 10 to 40 minus 0: -2.5 + 3 = 0.5 and -1 + 1 = 0.
    assert (found["estimate"], found["n_items"]) == (pytest.approx(0.25), 2)
    # Two items: t with one degree of freedom, 12.7062, times half of their distance, 0.25.
    ends = (0.25 - 12.7062 * 0.25, 0.25 + 12.7062 * 0.25)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(ends, abs=1e-4)


def test_without_controls_windows_before_the_first_injection_are_the_null() -> None:
    levels = {"a": ONCE["a"], "late": (-4.0, -3.9, -3.9, -1.0, -1.0)}
    told = ask(history(levels, {"a": [5], "late": [25]}), Settings(window_steps=10))
    # The window of a, at 10 alone, lies before the training of late: 0.1. That of late lies before none.
    assert estimate(told, "effectivity_null_nats")["estimate"] == pytest.approx(0.1)
    alone = ask(history(ONCE, {"a": [5]}), Settings())
    assert estimate(alone, "effectivity_null_nats")["estimate"] is None
    assert any("is too high is not known" in text for text in alone.warnings)


def test_an_item_that_was_impossible_somewhere_is_left_out_like_one_without_a_level() -> None:
    # ln p = -inf: a rise from it or to it is infinite, and what is kept of it undefined.
    levels = {"a": (0.0, 4.0, 3.0, 2.0, 1.0), "b": (-math.inf, 4.0, 3.0, 2.0, 1.0), "n": (0.0,) * 5}
    told = ask(history(levels, {"a": [5], "b": [5]}), Settings())
    found = estimate(told, "effectivity_nats")
    assert (found["estimate"], found["n_items"], found["n_missing"]) == (4.0, 1, 1)
    assert "1 item left out, without a finite level at some checkpoint" in told.warnings


def test_what_is_left_out_or_doubtful_is_said_with_its_number() -> None:
    g = np.random.default_rng(0)
    noise = {f"n{n}": tuple(g.normal(size=5)) for n in range(30)}
    noisy = {f"t{n}": tuple(g.normal(size=5)) for n in range(30)}
    broken = {"broken": (None, 1.0, 1.0, 1.0, 1.0)}
    at = {name: [5] for name in noisy | broken}
    told = ask(history(noise | noisy | broken, at, missing=("m@step5",)), Settings())
    assert "left out, as they are not scored: m@step5" in told.warnings
    assert "1 item left out, without a finite level at some checkpoint" in told.warnings
    assert estimate(told, "effectivity_nats")["n_missing"] == 1
    assert any("a checkpoint at 0.11 of their steps" in text for text in told.warnings)
    assert any("is noise or general learning" in text for text in told.warnings)
    dense = history({"a": (0.0, 5.0, 4.0), "n": (0.0, 0.0, 0.0)}, {"a": [1]}, steps=(0, 1, 2))
    assert ask(dense, Settings()).warnings == ()


def test_facts_are_clusters_and_groups_have_rows_of_their_own() -> None:
    levels = {f"p{n}": tuple(level - n / 10 * (k > 0) for k, level in enumerate(ONCE["a"])) for n in range(8)}
    doc = {name: f"fact {n // 2}" for n, name in enumerate(levels)}
    group = {name: "xy"[n % 2] for n, name in enumerate(levels)}
    at = {name: [5] for name in levels}
    told = ask(history(levels, at, doc_id=doc, group=group), Settings())
    found = estimate(told, "effectivity_nats")
    assert (found["n_items"], found["n_clusters"], found["ci_method"]) == (8, 4, "cluster-hall-t")
    assert found["ci_low"] < found["estimate"] < found["ci_high"]
    assert told.tables["acquisition_fit"]["group"].to_list() == [None, "x", "y"]
    fit = told.tables["acquisition_fit"].row(0, named=True)
    assert fit["decay_lo"] <= fit["decay_per_decade"] <= fit["decay_hi"]
    assert fit["tau_lo"] <= fit["tau_steps"] <= fit["tau_hi"]
    curve = told.tables["acquisition_curve"].filter(pl.col("group").is_null())
    assert set(curve["n_clusters"]) == {4}
    assert set(curve["ci_method"]) == {"cluster-t"}


def test_small_gains_count_little_unless_each_item_counts_once() -> None:
    # One gained 10 nats and lost 2 per decade, the other gained 0.01 and its share is wild.
    levels = {"big": (0.0, 10.0, 8.0, 6.0), "tiny": (0.0, 0.01, 0.5, -0.5)}
    past = history(levels, {"big": [1], "tiny": [1]}, steps=(0, 1, 11, 101))
    by_gain, by_item = (
        ask(past, Settings(weight=weight, window_steps=1)).tables["acquisition_fit"]["decay_per_decade"][0]
        for weight in ("gain", "item")
    )
    # Together (8 + 0.5) / 10.01 are left after 10 steps and (6 - 0.5) / 10.01 after 100; one by one, the
    # means are (0.8 + 50) / 2 and (0.6 - 50) / 2.
    assert by_gain == pytest.approx(3 / 10.01, abs=EXACT)
    assert by_item == pytest.approx(50.1, abs=EXACT)


def test_the_order_of_items_and_rows_changes_nothing() -> None:
    g = np.random.default_rng(1)
    levels = {f"i{n:02d}": tuple(g.normal(size=5)) for n in range(30)}
    at = {name: sorted(g.integers(1, 40, 2).tolist()) for name in list(levels)[:20]}
    doc = {name: f"d{n // 3}" for n, name in enumerate(levels)}
    one = ask(history(levels, at, doc_id=doc), Settings())
    past = history(dict(reversed(levels.items())), at, doc_id=doc)
    past = History(past.rows.sample(fraction=1, shuffle=True, seed=1), past.steps, (), past.items, past.draws)
    other = ask(past, Settings())
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name])
    assert one.estimates.equals(other.estimates)


def test_a_constant_added_to_every_level_changes_nothing() -> None:
    levels = {"a": ONCE["a"], "b": (-5.0, -1.0, -2.0, -2.0, -3.0)}
    moved = {name: tuple(level + 3 for level in values) for name, values in levels.items()}
    at = {"a": [5], "b": [5]}
    one, other = (ask(history(each, at), Settings()) for each in (levels, moved))
    for metric in ("effectivity_nats", "decay_per_decade"):
        assert estimate(other, metric)["estimate"] == pytest.approx(estimate(one, metric)["estimate"])


def test_tables_keep_what_their_schemas_promise() -> None:
    flat = {"a": (-1.0,) * 5, "n": (0.0,) * 5}
    for levels, at in ((ONCE, {"a": [5]}), (flat, {"a": [5, 35]}), ({"a": (None,) * 5}, {"a": [5]})):
        told = ask(history(levels, at), Settings())
        for schema in (ACQUISITION, ACQUISITION_CURVE, ACQUISITION_FIT):
            schema.check(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))


@pytest.mark.parametrize(
    ("at", "steps", "settings", "message"),
    [
        ({"a": [5]}, (0,), {}, "needs at least two checkpoints"),
        ({}, STEPS, {}, "no item has a first_step"),
        ({"a": (5, 9)}, STEPS, {}, "1 of more than one exposure lack exposure_steps"),
        ({"a": [0]}, STEPS, {}, "no injection between the checkpoints at step 0 and 40"),
        ({"a": [41]}, STEPS, {}, "no injection between the checkpoints at step 0 and 40"),
        ({"a": [5]}, STEPS, {"window_steps": 5}, "no checkpoint lies within 5 steps of an injection"),
    ],
)
def test_what_cannot_be_estimated_is_said_and_no_number_is_made(at, steps, settings, message) -> None:
    past = history({"a": (-1.0,) * len(steps)}, at, steps=steps)
    (found,) = problems(steps, past.items, Settings(**settings))
    assert message in found
    told = ask(past, Settings(**settings))
    assert (told.tables, told.estimates.height, told.warnings) == ({}, 0, (found,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_steps": 0}, "window_steps is 0, not 1 or more"),
        ({"min_gain_nats": -0.1}, "min_gain_nats is -0.1, not 0 or more"),
        ({"align": "end"}, 'align = "end" needs suffix_tokens'),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


@pytest.mark.slow
def test_a_panel_of_pythias_size_takes_seconds() -> None:
    g = np.random.default_rng(0)
    n, steps = 16_000, tuple(range(0, 154_000, 1000))
    ids = [f"i{k:05d}" for k in range(n)]
    at = [sorted(g.integers(1, 150_000, 3).tolist()) if k % 8 else None for k in range(n)]
    items = pl.DataFrame(
        {
            "item_id": ids,
            "group": [f"g{k % 4}" for k in range(n)],
            "doc_id": [f"d{k // 4}" for k in range(n)],
            "first_step": [each[0] if each else None for each in at],
            "last_step": [each[-1] if each else None for each in at],
            "exposure_steps": at,
        }
    ).with_columns(exposures=pl.lit(None, pl.Int64))
    rows = pl.DataFrame(
        {
            "item_id": np.repeat(ids, 154),
            "step": np.tile(steps, n),
            "logprob_mean_nats": g.normal(size=n * 154),
        }
    ).sort("step", "item_id")
    began = time.perf_counter()
    items = with_trained(items, ("first_step",))
    told = ask(History(rows, steps, (), items, lambda _: g), Settings())
    # About 5 s on two quiet cores.
    assert time.perf_counter() - began < 30
    assert told.tables["acquisition"].height > n


def test_the_level_is_the_mean_over_the_suffix(spans_of, items_of) -> None:
    span = {
        "item_id": "a",
        "start": 0,
        "score_from": 4,
        "stop": 8,
        "detail": "sums",
        "logprob_sum_nats": -6.0,
    }
    rows = spans_of(span | {"n_scored": 4}, span | {"item_id": "b", "n_scored": 3})
    table = PROBE.measure(Scores(rows, items_of({"item_id": "a"}, {"item_id": "b"})), Settings())
    assert table["logprob_mean_nats"].to_list() == [-1.5, None]


def test_an_item_counts_once_however_many_injections_it_has() -> None:
    # a: two injections, each raises by 2; b: one, raises by 4; c falls; d has no checkpoint before; n: never.
    levels = {
        "a": (-4.0, -2.0, -3.0, -1.0, -2.5),
        "b": (-5.0, -1.0, -2.0, -2.0, -2.0),
        "c": (-1.0, -2.0, -3.0, -3.0, -3.0),
        "d": (-1.0, -1.0, -1.0, -1.0, -1.0),
        "n": (-3.0, -3.0, -3.0, -3.0, -3.0),
    }
    told = ask(history(levels, {"a": [10, 30], "b": [10], "c": [10], "d": [0]}), Settings())
    rise = estimate(told, "effectivity_nats")
    # The mean is over four injections of three items: (2 + 2 + 4 - 1) / 4.
    assert rise["estimate"] == pytest.approx(7 / 4, abs=EXACT)
    assert (rise["n_items"], rise["n_clusters"], rise["n_missing"]) == (3, 3, 1)
    share = estimate(told, "acquired_frac")
    assert (share["estimate"], share["n_items"], share["n_missing"]) == (pytest.approx(2 / 3), 3, 1)
    decay = estimate(told, "decay_per_decade")
    assert (decay["n_items"], decay["n_missing"]) == (2, 2)
    null = estimate(told, "effectivity_null_nats")
    assert (null["estimate"], null["n_items"], null["n_missing"]) == (0, 1, 0)
