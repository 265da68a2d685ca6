"""Sorting documents as a library: the file, the cells, and how evenly they are spread."""

import json

import polars as pl
import pytest

from memprobe.bench.datasort import _tested, cells_of, sort_documents
from memprobe.documents import Cells
from memprobe.errors import InputError
from memprobe.stats.uniformity import uniformity

SHORT = Cells((60,), (8,), per_cell=12, validation=4)


def story(name: str, n: int = 150) -> str:
    # 5 to 15 words to a sentence.
    return "".join(f"The {name} {i} ran{' on' * (i * 7 % 11)} past-{i}. " for i in range(n))


@pytest.fixture
def files(tmp_path):
    for name in ("fox", "owl"):
        (tmp_path / f"{name}.txt").write_text(story(name))
    return [str(tmp_path / "fox.txt"), str(tmp_path / "owl.txt")]


def test_a_file_is_written_and_its_cells_are_told(files, tmp_path) -> None:
    done = sort_documents(files, tmp_path / "t.parquet", SHORT)
    assert pl.read_parquet(tmp_path / "t.parquet").equals(done.items)
    told = done.as_json()
    # 2 documents, 12 excerpts, 4 ranges.
    assert (told["n_trials"], told["n_documents"], told["n_cells"]) == (96, 2, 8)
    assert told["splits"] == {"test": 64, "validation": 32}
    for cell in told["cells"]:
        assert (cell["n_test"], cell["n_test_earlier_first"]) == (8, 4)
        assert (cell["n_validation"], cell["n_validation_earlier_first"]) == (4, 2)
    # One test of excerpt starts for each document and size; segment starts in each cell, too.
    assert told["uniformity"]["excerpt_starts"]["n_tests"] == 2
    assert told["uniformity"]["segment_starts"]["n_tests"] <= 8
    assert "past-" not in json.dumps(told)


def test_nothing_is_written_where_something_is_wrong(files, tmp_path) -> None:
    out = tmp_path / "t.parquet"
    with pytest.raises(InputError):
        sort_documents(files, out, Cells((5_000,), (8,)))
    assert not list(tmp_path.glob("*t.parquet*"))
    sort_documents(files, out, SHORT)
    before = out.read_bytes()
    with pytest.raises(InputError, match="there already"):
        sort_documents(files, out, SHORT)
    assert out.read_bytes() == before
    sort_documents(files[::-1], out, SHORT, force=True)
    assert out.read_bytes() == before, "the order of the files does not matter"


def test_cells_and_their_spread_by_hand() -> None:
    n = 10
    items = pl.DataFrame(
        {
            "item_id": [str(i) for i in range(n)],
            "source_id": "s",
            "excerpt_words": 60,
            "segment_words": 8,
            "distance_bin": 0,
            "distance_words": range(9, 9 + n),
            "earlier_first": [i < 3 for i in range(n)],
            "split": ["test"] * 6 + ["validation"] * 4,
        }
    )
    shares = [0.05 * i for i in range(n)]
    places = pl.DataFrame(
        {"item_id": items["item_id"][::-1], "start_share": shares, "segment_share": [None] * 3 + shares[3:]}
    )
    row = cells_of(items, places).row(0, named=True)
    assert (row["n_test"], row["n_validation"]) == (6, 4)
    assert (row["n_test_earlier_first"], row["n_validation_earlier_first"]) == (3, 0)
    assert (row["distance_words_min"], row["distance_words_max"]) == (9, 18)
    assert (row["start_ks"], row["start_p"]) == (uniformity(shares).distance, uniformity(shares).p)
    # Seven places are below the eight that a test needs.
    assert (row["segment_ks"], row["segment_p"]) == (None, None)


def test_the_spread_is_told_as_the_number_of_low_p_and_where_most_are() -> None:
    table = pl.DataFrame(
        {"excerpt_words": [60, 60, 90, 90, 90], "distance_bin": [0, 1, 1, 1, 0]}
        | {"segment_p": [0.5, 0.01, 0.04, 0.001, None]}
    )
    assert _tested(table, "segment", ("excerpt_words", "distance_bin")) == {
        **{"n_tests": 4, "n_below_005": 3, "p_min": 0.001},
        "worst": {"excerpt_words": 90, "distance_bin": 1, "n_below_005": 2},
    }
    assert _tested(table.head(1), "segment", ("excerpt_words",))["worst"] is None
    assert _tested(table.tail(1), "segment", ("excerpt_words",)) == {
        **{"n_tests": 0, "n_below_005": 0, "p_min": None, "worst": None}
    }
