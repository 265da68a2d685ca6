"""Names of views: they are keys of tables, so two views that differ must differ in their names."""

import pytest

from memprobe.tables.prompts import Prompt
from memprobe.tables.views import CHAT_PART, CharWindows, Chat, Targets, TokenWindows, Trials


def test_names_say_all_that_a_view_depends_on() -> None:
    views = [
        TokenWindows(50, 40, 10),
        TokenWindows(40, 50, 10),
        TokenWindows(50, 40, 1),
        CharWindows(50, 40, 10),
        Chat(),
    ]
    assert len({view.name for view in views}) == len(views)
    assert views[0].name == "tokens-50+40-every-10"
    assert views[3].name == "chars-50+40-every-10"


def test_a_slice_is_eight_characters_long_per_token_of_the_window() -> None:
    # The paper's: 800 characters for 100 tokens.
    assert CharWindows(50, 50, 10).slice_chars == 800
    assert CharWindows(50, 50, 10).n_tokens == TokenWindows(50, 50, 3).n_tokens == 100


def test_views_of_targets_and_their_chats_are_named_without_the_words_of_the_user() -> None:
    views = [
        Targets(),
        Targets(12),
        Targets(controls=True),
        Targets(chat=True),
        Targets(chat=True, lead_in="Sure"),
        Targets(chat=True, system="Sure"),
        Targets(chat=True, system=""),
    ]
    assert len({view.name for view in views}) == len(views)
    assert [view.name for view in views[:3]] == ["targets-all", "targets-12", "targets-all-controls"]
    assert not any("Sure" in view.name for view in views)
    # What a template made is told by the beginning of its part.
    assert views[4].chat_part.startswith(CHAT_PART)


def test_views_of_trials_are_named_by_all_that_they_hold() -> None:
    prompt = Prompt("secret", "{excerpt}{first}{second}", "{first}{second}")
    views = [
        Trials((prompt,)),
        Trials((Prompt("secret", "{excerpt}{first} {second}", "{first}{second}"),)),
        Trials((prompt,), conditions=("parametric",)),
        Trials((prompt,), likelihood=True),
        Trials((prompt,), shots=2),
        Trials((prompt,), content_free=True),
        Trials((prompt,), chat=True),
        Trials((prompt,), chat=False),
        Trials((prompt,), separator="\n"),
        Trials(likelihood=True),
    ]
    assert len({view.name for view in views}) == len(set(views)) == len(views)
    assert Trials((prompt,)).name == views[0].name
    assert not any("secret" in view.name for view in views)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "neither a prompt nor likelihood"),
        ({"likelihood": True, "shots": -1}, "shots is -1, not 0 or more"),
        ({"likelihood": True, "conditions": ()}, "conditions are empty"),
        ({"likelihood": True, "conditions": ("parametric",) * 2}, "have one twice"),
        ({"likelihood": True, "conditions": ("control",)}, "condition is `control`"),
        ({"prompts": (Prompt("p", "{excerpt}{first}{second}", "{first}{second}"),) * 2}, "one name"),
    ],
)
def test_a_view_of_trials_that_asks_nothing_clear_is_refused(changes, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        Trials(**changes)
