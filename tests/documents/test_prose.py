"""Running text: what is told from headings and matter, and that nothing of it is changed."""

import pytest

from memprobe.documents.prose import is_heading, read_prose


def kept(text: str) -> str:
    prose = read_prose(text)
    return prose.slice(0, len(prose.words)) if len(prose.words) else ""


PROSE = "It was a quiet morning in the valley, and nobody had yet come down to the river."


@pytest.mark.parametrize(
    "block",
    [
        *("CHAPTER IV", "Chapter 12.", "Book the Second", "PART I", "Act III", "XII", "IV.", "12", "PREFACE"),
        *(
            "DR. SHEPPARD AT THE BREAKFAST TABLE",
            "* * * * *",
            "-----",
            "[Illustration]",
            "Fig. 3",
            "Epilogue",
        ),
        *("[Illustration: _The castle._]", "Chapter I The Pill Box", "[12] See page 4.", "WHO’S WHO"),
    ],
)
def test_a_heading_is_told_by_its_shape(block) -> None:
    assert is_heading(block)
    assert block not in kept(f"{PROSE}\n\n{block}\n\n{PROSE}")


@pytest.mark.parametrize(
    "block",
    [
        # Speech, a cry, a sentence that begins with a heading's word, and a short sentence.
        *(
            "“NO.”",
            '"STOP!"',
            "HELP!",
            "Chapter and verse were quoted, and nobody listened to them.",
            "He ran.",
        ),
        *("Part of it was true, she said.", "“Twelve,” he said.", "I went home.", "A.", "Yes"),
    ],
)
def test_what_is_said_is_no_heading(block) -> None:
    assert not is_heading(block)
    assert block in kept(f"{PROSE}\n\n{block}\n\n{PROSE}")


def test_the_title_below_a_heading_goes_with_it_and_a_sentence_does_not() -> None:
    text = (
        f"{PROSE}\n\nChapter I\n\nThe Pill Box\n\n{PROSE}\n\nChapter II\n\nHe ran.\n\nThe Pill Box\n\n{PROSE}"
    )
    assert kept(text).count("The Pill Box") == 1
    assert "He ran." in kept(text)
    # What goes on from the page before begins small.
    assert "and so he went" in kept(f"{PROSE}\n\nIII\n\nand so he went\n\n{PROSE}")


def test_title_page_and_contents_are_left_out() -> None:
    front = "THE BOOK\n\nBY\n\nA. N. AUTHOR\n\nCopyright, 1926, by the author, in all countries.\n\nNew York"
    contents = "CONTENTS\n\n  I. The Pill Box     3\n\n  II. The Naturalist    9\n\nIndex"
    body = "\n\n".join([PROSE] * 40)
    assert kept(f"{front}\n\n{contents}\n\nChapter I\n\nThe Pill Box\n\n{body}") == body


def test_an_imprint_that_ends_like_a_sentence_is_no_beginning() -> None:
    imprint = "Copyright, 1926, by the author, in all the countries of the Union."
    body = "\n\n".join([PROSE] * 20)
    assert kept(f"The Pill Box\n\n{imprint}\n\n{body}") == body
    assert "\n\n".join([PROSE, imprint, body]) == kept(f"{PROSE}\n\n{imprint}\n\n{body}")


def test_what_follows_the_end_is_left_out_only_near_the_end() -> None:
    body = "\n\n".join([PROSE] * 20)
    assert kept(f"{body}\n\nTHE END\n\n{PROSE} Other books by this house are dear.") == body
    assert kept(f"{PROSE}\n\nTHE END\n\n{body}").count("quiet morning") == 21
    for mark in ("INDEX", "Transcriber’s Notes:", "TRANSCRIBER NOTES", "Finis"):
        assert kept(f"{body}\n\n{mark}\n\nAdams, 12, 44, and others who are named.") == body


def test_gutenberg_marks_bound_the_text() -> None:
    mark = "*** {} OF THE PROJECT GUTENBERG EBOOK X ***"
    text = f"Licence.\n{mark.format('START')}\n\n{PROSE}\n\n{mark.format('END')}\nMore."
    assert kept(text) == PROSE


def test_a_caption_over_several_blocks_is_left_out_and_an_open_one_stops() -> None:
    drawing = "[Illustration:\n\n  +---+ DOOR\n\n  | a small table stands here. |\n\n  a floor plan ]"
    assert kept(f"{PROSE}\n\n{drawing}\n\n{PROSE}") == f"{PROSE}\n\n{PROSE}"
    assert kept(f"{PROSE}\n\n[Illustration:\n\n{PROSE}") == f"{PROSE}\n\n{PROSE}"


def test_a_text_without_blank_lines_is_kept_as_it_is() -> None:
    text = "One two.\nTHREE\nFour five."
    prose = read_prose(text)
    assert kept(text) == text
    assert (prose.n_blocks_left_out, prose.n_words_left_out) == (0, 0)


def test_words_sentences_and_what_is_left_out_are_counted() -> None:
    #        0   1    2     3      -  -   4    5   6
    text = "One two. Three four.\n\nCHAPTER II\n\nFive six. Seven."
    prose = read_prose(text)
    assert [text[a:b] for a, b in prose.words] == ["One", "two.", "Three", "four.", "Five", "six.", "Seven."]
    assert prose.starts.tolist() == [0, 2, 4, 6]
    assert prose.stretch.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (prose.n_blocks_left_out, prose.n_words_left_out) == (1, 2)


def test_a_slice_within_a_stretch_is_the_very_text_and_over_a_heading_gets_a_blank_line() -> None:
    prose = read_prose("One  two.\nThree four.\n\nCHAPTER II\n\nFive six.")
    assert prose.slice(0, 3) == "One  two.\nThree"
    assert prose.slice(2, 3) == "Three four.\n\nFive"


@pytest.mark.parametrize("text", ["", "   \n\n ", "CHAPTER I", "***\n\n***"])
def test_a_text_of_nothing_has_no_words(text) -> None:
    prose = read_prose(text)
    assert (len(prose.words), len(prose.starts)) == (0, 0)
