"""Optimizers: functions that propose candidate prompts of one length from the present ones.

`gcg`: swaps of one token, drawn evenly among those that the gradient ranks first at each position (Zou et
al. 2023, https://arxiv.org/abs/2307.15043). `random`: swaps of one token, drawn evenly (Andriushchenko et
al. 2024, https://arxiv.org/abs/2404.02151). `coordinate`: the swaps of one position that a gradient
averaged over random tokens there ranks first (Jones et al. 2023, https://arxiv.org/abs/2303.04381): the
gradient at one token says little of distant ones, the average says more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import Objective


@dataclass(frozen=True, slots=True)
class Best:
    """A prompt that is no match, and its loss in nats per token."""

    prompt: Tensor
    loss: float


class Walks:
    """Where walks of one length stand, side by side.

    Attributes:
        prompts: The present prompts, int64, shape (n_walks, n_tokens).
        stale: Of each walk the steps since its lowest loss.
        rng: Source of draws.
        n_candidates: Candidates of one step of one walk.
        top_k: Tokens of a position that are considered.
    """

    def __init__(self, starts: list[Best], rng: np.random.Generator, n_candidates: int, top_k: int) -> None:
        self.rng, self.n_candidates, self.top_k = rng, n_candidates, top_k
        self.prompts = torch.stack([start.prompt for start in starts])
        self.stale = [0] * len(starts)
        self._losses = [start.loss for start in starts]
        self._best = list(starts)
        self._tried = [{_key(start.prompt)} for start in starts]
        self._order: list[list[int]] = [[] for _ in starts]

    def take(self, walk: int, found: Best, *, only_downhill: bool) -> None:
        """Let a walk go to the best candidate of its step, downhill only or wherever that is."""
        if not only_downhill or found.loss < self._losses[walk]:
            self._stand(walk, found)
        better = found.loss < self._best[walk].loss
        self.stale[walk] = 0 if better else self.stale[walk] + 1
        if better:
            self._best[walk] = found

    def go_back(self, walk: int) -> None:
        """Let a walk go on from its best prompt."""
        self._stand(walk, self._best[walk])
        self.stale[walk] = 0

    def restart(self, walk: int, start: Best) -> None:
        """Let a walk begin anew elsewhere."""
        self._stand(walk, start)
        self.stale[walk], self._best[walk] = 0, start
        self._tried[walk], self._order[walk] = {_key(start.prompt)}, []

    def next_place(self, walk: int) -> int:
        """Return the position that comes next: each once in a round, in a random order."""
        if not self._order[walk]:
            self._order[walk] = [int(place) for place in self.rng.permutation(self.prompts.shape[1])]
        return self._order[walk].pop()

    def untried(self, walk: int, rows: Iterable[Tensor], most: int) -> Tensor:
        """Return the first rows, at most so many, that a walk did not try; from now on it did."""
        kept: list[Tensor] = []
        tried = self._tried[walk]
        for row in rows:
            if len(kept) == most:
                break
            if (key := _key(row)) not in tried:
                tried.add(key)
                kept.append(row)
        return torch.stack(kept) if kept else self.prompts[:0]

    def swapped(self, walk: int, place: int, tokens: Tensor, most: int) -> Tensor:
        """Return a walk's prompt with each of some tokens at one place; see `untried`."""
        rows = self.prompts[walk].repeat(len(tokens), 1)
        rows[:, place] = tokens
        return self.untried(walk, rows, most)

    def _stand(self, walk: int, at: Best) -> None:
        self.prompts[walk], self._losses[walk] = at.prompt, at.loss


def _key(prompt: Tensor) -> bytes:
    return prompt.numpy().tobytes()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Prompts that a step of the walks may go to.

    Attributes:
        prompts: int64, shape (n, n_tokens); may be empty.
        of: Which walk each is a neighbour of, shape (n,).
    """

    prompts: Tensor
    of: Tensor

    @classmethod
    def joined(cls, by_walk: list[Tensor], objective: Objective) -> "Candidates":
        """Return those of each walk in turn that survive, where that is asked for."""
        prompts = torch.cat(by_walk)
        of = torch.repeat_interleave(torch.tensor([len(rows) for rows in by_walk]))
        kept = objective.survive(prompts)
        return cls(prompts[kept], of[kept])


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidates of one step.

    Attributes:
        candidates: To be evaluated.
        known: Candidates that were evaluated while proposing, with their losses, shape (n,).
    """

    candidates: Candidates
    known: tuple[Candidates, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How candidates are proposed and taken.

    Attributes:
        propose: From the objective and the walks to candidates.
        n_candidates: Candidates of one step of one walk, where none are asked for.
        top_k: Tokens of a position that are considered, where none are asked for.
        only_downhill: Only a candidate of lower loss is taken; else the best of each step is.
        patience: Steps without a new lowest loss after which a walk is stale, per token of the prompt where
            it goes downhill only.
    """

    propose: Callable[[Objective, Walks], Proposal]
    n_candidates: int
    top_k: int
    only_downhill: bool
    patience: int

    def patience_steps(self, n_tokens: int) -> int:
        """Return the steps without a new lowest loss after which a walk is stale."""
        return self.patience * (n_tokens if self.only_downhill else 1)

    def usual_steps(self, n_tokens: int) -> int:
        """Return about how many steps a walk takes until it is stale."""
        return 5 * self.patience_steps(n_tokens) // 2


_PROBED = 8
"""Random tokens over which `coordinate` averages the gradient; they are candidates too."""


def propose_gcg(objective: Objective, walks: Walks) -> Proposal:
    """Propose single swaps among the tokens that the gradient ranks first at each position."""
    _, gradient = objective.gradient(walks.prompts)
    k = min(walks.top_k, len(objective.allowed))
    top = objective.scores(gradient).topk(k, largest=False).indices
    return Proposal(Candidates.joined([_swaps(walks, walk, of) for walk, of in enumerate(top)], objective))


def propose_random(objective: Objective, walks: Walks) -> Proposal:
    """Propose single swaps drawn evenly over positions and tokens."""
    any_token = objective.allowed.expand(walks.prompts.shape[1], -1)
    swaps = [_swaps(walks, walk, any_token) for walk in range(len(walks.prompts))]
    return Proposal(Candidates.joined(swaps, objective))


def propose_coordinate(objective: Objective, walks: Walks) -> Proposal:
    """Propose swaps of one position: a few random ones, and those that their mean gradient ranks first."""
    allowed = objective.allowed.numpy()
    n_probed = min(_PROBED, len(allowed))
    places = [walks.next_place(walk) for walk in range(len(walks.prompts))]
    drawn = [torch.from_numpy(walks.rng.choice(allowed, n_probed, replace=False)) for _ in places]
    probed = Candidates.joined(
        [walks.swapped(walk, place, drawn[walk], n_probed) for walk, place in enumerate(places)], objective
    )
    if not len(probed.prompts):
        return Proposal(probed)
    losses, gradient = objective.gradient(probed.prompts)
    known = Candidates(probed.prompts[: len(losses)], probed.of[: len(losses)])
    at_place = gradient[torch.arange(len(losses)), torch.tensor(places)[known.of]]
    # The sum over a walk's probes ranks as their mean does.
    total = torch.zeros(len(places), at_place.shape[1]).index_add(0, known.of, at_place)
    # Of twice as many as are wanted, enough were not tried.
    k = min(2 * walks.n_candidates, len(allowed))
    ranked = objective.scores(total).topk(k, largest=False).indices
    best = [
        walks.swapped(walk, place, ranked[walk], walks.n_candidates if (known.of == walk).any() else 0)
        for walk, place in enumerate(places)
    ]
    return Proposal(Candidates.joined(best, objective), (known, losses))


def _swaps(walks: Walks, walk: int, tokens: Tensor) -> Tensor:
    """Return swaps that were not tried, in the order of their place, which shares prefixes.

    Args:
        walks: The walks.
        walk: Which one.
        tokens: At each position those to draw from, shape (n_tokens, n).
    """
    prompt = walks.prompts[walk]

    def drawn() -> Iterator[Tensor]:
        # Where nearly all neighbours were tried, few draws are new.
        for _ in range(4 * walks.n_candidates):
            place, draw = (int(walks.rng.integers(n)) for n in tokens.shape)
            swapped = prompt.clone()
            swapped[place] = tokens[place, draw]
            yield swapped

    rows = walks.untried(walk, drawn(), walks.n_candidates)
    return rows[(rows != prompt).long().argmax(1).argsort(stable=True)]


OPTIMIZERS = {
    "coordinate": Optimizer(propose_coordinate, n_candidates=32, top_k=0, only_downhill=True, patience=2),
    "gcg": Optimizer(propose_gcg, n_candidates=100, top_k=250, only_downhill=False, patience=60),
    "random": Optimizer(propose_random, n_candidates=100, top_k=0, only_downhill=True, patience=60),
}
