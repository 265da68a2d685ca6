"""Trials of SORT as token ids: questions in both orders, answered ones in front, segments alone.

The whole prompt is tokenised once. One that is longer than the context loses answered trials first,
two by two, and then words from the end of the excerpt, both orders of a trial the same; the question
stays as it is.

Source: Pink et al. (2024), section 3, https://arxiv.org/abs/2410.08133
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memprobe.errors import ItemError
from memprobe.scoring.exemplars import Exemplars, Trial, trials_in
from memprobe.scoring.questions import WORD, Begins, Form, Shots, first_words, forms
from memprobe.scoring.tokenise import Ids, TokenisedItems, untrimmed
from memprobe.tables.views import FREE, Trials

_AT_ONCE, _WORDS_MORE = 64, 16


@dataclass(frozen=True, slots=True)
class AskedTrial:
    """One row of a view of trials.

    Attributes:
        item_id: The item.
        part: Name of the string.
        prompt_id: The template; None: the segments alone.
        condition: With the excerpt or without.
        order: Of presentation.
        dropped_tokens: Tokens that did not fit.
        ids: Of the string; None: not even the question fits.
        score_from: First token that is scored; as many as there are: none is.
        stop: One past the last that is read; None: all are.
        choices: Ids of the two labels; None: no label is to come.
    """

    item_id: str
    part: str
    prompt_id: str | None
    condition: str
    order: str
    dropped_tokens: int = 0
    ids: Ids | None = None
    score_from: int = 0
    stop: int | None = None
    choices: tuple[Ids, Ids] | None = None


def trials_of(
    view: Trials,
    tokenised: TokenisedItems,
    tokenizer: Any,  # noqa: ANN401
    vocabulary: int,
    context_tokens: int | None,
) -> Iterator[AskedTrial]:
    """Yield what is asked of each item that has segments.

    Args:
        view: What to ask.
        tokenised: The items, tokenised as wholes.
        tokenizer: A fast transformers tokenizer.
        vocabulary: Ids that the model has.
        context_tokens: Longest input of the model, tokens in front included; None: no limit.

    Raises:
        CheckpointError: A label is not a single token, or a chat is asked for and cannot be made.
        ItemError: There are too few trials to answer in front, or no title where a template names it.
    """
    trials = trials_in(tokenised.table)
    if not trials:
        return
    _refuse_without_title(view, trials)
    exemplars = Exemplars.of(trials, view.shots)
    n_tokens = {trial.item_id: len(tokenised.ids[trial.item_id, "text"]) for trial in trials}
    for form in forms(view, tokenizer, vocabulary):
        front = 0 if form.chat else len(tokenised.front_for(trials[0].item_id, "text"))
        # A label behind the prompt is not read; of segments the last token is not either.
        room = None if context_tokens is None else context_tokens - front + (form.choices is None)
        fitter = _Fitter(form, tokenizer, room, n_tokens, has_front=front > 0)
        for begin in range(0, len(trials), _AT_ONCE):
            some = trials[begin : begin + _AT_ONCE]
            yield from fitter.fit(some, [exemplars.before(trial) for trial in some])


def _refuse_without_title(view: Trials, trials: Sequence[Trial]) -> None:
    needing = [prompt.name for prompt in view.prompts if prompt.needs_title]
    without = [trial for trial in trials if trial.title is None]
    if needing and without:
        raise ItemError(
            f"the prompt {needing[0]} names a title, and {len(without)} of {len(trials)} trials have none",
            where=f"item {without[0].item_id}, column title",
            fix="give the items a column title, or take another prompt",
        )


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A text as the tokenizer gives it back.

    Attributes:
        ids: Token ids, shape (n,).
        encoding: The tokenizer's own object.
    """

    ids: Ids
    encoding: Any

    @property
    def ends(self) -> Ids:
        """The end of each token in the text; costs more than the ids."""
        return np.maximum.accumulate(np.asarray([end for _, end in self.encoding.offsets], dtype=np.int64))


@dataclass(frozen=True, slots=True)
class _Fitter:
    """Makes the strings of one form fit the context.

    Attributes:
        form: How trials become texts.
        tokenizer: A fast tokenizer.
        room: Tokens that a string may have; None: no limit.
        n_tokens: Of the excerpt alone, by item.
        has_front: Something is in front of every string.
    """

    form: Form
    tokenizer: Any
    room: int | None
    n_tokens: Mapping[str, int]
    has_front: bool

    def fit(self, trials: Sequence[Trial], shots: Sequence[Shots]) -> Iterator[AskedTrial]:
        """Yield the rows of some trials, all orders of each."""
        orders = (*self.form.orders, *((FREE,) if self.form.free else ()))
        enough = [
            None if before else self._more_than_fit(trial)
            for trial, before in zip(trials, shots, strict=True)
        ]
        made = [
            {order: self.form.text(trial, order, before, n_words) for order in orders}
            for trial, before, n_words in zip(trials, shots, enough, strict=True)
        ]
        encoded = iter(self._encode([text for each in made for text, _ in each.values()]))
        for trial, before, n_words, each in zip(trials, shots, enough, made, strict=True):
            whole = {order: next(encoded) for order in each}
            begins = {order: begin for order, (_, begin) in each.items()}
            if n_words is not None and self._fits(whole):
                whole, begins = self._made(trial, whole, before, None)
                yield from self._rows(trial, before, whole, begins, None)
            else:
                yield from self._rows(trial, before, whole, begins, n_words)

    def _more_than_fit(self, trial: Trial) -> int | None:
        """Return so many words of the excerpt that they will not fit; None: all of them may.

        An excerpt can be a hundred times the context, and each of its trials shows it.
        """
        n = self.n_tokens[trial.item_id]
        if self.form.condition != "in_context" or self.room is None or n <= self.room:
            return None
        n_words = len(trial.excerpt.split())
        enough = n_words * self.room * 5 // (4 * n) + _WORDS_MORE
        return enough if enough < n_words else None

    def _rows(
        self,
        trial: Trial,
        shots: Shots,
        whole: Mapping[str, _Encoded],
        begins: dict[str, Begins],
        n_words: int | None,
    ) -> Iterator[AskedTrial]:
        """Yield the rows of a trial, of which `whole` has so many words of the excerpt (None: all)."""
        fitted: Mapping[str, _Encoded] | None = whole
        beyond = 0
        if n_words is not None:
            (shown,) = self._encode([first_words(trial.excerpt, n_words)])
            beyond = self.n_tokens[trial.item_id] - len(shown.ids)
        if not self._fits(whole):
            fitted, begins = self._cut(trial, shots, whole, n_words)
        for order, full in whole.items():
            row = AskedTrial(
                item_id=trial.item_id,
                part=self.form.part(trial, order, shots),
                prompt_id=self.form.prompt_id,
                condition=self.form.condition,
                order=order,
                choices=self.form.choices,
            )
            if fitted is None:
                yield row
                continue
            kept = fitted[order]
            dropped = len(full.ids) - len(kept.ids) + (0 if order == FREE else beyond)
            row = replace(row, ids=kept.ids, dropped_tokens=dropped)
            for first, stop in self._scored(kept, begins[order]):
                yield replace(row, score_from=first, stop=stop)

    def _scored(self, kept: _Encoded, begins: Begins) -> list[tuple[int, int]]:
        """Return the first and one past the last token of each run that is scored."""
        n = len(kept.ids)
        if begins is None:
            return [(n, n)]
        # A token that crosses the border is scored.
        first, second = np.searchsorted(kept.ends, begins, side="right").tolist()
        if first or self.has_front:
            return [(first, n)]
        # The first token of all has no score. So that both orders score the same tokens, the first one of
        # the second segment is left out too.
        return [(0, second), (min(second + 1, n), n)]

    def _cut(
        self, trial: Trial, shots: Shots, whole: Mapping[str, _Encoded], n_whole: int | None
    ) -> tuple[Mapping[str, _Encoded] | None, dict[str, Begins]]:
        """Return the longest strings that fit, and where scoring begins; None: not even the question does."""
        fewer = list(shots)
        current: Mapping[str, _Encoded] = whole
        begins: dict[str, Begins] = {}
        while fewer and not self._fits(current):
            # Two by two, so that each label stays right as often.
            fewer = fewer[2:] if len(fewer) % 2 == 0 else fewer[1:]
            current, begins = self._made(trial, whole, fewer, None)
        if self._fits(current):
            return current, begins
        if self.form.condition != "in_context":
            return None, {}
        n_words = self._estimate(trial, current, n_whole)
        current, begins = self._made(trial, whole, (), n_words)
        while not self._fits(current) and n_words:
            n_words -= 1
            current, begins = self._made(trial, whole, (), n_words)
        if not self._fits(current):
            return None, {}
        while self._fits((longer := self._made(trial, whole, (), n_words + 1))[0]):
            n_words, (current, begins) = n_words + 1, longer
        return current, begins

    def _estimate(self, trial: Trial, current: Mapping[str, _Encoded], n_whole: int | None) -> int:
        """Return about how many words of the excerpt fit: those before the first token that is too many."""
        order = max(self.form.orders, key=lambda each: len(current[each].ids))
        excerpt = trial.excerpt if n_whole is None else first_words(trial.excerpt, n_whole)
        text, _ = self.form.text(trial, order, (), n_whole)
        begin, ends = text.find(excerpt), current[order].ends
        n_over = len(ends) - (self.room or 0)
        n_kept = int(np.searchsorted(ends, begin + len(excerpt), side="right")) - n_over
        reach = int(ends[n_kept - 1]) - begin if n_kept > 0 else 0
        return sum(match.end() <= reach for match in WORD.finditer(excerpt))

    def _made(
        self, trial: Trial, orders: Mapping[str, _Encoded], shots: Shots, n_words: int | None
    ) -> tuple[dict[str, _Encoded], dict[str, Begins]]:
        made = {order: self.form.text(trial, order, shots, n_words) for order in orders}
        encoded = self._encode([text for text, _ in made.values()])
        return dict(zip(made, encoded, strict=True)), {order: begin for order, (_, begin) in made.items()}

    def _fits(self, encoded: Mapping[str, _Encoded]) -> bool:
        return self.room is None or max(len(each.ids) for each in encoded.values()) <= self.room

    def _encode(self, texts: list[str]) -> list[_Encoded]:
        with untrimmed(self.tokenizer, wanted=True):
            encodings = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [_Encoded(np.asarray(each.ids, dtype=np.int64), each) for each in encodings]
