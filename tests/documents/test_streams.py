"""Streams built by hand, byte by byte: what is read from them, and every way in which they are refused."""

import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from memprobe.documents import Pieces, is_stream, load_numbers, open_streams
from memprobe.errors import InputError, ItemError

# A 2 GB file: seconds and bytes for 1,000 sequences of it; a read of the whole takes more of either.
READ_S, READ_BYTES = 1.0, 40_000_000


AS_IT_IS = Pieces()


def read(spec: object, pieces: Pieces = AS_IT_IS, **more) -> list[list[int]]:
    stream = open_streams([str(spec)], pieces, **more)
    return [row.tolist() for row in stream.read(np.arange(len(stream)))]


def refused(spec: object, pieces: Pieces = AS_IT_IS, **more) -> str:
    with pytest.raises(ItemError) as caught:
        open_streams([str(spec)], pieces, **more)
    return str(caught.value)


# .npy


def test_rows_of_an_array_are_sequences(npy) -> None:
    assert read(npy("x", [[1, 2], [3, 65535]], "uint16")) == [[1, 2], [3, 65535]]


def test_rows_are_read_in_any_byte_order_and_layout(tmp_path) -> None:
    rows = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "big.npy", rows.astype(">u2"))
    np.save(tmp_path / "columns.npy", np.asfortranarray(rows))
    assert read(tmp_path / "big.npy") == read(tmp_path / "columns.npy") == rows.tolist()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (Pieces(3), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (Pieces(5), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]),
        # As GPT-NeoX reads L = 3: samples of 4 that share one token; the next would need token 12.
        (Pieces(4, 1), [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        (Pieces(10, 9), [list(range(10))]),
    ],
)
def test_a_stream_is_cut_and_its_rest_is_left(pieces, expected, npy) -> None:
    assert read(npy("x", range(10), "uint16"), pieces) == expected


def test_an_11th_token_does_not_make_a_fourth_sequence_with_overlap(npy) -> None:
    assert len(read(npy("x", range(11)), Pieces(4, 1))) == 3
    assert len(read(npy("y", range(13)), Pieces(4, 1))) == 4


@pytest.mark.parametrize(
    ("values", "dtype", "pieces", "told"),
    [
        (range(10), "int64", Pieces(), "is one stream of 10 tokens"),
        (range(10), "int64", Pieces(11), "holds 10 tokens, and a sequence has 11"),
        (
            [[1, 2]],
            "int64",
            Pieces(2),
            "--sequence-tokens does not fit: the rows of the file are the sequences",
        ),
        ([[1.0, 2.0]], "float32", Pieces(), "holds float32, and token ids are whole numbers"),
        ([[[1]]], "int64", Pieces(), "has 3 dimensions, 1 x 1 x 1"),
        ([[]], "int64", Pieces(), "has no tokens"),
    ],
)
def test_an_array_of_another_kind_is_refused(values, dtype, pieces, told, npy) -> None:
    assert told in refused(npy("x", values, dtype), pieces)


def test_a_cut_off_array_a_pickle_and_no_array_are_refused(npy, tmp_path) -> None:
    whole = Path(npy("x", range(100)))
    whole.write_bytes(whole.read_bytes()[:-8])
    assert "is not a complete .npy file" in refused(whole)
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "is not a complete .npy file" in refused(tmp_path / "o.npy")
    (tmp_path / "t.npy").write_text("hello")
    assert "is not a complete .npy file" in refused(tmp_path / "t.npy")
    (tmp_path / "e.npy").touch()
    assert "is not a complete .npy file" in refused(tmp_path / "e.npy")


def test_a_missing_file_suggests_its_neighbour(npy) -> None:
    there = Path(npy("tokens", range(10)))
    assert "did you mean `tokens.npy`?" in refused(there.with_name("token.npy"))


@pytest.mark.parametrize(("tokens", "overlap"), [(0, 0), (4, 4), (4, -1), (None, 1)])
def test_sizes_out_of_range_are_refused(tokens, overlap) -> None:
    with pytest.raises(InputError, match="-tokens is"):
        Pieces(tokens, overlap)


def test_a_thousand_sequences_of_two_gigabytes_are_read_in_a_second_and_little_memory(tmp_path) -> None:
    file, n_tokens = tmp_path / "large.npy", 2**30
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, "uint16")) | {"shape": (n_tokens,)}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        start = stream.tell()
        stream.seek(start + 2 * (n_tokens - 3))
        stream.write(np.array([7, 8, 9], "uint16").tobytes())
    tracemalloc.start()
    started = time.perf_counter()
    rows = open_streams([str(file)], Pieces(2048), doc_order=None)
    places = np.linspace(0, len(rows) - 1, 1000).astype(np.int64)
    found = rows.read(places)
    spent_s, peak_bytes = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 1000
    assert found[-1][-3:].tolist() == [7, 8, 9]
    assert spent_s < READ_S
    assert peak_bytes < READ_BYTES


# Megatron


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16"])
def test_entries_of_one_length_are_sequences_in_every_type(dtype, megatron) -> None:
    top = min(np.iinfo(dtype).max, 70_000)
    assert read(megatron("x", [[1, 2, top], [4, 5, 6]], dtype)) == [[1, 2, top], [4, 5, 6]]


def test_either_file_may_be_named_and_modes_may_follow(megatron) -> None:
    path = megatron("x", [[1, 2], [3, 4]], modes=True)
    assert read(path.with_suffix(".idx")) == read(path) == [[1, 2], [3, 4]]


def test_documents_are_cut_from_their_stream(megatron) -> None:
    path = megatron("x", [[0, 1, 2], [3], [4, 5, 6, 7]], "uint16")
    assert read(path, Pieces(4, 1)) == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert "entries have 1 to 4 tokens: documents, not training sequences" in refused(path)


def test_documents_are_laid_out_in_their_order_first(megatron, npy) -> None:
    path = megatron("x", [[0, 1, 2], [3], [], [4, 5, 6, 7]], "uint16")
    # Laid out: 4 5 6 7 | 3 | (nothing) | 0 1 2 | 3
    order = npy("order", [3, 1, 2, 0, 1], "int32")
    assert read(path, Pieces(3), doc_order=order) == [[4, 5, 6], [7, 3, 0], [1, 2, 3]]
    assert read(path, Pieces(5, 1), doc_order=order) == [[4, 5, 6, 7, 3], [3, 0, 1, 2, 3]]
    assert read(path, Pieces(1), doc_order=order) == [[4], [5], [6], [7], [3], [0], [1], [2], [3]]


def test_any_layout_equals_one_concatenation(megatron, npy) -> None:
    rng = np.random.default_rng(0)
    entries = [rng.integers(0, 1000, size).tolist() for size in rng.integers(0, 9, 40)]
    path, numbers = megatron("x", entries), rng.permutation(40)
    laid_out = [token for number in numbers for token in entries[number]]
    size, overlap = 7, 2
    slow = [laid_out[at : at + size] for at in range(0, len(laid_out), size - overlap)]
    expected = [row for row in slow if len(row) == size]
    assert read(path, Pieces(size, overlap), doc_order=npy("order", numbers)) == expected


def test_a_document_order_that_does_not_fit_is_refused(megatron, npy) -> None:
    path = megatron("x", [[0, 1, 2], [3]])
    assert "numbers from 0 to 2, and there are 2 documents" in refused(
        path, Pieces(2), doc_order=npy("o", [0, 2])
    )
    assert "--doc-order needs --sequence-tokens" in refused(path, doc_order=npy("o", [0, 1]))
    assert "--doc-order is for one Megatron file" in refused(npy("y", range(9)), Pieces(2), doc_order="o.npy")


@pytest.mark.parametrize(
    ("suffix", "damage", "told"),
    [
        (".bin", lambda data: data[:-1], "x.bin"),
        (".bin", lambda data: data[:-4], "has 20 bytes, and x.idx expects 24"),
        (".bin", lambda data: b"", "has 0 bytes"),
        (".idx", lambda data: data[:-1], "says 2 entries, 74 bytes, and has 73 bytes"),
        (".idx", lambda data: data[:20], "is not a Megatron index"),
        (".idx", lambda data: b"", "is not a Megatron index"),
        (".idx", lambda data: b"X" + data[1:], "does not begin with MMIDIDX"),
        (".idx", lambda data: b"TNTIDX\x00\x00" + data[8:], "older kind"),
        (".idx", lambda data: data[:9] + struct.pack("<Q", 2) + data[17:], "an index of version 2"),
        (".idx", lambda data: data[:17] + b"\x06" + data[18:], "type 6, numbers with a fraction"),
        (".idx", lambda data: data[:17] + b"\x63" + data[18:], "type 99, an unknown type"),
    ],
)
def test_a_damaged_stream_is_refused(suffix, damage, told, megatron) -> None:
    path = megatron("x", [[1, 2, 3], [4, 5, 6]])
    file = path.with_suffix(suffix)
    file.write_bytes(damage(file.read_bytes()))
    assert told in refused(path)


@pytest.mark.parametrize(("removed", "named"), [(".bin", ".idx"), (".idx", ".bin")])
def test_one_file_without_the_other_is_refused(removed, named, megatron) -> None:
    path = megatron("x", [[1, 2]])
    path.with_suffix(removed).unlink()
    assert f"x{removed} is missing" in refused(path.with_suffix(named))


# Packed data sets


def test_parquet_rows_are_sequences(tmp_path) -> None:
    rows = [[1, 2], [3], [4, 5, 6]]
    pl.DataFrame({"input_ids": rows, "labels": [0, 0, 0]}).write_parquet(
        tmp_path / "p.parquet", row_group_size=1
    )
    assert read(tmp_path / "p.parquet") == rows
    stream = open_streams([str(tmp_path / "p.parquet")], Pieces())
    assert [row.tolist() for row in stream.read(np.array([0, 2]))] == [[1, 2], [4, 5, 6]]


def test_a_saved_data_set_and_its_arrow_file_are_read_in_their_order(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [[1, 2], [3, 4], [5, 6]]
    whole = datasets.Dataset.from_dict({"input_ids": rows})
    whole.select([2, 0]).save_to_disk(tmp_path / "chosen")
    whole.save_to_disk(tmp_path / "all")
    (arrow,) = (tmp_path / "all").glob("*.arrow")
    # `select` keeps the file and an order beside it, which the folder's reader must follow.
    assert read(tmp_path / "chosen") == [[5, 6], [1, 2]]
    assert read(tmp_path / "all") == read(arrow) == rows
    datasets.DatasetDict({"train": whole}).save_to_disk(tmp_path / "splits")
    assert "holds the splits train" in refused(tmp_path / "splits")
    assert read(tmp_path / "splits" / "train") == rows


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ({"ids": [[1]]}, "has no column `input_ids`; the columns are ids"),
        ({"input_ids": [1, 2]}, "not a column of lists of whole numbers"),
        ({"input_ids": [[0.5]]}, "not a column of lists of whole numbers"),
        ({"input_ids": pl.Series([], dtype=pl.List(pl.Int32))}, "has no sequences"),
    ],
)
def test_parquet_of_another_kind_is_refused(frame, told, tmp_path) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / "p.parquet")
    assert told in refused(tmp_path / "p.parquet")


def test_what_is_no_parquet_and_no_arrow_is_refused(tmp_path) -> None:
    for name, told in (("p.parquet", "no Parquet"), ("a.arrow", "no Arrow file")):
        (tmp_path / name).write_text("hello")
        assert told in refused(tmp_path / name)


def test_a_sequence_that_is_null_is_refused_when_it_is_read(tmp_path) -> None:
    pl.DataFrame({"input_ids": [[1], None, [2, None]]}).write_parquet(tmp_path / "p.parquet")
    stream = open_streams([str(tmp_path / "p.parquet")], Pieces())
    assert stream.read(np.array([0]))[0].tolist() == [1]
    for place in (1, 2):
        with pytest.raises(ItemError, match="null"):
            stream.read(np.array([place]))


# Several files


def test_files_follow_each_other_and_names_count_in_each(npy) -> None:
    stream = open_streams([npy("b", [[1], [2], [3]]), npy("a", [[4], [5]])], Pieces())
    assert [row.tolist() for row in stream.read(np.array([0, 2, 3, 4]))] == [[1], [3], [4], [5]]
    assert stream.name(np.array([0, 2, 3, 4])) == ["b-0", "b-2", "a-0", "a-1"]


def test_two_files_of_one_name_are_refused(npy, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    one, two = npy("x", [[1]]), npy("sub/x", [[1]])
    with pytest.raises(ItemError, match="two files are named x"):
        open_streams([one, two], Pieces())


def test_all_bad_files_are_told_at_once(npy, tmp_path) -> None:
    with pytest.raises(ItemError) as caught:
        open_streams([npy("f", [[0.5]], "float64"), str(tmp_path / "gone.npy")], Pieces())
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "frame", "expected"),
    [
        ("x.npy", None, True),
        ("x.bin", None, True),
        ("x.idx", None, True),
        ("x.arrow", None, True),
        ("x.txt", None, False),
        ("x.jsonl", None, False),
        ("gone.parquet", None, False),
        ("ids.parquet", {"input_ids": [[1]]}, True),
        ("text.parquet", {"text": ["a"]}, False),
        ("both.parquet", {"text": ["a"], "input_ids": [[1]]}, False),
    ],
)
def test_streams_are_known_by_suffix_or_column(name, frame, expected, tmp_path) -> None:
    if frame is not None:
        pl.DataFrame(frame).write_parquet(tmp_path / name)
    assert is_stream(str(tmp_path / name)) is expected


@pytest.mark.parametrize(("values", "dtype"), [([[1]], "int64"), ([0.5], "float64"), ([], "int64")])
def test_an_order_is_a_list_of_whole_numbers(values, dtype, npy) -> None:
    with pytest.raises(ItemError, match="not a list of whole numbers"):
        load_numbers(npy("order", values, dtype))
    assert load_numbers(npy("good", [2, 0], "uint32")).tolist() == [2, 0]
