"""One length: walks side by side that propose, evaluate, keep their best, and restart when stale."""

from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import Ids, Objective
from memprobe.scoring.search.optimizers import Best, Effects, Optimizer, Walks
from memprobe.tables.requests import Search

_MOST_WALKS = 8
"""Side by side they fill a batch; of more, each would get too little of a usual budget."""

_CUTS = 16
"""Cuts of a prompt that are tried at most, unless they lack one token only."""

_OWN = 4
"""Starts made of the target's own tokens, of which a model that copies needs no others."""

_EVENLY = 0.25
"""Share of starts that are drawn evenly, lest walks begin only where others were."""


class Walker:
    """Walks at any length, and remembers the best of each.

    Attributes:
        best: Length in tokens to the best prompt of that length that was no match.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, search: Search, seed: int) -> None:
        self.objective, self._optimizer = objective, optimizer
        self._rng = np.random.default_rng(seed)
        self._n_candidates = search.n_candidates or optimizer.n_candidates
        self._top_k = search.top_k or optimizer.top_k
        self._effects = Effects(objective.vocabulary)
        self.best: dict[int, Best] = {}

    def random_prompts(self, n: int, n_tokens: int) -> Tensor:
        """Return prompts drawn from what is allowed, shape (n, n_tokens).

        Tokens that lowered the loss before come more often, where the optimizer learned of any.
        """
        allowed = self.objective.allowed
        prompts = torch.from_numpy(self._rng.choice(allowed.numpy(), (n, n_tokens)))
        learned = self._rng.random(n) >= _EVENLY if self._effects.known else np.zeros(n, dtype=bool)
        for place in range(n_tokens if learned.any() else 0):
            chances = self._effects.chances(n_tokens - place, allowed)
            if chances is not None:
                drawn = self._rng.choice(allowed.numpy(), n, p=chances.numpy())
                prompts[learned, place] = torch.from_numpy(drawn[learned])
        return prompts

    def starts(self, n: int, n_tokens: int) -> Tensor:
        """Return random prompts, and some of the target's own tokens, shape (n + up to 4, n_tokens).

        Short ones are cuts of the target; long ones end with it, and repeat it before that.
        """
        target = self.objective.target
        own = target[np.isin(target, self.objective.allowed.numpy())]
        prompts = self.random_prompts(n, n_tokens)
        if not len(own):
            return prompts
        if n_tokens >= len(own):
            repeated = np.tile(own, -(-n_tokens // len(own)))[-n_tokens:]
            return torch.cat([prompts, torch.from_numpy(repeated)[None]])
        cuts = self.cuts(own, n_tokens)
        return torch.cat([prompts, cuts[self._rng.permutation(len(cuts))[:_OWN]]])

    def cuts(self, prompt: Ids, n_tokens: int) -> Tensor:
        """Return a prompt without some of its tokens, each time others, int64, shape (n, n_tokens).

        All that lack one token; of those that lack more, some at random where they are many.
        """
        if comb(len(prompt), n_tokens) <= max(_CUTS, len(prompt)):
            kept = list(combinations(range(len(prompt)), n_tokens))
        else:
            draws = (self._rng.choice(len(prompt), n_tokens, replace=False) for _ in range(_CUTS))
            kept = sorted({tuple(sorted(draw.tolist())) for draw in draws})
        return torch.from_numpy(prompt[np.array(kept)])

    def n_walks(self, n_tokens: int, limit: int) -> int:
        """Return how many walks side by side come to an end within some evaluations."""
        return max(1, min(_MOST_WALKS, limit // (self._optimizer.usual_steps(n_tokens) * self._n_candidates)))

    def evaluate(self, prompts: Tensor) -> Ids | None:
        """Return the confirmed match among some prompts, or None."""
        self._evaluated(prompts)
        return self.objective.take_match()

    def walk(self, starts: Tensor, limit: int, *, n_walks: int = 1, endless: bool = False) -> Ids | None:
        """Walk from the best of some starts until a match, or until so many evaluations were used.

        Args:
            starts: Prompts, int64, shape (n_starts, n_tokens).
            limit: Evaluations, those of the starts among them.
            n_walks: Walks side by side, at most.
            endless: One walk, which goes back to its best prompt when stale instead of restarting.

        Returns:
            The confirmed match, or None.
        """
        objective, begun = self.objective, self.objective.spent.evaluations
        n_tokens = starts.shape[1]
        standing = self._evaluated(starts)[:n_walks]
        if objective.match is not None or not standing:
            return objective.take_match()
        walks = Walks(standing, self._rng, self._n_candidates, self._top_k, self._effects)
        patience = self._optimizer.patience_steps(n_tokens)
        while objective.match is None and objective.spent.evaluations - begun < limit:
            moved = self._step(walks)
            for walk, found in enumerate(moved):
                if found is None:
                    # All neighbours were tried.
                    walks.stale[walk] = patience
                else:
                    walks.take(walk, found, only_downhill=self._optimizer.only_downhill)
            ended = [walk for walk, steps in enumerate(walks.stale) if steps >= patience]
            if objective.match is not None or not ended:
                continue
            if not endless:
                again = self._evaluated(self.random_prompts(len(ended), n_tokens))
                # Those for which none survived try again after the next step.
                for walk, new in zip(ended, again, strict=False):
                    walks.restart(walk, new)
            elif moved == [None]:
                break
            else:
                walks.go_back(0)
        return objective.take_match()

    def _evaluated(self, prompts: Tensor) -> list[Best]:
        """Return those prompts that survive and can be afforded with their losses, best first."""
        prompts = prompts[self.objective.survive(prompts)]
        losses = self.objective.losses(prompts) if len(prompts) else torch.zeros(0)
        order = losses.argsort(stable=True).tolist()
        found = [Best(prompts[place], float(losses[place])) for place in order]
        if found:
            self._remember(found[0])
        return found

    def _step(self, walks: Walks) -> list[Best | None]:
        """Return the best candidate of one step of each walk; None where none could be proposed."""
        proposal = self._optimizer.propose(self.objective, walks)
        measured = [] if proposal.known is None else [proposal.known]
        candidates = proposal.candidates
        if len(candidates.prompts) and self.objective.match is None:
            losses = self.objective.losses(candidates.prompts)
            proposal.learn(losses)
            measured.append((candidates, losses))
        found: list[Best | None] = [None] * len(walks.prompts)
        for some, losses in measured:
            # The budget may have held for the first only.
            for prompt, walk, loss in zip(some.prompts, some.of.tolist(), losses.tolist(), strict=False):
                if (before := found[walk]) is None or loss < before.loss:
                    found[walk] = Best(prompt, loss)
        for each in found:
            if each is not None:
                self._remember(each)
        return found

    def _remember(self, found: Best) -> None:
        n_tokens = len(found.prompt)
        if n_tokens not in self.best or found.loss < self.best[n_tokens].loss:
            self.best[n_tokens] = found
