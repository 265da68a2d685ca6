"""Real greedy continuations, which check and complete the results of teacher forcing.

Prompts of the same length are generated together, so nothing is padded. The model's own generation settings
are blank (see load.py): no eos, minimum length or penalty changes the argmax.

If a model's arithmetic changes with the length of a call (borders.py), a text is scored with the arithmetic
of its whole length. A continuation that starts on one side of a border and ends on the other is then decoded
by forwards of that whole length, padded on the right and without a cache, because keys made before the
border belong to another arithmetic.
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
    """A continuation to be generated.

    Attributes:
        prompt: Input ids, front tokens included, int64, shape (length,).
        true: The true continuation, int64, shape (k,).
        n_tokens: Number of tokens to generate, at most k.
        n_whole: Number of tokens of the call that scores the text, whose arithmetic is followed; None stands
            for the prompt and all generated tokens except the last, which is not read.
    """

    prompt: NDArray[np.int64]
    true: NDArray[np.int64]
    n_tokens: int
    n_whole: int | None = None

    @property
    def n_read(self) -> int:
        """Number of tokens of the call whose arithmetic is followed."""
        return len(self.prompt) + self.n_tokens - 1 if self.n_whole is None else self.n_whole


def greedy(loaded: LoadedModel, wanted: Sequence[Continuation]) -> list[NDArray[np.int64]]:
    """Return the greedy continuation of each prompt, shape (n_tokens,) each, in the order given."""
    results: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(wanted)
    cached = [i for i, each in enumerate(wanted) if _one_side(loaded, each)]
    for place in set(range(len(wanted))) - set(cached):
        results[place] = _by_whole_forwards(loaded, wanted[place])
    for places in _same_shape(wanted, cached):
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


def _one_side(loaded: LoadedModel, wanted: Continuation) -> bool:
    """Return whether every step is computed like the whole text, so that a cache can be continued."""
    steps = (len(wanted.prompt), len(wanted.prompt) + wanted.n_tokens - 1)
    sides = {loaded.borders.side(each) for each in (*steps, wanted.n_read)}
    return wanted.n_tokens == 0 or len(sides) == 1


def _by_whole_forwards(loaded: LoadedModel, wanted: Continuation) -> NDArray[np.int64]:
    """Return the greedy continuation, computing each step by a forward of the whole length."""
    n = len(wanted.prompt)
    ids = torch.zeros((1, max(wanted.n_read, n + wanted.n_tokens - 1)), dtype=torch.int64)
    ids[0, :n] = torch.from_numpy(wanted.prompt)
    said = []
    for end in range(n, n + wanted.n_tokens):
        mask = (torch.arange(ids.shape[1])[None] < end).long()
        inputs = {} if loaded.fast else {"attention_mask": mask.to(loaded.device)}
        logits = loaded.model(input_ids=ids.to(loaded.device), use_cache=False, **inputs).logits
        said.append(int(logits[0, end - 1].argmax()))
        ids[0, end : end + 1] = said[-1]
    return np.asarray(said, dtype=np.int64)


def _same_shape(wanted: Sequence[Continuation], places: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of places in `wanted` with equal prompt length and number of tokens, 16 at most."""

    def shape(place: int) -> tuple[int, int]:
        return len(wanted[place].prompt), wanted[place].n_tokens

    todo = [place for place in places if wanted[place].n_tokens > 0]
    for _, group in groupby(sorted(todo, key=shape), key=shape):
        places = list(group)
        yield from (places[i : i + _AT_ONCE] for i in range(0, len(places), _AT_ONCE))


def matched(generated: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where generated and true tokens agree, shape (n_tokens,)."""
    return np.equal(generated, true[: len(generated)])


def lcp_tokens(agree: NDArray[np.bool_]) -> int:
    """Return the number of tokens before the first disagreement."""
    return int(np.cumprod(agree).sum())
