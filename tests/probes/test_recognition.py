"""Recognition: hand values of the forced choice, ties, the null of a text without a condition.

Rungs: hand values, slow recomputation, sign, undefined cases.
"""

import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.probes.contract import Scores
from memprobe.probes.recognition import PROBE, Settings, measure, plan
from memprobe.stats.ranking import auc

METRICS = {metric.name: metric for metric in PROBE.metrics}


def row(item: str, part: str, n_scored: int, total: float) -> dict[str, object]:
    span = {"item_id": item, "part": part, "start": 0, "score_from": 0, "stop": 9, "detail": "sums"}
    return span | {"n_scored": n_scored, "logprob_sum_nats": total, "n_hits": 0}


@pytest.fixture
def forced_choice(items_of, spans_of):
    """Return a function from (mean NLL seen, mean NLL foil, foil kind) per item to the measured table."""

    def build(*pairs: tuple[float, float, str | None], n_seen: int = 4, n_foil: int = 2) -> pl.DataFrame:
        spans, items = [], []
        for number, (seen, foil, kind) in enumerate(pairs):
            name = f"i{number}"
            spans += [row(name, "text", n_seen, -seen * n_seen), row(name, "foil", n_foil, -foil * n_foil)]
            items.append({"item_id": name, "foil_kind": kind})
        return measure(Scores(spans_of(*spans), items_of(*items)), Settings())

    return build


def values(metric: str, table: pl.DataFrame, condition: str | None = None) -> list[float | None]:
    frame = METRICS[metric].values(table, Settings())
    return frame.filter(pl.col("condition").eq_missing(pl.lit(condition))).sort("item_id")["value"].to_list()


def test_both_strings_are_asked_in_full_as_sums(items_of) -> None:
    items = items_of({"item_id": "a", "n_tokens": 7, "n_foil_tokens": 5, "n_prefix_tokens": 3})
    assert sorted(plan(items, Settings()).requests.rows()) == [
        ("a", "foil", 0, 0, 5, "sums"),
        ("a", "text", 0, 0, 7, "sums"),
    ]


def test_an_impossible_string_loses_and_two_of_them_are_a_tie(forced_choice) -> None:
    inf = math.inf
    table = forced_choice((inf, 2, None), (1, inf, None), (inf, inf, None), (1, 2, None))
    assert table.sort("item_id")["margin_nats"].to_list() == [-inf, inf, None, 1.0]
    assert values("accuracy_frac", table) == [0.0, 1.0, 0.5, 1.0]
    # A mean of an infinite margin is none.
    assert values("margin_nats", table) == [None, None, None, 1.0]


def test_a_win_a_tie_and_a_loss_by_hand(forced_choice) -> None:
    # Seen NLL 1, 2, 3 against foils 2, 2, 2: credit 1, 0.5, 0 -> accuracy 0.5; strict 1/3; ties 1/3.
    table = forced_choice((1, 2, None), (2, 2, None), (3, 2, None))
    correct = values("accuracy_frac", table)
    assert correct == [1.0, 0.5, 0.0]
    assert sum(correct) / 3 == 0.5
    assert values("margin_nats", table) == [1.0, 0.0, -1.0]
    both = METRICS["auc"].values(table, Settings())
    assert auc(both["value"].to_numpy(), both["other"].to_numpy()) == 0.5


def test_the_mean_decides_not_the_sum(forced_choice) -> None:
    # Seen: 4 tokens of 2 nats, 8 in all; foil: 2 tokens of 3 nats, 6 in all.
    (table,) = forced_choice((2, 3, "novel")).iter_rows(named=True)
    assert (table["seen_nll_sum_nats"], table["foil_nll_sum_nats"]) == (8.0, 6.0)
    assert (table["seen_nll_mean_nats"], table["foil_nll_mean_nats"]) == (2.0, 3.0)
    assert (table["seen_tokens"], table["foil_tokens"]) == (4, 2)
    assert (table["margin_nats"], table["correct"], table["foil_kind"]) == (1.0, 1.0, "novel")


def test_a_foil_equal_to_the_text_is_chance(forced_choice) -> None:
    table = forced_choice((1.25, 1.25, None), (3.5, 3.5, None), n_seen=4, n_foil=4)
    assert values("accuracy_frac", table) == [0.5, 0.5]
    assert values("margin_nats", table) == [0.0, 0.0]


def test_members_score_higher_in_the_area_under_the_curve(forced_choice) -> None:
    # Members -1, -2, -3 against others -2, -2.5, -4: 6.5 of 9 pairs.
    both = METRICS["auc"].values(forced_choice((1, 2, None), (2, 2.5, None), (3, 4, None)), Settings())
    area = auc(both["value"].to_numpy(), both["other"].to_numpy())
    assert area == pytest.approx(0.7222222222, abs=5e-11)


def test_exchanging_text_and_foil_flips_the_sign(forced_choice) -> None:
    one = forced_choice((1, 2, None), (3, 2.5, None), n_seen=3, n_foil=3)
    other = forced_choice((2, 1, None), (2.5, 3, None), n_seen=3, n_foil=3)
    assert values("margin_nats", other) == [-margin for margin in values("margin_nats", one)]
    assert values("accuracy_frac", other) == [1 - credit for credit in values("accuracy_frac", one)]


def test_foil_kinds_are_summarised_apart_and_together(forced_choice) -> None:
    table = forced_choice((1, 2, "novel"), (3, 2, "novel"), (1, 2, "shuffled"), (2, 1, None))
    assert values("accuracy_frac", table) == [1.0, 0.0, 1.0, 0.0]
    assert values("accuracy_frac", table, "foil_kind=novel") == [1.0, 0.0]
    assert values("accuracy_frac", table, "foil_kind=shuffled") == [1.0]
    assert METRICS["accuracy_frac"].values(table, Settings()).height == 4 + 3


@pytest.mark.parametrize(("n_seen", "n_foil"), [(0, 2), (4, 0), (0, 0)])
def test_a_text_without_a_scored_token_has_null_not_a_loss(forced_choice, n_seen, n_foil) -> None:
    (table,) = forced_choice((1, 2, None), n_seen=n_seen, n_foil=n_foil).iter_rows(named=True)
    assert table["correct"] is None
    assert table["margin_nats"] is None
    assert (table["seen_nll_mean_nats"] is None) == (n_seen == 0)
    assert (table["foil_nll_mean_nats"] is None) == (n_foil == 0)


def test_the_gain_takes_the_credit_since_the_first_checkpoint(forced_choice) -> None:
    table = forced_choice((1, 2, "novel"), (3, 2, None))
    assert METRICS["gain_frac"].since_first
    assert_frame_equal(
        METRICS["gain_frac"].values(table, Settings()), METRICS["accuracy_frac"].values(table, Settings())
    )
