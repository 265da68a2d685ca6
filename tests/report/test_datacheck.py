"""The check and the split as a reader sees them, rendered to a string."""

import polars as pl
import pytest
from rich.console import Console

from memprobe.items import findings_of, inspect_items
from memprobe.items.preview import preview
from memprobe.report.datacheck import (
    check_view,
    findings_view,
    preview_view,
    sort_lines,
    split_lines,
    verdict,
)


def shown(view) -> str:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def findings(n: int, kind: str = "empty") -> pl.DataFrame:
    return findings_of(
        [{"file": "a.jsonl", "line": i + 1, "what": f"{kind} {i}", "kind": kind} for i in range(n)]
    )


@pytest.fixture
def seen(tmp_path):
    """Return the preview of JSON lines."""

    def look(*lines: str):
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        inspected = inspect_items([str(tmp_path / "a.jsonl")])
        return preview(inspected.table, inspected.given)

    return look


@pytest.mark.parametrize(
    ("n", "rows", "rest"), [(20, 20, None), (21, 20, "and 1 more"), (1500, 20, "and 1,480 more")]
)
def test_twenty_of_each_kind_are_listed_and_the_rest_is_counted(n, rows, rest) -> None:
    text = shown(findings_view(pl.concat([findings(n), findings(3, "odd")])))
    assert text.count("empty ") - 1 == rows
    assert text.count("odd ") - 1 == 3
    assert f"{n:,}  empty" in text
    assert (rest in text) if rest else ("more;" not in text)


def test_the_preview_counts_what_is_there_and_leaves_out_what_is_not(seen) -> None:
    text = shown(
        preview_view(seen('{"text": "ab", "group": "g", "x": 1}', '{"text": "abc", "first_step": 4}'), [], [])
    )
    assert "groups           g 1; 1 without" in text
    assert "first_step       4 to 4 in 1 item; 1 never trained on" in text
    assert "foils" not in text
    assert "x       Int64     1         1" in text
    assert "near-duplicates  none" in text


def test_items_that_were_never_trained_on_are_told_as_such(seen) -> None:
    text = shown(preview_view(seen('{"text": "ab", "first_step": null}'), [], []))
    assert "null in all 1: never trained on" in text


def test_where_all_items_are_bad_nobody_is_said_to_be_never_trained_on(seen) -> None:
    text = shown(preview_view(seen('{"text": "ab", "exposures": 0, "first_step": 4}'), [], []))
    assert "of no item, since all are bad" in text
    assert "never trained on" not in text


def test_a_clean_file_has_no_table_of_faults(seen) -> None:
    about = {"preview": seen('{"text": "ab"}'), "tokens": [], "clean": True}
    assert "What is wrong" not in shown(check_view(findings(0), about))
    assert verdict(about) == "clean: `memprobe run` takes these files"


def test_the_verdict_counts_problems_and_items() -> None:
    about = {"clean": False, "findings": [{}, {}], "n_bad_rows": 1, "n_rows": 1200}
    assert verdict(about) == "2 problems, 1 of 1,200 items bad: `memprobe run` refuses these files"


def test_a_split_of_empty_documents_divides_by_nothing() -> None:
    about = {"kind": "documents", "out": "o.jsonl", "n_items": 1, "n_documents": 1, "n_windows": 1}
    lines = split_lines(about | {"n_chars": 0, "n_covered_chars": 0, "n_tail_chars": 0})
    assert lines[2] == "in no window: 0 characters, 0 of them behind the last window"
    lines = split_lines(about | {"n_chars": 200, "n_covered_chars": 150, "n_tail_chars": 20})
    assert lines[2] == "in no window: 50 characters (25.0%), 20 of them behind the last window"


TESTED = {"n_tests": 6, "n_below_005": 0, "p_min": 0.2, "worst": None}


def sorted_about(**changes):
    uniformity = {"excerpt_starts": TESTED, "segment_starts": TESTED | changes}
    document = {"name": "b", "n_words": 69338, "n_words_left_out": 1351, "n_blocks_left_out": 128}
    return {
        **{"out": "t.parquet", "n_trials": 880, "splits": {"test": 800, "validation": 80}, "n_excerpts": 220},
        **{"n_documents": 1, "n_cells": 8, "documents": [document], "uniformity": uniformity},
    }


def test_trials_are_told_with_what_was_left_out() -> None:
    assert sort_lines(sorted_about()) == [
        "wrote t.parquet: 880 trials (test 800, validation 80)",
        "of 220 excerpts in 1 document, 8 cells; each shows the earlier segment first in exactly half",
        "b: 69,338 words; headings and matter left out: 1,351 in 128 blocks",
        "excerpt starts: 0 of 6 tests of an even spread with p < 0.05 (0.3 by chance), smallest p 0.2",
        "segment starts: 0 of 6 tests of an even spread with p < 0.05 (0.3 by chance), smallest p 0.2",
        "next: memprobe run -p sort -m MODEL -d t.parquet",
    ]


def test_the_kind_of_cell_that_is_least_even_is_named() -> None:
    worst = {"excerpt_words": 250, "segment_words": 50, "distance_bin": 3, "n_below_005": 2}
    told = sort_lines(sorted_about(n_below_005=3, worst=worst))[4]
    assert told.endswith("; 2 of them: excerpts of 250, segments of 50, bin 3")
    assert "excerpts of 250" not in sort_lines(sorted_about(worst=worst | {"n_below_005": 1}))[4]
    assert "too few" in sort_lines(sorted_about(n_tests=0, p_min=None))[4]


def test_trials_and_how_their_columns_were_taken_stand_in_the_check(seen) -> None:
    lines = [
        f'{{"item_id": "{n}", "text": "One two. Three four.", "segment_1": "One", "segment_2": "Three", '
        f'"earlier_first": {first}}}'
        for n, first in enumerate(("true", "false", "true"))
    ]
    about = {"preview": seen(*lines), "tokens": [], "files": [{"spec": "a.jsonl", "read_as": "published X"}]}
    told = shown(check_view(findings(0), about))
    assert "a.jsonl is read as published X" in told
    assert "3 of 1 excerpt in 1 document: test 3" in told
    assert "exactly half in 0 of 1 cell" in told
