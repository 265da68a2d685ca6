"""Chat templates split at what is said: the texts between, in order, or a refusal."""

from types import SimpleNamespace

import pytest

from memprobe.errors import CheckpointError
from memprobe.scoring.chat import split_chat

PLAIN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }};{% endfor %}[answer]"


@pytest.fixture
def templated(tokenizer, monkeypatch):
    """Return a setter of the tokenizer's template."""

    def put(template: str):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        return tokenizer

    return put


def test_texts_around_and_between_the_turns_are_given_in_order(templated) -> None:
    tokenizer = templated(PLAIN)
    assert split_chat(tokenizer) == ("[user]", ";[answer]")
    assert split_chat(tokenizer, system="Be brief.") == ("[system]Be brief.;[user]", ";[answer]")
    turns = ("[user]", ";[assistant]", ";[user]", ";[assistant]", ";[user]", ";[answer]")
    assert split_chat(tokenizer, n_answered=2) == turns


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("nothing is said", "has the user's message 0 times, not once"),
        (PLAIN + "{{ messages[0]['content'] }}", "has the user's message 2 times, not once"),
        ("{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}", "changes the order"),
        ("{{ raise_exception('no system') }}", "cannot be filled: no system"),
    ],
)
def test_a_template_that_says_something_else_is_refused(templated, template, problem) -> None:
    with pytest.raises(CheckpointError, match=problem):
        split_chat(templated(template), n_answered=1)


def test_a_tokenizer_that_cannot_say_what_its_tokens_cover_is_refused() -> None:
    slow = SimpleNamespace(chat_template=PLAIN, is_fast=False)
    with pytest.raises(CheckpointError, match="says what its tokens cover"):
        split_chat(slow)
