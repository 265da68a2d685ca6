"""Prompt templates: what is refused, how a trial is written, and the file that ships."""

import re

import pytest

from memprobe.errors import SuiteError
from memprobe.tables.prompts import (
    CONDITIONS,
    ORDERS,
    Prompt,
    asked,
    read_prompts,
    render,
    right_label,
)

IN_CONTEXT, PARAMETRIC = "{excerpt}|{first}|{second}", "{first}|{second}"
PLAIN = Prompt("plain", IN_CONTEXT, PARAMETRIC)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"in_context": "{first}{second}"}, "in_context has {excerpt} 0 times, not once"),
        ({"in_context": "{excerpt}{first}{first}{second}"}, "in_context has {first} 2 times, not once"),
        ({"parametric": "{first}{second}{excerpt}"}, "parametric has the unknown placeholder {excerpt}"),
        ({"parametric": "{first}{secnd}"}, "did you mean `second`?"),
        ({"parametric": "{first}{second}{}"}, "unknown placeholder {}"),
        ({"parametric": "{first!r}{second}"}, "takes none"),
        ({"parametric": "{first:>9}{second}"}, "takes none"),
        ({"parametric": "{first}{second}}"}, "single brace"),
        ({"labels": ("A", "A")}, "both labels are `A`"),
        ({"labels": ("A", " B")}, "white space around it"),
        ({"labels": ("A", "")}, "a label is empty"),
        ({"labels": ("A", "B", "C")}, "labels are 3, not 2"),
        ({"stem": "Answer: "}, "ends in white space"),
        ({"stem": ""}, "stem is empty"),
        ({"name": ""}, "name is empty"),
    ],
)
def test_a_template_that_cannot_ask_is_refused(changes, problem) -> None:
    given = {"name": "n", "in_context": IN_CONTEXT, "parametric": PARAMETRIC}
    with pytest.raises(ValueError, match=re.escape(problem)):
        Prompt(**(given | changes))


def test_all_problems_of_a_template_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"in_context.*parametric.*both labels"):
        Prompt("n", "{excerpt}{first}", "{first}", labels=("A", "A"))


def test_a_trial_is_written_as_the_template_says_with_the_stem_on_a_line_of_its_own() -> None:
    assert render(PLAIN, "in_context", "e", "1st", "2nd") == "e|1st|2nd\nAnswer: Segment"
    assert render(PLAIN, "parametric", "e", "1st", "2nd") == "1st|2nd\nAnswer: Segment"
    spoken = Prompt("n", IN_CONTEXT, PARAMETRIC, stem="It is", system="Be brief.")
    assert render(spoken, "parametric", "e", "1st", "2nd") == "Be brief.\n\n1st|2nd\nIt is"
    # The system message is no part of what is asked.
    assert asked(spoken, "parametric", "e", "1st", "2nd") == "1st|2nd"


def test_braces_in_texts_stay_and_double_braces_in_templates_become_single() -> None:
    braced = Prompt("n", "{{{excerpt}}}{first}{second}", PARAMETRIC)
    assert asked(braced, "in_context", "{first}", "{x}", "{}") == "{{first}}{x}{}"


def test_a_title_is_shown_where_the_template_names_it() -> None:
    titled = Prompt("n", "{title}:{excerpt}{first}{second}", PARAMETRIC)
    assert titled.needs_title
    assert not PLAIN.needs_title
    assert asked(titled, "in_context", "e", "a", "b", title="T") == "T:eab"
    assert asked(titled, "parametric", "e", "a", "b") == "a|b"
    with pytest.raises(ValueError, match="prompt n names a title, and there is none"):
        asked(titled, "in_context", "e", "a", "b")


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="condition is `control`"):
        asked(PLAIN, "control", "e", "a", "b")


def test_the_first_label_is_right_when_the_earlier_segment_is_shown_first() -> None:
    other = Prompt("n", IN_CONTEXT, PARAMETRIC, labels=("1", "2"))
    assert [right_label(PLAIN, order) for order in ORDERS] == ["A", "B"]
    assert [right_label(other, order) for order in ORDERS] == ["1", "2"]


def test_the_templates_that_ship_show_both_labels_beside_their_segments() -> None:
    prompts = read_prompts()
    assert 4 <= len(prompts) <= 13
    for prompt in prompts:
        for condition in CONDITIONS:
            text = asked(prompt, condition, "<E>", "<1>", "<2>")
            first, second = text.index("<1>"), text.index("<2>")
            # Each label stands before its own segment, and the long text before both.
            assert prompt.labels[0] in text[:first]
            assert prompt.labels[1] in text[first:second]
            assert ("<E>" in text[:first]) == (condition == "in_context")
            assert not prompt.needs_title


GOOD = '[[prompt]]\nname = "a"\nin_context = "{excerpt}{first}{second}"\nparametric = "{first}{second}"\n'


def test_a_file_of_templates_is_read(tmp_path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(GOOD + 'labels = ["1", "2"]\nsystem = "s"\n')
    assert read_prompts(file) == (
        Prompt("a", "{excerpt}{first}{second}", "{first}{second}", labels=("1", "2"), system="s"),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = ", "the prompts are not TOML"),
        ("", "no [[prompt]] table"),
        ("prompt = 1", "no [[prompt]] table"),
        ("prompt = [1]", "a prompt is not a table"),
        (GOOD + "[run]\nx = 1", "or has other tables too"),
        (GOOD + GOOD, "2 prompts are named `a`"),
        (GOOD + 'lables = ["1", "2"]', "unknown key `lables`, did you mean `labels`?"),
        (GOOD + 'labels = ["1"]', "labels is ['1'], not a list of two strings"),
        (GOOD + "stem = 1", "stem is 1, not a string"),
        ('[[prompt]]\nname = "a"\nin_context = "{excerpt}"', "the key parametric is missing"),
        (GOOD + 'labels = ["1", "1"]', "both labels are `1`"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name(tmp_path, text, problem) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(SuiteError) as error:
        read_prompts(file)
    assert problem in str(error.value)
    assert str(file) in str(error.value)


def test_templates_that_are_wrong_are_told_all_at_once(tmp_path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(GOOD.replace("{second}", "") + GOOD.replace('"a"', '"b"') + 'stem = ""\n')
    with pytest.raises(SuiteError) as error:
        read_prompts(file)
    assert ["prompt 1" in each.where for each in error.value.problems] == [True, False]
    assert "prompt 2" in error.value.problems[1].where


def test_a_missing_file_suggests_its_neighbour(tmp_path) -> None:
    (tmp_path / "prompts.toml").write_text(GOOD)
    with pytest.raises(SuiteError, match=r"there is no prompt file, did you mean `prompts\.toml`"):
        read_prompts(tmp_path / "promts.toml")
