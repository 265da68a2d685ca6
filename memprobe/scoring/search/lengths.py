"""Which lengths are tried, in what order: MiniPrompt as published, and a bracket of our own.

MiniPrompt: Schwarzschild et al. (2024), https://arxiv.org/abs/2404.15146. The bracket tries short lengths
before long ones, a few walks each: what is memorized well is found there at once, and at any length some
starts lead to a prompt and others to none, so many starts at many lengths beat one long walk. What it
found it shortens. That shorter prompts are harder to find is a rule without proof, so it goes on below
a length that failed; it ends where all prompts of one token were tried.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from memprobe.scoring.search.objective import BudgetSpentError, Ids
from memprobe.scoring.search.walk import Best, Walker

_MINIPROMPT_START, _MINIPROMPT_STEP, _MINIPROMPT_GROWTH = 5, 5, 1.2
_MINIPROMPT_STEPS, _MINIPROMPT_CANDIDATES = 200, 100

# Shares of the target's length that are tried in turn until something matches, each with its visits of a
# position. What is memorized best is found in the first few; from then on a prompt of about 0.4 is most often
# found first, and one longer than the target is no compression. The whole round fits the budget: where that
# is small or large, all visits are fewer or more.
_FIRST_TRIES = (
    (0.15, 5),
    (0.25, 5),
    (0.4, 10),
    (0.25, 10),
    (0.4, 30),
    (0.75, 6),
    (0.4, 30),
    (1.25, 5),
    (2.0, 5),
)
_LIKELY_SHARE, _WARM_VISITS = 0.4, 5
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
        n_tokens = _shorter(before, tries, len(walker.objective.target))
        course.trying(n_tokens)
        starts = _deletions(walker, course) if tries == 0 else []
        _attempt(walker, course, n_tokens, _SHORTER_EVALUATIONS * (1 + tries), starts)
        tries = 0 if len(course.prompt) < before else tries + 1


def _shorter(n_tokens: int, tries: int, target_tokens: int) -> int:
    """Return the length that is tried next below the shortest prompt, after some tries in vain."""
    likely = round(_LIKELY_SHARE * target_tokens)
    if likely < n_tokens - 1 and tries % 2:
        return max(1, likely)
    # Now and then two tokens less: the way down need not lead over every length.
    return n_tokens - 1 if tries % 3 < 2 or n_tokens < 3 else n_tokens - 2


def _first_match(walker: Walker, course: Course, start: Best | None, max_tokens: int) -> None:
    """Try lengths in turn until one of them matches."""
    m = len(walker.objective.target)
    tries = [(min(max_tokens, max(1, round(share * m))), visits) for share, visits in _FIRST_TRIES]
    per_visit = walker.objective.left / sum(n_tokens * visits for n_tokens, visits in tries)
    if start is not None:
        # A prompt that worked before must not use up the budget.
        n_tokens = len(start.prompt)
        course.trying(n_tokens)
        _attempt(walker, course, n_tokens, max(1, int(per_visit * n_tokens * _WARM_VISITS)), [start])
    while course.prompt is None:
        for n_tokens, visits in tries:
            course.trying(n_tokens)
            _attempt(walker, course, n_tokens, max(1, int(per_visit * n_tokens * visits)), [])
            if course.prompt is not None:
                return


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
