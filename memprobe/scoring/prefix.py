"""Tokens that several sequences share in front: which are worth it, and their cache.

A prefix is read once and its cache is used for every tail. Sequences are grouped so that the fewest
tokens are read; what is grouped depends on the sequences alone, not on their order or the model.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memprobe.scoring.batch import CALL_TOKENS
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.tokenise import Ids

# Caches of which a copy can be continued; those that forget or summarise (sliding windows, states) cannot.
# Subclasses of either may hold more than keys and values: MiniMax's shows plain layers beside linear states.
_CACHE, _CACHED_LAYERS = "DynamicCache", ("DynamicLayer",)
_TRIED_TOKENS, _TRIED_FRONT = 12, 6
# Half precision rounds sums of another length elsewhere; a cache that lacks something is off by far more.
_AGREES_SHARE, _AGREES_SHARE_HALF = 1e-4, 0.2


@dataclass(frozen=True, slots=True)
class Shared:
    """Sequences that are read behind one prefix.

    Attributes:
        members: Their numbers.
        n_prefix: Tokens of the prefix; 0: each is read whole.
    """

    members: tuple[int, ...]
    n_prefix: int


def share(sequences: Sequence[Ids]) -> list[Shared]:
    """Group sequences behind common prefixes so that the fewest tokens are read.

    Exact over all ways to cut the sorted sequences into runs: a run of k sequences with P common tokens
    reads P + sum(n - P) tokens and one more forward, which counts `CALL_TOKENS`. Every tail keeps a token.

    Args:
        sequences: Token ids, each shape (n,), n at least 1, no two equal.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">i8").tobytes())
    lengths = np.asarray([len(sequences[i]) for i in order], dtype=np.int64)
    total = np.concatenate([[0], np.cumsum(lengths)])
    best, begins, prefixes = np.zeros(len(order) + 1), [0], [0]
    common = np.zeros(0, dtype=np.int64)
    for j, sequence in enumerate(order):
        # common[i]: tokens that all of i..j share, of which each has at least one more.
        if j:
            # Sorted and different: only the one before can be all of what they share.
            met = min(_n_common(sequences[order[j - 1]], sequences[sequence]), int(lengths[j - 1]) - 1)
            common = np.minimum(np.append(common, met), met)
        k = j + 1 - np.arange(j)
        together = best[:j] + CALL_TOKENS + total[j + 1] - total[:j] - (k - 1) * common
        costs = np.append(together, best[j] + lengths[j])
        # The last minimum: of equally good cuts the smallest group.
        begin = j - int(np.argmin(costs[::-1]))
        best[j + 1] = costs[begin]
        begins.append(begin)
        prefixes.append(int(common[begin]) if begin < j else 0)
    groups = []
    end = len(order)
    while end:
        groups.append(Shared(tuple(order[begins[end] : end]), prefixes[end]))
        end = begins[end]
    return groups[::-1]


def n_read(groups: Sequence[Shared], sequences: Sequence[Ids]) -> int:
    """Return the tokens that are read of grouped sequences."""
    return sum(
        each.n_prefix + sum(len(sequences[i]) - each.n_prefix for i in each.members) for each in groups
    )


def _n_common(a: Ids, b: Ids) -> int:
    n = min(len(a), len(b))
    differs: NDArray[np.bool_] = a[:n] != b[:n]
    return int(differs.argmax()) if differs.any() else n


def shared_in_runs(front: Tensor, n_tokens: int) -> tuple[int, int, Tensor]:
    """Return what rows need not read twice: tokens that all share, and those that runs of neighbours share.

    Args:
        front: The tokens that may be shared, shape (n_rows, n).
        n_tokens: Of a whole row.

    Returns:
        The tokens that all rows share in front; those that the rows of each run share, at least as many,
        chosen so that the fewest tokens are read; the first row of each run, ascending.
    """
    same = (front[1:] == front[:-1]).long().cumprod(1).bool()
    runs = 1 + (~same).sum(0)
    n_all = int((runs == 1).sum()) if len(front) > 1 else 0
    n = torch.arange(1, front.shape[1] + 1)
    read = runs * (n - n_all) + len(front) * (n_tokens - n) + CALL_TOKENS
    read = torch.where(n > n_all, read, torch.iinfo(torch.long).max)
    n_run = 1 + int(read.argmin()) if len(read) else 0
    if n_run <= n_all or read[n_run - 1] >= len(front) * (n_tokens - n_all):
        return n_all, n_all, torch.zeros(1, dtype=torch.long)
    starts = torch.cat([torch.tensor([True]), ~same[:, n_run - 1]])
    return n_all, n_run, starts.nonzero()[:, 0]


def cache_of(read: Callable[..., Any], prefixes: Tensor, past: Any = None) -> Any:  # noqa: ANN401
    """Return the cache of some tokens; None where the model has none that can be continued twice.

    Args:
        read: The model or its body.
        prefixes: Token ids, shape (n_rows, n), on the model's device.
        past: The cache of what is before them, of as many rows; it is used up.
    """
    out = read(input_ids=prefixes, use_cache=True, **({} if past is None else {"past_key_values": past}))
    cache = getattr(out, "past_key_values", None)
    layers = getattr(cache, "layers", None)
    plain = layers and all(type(layer).__name__ in _CACHED_LAYERS for layer in layers)
    return cache if plain and type(cache).__name__ == _CACHE else None


def can_share(loaded: LoadedModel, read: Callable[..., Any]) -> bool:
    """Whether one cache can be continued by several rows, and as often as needed; tried once per model.

    Two rows that share their beginning are read whole and behind one cache, twice. A model that keeps
    part of what it read elsewhere, or cannot read behind a cache, is read whole.
    """
    if loaded.shares is None:
        try:
            with torch.no_grad():
                loaded.shares = _continues(loaded, read)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError):
            # The model's own code refuses what its cache seemed to offer.
            loaded.shares = False
    return loaded.shares


def _continues(loaded: LoadedModel, read: Callable[..., Any]) -> bool:
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    n = min(_TRIED_TOKENS, loaded.context_tokens or _TRIED_TOKENS, loaded.borders.first or _TRIED_TOKENS)
    front = min(_TRIED_FRONT, n - 1)
    if front < 1:
        return False
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (2, n), generator=rng).to(loaded.device)
    ids[1, :front] = ids[0, :front]
    whole = loaded.model(input_ids=ids, use_cache=False).logits[:, front:].float()
    cache = cache_of(read, ids[:1, :front])
    if cache is None or cache.get_seq_length() != front:
        return False
    half = next(loaded.model.parameters()).dtype != torch.float32
    share = _AGREES_SHARE_HALF if half else _AGREES_SHARE
    for rows in ([0, 1], [1, 0]):
        given = {"past_key_values": for_rows(cache, 2), "use_cache": True}
        behind = loaded.model(input_ids=ids[rows, front:], **given).logits.float()
        if float((behind - whole[rows]).abs().max()) > share * float(whole.abs().max()):
            return False
    return True


def for_rows(cache: Any, n: int) -> Any:  # noqa: ANN401
    """Return the cache of one sequence for n rows; the one given stays as it is.

    Layers grow by concatenation, which copies, so what they hold is shared until then.
    """
    return _with_rows(cache, lambda held: held.expand(n, *held.shape[1:]))


def picked(cache: Any, rows: Tensor) -> Any:  # noqa: ANN401
    """Return the cache of some rows of another, in that order and as often; the one given stays as it is.

    Args:
        cache: Of several sequences.
        rows: Which, int64, shape (n,), on the model's device.
    """
    return _with_rows(cache, lambda held: held[rows])


def _with_rows(cache: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401
    fresh = copy.copy(cache)
    fresh.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in fresh.layers:
        layer.keys, layer.values = change(layer.keys), change(layer.values)
    return fresh
