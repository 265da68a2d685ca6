"""Token statistics of batches: the body runs once, then the head on the scored positions, in chunks.

The fast path makes no tensor of shape (batch, length, vocabulary). On a model's own path the batch is cut so
that its logits stay within a fixed number of bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memprobe.scoring.load import LoadedModel
from memprobe.scoring.statistics import TokenStatistics, cut, join, token_statistics
from memprobe.tables.requests import Statistic

# Limits for the logits of one chunk of positions: matrix products are fastest from 512 rows on.
CHUNK_BYTES = 256 * 2**20
CHUNK_ROWS = 512
OWN_PATH_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One sequence of a batch.

    Attributes:
        ids: Input token ids, including front tokens, int64, shape (length,).
        score_from: Index into `ids` of the first token to score, at least 1.
    """

    ids: NDArray[np.int64]
    score_from: int

    @property
    def n_scored(self) -> int:
        """Number of tokens that are scored: from `score_from` to the end."""
        return len(self.ids) - self.score_from


@contextmanager
def scoring_mode() -> Iterator[None]:
    """Turn gradients off and flush denormals to zero, because they make exp ten times as slow."""
    flushed = torch.set_flush_denormal(True)
    try:
        with torch.inference_mode():
            yield
    finally:
        if flushed:
            torch.set_flush_denormal(False)


def score_batch(
    loaded: LoadedModel, batch: Sequence[TokenSequence], further: Sequence[Statistic]
) -> list[TokenStatistics]:
    """Score each sequence's tokens from its `score_from` on, given all tokens before.

    Sequences whose lengths the model computes differently are read in separate calls, as if alone.

    Returns:
        One `TokenStatistics` per sequence, in order, with `n_scored` tokens each.
    """
    apart = loaded.borders.apart([len(sequence.ids) for sequence in batch])
    if len(apart) > 1:
        parts = [(places, score_batch(loaded, [batch[i] for i in places], further)) for places in apart]
        scored = {place: one for places, part in parts for place, one in zip(places, part, strict=True)}
        return [scored[place] for place in range(len(batch))]
    flat = _fast(loaded, batch, further) if loaded.fast else _own(loaded, batch, further)
    ends = np.cumsum([sequence.n_scored for sequence in batch]).tolist()
    return [cut(flat, end - sequence.n_scored, end) for sequence, end in zip(batch, ends, strict=True)]


def _padded(batch: Sequence[TokenSequence], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids padded on the right, shape (batch, longest), and the mask of real tokens."""
    longest = max(len(sequence.ids) for sequence in batch)
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=np.int64)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence.ids)] = sequence.ids
        mask[row, : len(sequence.ids)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _fast(
    loaded: LoadedModel, batch: Sequence[TokenSequence], further: Sequence[Statistic]
) -> TokenStatistics:
    # No attention mask is needed: the model is causal and padding is on the right, so no real token sees it.
    ids, _ = _padded(batch, loaded.device)
    rows = np.concatenate([np.full(s.n_scored, row) for row, s in enumerate(batch)])
    columns = np.concatenate([np.arange(s.score_from, len(s.ids)) for s in batch])
    row, column = (torch.from_numpy(index).to(loaded.device) for index in (rows, columns))
    hidden = loaded.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    targets = ids[row, column]
    # A model spread over devices ends on another device than it begins on.
    hidden = hidden[row.to(hidden.device), column.to(hidden.device) - 1]
    step = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * loaded.vocabulary)))
    parts = []
    for i in range(0, len(targets), step):
        logits = _head(loaded, hidden[i : i + step], step)
        parts.append(token_statistics(logits, targets[i : i + step].to(logits.device), further))
    return join(parts, further)


def _head(loaded: LoadedModel, hidden: Tensor, step: int) -> Tensor:
    """Return the logits of some positions; on a CPU in a reused buffer, as fresh memory pages cost time."""
    head = loaded.head
    weight = head.weight
    # A subclass of Linear may do more than multiply; the check at load time compared its own forward.
    multiplies = type(head) is nn.Linear and head.bias is None
    if not isinstance(weight, Tensor) or weight.is_meta or not multiplies or hidden.device.type != "cpu":
        logits: Tensor = head(hidden)
        return logits
    buffer = loaded.scratch.get("logits")
    if buffer is None or buffer.shape[0] < step or buffer.dtype != hidden.dtype:
        buffer = torch.empty(step, weight.shape[0], dtype=hidden.dtype)
        loaded.scratch["logits"] = buffer
    return torch.mm(hidden, weight.t(), out=buffer[: len(hidden)])


def _own(
    loaded: LoadedModel, batch: Sequence[TokenSequence], further: Sequence[Statistic]
) -> TokenStatistics:
    longest = max(len(sequence.ids) for sequence in batch)
    at_once = max(1, OWN_PATH_BYTES // (4 * longest * loaded.vocabulary))
    parts: list[TokenStatistics] = []
    for i in range(0, len(batch), at_once):
        part = batch[i : i + at_once]
        ids, mask = _padded(part, loaded.device)
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        parts.extend(
            token_statistics(
                logits[row, s.score_from - 1 : len(s.ids) - 1],
                ids[row, s.score_from : len(s.ids)].to(logits.device),
                further,
            )
            for row, s in enumerate(part)
        )
    return join(parts, further)
