"""Real greedy continuations, to check and complete what teacher forcing says.

Prompts of one length are generated together, so nothing is padded. The model's own generation
settings are blank (see load.py): no eos, no minimum length, no penalty stands between the argmax and
the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from memprobe.scoring.load import LoadedModel

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Continuation:
    """What to generate.

    Attributes:
        prompt: Input ids, front tokens included, int64, shape (length,).
        true: The true continuation, int64, shape (k,).
        n_tokens: Tokens to generate, at most k.
    """

    prompt: NDArray[np.int64]
    true: NDArray[np.int64]
    n_tokens: int


def greedy(loaded: LoadedModel, wanted: Sequence[Continuation]) -> list[NDArray[np.int64]]:
    """Return the greedy continuation of each prompt, shape (n_tokens,) each, in the order given."""
    results: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(wanted)
    for places in _same_shape(wanted):
        prompts = torch.from_numpy(np.stack([wanted[i].prompt for i in places])).to(loaded.device)
        n_tokens = wanted[places[0]].n_tokens
        config = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=n_tokens, eos_token_id=None, pad_token_id=0
        )
        out = loaded.model.generate(
            input_ids=prompts, attention_mask=torch.ones_like(prompts), generation_config=config
        )
        generated = out[:, prompts.shape[1] :].cpu().numpy()
        for place, row in zip(places, generated, strict=True):
            results[place] = row
    return results


def _same_shape(wanted: Sequence[Continuation]) -> Iterator[list[int]]:
    """Group the places of `wanted` that share prompt length and number of tokens, 16 at a time."""

    def shape(place: int) -> tuple[int, int]:
        return len(wanted[place].prompt), wanted[place].n_tokens

    todo = [place for place in range(len(wanted)) if wanted[place].n_tokens > 0]
    for _, group in groupby(sorted(todo, key=shape), key=shape):
        places = list(group)
        yield from (places[i : i + _AT_ONCE] for i in range(0, len(places), _AT_ONCE))


def matched(generated: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where generated and true tokens agree, shape (n_tokens,)."""
    return np.equal(generated, true[: len(generated)])


def lcp_tokens(agree: NDArray[np.bool_]) -> int:
    """Return the number of tokens before the first disagreement."""
    return int(np.cumprod(agree).sum())
