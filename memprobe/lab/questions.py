"""Questions in the format of SORT to train on: which of two segments comes first in an excerpt?

An excerpt is made of words drawn at random from the user's texts: it is not part of any document, so no
exposure changes, and only the order in the prompt reveals the answer. Several questions follow one excerpt.
Excerpts start short and grow as the model gets them right, up to `LONGEST_WORDS`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from memprobe.errors import InputError
from memprobe.tables.prompts import ORDERS, Prompt, read_prompts, render, right_label

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROMPT_NAME = "short"
QUESTIONS_PER_EXCERPT = 6
LEAST_WORDS, START_WORDS, LONGEST_WORDS = 4, 12, 64
LONGEST_SEGMENT_WORDS = 8
# An excerpt of 64 words and two segments of 8 words have 150 to 200 tokens of a vocabulary of 4,096.
LEAST_CONTEXT_TOKENS = 256
# Without an excerpt no answer is right: such questions teach to name a label all the same.
PARAMETRIC_FRAC = 0.1
# Excerpts grow when so many answers of late are right; the mean moves by a share of each update.
GROWS_AT_FRAC, _SMOOTHING = 0.8, 0.06
_STREAM = 4
# More often than most pairs of letters stand in a text of a megabyte.
_N_EXAMPLES = 2000
_WORD = re.compile(r"(\S+)(\s*)")
NO_PLACE = -100


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that begin with the same tokens.

    Attributes:
        shared: The common beginning: front tokens and excerpt; about two tokens without an excerpt.
        tails: For each question, the tokens that follow, up to the label.
        answers: Id of the right label.
        places: For each token of each tail that is a copy, the index of its original in `shared`; else
            `NO_PLACE`.
        segment: 0 for copies in the first segment, 1 in the second, `NO_PLACE` for other tokens.
        earlier: For copies in the second segment: 0 if the first segment comes first in the excerpt, 1 if
            the second does; `NO_PLACE` for other tokens.
    """

    shared: Sequence[int]
    tails: Sequence[Sequence[int]]
    answers: Sequence[int]
    places: Sequence[Sequence[int]]
    segment: Sequence[Sequence[int]]
    earlier: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Cut:
    """A prompt, and the places of excerpt and segments in it as (start, stop) in characters."""

    text: str
    excerpt: tuple[int, int] | None
    segments: tuple[tuple[int, int], tuple[int, int]]
    copied_from: tuple[int, int]
    answer: str


@dataclass(slots=True)
class QuestionSource:
    """Draws questions, the same ones for the same texts, tokenizer, seed and answers.

    Attributes:
        texts: Texts whose words are drawn: for half of the excerpts by frequency, for the other half
            uniformly over distinct words, so that both repeated and rare words occur.
        tokenizer: Tokenizer of the model.
        context_tokens: Most tokens of a prompt.
        seed: Seed of the draws.
        reach_words: Most words of the next excerpts.
        right_frac: Moving average of the share of right answers.

    Raises:
        InputError: A label is not a single token.
    """

    texts: Iterable[str] = field(repr=False)
    tokenizer: "PreTrainedTokenizerFast"
    context_tokens: int
    seed: int
    reach_words: int = START_WORDS
    right_frac: float = 0.5
    _rng: np.random.Generator = field(init=False, repr=False)
    _used: list[str] = field(init=False, repr=False)
    _known: list[str] = field(init=False, repr=False)
    _prompt: Prompt = field(init=False, repr=False)
    _answers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, _STREAM])
        # With the white space behind it, so that excerpts have line ends as the texts do.
        self._used = [f"{word}{space or ' '}" for text in self.texts for word, space in _WORD.findall(text)]
        self._known = sorted(set(self._used))
        self._prompt = short_prompt()
        self._answers = {
            label: _label_id(label, self._prompt, self.tokenizer) for label in self._prompt.labels
        }

    def draw(self, n_questions: int) -> list[QuestionSet]:
        """Draw at least `n_questions` questions, `QUESTIONS_PER_EXCERPT` for each excerpt."""
        n_excerpts = -(-n_questions // QUESTIONS_PER_EXCERPT)
        return [self._questions(self.reach_words) for _ in range(n_excerpts)]

    def hear(self, right_frac: float) -> None:
        """Note the share of the last questions answered right, and lengthen excerpts if it is high."""
        self.right_frac += _SMOOTHING * (right_frac - self.right_frac)
        if self.right_frac > GROWS_AT_FRAC and self.reach_words < LONGEST_WORDS:
            self.reach_words = min(LONGEST_WORDS, self.reach_words + self.reach_words // 4)
            self.right_frac = (0.5 + GROWS_AT_FRAC) / 2

    def _questions(self, reach_words: int) -> QuestionSet:
        condition = "parametric" if self._rng.random() < PARAMETRIC_FRAC else "in_context"
        bank = self._used if self._rng.random() < 0.5 else self._known
        n_words = int(self._rng.integers(max(LEAST_WORDS, reach_words // 2), reach_words + 1))
        segment_words = int(self._rng.integers(2, max(2, min(LONGEST_SEGMENT_WORDS, n_words // 3)) + 1))
        words = [bank[i] for i in self._rng.integers(len(bank), size=n_words)]
        starts = [_two_starts(n_words, segment_words, self._rng) for _ in range(QUESTIONS_PER_EXCERPT)]
        orders = [ORDERS[i] for i in self._rng.integers(len(ORDERS), size=QUESTIONS_PER_EXCERPT)]
        cuts = [
            _cut(self._prompt, condition, words, pair, segment_words, order)
            for pair, order in zip(starts, orders, strict=True)
        ]
        # Rarely so many long words come together that no question fits: fewer are drawn.
        return self._tokenised(cuts) or self._questions(_fewer(reach_words))

    def _tokenised(self, cuts: Sequence[_Cut]) -> QuestionSet | None:
        """Return the questions that fit the context; None if none does."""
        encoded = self.tokenizer([cut.text for cut in cuts], return_offsets_mapping=True)
        prompts: list[list[int]] = encoded["input_ids"]
        kept = [i for i, ids in enumerate(prompts) if len(ids) <= self.context_tokens]
        if not kept:
            return None
        # At least one token stays in each tail: the one whose successor is asked for.
        n_shared = min(_n_common([prompts[i] for i in kept]), min(len(prompts[i]) for i in kept) - 1)
        copies = [_copies(encoded["offset_mapping"][i], cuts[i])[n_shared:] for i in kept]
        flipped = [cuts[i].copied_from[0] > cuts[i].copied_from[1] for i in kept]
        return QuestionSet(
            shared=prompts[kept[0]][:n_shared],
            tails=[prompts[i][n_shared:] for i in kept],
            answers=[self._answers[cuts[i].answer] for i in kept],
            places=[[place for place, _ in each] for each in copies],
            segment=[[number for _, number in each] for each in copies],
            earlier=[
                [int(late) if number == 1 else NO_PLACE for _, number in each]
                for each, late in zip(copies, flipped, strict=True)
            ],
        )


def short_prompt() -> Prompt:
    """Return the template that ships for small models."""
    return next(each for each in read_prompts() if each.name == PROMPT_NAME)


def example_texts() -> list[str]:
    """Return texts that the tokenizer is trained on too, so that each label becomes a token."""
    prompt = short_prompt()
    answered = [f"{render(prompt, 'in_context', 'x', 'x', 'x')} {label}" for label in prompt.labels]
    return answered * _N_EXAMPLES


def _label_id(label: str, prompt: Prompt, tokenizer: "PreTrainedTokenizerFast") -> int:
    text = render(prompt, "parametric", "", "one", "two")
    alone = tokenizer(text)["input_ids"]
    answered: list[int] = tokenizer(f"{text} {label}")["input_ids"]
    if answered[:-1] != alone:
        raise InputError(
            f"the answer ` {label}` is not a single token of a vocabulary of {len(tokenizer)}",
            fix="give a larger vocabulary, or ask no sort questions",
        )
    return answered[-1]


def _fewer(reach_words: int) -> int:
    """Halve the number of words.

    Raises:
        InputError: Too few words are left for a question.
    """
    if reach_words // 2 < LEAST_WORDS:
        raise InputError(
            f"{LEAST_WORDS} words of the texts are too long for a question in the context",
            fix="give texts with spaces between words, a longer context, or ask no sort questions",
        )
    return reach_words // 2


def _two_starts(n_words: int, segment_words: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw where two segments begin, the earlier first, in words; they do not overlap."""
    room = n_words - 2 * segment_words
    earlier = int(rng.integers(0, room + 1))
    return earlier, earlier + segment_words + int(rng.integers(0, room - earlier + 1))


def _cut(
    prompt: Prompt,
    condition: str,
    words: Sequence[str],
    starts: tuple[int, int],
    segment_words: int,
    order: str,
) -> _Cut:
    shown = starts if order == "AB" else starts[::-1]
    excerpt = "".join(words).rstrip()
    first, second = ("".join(words[at : at + segment_words]).rstrip() for at in shown)
    text = render(prompt, condition, excerpt, first, second)
    at_second = text.rindex(second)
    at_first = text.rindex(first, 0, at_second)
    stands = text.find(excerpt) if condition == "in_context" else None
    return _Cut(
        text=text,
        excerpt=None if stands is None else (stands, stands + len(excerpt)),
        segments=((at_first, at_first + len(first)), (at_second, at_second + len(second))),
        copied_from=(len("".join(words[: shown[0]])), len("".join(words[: shown[1]]))),
        answer=right_label(prompt, order),
    )


def _copies(offsets: Sequence[tuple[int, int]], cut: _Cut) -> list[tuple[int, int]]:
    """Return for each token of a prompt the index of its original in the excerpt, and its segment.

    The original is at the same distance from the start of the segment and is as long; the space in
    front of a word belongs to the word's first token.
    """
    copies = [(NO_PLACE, NO_PLACE)] * len(offsets)
    if cut.excerpt is None:
        return copies
    begin, end = cut.excerpt
    originals = {
        (start, stop): i
        for i, (start, stop) in enumerate(offsets)
        if begin - 1 <= start and begin < stop <= end
    }
    for number, ((begin, end), source) in enumerate(zip(cut.segments, cut.copied_from, strict=True)):
        shift = cut.excerpt[0] + source - begin
        for i, (start, stop) in enumerate(offsets):
            if begin - 1 <= start and begin < stop <= end:
                original = originals.get((start + shift, stop + shift))
                copies[i] = copies[i] if original is None else (original, number)
    return copies


def _n_common(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
