"""What every probe promises, checked for all probes that are found, also those added later."""

import re
from dataclasses import fields

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import SuiteError
from memprobe.options import check_table
from memprobe.pipeline.suite import load_suite, shipped_suites
from memprobe.probes.contract import Probe, Scores
from memprobe.probes.discovery import discover, find
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.requests import REQUESTS

ENTRIES = [entry for name in shipped_suites() for entry in load_suite(name).entries]
ALL = pytest.mark.parametrize("probe", discover().values(), ids=lambda probe: probe.name)
# The contract, section 4, "Metrics"; coverage as its table, over all documents of a group.
METRICS = {
    "recognition": ["accuracy_frac", "margin_nats", "auc", "gain_frac"],
    "recall": ["exact_frac", "lcp_tokens", "hit_frac", "es_frac"],
    "profile": ["instantaneous", "persistent", "residual"],
    "retention": ["recall_frac", "recognition_frac", "half_life_steps"],
    "forecast": ["precision_frac", "recall_frac", "f1", "f2"],
    "stability": [
        *("acc", "bwt", "fwt", "forgetting_chaudhry", "min_acc", "wc_acc", "wf", "wp"),
        *("depth_of_gap", "recovery_steps"),
    ],
    "forgetting": [
        *("unforgettable_frac", "never_learned_frac", "n_forgetting_events"),
        "first_forgotten_median_steps",
    ],
    "acquisition": ["effectivity_nats", "effectivity_null_nats", "acquired_frac", "decay_per_decade"],
    "sort": ["accuracy_frac", "position_bias_frac", "gap_frac", "label_mass"],
    "compression": ["memorized_frac", "acr_median", "prompt_tokens_km_median"],
    "extraction": ["rate_frac", "max_rate_frac", "greedy_rate_frac", "coverage_frac"],
}
MORE_IS_FORGOTTEN = {"forgetting_chaudhry", "wf", "depth_of_gap", "recovery_steps"}
MORE_IS_FORGOTTEN |= {"never_learned_frac", "n_forgetting_events", "decay_per_decade"}
# What is there without an injection says nothing of memory.
MORE_IS_FORGOTTEN |= {"effectivity_null_nats"}
# Longer prompts are needed for what is less memorized.
MORE_IS_FORGOTTEN |= {"prompt_tokens_km_median"}
# What comes of the place of a segment, of reading the excerpt or of answering at all, is no memory.
MORE_IS_FORGOTTEN |= {"position_bias_frac", "gap_frac", "label_mass"}
WITHOUT_A_UNIT_IN_THE_NAME = {"auc", "instantaneous", "persistent", "residual", "acr_median", "f1", "f2"}
WITHOUT_A_UNIT_IN_THE_NAME |= {"prompt_tokens_km_median", "label_mass"}
WITHOUT_A_UNIT_IN_THE_NAME |= {*METRICS["stability"], "n_forgetting_events", "decay_per_decade"}
UNIT_OF_SUFFIX = {"frac": "fraction", "tokens": "tokens", "nats": "nats", "steps": "steps", "bits": "bits"}


@pytest.fixture
def items(items_of) -> pl.DataFrame:
    """Items of every kind: cut, not cut, with and without foil, one too short to have a condition."""
    rows = [
        {
            "item_id": f"i{number}",
            "group": "ab"[number % 2],
            "n_tokens": 12 + number,
            "n_prefix_tokens": 5 if number % 3 else None,
            "n_foil_tokens": 9 + number % 4,
            "foil_kind": ("novel", "shuffled", None)[number % 3],
            "first_step": number * 10 if number % 2 else None,
            "last_step": number * 10 if number % 2 else None,
        }
        for number in range(12)
    ]
    short = [{"item_id": f"short{number}", "n_tokens": 2, "n_foil_tokens": 2} for number in range(4)]
    return items_of(*rows, *short, {"item_id": "alone", "n_tokens": 1, "n_foil_tokens": 1, "group": "a"})


def table_of(probe: Probe, scores: Scores, settings: object) -> pl.DataFrame:
    """The item-level table as a run builds it: keys in front, checked."""
    measured = probe.measure(scores, settings)
    carried = scores.items.select("item_id", "group", "exposures")
    keyed = measured.join(carried, on="item_id", maintain_order="left").with_columns(
        model=pl.lit("m"), revision=pl.lit("r"), step=pl.lit(1, pl.Int64)
    )
    return probe.table.conform(keyed)


def test_probes_are_found_in_the_order_of_their_names() -> None:
    assert list(discover()) == sorted(discover())
    assert set(METRICS) <= set(discover())
    assert find("recall") is discover()["recall"]


def test_an_unknown_probe_suggests_the_nearest() -> None:
    with pytest.raises(SuiteError, match="unknown probe `recal`, did you mean `recall`") as caught:
        find("recal")
    assert ", ".join(discover()) in caught.value.problems[0].fix


@ALL
def test_a_probe_says_what_it_is(probe) -> None:
    assert probe.name.isidentifier()
    assert probe.version >= 1
    assert probe.title.endswith("?")
    assert probe.formula
    assert "arXiv" in probe.source
    # Its first table has its name, and no other probe writes a table of a name of its tables.
    assert probe.schemas[0].name == probe.name
    others = {each.name for other in discover().values() if other is not probe for each in other.schemas}
    assert others.isdisjoint({each.name for each in probe.schemas} | {probe.table.name})
    # Settings that it names are its own.
    assert {*probe.cosmetic, probe.swept, probe.dose} - {None} <= set(probe.options())


@ALL
def test_a_probe_tells_its_reader_what_it_measures_how_to_read_it_and_whom_to_cite(probe) -> None:
    about = probe.about
    # Two sentences, as the report shows them below the title.
    assert len(re.findall(r"[.?](?= [A-Z]|$)", about.measures)) == 2
    for text in (about.measures, about.how_to_read, about.limits):
        assert text[-1] in ".?"
        assert len(text) < 500
        assert "  " not in text
    entries = about.citation.split("\n\n")
    assert all(re.match(r"@\w+\{\w+,\n", each) and each.endswith("}") for each in entries)
    assert all(each.count("{") == each.count("}") for each in entries)
    # Every paper that the source names by its number is cited.
    for number in re.findall(r"arXiv:(\d+\.\d+)", probe.source):
        assert number in about.citation


@ALL
def test_a_shipped_suite_uses_the_probe_and_fits_its_settings(probe) -> None:
    settings = [entry.settings for entry in ENTRIES if entry.probe is probe]
    assert settings
    assert {type(each) for each in settings} == {probe.settings}


@ALL
def test_settings_are_frozen_have_defaults_and_say_what_each_is_for(probe) -> None:
    settings = probe.settings()
    assert settings == probe.settings()
    assert list(probe.options()) == [each.name for each in fields(probe.settings)]
    for each in fields(probe.settings):
        assert f"\n        {each.name}: " in probe.settings.__doc__
        with pytest.raises(AttributeError):
            setattr(settings, each.name, None)


@ALL
def test_a_value_of_a_wrong_type_is_refused_for_every_setting(probe) -> None:
    wrong = {each.name: {"nonsense": 1} for each in fields(probe.settings)}
    good, problems = check_table(wrong, probe.settings, "here")
    assert good == {}
    assert [problem.what.split("`")[1] for problem in problems] == list(wrong)


@ALL
def test_every_metric_has_a_unit_a_direction_and_a_name_that_ends_in_its_unit(probe) -> None:
    names = [metric.name for metric in probe.metrics]
    assert len(set(names)) == len(names)
    for metric in probe.metrics:
        assert metric.unit
        assert metric.more_means
        assert probe.metric(metric.name) is metric
        suffix = metric.name.rsplit("_", 1)[-1]
        if suffix in UNIT_OF_SUFFIX:
            assert metric.unit.split()[0] == UNIT_OF_SUFFIX[suffix]
        else:
            assert metric.name in WITHOUT_A_UNIT_IN_THE_NAME


@ALL
def test_what_a_report_lists_of_items_are_columns_of_its_tables(probe) -> None:
    schemas = {each.name: each for each in (probe.table, *(each.schema for each in probe.derived))}
    if probe.over_time:
        schemas |= {each.name: each for each in probe.over_time.schemas}
    for ranking in probe.rankings or ():
        columns = schemas[ranking.table].columns
        assert "item_id" in columns
        assert {ranking.by, *ranking.shown} <= columns.keys()


@pytest.mark.parametrize("name", METRICS)
def test_probes_have_the_contracts_metrics_and_more_of_each_is_more_memorized(name) -> None:
    assert [metric.name for metric in find(name).metrics] == METRICS[name]
    assert {each.name for each in find(name).metrics if not each.more_is_memorized} <= MORE_IS_FORGOTTEN


@ALL
def test_the_plan_is_made_of_requests_and_does_not_depend_on_the_order_of_items(
    probe, items, seen_by
) -> None:
    settings = probe.settings()
    seen = seen_by(probe, settings, items)
    planned = probe.plan(seen, settings)
    REQUESTS.check(planned.requests)
    assert set(planned.requests["item_id"]) <= set(items["item_id"])
    again, shuffled = (
        probe.plan(seen, settings),
        probe.plan(seen.sample(fraction=1, shuffle=True, seed=3), settings),
    )
    assert_frame_equal(again.requests, planned.requests)
    assert_frame_equal(shuffled.requests.sort(REQUESTS.key), planned.requests.sort(REQUESTS.key))
    assert planned.statistics == again.statistics == shuffled.statistics
    # A choice scores nothing of what it reads.
    behind = pl.col("score_from") - (pl.col("detail") == "choice").cast(pl.Int32) >= pl.col("stop")
    read = planned.requests.filter((pl.col("start") < 0) | behind)
    assert read.is_empty()


@ALL
def test_the_order_of_rows_does_not_matter(probe, items, scores_for) -> None:
    settings = probe.settings()
    scores = scores_for(probe, settings, items)
    shuffled = Scores(
        scores.spans.sample(fraction=1, shuffle=True, seed=1),
        items.sample(fraction=1, shuffle=True, seed=2),
        scores.windows if scores.windows is None else scores.windows.sample(fraction=1, shuffle=True, seed=3),
    )
    one, other = (table_of(probe, each, settings).sort(probe.table.key) for each in (scores, shuffled))
    assert_frame_equal(one, other)
    for metric in probe.metrics_for(settings):
        left, right = (metric.values(each, settings).sort("item_id", "condition") for each in (one, other))
        assert_frame_equal(left, right)
    assert probe.checks(scores.spans) == probe.checks(shuffled.spans)


@ALL
def test_measuring_fills_the_declared_table(probe, items, scores_for) -> None:
    table = table_of(probe, scores_for(probe, probe.settings(), items), probe.settings())
    assert table.columns[:6] == list(ITEM_KEYS)
    assert set(table["item_id"]) == set(items["item_id"])
    # What differs between items must show, or the other checks compare constants.
    assert any(table[name].n_unique() > 2 for name in probe.table.columns if name not in ITEM_KEYS)


@ALL
def test_values_are_one_number_per_item_and_condition(probe, items, scores_for) -> None:
    table = table_of(probe, scores_for(probe, probe.settings(), items), probe.settings())
    for metric in probe.metrics_for(probe.settings()):
        values = metric.values(table, probe.settings())
        expected = {"item_id": pl.String, "condition": pl.String, "value": pl.Float64}
        paired = {"other": pl.Float64} if metric.summary in ("auc", "km_median", "difference") else {}
        # What no value can pass, where the text of an item sets it.
        bounded = {"most": pl.Float64} if metric.name == "lcp_tokens" else {}
        assert dict(values.schema) == expected | paired | bounded
        assert not bounded or (values["value"] <= values["most"]).all()
        assert not values.select("item_id", "condition").is_duplicated().any()
        assert not values["value"].is_nan().any()
        if metric.summary == "rate":
            assert set(values["value"].drop_nulls()) <= {0.0, 0.5, 1.0}


@ALL
def test_what_is_undefined_is_null(probe, items, scores_for) -> None:
    """An item of one token without BOS has nothing that conditions: no metric may say a number."""
    alone = items.filter(pl.col("item_id") == "alone")
    scores = scores_for(probe, probe.settings(), alone)
    assert scores.spans["n_scored"].drop_nulls().to_list() == [0] * scores.spans["n_scored"].count()
    table = table_of(probe, scores, probe.settings())
    for metric in probe.metrics_for(probe.settings()):
        values = metric.values(table, probe.settings())
        assert values.height >= 1
        assert values["value"].is_null().all(), metric.name
