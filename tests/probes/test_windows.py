"""Extraction over windows: plan, table, coverage by a loop over characters, and values in series."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from memprobe.probes.contract import Scores
from memprobe.probes.extraction import PROBE, Settings
from memprobe.probes.extraction.tables import COVERAGE
from memprobe.stats.blocks import Series, weighted_mean
from memprobe.tables.requests import REQUESTS, Scheme
from memprobe.tables.views import WINDOWS, CharWindows, Chat, TokenWindows

SETTINGS = Settings(prefix_tokens=2, suffix_tokens=3, stride_chars=4, schemes=(Scheme(),), tau=(0.2, 0.5))


def window(item, number, start_char, suffix, *, chars=60, **more):
    """One window: its suffix lies at [suffix[0], suffix[1])."""
    return {
        "view": SETTINGS.windows.name,
        "item_id": item,
        "window": number,
        "part": f"slice@{start_char}+40",
        "start": 0,
        "score_from": 2,
        "stop": 5,
        "window_start_char": start_char,
        "suffix_start_char": suffix[0],
        "suffix_end_char": suffix[1],
        "document_chars": chars,
    } | more


def frame(*rows):
    return WINDOWS.conform(pl.DataFrame(rows, schema=WINDOWS.empty().schema, orient="row"))


BOOK = [window("b", i, 4 * i, (4 * i + 7, 4 * i + 17)) for i in range(10)]
SHORT = window("b", 10, 40, (None, None)) | dict.fromkeys(
    ("start", "score_from", "stop", "window_start_char", "suffix_start_char", "suffix_end_char")
)
P = [0.01, 0.6, 0.05, 0.3, 0.3, 0.02, 0.01, 0.9, 0.01, 0.0]


@pytest.fixture
def book(items_of) -> pl.DataFrame:
    return items_of({"item_id": "b", "n_tokens": 30, "doc_id": "d"})


@pytest.fixture
def scores(spans_of, book) -> Scores:
    """Ten windows of one document with the p_z of `P`, one token in three carrying it."""
    rows = [
        {
            "item_id": "b",
            "part": row["part"],
            "start": 0,
            "score_from": 2,
            "stop": 5,
            "detail": "tokens",
            "n_scored": 3,
            "n_hits": 3 if p > 0.5 else 1,
            "logprob_sum_nats": -1.0,
            "rank": [0, 1, 2],
            Scheme().column: [0.0, math.log(p) if p else -math.inf, 0.0],
        }
        for row, p in zip(BOOK, P, strict=True)
    ]
    return Scores(spans_of(*rows), book, frame(*BOOK, SHORT))


def test_strides_name_the_view_and_need_both_lengths() -> None:
    assert SETTINGS.windows == CharWindows(2, 3, 4)
    by_tokens = Settings(prefix_tokens=2, suffix_tokens=3, stride_tokens=4)
    assert PROBE.view(by_tokens) == TokenWindows(2, 3, 4)
    assert PROBE.view(Settings()) is None
    assert PROBE.view(Settings(chat=True)) == Chat()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride_tokens": 0, "prefix_tokens": 1, "suffix_tokens": 1}, "stride_tokens is 0, not 1 or more"),
        ({"stride_chars": -1, "prefix_tokens": 1, "suffix_tokens": 1}, "stride_chars is -1, not 1 or more"),
        (
            {"stride_chars": 1, "stride_tokens": 1, "prefix_tokens": 1, "suffix_tokens": 1},
            "stride_tokens and stride_chars are both given",
        ),
        ({"stride_chars": 1, "prefix_tokens": 1}, "a stride needs prefix_tokens and suffix_tokens"),
        ({"stride_chars": 1, "suffix_tokens": 1}, "a stride needs prefix_tokens and suffix_tokens"),
        (
            {"stride_chars": 1, "prefix_tokens": 1, "suffix_tokens": 1, "align": "end"},
            'align = "end" has no meaning beside a stride',
        ),
        ({"chat": True, "stride_chars": 1, "prefix_tokens": 1, "suffix_tokens": 1}, "chat takes the whole"),
        ({"chat": True, "suffix_tokens": 1, "align": "end"}, 'align = "end" has no meaning beside chat'),
        ({"tau": ()}, "tau is"),
        ({"tau": (0.0,)}, "tau is"),
        ({"tau": (0.5, 0.5)}, "tau has one number twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_every_whole_window_is_asked_for_once(book) -> None:
    seen = book.join(frame(*BOOK, SHORT), on="item_id", how="left")
    planned = PROBE.plan(seen, SETTINGS)
    REQUESTS.check(planned.requests)
    assert planned.requests.height == 10
    assert set(planned.requests["part"]) == {row["part"] for row in BOOK}
    assert planned.unfit.is_empty()


def test_a_document_without_a_window_is_unfit_and_says_how_many_tokens_it_has(items_of) -> None:
    items = items_of({"item_id": "b", "n_tokens": 30}, {"item_id": "c", "n_tokens": 4})
    planned = PROBE.plan(items.join(frame(*BOOK), on="item_id", how="left"), SETTINGS)
    assert planned.unfit.rows() == [("c", "has 4 tokens, a window needs 5")]


def test_the_table_has_a_row_per_window_with_its_place(scores) -> None:
    table = PROBE.measure(scores, SETTINGS).sort("window")
    assert table["window"].to_list() == list(range(10))
    np.testing.assert_allclose(table["pz"].to_list(), P, rtol=1e-6)
    assert table["doc_id"].unique().to_list() == ["d"]
    assert table.select("suffix_start_char", "suffix_end_char").row(3) == (19, 29)


def coverage_by_characters(tau: float) -> tuple[int, int]:
    best = [
        max(
            (
                p
                for row, p in zip(BOOK, P, strict=True)
                if row["suffix_start_char"] <= c < row["suffix_end_char"]
            ),
            default=0.0,
        )
        for c in range(60)
    ]
    runs, run = [0], 0
    for value in best:
        run = run + 1 if value >= tau else 0
        runs.append(run)
    return sum(value >= tau for value in best), max(runs)


def test_coverage_is_that_of_a_loop_over_characters_with_head_tail_and_short_windows(scores) -> None:
    table = PROBE.measure(scores, SETTINGS)
    (derived,) = PROBE.derived
    built = derived.build(table, scores, SETTINGS)
    assert derived.schema is COVERAGE
    for tau in (0.2, 0.5):
        row = built.row(by_predicate=pl.col("tau") == tau, named=True)
        assert (row["covered_chars"], row["longest_run_chars"]) == coverage_by_characters(tau)
        assert row["coverage_frac"] == row["covered_chars"] / 60
        # The first suffix begins at 7, the last ends at 9 * 4 + 17 = 53.
        assert (row["head_chars"], row["tail_chars"]) == (7, 7)
        assert (row["n_windows"], row["n_short_windows"]) == (10, 1)
    assert coverage_by_characters(0.2)[0] > coverage_by_characters(0.5)[0] > 0


def test_coverage_values_along_a_document_average_to_its_coverage(scores) -> None:
    table = PROBE.measure(scores, SETTINGS)
    values = PROBE.metric("coverage_frac").values(table, SETTINGS)
    for tau in (0.2, 0.5):
        part = values.filter(condition=f"scheme=full;tau={tau}").sort("position")
        # Stretches of 10 characters, the length of a suffix.
        assert part["weight"].to_list() == [10.0] * 6
        series = Series(part["value"].to_numpy(), part["weight"].to_numpy(), int(part["overlap"][0]))
        assert weighted_mean([series]) == pytest.approx(coverage_by_characters(tau)[0] / 60)


def test_the_last_stretch_of_a_document_weighs_what_it_is_long(scores, spans_of, book) -> None:
    longer = scores.windows.with_columns(document_chars=pl.lit(64, pl.Int64))
    table = PROBE.measure(Scores(scores.spans, book, longer), SETTINGS)
    values = PROBE.metric("coverage_frac").values(table, SETTINGS).filter(condition="scheme=full;tau=0.2")
    assert values.sort("position")["weight"].to_list() == [10.0] * 6 + [4.0]
    covered = values.select(pl.col("value").dot("weight") / 64).item()
    assert covered == pytest.approx(coverage_by_characters(0.2)[0] / 64)


def test_rates_of_windows_come_in_series_and_overlap_as_their_stride_says(scores) -> None:
    table = PROBE.measure(scores, SETTINGS)
    for name in ("rate_frac", "max_rate_frac", "greedy_rate_frac"):
        values = PROBE.metric(name).values(table, SETTINGS)
        assert set(values.columns) == {
            *("item_id", "condition", "value", "position", "overlap", "weight", "passage")
        }
        # A window spans 17 characters, one begins every 4: five overlap.
        assert values["overlap"].unique().to_list() == [5]
    greedy = PROBE.metric("greedy_rate_frac").values(table, SETTINGS).sort("position")
    assert greedy["value"].to_list() == [float(p > 0.5) for p in P]
    by_tokens = Settings(prefix_tokens=2, suffix_tokens=3, stride_tokens=2, schemes=(Scheme(),))
    # Five tokens, one window every 2: three overlap.
    assert PROBE.metric("rate_frac").values(table, by_tokens)["overlap"].unique().to_list() == [3]


def test_a_declared_passage_is_counted_in_windows_and_in_stretches(scores) -> None:
    table = PROBE.measure(scores, SETTINGS)
    declared = replace(SETTINGS, longest_passage=21)
    # One window begins every 4 characters: 21 of them hold 6; 24 characters are 3 stretches of 10.
    assert PROBE.metric("rate_frac").values(table, declared)["passage"].unique().to_list() == [6]
    assert PROBE.metric("coverage_frac").values(table, declared)["passage"].unique().to_list() == [3]
    assert PROBE.metric("coverage_frac").values(table, SETTINGS)["passage"].null_count() > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"longest_passage": 0, "stride_tokens": 2}, "longest_passage is 0, not 1 or more"),
        ({"longest_passage": 9}, "longest_passage needs stride_tokens or stride_chars"),
    ],
)
def test_a_passage_that_cannot_be_is_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(prefix_tokens=2, suffix_tokens=3, **given)


def test_documents_given_as_ids_have_no_coverage(scores, book) -> None:
    chars = ("window_start_char", "suffix_start_char", "suffix_end_char", "document_chars")
    without = scores.windows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in chars)
    bare = Scores(scores.spans, book, without)
    by_tokens = Settings(prefix_tokens=2, suffix_tokens=3, stride_tokens=2, schemes=(Scheme(),))
    table = PROBE.measure(bare, by_tokens)
    assert table.height == 10
    assert PROBE.derived[0].build(table, bare, by_tokens).is_empty()
    assert PROBE.metric("coverage_frac").values(table, by_tokens).is_empty()


def test_only_windows_have_coverage(scores, book) -> None:
    plain = Settings(schemes=(Scheme(),))
    assert "window" not in PROBE.measure(Scores(scores.spans, book), plain).columns
    assert "coverage_frac" in [metric.name for metric in PROBE.metrics_for(SETTINGS)]
    for settings in (plain, Settings(chat=True)):
        assert PROBE.derived_for(settings) == ()
        assert "coverage_frac" not in [metric.name for metric in PROBE.metrics_for(settings)]
