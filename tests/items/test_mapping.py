"""Columns of other people's files are read under the names that `--map` gives them."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from memprobe.errors import InputError
from memprobe.items import read_items
from memprobe.items.booksort import NEEDED
from memprobe.items.findings import inspect_items
from memprobe.items.mapping import parse_mapping

OURS = [
    {"item_id": "a", "prefix": "the cat", "suffix": " sat", "exposures": 3, "note": "x"},
    {"item_id": "b", "prefix": "the dog", "suffix": " ran", "exposures": 0, "note": "y"},
]
NAMES = {"item_id": "id", "prefix": "prompt", "suffix": "completion", "exposures": "dup count"}
THEIRS = [{NAMES.get(name, name): value for name, value in row.items()} for row in OURS]
MAP = ("prefix=prompt,suffix=completion", "item_id=id", "exposures=dup count")
SOURCE = ("source_file", "source_line")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_mapped_file_is_read_as_one_with_our_names(suffix, write, tmp_path) -> None:
    tables = []
    for name, rows, mapping in (("ours", OURS, ()), ("theirs", THEIRS, MAP)):
        file = tmp_path / f"{name}{suffix}"
        if suffix == ".jsonl":
            write(file.name, rows)
        else:
            frame = pl.DataFrame(rows)
            frame.write_csv(file) if suffix == ".csv" else frame.write_parquet(file)
        items = read_items([str(file)], mapping=mapping)
        assert items.given == {"item_id", "prefix", "suffix", "exposures", "note"}
        tables.append(items.table.drop(SOURCE))
    assert_frame_equal(*tables)


def test_a_file_without_a_mapped_column_keeps_its_own_names(write) -> None:
    theirs = write("theirs.jsonl", THEIRS)
    controls = write("controls.jsonl", [{"item_id": "c", "text": "never seen", "exposures": 0}])
    items = read_items([theirs, controls], mapping=MAP).table
    assert items["item_id"].to_list() == ["a", "b", "c"]
    assert items["text"].to_list()[2] == "never seen"


def test_a_column_may_take_the_name_of_another_that_is_mapped_too(write) -> None:
    file = write("swapped.jsonl", [{"prefix": "end", "suffix": "start"}])
    row = read_items([file], mapping=["prefix=suffix,suffix=prefix"]).table.row(0, named=True)
    assert (row["prefix"], row["suffix"]) == ("start", "end")


def test_a_fault_is_named_under_our_name_with_the_line_of_the_file(write, message) -> None:
    file = write("theirs.jsonl", [THEIRS[0], THEIRS[1] | {"dup count": -1}])
    assert "theirs.jsonl, line 2, column exposures" in message(file, mapping=MAP)


def test_published_sort_trials_under_other_names_are_recognised(write) -> None:
    row = {
        **{"book_idx": 0, "excerpt_idx": 1, "excerpt_text": "one two three four", "distance_bin": 2},
        **{"segment_1": "one", "segment_2": "three"},
    }
    assert set(row) == set(NEEDED)
    other = {("passage" if name == "excerpt_text" else name): value for name, value in row.items()}
    mapped = inspect_items([write("other.jsonl", [other])], mapping=["excerpt_id=passage"])
    assert mapped.files[0].read_as is None


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (["text"], "--map: `text` is not of the form OURS=THEIRS"),
        (["text=", "=x", ""], "--map: `text=` is not of the form OURS=THEIRS"),
        (["txt=sentence"], "--map: `txt` is not an item column, did you mean `text`?"),
        (["n_tokens=n"], "--map: `n_tokens` is not an item column"),
        (["text=a,text=b"], "--map names `text` twice"),
        (["text=a", "prefix=a"], "--map names `a` twice"),
    ],
)
def test_a_wrong_mapping_is_refused_before_any_file_is_read(mapping, said) -> None:
    with pytest.raises(InputError) as caught:
        read_items(["no-such-file.jsonl"], mapping=mapping)
    assert said in str(caught.value)
    assert "no-such-file" not in str(caught.value)


def test_all_that_is_wrong_with_a_mapping_comes_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_mapping(["txt=a,prefix", "suffix=b,suffix=c"])
    assert len(caught.value.problems) == 3


def test_a_column_that_no_file_has_is_refused_with_a_near_miss(write, message) -> None:
    said = message(write("theirs.jsonl", THEIRS), mapping=["prefix=promt", "suffix=completion"])
    assert "--map: no file has the column `promt`, did you mean `prompt`?" in said


def test_a_column_is_not_put_over_one_that_is_there(write, message) -> None:
    file = write("both.jsonl", [{"text": "a", "sentence": "b"}])
    assert "--map: the file has a column `text` already" in message(file, mapping=["text=sentence"])
