"""Profile: cohorts and their borders, the toy panel worked by hand, what is left out, and what warns.

The toy panel and its values: methods section 22, check 7 (recomputed there by hand); the statistics
themselves have tests of their own.
"""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.probes.contract import History, Scores
from memprobe.probes.profile import PROBE, Settings, estimate, problems
from memprobe.probes.profile.estimate import Panel
from memprobe.probes.profile.tables import PROFILE, PROFILE_AGG, PROFILE_DROPPED, PROFILE_PRETREND
from memprobe.tables.facts import with_trained

# Sums of a few float64 numbers.
EXACT = 1e-9
STEPS = (0, 100, 200, 300)
TOY = {
    "a1": (50, (1, 3, 2.5, 2.2)),
    "a2": (100, (2, 4.4, 3.5, 3)),
    "b1": (101, (0, 0.2, 2, 1.5)),
    "b2": (150, (1, 1.4, 3.2, 2.9)),
    "b3": (200, (2, 2, 4.1, 3.4)),
    "n1": (None, (1, 1.2, 1.4, 1.6)),
    "n2": (None, (3, 3.4, 3.4, 3.8)),
}


def history(panel=TOY, *, exposures=None, batch=None, group=None, steps=STEPS) -> History:
    names = list(panel)
    items = pl.DataFrame(
        {
            "item_id": names,
            "group": [group(name) if group else None for name in names],
            "exposures": [(exposures or {}).get(name) for name in names],
            "first_step": [panel[name][0] for name in names],
            "last_step": [panel[name][0] for name in names],
            "batch_id": [(batch or {}).get(name) for name in names],
            "doc_id": [None] * len(names),
        },
        schema_overrides={
            **dict.fromkeys(("group", "batch_id", "doc_id"), pl.String),
            **dict.fromkeys(("exposures", "first_step", "last_step"), pl.Int64),
        },
    )
    rows = [
        {"item_id": name, "step": step, "logprob_mean_nats": y, "exact": y, "hit_frac": y, "rank_mean": y}
        for name in names
        for step, y in zip(steps, panel[name][1], strict=True)
    ]
    numbers = dict.fromkeys(("logprob_mean_nats", "exact", "hit_frac", "rank_mean"), pl.Float64)
    return History(
        rows=pl.DataFrame(rows, schema={"item_id": pl.String, "step": pl.Int64, **numbers}),
        steps=steps,
        missing=(),
        items=with_trained(items, ("first_step",)),
        draws=lambda what: np.random.default_rng(len(what)),
    )


def att(told) -> dict[tuple[int, int], float]:
    return {
        (c, s): value for c, s, value in told.tables["profile"].select("cohort_step", "step", "att").rows()
    }


def test_the_toy_panel_has_the_effects_worked_by_hand() -> None:
    told = estimate(history(), Settings(draws=50))
    # ATT(1, 1) = mean(2, 2.4) - mean(0.2, 0.4) = 1.9, and so on; (2, 1) lies before treatment.
    expected = {
        (100, 100): 1.9,
        (100, 200): 1.1,
        (100, 300): 0.4,
        (200, 100): -0.1,
        (200, 200): 1.8,
        (200, 300): 1.0,
    }
    found = att(told)
    assert found.keys() == expected.keys()
    for cell, value in expected.items():
        assert found[cell] == pytest.approx(value, abs=EXACT)
    simple = told.tables["profile_agg"].filter(aggregation="simple")
    assert simple["att"].item() == pytest.approx(1.2666666667, abs=EXACT)
    row = told.tables["profile"].filter(cohort_step=100, step=100).row(0, named=True)
    assert row["se_analytic"] == pytest.approx(0.158113883, abs=EXACT)
    assert (row["base_step"], row["event_time"], row["is_post"]) == (0, 0, True)
    assert (row["n_treated"], row["n_control"]) == (2, 2)
    assert row["diff"] == pytest.approx(1.4, abs=EXACT)


def test_the_summary_says_instantaneous_persistent_and_residual() -> None:
    told = estimate(history(), Settings(draws=0))
    found = dict(told.estimates.filter(pl.col("group").is_null()).select("metric", "estimate").rows())
    # By items: (2 * 1.9 + 3 * 1.8) / 5, (2 * 1.1 + 2 * 0.4 + 3 * 1.0) / 7, (2 * 0.4 + 3 * 1.0) / 5.
    assert found["instantaneous"] == pytest.approx(1.84, abs=EXACT)
    assert found["persistent"] == pytest.approx(6 / 7, abs=EXACT)
    assert found["residual"] == pytest.approx(0.76, abs=EXACT)
    assert set(told.estimates["unit"]) == {"nats per token"}
    assert (told.estimates["ci_low"] < told.estimates["estimate"]).all()


def test_a_cohort_is_the_first_checkpoint_at_or_after_the_first_step() -> None:
    steps = (0, 1023, 1024, 2048)
    firsts = {"x": 1, "y": 1023, "z": 1024, "w": 1025, "late": 2049, "start": 0}
    items = history({name: (first, (0, 0, 0, 0)) for name, first in firsts.items()}, steps=steps).items
    panel = Panel.of(steps, items, "never", repeated=False)
    # Exactly at a checkpoint: that one had seen it. Behind the last: position 4, which is none.
    assert dict(panel.treated.select("item_id", "cohort").rows()) == {
        "x": 1, "y": 1, "z": 2, "w": 3, "late": 4, "start": 0,
    }  # fmt: skip


def test_exposures_are_counted_by_their_steps_where_no_count_is_given() -> None:
    steps = (0, 1, 2)
    items = history(dict.fromkeys(("once", "twice", "said"), (1, (0, 0, 0))), steps=steps).items
    items = items.with_columns(
        exposures=pl.Series([None, None, 1], dtype=pl.Int64), exposure_steps=pl.Series([[1], [1, 2], [1, 2]])
    )
    panel = Panel.of(steps, items, "never", repeated=False)
    assert panel.treated["item_id"].to_list() == ["once", "said"]
    assert panel.n_repeated == 1


def test_tables_keep_what_their_schemas_promise() -> None:
    told = estimate(history(), Settings(draws=50, outcomes=("logprob_mean_nats", "hit_frac")))
    for schema in (PROFILE, PROFILE_AGG, PROFILE_PRETREND, PROFILE_DROPPED):
        schema.conform(told.tables[schema.name].select(pl.lit("m").alias("model"), pl.all()))
    others = told.estimates.filter(pl.col("condition") == "outcome=hit_frac")
    assert set(others["unit"]) == {"fraction"}


def test_an_effect_of_training_is_positive_where_the_outcome_rises() -> None:
    # P6 and P7 of the methods: what is common to a checkpoint or to an item cancels, and scale scales.
    common = {
        name: (first, tuple(3 * y + 7 * i - 2 * len(name) for i, y in enumerate(ys)))
        for name, (first, ys) in TOY.items()
    }
    plain, changed = (
        att(estimate(history(), Settings(draws=0))),
        att(estimate(history(common), Settings(draws=0))),
    )
    for cell, value in plain.items():
        assert changed[cell] == pytest.approx(3 * value, abs=1e-8)
    assert plain[100, 100] > 0


def test_the_order_of_items_changes_nothing() -> None:
    backwards = dict(reversed(TOY.items()))
    one, other = (estimate(history(panel), Settings(draws=50)) for panel in (TOY, backwards))
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name])
    assert one.estimates.equals(other.estimates)


def test_items_of_more_than_one_exposure_are_left_out_unless_asked_for() -> None:
    often = {"b1": 3, "n1": 0}
    told = estimate(history(exposures=often), Settings(draws=0))
    assert told.tables["profile"].filter(cohort_step=200)["n_treated"].unique().item() == 2
    assert any("1 item of more than one exposure left out" in text for text in told.warnings)
    kept = estimate(history(exposures=often), Settings(draws=0, repeated=True))
    assert kept.tables["profile"].filter(cohort_step=200)["n_treated"].unique().item() == 3


@pytest.mark.parametrize("outcome", [None, -math.inf])
def test_an_item_without_a_finite_outcome_somewhere_is_dropped_counted_and_listed(outcome) -> None:
    gap = {**TOY, "b4": (150, (1, outcome, 2, 2))}
    told = estimate(history(gap), Settings(draws=0))
    assert att(told) == pytest.approx(att(estimate(history(), Settings(draws=0))))
    listed = told.tables["profile_dropped"].filter(pl.col("item_id").is_not_null())
    assert listed.select("item_id", "reason").rows() == [("b4", "has no finite outcome at some checkpoint")]
    assert told.estimates["n_missing"].to_list()[:1] == [1]
    assert any("1 item left out, without a finite outcome" in text for text in told.warnings)


def test_cohorts_without_a_base_are_dropped_and_listed() -> None:
    early = {**TOY, "e": (0, (9, 9, 9, 9)), "late": (900, (0, 0, 0, 0))}
    told = estimate(history(early), Settings(draws=0))
    assert att(told) == pytest.approx(att(estimate(history(), Settings(draws=0))))
    dropped = told.tables["profile_dropped"]
    assert dropped.filter(cohort_step=0)["n_items"].to_list() == [1]
    assert dropped.filter(pl.col("cohort_step").is_null())["n_items"].to_list() == [1]


def test_clusters_are_batches_where_the_items_name_them() -> None:
    batch = {"a1": "x", "a2": "x", "b1": "y", "b2": "y", "b3": "z"}
    clustered = estimate(history(batch=batch), Settings(draws=0))
    alone = estimate(history(batch=batch), Settings(draws=0, cluster="item"))
    # Batches x, y, z and two controls of no batch.
    assert clustered.estimates["n_clusters"].to_list()[0] == 5
    assert alone.estimates["n_clusters"].to_list()[0] == 7
    assert att(clustered) == att(alone)


def test_a_group_is_compared_with_its_own_controls_where_it_has_some() -> None:
    # Group q: a1 alone, control n1 alone: (3 - 1) - (1.2 - 1) = 1.8 at its first checkpoint.
    told = estimate(history(group=lambda name: "q" if name in ("a1", "n1") else "r"), Settings(draws=0))
    q = told.estimates.filter(metric="instantaneous", group="q")
    assert q["estimate"].item() == pytest.approx(1.8, abs=EXACT)


def test_controls_that_part_before_training_are_warned_of_with_the_p_value() -> None:
    rng = np.random.default_rng(0)
    drift = {f"t{i:02d}": (250, tuple(rng.normal(size=4) * 0.1 + np.array([0, 1, 2, 3]))) for i in range(40)}
    flat = {f"n{i:02d}": (None, tuple(rng.normal(size=4) * 0.1)) for i in range(40)}
    told = estimate(history({**drift, **flat}), Settings(draws=200))
    assert any("part before training (p = " in text for text in told.warnings)
    same = {f"t{i:02d}": (250, tuple(rng.normal(size=4) * 0.1)) for i in range(40)}
    assert not any(
        "part before" in text for text in estimate(history({**same, **flat}), Settings(draws=200)).warnings
    )


def test_controls_of_another_level_are_warned_of_in_standard_deviations() -> None:
    rng = np.random.default_rng(1)
    far = {f"t{i:02d}": (250, tuple(rng.normal(size=4) + 5)) for i in range(40)}
    flat = {f"n{i:02d}": (None, tuple(rng.normal(size=4))) for i in range(40)}
    told = estimate(history({**far, **flat}), Settings(draws=0))
    assert any("standard deviations of items" in text for text in told.warnings)
    near = {f"t{i:02d}": (250, ys) for i, (_, ys) in enumerate(flat.values())}
    assert not any(
        "standard deviations" in text
        for text in estimate(history({**near, **flat}), Settings(draws=0)).warnings
    )


def gap_warnings(told) -> list[str]:
    return [text for text in told.warnings if "standard deviations" in text]


def test_a_gap_is_compared_with_what_items_differ_by_at_the_same_checkpoints() -> None:
    """At step 0 all items are alike, as in a model that is not trained: no measure of a gap at step 200."""
    rng = np.random.default_rng(4)

    def outcomes(level: float) -> tuple[float, ...]:
        return (rng.normal() * 1e-3, *(rng.normal() + level + rng.normal(size=3) * 0.1).tolist())

    controls = {f"n{i:02d}": (None, outcomes(0.0)) for i in range(60)}
    alike = {f"t{i:02d}": (250, outcomes(0.0)) for i in range(60)}
    assert not gap_warnings(estimate(history({**alike, **controls}), Settings(draws=0)))
    higher = {f"t{i:02d}": (250, outcomes(1.0)) for i in range(60)}
    [text] = gap_warnings(estimate(history({**higher, **controls}), Settings(draws=0)))
    ratio = float(text.split(" standard deviations")[0].split()[-1])
    assert 0.6 < ratio < 1.4


def test_gaps_of_exchangeable_controls_are_rarely_warned_of() -> None:
    """The same items, cohorts by lot: 30 panels of 20 treated and 20 controls."""
    warned = 0
    for seed in range(30):
        rng = np.random.default_rng([9, seed])
        levels = rng.normal(size=(40, 1)) + rng.normal(size=(40, 4)) * 0.2
        panel = {f"i{n:02d}": (250 if n < 20 else None, tuple(levels[n])) for n in range(40)}
        warned += bool(gap_warnings(estimate(history(panel), Settings(draws=0))))
    # At 1% four or more of 30 come up once in 5,000 seeds; two of five gaps are beyond a quarter
    # of a standard deviation.
    assert warned < 4


def test_identical_controls_make_no_absurd_number() -> None:
    rng = np.random.default_rng(5)
    same = (0.1 + 0.2, 0.7, 0.9, 1.1)
    controls = {f"n{i:02d}": (None, same) for i in range(30)}
    copies = {f"t{i:02d}": (250, same) for i in range(30)}
    assert not gap_warnings(estimate(history({**copies, **controls}), Settings(draws=50)))
    treated = {f"t{i:02d}": (250, tuple(rng.normal(size=4) + 9)) for i in range(30)}
    [text] = gap_warnings(estimate(history({**treated, **controls}), Settings(draws=50)))
    assert 1 < float(text.split(" standard deviations")[0].split()[-1]) < 30


def test_few_batches_are_warned_of_with_the_degrees_of_freedom() -> None:
    rng = np.random.default_rng(6)
    panel = {f"t{i:02d}": (250, tuple(rng.normal(size=4))) for i in range(4)}
    panel |= {f"n{i:02d}": (None, tuple(rng.normal(size=4))) for i in range(30)}
    two = {f"t{i:02d}": f"b{i // 2}" for i in range(4)}
    [text] = [
        t
        for t in estimate(history(panel, batch=two), Settings(draws=0)).warnings
        if "degrees of freedom" in t
    ]
    assert "1 of 1 effects rest on errors with fewer than 5 degrees of freedom" in text
    one = dict.fromkeys(two, "b0")
    told = estimate(history(panel, batch=one), Settings(draws=0))
    assert any("1 of 1 effects have no interval" in text for text in told.warnings)
    many = {f"t{i:02d}": (250, tuple(rng.normal(size=4))) for i in range(40)}
    many |= {f"n{i:02d}": (None, tuple(rng.normal(size=4))) for i in range(40)}
    assert not any("degrees of freedom" in t for t in estimate(history(many), Settings(draws=0)).warnings)


def test_intervals_of_the_summary_have_the_quantile_of_students_t_and_say_so() -> None:
    # One cohort of two batches and two batches of controls: far from the normal quantile.
    rng = np.random.default_rng(7)
    panel = {f"t{i:02d}": (250, tuple(rng.normal(size=4))) for i in range(4)}
    panel |= {f"n{i:02d}": (None, tuple(rng.normal(size=4))) for i in range(4)}
    batches = {name: f"{name[0]}{int(name[1:]) // 2}" for name in panel}
    told = estimate(history(panel, batch=batches), Settings(draws=0))
    row = told.estimates.filter(metric="instantaneous").row(0, named=True)
    assert row["ci_method"] == "influence-function-t"
    se = told.tables["profile_agg"].filter(aggregation="event", key=0)["se"].item()
    # Half of each side's squares: sqrt(2); Student's t with 2 degrees of freedom at most: 4.30, with 1: 12.7.
    assert 3.5 * math.sqrt(2) < (row["ci_high"] - row["estimate"]) / se < 12.8 * math.sqrt(2)


def test_means_that_no_item_differs_from_have_no_interval_and_a_reason() -> None:
    panel = {f"t{i}": (250, (0.0, 0.0, 0.0, 1.0)) for i in range(5)}
    panel |= {f"n{i}": (None, (0.0, 0.0, 0.0, 0.0)) for i in range(5)}
    told = estimate(history(panel), Settings(draws=20))
    row = told.estimates.filter(metric="instantaneous").row(0, named=True)
    assert (row["estimate"], row["ci_low"], row["ci_high"], row["ci_method"]) == (
        1.0,
        None,
        None,
        "none:all-equal",
    )
    assert any("no item differs" in text for text in told.warnings)


@pytest.mark.parametrize(
    ("panel", "steps", "message"),
    [
        ({"a": (5, (0,)), "n": (None, (0,))}, (0,), "at least two checkpoints"),
        ({"n": (None, (0, 0))}, (0, 9), "no item has a first_step"),
        (
            {"a": (0, (0, 0)), "b": (99, (0, 0)), "n": (None, (0, 0))},
            (0, 9),
            "between the checkpoints at step 0 and 9",
        ),
        ({"a": (5, (0, 0))}, (0, 9), "no item is never trained on"),
    ],
)
def test_what_cannot_be_estimated_is_said_and_no_number_is_made(panel, steps, message) -> None:
    past = history(panel, steps=steps)
    (found,) = problems(steps, past.items, Settings())
    assert message in found
    told = estimate(past, Settings())
    assert (told.tables, told.estimates.height) == ({}, 0)
    assert message in told.warnings[0]


def test_not_yet_trained_items_may_be_the_controls() -> None:
    without = {name: each for name, each in TOY.items() if each[0] is not None}
    assert problems(STEPS, history(without).items, Settings(control="not_yet")) == []
    # ATT(1, 1) against cohort 2, which comes later: mean(2, 2.4) - mean(0.2, 0.4, 0) = 2.0.
    assert att(estimate(history(without), Settings(control="not_yet", draws=0)))[100, 100] == pytest.approx(
        2.0
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anticipation": -1}, "anticipation is -1, not 0 or more"),
        ({"draws": -1}, "draws is -1, not 0 or more"),
        ({"balanced_to": -1}, "balanced_to is -1, not 0 or more"),
        ({"outcomes": ()}, "outcomes is empty"),
        ({"outcomes": ("exact", "exact")}, "outcomes has one outcome twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_outcomes_are_means_over_all_scored_tokens(spans_of, items_of) -> None:
    span = {"item_id": "a", "start": 0, "score_from": 0, "stop": 5, "detail": "sums"}
    sums = {"n_scored": 4, "n_hits": 3, "logprob_sum_nats": -6.0, "rank_sum": 10}
    rows = spans_of(span | sums, span | {"item_id": "b", "stop": 1, "n_scored": 0, "n_hits": 0})
    table = PROBE.measure(Scores(rows, items_of({"item_id": "a"}, {"item_id": "b"})), Settings())
    assert table.row(0, named=True) == {
        "item_id": "a", "logprob_mean_nats": -1.5, "exact": 0.0, "hit_frac": 0.75, "rank_mean": -2.5,
    }  # fmt: skip
    assert table.row(1)[1:] == (None, None, None, None)


# Copies

# Ten treated items that rise by about 1, and 30 controls, which are one text under 30 ids: they fall by 0.2.
COPIED = {f"t{i}": (50, (0, 1 + i / 20, 1 + i / 30, 1 - i / 40)) for i in range(10)} | {
    f"n{i:02d}": (None, (0, -0.2 + i / 1000, i / 900, -i / 800)) for i in range(30)
}


def with_contents(past: History, content) -> History:
    hashes = [content(name) for name in past.items["item_id"]]
    return replace(past, items=past.items.with_columns(content_hash=pl.Series(hashes)))


@pytest.mark.parametrize("cluster", ["batch", "item"])
def test_thirty_copies_of_one_text_are_one_control_and_give_no_interval(cluster) -> None:
    settings = Settings(draws=20, cluster=cluster)
    apart = estimate(with_contents(history(COPIED), lambda name: name), settings)
    one = estimate(with_contents(history(COPIED), lambda name: name[0] if name[0] == "n" else name), settings)
    assert_frame_equal(
        apart.estimates.select("metric", "estimate"), one.estimates.select("metric", "estimate")
    )
    assert apart.estimates["ci_low"].null_count() == 0
    assert (apart.estimates["n_clusters"] == 40).all()
    for name in ("ci_low", "ci_high"):
        assert one.estimates[name].null_count() == one.estimates.height
    assert set(one.estimates["ci_method"]) == {"none:few-clusters"}
    assert (one.estimates["n_items"] == 40).all()
    assert (one.estimates["n_clusters"] == 11).all()
    cells = one.tables["profile"]
    assert cells["n_control"].unique().to_list() == [30]
    for name in ("se_analytic", "se_boot", "lo", "hi", "lo_sim", "hi_sim"):
        assert cells[name].null_count() == cells.height


def test_copies_of_several_texts_widen_the_interval_as_if_each_text_stood_once() -> None:
    # Six texts of five copies each: their spread is that of six numbers, not of thirty.
    panel = {f"t{i}": (50, (0, 1 + i / 20, 1, 1)) for i in range(10)} | {
        f"n{i:02d}": (None, (0, (i // 5) / 10, 0, 0)) for i in range(30)
    }
    settings = Settings(draws=0)
    copied = estimate(
        with_contents(history(panel), lambda name: name if name[0] == "t" else str(int(name[1:]) // 5)),
        settings,
    )
    once = {name: value for name, value in panel.items() if name[0] == "t" or int(name[1:]) % 5 == 0}
    alone = estimate(with_contents(history(once), lambda name: name), settings)
    se = [each.tables["profile"].filter(step=100)["se_analytic"].item() for each in (copied, alone)]
    assert se[0] == pytest.approx(se[1], rel=1e-9)


def test_copies_join_batches_too() -> None:
    batches = {f"t{i}": f"b{i // 5}" for i in range(10)}
    plain = with_contents(history(COPIED, batch=batches), lambda name: name)
    # One text in both batches makes them one cluster.
    joined = with_contents(history(COPIED, batch=batches), lambda name: "x" if name in ("t0", "t9") else name)
    settings = Settings(draws=0)
    assert estimate(plain, settings).estimates["n_clusters"][0] == 32
    assert estimate(joined, settings).estimates["n_clusters"][0] == 31


# Items first trained on after the last checkpoint

LATE = TOY | {"z1": (301, (1, 1.3, 1.5, 1.9)), "z2": (999, (0, 0.4, 0.5, 0.7))}


def test_untrained_controls_are_those_that_no_checkpoint_has_seen() -> None:
    found = estimate(history(LATE), Settings(draws=0, control="untrained"))
    # As if they were never trained on: what three other packages do with such units.
    as_never = {name: (None if name[0] == "z" else first, ys) for name, (first, ys) in LATE.items()}
    expected = estimate(history(as_never), Settings(draws=0))
    assert_frame_equal(found.tables["profile"], expected.tables["profile"])
    assert_frame_equal(found.estimates, expected.estimates)
    assert found.tables["profile"]["n_control"].unique().to_list() == [4]
    # By hand: mean(2, 2.4) - mean(0.2, 0.4, 0.3, 0.4).
    assert att(found)[100, 100] == pytest.approx(2.2 - 0.325, abs=EXACT)
    assert found.left_out == {}
    assert "2 items first trained on after the last checkpoint among the controls" in " ".join(found.warnings)


def test_by_default_they_are_left_out_and_counted() -> None:
    told = estimate(history(LATE), Settings(draws=0))
    assert told.left_out == {"not trained on by the last checkpoint": 2}
    assert_frame_equal(told.tables["profile"], estimate(history(), Settings(draws=0)).tables["profile"])
    assert not any("among the controls" in text for text in told.warnings)


def test_not_yet_trained_items_after_the_last_checkpoint_are_counted_too() -> None:
    told = estimate(history(LATE), Settings(draws=0, control="not_yet"))
    assert told.left_out == {}
    assert "2 items first trained on after the last checkpoint among the controls" in " ".join(told.warnings)


def test_the_last_checkpoint_has_seen_what_was_trained_on_at_its_step() -> None:
    at_end = TOY | {"z1": (300, (1, 1.3, 1.5, 1.9))}
    told = estimate(history(at_end), Settings(draws=0, control="untrained"))
    assert told.tables["profile"].filter(cohort_step=300)["n_treated"].unique().to_list() == [1]
    assert told.tables["profile"]["n_control"].unique().to_list() == [2]


def test_later_exposures_do_not_matter_to_a_control() -> None:
    told = estimate(history(LATE, exposures={"z1": 7, "b1": 7}), Settings(draws=0, control="untrained"))
    assert told.tables["profile"]["n_control"].unique().to_list() == [4]
    assert told.left_out == {"of more than one exposure": 1}


def test_a_sequence_without_never_trained_items_can_have_untrained_ones() -> None:
    only_late = {name: value for name, value in LATE.items() if name[0] != "n"}
    items = history(only_late).items
    assert "nothing to compare with" in problems(STEPS, items, Settings())[0]
    assert problems(STEPS, items, Settings(control="untrained")) == []
    none_left = history({name: value for name, value in TOY.items() if name[0] != "n"}).items
    (stop,) = problems(STEPS, none_left, Settings(control="untrained"))
    assert "no item is never trained on (first_step null), or after the last checkpoint" in stop
    alone = history({name: value for name, value in LATE.items() if name[0] == "z"}).items
    (stop,) = problems(STEPS, alone, Settings(control="untrained"))
    assert "no item with a first_step between" in stop


def test_untrained_controls_may_not_be_felt_beforehand() -> None:
    with pytest.raises(ValueError, match="control is untrained and anticipation above 0"):
        Settings(control="untrained", anticipation=1)


@pytest.mark.parametrize(("n_recalled", "is_told"), [(5, True), (25, False)])
def test_a_rate_of_which_few_items_change_says_that_its_intervals_lie_too_low(n_recalled, is_told) -> None:
    panel = {f"t{i:03d}": (250, (0.0, 0.0, 0.0, float(i < n_recalled))) for i in range(60)}
    panel |= {f"n{i:03d}": (None, (0.0, 0.0, 0.0, float(i < 2))) for i in range(30)}
    given = history(panel)
    rows = given.rows.with_columns(exact=pl.col("logprob_mean_nats"))
    result = estimate(replace(given, rows=rows), Settings(draws=0, outcomes=("exact",)))
    assert (
        any(f"only {n_recalled} of 60 treated items ever change" in text for text in result.warnings)
        is is_told
    )
