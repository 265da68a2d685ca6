"""The check and the split as a reader sees them, rendered to a string."""

import polars as pl
import pytest
from rich.console import Console

from memprobe.items import findings_of, inspect_items
from memprobe.items.preview import preview
from memprobe.report.datacheck import check_view, findings_view, preview_view, split_lines, verdict


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
