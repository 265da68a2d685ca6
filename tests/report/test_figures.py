"""Figures: the rows that each takes from its table, and that what is drawn can be read and printed."""

import re

import polars as pl
import pytest

from memprobe.errors import InputError
from memprobe.figures.lines import Axes, curves
from memprobe.figures.render import figure_bytes, svg_in_page
from memprobe.figures.theme import COLOURS, SHAPES, Look, labelled
from memprobe.pipeline.manifest import describe_probes
from memprobe.pipeline.suite import Entry, Suite
from memprobe.probes.compression import figures as compression
from memprobe.probes.discovery import discover, schemas
from memprobe.probes.extraction import figures as extraction
from memprobe.probes.profile import figures as profile
from memprobe.probes.retention import figures as retention
from memprobe.probes.sort import figures as sort
from memprobe.report import metric_figures
from memprobe.report.figure_list import all_figures, figures_of, find
from memprobe.tables.manifest import MetricEntry
from tests.report.conftest import HOSTILE, summary_rows

TABLES = {schema.name for schema in schemas()}

AXES = Axes("step", "rate")


def line(n_series: int = 1, places: int = 3) -> pl.DataFrame:
    rows = [
        {
            "x": float(x),
            "estimate": 0.1 * x + 0.05 * s,
            "ci_low": 0.1 * x,
            "ci_high": 0.1 * x + 0.2,
            "series": f"s{s}",
        }
        for s in range(n_series)
        for x in range(places)
    ]
    return pl.DataFrame(rows)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# Drawing


def test_series_differ_in_more_than_colour_so_that_grey_paper_keeps_them_apart() -> None:
    svg = svg_in_page(curves(line(3), AXES, Look()), "three")
    assert {f'stroke="{colour}"' for colour in COLOURS[:3]} <= set(re.findall(r'stroke="[^"]*"', svg))
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', svg))) >= 2
    assert len(set(SHAPES)) == len(set(COLOURS)) == len(SHAPES)
    # Against white, every colour is dark enough for a line: contrast 2 or more.
    assert all(1.05 / (luminance(colour) + 0.05) >= 2 for colour in COLOURS)


def test_a_figure_in_a_page_has_presentation_attributes_alone() -> None:
    svg = svg_in_page(curves(line(2), AXES, Look()), 'a "figure" <b>')
    assert "style=" not in svg
    assert "<style" not in svg
    assert "href" not in svg
    assert 'aria-label="a &quot;figure&quot; &lt;b&gt;"' in svg


def test_a_figure_for_paper_is_as_wide_as_asked_and_its_letters_are_eight_points() -> None:
    chart = curves(line(2), AXES, Look().in_paper(85))
    box = re.search(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", figure_bytes(chart, "pdf", 85))
    # 85 mm / 25.4 x 72 = 240.9 points; vl-convert draws whole ones.
    assert float(box[1]) == pytest.approx(240.9, abs=1.0)
    svg = figure_bytes(chart, "svg", 85).decode()
    assert 'width="85mm"' in svg
    assert {float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)} == {8.0}
    png = figure_bytes(chart, "png", 85)
    # 85 mm at 300 dots per inch: 1004 dots; the header holds the width in bytes 16 to 19.
    assert int.from_bytes(png[16:20], "big") == pytest.approx(1004, abs=5)


def test_of_many_series_bars_stand_beside_each_other() -> None:
    dodged = curves(line(5), AXES, Look()).to_dict()
    values = next(each["data"]["values"] for each in (*dodged["layer"], dodged) if "data" in each)
    assert len({row["x"] for row in values}) == 15
    apart = sorted(row["x"] for row in values)[:5]
    # Five places around 0, each 0.7 % of the axis's 2 from the next.
    assert apart == pytest.approx([-0.028, -0.014, 0, 0.014, 0.028])


def test_infinite_and_missing_estimates_are_left_out_and_none_at_all_is_an_error() -> None:
    rows = line().with_columns(estimate=pl.Series([float("inf"), None, float("nan")]))
    with pytest.raises(ValueError, match="finite"):
        curves(rows, AXES, Look())
    assert "NaN" not in svg_in_page(curves(line().with_columns(ci_high=float("inf")), AXES, Look()), "x")


def test_a_sample_axis_is_logarithmic() -> None:
    rows = line(places=4).with_columns(x=10.0 ** pl.col("x"))
    chart = curves(rows, Axes("n", "rate", log_x=True), Look()).to_dict()
    assert '"type": "log"' in str(chart).replace("'", '"')


def test_names_are_harmless_short_and_as_different_as_they_were() -> None:
    twins = ["y" * 50 + "a" + "z" * 50, "y" * 50 + "b" + "z" * 50]
    shown = labelled(pl.DataFrame({"series": [*HOSTILE, *twins], "x": 1}))["series"]
    assert shown.n_unique() == len(HOSTILE) + 2
    assert shown.str.len_chars().max() <= 28
    assert not shown.str.contains("[\x00-\x1f\u202e]").any()
    # vl-convert would end this process at a control character, and at half of a pair.
    rows = pl.DataFrame({"x": 0.0, "estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6, "series": HOSTILE})
    assert "<script" not in svg_in_page(curves(rows, AXES, Look()), "hostile")


# What every probe has


def described() -> dict:
    entries = tuple(Entry(probe, probe.settings()) for probe in discover().values())
    return describe_probes(Suite("all", "", "", entries))


def test_kinds_are_named_once_and_read_tables_that_exist() -> None:
    figures = list(all_figures(described(), list(TABLES)))
    kinds = [each.kind for each in figures]
    assert len(kinds) == len(set(kinds))
    assert {each.table for each in figures} <= set(TABLES)


def test_a_probe_that_no_figure_knows_has_figures_from_its_metrics() -> None:
    metric = MetricEntry(name="new_frac", unit="fraction", more_means="more of it", summary="rate")
    over_steps, by_exposures = figures_of("new", [metric], ["summary"])
    rows = summary_rows(
        *({"probe": "new", "metric": "new_frac", "step": s, "revision": f"step{s}"} for s in (1, 2)),
        *({"probe": "new", "metric": "new_frac", "condition": f"exposures={n}"} for n in (2, 10)),
        {"probe": "recall", "metric": "new_frac", "step": 99, "revision": "step99"},
    )
    (panel,) = over_steps.panels(rows)
    assert panel.rows["x"].to_list() == [1, 2]
    (exposed,) = by_exposures.panels(rows)
    assert exposed.rows["x"].to_list() == ["2", "10"]
    for figure, each in ((over_steps, panel), (by_exposures, exposed)):
        assert "<path" in svg_in_page(figure.draw(each.rows, Look()), figure.title)


def test_an_unknown_kind_suggests_the_nearest_and_lists_the_others() -> None:
    figures = list(all_figures(described(), list(TABLES)))
    assert find("recall.hit_frac", figures, list).title == "hit_frac over steps"
    with pytest.raises(InputError, match="did you mean `event-study`") as caught:
        find("event-studi", figures, lambda: ["profile-heatmap"])
    assert "profile-heatmap" in caught.value.problems[0].fix


# Rows of the figures


def test_never_trained_items_are_a_series_of_their_own() -> None:
    rows = summary_rows(
        *(
            {"step": s, "revision": f"step{s}", "condition": c}
            for s in (1, 2)
            for c in (None, "trained=false", "trained=true")
        )
    )
    (panel,) = metric_figures.rows_of_metric(rows, "exact_frac")
    assert panel.rows["series"].unique(maintain_order=True).to_list() == ["all items", "never trained"]


def test_of_many_conditions_those_like_the_leading_one_are_drawn() -> None:
    conditions = [
        f"scheme={s};n={n};p={p}" for s in ("full", "top40") for n in (1, 10, 100, 1000) for p in (0.1, 0.5)
    ]
    rows = summary_rows(*({"condition": each, "metric": "rate_frac"} for each in conditions))
    (panel,) = metric_figures.rows_of_metric(rows, "rate_frac")
    assert panel.rows["series"].to_list() == [f"full, n={n}, p=0.5" for n in (1, 10, 100, 1000)]


def test_several_models_are_series_under_the_leading_condition() -> None:
    rows = summary_rows(
        {"model": "small"}, {"model": "large"}, {"model": "large", "condition": "foil_kind=a"}
    )
    (panel,) = metric_figures.rows_of_metric(rows, "exact_frac")
    assert panel.rows["series"].to_list() == ["small", "large"]


def test_a_single_number_of_a_whole_sequence_is_no_figure() -> None:
    told = {"step": None, "revision": None, "probe": "forecast", "metric": "precision_frac"}
    assert metric_figures.rows_of_metric(summary_rows(told), "precision_frac") == []
    two = summary_rows(*({**told, "condition": f"predictor=step{n}"} for n in (1, 2)))
    (panel,) = metric_figures.rows_of_metric(two, "precision_frac")
    assert panel.rows["label"].to_list() == ["predictor=step1", "predictor=step2"]


def test_rates_over_samples_have_a_panel_for_each_scheme_and_a_line_for_each_p() -> None:
    rows = summary_rows(
        *(
            {
                "probe": "extraction",
                "metric": "rate_frac",
                "condition": f"scheme={s};n={n};p={p}",
                "estimate": n / 1000,
            }
            for s in ("full", "top40")
            for n in (1, 100)
            for p in (0.9, 0.1)
        )
    )
    first, second = extraction.rows_of_samples(rows)
    assert (first.name, second.name) == ("full", "top40")
    assert first.rows.select("x", "estimate", "series").rows() == [
        *((1.0, 0.001, "p = 0.1"), (100.0, 0.1, "p = 0.1"), (1.0, 0.001, "p = 0.9"), (100.0, 0.1, "p = 0.9"))
    ]


def effects(n: int) -> pl.DataFrame:
    cells = [(g, t) for g in range(n) for t in range(n)]
    return pl.DataFrame(
        {
            "model": "m",
            "outcome": "o",
            "cohort_step": [g for g, _ in cells],
            "step": [t for _, t in cells],
            "att": [1.0 if t >= g else 0.0 for g, t in cells],
            "is_post": [t >= g for g, t in cells],
            "lo_sim": 0.5,
            "hi_sim": 1.5,
        }
    )


def test_marks_are_on_effects_after_training_whose_band_excludes_zero() -> None:
    (panel,) = profile.rows_of_effects(effects(2))
    assert panel.rows.select("y", "x", "marked").rows() == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, False),
        (1, 1, True),
    ]
    below = effects(2).with_columns(lo_sim=pl.lit(-1.5), hi_sim=pl.lit(-0.5))
    assert profile.rows_of_effects(below)[0].rows["marked"].to_list() == [True, True, False, True]
    across = effects(2).with_columns(lo_sim=pl.lit(-0.5))
    assert not profile.rows_of_effects(across)[0].rows["marked"].any()


def test_a_large_profile_is_averaged_to_as_many_cells_as_can_be_seen() -> None:
    (panel,) = profile.rows_of_effects(effects(154))
    # 154 cohorts in bins of 5: 31 bins a side.
    assert panel.rows.height == 31 * 31
    corner = panel.rows.filter(pl.col("x") == 0, pl.col("y") == 0)
    # Of 25 cells in the first bin, 15 lie on or behind the cohort's checkpoint.
    assert corner["value"].item() == pytest.approx(15 / 25)


def test_the_event_study_takes_simultaneous_bands_where_there_are_some() -> None:
    rows = pl.DataFrame(
        {
            "model": "m",
            "outcome": "o",
            "aggregation": ["event", "event", "cohort"],
            "key": [0, -1, 5],
            "att": 1.0,
            "lo": 0.8,
            "hi": 1.2,
            "lo_sim": [0.5, None, 0.5],
            "hi_sim": [1.5, None, 1.5],
        }
    )
    (panel,) = profile.rows_of_events(rows)
    assert panel.rows.select("x", "ci_low", "ci_high", "series").rows() == [
        (-1.0, 0.8, 1.2, "before training"),
        (0.0, 0.5, 1.5, "after training"),
    ]


def test_censored_ratios_stand_at_their_bound_and_exposures_in_their_order() -> None:
    rows = pl.DataFrame(
        {
            "model": "m",
            "exposures": [16, 2, None],
            "group": "g",
            "target_kind": ["item", "item", "random"],
            "is_censored": [False, True, True],
            "acr": [3.0, None, None],
            "acr_upper_bound": [None, 0.5, 0.4],
        }
    )
    (panel,) = compression.rows_of_ratios(rows)
    assert panel.rows.select("x", "ratio", "censored").rows() == [
        ("2", 0.5, True),
        ("16", 3.0, False),
        ("random", 0.4, True),
    ]
    assert "<path" in svg_in_page(compression.draw_ratios(panel.rows, Look()), "ratios")


def test_coverage_shows_the_likeliest_window_of_each_part() -> None:
    rows = pl.DataFrame(
        {
            "model": "m",
            "scheme": "full",
            "item_id": ["a", "a", "b"],
            "window_start_char": [0, 0, 0],
            "suffix_start_char": [0, 0, 90],
            "suffix_end_char": [2, 2, 100],
            "document_chars": 100,
            "pz": [0.1, 0.3, 0.9],
        }
    )
    (panel,) = extraction.rows_of_coverage(rows)
    # b is covered most; its window's middle is at 95 of 100 characters: part 34 of 36, from 94 %.
    assert panel.rows.select("y", "x", "value").rows() == [("b", 94, 0.9), ("a", 0, 0.3)]
    assert extraction.rows_of_coverage(rows.drop("window_start_char")) == []


def test_retention_stands_beside_never_trained_items() -> None:
    rows = pl.DataFrame(
        {
            "model": "m",
            "outcome": "recall_exact",
            "sample": ["all_items", "same_items", "all_items"],
            "group": [None, None, "g"],
            "exposures": pl.Series([None] * 3, dtype=pl.Int64),
            "lag_mean_steps": [10.0, 10.0, 10.0],
            "estimate": [0.5, 0.6, 0.9],
            "ci_low": 0.1,
            "ci_high": 0.9,
            "baseline": [0.1, 0.1, 0.1],
        }
    )
    (panel,) = retention.rows_of_retention(rows)
    assert panel.rows.select("series", "estimate").rows() == [
        ("all items", 0.5),
        ("items seen at all lags", 0.6),
        ("never trained, or chance", 0.1),
    ]


def test_order_is_by_distance_with_all_lengths_together() -> None:
    rows = pl.DataFrame(
        {
            "model": "m",
            "revision": ["step1", "step2", "step2", "step2"],
            "step": [1, 2, 2, 2],
            "mode": "prompt",
            "condition": "parametric",
            "group": None,
            "excerpt_words": [None, None, None, 250],
            "segment_words": None,
            "position_bin": None,
            "distance_bin": [0, 1, 0, 0],
            "accuracy_frac": [0.9, 0.8, 0.6, 0.1],
            "ci_low": 0.1,
            "ci_high": 0.9,
        }
    )
    (panel,) = sort.rows_of_order(rows)
    assert panel.rows.select("x", "estimate", "series").rows() == [
        (0.0, 0.6, "from memory"),
        (1.0, 0.8, "from memory"),
    ]
