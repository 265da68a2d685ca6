"""A chat template as the texts around what is said in it."""

from typing import Any

from memprobe.errors import CheckpointError

# Of a private area of Unicode: they stand in no template and no tokenizer splits what is not there.
_FIRST_MARK = 0xE000


def split_chat(tokenizer: Any, *, system: str | None = None, n_answered: int = 0) -> tuple[str, ...]:  # noqa: ANN401
    """Split a chat template at what user and model say.

    Args:
        tokenizer: A transformers tokenizer.
        system: The system message; None: none.
        n_answered: Turns that the model has answered, before the one that it is to answer.

    Returns:
        The text before the first message, between each message and its answer, and behind the last
        message, where the answer begins: 2 n_answered + 2 texts.

    Raises:
        CheckpointError: There is no template, or it cannot be split.
    """
    from jinja2 import TemplateError

    _refuse_without_template(tokenizer)
    marks = [chr(_FIRST_MARK + i) for i in range(2 * n_answered + 1)]
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [
        {"role": ("user", "assistant")[number % 2], "content": mark} for number, mark in enumerate(marks)
    ]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise CheckpointError(
            f"the chat template cannot be filled: {error}", fix="leave system out, or chat"
        ) from error
    found = [text.count(mark) for mark in marks]
    if found != [1] * len(marks) or sorted(marks, key=text.index) != marks:
        wrong = next((n for n in found if n != 1), 1)
        raise CheckpointError(
            f"the chat template has the user's message {wrong} times, not once"
            if wrong != 1
            else "the chat template changes the order of what is said",
            fix="leave chat out, or name a tokenizer with another template with --tokenizer",
        )
    parts = []
    for mark in marks:
        before, text = text.split(mark)
        parts.append(before)
    return (*parts, text)


def _refuse_without_template(tokenizer: Any) -> None:  # noqa: ANN401
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            "chat = true, and the tokenizer has no chat template",
            fix="leave chat out, or name a tokenizer that has a template with --tokenizer",
        )
    if not bool(getattr(tokenizer, "is_fast", False)):
        raise CheckpointError(
            "chat = true needs a tokenizer that says what its tokens cover, and this one does not",
            fix="name a fast tokenizer with --tokenizer",
        )
