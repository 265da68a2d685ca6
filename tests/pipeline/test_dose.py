"""The table `dose_response`: which fits there are, on which outcomes, and what they are called.

Rungs: the statistics' own functions on outcomes put together by hand, invariances, undefined cases.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.pipeline.contrast import about_items
from memprobe.pipeline.dose import Measurement, across_models, of_checkpoint
from memprobe.pipeline.plans import EntryPlan
from memprobe.pipeline.signature import condition_prefixes
from memprobe.pipeline.suite import suite_of, with_settings
from memprobe.pipeline.summarise import Context
from memprobe.stats.dose import linear, log_odds, tabulate
from memprobe.tables.requests import REQUESTS, Plan
from memprobe.tables.summary import DOSE_RESPONSE

# The same fit of the same sums, which are added in another order.
RTOL = 1e-9
N = 60
IDS = [f"i{i:02}" for i in range(N)]
ABOUT = {"item_id": pl.String, "group": pl.String, "exposures": pl.Int64, "doc_id": pl.String}


def linear_in_log10(x, y, clusters=None):
    return linear(tabulate(x, y, clusters))


def logistic(x, y, clusters=None):
    return log_odds(tabulate(x, y, clusters))


def items(exposures=None, docs=None) -> pl.DataFrame:
    given = [i % 4 if exposures is None else exposures for i in range(N)]
    columns = {"item_id": IDS, "group": ["ab"[i % 2] for i in range(N)], "exposures": given, "doc_id": docs}
    return pl.DataFrame(columns, schema=ABOUT)


def outcomes(seed: int, condition: str | None = None, rise: float = 0.0) -> pl.DataFrame:
    g = np.random.default_rng(seed)
    hit = g.random(N) < 0.3 + rise + 0.1 * (np.arange(N) % 4)
    return pl.DataFrame({"item_id": IDS, "condition": [condition] * N, "value": hit.astype(float)})


def measured(values, *, lengths=(None,), about=None, probe="recall", model="m", step=9, n_parameters=None):
    """What was measured with one entry for each length; all score the last 3 tokens of items of 40."""
    settings = [] if lengths == (None,) else [f"{probe}.prefix_tokens={list(lengths)}"]
    entries = with_settings(suite_of([probe]), settings).entries
    spans = pl.DataFrame({"item_id": IDS}).with_columns(
        part=pl.lit("text"), score_from=pl.lit(37), stop=pl.lit(40), detail=pl.lit("tokens")
    )
    plans = [
        EntryPlan(each, Plan(REQUESTS.conform(spans.with_columns(start=pl.lit(37 - (a or 0))))), N)
        for each, a in zip(entries, lengths, strict=True)
    ]
    context = Context(model, f"step{step}", step, 0, "bos:default|float32|tok:abc")
    about = about_items(items() if about is None else about, ("exposures",))
    return Measurement(plans, condition_prefixes(entries), values, about, context, n_parameters)


def pick(table: pl.DataFrame, dose: str, fit: str, group=None, condition=None) -> dict[str, object]:
    found = table.filter(
        pl.col("dose") == dose,
        pl.col("fit") == fit,
        pl.col("group").eq_missing(pl.lit(group)),
        pl.col("condition").eq_missing(pl.lit(condition)),
    )
    assert found.height == 1, table
    return found.row(0, named=True)


def same(row, fit) -> bool:
    ours = (row["slope"], row["se"], row["ci_low"], row["ci_high"], row["p_value"], row["intercept"])
    theirs = (fit.slope, fit.se, fit.interval.lo, fit.interval.hi, fit.p_value, fit.intercept)
    return ours == pytest.approx(theirs, rel=RTOL) and row["r2_of_means"] == pytest.approx(fit.r2_of_means)


def test_exposures_are_fitted_over_items_trained_on_at_least_once() -> None:
    frame = outcomes(1)
    table = of_checkpoint(measured([{"exact_frac": frame}]))
    DOSE_RESPONSE.check(table)
    x, y = np.arange(N) % 4, frame["value"].to_numpy()
    some = x > 0
    for name, fit in (("linear_log10", linear_in_log10), ("logistic", logistic)):
        row = pick(table, "exposures", name)
        assert same(row, fit(x[some].astype(float), y[some]))
        assert (row["n_items"], row["n_outcomes"], row["n_clusters"], row["n_levels"]) == (45, 45, 45, 3)
        assert (row["probe"], row["metric"], row["model"], row["step"]) == ("recall", "exact_frac", "m", 9)
        assert row["reason"] is None
    assert pick(table, "exposures", "logistic")["unit"] == "log odds per tenfold"
    assert pick(table, "exposures", "linear_log10")["unit"] == "fraction per tenfold"


def test_each_group_with_two_doses_has_its_own_fit() -> None:
    frame = outcomes(1)
    table = of_checkpoint(measured([{"exact_frac": frame}]))
    # Odd items are group b, with 1 and 3 exposures; even ones with some have 2 alone.
    x, y = np.arange(N) % 4, frame["value"].to_numpy()
    row = pick(table, "exposures", "logistic", "b")
    assert same(row, logistic(x[1::2].astype(float), y[1::2]))
    assert row["n_levels"] == 2
    assert set(table["group"]) == {None, "b"}


def test_items_of_one_document_are_one_cluster() -> None:
    docs = [f"d{i // 5}" for i in range(N)]
    frame = outcomes(1)
    table = of_checkpoint(measured([{"exact_frac": frame}], about=items(docs=docs)))
    x, y = np.arange(N) % 4, frame["value"].to_numpy()
    some = x > 0
    row = pick(table, "exposures", "linear_log10")
    assert same(row, linear_in_log10(x[some].astype(float), y[some], (np.arange(N) // 5)[some]))
    assert (row["n_items"], row["n_clusters"], row["ci_method"]) == (45, 12, "t-cluster-robust")


def test_each_condition_is_fitted_apart_even_where_an_item_is_missing() -> None:
    one, other = (
        outcomes(1, "n=1"),
        outcomes(2, "n=10").with_columns(value=pl.when(pl.col("item_id") != "i07").then("value")),
    )
    # Another order of items must not matter either.
    frame = pl.concat([one, other.reverse()])
    table = of_checkpoint(measured([{"exact_frac": frame}]))
    for condition, values in (("n=1", one), ("n=10", other)):
        known = values.drop_nulls("value")
        x = np.array([int(item[1:]) % 4 for item in known["item_id"]])
        y = known["value"].to_numpy()
        row = pick(table, "exposures", "logistic", condition=condition)
        assert same(row, logistic(x[x > 0].astype(float), y[x > 0]))
        assert row["n_items"] == (x > 0).sum()


@pytest.mark.parametrize("exposures", [None, 0, 3])
def test_one_dose_or_none_makes_no_row(exposures) -> None:
    about = items().with_columns(exposures=pl.lit(exposures, pl.Int64))
    table = of_checkpoint(measured([{"exact_frac": outcomes(1)}], about=about))
    assert table.is_empty()
    DOSE_RESPONSE.check(table)


def test_separated_outcomes_have_a_row_that_says_why_there_is_no_slope() -> None:
    frame = outcomes(1).with_columns(value=(pl.int_range(N) % 4 > 1).cast(pl.Float64))
    row = pick(of_checkpoint(measured([{"exact_frac": frame}])), "exposures", "logistic")
    assert (row["slope"], row["ci_low"], row["ci_method"]) == (None, None, None)
    assert row["reason"] == "separated: no 1 below 2, no 0 above 1"


def test_contexts_are_fitted_over_entries_with_the_item_as_cluster() -> None:
    frames = [outcomes(n, rise=0.1 * n) for n in range(3)]
    table = of_checkpoint(measured([{"exact_frac": each} for each in frames], lengths=(5, 10, 20)))
    # Never-trained items, every fourth from 0 on, say nothing of how context helps memory.
    some = np.arange(N) % 4 > 0
    x, y = (
        np.repeat([5.0, 10.0, 20.0], 45),
        np.concatenate([each["value"].to_numpy()[some] for each in frames]),
    )
    row = pick(table, "prefix_tokens", "logistic")
    assert same(row, logistic(x, y, np.tile(np.arange(45), 3)))
    assert (row["n_items"], row["n_outcomes"], row["n_clusters"], row["n_levels"]) == (45, 135, 45, 3)
    # Exposures are fitted for each context, which the condition names.
    assert pick(table, "exposures", "logistic", condition="prefix_tokens=10")["n_items"] == 45


def test_contexts_before_different_suffixes_are_not_compared() -> None:
    found = measured([{"exact_frac": outcomes(n)} for n in range(2)], lengths=(5, 10))
    first, second = found.entries
    moved = replace(second.plan, requests=second.plan.requests.with_columns(stop=pl.col("stop") + 1))
    table = of_checkpoint(replace(found, entries=[first, replace(second, plan=moved)]))
    assert "prefix_tokens" not in set(table["dose"])


def test_model_size_is_fitted_across_models_with_the_item_as_cluster() -> None:
    frames = [outcomes(n, rise=0.15 * n) for n in range(3)]
    models = [
        measured([{"exact_frac": each}], model=f"m{n}", step=9 + n, n_parameters=10**n * 70)
        for n, each in enumerate(frames)
    ]
    table = across_models(models)
    DOSE_RESPONSE.check(table)
    some = np.arange(N) % 4 > 0
    x = np.repeat([70.0, 700.0, 7000.0], 45)
    y = np.concatenate([each["value"].to_numpy()[some] for each in frames])
    row = pick(table, "parameters", "linear_log10")
    assert same(row, linear_in_log10(x, y, np.tile(np.arange(45), 3)))
    assert (row["model"], row["revision"], row["step"]) == (None, None, None)
    assert set(table["dose"]) == {"parameters"}


def test_models_of_one_size_of_unknown_size_or_of_another_tokenizer_are_not_compared() -> None:
    one = measured([{"exact_frac": outcomes(1)}], n_parameters=70)
    other = measured([{"exact_frac": outcomes(2)}], model="n", n_parameters=700)
    assert across_models([one, other]).height > 0
    assert across_models([one]).is_empty()
    assert across_models([]).is_empty()
    assert across_models([one, replace(other, n_parameters=70)]).is_empty()
    assert across_models([one, replace(other, n_parameters=None)]).is_empty()
    context = replace(other.context, scoring="bos:default|float32|tok:xyz")
    assert across_models([one, replace(other, context=context)]).is_empty()


def test_a_metric_that_is_no_rate_has_no_dose_response() -> None:
    values = {"accuracy_frac": outcomes(1), "margin_nats": outcomes(1)}
    assert of_checkpoint(measured([values], probe="recognition")).is_empty()


def test_the_order_of_values_does_not_matter() -> None:
    docs = [f"d{i // 5}" for i in range(N)]
    frame = outcomes(1)
    one, other = (
        of_checkpoint(measured([{"exact_frac": each}], about=items(docs=docs)))
        for each in (frame, frame.sample(fraction=1, shuffle=True, seed=3))
    )
    assert_frame_equal(one, other, rel_tol=RTOL)
