"""Sequences on disk, read one by one, and a stream cut into sequences of one length."""

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
        n: Number of sequences.
        read: Returns the token ids, int64, of the sequences at rising places, from 0.
    """

    n: int
    read: Callable[[NDArray[np.int64]], list[NDArray[np.int64]]]

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True)
class Flat:
    """Whole numbers stored one after the other in a file, read on request.

    With plain reads: a memory map would load 128 kB around each of many distant sequences, which is fifty
    times slower.

    Attributes:
        path: The file.
        dtype: Type of the numbers.
        first_byte: Byte offset of the first number.
        n_tokens: Number of numbers.
    """

    path: Path
    dtype: np.dtype[Any]
    first_byte: int
    n_tokens: int

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` numbers, from the number at `start`."""
        offset = self.first_byte + start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count, offset=offset).astype(np.int64)

    def rows(self, n: int, size: int, step: int) -> Rows:
        """Return `n` sequences of `size` numbers that begin `step` numbers apart."""
        return Rows(n, lambda places: [self.read(place * step, size) for place in places.tolist()])


@dataclass(frozen=True, slots=True)
class Pieces:
    """How one long stream is cut into pieces of `tokens` tokens; each shares `overlap` with the next.

    GPT-NeoX and Megatron train on L tokens and read L + 1 per sample, of which the last is only
    predicted: tokens = L + 1, overlap = 1.

    Attributes:
        tokens: Tokens of a sequence; None: the file itself defines its sequences.
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
            ItemError: The length is not given, or the stream is shorter than one.
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
        """Return the sequences of a stream; the rest, which fills none, is left out.

        Raises:
            ItemError: As `count`.
        """
        n, size = self.count(stream.n_tokens, spec), self.tokens or 0
        return stream.rows(n, size, size - self.overlap)

    def refuse(self, spec: str, why: str) -> None:
        """Refuse `--sequence-tokens` for a file that defines its own sequences.

        Raises:
            ItemError: It was given.
        """
        if self.tokens is not None:
            raise ItemError(f"--sequence-tokens does not fit: {why}", where=spec, fix="leave it out")
