"""SORT trials of the six books at all of the paper's lengths: time, and what must hold on real text.

Needs the books that MEMPROBE_TEST_DATA points to; skips, saying so, where they are not.
"""

import os
import time
from pathlib import Path

import polars as pl
import pytest

from memprobe.bench.datasort import sort_documents
from memprobe.documents import Cells

pytestmark = pytest.mark.benchmark

BOOKS = Path(os.environ.get("MEMPROBE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "books"
MOST_S = 20


def test_six_books_at_all_lengths_in_20_s(tmp_path) -> None:
    files = sorted(BOOKS.glob("*.txt"))
    if not files:
        pytest.skip("the books are not here: set MEMPROBE_TEST_DATA")
    start = time.process_time()
    done = sort_documents(
        [str(file) for file in files], tmp_path / "t.parquet", Cells((250, 1_000, 2_500, 10_000, 20_000))
    )
    spent_s = time.process_time() - start
    told = done.as_json()
    print(f"{told['n_trials']:,} trials in {spent_s:.1f} s of processor time; {told['uniformity']}")
    # Every book is longer than 20,000 words: no cell is smaller.
    assert told["n_trials"] == len(files) * 5 * 2 * 4 * 110
    assert done.notes == ()
    halves = done.items.group_by("source_id", "excerpt_words", "segment_words", "distance_bin", "split").agg(
        pl.col("earlier_first").mean()
    )
    assert set(halves["earlier_first"]) == {0.5}
    # 60 tests of where excerpts begin; 9 or more below 0.05 happen once in 500 times by chance.
    assert told["uniformity"]["excerpt_starts"]["n_below_005"] < 9
    texts = {file.stem: file.read_text(encoding="utf-8-sig") for file in files}
    for row in done.items.select("source_id", "segment_1", "segment_2").iter_rows():
        assert row[1] in texts[row[0]]
        assert row[2] in texts[row[0]]
    assert spent_s < MOST_S
