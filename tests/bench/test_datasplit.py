"""Splits as a library: the note on tokens that differ alone, and what a run does with Megatron files."""

import numpy as np
import polars as pl
import pytest

from memprobe.bench.datasplit import _shorter_alone, split_documents, split_streams
from memprobe.documents import Cut, Pieces, Sampling, Training
from memprobe.errors import InputError
from memprobe.options import RunOptions


def pairs(text: str) -> np.ndarray:
    """Tokens of two characters, from the front: a slice from an odd place has others than the whole."""
    return np.array([(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]).reshape(-1, 2)


@pytest.mark.parametrize(
    ("rows", "shorter"),
    [
        # ab|cd and ef: two tokens before the border, one after.
        ([("abcd", "ef")], 0),
        # ab|cd|e, cut behind c: cd crosses the border, so one token stands before it.
        ([("abc", "de")], 1),
        ([("abcd", "ef"), ("abc", "de"), ("ab", "cdef")], 2),
        # Three tokens before and one after: more is not fewer.
        ([("abcdef", "g")], 0),
    ],
)
def test_items_with_fewer_tokens_alone_are_counted(rows, shorter) -> None:
    items = pl.DataFrame(rows, schema=["prefix", "suffix"], orient="row")
    notes = _shorter_alone(items, Cut("tokens", prefix=2, suffix=1), pairs)
    told = f"{shorter:,} of {len(rows)} items looked at have fewer tokens alone"
    assert [note.startswith(told) for note in notes] == ([True] if shorter else [])


def test_windows_are_counted_whole() -> None:
    items = pl.DataFrame({"text": ["abcd", "abc", "ab"]})
    (note,) = _shorter_alone(items, Cut("tokens", window=2), pairs)
    assert note.startswith("1 of 3 items")


def test_nothing_is_written_where_something_is_wrong(tmp_path) -> None:
    (tmp_path / "d.txt").write_text("one two")
    with pytest.raises(InputError, match="a tokenizer is needed"):
        split_documents(
            [str(tmp_path / "d.txt")], tmp_path / "o.jsonl", Cut("tokens", window=1), RunOptions()
        )
    assert [file.name for file in tmp_path.iterdir()] == ["d.txt"]


def test_the_first_documents_of_a_limit_are_cut(tmp_path) -> None:
    (tmp_path / "d.jsonl").write_text('{"item_id": "a", "text": "x"}\n{"item_id": "b", "text": "y"}\n')
    done = split_documents(
        [str(tmp_path / "d.jsonl")], tmp_path / "o.jsonl", Cut("words", window=1), RunOptions(limit=1)
    )
    assert done.items["item_id"].to_list() == ["a-0"]


def test_facts_of_a_stream_are_those_of_its_items(tmp_path) -> None:
    np.save(tmp_path / "s.npy", np.arange(20).reshape(10, 2))
    done = split_streams(
        [str(tmp_path / "s.npy")],
        tmp_path / "o.parquet",
        Pieces(),
        Training(3, 100),
        Sampling(per_batch=1),
        RunOptions(),
    )
    facts = done.as_json()
    assert (facts["n_items"], facts["n_sequences"], facts["n_batches"]) == (3, 10, 3)
    assert (facts["first_step_min"], facts["first_step_max"]) == (101, 103)
    assert (facts["n_tokens_min"], facts["n_tokens_max"]) == (2, 2)
    assert pl.read_parquet(tmp_path / "o.parquet").equals(done.items)
