"""Which lengths are tried, in what order: MiniPrompt as published, and a bracket from long to short.

MiniPrompt: Schwarzschild et al. (2024), https://arxiv.org/abs/2404.15146. That shorter prompts are harder
to find is a rule without proof, so the bracket goes on below a length that failed; it ends where all
prompts of one token were tried.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from memprobe.scoring.search.objective import BudgetSpentError, Ids
from memprobe.scoring.search.walk import Best, Walker

_MINIPROMPT_START, _MINIPROMPT_STEP, _MINIPROMPT_GROWTH = 5, 5, 1.2
_MINIPROMPT_STEPS, _MINIPROMPT_CANDIDATES = 200, 100

# Shares of the target's length that are tried in turn until something matches; evaluations of each, at most,
# and lengths that a budget reaches at least.
_FIRST_SHARES, _FIRST_EVALUATIONS = (0.75, 0.4, 1.25, 2.0), 2_000
_FEWEST_TRIES = 8
# Evaluations at one length below the shortest prompt, in the first try; later tries have more.
_SHORTER_EVALUATIONS = 600
_BEST_DELETIONS = 3


@dataclass(slots=True)
class Course:
    """What a search over lengths came to.

    Attributes:
        prompt: The shortest prompt that was confirmed; None: none was.
        evaluations_to_best: Evaluations used when it was found.
        longest_tokens: The longest length that was tried.
        n_tokens: The length that is being tried.
    """

    prompt: Ids | None = None
    evaluations_to_best: int | None = None
    longest_tokens: int = 0
    n_tokens: int = 0

    @property
    def prompt_tokens(self) -> int | None:
        """Length of the shortest confirmed prompt."""
        return None if self.prompt is None else len(self.prompt)

    def trying(self, n_tokens: int) -> None:
        """Note the length that is tried next."""
        self.n_tokens = n_tokens
        self.longest_tokens = max(self.longest_tokens, n_tokens)

    def found(self, prompt: Ids, evaluations: int) -> None:
        """Note a confirmed prompt, if it is the shortest."""
        if self.prompt is None or len(prompt) < len(self.prompt):
            self.prompt, self.evaluations_to_best = prompt, evaluations


def miniprompt(walker: Walker, course: Course, warm: Ids | None, max_tokens: int) -> None:
    """Try 5 tokens; after a success one less, after a failure 5 more with a fifth more steps; until known."""
    lower, upper = 0, max_tokens + 1
    n_tokens, limit = min(_MINIPROMPT_START, max_tokens), _MINIPROMPT_STEPS * _MINIPROMPT_CANDIDATES
    start = _warm_start(walker, warm, max_tokens)
    if warm is not None and (start is not None or walker.objective.match is not None):
        n_tokens = len(warm)
    while lower < n_tokens < upper:
        course.trying(n_tokens)
        if start is None and walker.objective.match is None:
            start = walker.random_start(n_tokens)
        prompt = walker.objective.take_match() if start is None else walker.walk(start, limit, endless=True)
        start = None
        if prompt is not None:
            course.found(prompt, walker.objective.spent.evaluations)
            upper, n_tokens = n_tokens, n_tokens - 1
        else:
            lower, n_tokens = n_tokens, n_tokens + _MINIPROMPT_STEP
            limit = int(limit * _MINIPROMPT_GROWTH)


def bracket(walker: Walker, course: Course, warm: Ids | None, max_tokens: int) -> None:
    """Find any prompt first, then shorten it token by token until the budget is spent or one is left."""
    start = _warm_start(walker, warm, max_tokens)
    if walker.objective.match is not None:
        _take(walker, course)
    _first_match(walker, course, start, max_tokens)
    tries = 0
    while course.prompt is not None and len(course.prompt) > 1:
        before = len(course.prompt)
        if before == 2 and len(walker.objective.allowed) <= walker.objective.left:
            # So few prompts are left that all of them can be tried.
            course.trying(1)
            walker.pick(walker.objective.allowed[:, None], 1)
            _take(walker, course)
            return
        # Now and then two tokens less: the way down need not lead over every length.
        n_tokens = before - 1 if tries % 3 < 2 or before < 3 else before - 2
        course.trying(n_tokens)
        starts = _deletions(walker, course) if tries == 0 else []
        _attempt(walker, course, n_tokens, _SHORTER_EVALUATIONS * (1 + tries), starts)
        tries = 0 if len(course.prompt) < before else tries + 1


def _first_match(walker: Walker, course: Course, start: Best | None, max_tokens: int) -> None:
    """Try lengths in turn, each round with twice the evaluations, until one of them matches."""
    m = len(walker.objective.target)
    # One length must not use up a small budget, least of all that of a prompt that worked before.
    limit = min(_FIRST_EVALUATIONS, max(1, walker.objective.left // _FEWEST_TRIES))
    lengths = [min(max_tokens, max(1, round(share * m))) for share in _FIRST_SHARES]
    if start is not None:
        course.trying(len(start.prompt))
        _attempt(walker, course, len(start.prompt), limit, [start])
    while course.prompt is None:
        for n_tokens in dict.fromkeys(lengths):
            course.trying(n_tokens)
            _attempt(walker, course, n_tokens, limit, [])
            if course.prompt is not None:
                return
        limit *= 2


def _attempt(walker: Walker, course: Course, n_tokens: int, limit: int, starts: list[Best]) -> None:
    """Walk at one length from some starts, then in turn from random ones and from the best, kicked."""
    begun, turn = walker.objective.spent.evaluations, 0
    while walker.objective.match is None:
        left = limit - (walker.objective.spent.evaluations - begun)
        if left <= 0:
            return
        if turn < len(starts):
            start: Best | None = starts[turn]
        elif turn % 2 and n_tokens in walker.best:
            start = walker.kicked(n_tokens)
        else:
            start = walker.random_start(n_tokens)
        turn += 1
        if start is None:
            continue
        prompt = walker.walk(start, left)
        if prompt is not None:
            course.found(prompt, walker.objective.spent.evaluations)
            return
    _take(walker, course)


def _take(walker: Walker, course: Course) -> None:
    prompt = walker.objective.take_match()
    if prompt is not None:
        course.found(prompt, walker.objective.spent.evaluations)


def _deletions(walker: Walker, course: Course) -> list[Best]:
    """Return the best prompts that lack one token of the shortest; what matches is noted."""
    if course.prompt is None:
        return []
    whole = torch.from_numpy(course.prompt)
    n = len(whole)
    without = torch.stack([torch.cat([whole[:place], whole[place + 1 :]]) for place in range(n)])
    return walker.pick(without, _BEST_DELETIONS)


def _warm_start(walker: Walker, warm: Ids | None, max_tokens: int) -> Best | None:
    """Return the prompt of the checkpoint before with its loss; None: none can be used, or it matches."""
    if warm is None or len(warm) > max_tokens or not np.isin(warm, walker.objective.allowed.numpy()).all():
        return None
    return walker.first(torch.from_numpy(np.asarray(warm, dtype=np.int64))[None])


SEARCHES: dict[str, Callable[[Walker, Course, Ids | None, int], None]] = {
    "miniprompt": miniprompt,
    "bracket": bracket,
}


def search_lengths(name: str, walker: Walker, course: Course, warm: Ids | None, max_tokens: int) -> None:
    """Search until nothing shorter is left to try or the budget is spent."""
    try:
        SEARCHES[name](walker, course, warm, max_tokens)
    except BudgetSpentError:
        # The last candidates that could be afforded may have held a match.
        _take(walker, course)
