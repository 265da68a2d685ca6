r"""Megatron's `.bin` with `.idx`, as Megatron-LM and GPT-NeoX write them (`MMapIndexedDataset`).

`.idx`, little-endian: 9 bytes `MMIDIDX\0\0`; uint64 version 1; uint8 code of the ids' type; uint64 number
of entries; uint64 length of the document list; int32 length of each entry in tokens; int64 byte offset of
each entry in the `.bin`; int64 document list; where images are mixed in, int8 mode of each entry.
`.bin`: the ids, entry after entry, with nothing between.

Codes: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 6 float64, 7 float32 (GPT-NeoX: float64), 8 uint16; ids are
whole numbers, so 6 and 7 are refused. An entry is a document as tokenised, or, in a file that was laid out
in training order (Pythia's preshuffled Pile), one training sequence of L + 1 tokens.

Sources: NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py (`DType`, `_IndexWriter`);
EleutherAI/gpt-neox, megatron/data/indexed_dataset.py and gpt2_dataset.py (`sample_idx`: a sample is L + 1
tokens and shares one with the next); EleutherAI/pythia, utils/batch_viewer.py.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memprobe.documents.rows import Flat, Pieces, Rows
from memprobe.errors import ItemError
from memprobe.wording import near_miss

_MAGIC: Final = b"MMIDIDX\x00\x00"
_OLD_MAGIC: Final = b"TNTIDX\x00\x00"
_HEADER: Final = struct.Struct("<9sQBQQ")
_ENTRY_BYTES, _DOCUMENT_BYTES = 12, 8
_DTYPES: Final = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_FLOATS: Final = (6, 7)


@dataclass(frozen=True, slots=True)
class _Index:
    """The contents of an .idx file.

    Attributes:
        sizes: Number of tokens of each entry, shape (n_entries,).
        pointers: Byte offset of each entry in the .bin.
        tokens: All ids of the .bin.
    """

    sizes: NDArray[np.int32]
    pointers: Flat
    tokens: Flat

    def start(self, entry: int) -> int:
        """Return the offset of an entry's first id in the .bin, counted in ids."""
        return int(self.pointers.read(entry, 1)[0]) // self.tokens.dtype.itemsize


def open_rows(path: Path, spec: str, pieces: Pieces, doc_order: NDArray[np.int64] | None) -> Rows:
    """Open a `.bin` with its `.idx`; the path may name either.

    Without `pieces.tokens` the entries are the sequences and must have one length; with it, all entries form
    one stream, in the order of the file or of `doc_order`, which is cut.

    Args:
        path: The .bin or the .idx.
        spec: As the user named it.
        pieces: How the stream is cut.
        doc_order: Entry numbers in order, as in GPT-NeoX's `doc_idx.npy`; None: the order of the file.

    Raises:
        ItemError: A file is missing, damaged, or of another kind.
    """
    index = _read_index(path.with_suffix(".idx"), path.with_suffix(".bin"), spec)
    if pieces.tokens is None:
        if doc_order is not None:
            raise ItemError("--doc-order needs --sequence-tokens", where=spec)
        return _entries(index, spec)
    if doc_order is None:
        return pieces.cut(index.tokens, spec)
    return _laid_out(index, doc_order, pieces, spec)


def _read_index(idx: Path, data: Path, spec: str) -> _Index:
    for file in (idx, data):
        if not file.is_file():
            near = near_miss(file.name, (each.name for each in file.parent.iterdir()))
            fix = "a stream is a .bin and an .idx of one name, side by side; shards must be joined first"
            raise ItemError(f"{file.name} is missing{near}", where=spec, fix=fix)
    with idx.open("rb") as stream:
        head = stream.read(_HEADER.size)
    dtype, n_entries, n_documents = _parse_header(head, idx)
    expected = _HEADER.size + _ENTRY_BYTES * n_entries + _DOCUMENT_BYTES * n_documents
    n_bytes = idx.stat().st_size
    if n_bytes not in {expected, expected + n_entries} or not n_entries:
        what = f"says {n_entries:,} entries, {expected:,} bytes, and has {n_bytes:,} bytes"
        raise ItemError(what, where=str(idx), fix="copy it again if it was cut off")
    sizes = np.memmap(idx, dtype="<i4", mode="r", offset=_HEADER.size, shape=(n_entries,))
    pointers = Flat(idx, np.dtype("<i8"), _HEADER.size + 4 * n_entries, n_entries)
    needed = int(pointers.read(n_entries - 1, 1)[0]) + int(sizes[-1]) * dtype.itemsize
    if not data.stat().st_size or data.stat().st_size != needed:
        what = f"has {data.stat().st_size:,} bytes, and {idx.name} expects {needed:,}"
        raise ItemError(what, where=str(data), fix="copy it again if it was cut off")
    return _Index(sizes, pointers, Flat(data, dtype, 0, needed // dtype.itemsize))


def _parse_header(head: bytes, idx: Path) -> tuple[np.dtype[Any], int, int]:
    """Return the ids' type, the number of entries, and the length of the document list."""
    if head.startswith(_OLD_MAGIC):
        fix = "write the stream with --dataset-impl mmap"
        raise ItemError("is of Megatron's older kind, cached or lazy", where=str(idx), fix=fix)
    if len(head) < _HEADER.size or not head.startswith(_MAGIC):
        raise ItemError("is not a Megatron index: it does not begin with MMIDIDX", where=str(idx))
    _, version, code, n_entries, n_documents = _HEADER.unpack(head)
    if version != 1:
        raise ItemError(f"is an index of version {version}, and 1 is known", where=str(idx))
    if code not in _DTYPES:
        what = "numbers with a fraction" if code in _FLOATS else "an unknown type"
        raise ItemError(f"says that the ids are of type {code}, {what}", where=str(idx))
    return np.dtype(_DTYPES[code]), n_entries, n_documents


def _entries(index: _Index, spec: str) -> Rows:
    """Return the entries as sequences, which must have one length; documents do not."""
    low, high = int(index.sizes.min()), int(index.sizes.max())
    if low != high:
        what = f"its {len(index.sizes):,} entries have {low:,} to {high:,} tokens"
        fix = "give the length of a training sequence with --sequence-tokens N"
        raise ItemError(f"{what}: documents, not training sequences", where=spec, fix=fix)

    def read(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [index.tokens.read(index.start(place), low) for place in places.tolist()]

    return Rows(len(index.sizes), read)


def _laid_out(index: _Index, doc_order: NDArray[np.int64], pieces: Pieces, spec: str) -> Rows:
    """Return the sequences of the documents in another order than the file's."""
    if doc_order.min() < 0 or doc_order.max() >= len(index.sizes):
        what = f"--doc-order has numbers from {doc_order.min()} to {doc_order.max()}"
        raise ItemError(f"{what}, and there are {len(index.sizes):,} documents", where=spec)
    ends = np.cumsum(index.sizes[doc_order], dtype=np.int64)
    n, size = pieces.count(int(ends[-1]), spec), pieces.tokens or 0

    def gather(start: int) -> NDArray[np.int64]:
        parts, at, stop = [], start, start + size
        place = int(np.searchsorted(ends, start, side="right"))
        while at < stop:
            entry = int(doc_order[place])
            end = int(ends[place])
            inside = index.start(entry) + int(index.sizes[entry]) - (end - at)
            taken = min(stop, end) - at
            parts.append(index.tokens.read(inside, taken))
            at, place = at + taken, place + 1
        return np.concatenate(parts)

    step = size - pieces.overlap
    return Rows(n, lambda places: [gather(place * step) for place in places.tolist()])
