"""Sequences on disk: how many, and how to read some; and a stream cut into sequences of one length."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memprobe.errors import InputError, ItemError


@dataclass(frozen=True, slots=True)
class Rows:
    """The sequences of one file.

    Attributes:
        n: How many.
        read: From rising places (the first is 0) to their token ids, int64.
    """

    n: int
    read: Callable[[NDArray[np.int64]], list[NDArray[np.int64]]]

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True)
class Flat:
    """Whole numbers that are in a file one behind the other, read where they are asked for.

    Plain reads: through a memory map, each of many sequences far apart brings in 128 kB around it, which is
    fifty times slower.

    Attributes:
        path: The file.
        dtype: Their type.
        first_byte: Where they begin, in bytes.
        n_tokens: How many.
    """

    path: Path
    dtype: np.dtype[Any]
    first_byte: int
    n_tokens: int

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` numbers from the place `start` on."""
        offset = self.first_byte + start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count, offset=offset).astype(np.int64)

    def rows(self, n: int, size: int, step: int) -> Rows:
        """Return `n` sequences of `size` numbers, each `step` behind the one before."""
        return Rows(n, lambda places: [self.read(place * step, size) for place in places.tolist()])


@dataclass(frozen=True, slots=True)
class Pieces:
    """How one long stream is cut: every piece has `tokens`, and `overlap` of them begin the next one.

    GPT-NeoX and Megatron train on L tokens with L + 1 read per sample, the last to be predicted only:
    that is tokens = L + 1, overlap = 1.

    Attributes:
        tokens: Tokens of a sequence; None: the file itself says where its sequences are.
        overlap: Tokens that a sequence shares with the next.

    Raises:
        InputError: A size is out of its range.
    """

    tokens: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise InputError(f"--sequence-tokens is {self.tokens}, not 1 or more")
        if self.overlap < 0 or (self.overlap and self.overlap >= (self.tokens or 0)):
            what = f"--overlap-tokens is {self.overlap}, not 0 or more and below --sequence-tokens"
            raise InputError(what)

    def count(self, n_tokens: int, spec: str) -> int:
        """Return how many whole sequences a stream holds.

        Raises:
            ItemError: Their length is not given, or there is not one.
        """
        if self.tokens is None:
            raise ItemError(
                f"is one stream of {n_tokens:,} tokens",
                where=spec,
                fix="give the length of a training sequence with --sequence-tokens N",
            )
        n = (n_tokens - self.overlap) // (self.tokens - self.overlap)
        if n_tokens < self.tokens:
            raise ItemError(f"holds {n_tokens:,} tokens, and a sequence has {self.tokens:,}", where=spec)
        return n

    def cut(self, stream: Flat, spec: str) -> Rows:
        """Return the sequences of a stream; what fills no sequence is left.

        Raises:
            ItemError: As `count`.
        """
        n, size = self.count(stream.n_tokens, spec), self.tokens or 0
        return stream.rows(n, size, size - self.overlap)

    def refuse(self, spec: str, why: str) -> None:
        """Refuse `--sequence-tokens` where a file says itself where its sequences are.

        Raises:
            ItemError: It was given.
        """
        if self.tokens is not None:
            raise ItemError(f"--sequence-tokens does not fit: {why}", where=spec, fix="leave it out")
