"""Estimates of SORT: hand values of accuracy, bias, gap, mass and their intervals; clusters; contrasts.

Rungs: hand arithmetic, all resamples counted out, agreement of the aggregate table with the summary.
"""

import math

import numpy as np
import polars as pl
import pytest

from memprobe.pipeline.contrast import Control, about_items
from memprobe.pipeline.estimate import rng_of
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context, item_values, summarise
from memprobe.probes.sort import PROBE, Settings, measure
from memprobe.probes.sort.estimate import accuracy_table, prompts_table
from memprobe.probes.sort.tables import SORT, SORT_ACCURACY, SORT_PROMPTS
from memprobe.probes.sort.values import doubts
from memprobe.stats.documents import document_rate
from memprobe.stats.intervals import wilson
from memprobe.tables.prompts import Prompt

TOL = 1e-12
TWO = tuple(
    Prompt(name=name, in_context="{excerpt} {first} {second}", parametric="{first} {second}")
    for name in ("one", "two")
)
ONE = Settings(prompts=TWO[:1])
CONTEXT = Context("m", "r", 7, 0, "bos:default")
RIGHT, WRONG, TIE, FIRST = "right", "wrong", "tie", "first"
# Log-odds of the first label when the earlier segment is shown first, and when the later one is.
ODDS = {RIGHT: (1.0, -1.0), WRONG: (-1.0, 1.0), TIE: (0.0, 0.0), FIRST: (3.0, 1.0)}


def labels(odds: float, mass: float = 1.0) -> list[float]:
    """ln mass of both labels whose log-odds and sum are known."""
    first = mass / (1 + math.exp(-odds))
    return [math.log(first), math.log(mass - first)]


def answers(
    kind: str, condition: str = "in_context", mass: float = 1.0
) -> dict[tuple[str, ...], list[float]]:
    both = zip(("AB", "BA"), ODDS[kind], strict=True)
    return {("one", condition, order): labels(odds, mass) for order, odds in both}


# Four excerpts, each with a trial in two bins; by hand:
#   excerpt   bin 0   bin 1   mean
#   a         1       1       1
#   b         1       0       1/2
#   c         0       1       1/2
#   d         1/2     1       3/4      accuracy 5.5 / 8
KINDS = {"a0": RIGHT, "a1": RIGHT, "b0": RIGHT, "b1": WRONG, "c0": WRONG, "c1": RIGHT, "d0": TIE, "d1": FIRST}
ABOUT = {
    item: {
        "doc_id": f"book/{item[0]}",
        "group": "fiction" if item[0] in "ab" else "letters",
        "distance_bin": int(item[1]),
        "segment_words": 50 if item[0] in "abc" else 20,
        "excerpt_words": 250,
        "excerpt_start_frac": {"a": 0.0, "b": 0.25, "c": 0.74, "d": 1.0}[item[0]],
        "earlier_first": item[1] == "0",
    }
    for item in KINDS
}


@pytest.fixture
def eight(trials):
    return trials({item: answers(kind) for item, kind in KINDS.items()}, items=ABOUT)


def keyed(scores, settings=ONE) -> pl.DataFrame:
    """The table `sort` as a run builds it."""
    carried = scores.items.select("item_id", "group", "exposures")
    table = measure(scores, settings).join(carried, on="item_id", maintain_order="left")
    return SORT.conform(table.with_columns(model=pl.lit("m"), revision=pl.lit("r"), step=pl.lit(7, pl.Int64)))


def summary_of(scores, settings=ONE, *, control=None, given=()) -> dict[tuple[str, str | None, str], dict]:
    """Summary rows by metric, group and condition."""
    entry = Entry(PROBE, settings)
    against = (
        None if control is None else Control("base", "base@1", item_values(entry, keyed(control, settings)))
    )
    values = item_values(entry, keyed(scores, settings))
    rows = summarise(entry, values, None, scores.items, CONTEXT, given=given, control=against)
    return {(row["metric"], row["group"], row["condition"]): row for row in rows.iter_rows(named=True)}


def cells_of(scores, settings=ONE) -> pl.DataFrame:
    """The table `sort_accuracy` as a run builds it."""
    about = about_items(scores.items, ())

    def draws(metric, group, condition):
        return rng_of(("0", "sort", metric, str(group), condition))

    rows = accuracy_table(keyed(scores, settings), about, scores, settings, draws)
    return SORT_ACCURACY.conform(
        rows.with_columns(model=pl.lit("m"), revision=pl.lit("r"), step=pl.lit(7, pl.Int64))
    )


ALL = "condition=in_context;mode=prompt"


def test_accuracy_is_the_mean_over_trials_and_excerpts_are_drawn_whole(eight) -> None:
    row = summary_of(eight)["accuracy_frac", None, ALL]
    assert row["estimate"] == 5.5 / 8
    assert (row["n_items"], row["n_clusters"], row["ci_method"]) == (8, 4, "pseudo-document-few")
    # Excerpts of two trials each: 2, 1, 1 and 1.5 hits.
    expected = document_rate(np.array([2.0, 1, 1, 1.5]), np.full(4, 2.0))
    assert (row["ci_low"], row["ci_high"]) == (expected.lo, expected.hi)


def test_trials_of_one_bin_are_independent_so_wilson_holds(eight) -> None:
    row = summary_of(eight)["accuracy_frac", None, f"{ALL};distance_bin=0"]
    interval = wilson(2.5, 4)
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == (2.5 / 4, interval.lo, interval.hi)
    assert row["ci_method"] == "wilson"


def test_accuracy_is_broken_down_by_what_a_trial_says_of_itself(eight) -> None:
    found = {
        condition.removeprefix(f"{ALL};"): (row["estimate"], row["n_items"])
        for (metric, group, condition), row in summary_of(eight).items()
        if metric == "accuracy_frac" and group is None and condition != ALL
    }
    assert found == {
        "excerpt_words=250": (5.5 / 8, 8),
        "segment_words=20": (1.5 / 2, 2),
        "segment_words=50": (4 / 6, 6),
        "distance_bin=0": (2.5 / 4, 4),
        "distance_bin=1": (3 / 4, 4),
        # 0 is in the first quarter, 1/4 in the second, 0.74 in the third, and 1 in the last.
        "position=1": (1.0, 2),
        "position=2": (0.5, 2),
        "position=3": (0.5, 2),
        "position=4": (1.5 / 2, 2),
    }


def test_a_trial_that_says_nothing_of_itself_counts_in_the_whole_alone(trials) -> None:
    found = summary_of(trials({"x": answers(RIGHT), "y": answers(WRONG)}))
    assert {condition for metric, _, condition in found if metric == "accuracy_frac"} == {ALL}


def test_position_bias_is_the_share_of_first_labels_less_that_of_second_ones(eight) -> None:
    row = summary_of(eight)["position_bias_frac", None, ALL]
    # Seven trials name each label once, or neither (d0, a tie); d1 names the first one twice: 1/8.
    assert row["estimate"] == 1 / 8
    # One of four excerpts of two trials differs from 0, by 1/2 each: 1/2 + 1/4 = 3/4 of its (d + 1) / 2.
    shares = document_rate(np.array([1.0, 1, 1, 1.5]), np.full(4, 2.0))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((2 * shares.lo - 1, 2 * shares.hi - 1), abs=TOL)


def test_the_gap_is_paired_by_trial_and_of_trials_asked_in_both_conditions(trials) -> None:
    pairs = {"a": (RIGHT, WRONG), "b": (RIGHT, RIGHT), "c": (WRONG, RIGHT), "d": (RIGHT, TIE)}
    answered = {item: answers(one) | answers(other, "parametric") for item, (one, other) in pairs.items()} | {
        "e": answers(RIGHT)
    }
    row = summary_of(trials(answered))["gap_frac", None, "mode=prompt"]
    assert row["estimate"] == (1 + 0 - 1 + 0.5) / 4
    # Of e nothing was asked from memory.
    assert (row["n_items"], row["n_missing"]) == (4, 0)
    answered["e"] |= {("one", "parametric", order): None for order in ("AB", "BA")}
    row = summary_of(trials(answered))["gap_frac", None, "mode=prompt"]
    assert (row["n_items"], row["n_missing"]) == (4, 1)


def test_a_model_that_does_not_answer_is_seen_by_its_label_mass(trials) -> None:
    silent = trials({item: answers(RIGHT, mass=0.03) for item in "ab"} | {"c": answers(RIGHT, mass=0.06)})
    found = summary_of(silent)
    assert found["accuracy_frac", None, ALL]["estimate"] == 1
    assert found["label_mass", None, ALL]["estimate"] == pytest.approx(0.04, abs=TOL)
    (doubt,) = doubts(pl.DataFrame(list(found.values()), infer_schema_length=None), ONE)
    assert doubt.startswith(f"{ALL}: the labels hold 0.04 of the next token's probability")
    assert "1 of 1 checkpoint" in doubt
    talking = summary_of(trials({item: answers(RIGHT, mass=0.5) for item in "ab"}))
    assert doubts(pl.DataFrame(list(talking.values()), infer_schema_length=None), ONE) == ()


def test_likelihood_has_no_gap_for_neither_side_means_something_alone(trials) -> None:
    sums = {
        ("", condition, order): -1.0 for condition in ("in_context", "parametric") for order in ("12", "21")
    }
    both = Settings(prompts=TWO[:1], mode="both")
    scores = trials({"a": answers(RIGHT) | answers(WRONG, "parametric") | sums})
    gaps = {condition for metric, _, condition in summary_of(scores, both) if metric == "gap_frac"}
    assert gaps == {"mode=prompt"}


# Likelihood means something only beside a control.

LIKELIHOOD = Settings(mode="likelihood", conditions=("parametric",))
TEXT = "condition=parametric;mode=likelihood"


def texts(trials, kinds: str, exposures: list[int | None]):
    """Trials whose right order is likelier (1) or not (0)."""
    answered = {
        f"i{n}": {("", "parametric", "12"): -1.0, ("", "parametric", "21"): -2.0 if kind == "1" else -0.5}
        for n, kind in enumerate(kinds)
    }
    about = {f"i{n}": {"exposures": count} for n, count in enumerate(exposures)}
    return trials(answered, items=about)


def test_likelihood_is_told_in_excess_of_never_trained_documents_and_never_alone(trials) -> None:
    found = summary_of(texts(trials, "11101000", [1, 2, 1, 1, 0, 0, 0, 0]), LIKELIHOOD)
    assert {metric for metric, _, _ in found} == {"accuracy_excess_frac"}
    row = found["accuracy_excess_frac", None, f"{TEXT};control=never-trained"]
    assert row["estimate"] == 3 / 4 - 1 / 4
    assert row["n_items"] == 8


def test_likelihood_is_told_in_excess_of_a_control_model(trials) -> None:
    model, control = (texts(trials, kinds, [None] * 4) for kinds in ("1110", "0010"))
    found = summary_of(model, LIKELIHOOD, control=control)
    assert set(found) == {("accuracy_excess_frac", None, f"{TEXT};control=base")}
    row = found["accuracy_excess_frac", None, f"{TEXT};control=base"]
    assert row["estimate"] == 2 / 4
    assert row["ci_method"] == "newcombe-paired"


def test_without_a_control_likelihood_has_no_estimate_and_a_warning_says_what_to_bring(trials) -> None:
    found = summary_of(texts(trials, "1110", [None] * 4), LIKELIHOOD)
    assert found == {}
    (doubt,) = doubts(
        pl.DataFrame(
            schema={"metric": pl.String, "condition": pl.String, "group": pl.String, "estimate": pl.Float64}
        ),
        LIKELIHOOD,
    )
    assert "never trained on" in doubt
    assert "--control" in doubt


def test_questions_stand_alone_and_in_excess(trials) -> None:
    answered = {f"i{n}": answers(kind, "parametric") for n, kind in enumerate((RIGHT, RIGHT, WRONG, RIGHT))}
    about = {f"i{n}": {"exposures": n // 2} for n in range(4)}
    found = summary_of(trials(answered, items=about))
    of = "condition=parametric;mode=prompt"
    assert found["accuracy_frac", None, of]["estimate"] == 3 / 4
    assert found["accuracy_frac", None, f"{of};trained=true"]["estimate"] == 1 / 2
    assert found["accuracy_excess_frac", None, f"{of};control=never-trained"]["estimate"] == -1 / 2


# The aggregate tables.


def only(frame: pl.DataFrame) -> dict[str, object]:
    (row,) = frame.to_dicts()
    return row


def cell(frame: pl.DataFrame, **where: object) -> dict[str, object]:
    names = ("group", "excerpt_words", "segment_words", "distance_bin", "position_bin")
    same = [pl.col(name).eq_missing(pl.lit(where.get(name))) for name in names]
    return only(frame.filter(*same))


def test_each_cell_has_its_accuracy_bias_mass_and_published_accuracy(eight) -> None:
    row = cell(cells_of(eight))
    assert (row["accuracy_frac"], row["n_trials"], row["n_clusters"]) == (5.5 / 8, 8, 4)
    assert row["position_bias_frac"] == 1 / 8
    assert row["label_mass"] == pytest.approx(1, abs=TOL)
    # Bin 0 shows the earlier segment first: 1, 1, 0, 1/2. Bin 1 shows it last: 1, 0, 1, 0.
    assert row["presented_accuracy_frac"] == 4.5 / 8
    whole = cell(cells_of(eight), excerpt_words=250, segment_words=50, distance_bin=1)
    assert (whole["accuracy_frac"], whole["n_trials"]) == (2 / 3, 3)
    assert cell(cells_of(eight), position_bin=4)["accuracy_frac"] == 1.5 / 2


def test_the_binomial_test_is_exact_and_only_where_no_excerpt_recurs(eight) -> None:
    cells = cells_of(eight)
    assert cell(cells)["p_binomial"] is None
    # 3 of 4 right: 2 (4 + 1) / 16. In bin 0 the tie is left out: 2 of 3, 2 (3 + 1) / 8.
    assert cell(cells, distance_bin=1)["p_binomial"] == pytest.approx(0.625, abs=TOL)
    assert cell(cells, distance_bin=0)["p_binomial"] == pytest.approx(1.0, abs=TOL)


def test_ties_are_no_trials_of_the_binomial_test(trials) -> None:
    kinds = {"a": RIGHT, "b": RIGHT, "c": RIGHT, "d": TIE}
    row = cell(cells_of(trials({item: answers(kind) for item, kind in kinds.items()})))
    assert row["p_binomial"] == pytest.approx(0.25, abs=TOL)  # three of three: 2 / 8
    none = cell(cells_of(trials({item: answers(TIE) for item in "ab"})))
    assert (none["accuracy_frac"], none["p_binomial"]) == (0.5, None)


def test_estimates_that_the_summary_has_too_have_the_same_interval(eight) -> None:
    names = ("estimate", "ci_low", "ci_high", "ci_method", "n_items", "n_clusters")
    mine = ("accuracy_frac", "ci_low", "ci_high", "ci_method", "n_trials", "n_clusters")
    summary = summary_of(eight)
    cells = cells_of(eight)
    for group, where, more in (
        (None, {}, ""),
        ("letters", {}, ""),
        (None, {"segment_words": 50}, ";segment_words=50"),
        ("fiction", {"position_bin": 2}, ";position=2"),
    ):
        row = summary["accuracy_frac", group, ALL + more]
        found = cell(cells, group=group, **where)
        assert [found[name] for name in mine] == [row[name] for name in names]


def test_the_papers_readers_stand_beside_memory_of_segments_as_long_as_theirs(trials) -> None:
    answered = {item: answers(RIGHT) | answers(RIGHT, "parametric") for item in KINDS}
    cells = cells_of(trials(answered, items=ABOUT)).filter(pl.col("human_accuracy_frac").is_not_null())
    assert set(cells["condition"]) == {"parametric"}
    found = cells.select("segment_words", "human_accuracy_frac").unique().sort("segment_words").rows()
    assert found == [(20, 0.56), (50, 0.64)]


def test_likelihood_has_no_cells(trials) -> None:
    assert cells_of(texts(trials, "10", [0, 1]), LIKELIHOOD).is_empty()


def test_the_choice_of_a_template_is_written_down(trials) -> None:
    def answered(one: str, two: str):
        return answers(one) | {("two", *key[1:]): odds for key, odds in answers(two).items()}

    scores = trials(
        {"v1": answered(RIGHT, RIGHT), "v2": answered(WRONG, TIE), "t": answered(RIGHT, WRONG)},
        items={item: {"split": "validation"} for item in ("v1", "v2")},
    )
    best = Settings(prompts=TWO, select="best")
    rows = prompts_table(keyed(scores, best), pl.DataFrame(), scores, best, rng_of)
    assert rows.select("prompt_id", "validation_accuracy_frac", "n_trials", "chosen").rows() == [
        ("one", 1 / 2, 2, False),
        ("two", 3 / 4, 2, True),
    ]
    assert prompts_table(keyed(scores), pl.DataFrame(), scores, ONE, rng_of).is_empty()
    assert set(rows.columns) == set(SORT_PROMPTS.columns) - {"model", "revision", "step"}
