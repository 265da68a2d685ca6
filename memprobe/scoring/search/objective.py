"""How far a prompt is from making the model say a target: losses, exact matches, gradients, and their count.

The sequence is head, prompt, tail, target; only the prompt is free. Candidates of one call have one
length; tokens that all of them, or runs of neighbours, share at the front are read once for all of them.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memprobe.errors import CheckpointError
from memprobe.scoring.generate import Continuation, greedy
from memprobe.scoring.load import LoadedModel
from memprobe.scoring.prefix import cache_of, can_share, for_rows, picked, shared_in_runs

Ids = NDArray[np.int64]

# Logits of the candidates that are held at once.
LOGIT_BYTES = 256 * 2**20


class BudgetSpentError(Exception):
    """The last candidate that may be evaluated was."""


@dataclass(slots=True)
class Spent:
    """The evaluations that a search used so far.

    Attributes:
        evaluations: Candidates evaluated.
        n_matches: Candidates whose every target token leads.
        n_refuted: Matches that real greedy decoding, alone, did not confirm.
    """

    evaluations: int = 0
    n_matches: int = 0
    n_refuted: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a prompt in the sequence, and the tokens it may hold.

    Attributes:
        target: Ids to be said, shape (m,).
        head: Ids before the prompt, shape (n_head,).
        tail: Ids between prompt and target, shape (n_tail,).
        allowed: Ids that a prompt may hold, ascending.
        survives: Whether a prompt survives decode and encode; None: any may be proposed.
    """

    target: Ids
    head: Ids
    tail: Ids
    allowed: Ids
    survives: Callable[[Ids], bool] | None = None


class Objective:
    """One target under one model, with a budget.

    Attributes:
        target: Target ids, shape (m,).
        allowed: Ids that a prompt may hold, ascending.
        spent: What was used so far.
        match: The first confirmed match since it was last taken; None: there is none.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        slot: Slot,
        *,
        budget: int,
        on_evaluated: Callable[[], None] = lambda: None,
    ) -> None:
        self._loaded, self._slot = loaded, slot
        self.target, self.allowed = slot.target, torch.from_numpy(slot.allowed)
        self._budget, self._on_evaluated = budget, on_evaluated
        self._lost = 0
        self.spent = Spent()
        self.match: Ids | None = None
        self._embedding = _embedding(loaded)
        self._keeps = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
        self._prefix: tuple[tuple[int, ...], Any] = ((), None)
        self._continues = can_share(loaded, self._read)

    @property
    def left(self) -> int:
        """Candidates that may still be evaluated."""
        return self._budget - self.spent.evaluations

    @property
    def vocabulary(self) -> int:
        """Ids that the input embedding knows."""
        return len(self._embedding.weight)

    def survive(self, prompts: Tensor) -> Tensor:
        """Return whether each candidate survives decode and encode, where that is asked for; shape (n,).

        Raises:
            BudgetSpentError: As many as the budget holds did not survive, one behind the other.
        """
        if self._slot.survives is None:
            return torch.ones(len(prompts), dtype=torch.bool)
        kept = [self._slot.survives(row.numpy()) for row in prompts]
        self._lost = 0 if any(kept) else self._lost + len(kept)
        if self._lost > self._budget:
            raise BudgetSpentError
        return torch.tensor(kept, dtype=torch.bool)

    def losses(self, prompts: Tensor) -> Tensor:
        """Return the loss of each candidate, shape (n_candidates,); a match is noted.

        Args:
            prompts: Token ids, int64, shape (n_candidates, n_tokens).

        Raises:
            BudgetSpentError: No candidate may be evaluated any more; where only some may, they are.
        """
        prompts, parts = self._affordable(prompts), []
        for some in torch.split(prompts, self._at_once):
            with torch.no_grad():
                loss, hits = self._judge(self._logits(some))
            parts.append(loss.cpu())
            self._note(some, hits)
        self._on_evaluated()
        return torch.cat(parts)

    def gradient(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each candidate and its gradient by the embeddings of the prompt's tokens.

        Returns:
            Losses, shape (n_candidates,); gradients, shape (n_candidates, n_tokens, hidden). They count as
            evaluated.
        """
        prompts, parts = self._affordable(prompts), []
        device = self._loaded.device
        for some in torch.split(prompts, self._at_once):
            with torch.enable_grad():
                free = self._embedding(some.to(device)).detach().requires_grad_(requires_grad=True)
                around = [self._embedding(torch.from_numpy(ids).to(device)) for ids in self._around()]
                front, behind = (each.detach().expand(len(some), *each.shape) for each in around)
                inputs = torch.cat([front, free, behind], dim=1)
                loss, hits = self._judge(self._call(inputs_embeds=inputs, use_cache=False))
                (by_embedding,) = torch.autograd.grad(loss.sum(), free)
            parts.append((loss.detach().cpu(), by_embedding.float().cpu()))
            self._note(some, hits)
        self._on_evaluated()
        losses, gradients = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(gradients)

    def scores(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the tokens' one-hot codes: lower where putting the token should help.

        Args:
            gradient: By the embeddings, shape (..., hidden).

        Returns:
            Shape (..., vocabulary); infinity at tokens that a prompt may not hold.
        """
        weight = self._embedding.weight.detach().float()
        of = (gradient.to(weight.device) @ weight.T).cpu()
        scores = torch.full_like(of, torch.inf)
        scores[..., self.allowed] = of[..., self.allowed]
        return scores

    def cross_entropy(self, prompt: Ids) -> float:
        """Return the mean cross-entropy of the target after a prompt, in nats; it is not counted."""
        with torch.no_grad():
            logits = self._logits(torch.from_numpy(prompt)[None])
            wanted = torch.from_numpy(self.target).to(logits.device)
            return float(torch.nn.functional.cross_entropy(logits[0].float(), wanted))

    def take_match(self) -> Ids | None:
        """Return the match that was found, and forget it."""
        found, self.match = self.match, None
        return found

    @property
    def _at_once(self) -> int:
        """Candidates whose logits are held at once."""
        return max(1, LOGIT_BYTES // (4 * len(self.target) * self._loaded.vocabulary))

    def _affordable(self, prompts: Tensor) -> Tensor:
        if self.left <= 0:
            raise BudgetSpentError
        prompts = prompts[: self.left]
        self.spent.evaluations += len(prompts)
        return prompts

    def _around(self) -> tuple[Ids, Ids]:
        """Return what is before and behind the prompt; the last target token is never read."""
        return self._slot.head, np.concatenate([self._slot.tail, self.target[:-1]])

    def _call(self, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Return the logits that predict the target, shape (n, m, vocabulary)."""
        m = len(self.target)
        kept = {"logits_to_keep": m} if self._keeps else {}
        logits: Tensor = self._loaded.model(**inputs, **kept).logits
        return logits[:, -m:]

    def _logits(self, prompts: Tensor) -> Tensor:
        device, n = self._loaded.device, len(prompts)
        head, behind = self._around()
        rows = torch.cat(
            [torch.from_numpy(head).expand(n, -1), prompts, torch.from_numpy(behind).expand(n, -1)], dim=1
        )
        # The position before the target must be read, whatever is shared.
        front = rows[:, : rows.shape[1] - len(self.target)]
        n_shared, past = self._past(front, rows.shape[1]) if self._shared(rows.shape[1]) else (0, None)
        if past is None:
            return self._call(input_ids=rows.to(device), use_cache=False)
        return self._call(input_ids=rows[:, n_shared:].to(device), past_key_values=past, use_cache=True)

    def _shared(self, n_tokens: int) -> bool:
        """Whether rows may be read behind a cache, which every shorter call must then agree with."""
        return self._continues and self._loaded.borders.side(n_tokens) == self._loaded.borders.side(1)

    def _past(self, front: Tensor, n_tokens: int) -> tuple[int, Any]:
        """Return how many tokens of rows are read apart, and their cache, row by row; 0 and None: none.

        Args:
            front: The tokens of each row that may be shared, shape (n_rows, n).
            n_tokens: Of a whole row.
        """
        n, device = len(front), self._loaded.device
        n_all, n_run, first = shared_in_runs(front, n_tokens)
        past = None
        if n_all:
            key = tuple(front[0, :n_all].tolist())
            if self._prefix[0] != key:
                self._prefix = (key, self._cached(front[:1, :n_all].to(device)))
            past = self._prefix[1]
            if past is None:
                return 0, None
        if n_run == n_all:
            return n_all, None if past is None else for_rows(past, n)
        before = None if past is None else for_rows(past, len(first))
        runs = self._cached(front[first, n_all:n_run].to(device), before)
        if runs is None:
            return 0, None
        of = torch.zeros(n, dtype=torch.long).index_fill(0, first[1:], 1).cumsum(0)
        return n_run, picked(runs, of.to(device))

    def _cached(self, prefixes: Tensor, past: Any = None) -> Any:  # noqa: ANN401
        """Return the cache of some tokens; None where the model's cannot be continued twice."""
        cache = cache_of(self._read, prefixes, past)
        self._continues = cache is not None
        return cache

    @property
    def _read(self) -> Callable[..., Any]:
        """Reads tokens into a cache, with as few logits as possible."""
        return partial(self._loaded.model, logits_to_keep=1) if self._keeps else self._loaded.model

    def _judge(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row and whether all target tokens lead; logits (n, m, vocabulary)."""
        logits = logits.float()
        wanted = torch.from_numpy(self.target).to(logits.device).expand(logits.shape[:2])[..., None]
        true = logits.gather(-1, wanted)[..., 0]
        hits = (logits.argmax(-1) == wanted[..., 0]).all(-1)
        return (torch.logsumexp(logits, -1) - true).mean(-1), hits.cpu()

    def _note(self, prompts: Tensor, hits: Tensor) -> None:
        """Keep the first match that real greedy decoding, alone, confirms."""
        for prompt in prompts[hits]:
            self.spent.n_matches += 1
            if self.match is not None:
                continue
            if self.says_target(prompt.numpy()):
                self.match = prompt.numpy()
            else:
                self.spent.n_refuted += 1

    def says_target(self, prompt: Ids) -> bool:
        """Whether real greedy decoding of this prompt alone yields the target."""
        given = np.concatenate([self._slot.head, prompt, self._slot.tail])
        (said,) = greedy(self._loaded, [Continuation(given, self.target, len(self.target))])
        return bool(np.array_equal(said, self.target))


def _embedding(loaded: LoadedModel) -> Any:  # noqa: ANN401
    """Return the input embedding.

    Raises:
        CheckpointError: The model has none, or none with one row per token.
    """
    try:
        embedding = loaded.model.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    weight = getattr(embedding, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise CheckpointError(
            "the model has no input embeddings, whose gradients the search needs",
            fix="leave compression out for this model",
        )
    return embedding
