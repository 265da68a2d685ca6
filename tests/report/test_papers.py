"""The summary as papers print it: which rows and columns, which number is bold, what the caption says."""

import pytest

from memprobe.report.papers import MAX_LINES, Style, shown_number


def bold(tables) -> list[list[bool]]:
    return [[cell.best for cell in line.cells] for table in tables for line in table.lines if line.cells]


def test_steps_are_columns_and_the_most_memorized_of_a_row_is_bold(papers) -> None:
    (table,) = papers.tables(Style(), *papers.steps(0.25, 0.75, 0.5))
    assert table.columns == ("step 0", "step 10", "step 20")
    assert [(line.label, line.depth, line.n) for line in table.lines] == [
        ("recall", 0, ""),
        ("exact_frac", 1, "12"),
    ]
    assert [(cell.estimate, cell.interval) for cell in table.lines[1].cells] == [
        ("0.25", "[0.12, 0.50]"),
        ("0.75", "[0.12, 0.50]"),
        ("0.50", "[0.12, 0.50]"),
    ]
    assert bold([table]) == [[False, True, False]]
    assert table.label == "tab:memprobe"
    assert table.caption == (
        "Recall of main. In brackets: 95% intervals; n: items. "
        "Bold: the estimate of a row that means most memorized."
    )


@pytest.mark.parametrize(
    ("metric", "style", "expected"),
    [
        ("exact_frac", Style(bold="least"), [True, False, False]),
        ("exact_frac", Style(bold="none"), [False, False, False]),
        # Where less means more memorized, the smallest says most.
        ("cost", Style(), [True, False, False]),
        ("cost", Style(bold="least"), [False, True, False]),
        # A sign that says nothing, and a metric that nobody declared.
        ("bias", Style(), [False, False, False]),
        ("unheard_of", Style(), [False, False, False]),
    ],
)
def test_bold_follows_the_declared_direction(papers, metric, style, expected) -> None:
    tables = papers.tables(style, *papers.steps(0.25, 0.75, 0.5, metric=metric))
    assert bold(tables) == [expected]
    assert ("Bold" in tables[0].caption) == any(expected)


def test_what_is_shown_alike_is_bold_alike_and_all_alike_is_not_bold(papers) -> None:
    assert bold(papers.tables(Style(), *papers.steps(0.1, 0.501, 0.499))) == [[False, True, True]]
    assert bold(papers.tables(Style(), *papers.steps(0.501, 0.499))) == [[False, False]]
    assert bold(papers.tables(Style(decimals=3), *papers.steps(0.501, 0.499))) == [[True, False]]
    assert bold(papers.tables(Style(), papers.row())) == [[False]]


def test_undefined_absent_and_open_are_words_or_nothing_and_never_bold(papers) -> None:
    rows = [
        papers.row(step=0, estimate=None, ci_low=None, ci_high=None, n_items=0),
        papers.row(step=10, ci_low=None, ci_high=None),
        papers.row(step=20, estimate=0.5, ci_high=None),
        papers.row(step=30, metric="cost"),
    ]
    (table,) = papers.tables(Style(), *rows)
    cells = table.lines[1].cells
    assert [(cell.estimate, cell.interval) for cell in cells] == [
        ("undefined", ""),
        ("0.25", "[no interval]"),
        ("0.50", "[0.12, open]"),
        ("", ""),
    ]
    assert table.lines[1].n == "0–12"


def test_conditions_share_a_heading_with_what_they_have_in_common(papers) -> None:
    rows = [papers.row(metric="rate_frac", condition=f"scheme=full;n={n};p=0.5") for n in (1, 10)]
    (table,) = papers.tables(Style(), *rows)
    assert [(line.label, line.depth) for line in table.lines[1:]] == [
        ("rate_frac, scheme=full, p=0.5", 1),
        ("n=1", 2),
        ("n=10", 2),
    ]


def test_groups_exposures_and_contrasts_are_left_to_other_tables(papers) -> None:
    rows = [
        papers.row(),
        papers.row(group="canary"),
        papers.row(condition="exposures=3"),
        papers.row(condition="trained=false"),
    ]
    (table,) = papers.tables(Style(), *rows)
    assert len(table.lines) == 2


def test_of_many_steps_four_are_shown_unless_all_are_asked_for(papers) -> None:
    rows = papers.steps(*(place / 10 for place in range(10)))
    (table,) = papers.tables(Style(), *rows)
    assert table.columns == ("step 0", "step 30", "step 60", "step 90")
    assert table.caption.startswith("Recall of main at 4 of 10 checkpoints.")
    (table,) = papers.tables(Style(everything=True), *rows)
    assert len(table.columns) == 10


def test_several_models_are_columns_at_their_last_steps(papers) -> None:
    rows = [*papers.steps(0.25, 0.75), *papers.steps(0.5, 0.5, 0.6, model="other")]
    (table,) = papers.tables(Style(), *rows)
    assert table.columns == ("main, step 10", "other, step 20")
    assert bold([table]) == [[True, False]]


def test_what_is_about_the_whole_sequence_has_a_table_of_its_own(papers) -> None:
    rows = [
        papers.row(),
        papers.row(step=None, revision=None, probe="forgetting", metric="unforgettable_frac"),
    ]
    first, second = papers.tables(Style(caption="Mine", label="tab:mine"), *rows)
    assert (first.columns, second.columns) == (("step 0",), ("main",))
    assert (first.label, second.label) == ("tab:mine", "tab:mine-2")
    assert (first.caption, second.caption) == ("Mine", "Mine (continued)")


def test_no_table_is_longer_than_a_page_and_no_row_is_lost(papers) -> None:
    rows = [papers.row(probe=f"p{probe}", metric=f"m{metric}") for probe in range(3) for metric in range(30)]
    rows += [papers.row(probe="long", condition=f"k={place}") for place in range(100)]
    tables = papers.tables(Style(everything=True), *rows)
    assert all(len(table.lines) <= MAX_LINES for table in tables)
    assert sum(1 for table in tables for line in table.lines if line.cells) == 190
    assert all(table.lines[0].depth == 0 for table in tables)


def test_an_empty_summary_is_no_table(papers) -> None:
    assert papers.tables(Style()) == []


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        (0.125, 2, "0.12"),
        (-0.001, 2, "0.00"),
        (99.999, 2, "100.00"),
        (1234.5, 2, "1,234"),
        (-250.0, 1, "-250"),
        (0.1239, 3, "0.124"),
        (float("inf"), 2, "inf"),
    ],
)
def test_numbers_are_as_papers_print_them(value, decimals, shown) -> None:
    assert shown_number(value, decimals) == shown
