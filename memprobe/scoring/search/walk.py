"""One length: start somewhere, let the optimizer propose, evaluate, keep the best, stop when stale."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import Ids, Objective
from memprobe.scoring.search.optimizers import Optimizer, Walk
from memprobe.tables.requests import Search

_STARTS = 16
"""Random prompts of which the best is a walk's start."""


@dataclass(slots=True)
class Best:
    """The best prompt of one length that was no match."""

    prompt: Tensor
    loss: float


class Walker:
    """Walks at any length, and remembers the best of each.

    Attributes:
        best: Length in tokens to the best prompt of that length that was no match.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, search: Search, seed: int) -> None:
        self.objective, self._optimizer = objective, optimizer
        self.rng = np.random.default_rng(seed)
        self._n_candidates = search.n_candidates or optimizer.n_candidates
        self._top_k = search.top_k or optimizer.top_k
        self.best: dict[int, Best] = {}

    def random_start(self, n_tokens: int) -> Best | None:
        """Return the best of some random prompts; None where one of them matched."""
        allowed = self.objective.allowed.numpy()
        drawn = torch.from_numpy(self.rng.choice(allowed, (_STARTS, n_tokens)))
        return self.first(drawn)

    def first(self, prompts: Tensor) -> Best | None:
        """Return the best of some prompts; None where one of them matched, or none survives."""
        best = self.pick(prompts, 1)
        return best[0] if best else None

    def pick(self, prompts: Tensor, n: int) -> list[Best]:
        """Return the best n of some prompts, best first; none where one of them matched."""
        prompts = self.objective.surviving(prompts)
        losses = self.objective.losses(prompts) if len(prompts) else torch.zeros(0)
        if self.objective.match is not None:
            return []
        return [Best(prompts[place], float(losses[place])) for place in losses.argsort()[:n].tolist()]

    def kicked(self, n_tokens: int) -> Best | None:
        """Return the best prompt of a length with some tokens drawn anew; None where it matched."""
        prompt = self.best[n_tokens].prompt.clone()
        n_new = 1 if n_tokens < 4 else int(self.rng.integers(1, 1 + n_tokens // 2))
        places = self.rng.choice(n_tokens, n_new, replace=False)
        prompt[torch.from_numpy(places)] = torch.from_numpy(
            self.rng.choice(self.objective.allowed.numpy(), n_new)
        )
        return self.first(prompt[None])

    def walk(self, start: Best, limit: int, *, endless: bool = False) -> Ids | None:
        """Walk from a start until a match, staleness, or `limit` more evaluations.

        Args:
            start: Where to start.
            limit: Evaluations.
            endless: A stale walk goes back to its best prompt instead of ending.

        Returns:
            The confirmed match, or None.
        """
        objective, optimizer = self.objective, self._optimizer
        state = Walk(start.prompt, start.loss, self.rng, self._n_candidates, self._top_k)
        best, stale, begun = start, 0, objective.spent.evaluations
        patience = optimizer.patience * (len(start.prompt) if optimizer.only_downhill else 1)
        self._remember(best)
        while stale < patience and objective.spent.evaluations - begun < limit:
            taken = self._step(state)
            if objective.match is not None:
                return objective.take_match()
            if taken is None:
                # All neighbours were tried.
                return None
            if taken.loss < state.loss or not optimizer.only_downhill:
                state.prompt, state.loss = taken.prompt, taken.loss
            stale = stale + 1
            if taken.loss < best.loss:
                best, stale = taken, 0
                self._remember(best)
            if endless and stale == patience:
                state.prompt, state.loss, stale = best.prompt, best.loss, 0
        return None

    def _step(self, state: Walk) -> Best | None:
        """Return the best candidate of one step; None where none could be proposed."""
        proposal = self._optimizer.propose(self.objective, state)
        if self.objective.match is not None:
            return None
        prompts, losses = [], []
        if proposal.known is not None:
            prompts.append(proposal.known[0])
            losses.append(proposal.known[1])
        if len(proposal.prompts):
            found = self.objective.losses(proposal.prompts)
            prompts.append(proposal.prompts[: len(found)])
            losses.append(found.cpu())
        if not losses:
            return None
        every, of = torch.cat(losses), torch.cat(prompts)
        place = int(every.argmin())
        return Best(of[place], float(every[place]))

    def _remember(self, found: Best) -> None:
        n_tokens = len(found.prompt)
        if n_tokens not in self.best or found.loss < self.best[n_tokens].loss:
            self.best[n_tokens] = found
