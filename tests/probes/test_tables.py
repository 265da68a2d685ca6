"""What every table that we write promises: keys, units in names, a meaning for each column and null."""

import polars as pl
import pytest

from memprobe.probes.discovery import schemas
from memprobe.tables.keys import ITEM_KEYS
from memprobe.tables.summary import DOSE_RESPONSE, SUMMARY

# Of two of one name, the second has the columns of windows too.
TABLES = {schema.name: schema for schema in schemas() if schema.name != "windows"}

# The contract's suffixes of names, and the units that go with them.
UNIT_OF_SUFFIX = {"_nats": "nats", "_tokens": "tokens", "_frac": "fraction", "_steps": "steps"}
TABLE = pytest.mark.parametrize("name", TABLES)


@TABLE
def test_a_table_is_listed_under_its_own_name_and_its_keys_are_columns(name) -> None:
    assert TABLES[name].name == name
    assert set(TABLES[name].key) <= set(TABLES[name].columns)


@TABLE
def test_every_column_has_a_unit_and_a_meaning(name) -> None:
    for column in TABLES[name].columns.values():
        assert column.unit
        assert column.meaning
        assert column.null_means != ""


@TABLE
def test_a_unit_in_the_name_is_the_unit_of_the_column(name) -> None:
    for column_name, column in TABLES[name].columns.items():
        for suffix, unit in UNIT_OF_SUFFIX.items():
            if column_name.endswith(suffix):
                assert column.unit.split()[0] == unit, column_name
        if column_name.startswith("n_"):
            assert column.dtype.is_integer()


AGGREGATES = {"summary", "dose_response", "profile", "profile_agg", "profile_pretrend", "profile_dropped"}
AGGREGATES |= {"sort_accuracy", "sort_prompts"}
AGGREGATES |= {"retention_curve", "retention_fit"}
AGGREGATES |= {"stability", "stability_measures", "stability_gaps", "forecast"}
AGGREGATES |= {"forgetting", "forgetting_survival", "forgetting_hazard"}
AGGREGATES |= {"acquisition", "acquisition_curve", "acquisition_fit"}


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_aggregate_tables_start_with_the_model(name) -> None:
    assert next(iter(TABLES[name].columns)) == "model"


@pytest.mark.parametrize("name", [name for name in TABLES if name not in AGGREGATES])
def test_item_level_tables_start_with_the_keys(name) -> None:
    assert tuple(TABLES[name].columns)[:6] == tuple(ITEM_KEYS)
    assert TABLES[name].key[:4] == ("model", "revision", "step", "item_id")
    assert TABLES[name].open_ended


def test_keys_have_the_contracts_types() -> None:
    assert ITEM_KEYS["step"].dtype == pl.Int64()
    assert ITEM_KEYS["exposures"].dtype == pl.Int64()


def test_the_summary_has_the_contracts_columns_in_order() -> None:
    assert list(SUMMARY.columns) == [
        *("model", "revision", "step", "probe", "metric", "group", "condition"),
        *("estimate", "ci_low", "ci_high", "ci_level", "ci_method"),
        *("n_items", "n_clusters", "n_missing", "unit", "version", "signature"),
    ]
    assert SUMMARY.key == tuple(SUMMARY.columns)[:7]
    assert not SUMMARY.open_ended


def test_the_dose_response_is_named_as_the_summary_is() -> None:
    assert list(DOSE_RESPONSE.columns) == [
        *("model", "revision", "step", "probe", "metric", "group", "condition", "dose", "fit"),
        *("slope", "se", "ci_low", "ci_high", "ci_level", "ci_method", "p_value", "intercept", "r2_of_means"),
        *("n_items", "n_outcomes", "n_clusters", "n_levels", "reason", "unit", "version", "signature"),
    ]
    assert DOSE_RESPONSE.key == tuple(DOSE_RESPONSE.columns)[:9]
    for name in ("probe", "metric", "group", "condition", "version", "signature"):
        assert DOSE_RESPONSE.columns[name] == SUMMARY.columns[name]
    # A row about several models belongs to none of them.
    assert all(DOSE_RESPONSE.columns[name].null_means for name in ("model", "revision", "step"))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (
            "recognition",
            "foil_kind seen_nll_mean_nats foil_nll_mean_nats seen_nll_sum_nats foil_nll_sum_nats "
            "seen_tokens foil_tokens margin_nats correct",
        ),
        (
            "recall",
            "prefix_tokens suffix_tokens exact lcp_tokens hit_frac es_frac min_margin_nats "
            "gen_match_frac rouge1_f rouge2_f rougeL_f",
        ),
        ("extraction", "scheme prefix_tokens suffix_tokens logp_nats pz max_rank in_support"),
    ],
)
def test_probe_tables_have_at_least_the_contracts_columns(name, columns) -> None:
    assert set(columns.split()) <= set(TABLES[name].columns)
