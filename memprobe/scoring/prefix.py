"""Tokens that several sequences share in front: which are worth it, and their cache.

A prefix is read once and its cache is used for every tail. Sequences are grouped so that the fewest
tokens are read; what is grouped depends on the sequences alone, not on their order or the model.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memprobe.scoring.batch import CALL_TOKENS
from memprobe.scoring.tokenise import Ids

# Caches of which a copy can be continued; those that forget or summarise (sliding windows, states) cannot.
_CACHED_LAYERS = ("DynamicLayer",)


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


def cache_of(read: Callable[..., Any], prefix: Tensor) -> Any:  # noqa: ANN401
    """Return the cache of some tokens; None where the model has none that can be continued twice.

    Args:
        read: The model or its body.
        prefix: Token ids, shape (n,), on the model's device.
    """
    out = read(input_ids=prefix[None], use_cache=True)
    past = getattr(out, "past_key_values", None)
    layers = getattr(past, "layers", None)
    plain = layers and all(type(layer).__name__ in _CACHED_LAYERS for layer in layers)
    return past if plain else None


def for_rows(cache: Any, n: int) -> Any:  # noqa: ANN401
    """Return the cache of one sequence for n rows; the one given stays as it is.

    Layers grow by concatenation, which copies, so what they hold is shared until then.
    """
    fresh = copy.copy(cache)
    fresh.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in fresh.layers:
        layer.keys = layer.keys.expand(n, *layer.keys.shape[1:])
        layer.values = layer.values.expand(n, *layer.values.shape[1:])
    return fresh
