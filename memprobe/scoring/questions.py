"""Questions of SORT as texts: in a template or in the tokenizer's chat, and the segments alone."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memprobe.scoring.chat import split_chat
from memprobe.scoring.exemplars import Trial
from memprobe.scoring.labels import label_ids
from memprobe.scoring.tokenise import Ids
from memprobe.tables.prompts import NOTHING, ORDERS, Prompt, asked, headed, right_label
from memprobe.tables.views import CHAT_PART, FREE, LIKELIHOOD_ORDERS, Trials

WORD = re.compile(r"\S+")
Shots = Sequence[tuple[Trial, str]]
"""Answered trials, and the order in which each is shown."""
Begins = tuple[int, int] | None
"""Characters at which two segments begin that are scored; None: nothing is."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a trial becomes a text, for one prompt (or none) and one condition.

    Attributes:
        prompt_id: The template's name; None: the segments alone.
        condition: With the excerpt or without.
        orders: Of presentation that are fitted together.
        chat: The chat template is used.
        digest_of: What names depend on, next to the answered trials.
        text: From a trial, an order, the answered trials and how many words of the excerpt stay (None:
            all) to the text and to where in it the two segments begin (None: nothing is scored).
        choices: Ids of the labels; None: no label is to come.
        free: Also the question without content.
    """

    prompt_id: str | None
    condition: str
    orders: tuple[str, ...]
    chat: bool
    digest_of: str
    text: Callable[[Trial, str, Shots, int | None], tuple[str, Begins]]
    choices: tuple[Ids, Ids] | None = None
    free: bool = False

    def part(self, trial: Trial, order: str, shots: Shots) -> str:
        """Return the name of a string: it tells all that the string depends on but the item's content."""
        parts = [self.digest_of, trial.title, [[each.content, order] for each, order in shots]]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
        return f"{CHAT_PART + '-' if self.chat else ''}trial-{digest}-{self.condition}-{order}"


def forms(view: Trials, tokenizer: Any, vocabulary: int) -> Iterator[Form]:  # noqa: ANN401
    """Yield each prompt in each condition, then the segments alone.

    Raises:
        CheckpointError: A label is not a single token of the tokenizer.
    """
    chat = bool(getattr(tokenizer, "chat_template", None)) if view.chat is None else view.chat
    frames: dict[tuple[str | None, int], tuple[str, ...]] = {}
    labels: dict[tuple[str, str], tuple[Ids, Ids]] = {}
    for prompt in view.prompts:
        if prompt.labels not in labels:
            labels[prompt.labels] = label_ids(tokenizer, prompt.labels, vocabulary)
        for condition in view.conditions:
            yield Form(
                prompt_id=prompt.name,
                condition=condition,
                orders=ORDERS,
                chat=chat,
                digest_of=json.dumps([asdict(prompt), chat]),
                text=_chat(prompt, condition, tokenizer, frames) if chat else _plain(prompt, condition),
                choices=labels[prompt.labels],
                free=view.content_free,
            )
    for condition in view.conditions if view.likelihood else ():
        parts = json.dumps(["segments alone", view.separator])
        text = _alone(condition, view.separator)
        yield Form(None, condition, LIKELIHOOD_ORDERS, chat=False, digest_of=parts, text=text)


def _question(prompt: Prompt, condition: str, trial: Trial, order: str, n_words: int | None) -> str:
    """Return a trial as a question."""
    excerpt, first, second = trial.excerpt, trial.earlier, trial.later
    if order == FREE:
        excerpt = first = second = NOTHING
    elif order == ORDERS[1]:
        first, second = second, first
    excerpt = excerpt if n_words is None or order == FREE else first_words(excerpt, n_words)
    return asked(prompt, condition, excerpt, first, second, title=trial.title)


def _plain(prompt: Prompt, condition: str) -> Callable[..., tuple[str, None]]:
    """Return the maker of prompts as one text, answered trials as paragraphs before the question."""

    def text(trial: Trial, order: str, shots: Shots, n_words: int | None) -> tuple[str, None]:
        answered = [
            f"{_question(prompt, condition, each, turn, None)}\n{prompt.stem} {right_label(prompt, turn)}"
            for each, turn in shots
        ]
        question = _question(prompt, condition, trial, order, n_words)
        return "\n".join([*headed(prompt, "\n\n".join([*answered, question])), prompt.stem]), None

    return text


def _chat(
    prompt: Prompt,
    condition: str,
    tokenizer: Any,  # noqa: ANN401
    frames: dict[tuple[str | None, int], tuple[str, ...]],
) -> Callable[..., tuple[str, None]]:
    """Return the maker of prompts in the chat template, answered trials as turns before the question."""

    def text(trial: Trial, order: str, shots: Shots, n_words: int | None) -> tuple[str, None]:
        key = (prompt.system, len(shots))
        if key not in frames:
            frames[key] = split_chat(tokenizer, system=prompt.system, n_answered=len(shots))
        said = [
            each
            for shot, turn in shots
            for each in (
                _question(prompt, condition, shot, turn, None),
                f"{prompt.stem} {right_label(prompt, turn)}",
            )
        ]
        said += [_question(prompt, condition, trial, order, n_words), prompt.stem]
        return "".join(part for pair in zip(frames[key], said, strict=True) for part in pair), None

    return text


def _alone(condition: str, separator: str) -> Callable[..., tuple[str, Begins]]:
    """Return the maker of the two segments as text, behind the excerpt where that is asked for."""

    def text(trial: Trial, order: str, shots: Shots, n_words: int | None) -> tuple[str, Begins]:  # noqa: ARG001
        one, other = (trial.earlier, trial.later)[:: 1 if order == LIKELIHOOD_ORDERS[0] else -1]
        before = ""
        if condition == "in_context":
            excerpt = trial.excerpt if n_words is None else first_words(trial.excerpt, n_words)
            before = excerpt + separator
        text = before + one + separator
        return text + other, (len(before), len(text))

    return text


def first_words(text: str, n: int) -> str:
    """Return a text up to the end of its n-th word, what is before the first included."""
    if n < 1:
        return ""
    # Of a long text only the beginning is looked at.
    last = next(itertools.islice(WORD.finditer(text), n - 1, None), None)
    return text if last is None else text[: last.end()]
