"""The shortest prompt that makes a model say a target: adversarial compression.

`search_prompt` is all that a unit of work needs. A length search (lengths.py) starts walks (walk.py), in
which an optimizer (optimizers.py) proposes candidates that the objective (objective.py) evaluates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memprobe.scoring.load import LoadedModel
from memprobe.scoring.search.lengths import Course, search_lengths
from memprobe.scoring.search.objective import Ids, Objective, Slot
from memprobe.scoring.search.optimizers import OPTIMIZERS
from memprobe.scoring.search.walk import Walker
from memprobe.tables.requests import Search

__all__ = ["Found", "Ids", "SearchProgress", "allowed_ids", "search_prompt"]


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The progress of a search.

    Attributes:
        n_tokens: Length that is being tried.
        best_loss_nats: Lowest loss at this length; None: none is known yet.
        n_matches: Candidates that matched so far.
        evaluations_used: Candidates evaluated, all seeds.
        budget: Candidates that may be evaluated, all seeds.
        best_tokens: Length of the shortest confirmed prompt; None: there is none.
    """

    n_tokens: int
    best_loss_nats: float | None
    n_matches: int
    evaluations_used: int
    budget: int
    best_tokens: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        prompt: Ids of the shortest confirmed prompt over the seeds, shape (n_tokens,); None: none was
            found, the result is censored.
        verified: Real greedy decoding of the prompt alone yields the target.
        evaluations_used: Candidates evaluated, all seeds.
        evaluations_to_best: Candidates that its seed had evaluated when the prompt was found.
        final_ce_nats: Mean cross-entropy of the target after the best prompt, nats per token; None: no
            prompt could be evaluated.
        censored_at_tokens: Longest length tried, where none was found.
        prompt_tokens_by_seed: Shortest confirmed length of each seed.
        n_refuted: Matches that real greedy decoding did not confirm.
        prompt_roundtrip: The prompt survives decode and encode; None: there is no tokenizer, or no prompt.
    """

    prompt: Ids | None
    verified: bool
    evaluations_used: int
    evaluations_to_best: int | None
    final_ce_nats: float | None
    censored_at_tokens: int | None
    prompt_tokens_by_seed: tuple[int | None, ...]
    n_refuted: int
    prompt_roundtrip: bool | None


def allowed_ids(tokenizer: Any | None, vocabulary: int) -> Ids:  # noqa: ANN401
    """Return the ids that a prompt may hold, ascending: none special, none that no text gives.

    Args:
        tokenizer: A transformers tokenizer; None: every id of the model.
        vocabulary: Rows of the model's embedding, which may be padded.
    """
    if tokenizer is None:
        return np.arange(vocabulary, dtype=np.int64)
    special = set(tokenizer.all_special_ids)
    added = {int(each) for each, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = np.array(sorted(set(tokenizer.get_vocab().values()) - special - added), dtype=np.int64)
    return known[known < vocabulary]


def search_prompt(  # noqa: PLR0913 - the slot is three strings of ids and two rules for a fourth
    loaded: LoadedModel,
    target: Ids,
    search: Search,
    *,
    head: Ids,
    tail: Ids,
    allowed: Ids,
    warm: Ids | None = None,
    survives: Callable[[Ids], bool] | None = None,
    on_step: Callable[[SearchProgress], None] = lambda _: None,
) -> Found:
    """Search the shortest prompt after which greedy decoding says the target.

    Args:
        loaded: The model.
        target: Ids to be said, shape (m,), m at least 1.
        search: How to search.
        head: Ids before the prompt, shape (n_head,): BOS, the head of a chat template.
        tail: Ids between prompt and target, shape (n_tail,).
        allowed: Ids that a prompt may hold, ascending.
        warm: A prompt to start from.
        survives: Whether a prompt survives decode and encode; None: there is no tokenizer.
        on_step: Called after each batch of candidates.

    Raises:
        CheckpointError: The model has no input embeddings.
        ValueError: The target is empty, or there is nothing a prompt could hold.

    Source: Schwarzschild et al. (2024), https://arxiv.org/abs/2404.15146.
    """
    if not len(target) or not len(allowed):
        raise ValueError("a search needs a target and ids that a prompt may hold")
    # Scoring runs in inference mode, in which nothing has a gradient.
    with torch.inference_mode(mode=False), torch.no_grad():
        runs: list[_Run] = []
        slot = Slot(target, head, tail, allowed, survives if search.roundtrip else None)
        for seed in search.seeds:
            runs.append(_Run(loaded, slot, search, on_step, tuple(runs)))
            runs[-1].go(seed, warm)
        return _best_of(runs, survives)


class _Run:
    """The search of one seed."""

    def __init__(
        self,
        loaded: LoadedModel,
        slot: Slot,
        search: Search,
        on_step: Callable[[SearchProgress], None],
        before: "tuple[_Run, ...]",
    ) -> None:
        self._search, self._on_step, self._before = search, on_step, before
        self._optimizer = OPTIMIZERS[search.optimizer]
        self.course = Course()
        self.objective = Objective(loaded, slot, budget=search.budget, on_evaluated=self._tell)
        self._walker: Walker | None = None

    def go(self, seed: int, warm: Ids | None) -> None:
        """Search until the budget is spent or nothing shorter is left."""
        longest = self._search.longest(len(self.objective.target))
        self._walker = Walker(self.objective, self._optimizer, self._search, seed)
        search_lengths(self._search.lengths, self._walker, self.course, warm, longest)

    def best_prompt(self) -> Ids | None:
        """Return the shortest prompt, or the one of lowest loss where none matched."""
        if self.course.prompt is not None or self._walker is None or not self._walker.best:
            return self.course.prompt
        best: Ids = min(self._walker.best.values(), key=lambda each: each.loss).prompt.numpy()
        return best

    def _tell(self) -> None:
        best = self._walker.best.get(self.course.n_tokens) if self._walker else None
        runs = (*self._before, self)
        lengths = [run.course.prompt_tokens for run in runs]
        self._on_step(
            SearchProgress(
                n_tokens=self.course.n_tokens,
                best_loss_nats=best.loss if best else None,
                n_matches=sum(run.objective.spent.n_matches for run in runs),
                evaluations_used=sum(run.objective.spent.evaluations for run in runs),
                budget=self._search.budget * len(self._search.seeds),
                best_tokens=min((each for each in lengths if each is not None), default=None),
            )
        )


def _best_of(runs: list[_Run], survives: Callable[[Ids], bool] | None) -> Found:
    """Return the shortest prompt of all seeds; of equal ones that of the first."""
    lengths = [run.course.prompt_tokens for run in runs]
    shortest = min((each for each in lengths if each is not None), default=None)
    best = None if shortest is None else runs[lengths.index(shortest)]
    prompt = best.course.prompt if best else None
    tried = (best or runs[0]).best_prompt()
    return Found(
        prompt=prompt,
        verified=prompt is not None,
        evaluations_used=sum(run.objective.spent.evaluations for run in runs),
        evaluations_to_best=best.course.evaluations_to_best if best else None,
        final_ce_nats=None if tried is None else runs[0].objective.cross_entropy(tried),
        censored_at_tokens=None if best else max(run.course.longest_tokens for run in runs),
        prompt_tokens_by_seed=tuple(lengths),
        n_refuted=sum(run.objective.spent.n_refuted for run in runs),
        prompt_roundtrip=None if prompt is None or survives is None else survives(prompt),
    )
