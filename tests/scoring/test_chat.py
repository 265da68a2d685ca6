"""Chat templates split at what is said: the texts between, in order, or a refusal."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from memprobe.errors import CheckpointError
from memprobe.scoring.chat import Turn, chat_of, fill, split_chat
from memprobe.scoring.render import Renderer, TemplateFailedError

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
    with pytest.raises(CheckpointError, match="gives character offsets"):
        split_chat(slow)


PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>"
    "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}|"
)
IN_PARTS = "messages are given to the chat template as lists of parts: as texts it loses them"
TURNS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


def test_a_template_that_wants_parts_is_given_parts(templated) -> None:
    tokenizer = templated(PARTS)
    assert chat_of(tokenizer).notes == (IN_PARTS,)
    assert split_chat(tokenizer, system="Be brief.") == ("<system>Be brief.<user>", "|")
    assert fill(chat_of(tokenizer), {"a": "the heron"}).texts == {"a": "<user>the heron|"}


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (TURNS.replace("m['content']", "m['content'] | upper"), "changes the user's message"),
        (TURNS.replace("m['content']", "m['content'] | replace('  ', ' ')"), "changes the user's message"),
        (TURNS.replace("m['content']", "m['content'][:3]"), "changes the user's message"),
        (TURNS.replace("m['content']", "m['text']"), "0 times, not once"),
        (TURNS + "{{ messages | tojson }}{{ messages[0]['content'] }}", "2 times, not once"),
        (TURNS + "{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] | random }}", "at random"),
        (TURNS + "{{ nothing.at.all }}", "cannot be filled: 'nothing' is undefined"),
        (TURNS + "{% if %}", "cannot be filled"),
        (TURNS + "{{ 'ab' * 6000000 }}", "writes 12,000,0.. characters"),
    ],
)
def test_a_template_that_does_not_hold_the_message_is_refused(templated, template, problem) -> None:
    with pytest.raises(CheckpointError, match=problem):
        chat_of(templated(template))


def test_a_message_that_the_template_changes_is_refused_by_its_item(templated) -> None:
    chat = chat_of(templated(TURNS.replace("m['content']", "m['content'].split('</think>')[-1] | trim")))
    filled = fill(chat, {"a": "the heron", "b": " grey barges\n"})
    assert filled.texts == {"a": "<user>the heron", "b": "<user>grey barges"}
    assert filled.n_trimmed == 1
    with pytest.raises(CheckpointError, match="the text of 1 item, first b"):
        fill(chat, {"a": "the heron", "b": "grey</think> barges"})


def test_template_syntax_and_special_tokens_in_a_message_are_text(templated) -> None:
    chat = chat_of(templated(TURNS + "<assistant>"))
    said = "{{ 1 + 1 }} {% raw %} </s> <user>"
    assert fill(chat, {"a": said}).texts["a"] == f"<user>{said}<assistant>"


def test_the_date_of_the_day_is_a_fixed_one(templated) -> None:
    chat = chat_of(templated("{{ strftime_now('%d %b %Y') }}" + TURNS))
    assert chat.render([Turn("user", "a")]) == "26 Jul 2024<user>a"
    assert "2024-07-26 was written" in chat.notes[0]


def test_what_begins_the_answer_stands_behind_the_message(templated) -> None:
    template = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
    assert split_chat(templated(template)) == ("<user>", "<assistant>")
    assert chat_of(templated(template)).notes == ()
    assert "nothing behind a message" in chat_of(templated(TURNS)).notes[0]


def test_of_several_templates_the_default_is_used_and_said(templated) -> None:
    chat = chat_of(templated({"default": PLAIN, "rag": "{{ documents }}"}))
    assert chat.notes == ("of the chat templates default, rag the default is used",)
    with pytest.raises(CheckpointError, match=r"several chat templates \(rag, tool_use\)"):
        chat_of(templated({"rag": PLAIN, "tool_use": PLAIN}))


def test_a_template_without_end_is_ended_in_any_thread() -> None:
    slow = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    renderer = Renderer(seconds=0.3)
    said = [{"role": "user", "content": "a"}]
    with ThreadPoolExecutor(2) as pool:
        slow_one = pool.submit(renderer.render, slow, said, {})
        quick_one = pool.submit(renderer.render, "{{ messages[0]['content'] }}", said, {})
        with pytest.raises(TemplateFailedError, match=r"does not end within 0.3 s"):
            slow_one.result()
        assert quick_one.result().text == "a"
    renderer.close()
