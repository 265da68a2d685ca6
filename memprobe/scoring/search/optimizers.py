"""Optimizers: functions that propose candidate prompts of one length from the present one.

`gcg`: swaps of one token, drawn evenly among those that the gradient ranks first at each position (Zou et
al. 2023, https://arxiv.org/abs/2307.15043). `random`: swaps of one token, drawn evenly (Andriushchenko et
al. 2024, https://arxiv.org/abs/2404.02151). `coordinate`: the swaps of one position that a gradient
averaged over random tokens there ranks first (Jones et al. 2023, https://arxiv.org/abs/2303.04381): the
gradient at one token says little of distant ones, the average says more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import LossName, Objective


@dataclass(slots=True)
class Walk:
    """Where an optimizer stands at one length.

    Attributes:
        prompt: The present prompt, int64, shape (n_tokens,).
        loss: Its loss.
        rng: Source of draws.
        n_candidates: Candidates of one step.
        top_k: Tokens of a position that are considered.
        tried: Prompts that were evaluated: none is proposed twice.
        order: Positions still to come in this round, for `coordinate`.
    """

    prompt: Tensor
    loss: float
    rng: np.random.Generator
    n_candidates: int
    top_k: int
    tried: set[bytes] = field(default_factory=set)
    order: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidates of one step.

    Attributes:
        prompts: To be evaluated, int64, shape (n_candidates, n_tokens); may be empty.
        known: Candidates that were evaluated while proposing, with their losses.
    """

    prompts: Tensor
    known: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How candidates are proposed and taken.

    Attributes:
        propose: From the objective and the walk to candidates.
        loss: What they are compared by.
        n_candidates: Candidates of one step, where none are asked for.
        top_k: Tokens of a position that are considered, where none are asked for.
        only_downhill: Only a candidate of lower loss is taken; else the best of each step is.
        patience: Steps without a new lowest loss after which a walk ends, per token of the prompt where
            it goes downhill only.
    """

    propose: Callable[[Objective, Walk], Proposal]
    loss: LossName
    n_candidates: int
    top_k: int
    only_downhill: bool
    patience: int


_PROBED = 8
"""Random tokens over which `coordinate` averages the gradient; they are candidates too."""


def propose_gcg(objective: Objective, walk: Walk) -> Proposal:
    """Propose single swaps among the tokens that the gradient ranks first at each position."""
    _, gradient = objective.gradient(walk.prompt[None])
    if objective.match is not None:
        return Proposal(walk.prompt[None][:0])
    scores = _banned(objective, gradient)
    scores[torch.arange(len(walk.prompt)), walk.prompt] = torch.inf
    k = min(walk.top_k, max(1, len(objective.allowed) - 1))
    top = scores.topk(k, dim=1, largest=False).indices
    return Proposal(_swaps(objective, walk, lambda place, draw: int(top[place, draw % k])))


def propose_random(objective: Objective, walk: Walk) -> Proposal:
    """Propose single swaps drawn evenly over positions and tokens."""
    n = len(objective.allowed)
    return Proposal(_swaps(objective, walk, lambda _, draw: int(objective.allowed[draw % n])))


def propose_coordinate(objective: Objective, walk: Walk) -> Proposal:
    """Propose swaps of one position: a few random ones, and those that their mean gradient ranks first."""
    if not walk.order:
        walk.order = [int(place) for place in walk.rng.permutation(len(walk.prompt))]
    place = walk.order.pop()
    n_probed = min(_PROBED, len(objective.allowed))
    tokens = torch.from_numpy(walk.rng.choice(objective.allowed.numpy(), n_probed, replace=False))
    probed = objective.surviving(_with_tokens(walk.prompt, place, tokens))
    if not len(probed):
        return Proposal(probed)
    losses, gradient = objective.gradient(probed)
    known = (probed[: len(losses)], losses)
    if objective.match is not None:
        return Proposal(walk.prompt[None][:0], known)
    scores = _banned(objective, gradient)[place]
    scores[walk.prompt[place]] = torch.inf
    scores[probed[:, place]] = torch.inf
    k = min(walk.n_candidates, int(torch.isfinite(scores).sum()))
    best = scores.topk(k, largest=False).indices
    return Proposal(objective.surviving(_with_tokens(walk.prompt, place, best)), known)


def _with_tokens(prompt: Tensor, place: int, tokens: Tensor) -> Tensor:
    """Return the prompt with each of some tokens at one place."""
    rows = prompt.repeat(len(tokens), 1)
    rows[:, place] = tokens
    return rows


def _banned(objective: Objective, gradient: Tensor) -> Tensor:
    """Return the gradient with infinity at tokens that a prompt may not hold."""
    scores = torch.full_like(gradient, torch.inf)
    scores[:, objective.allowed] = gradient[:, objective.allowed]
    return scores


def _swaps(objective: Objective, walk: Walk, token: Callable[[int, int], int]) -> Tensor:
    """Return swaps of one token that were not tried, in the order of their place, which shares prefixes."""
    n = len(walk.prompt)
    made: list[tuple[int, Tensor]] = []
    # Where nearly all neighbours were tried, few draws are new.
    for _ in range(4 * walk.n_candidates):
        place, draw = int(walk.rng.integers(n)), int(walk.rng.integers(2**31))
        swapped = walk.prompt.clone()
        swapped[place] = token(place, draw)
        key = swapped.numpy().tobytes()
        if key in walk.tried:
            continue
        walk.tried.add(key)
        made.append((place, swapped))
        if len(made) == walk.n_candidates:
            break
    made.sort(key=lambda each: each[0])
    rows = torch.stack([each for _, each in made]) if made else walk.prompt[None][:0]
    return objective.surviving(rows)


OPTIMIZERS = {
    "coordinate": Optimizer(
        propose_coordinate, "margin", n_candidates=32, top_k=0, only_downhill=True, patience=1
    ),
    "gcg": Optimizer(
        propose_gcg, "cross_entropy", n_candidates=100, top_k=250, only_downhill=False, patience=60
    ),
    "random": Optimizer(
        propose_random, "cross_entropy", n_candidates=100, top_k=0, only_downhill=True, patience=60
    ),
}
