"""Chat templates: splitting them around the messages, and filling them without changing a message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from memprobe.errors import CheckpointError
from memprobe.scoring.render import RENDERER, Rendered, TemplateFailedError
from memprobe.scoring.render_child import DAY
from memprobe.wording import counted

# Marks stand for messages. They use a private area of Unicode, which no template contains, and are removed
# before any text is tokenised.
_FIRST_MARK: Final = 0xE000
# Capitals, spaces and a line end inside a mark reveal a template that changes messages.
_INSIDE: Final = "Ab  c\nd"
_FIX: Final = "leave chat out, or name a tokenizer with another template with --tokenizer"

Variables = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: its role and its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template that contains each message exactly once.

    Attributes:
        template: The text of the template.
        variables: Names and values of further variables that the template may use.
        as_parts: Whether the template expects a message as a list of parts.
        notes: What the user should know about the template.
    """

    template: str
    variables: Variables
    as_parts: bool = False
    notes: tuple[str, ...] = ()

    def render(self, turns: Sequence[Turn]) -> str:
        """Fill the template, including the text that begins the answer.

        Raises:
            CheckpointError: The template raises an error, takes too long or writes too much.
        """
        return RENDERER.render(self.template, self.messages(turns), dict(self.variables)).text

    def messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """Return turns as messages in the form that the template expects."""
        return [
            {
                "role": turn.role,
                "content": [{"type": "text", "text": turn.text}] if self.as_parts else turn.text,
            }
            for turn in turns
        ]

    def split(self, *, system: str | None = None, n_answered: int = 0) -> tuple[str, ...]:
        """Split the template at the messages of user and model; see `split_chat`."""
        marks = [_mark(number) for number in range(2 * n_answered + 1)]
        turns = [] if system is None else [Turn("system", system)]
        turns += [Turn(("user", "assistant")[number % 2], mark) for number, mark in enumerate(marks)]
        text = self.render(turns)
        _refuse_other(text, marks)
        parts = []
        for mark in marks:
            before, text = text.split(mark)
            parts.append(before)
        return (*parts, text)


def chat_of(tokenizer: Any, *, system: str | None = None) -> ChatTemplate:  # noqa: ANN401
    """Return a tokenizer's chat template after a check that it contains a message once and unchanged.

    If a message given as text fails or is lost, it is tried as a list of parts.

    Args:
        tokenizer: A transformers tokenizer.
        system: The system message in front of the first message; None if there is none.

    Raises:
        CheckpointError: There is no template, or it changes, loses or repeats messages, or writes a different
            text each time.
    """
    _refuse_without_template(tokenizer)
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        names = sorted(tokenizer.chat_template)
        raise CheckpointError(
            f"the tokenizer has several chat templates ({', '.join(names)}) and none is its default",
            fix="name a tokenizer that has one template with --tokenizer, or leave chat out",
        ) from error
    named = tokenizer.special_tokens_map
    variables = tuple((key, str(each)) for key, each in named.items() if isinstance(each, str))
    several = sorted(tokenizer.chat_template) if isinstance(tokenizer.chat_template, dict) else []
    return _checked(template, variables, tuple(several), system)


@dataclass(frozen=True, slots=True)
class Filled:
    """Messages filled into a template.

    Attributes:
        texts: Item to its text, up to where the answer begins.
        n_trimmed: Number of messages whose leading or trailing white space the template removed.
    """

    texts: Mapping[str, str]
    n_trimmed: int


def fill(chat: ChatTemplate, messages: Mapping[str, str]) -> Filled:
    """Put the message of each item into the template.

    Raises:
        CheckpointError: The template changes a message, other than by removing white space at its ends.
    """
    before, behind = chat.split()
    texts, n_trimmed, changed = {}, 0, []
    for item, message in messages.items():
        texts[item] = text = chat.render([Turn("user", message)])
        if text == before + message + behind:
            continue
        if text == before + message.strip() + behind:
            n_trimmed += 1
        else:
            changed.append(item)
    if changed:
        raise CheckpointError(
            f"the chat template changes the text of {counted(len(changed), 'item')}, first {changed[0]}: "
            "the prefix is not in the prompt once, as it is",
            fix=_FIX,
        )
    return Filled(texts, n_trimmed)


def split_chat(tokenizer: Any, *, system: str | None = None, n_answered: int = 0) -> tuple[str, ...]:  # noqa: ANN401
    """Split a chat template at the messages of user and model.

    Args:
        tokenizer: A transformers tokenizer.
        system: The system message; None if there is none.
        n_answered: Number of messages that the model has answered before the one that it is to answer.

    Returns:
        The texts before the first message, between one message and the next, and after the last message,
        where the answer begins: 2 n_answered + 2 texts.

    Raises:
        CheckpointError: There is no template, or it cannot be split.
    """
    return chat_of(tokenizer, system=system).split(system=system, n_answered=n_answered)


@lru_cache(maxsize=64)
def _checked(
    template: str, variables: Variables, several: tuple[str, ...], system: str | None
) -> ChatTemplate:
    mark = _mark(0)
    turns = [*([] if system is None else [Turn("system", system)]), Turn("user", mark)]
    plain = ChatTemplate(template, variables)
    chosen, rendered = plain, _tried(plain, turns)
    notes = [f"of the chat templates {', '.join(several)} the default is used"] if len(several) > 1 else []
    if isinstance(rendered, TemplateFailedError) or mark not in rendered.text:
        parts = ChatTemplate(template, variables, as_parts=True)
        in_parts = _tried(parts, turns)
        if not isinstance(in_parts, TemplateFailedError) and mark in in_parts.text:
            chosen, rendered = parts, in_parts
            notes.append("messages are given to the chat template as lists of parts: as texts it loses them")
    if isinstance(rendered, TemplateFailedError):
        raise rendered
    _refuse_other(rendered.text, [mark])
    notes += _notes_on(chosen, turns, rendered)
    return ChatTemplate(template, variables, chosen.as_parts, tuple(notes))


def _notes_on(chat: ChatTemplate, turns: Sequence[Turn], rendered: Rendered) -> list[str]:
    """Return notes about a template for the user, and refuse a template that writes random text."""
    messages, variables = chat.messages(turns), dict(chat.variables)
    if RENDERER.render(chat.template, messages, variables, seed=1).text != rendered.text:
        raise CheckpointError("the chat template writes another text each time, at random", fix=_FIX)
    notes = []
    if rendered.has_date:
        notes.append(
            f"the chat template writes the date of the day; {DAY:%Y-%m-%d} was written, so that scores do "
            "not depend on the day"
        )
    without = RENDERER.render(chat.template, messages, variables, generation_prompt=False).text
    if without == rendered.text and rendered.text.endswith(turns[-1].text):
        notes.append("the chat template writes nothing behind a message: the answer follows it at once")
    return notes


def _tried(chat: ChatTemplate, turns: Sequence[Turn]) -> Rendered | TemplateFailedError:
    """Return the filled template, or the error if it failed."""
    try:
        return RENDERER.render(chat.template, chat.messages(turns), dict(chat.variables))
    except TemplateFailedError as error:
        return error


def _mark(number: int) -> str:
    edge = chr(_FIRST_MARK + number)
    return f"{edge}{_INSIDE}{edge}"


def _refuse_other(text: str, marks: Sequence[str]) -> None:
    """Refuse a template whose text does not contain each mark once, in order."""
    found = [text.count(mark) for mark in marks]
    if found == [1] * len(marks) and sorted(marks, key=text.index) == list(marks):
        return
    wrong = next((number for number, n in enumerate(found) if n != 1), None)
    if wrong is None:
        what = "the chat template changes the order of the messages"
    elif found[wrong] == 0 and marks[wrong][0] in text:
        what = "the chat template changes the user's message: it is not in the prompt as it is"
    else:
        what = f"the chat template has the user's message {found[wrong]} times, not once"
    raise CheckpointError(what, fix=_FIX)


def _refuse_without_template(tokenizer: Any) -> None:  # noqa: ANN401
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            "chat = true, and the tokenizer has no chat template",
            fix="leave chat out, or name a tokenizer that has a template with --tokenizer",
        )
    if not bool(getattr(tokenizer, "is_fast", False)):
        raise CheckpointError(
            "chat = true needs a tokenizer that gives character offsets, and this one does not",
            fix="name a fast tokenizer with --tokenizer",
        )
