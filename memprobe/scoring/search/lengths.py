"""Which lengths are tried, in what order: MiniPrompt as published, and a bracket of our own.

MiniPrompt: Schwarzschild et al. (2024), https://arxiv.org/abs/2404.15146. The bracket tries short lengths
before long ones, a few walks each: what is memorized well is found there at once, and at any length some
starts lead to a prompt and others to none, so many starts at many lengths beat one long walk. They are random
prompts and the target's own tokens. A long prompt is bisected down to a likely length, each time from cuts of
the shortest one; from there it continues token by token. That shorter prompts are harder to find is a rule
without proof, so it continues below a length that failed; it ends where all prompts of one token were tried.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memprobe.scoring.search.objective import BudgetSpentError, Ids
from memprobe.scoring.search.walk import Walker

_MINIPROMPT_START, _MINIPROMPT_STEP, _MINIPROMPT_GROWTH = 5, 5, 1.2
_MINIPROMPT_STEPS, _MINIPROMPT_CANDIDATES = 200, 100

# Shares of the target's length that are tried in turn until something matches, each with its share of the
# budget. What is memorized best is found at once in the first, and of what is found a short prompt tells
# most; what is memorized less well comes out of long prompts more often than out of more walks at short
# ones. One longer than the target is no compression, but may be shortened to one.
_FIRST_TRIES = ((0.15, 0.1), (0.33, 0.15), (0.42, 0.3), (0.75, 0.2), (1.15, 0.2), (1.5, 0.05))
# Down to this share of the target's length a prompt is bisected.
_LIKELY_SHARE, _WARM_SHARE = 0.42, 0.05
# Evaluations at one length below the shortest prompt, in the first try; later tries have more.
_SHORTER_EVALUATIONS = 1_000
# Two tokens less at once are tried only where so many are left.
_LONG_TOKENS = 6


@dataclass(slots=True)
class Course:
    """The result of a search over lengths.

    Attributes:
        prompt: The shortest prompt that was confirmed; None: none was.
        evaluations_to_best: Evaluations used when it was found.
        longest_tokens: The longest length that was tried.
        n_tokens: The length that is being tried.
        floor_tokens: All prompts of this length were tried.
    """

    prompt: Ids | None = None
    evaluations_to_best: int | None = None
    longest_tokens: int = 0
    n_tokens: int = 0
    floor_tokens: int = 0

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
    start = _usable(walker, warm, max_tokens)
    n_tokens = min(_MINIPROMPT_START, max_tokens) if start is None else start.shape[1]
    limit = _MINIPROMPT_STEPS * _MINIPROMPT_CANDIDATES
    while lower < n_tokens < upper:
        course.trying(n_tokens)
        start = walker.random_prompts(1, n_tokens) if start is None else start
        prompt = walker.walk(start, limit, endless=True)
        start = None
        if prompt is not None:
            course.found(prompt, walker.objective.spent.evaluations)
            upper, n_tokens = n_tokens, n_tokens - 1
        else:
            lower, n_tokens = n_tokens, n_tokens + _MINIPROMPT_STEP
            limit = int(limit * _MINIPROMPT_GROWTH)


def bracket(walker: Walker, course: Course, warm: Ids | None, max_tokens: int) -> None:
    """Find any prompt first, then shorten it until the budget is spent or nothing shorter is left."""
    start = _usable(walker, warm, max_tokens)
    if start is not None:
        # A prompt that worked before must not use up the budget.
        _attempt(walker, course, start.shape[1], _part(walker.objective.left, _WARM_SHARE), start)
    _first_match(walker, course, max_tokens)
    _bisect(walker, course)
    tries = 0
    while course.prompt is not None and len(course.prompt) > course.floor_tokens + 1:
        before = len(course.prompt)
        n_tokens = max(_shorter(before, tries, len(walker.objective.target)), course.floor_tokens + 1)
        starts = walker.cuts(course.prompt, n_tokens) if tries == 0 else None
        limit = _SHORTER_EVALUATIONS * (1 + tries)
        if n_tokens == 1:
            # So few prompts are left that all of them should be tried.
            limit = max(limit, len(walker.objective.allowed))
        _attempt(walker, course, n_tokens, limit, starts)
        tries = 0 if len(course.prompt) < before else tries + 1


def _shorter(n_tokens: int, tries: int, target_tokens: int) -> int:
    """Return the length that is tried next below the shortest prompt, after some tries in vain."""
    likely = _likely(target_tokens)
    if likely < n_tokens - 1 and tries % 2:
        return likely
    # Now and then two tokens less: the way down need not lead over every length.
    return n_tokens - 1 if tries % 3 < 2 or n_tokens < _LONG_TOKENS else n_tokens - 2


def _first_match(walker: Walker, course: Course, max_tokens: int) -> None:
    """Try lengths in turn until one of them matches."""
    m, budget = len(walker.objective.target), walker.objective.left
    tries = [(min(max_tokens, max(1, round(share * m))), _part(budget, part)) for share, part in _FIRST_TRIES]
    while course.prompt is None and any(n_tokens > course.floor_tokens for n_tokens, _ in tries):
        for n_tokens, limit in tries:
            if course.prompt is None and n_tokens > course.floor_tokens:
                _attempt(walker, course, n_tokens, limit)


def _bisect(walker: Walker, course: Course) -> None:
    """Halve what is between a prompt and the likely length, until they meet."""
    likely = _likely(len(walker.objective.target))
    lower = max(likely - 1, course.floor_tokens)
    while course.prompt is not None and len(course.prompt) > max(likely, lower) + 1:
        before = len(course.prompt)
        n_tokens = (lower + before) // 2
        _attempt(walker, course, n_tokens, _SHORTER_EVALUATIONS, walker.cuts(course.prompt, n_tokens))
        if len(course.prompt) == before:
            lower = n_tokens


def _likely(target_tokens: int) -> int:
    return max(1, round(_LIKELY_SHARE * target_tokens))


def _part(budget: int, share: float) -> int:
    return max(1, int(budget * share))


def _attempt(walker: Walker, course: Course, n_tokens: int, limit: int, starts: Tensor | None = None) -> None:
    """Walk at one length, from new starts where none are given; or try all prompts of one token."""
    course.trying(n_tokens)
    allowed = walker.objective.allowed
    if n_tokens == 1 and len(allowed) <= min(limit, walker.objective.left):
        prompt = walker.evaluate(allowed[:, None])
        course.floor_tokens = 1
    else:
        n_walks = walker.n_walks(n_tokens, limit)
        starts = walker.starts(n_walks, n_tokens) if starts is None else starts
        prompt = walker.walk(starts, limit, n_walks=n_walks)
    if prompt is not None:
        course.found(prompt, walker.objective.spent.evaluations)


def _usable(walker: Walker, warm: Ids | None, max_tokens: int) -> Tensor | None:
    """Return the prompt of the checkpoint before, shape (1, n_tokens); None: it may not be tried here."""
    if warm is None or len(warm) > max_tokens or not np.isin(warm, walker.objective.allowed.numpy()).all():
        return None
    return torch.from_numpy(np.asarray(warm, dtype=np.int64))[None]


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
        prompt = walker.objective.take_match()
        if prompt is not None:
            course.found(prompt, walker.objective.spent.evaluations)
