"""Optimizers: functions that propose candidate prompts of one length from the present ones.

`gcg`: swaps of one token, drawn evenly among those that the gradient ranks first at each position (Zou et
al. 2023, https://arxiv.org/abs/2307.15043). `random`: swaps of one token, drawn evenly (Andriushchenko et
al. 2024, https://arxiv.org/abs/2404.02151). `coordinate`: the swaps of one position that two things rank
first: a gradient averaged over random tokens there (Jones et al. 2023, https://arxiv.org/abs/2303.04381:
the gradient at one token says little of distant ones, the average says more), and what the tokens did to
the loss at that position in all prompts of the search so far (`Effects`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import Objective


@dataclass(frozen=True, slots=True)
class Best:
    """A prompt that is not a match, and its loss in nats per token."""

    prompt: Tensor
    loss: float


class Effects:
    """The effect of tokens on the loss at each position, over all walks of a search.

    Most of a loss is a sum over places: a token that lowers it after one prompt lowers it after most. So
    what was seen in other walks and at other lengths ranks tokens better than a gradient does. Places are
    counted from the end of the prompt, by which those of different lengths correspond.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def known(self) -> bool:
        """Whether anything was learned."""
        return bool(self._seen)

    def learn(self, from_end: int, tokens: Tensor, excess: Tensor) -> None:
        """Note losses in excess of those of random tokens there, nats; both shape (n,); infinite ones not."""
        finite = excess.isfinite()
        tokens, excess = tokens[finite], excess[finite]
        total, n = self._at(from_end)
        total.index_add_(0, tokens, excess)
        n.index_add_(0, tokens, torch.ones(len(tokens)))

    def expected(self, from_end: int) -> Tensor:
        """Return the excess to be expected of each token, nats, shape (vocabulary,); unseen: 0."""
        total, n = self._at(from_end)
        return total / (n + _DOUBT)

    def chances(self, from_end: int, allowed: Tensor) -> Tensor | None:
        """Return how often a start should hold each allowed token, shape (n_allowed,); None: evenly.

        The lower the loss to be expected, the more often: by exp of it, in parts of its own spread.
        """
        expected = self.expected(from_end)[allowed].double()
        seen = expected[self._at(from_end)[1][allowed] > 0]
        spread = float(seen.std(correction=0)) if len(seen) else 0.0
        return torch.softmax(-expected / (_WARMTH * spread), 0) if spread else None

    def _at(self, from_end: int) -> tuple[Tensor, Tensor]:
        zeros = (torch.zeros(self._vocabulary), torch.zeros(self._vocabulary))
        return self._seen.setdefault(from_end, zeros)


class Walks:
    """The states of walks of one length, side by side.

    Attributes:
        prompts: The present prompts, int64, shape (n_walks, n_tokens).
        stale: Of each walk the steps since its lowest loss.
        rng: Source of draws.
        n_candidates: Candidates of one step of one walk.
        top_k: Tokens of a position that are considered.
        effects: What is known of tokens from all walks of the search.
    """

    def __init__(
        self, starts: list[Best], rng: np.random.Generator, n_candidates: int, top_k: int, effects: Effects
    ) -> None:
        self.rng, self.n_candidates, self.top_k, self.effects = rng, n_candidates, top_k, effects
        self.prompts = torch.stack([start.prompt for start in starts])
        self.stale = [0] * len(starts)
        self._losses = [start.loss for start in starts]
        self._best = list(starts)
        self._tried = [{_key(start.prompt)} for start in starts]
        self._order: list[int] = []

    def take(self, walk: int, found: Best, *, only_downhill: bool) -> None:
        """Move a walk to the best candidate of its step: only downhill, or always."""
        if not only_downhill or found.loss < self._losses[walk]:
            self._stand(walk, found)
        better = found.loss < self._best[walk].loss
        self.stale[walk] = 0 if better else self.stale[walk] + 1
        if better:
            self._best[walk] = found

    def go_back(self, walk: int) -> None:
        """Continue a walk from its best prompt."""
        self._stand(walk, self._best[walk])
        self.stale[walk] = 0

    def restart(self, walk: int, start: Best) -> None:
        """Restart a walk from another prompt."""
        self._stand(walk, start)
        self.stale[walk], self._best[walk] = 0, start
        self._tried[walk] = {_key(start.prompt)}

    def next_place(self) -> int:
        """Return the position that comes next: each once in a round, in a random order.

        It is the same for all walks, so that what is before it is read once for all candidates of a walk.
        """
        if not self._order:
            self._order = [int(place) for place in self.rng.permutation(self.prompts.shape[1])]
        return self._order.pop()

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
        """Return the surviving candidates of each walk in turn."""
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
        learn: Called with the losses of the candidates that were evaluated, shape (n,), the first ones.
    """

    candidates: Candidates
    known: tuple[Candidates, Tensor] | None = None
    learn: Callable[[Tensor], None] = lambda _: None


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


_DOUBT = 1.0
"""Losses that what is seen of a token must outweigh: one loss of it is believed by half."""
_GRADIENT = 0.4
"""Weight of the gradient's ranks, in standard deviations of the probed losses: it explains less than half."""
_TINY = 1e-30
"""Where all gradients are alike they rank nothing."""
_WARMTH = 0.4
"""Starts hold a token e times as often for this many standard deviations of expected loss."""
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
    """Propose swaps of one position: a few random ones, and those that gradient and effects rank first."""
    allowed = objective.allowed.numpy()
    n_probed = min(_PROBED, len(allowed))
    n_walks, place = len(walks.prompts), walks.next_place()
    drawn = [torch.from_numpy(walks.rng.choice(allowed, n_probed, replace=False)) for _ in range(n_walks)]
    probed = Candidates.joined(
        [walks.swapped(walk, place, drawn[walk], n_probed) for walk in range(n_walks)], objective
    )
    if not len(probed.prompts):
        return Proposal(probed)
    losses, gradient = objective.gradient(probed.prompts)
    known = Candidates(probed.prompts[: len(losses)], probed.of[: len(losses)])
    total = torch.zeros(n_walks, gradient.shape[2]).index_add(0, known.of, gradient[:, place])
    n_of = torch.bincount(known.of, minlength=n_walks)
    usual = torch.zeros(n_walks).index_add(0, known.of, losses) / n_of
    spread = float((losses - usual[known.of]).std(correction=0))
    by_gradient = objective.scores(total)[:, objective.allowed]
    by_gradient -= by_gradient.mean(1, keepdim=True)
    by_gradient /= by_gradient.std(1, correction=0, keepdim=True).clamp_min(_TINY)
    from_end = walks.prompts.shape[1] - place
    scores = walks.effects.expected(from_end)[objective.allowed] + _GRADIENT * spread * by_gradient
    # Of twice as many as are wanted, enough were not tried.
    k = min(2 * walks.n_candidates, len(allowed))
    ranked = objective.allowed[scores.topk(k, largest=False).indices]
    best = [
        walks.swapped(walk, place, ranked[walk], walks.n_candidates if n_of[walk] else 0)
        for walk in range(n_walks)
    ]
    candidates = Candidates.joined(best, objective)

    def learn(of: Candidates, measured: Tensor) -> None:
        tokens, walk = of.prompts[: len(measured), place], of.of[: len(measured)]
        walks.effects.learn(from_end, tokens, measured - usual[walk])

    learn(known, losses)
    return Proposal(candidates, (known, losses), partial(learn, candidates))


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
