"""Markdown by its lines."""

import polars as pl

from memprobe.report.markdown import paper_markdown, plain_markdown
from memprobe.report.papers import Style


def test_a_papers_table_has_its_caption_above_it(papers) -> None:
    rows = [
        *papers.steps(0.25, 0.5),
        *(papers.row(step=10, metric="rate_frac", condition=f"n={n};p=0.5") for n in (1, 10)),
    ]
    assert paper_markdown(papers.tables(Style(), *rows)).splitlines() == [
        "Recall of main. In brackets: 95% intervals; n: items. "
        "Bold: the estimate of a row that means most memorized.",
        "",
        "|  | step 0 | step 10 | n |",
        "| --- | ---: | ---: | ---: |",
        "| **recall** |  |  |  |",
        "| exact_frac | 0.25 [0.12, 0.50] | **0.50** [0.12, 0.50] | 12 |",
        "| rate_frac, p=0.5 |  |  |  |",
        "| &emsp;n=1 |  | 0.25 [0.12, 0.50] | 12 |",
        "| &emsp;n=10 |  | 0.25 [0.12, 0.50] | 12 |",
    ]


def test_a_plain_table_keeps_a_cell_on_its_line_and_its_bars_apart() -> None:
    frame = pl.DataFrame(
        {
            "a|b": ["x|y", "two\nlines", None],
            "n": [1.5, None, -3.0],
            "ok": [True, False, None],
            "l": [[1, 2], [], None],
        }
    )
    assert plain_markdown(frame) == (
        "| a\\|b | n | ok | l |\n"
        "| --- | ---: | --- | --- |\n"
        "| x\\|y | 1.5 | true | \\[1, 2\\] |\n"
        "| two lines |  | false | \\[\\] |\n"
        "|  | -3.0 |  |  |\n"
    )
