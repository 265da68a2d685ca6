"""Compression: ratios and bounds by hand, who is asked, controls apart, and settings that are refused."""

import math

import polars as pl
import pytest

from memprobe.errors import ItemError
from memprobe.pipeline.suite import Entry
from memprobe.pipeline.summarise import Context, item_values, summarise
from memprobe.probes.compression import PROBE, Settings, measure, plan
from memprobe.probes.contract import Scores
from memprobe.tables.requests import Search

USUAL = Settings()
KEY = USUAL.asked.key


def found(prompt: int | None, *, censored: int | None = None, gzip: float | None = 0.7) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "verified": prompt is not None,
        "censored_at_tokens": censored,
        "evaluations_used": 500,
        "evaluations_to_best": None if prompt is None else 300,
        "final_ce_nats": 0.25,
        "prompt_tokens_by_seed": [prompt],
        "n_refuted": 2,
        "prompt_roundtrip": None if prompt is None else False,
        "warm_from_step": None,
        "gzip_ratio": gzip,
        "zlib_ratio": gzip and gzip + 0.1,
    }


def searched(item: str, n: int, what: dict[str, object], *, part: str = "text", **more) -> dict[str, object]:
    span = {"item_id": item, "part": part, "start": 0, "score_from": 0, "stop": n}
    return span | {"detail": KEY, "found": what} | more


@pytest.fixture
def table_of(spans_of, items_of):
    """Return a maker of the item-level table: rows of spans to what `measure` says of them."""

    def build(*rows, settings=USUAL) -> pl.DataFrame:
        kinds = {"text": 0, "random-all": 1, "shuffled-all": 2}
        items = dict.fromkeys((row["item_id"], row.get("part", "text")) for row in rows)
        windows = pl.DataFrame(
            [{"item_id": item, "part": part, "window": kinds[part]} for item, part in items]
        )
        return measure(Scores(spans_of(*rows), items_of(), windows), settings)

    return build


def values(name: str, table: pl.DataFrame, settings=USUAL) -> dict[tuple[str, str | None], float | None]:
    frame = PROBE.metric(name).values(table, settings)
    return {(row["item_id"], row["condition"]): row["value"] for row in frame.iter_rows(named=True)}


# Check 15: ratio and censoring.


def test_twelve_tokens_from_a_prompt_of_four_are_a_ratio_of_three(table_of) -> None:
    row = table_of(searched("a", 12, found(4))).row(0, named=True)
    assert row["acr"] == 3.0  # 12 / 4
    assert (row["target_tokens"], row["prompt_tokens"], row["is_censored"]) == (12, 4, False)
    assert (row["censored_at_tokens"], row["acr_upper_bound"]) == (None, None)


def test_a_failure_has_no_ratio_but_the_bound_of_the_longest_prompt_tried(table_of) -> None:
    row = table_of(searched("a", 12, found(None, censored=60))).row(0, named=True)
    assert (row["acr"], row["prompt_tokens"], row["verified"]) == (None, None, False)
    assert row["is_censored"] is True
    assert row["acr_upper_bound"] == 0.2  # 12 / 60: below what five times the target would give
    assert row["evaluations_to_best"] is None


def test_a_failure_enters_the_rate_as_not_memorized_and_no_median_of_ratios(table_of) -> None:
    table = table_of(searched("a", 12, found(4)), searched("b", 12, found(None, censored=60)))
    assert values("memorized_frac", table) == {("a", None): 1.0, ("b", None): 0.0}
    assert values("acr_median", table) == {("a", None): 3.0, ("b", None): None}
    lengths = PROBE.metric("prompt_tokens_km_median").values(table, Settings())
    assert lengths.select("value", "other").rows() == [(4.0, 1.0), (60.0, 0.0)]


def test_what_was_not_searched_has_no_value_at_all(table_of) -> None:
    table = table_of(searched("a", 1, None))
    for metric in PROBE.metrics:
        assert values(metric.name, table) == {("a", None): None}
    assert table["is_censored"].to_list() == [None]


def test_memorized_is_above_tau_and_not_at_it(table_of) -> None:
    table = table_of(searched("a", 12, found(12)), searched("b", 12, found(11)), searched("c", 12, found(8)))
    assert list(values("memorized_frac", table).values()) == [0.0, 1.0, 1.0]
    half = Settings(tau=1.5)  # 12 / 8 is no more than that
    assert list(values("memorized_frac", table, half).values()) == [0.0, 0.0, 0.0]


def test_memorized_may_be_above_a_compressors_ratio(table_of) -> None:
    # Ratios 1 and 1 against gzip 0.7 and 1.4 (zlib a tenth more); without a text nothing is known.
    table = table_of(
        searched("a", 12, found(12)),
        searched("b", 12, found(12, gzip=0.95)),
        searched("c", 12, found(12, gzip=1.4)),
        searched("d", 12, found(12, gzip=None)),
        searched("e", 12, found(None, censored=60, gzip=0.1)),
    )
    assert list(values("memorized_frac", table, Settings(tau="gzip")).values()) == [1, 1, 0, None, 0]
    assert list(values("memorized_frac", table, Settings(tau="zlib")).values()) == [1, 0, 0, None, 0]


def test_bits_and_the_second_half_come_from_the_sums(table_of) -> None:
    about = {"item_id": "a", "start": 0, "stop": 12, "detail": "sums"}
    whole = about | {"score_from": 0, "n_scored": 11, "n_hits": 7, "logprob_sum_nats": -8 * math.log(2)}
    half = about | {"score_from": 6, "n_scored": 6, "n_hits": 6, "logprob_sum_nats": -1.0}
    row = table_of(searched("a", 12, found(4)), whole, half).row(0, named=True)
    assert row["target_bits"] == pytest.approx(8, rel=1e-15)  # one rounding of a product
    assert row["recalled_from_half"] is True
    missed = table_of(searched("a", 12, found(4)), whole, half | {"n_hits": 5}).row(0, named=True)
    assert missed["recalled_from_half"] is False
    nothing = whole | {"n_scored": 0, "n_hits": 0, "logprob_sum_nats": 0.0, "stop": 1}
    alone = table_of(searched("a", 1, found(4)), nothing).row(0, named=True)
    assert (alone["target_bits"], alone["recalled_from_half"]) == (None, None)


def test_prompt_ids_are_a_column_only_where_a_unit_holds_some(table_of) -> None:
    assert "prompt_ids" not in table_of(searched("a", 12, found(4))).columns
    shown = table_of(searched("a", 12, found(2) | {"prompt_ids": [8, 9]}), searched("b", 3, found(4)))
    assert shown["prompt_ids"].to_list() == [[8, 9], None]


def test_controls_stand_under_conditions_of_their_own_and_never_among_the_items(table_of, items_of) -> None:
    rows = [searched(item, 12, found(4), part="text") for item in "abcd"]
    rows += [searched(item, 12, found(None, censored=60), part="random-all") for item in "ab"]
    rows += [searched("a", 12, found(12), part="shuffled-all")]
    table = table_of(*rows)
    assert set(zip(table["item_id"], table["target_kind"], strict=True)) >= {("a", "item"), ("a", "shuffled")}
    items = items_of(*({"item_id": item} for item in "abcd"))
    entry = Entry(PROBE, Settings())
    summary = summarise(entry, item_values(entry, table), None, items, Context("m", "r", 1, 0, "s"))
    pooled = {
        (row["metric"], row["condition"]): (row["estimate"], row["n_items"], row["n_missing"])
        for row in summary.iter_rows(named=True)
    }
    assert pooled["memorized_frac", None] == (1.0, 4, 0)
    assert pooled["memorized_frac", "target=random"] == (0.0, 2, 0)
    assert pooled["memorized_frac", "target=shuffled"] == (0.0, 1, 0)
    assert pooled["acr_median", None] == (3.0, 4, 0)
    assert pooled["acr_median", "target=random"] == (None, 0, 2)
    assert pooled["prompt_tokens_km_median", None] == (4.0, 4, 0)


def test_the_median_ratio_has_an_interval_and_its_n(table_of, items_of) -> None:
    rows = [searched(f"i{n}", 12, found(n)) for n in (2, 3, 4, 6, 12)]
    rows.append(searched("i5", 12, found(4)))
    table = table_of(*rows, searched("i0", 12, found(None, censored=60)))
    entry = Entry(PROBE, Settings())
    items = items_of(*({"item_id": row["item_id"]} for row in (*rows, {"item_id": "i0"})))
    summary = summarise(entry, item_values(entry, table), None, items, Context("m", "r", 1, 0, "s"))
    median, length = (
        summary.filter(pl.col("metric") == name).row(0, named=True)
        for name in ("acr_median", "prompt_tokens_km_median")
    )
    # Ratios 6, 4, 3, 3, 2, 1: the median is 3, of six; one is missing.
    assert (median["estimate"], median["n_items"], median["n_missing"]) == (3.0, 6, 1)
    # That all six lie on one side of the median has a chance of 2^-6 = 0.016, so it is between all.
    assert (median["ci_low"], median["ci_high"], median["ci_method"]) == (1, 6, "sign-test")
    # Lengths 2 3 4 4 6 12 and above 60: S is 3/7 at 4.
    assert (length["estimate"], length["n_items"]) == (4.0, 7)
    assert length["ci_method"] == "greenwood-log-log"


# Who is asked.


@pytest.fixture
def seen(items_of, seen_by):
    """Return a maker of what plan sees: nine items, exposures 0 to 8, ids against that order."""

    def make(settings: Settings, *more: dict[str, object]) -> pl.DataFrame:
        rows = [
            {"item_id": f"i{9 - n}", "n_tokens": 10 + n, "exposures": n, "group": "ab"[n % 2]}
            for n in range(9)
        ]
        return seen_by(PROBE, settings, items_of(*rows, *more))

    return make


def asked(seen, settings: Settings, part: str = "text") -> list[str]:
    requests = plan(seen(settings), settings).requests
    wanted = requests.filter(pl.col("detail") == settings.asked.key, pl.col("part") == part)
    return sorted(wanted["item_id"])


def test_items_are_taken_evenly_from_the_least_to_the_most_exposed(seen) -> None:
    # Places 0, 4, 8 of nine in the order of exposures, which is i9 ... i1.
    assert asked(seen, Settings(n_items=3)) == ["i1", "i5", "i9"]
    assert asked(seen, Settings(n_items=1)) == ["i9"]
    assert asked(seen, Settings(n_items=100)) == asked(seen, Settings()) == [f"i{n}" for n in range(1, 10)]


def test_only_the_items_of_the_groups_are_asked(seen) -> None:
    assert asked(seen, Settings(groups=("b",))) == ["i2", "i4", "i6", "i8"]
    assert len(asked(seen, Settings(groups=("a", "b")))) == 9


def test_a_group_that_no_item_has_is_refused_with_those_there_are(seen) -> None:
    settings = Settings(groups=("bb",))
    with pytest.raises(ItemError, match="no item has the group `bb`, did you mean `b`") as caught:
        plan(seen(settings), settings)
    assert caught.value.problems[0].fix == "groups are a, b"


def test_controls_are_as_many_as_asked_and_of_items_that_are_asked(seen) -> None:
    settings = Settings(n_items=5, controls=2)
    for part in ("random-all", "shuffled-all"):
        assert len(asked(seen, settings, part)) == 2
        assert set(asked(seen, settings, part)) <= set(asked(seen, settings))
    assert asked(seen, Settings(controls=0), "random-all") == []


def test_each_target_is_searched_scored_and_scored_from_its_half(seen) -> None:
    settings = Settings(n_items=1, controls=0)
    requests = plan(seen(settings), settings).requests
    assert requests.rows() == [
        ("i9", "text", 0, 0, 10, settings.asked.key),
        ("i9", "text", 0, 0, 10, "sums"),
        ("i9", "text", 0, 5, 10, "sums"),
    ]
    assert plan(seen(settings), settings).searches == {settings.asked}


def test_in_a_chat_the_search_is_in_the_template_and_the_scores_are_plain(seen) -> None:
    settings = Settings(n_items=1, controls=0, chat=True)
    searched_in, whole, half = plan(seen(settings), settings).requests.rows()
    assert searched_in[1:5] == (f"{settings.targets.chat_part}-text", 3, 5, 15)
    assert whole == ("i9", "text", 0, 0, 10, "sums")
    assert half == ("i9", "text", 0, 5, 10, "sums")


def test_a_chat_is_measured_as_what_it_is_a_chat_of(items_of, scores_for) -> None:
    settings = Settings(chat=True, controls=1)
    items = items_of({"item_id": "a", "n_tokens": 10}, {"item_id": "b", "n_tokens": 12})
    table = measure(scores_for(PROBE, settings, items), settings)
    assert sorted(table["target_kind"]) == ["item", "item", "random", "shuffled"]
    # Head and tail of the template are no part of the target.
    assert set(table.filter(pl.col("target_kind") == "item")["target_tokens"]) == {10, 12}
    assert table["target_bits"].null_count() == 0


def test_what_cannot_be_said_is_unfit_with_the_reason(seen) -> None:
    bad = [{"item_id": "empty", "n_tokens": 0}, {"item_id": "unk", "n_tokens": 7}]
    frame = seen(Settings(), *bad).with_columns(
        stop=pl.when(pl.col("item_id") == "unk").then(None).otherwise("stop")
    )
    planned = plan(frame, Settings())
    assert dict(planned.unfit.rows()) == {
        "empty": "has no tokens",
        "unk": "contains something that the tokenizer cannot represent, so no model can produce it",
    }
    assert not {"empty", "unk"} & set(planned.requests["item_id"])
    some = Settings(n_items=4)
    assert plan(frame, some).unfit.is_empty()
    assert not {"empty", "unk"} & set(plan(frame, some).requests["item_id"])


# Settings.


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"budget": 0}, "budget is 0, not 1 or more"),
        ({"target_tokens": 0}, "target_tokens is 0, not 1 or more"),
        ({"n_items": 0}, "n_items is 0, not 1 or more"),
        ({"controls": -1}, "controls is -1, not 0 or more"),
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (1, 1)}, "seeds has one seed twice"),
        ({"seeds": (-1,)}, "seeds has one below 0"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0, not 1 or more"),
        ({"tau": 0.0}, "tau is 0.0, not above 0"),
        ({"tau": "smaz"}, "tau is `smaz`, not a number or one of gzip, zlib"),
        ({"lead_in": "Sure: "}, "lead_in and system need chat = true"),
        ({"system": "Say no quotes."}, "lead_in and system need chat = true"),
    ],
)
def test_impossible_settings_are_refused(settings, told) -> None:
    with pytest.raises(ValueError, match=f"^{told}$"):
        Settings(**settings)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"^controls is -1.*; budget is 0.*; seeds is empty$"):
        Settings(controls=-1, budget=0, seeds=())


def test_the_settings_make_the_search() -> None:
    settings = Settings(
        optimizer="gcg",
        search="miniprompt",
        budget=7,
        seeds=(3, 4),
        n_candidates=5,
        top_k=6,
        max_prompt_tokens=9,
        prompt_roundtrip=True,
        warm_start=False,
    )
    assert settings.asked == Search("gcg", "miniprompt", 7, 5, 6, (3, 4), 9, roundtrip=True, warm=False)
