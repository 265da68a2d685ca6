"""Choices: the probability mass of the next token on each of two labels, after prompts that begin alike.

The ln of a label's mass is the logsumexp of ln p over all tokens that spell the label, where p is the
probability over the whole vocabulary. The method follows Pink et al. (2024),
https://arxiv.org/abs/2410.08133, except that the spellings of a label are summed.

Notation: n prompts, P tokens of a prefix, L tokens of the longest tail, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from memprobe.errors import CheckpointError
from memprobe.scoring.batch import pack
from memprobe.scoring.forward import CHUNK_BYTES, OWN_PATH_BYTES
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.prefix import Shared, cache_of, can_share, for_rows, n_read, share
from memprobe.scoring.schemes import logprobs_of
from memprobe.scoring.tokenise import Ids, TokenisedItems


@dataclass(frozen=True, slots=True)
class _Tail:
    """The part of a prompt after its shared prefix.

    Attributes:
        number: Number of the prompt.
        ids: Token ids after the prefix, shape (n,).
        n_tokens: Number of tokens of the whole prompt.
    """

    number: int
    ids: Ids
    n_tokens: int


def choice_tokens(requests: pl.DataFrame, tokenised: TokenisedItems) -> int:
    """Return the number of tokens read for `choice` requests, counting each shared prefix once."""
    prompts, _ = _prompts(requests, tokenised)
    return n_read(share(prompts), prompts)


def choice_rows(
    loaded: LoadedModel,
    tokenised: TokenisedItems,
    requests: pl.DataFrame,
    *,
    batch_tokens: int,
    on_batch: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Answer the `choice` requests of a unit.

    Args:
        loaded: The model.
        tokenised: The items, with the ids of the labels.
        requests: Rows of `REQUESTS` whose detail is `choice`.
        batch_tokens: Tokens of one batch, padding and prefixes included.
        on_batch: Called with the number of prompts after each batch.

    Returns:
        One row of `SPANS` per request, in order.

    Raises:
        CheckpointError: The model gives NaN.
    """
    prompts, asked = _prompts(requests, tokenised)
    labels = [tokenised.choices[part] for part in requests["part"]]
    # Only these columns of the vocabulary are kept for each prompt.
    kept = np.unique(np.concatenate([np.zeros(0, np.int64), *(ids for pair in labels for ids in pair)]))
    logprobs: dict[int, Tensor] = {}
    for tails, cache in _batches(loaded, prompts, batch_tokens):
        found = _next_logprobs(loaded, tails, cache, torch.from_numpy(kept))
        logprobs |= {tail.number: row for tail, row in zip(tails, found, strict=True)}
        on_batch(len(tails))
    rows = []
    for row, number, pair in zip(requests.iter_rows(named=True), asked, labels, strict=True):
        masses = [logprobs[number][np.searchsorted(kept, ids)].logsumexp(0).item() for ids in pair]
        if any(np.isnan(masses)):
            raise CheckpointError(
                "the model scores NaN",
                where=f"item {row['item_id']}",
                fix="the weights hold NaN or overflow in this dtype; try --dtype float32",
            )
        rows.append({**row, "choice_logprob_nats": masses})
    return rows


def _prompts(requests: pl.DataFrame, tokenised: TokenisedItems) -> tuple[list[Ids], list[int]]:
    """Return the distinct prompts, front tokens included, and the number of each request's prompt."""
    numbers: dict[bytes, int] = {}
    prompts: list[Ids] = []
    asked = []
    for item, part, start, stop in requests.select("item_id", "part", "start", "stop").iter_rows():
        front = np.asarray(tokenised.front_for(item, part), dtype=np.int64)
        ids = np.concatenate([front, tokenised.ids[item, part][start:stop]])
        number = numbers.setdefault(ids.tobytes(), len(prompts))
        if number == len(prompts):
            prompts.append(ids)
        asked.append(number)
    return prompts, asked


def _batches(
    loaded: LoadedModel, prompts: Sequence[Ids], batch_tokens: int
) -> Iterator[tuple[list[_Tail], Any]]:
    """Yield tails that are read together, and the cache of their shared prefix; None if they have none."""
    if not prompts:
        return
    read = _body(loaded)
    groups = _groups(loaded, prompts) if len(prompts) > 1 and can_share(loaded, read) else []
    shared = {i for group in groups if group.n_prefix for i in group.members}
    whole = [_Tail(i, ids, len(ids)) for i, ids in enumerate(prompts) if i not in shared]
    for places in loaded.borders.apart([tail.n_tokens for tail in whole]):
        some = sorted((whole[place] for place in places), key=lambda tail: tail.n_tokens)
        for tails in pack(some, batch_tokens):
            yield tails, None
    for group in groups:
        if group.n_prefix:
            prefix = prompts[group.members[0]][None, : group.n_prefix]
            cache = cache_of(read, torch.from_numpy(prefix).to(loaded.device))
            behind = [
                _Tail(i, prompts[i][group.n_prefix :], len(prompts[i]))
                for i in sorted(group.members, key=lambda i: len(prompts[i]))
            ]
            for tails in pack(behind, batch_tokens):
                yield tails, cache


def _groups(loaded: LoadedModel, prompts: Sequence[Ids]) -> list[Shared]:
    """Group prompts by shared prefix; a prefix is shared only if it is computed like its prompts."""
    groups = []
    for places in loaded.borders.apart([len(ids) for ids in prompts]):
        for group in share([prompts[place] for place in places]):
            members = tuple(places[i] for i in group.members)
            sides = {loaded.borders.side(n) for n in (group.n_prefix, len(prompts[members[0]]))}
            groups.append(Shared(members, group.n_prefix if len(sides) == 1 else 0))
    return groups


def _body(loaded: LoadedModel) -> Callable[..., Any]:
    """Return a function that reads tokens into a cache and computes as few logits as possible."""
    if loaded.fast:
        body: Callable[..., Any] = loaded.model.base_model
        return body
    keeps = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
    return partial(loaded.model, logits_to_keep=1) if keeps else loaded.model


def _next_logprobs(loaded: LoadedModel, tails: Sequence[_Tail], cache: Any, kept: Tensor) -> Tensor:  # noqa: ANN401
    """Return ln p of some tokens after each tail, float32 on the CPU, shape (n, len(kept))."""
    longest = max(len(tail.ids) for tail in tails)
    # The model's own path computes logits at every position, the fast path only at the last one.
    width = 1 if loaded.fast else longest
    budget = CHUNK_BYTES if loaded.fast else OWN_PATH_BYTES
    step = max(1, budget // (4 * width * loaded.vocabulary))
    parts = []
    for begin in range(0, len(tails), step):
        logits = _next_logits(loaded, tails[begin : begin + step], cache)
        parts.append(logprobs_of(logits.float(), kept.to(logits.device)).cpu())
    return torch.cat(parts)


def _next_logits(loaded: LoadedModel, tails: Sequence[_Tail], cache: Any) -> Tensor:  # noqa: ANN401
    """Return the logits after each tail, shape (n, V); the tails are padded on the right."""
    n, longest = len(tails), max(len(tail.ids) for tail in tails)
    ids = torch.zeros((n, longest), dtype=torch.int64)
    real = torch.zeros((n, longest), dtype=torch.int64)
    for row, tail in enumerate(tails):
        ids[row, : len(tail.ids)] = torch.from_numpy(tail.ids)
        real[row, : len(tail.ids)] = 1
    last = real.sum(1) - 1
    inputs: dict[str, Any] = {"input_ids": ids.to(loaded.device), "use_cache": cache is not None}
    if cache is not None:
        before = torch.ones((n, cache.get_seq_length()), dtype=torch.int64)
        inputs["attention_mask"] = torch.cat([before, real], dim=1).to(loaded.device)
        inputs["past_key_values"] = for_rows(cache, n)
    elif not loaded.fast:
        inputs["attention_mask"] = real.to(loaded.device)
    rows = torch.arange(n)
    if not loaded.fast:
        logits: Tensor = loaded.model(**inputs).logits
        return logits[rows.to(logits.device), last.to(logits.device)]
    hidden = loaded.model.base_model(**inputs).last_hidden_state
    behind: Tensor = loaded.head(hidden[rows.to(hidden.device), last.to(hidden.device)])
    return behind
