"""SORT: contrast, bias and mass by hand and by a loop, the chosen template, what is asked, what is refused.

Rungs: hand values (check 15 of the methods), a slow recomputation, invariances (P9: the labels' names; a
preference for a place), the undefined. Summary and tables are in test_sort_tables.py.
"""

import math
import random
from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import ItemError
from memprobe.probes.sort import PROBE, Settings, measure, plan
from memprobe.tables.prompts import Prompt

# Sums of a few float64 logarithms.
TOL = 1e-12

TWO = tuple(
    Prompt(name=name, in_context="{excerpt} {first} {second}", parametric="{first} {second}")
    for name in ("one", "two")
)
ONE = Settings(prompts=TWO[:1])
BEST = Settings(prompts=TWO, select="best")


def masses(first: float, second: float) -> list[float]:
    """ln mass of both labels, from two logits, of a vocabulary that holds nothing else."""
    total = math.log(math.exp(first) + math.exp(second))
    return [first - total, second - total]


def only(table: pl.DataFrame) -> dict[str, object]:
    (row,) = table.to_dicts()
    return row


# Check 15: contrast, score and bias.


def test_the_same_label_in_both_orders_is_pure_bias_and_scores_a_half(trials) -> None:
    scores = trials({"x": {"AB": masses(1, 0), "BA": masses(1, 0)}})
    row = only(measure(scores, ONE))
    # delta = 1/2 ((1 - 0) - (1 - 0)) = 0; bias = 1/2 ((1 - 0) + (1 - 0)) = 1.
    assert row["delta"] == pytest.approx(0, abs=TOL)
    assert row["position_bias"] == pytest.approx(1, abs=TOL)
    assert (row["correct"], row["mode"], row["condition"]) == (0.5, "prompt", "in_context")
    value = only(PROBE.metric("position_bias_frac").values(measure(scores, ONE), ONE))
    assert value["value"] - value["other"] == 1


def test_delta_is_half_the_change_when_the_earlier_segment_moves_to_the_front(trials) -> None:
    scores = trials({"x": {"AB": masses(2, -1), "BA": masses(0.5, 1)}})
    row = only(measure(scores, ONE))
    assert row["delta"] == pytest.approx(1.75, abs=TOL)  # 1/2 (3 - -0.5)
    assert row["position_bias"] == pytest.approx(1.25, abs=TOL)  # 1/2 (3 + -0.5)
    assert row["correct"] == 1
    # Each order names the earlier segment: one with the first label, one with the second.
    value = only(PROBE.metric("position_bias_frac").values(measure(scores, ONE), ONE))
    assert value["value"] == value["other"] == 0.5


def test_a_wrong_order_has_a_negative_delta(trials) -> None:
    row = only(measure(trials({"x": {"AB": masses(0, 1), "BA": masses(0, 0.5)}}), ONE))
    assert row["delta"] == pytest.approx(-0.25, abs=TOL)  # 1/2 (-1 - -0.5)
    assert (row["correct"], row["position_bias"]) == (0, pytest.approx(-0.75, abs=TOL))


def test_every_trial_is_what_a_loop_over_the_definition_says(trials) -> None:
    rng = random.Random(5)
    logits = {
        f"i{n}": {order: [rng.gauss(0, 2), rng.gauss(0, 2)] for order in ("AB", "BA")} for n in range(40)
    }
    answered = {item: {order: masses(*z) for order, z in each.items()} for item, each in logits.items()}
    table = measure(trials(answered), ONE)
    assert table.height == 40
    for row in table.iter_rows(named=True):
        z = {
            (label, order): logits[row["item_id"]][order]["AB".index(label)]
            for label in "AB"
            for order in ("AB", "BA")
        }
        earlier_is_a, earlier_is_b = (z["A", order] - z["B", order] for order in ("AB", "BA"))
        assert row["delta"] == pytest.approx(0.5 * (earlier_is_a - earlier_is_b), abs=TOL)
        assert row["correct"] == float(earlier_is_a > earlier_is_b)
        assert row["label_mass"] == pytest.approx(1, abs=TOL)
        answers = [earlier_is_a > 0, earlier_is_b > 0]
        found = PROBE.metric("position_bias_frac").values(
            table.filter(pl.col("item_id") == row["item_id"]), ONE
        )
        assert only(found)["value"] == sum(answers) / 2


# P9 and what the contrast is for.


def test_exchanging_the_labels_leaves_delta_unchanged_and_moves_only_the_bias(trials) -> None:
    """The model likes the earlier segment by 0.7, label B by 2, and what is shown first by 0.3."""
    prior = {"A": 0.0, "B": 2.0}

    def answers(labels: str) -> dict[str, list[float]]:
        def z(shown: int, order: str) -> float:
            is_earlier = "AB"[shown] == order[0]
            return 0.7 * is_earlier + prior[labels[shown]] + 0.3 * (shown == 0)

        return {order: masses(z(0, order), z(1, order)) for order in ("AB", "BA")}

    named, exchanged = (only(measure(trials({"x": answers(labels)}), ONE)) for labels in ("AB", "BA"))
    assert named["delta"] == pytest.approx(0.7, abs=TOL)
    assert exchanged["delta"] == pytest.approx(named["delta"], abs=TOL)
    # 0.3 for the place, and 2 against the first label, or for it.
    assert named["position_bias"] == pytest.approx(-1.7, abs=TOL)
    assert exchanged["position_bias"] == pytest.approx(2.3, abs=TOL)


def test_mass_on_other_tokens_changes_the_label_mass_alone(trials) -> None:
    whole = {"AB": masses(2, 0), "BA": masses(1, 0)}
    # A tenth of the mass in one order, three tenths in the other.
    tenth = {"AB": [x + math.log(0.1) for x in whole["AB"]], "BA": [x + math.log(0.3) for x in whole["BA"]]}
    row, less = (only(measure(trials({"x": each}), ONE)) for each in (whole, tenth))
    assert less["label_mass"] == pytest.approx(0.2, abs=TOL)
    for name in ("delta", "position_bias", "correct"):
        assert less[name] == pytest.approx(row[name], abs=TOL)


# Content-free calibration, and the single presentation that was published.


def test_what_the_labels_have_without_content_is_taken_off_the_bias_and_not_off_delta(trials) -> None:
    settings = Settings(prompts=TWO[:1], content_free=True)
    orders = {"AB": masses(1, 0), "BA": masses(0.4, 0)}
    plain = only(measure(trials({"x": orders}), ONE))
    row = only(measure(trials({"x": orders | {"free": masses(0.7, 0)}}), settings))
    assert row["delta"] == pytest.approx(plain["delta"], abs=TOL)
    assert row["content_free_nats"] == pytest.approx(0.7, abs=TOL)
    assert row["position_bias"] == pytest.approx(0, abs=TOL)  # 0.7 - 0.7
    assert row["label_mass"] == pytest.approx(1, abs=TOL)
    assert plain["content_free_nats"] is None


@pytest.mark.parametrize(
    ("earlier_first", "free", "expected"),
    [
        # AB: 1 - 0 for the first label, which is right; BA: 0.4 for the first label, which is wrong.
        (True, None, 1),
        (False, None, 0),
        # With 0.7 taken off: 0.3 is still right, -0.3 becomes so.
        (True, 0.7, 1),
        (False, 0.7, 1),
        (True, 1.2, 0),
        (None, None, None),
    ],
)
def test_a_single_presentation_is_judged_as_published(trials, earlier_first, free, expected) -> None:
    orders = {"AB": masses(1, 0), "BA": masses(0.4, 0)}
    if free is not None:
        orders["free"] = masses(free, 0)
    scores = trials({"x": orders}, items={"x": {"earlier_first": earlier_first}})
    assert only(measure(scores, ONE))["presented_correct"] == expected


# Likelihood.


def test_likelihood_compares_the_two_concatenations(trials) -> None:
    settings = Settings(mode="likelihood")
    scores = trials({"x": {"12": -40.5, "21": -42.0}, "y": {"12": -9.0, "21": -7.0}})
    table = measure(scores, settings).sort("item_id")
    assert table["delta"].to_list() == [1.5, -2.0]
    assert table["correct"].to_list() == [1, 0]
    assert set(table["mode"]) == {"likelihood"}
    for name in ("prompt_id", "position_bias", "label_mass", "presented_correct"):
        assert table[name].null_count() == 2


def test_both_modes_are_two_rows_of_one_trial(trials) -> None:
    scores = trials({"x": {"AB": masses(1, 0), "BA": masses(0, 1), "12": -3.0, "21": -2.0}})
    table = measure(scores, Settings(prompts=TWO[:1], mode="both"))
    assert table.sort("mode").select("mode", "correct").rows() == [("likelihood", 0), ("prompt", 1)]


# The undefined.


@pytest.mark.parametrize(
    "orders",
    [
        {"AB": [-math.inf, -math.inf], "BA": masses(0, 1)},
        {"AB": masses(1, 0)},
        {"AB": None, "BA": masses(0, 1)},
    ],
)
def test_without_mass_on_both_labels_in_both_orders_nothing_is_known(trials, orders) -> None:
    row = only(measure(trials({"x": orders}), ONE))
    assert (row["delta"], row["correct"], row["position_bias"]) == (None, None, None)
    # What one order says of the mass would stand for both.
    assert (row["label_mass"] is None) == (next(iter(orders.values())) is None or len(orders) == 1)
    for name in ("accuracy_frac", "position_bias_frac"):
        assert PROBE.metric(name).values(measure(trials({"x": orders}), ONE), ONE)["value"].is_null().all()


def test_a_label_without_any_mass_loses_by_an_infinite_margin(trials) -> None:
    row = only(measure(trials({"x": {"AB": [-0.5, -math.inf], "BA": masses(0, 1)}}), ONE))
    assert (row["delta"], row["correct"]) == (math.inf, 1)


def test_concatenations_of_which_nothing_is_scored_are_not_compared(trials) -> None:
    row = only(measure(trials({"x": {"12": 0.0, "21": 0.0}}, n_scored=0), Settings(mode="likelihood")))
    assert (row["delta"], row["correct"]) == (None, None)


@pytest.mark.parametrize(("n_scored", "expected"), [(4, -40.0 - 2.5 - (-41.0 - 3.0)), (0, None)])
def test_concatenations_of_which_two_runs_are_scored_are_their_sums(trials, n_scored, expected) -> None:
    first = trials({"x": {"12": -40.0, "21": -41.0}})
    # Behind the first token of the second segment: -2.5 and -3.0, of other tokens of the same strings.
    second = trials({"x": {"12": -2.5, "21": -3.0}}, n_scored=n_scored)
    spans = second.spans.with_columns(score_from=pl.col("score_from") + 9)
    windows = second.windows.with_columns(score_from=pl.col("score_from") + 9, window=pl.col("window") + 2)
    scores = replace(
        first, spans=pl.concat([first.spans, spans]), windows=pl.concat([first.windows, windows])
    )
    assert only(measure(scores, Settings(mode="likelihood")))["delta"] == expected


def test_a_shortened_prompt_is_marked_with_what_it_lost_at_most(trials) -> None:
    orders = {"AB": masses(1, 0), "BA": masses(0, 1)}
    for dropped, most in (({"AB": 3, "BA": 5}, 5), ({"AB": 1}, 1)):
        row = only(measure(trials({"x": orders}, dropped=dropped), ONE))
        assert (row["truncated"], row["dropped_tokens"]) == (True, most)
    assert only(measure(trials({"x": orders}), ONE))["truncated"] is False


# The choice of a template.


def two_templates(trials, one: dict[str, bool], two: dict[str, bool], **about):
    """Trials that each template has right or wrong; those whose names begin with v are for validation."""
    answered = {
        item: {
            (name, order): masses(*((1, 0) if (order == "AB") == right[item] else (0, 1)))
            for name, right in (("one", one), ("two", two))
            for order in ("AB", "BA")
        }
        for item in one
    }
    splits = {item: {"split": "validation" if item[0] == "v" else "test"} for item in one}
    return trials(answered, items=splits, **about)


def test_the_template_that_is_best_in_validation_is_taken_even_if_it_is_worse_in_the_test(trials) -> None:
    scores = two_templates(
        trials,
        {"v1": True, "v2": False, "t1": True, "t2": True},
        {"v1": True, "v2": True, "t1": False, "t2": False},
    )
    table = measure(scores, BEST)
    assert set(table["item_id"]) == {"t1", "t2"}
    assert set(table["prompt_id"]) == {"two"}
    assert table["correct"].to_list() == [0, 0]


def test_of_equally_good_templates_the_first_is_taken(trials) -> None:
    scores = two_templates(trials, {"v1": True, "t1": True}, {"v1": True, "t1": False})
    assert measure(scores, BEST)["prompt_id"].to_list() == ["one"]
    other_way = Settings(prompts=TWO[::-1], select="best")
    assert measure(scores, other_way)["prompt_id"].to_list() == ["two"]


def test_where_no_validation_trial_has_an_answer_the_first_template_is_taken(trials) -> None:
    answered = {"v1": {("one", "AB"): None, ("two", "AB"): None}, "t1": {("two", "AB"): masses(1, 0)}}
    answered["t1"] |= {("two", "BA"): masses(0, 1), ("one", "AB"): masses(0, 1), ("one", "BA"): masses(1, 0)}
    scores = trials(answered, items={"v1": {"split": "validation"}})
    assert measure(scores, BEST).select("prompt_id", "correct").rows() == [("one", 0)]


def test_validation_trials_are_in_no_table_where_nothing_is_chosen(trials) -> None:
    scores = trials(
        {"v": {"12": -1.0, "21": -2.0}, "t": {"12": -1.0, "21": -2.0}}, items={"v": {"split": "validation"}}
    )
    assert measure(scores, Settings(mode="likelihood"))["item_id"].to_list() == ["t"]


# What is asked.


def asked(planned: pl.DataFrame) -> set[tuple[str, str]]:
    return set(planned.select("item_id", "detail").rows())


def test_a_question_is_a_choice_behind_all_its_tokens_and_a_concatenation_is_scored(trials) -> None:
    settings = Settings(prompts=TWO[:1], mode="both", conditions=("in_context",))
    scores = trials({"x": {"AB": None, "BA": None, "12": -1.0, "21": -1.0}})
    requests = plan(joined(scores), settings).requests
    choices = requests.filter(pl.col("detail") == "choice")
    assert choices.select("start", "score_from", "stop").rows() == [(0, 20, 20)] * 2
    sums = requests.filter(pl.col("detail") == "sums")
    assert sums.select("start", "score_from", "stop").rows() == [(0, 2, 20)] * 2


def joined(scores) -> pl.DataFrame:
    return scores.items.join(scores.windows, on="item_id", how="left")


def test_validation_trials_are_asked_only_to_choose_a_template(trials) -> None:
    scores = two_templates(trials, {"v1": True, "t1": True}, {"v1": True, "t1": True})
    assert asked(plan(joined(scores), ONE).requests) == {("t1", "choice")}
    assert asked(plan(joined(scores), BEST).requests) == {("t1", "choice"), ("v1", "choice")}
    # Concatenations choose nothing.
    texts = trials(
        {"v1": {"12": -1.0, "21": -1.0, ("two", "AB"): None}}, items={"v1": {"split": "validation"}}
    )
    both = Settings(prompts=TWO, select="best", mode="both")
    assert asked(plan(joined(texts), both).requests) == {("v1", "choice")}


def test_choosing_without_validation_trials_is_refused(trials) -> None:
    scores = trials({"t1": {("one", "AB"): None, ("two", "AB"): None}})
    with pytest.raises(ItemError, match="chooses among 2 templates, and no trial has `validation`") as caught:
        plan(joined(scores), BEST)
    assert "memprobe data sort" in caught.value.problems[0].fix


def test_an_item_without_segments_is_passed_over_and_a_question_too_long_is_not(trials) -> None:
    scores = trials({"x": {"AB": None, "BA": None}, "long": {"AB": None, "BA": None}}, too_long={"long"})
    rows = pl.concat(
        [joined(scores), joined(scores).head(1).with_columns(item_id=pl.lit("plain"), trial=None)]
    )
    planned = plan(rows, ONE)
    assert set(planned.requests["item_id"]) == {"x"}
    assert planned.unfit is not None
    assert planned.unfit.rows() == [("long", "has a question too long for the model's context")]


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"templates": ("plian",)}, "there is no template `plian`, did you mean `plain`"),
        ({"templates": ("plain", "plain")}, "templates has one name twice"),
        ({"shots": -1}, "shots is -1, not 0 or more"),
        ({"conditions": ()}, "conditions are empty"),
        ({"mode": "likelihood", "select": "best"}, "likelihood mode has none"),
        ({"mode": "likelihood", "shots": 2}, "likelihood mode asks none"),
        ({"mode": "likelihood", "content_free": True}, "likelihood mode asks none"),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_a_template_is_chosen_by_name_and_what_is_resolved_asks_the_same_whatever_ships() -> None:
    every = Settings(select="best").used
    assert len(every) > 2
    assert Settings().used == every[:1]
    second = Settings(templates=(every[1].name,))
    assert second.used == (every[1],)
    resolved = second.resolved
    assert (resolved.prompts, resolved.templates) == ((every[1],), ())
    assert resolved.trials == second.trials
    assert resolved.resolved == resolved
    assert Settings(mode="likelihood").resolved.used == ()


def test_a_file_of_templates_is_read_into_the_settings(tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[prompt]]\nname = "mine"\nin_context = "{excerpt} {first} {second}"\n'
        'parametric = "{first} or {second}"\n'
    )
    settings = Settings(prompt_file=str(file))
    assert [prompt.name for prompt in settings.used] == ["mine"]
    file.unlink()
    assert Settings(prompts=settings.prompts) == settings
    assert settings.prompt_file is None


def test_the_order_of_rows_does_not_change_which_template_is_chosen(trials) -> None:
    scores = two_templates(trials, {"v1": False, "t1": True}, {"v1": True, "t1": True})
    shuffled = type(scores)(
        scores.spans.sample(fraction=1, shuffle=True, seed=1), scores.items, scores.windows[::-1]
    )
    columns = sorted(measure(scores, BEST).columns)
    assert_frame_equal(measure(scores, BEST).select(columns), measure(shuffled, BEST).select(columns))
