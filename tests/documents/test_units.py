"""Units of a text against sentences whose ends a reader sees; the rule's known limits are tested as such."""

import pytest

from memprobe.documents.units import chars, sentences, words


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["It rained.", "She left!", "Why?", "Nobody knew..."],
        ["“Go home.”", "He went."],
        ["(So it was.)", "Then night came."],
        ["Mr. Smith met Dr. Jones, Prof. at St. Mary's.", "They spoke."],
        ["J. R. Smith wrote it.", "I read it."],
        ["It was I.", "You knew."],
        ["Pi is 3.14 or so.", "Not 3."],
        ["See No. 7 and Vol. II of it.", "He said no.", "She left."],
        ["1. Take the egg.", "2. Break it."],
        ["What? no, “never!” said she.", "Gone."],
        ["Use e.g. salt, i.e. a pinch.", "Stir."],
        ["A heading without a stop", "A paragraph behind a blank line."],
        ["Zażółć gęślą.", "Ćma leci.", "Über uns."],
        ["No stop at the end"],
    ],
)
def test_sentences_end_where_a_reader_sees_it(expected) -> None:
    separators = "\n\n" if "heading" in expected[0] else " "
    assert cut(separators.join(expected)) == expected


def test_wide_stops_need_no_white_space() -> None:
    assert cut("我来了。你好！“好吗？”他走了") == ["我来了。", "你好！", "“好吗？”", "他走了"]


def test_line_ends_of_windows_make_paragraphs_and_alone_end_nothing() -> None:
    assert cut("one\r\ntwo\r\n\r\nthree\r\n \t\r\nfour") == ["one\r\ntwo", "three", "four"]


@pytest.mark.parametrize(
    ("text", "known_limit"),
    [
        # A lower-case start joins the sentence before, and an abbreviation at the end joins the next.
        ("He ran. iPhones rang.", ["He ran. iPhones rang."]),
        ("We sold to Smith & Co. They paid.", ["We sold to Smith & Co. They paid."]),
    ],
)
def test_the_limits_are_the_ones_that_are_told(text, known_limit) -> None:
    assert cut(text) == known_limit


@pytest.mark.parametrize("text", ["", " \r\n\t ", "\n\n\n"])
def test_nothing_holds_no_units(text) -> None:
    assert sentences(text).shape == words(text).shape == (0, 2)
    assert len(chars(text)) == len(text)


def test_words_are_what_stands_between_white_space() -> None:
    text = " one\u00a0two\r\nthree—four  "
    assert [text[a:b] for a, b in words(text)] == ["one", "two", "three—four"]


def test_a_combining_mark_is_a_character_of_its_own() -> None:
    assert chars("e\u0301!").tolist() == [[0, 1], [1, 2], [2, 3]]


def test_sentences_lie_in_order_and_lose_nothing_but_white_space() -> None:
    text = " One. Two!\n\n“Three?” (Four.) five 6. 7 Mr. X… Y。Z "
    spans = sentences(text)
    assert (spans[1:, 0] >= spans[:-1, 1]).all()
    assert "".join(text[a:b] for a, b in spans).replace(" ", "") == "".join(text.split())
