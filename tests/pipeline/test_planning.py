"""From entries and items to units: who is measured, who is too long, and what a unit's key depends on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.checkpoints import Checkpoint
from memprobe.errors import ItemError
from memprobe.items import ITEMS
from memprobe.pipeline.planning import plan_entries
from memprobe.pipeline.plans import Lengths
from memprobe.pipeline.suite import Entry, load_suite, suite_of, with_settings
from memprobe.pipeline.unfit import unfit_problems
from memprobe.pipeline.units import befores, context_key, cut_stages
from memprobe.probes.compression import Settings
from memprobe.probes.contract import DATED
from memprobe.probes.discovery import find
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.tables.requests import REQUESTS, Plan, Scheme, Spread, merge_requests
from memprobe.tables.views import WINDOWS

LENGTHS = {"n_tokens": pl.Int32, "n_prefix_tokens": pl.Int32, "n_foil_tokens": pl.Int32}


def tokenised(*rows: dict[str, object], n_front: int = 0) -> TokenisedItems:
    """Items by hand: ids count up from 0, nothing is encoded."""
    schema = {**dict(ITEMS.empty().schema), **LENGTHS, "boundary_shift": pl.Boolean}
    full = [
        dict.fromkeys(schema)
        | {"content_hash": f"hash of {row['item_id']}", "source_file": "items.jsonl", "source_line": line}
        | row
        for line, row in enumerate(rows, start=1)
    ]
    table = pl.DataFrame(full, schema=schema, orient="row")
    ids = {(row["item_id"], "text"): np.arange(row["n_tokens"]) for row in full}
    return TokenisedItems(table, ids, tuple(range(n_front)), (), frozenset())


def lengths(items: TokenisedItems, *given: str, context: int | None = None) -> Lengths:
    return Lengths(items.table, items.n_front, context, frozenset(given))


def entries(*probes: str, **settings: str) -> tuple[Entry, ...]:
    return with_settings(
        suite_of(probes), [f"{key.replace('__', '.')}={v}" for key, v in settings.items()]
    ).entries


def planned(names, items: TokenisedItems, context: int | None = None, **settings: str):
    return plan_entries(entries(*names, **settings), lengths(items, context=context))


FOUR = tokenised(
    {"item_id": "a", "n_tokens": 10},
    {"item_id": "b", "n_tokens": 20, "foil": "x", "n_foil_tokens": 18},
    {"item_id": "c", "n_tokens": 30, "n_prefix_tokens": 25, "foil": "x", "n_foil_tokens": 29},
    {"item_id": "d", "n_tokens": 40},
)


def test_a_probe_measures_the_items_that_have_what_it_needs() -> None:
    (recognition, recall), unfit = planned(["recognition", "recall"], FOUR)
    assert (recognition.n_items, recall.n_items) == (2, 4)
    assert set(recognition.plan.requests["item_id"]) == {"b", "c"}
    assert unfit.is_empty()
    assert unfit.columns == ["item_id", "probe", "reason"]


def test_no_item_with_what_a_probe_needs_is_an_error() -> None:
    with pytest.raises(ItemError, match="recognition needs foil, which no item has") as caught:
        planned(["recognition", "recall"], tokenised({"item_id": "a", "n_tokens": 9}))
    assert len(caught.value.problems) == 1


def test_a_null_first_step_is_a_value_where_the_column_was_given() -> None:
    probe = replace(find("recall"), name="profile", candidates=DATED)
    entry = Entry(probe, probe.settings())
    (plan,), _ = plan_entries([entry], lengths(FOUR, "first_step"))
    assert plan.n_items == 4
    with pytest.raises(ItemError, match="profile needs first_step, which no item has"):
        plan_entries([entry], lengths(FOUR))


def test_an_item_that_is_too_short_is_listed_with_its_probe() -> None:
    (recall,), unfit = planned(["recall"], FOUR, recall__prefix_tokens="15", recall__suffix_tokens="5")
    assert recall.n_items == 3
    assert unfit.rows() == [("a", "recall", "has 10 tokens, so none is left after a prefix of 15")]
    problems = unfit_problems(unfit, FOUR.table)
    assert problems[0].what == "recall: item a has 10 tokens, so none is left after a prefix of 15"
    assert problems[0].where == "items.jsonl, line 1"
    assert problems[-1].what == "1 item cannot be measured"


def test_only_the_first_unfit_items_are_shown_and_the_rest_is_counted() -> None:
    items = tokenised(*({"item_id": f"i{n}", "n_tokens": 5 if n else 50} for n in range(15)))
    _, unfit = planned(["recall"], items, recall__prefix_tokens="20")
    problems = unfit_problems(unfit, items.table)
    assert len(problems) == 11
    assert problems[-1].what == "and 4 more; 14 items cannot be measured"


def test_nobody_long_enough_is_an_error_that_says_why() -> None:
    with pytest.raises(ItemError, match="recall: none of 4 items can be measured") as caught:
        planned(["recall"], FOUR, recall__prefix_tokens="100")
    assert caught.value.problems[0].where == (
        "the first item has 10 tokens, so none is left after a prefix of 100"
    )


@pytest.mark.parametrize(
    ("context", "n_front", "fits"),
    [(None, 0, True), (9, 0, True), (8, 0, False), (10, 1, True), (9, 1, False)],
)
def test_an_item_fits_the_context_when_all_but_its_last_token_fit(context, n_front, fits) -> None:
    """Ten tokens: nine are read, and BOS before them where there is one."""
    items = tokenised({"item_id": "a", "n_tokens": 10}, {"item_id": "b", "n_tokens": 5}, n_front=n_front)
    (recall,), unfit = planned(["recall"], items, context)
    assert recall.n_items == 1 + fits
    reason = f"has {9 + n_front} tokens to read, the model's context holds {context}"
    assert unfit.rows() == ([] if fits else [("a", "recall", reason)])
    assert set(recall.plan.requests["item_id"]) == ({"a", "b"} if fits else {"b"})


@pytest.mark.parametrize(
    ("part", "n_tokens", "fits"),
    [
        ("trial-0-parametric-AB", 9, True),
        ("trial-0-parametric-AB", 10, False),
        # A chat template has put its own tokens in front.
        ("chat-trial-0-parametric-AB", 10, True),
        ("chat-trial-0-parametric-AB", 11, False),
    ],
)
def test_a_prompt_before_a_choice_is_read_to_its_last_token(part, n_tokens, fits) -> None:
    items = tokenised({"item_id": "a", "n_tokens": 5}, {"item_id": "b", "n_tokens": 5}, n_front=1)
    asks = {"a": (part, n_tokens), "b": (part, 1)}
    requests = REQUESTS.conform(
        pl.DataFrame(
            [(item, part, 0, n, n, "choice") for item, (part, n) in asks.items()],
            schema=list(REQUESTS.columns),
            orient="row",
        )
    )
    probe = replace(find("recall"), plan=lambda table, settings: Plan(requests))
    (plan,), unfit = plan_entries([Entry(probe, probe.settings())], lengths(items, context=10))
    assert (plan.n_items == 2) == fits
    told = [] if fits else [("a", "recall", "has 11 tokens to read, the model's context holds 10")]
    assert unfit.rows() == told


def test_only_the_span_that_is_read_must_fit() -> None:
    items = tokenised({"item_id": "a", "n_tokens": 100})
    settings = {"recall__prefix_tokens": "4", "recall__suffix_tokens": "3", "recall__align": "end"}
    (recall,), unfit = planned(["recall"], items, 6, **settings)
    assert (recall.n_items, unfit.height) == (1, 0)


def test_an_item_of_which_one_string_is_too_long_is_left_out_whole() -> None:
    items = tokenised(
        {"item_id": "a", "n_tokens": 5, "foil": "x", "n_foil_tokens": 50},
        {"item_id": "b", "n_tokens": 5, "foil": "x", "n_foil_tokens": 6},
    )
    (recognition,), unfit = planned(["recognition"], items, 20)
    assert set(recognition.plan.requests["item_id"]) == {"b"}
    assert unfit["item_id"].to_list() == ["a"]


# Units


def asked(units) -> pl.DataFrame:
    return pl.concat(unit.requests for unit in units.values()).sort(REQUESTS.key)


def test_units_hold_every_request_once_and_all_schemes() -> None:
    plans, _ = planned(["recall", "extraction", "recognition"], FOUR)
    units = cut_stages([plans], FOUR.table)
    assert_frame_equal(asked(units), merge_requests(each.plan.requests for each in plans))
    assert {unit.statistics for unit in units.values()} == {(Scheme(), Scheme(top_k=40))}
    assert all(len(key) == 24 for key in units)


def test_recall_and_extraction_share_their_tokens() -> None:
    together, _ = planned(["recall", "extraction"], FOUR, recall__verify_items="0")
    alone, _ = planned(["extraction"], FOUR)
    assert_frame_equal(asked(cut_stages([together], FOUR.table)), asked(cut_stages([alone], FOUR.table)))


@pytest.mark.parametrize("probe", ["recall", "extraction"])
def test_units_do_not_depend_on_the_order_of_items(probe) -> None:
    items = tokenised(*({"item_id": f"i{n}", "n_tokens": 500 + n % 7} for n in range(90)))
    shuffled = replace(items, table=items.table.sample(fraction=1, shuffle=True, seed=1))
    one = cut_stages([planned([probe], items)[0]], items.table)
    other = cut_stages([planned([probe], shuffled)[0]], shuffled.table)
    assert len(one) > 1
    assert list(one) == list(other)


def test_a_units_key_depends_on_contents_spans_and_schemes() -> None:
    def keys(items: TokenisedItems = FOUR, probe: str = "extraction", **settings: str) -> set[str]:
        return set(cut_stages([planned([probe], items, **settings)[0]], items.table))

    other_text = replace(FOUR, table=FOUR.table.with_columns(content_hash=pl.lit("other")))
    variants = [
        keys(),
        keys(other_text),
        keys(extraction__prefix_tokens="3"),
        keys(extraction__schemes="[{top_k = 40}]"),
        keys(extraction__schemes="[{top_k = 40}, {temperature = 0.7}]"),
        keys(probe="recall", recall__verify_items="0"),
    ]
    assert len(frozenset.union(*map(frozenset, variants))) == sum(map(len, variants))
    # What is only computed from the scores leaves them alone, and so does the order of schemes.
    assert keys(extraction__n="[7]") == keys()
    assert keys(extraction__schemes="[{}, {top_k = 40}]") == keys()


def test_a_later_stage_scores_only_what_no_earlier_one_answers() -> None:
    extraction, _ = planned(["extraction"], FOUR)
    recall, _ = planned(["recall"], FOUR, recall__verify_items="0")
    recognition, _ = planned(["recognition"], FOUR)
    first = cut_stages([extraction], FOUR.table)
    assert list(cut_stages([extraction, recall], FOUR.table)) == list(first)
    grown = cut_stages([extraction, recall, recognition], FOUR.table)
    assert list(grown)[: len(first)] == list(first)
    added = asked({key: unit for key, unit in grown.items() if key not in first})
    assert_frame_equal(added, recognition[0].plan.requests.sort(REQUESTS.key))


def test_new_schemes_need_new_scores_and_no_scheme_needs_none() -> None:
    recall, _ = planned(["recall"], FOUR, recall__verify_items="0")
    extraction, _ = planned(["extraction"], FOUR)
    units = cut_stages([recall, extraction], FOUR.table)
    assert asked(units).height == 2 * FOUR.table.height
    assert {unit.statistics for unit in units.values()} == {(), (Scheme(), Scheme(top_k=40))}


def test_what_a_stage_is_scored_with_besides_answers_a_later_probe_that_needs_it() -> None:
    recall, _ = planned(["recall"], FOUR, recall__verify_items="0")
    needing = [replace(each, plan=replace(each.plan, statistics=frozenset({Spread()}))) for each in recall]
    old = cut_stages([recall, needing], FOUR.table, [(), ("sd_logp",)])
    assert [unit.statistics for unit in old.values()] == [(), (Spread(),)]
    assert asked(old).height == 2 * FOUR.table.height
    new = cut_stages([recall, needing], FOUR.table, [("sd_logp",), ("sd_logp",)])
    assert [unit.statistics for unit in new.values()] == [(Spread(),)]
    # What is scored besides makes no probe score again that does not need it.
    again = cut_stages([recall, recall], FOUR.table, [(), ("sd_logp",)])
    assert list(again) == list(cut_stages([recall], FOUR.table, [()]))


@pytest.mark.parametrize("name", ["quickstart", "hayes2024", "carlini2022", "orhan2023"])
def test_every_shipped_suite_can_be_planned(name) -> None:
    items = tokenised(
        *({"item_id": f"i{n}", "n_tokens": 500, "foil": "x", "n_foil_tokens": 480} for n in range(3))
    )
    suite = load_suite(name)
    plans, unfit = plan_entries(suite.entries, lengths(items, "first_step", context=1024))
    assert [plan.n_items for plan in plans] == [3] * len(suite.entries)
    assert unfit.is_empty()


def test_carlinis_contexts_end_at_the_same_suffix() -> None:
    items = tokenised({"item_id": "a", "n_tokens": 600})
    suite = with_settings(load_suite("carlini2022"), ["recall.verify_items=0"])
    plans, _ = plan_entries(suite.entries, lengths(items))
    spans = [row for plan in plans for row in plan.plan.requests.select("start", "score_from", "stop").rows()]
    assert spans == [(550 - context, 550, 600) for context in range(50, 500, 50)]


# The context of a score


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    return Checkpoint(
        model="m",
        revision="step1",
        step=1,
        folder=tmp_path,
        repo=None,
        tokenizer_folder=tmp_path,
        weights_format="safetensors",
        weight_files=("model.safetensors",),
        n_bytes=1,
        n_parameters=None,
        dtype=None,
    )


def test_a_context_depends_on_weights_tokenizer_configuration_bos_and_dtype(checkpoint) -> None:
    def key(weights="w", bos="default", dtype="float32", which=checkpoint) -> str:
        return context_key(which, weights, bos=bos, dtype=dtype)

    base = key()
    found = {base, key(weights="v"), key(bos="none"), key(dtype="bfloat16")}
    found.add(key(which=replace(checkpoint, tokenizer_folder=None)))
    (checkpoint.folder / "config.json").write_text('{"model_type": "gpt2"}')
    found.add(key())
    (checkpoint.folder / "tokenizer.json").write_text('{"model": {}}')
    found.add(key())
    assert len(found) == 7
    assert len(base) == 24


def test_names_of_a_checkpoint_are_no_part_of_its_context(checkpoint) -> None:
    renamed = replace(checkpoint, model="other", revision="main", step=9)
    assert context_key(renamed, "w", bos="none", dtype="float32") == context_key(
        checkpoint, "w", bos="none", dtype="float32"
    )


# Searches


def compression(**settings) -> Entry:
    return Entry(find("compression"), Settings(controls=0, **settings))


def with_targets(items: TokenisedItems, context: int | None = None) -> Lengths:
    """Lengths with the targets of every item, as if all could be represented."""
    rows = [
        dict.fromkeys(WINDOWS.columns)
        | {"view": "targets-all", "item_id": item, "part": "text", "window": 0}
        | {"start": 0, "score_from": 0, "stop": n_tokens}
        for item, n_tokens in items.table.select("item_id", "n_tokens").iter_rows()
    ]
    windows = pl.DataFrame(rows, schema=WINDOWS.empty().schema, orient="row")
    return Lengths(items.table, items.n_front, context, frozenset(), windows)


def test_a_search_needs_room_for_one_token_of_a_prompt() -> None:
    # Read are BOS, one token of a prompt, and the target but for its last token: 10 for one of 9.
    items = tokenised({"item_id": "fits", "n_tokens": 9}, {"item_id": "not", "n_tokens": 10}, n_front=1)
    (planned,), unfit = plan_entries([compression()], with_targets(items, context=10))
    assert set(planned.plan.requests["item_id"]) == {"fits"}
    assert unfit.rows() == [("not", "compression", "has 11 tokens to read, the model's context holds 10")]


def test_a_search_is_a_unit_whose_key_no_scheme_and_no_other_item_changes() -> None:
    def keys(*more: str, items=FOUR) -> dict[str, str]:
        measured = [compression(), *(Entry(find(name), find(name).settings()) for name in more)]
        plans, _ = plan_entries(measured, with_targets(items))
        units = cut_stages([plans], items.table)
        return {
            unit.requests["item_id"][0]: key for key, unit in units.items() if unit.search == Settings().asked
        }

    alone = keys()
    assert set(alone) == set("abcd")
    assert keys("extraction") == alone
    fewer = tokenised({"item_id": "b", "n_tokens": 20}, {"item_id": "d", "n_tokens": 40})
    assert keys(items=fewer) == {item: alone[item] for item in "bd"}


def test_another_search_is_another_unit() -> None:
    def keys(settings: Settings) -> set[str]:
        plans, _ = plan_entries([Entry(find("compression"), settings)], with_targets(FOUR))
        return set(cut_stages([plans], FOUR.table))

    base = keys(Settings(controls=0))
    # What is scored beside the searches is the same unit; the four searches are others.
    assert len(base & keys(Settings(controls=0, budget=5))) == len(base) - 4


def test_before_a_checkpoint_is_the_one_before_and_of_equal_weights_the_first_counts() -> None:
    def plan(*contexts: str) -> SimpleNamespace:
        targets = [SimpleNamespace(context=each, step=10 * n) for n, each in enumerate(contexts)]
        return SimpleNamespace(targets=targets)

    assert befores([plan("a", "b", "b", "c"), plan("d", "b", "e")]) == {
        "a": None,
        "b": ("a", 0),
        "c": ("b", 20),
        "d": None,
        "e": ("b", 10),
    }
