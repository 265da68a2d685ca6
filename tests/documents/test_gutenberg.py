"""The book between the marks of Project Gutenberg, old and new, and texts that have none."""

import pytest

from memprobe.documents.gutenberg import find_body

BOOK = "CHAPTER I.\r\n\r\nCall me Ishmael. * * * It ends here."


@pytest.mark.parametrize(
    ("front", "back"),
    [
        (
            "The eBook of X\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK MOBY DICK ***\r\n\r\n",
            "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK MOBY DICK ***\r\nlicence",
        ),
        (
            "x\n***START OF THIS PROJECT GUTENBERG EBOOK MOBY\nDICK; OR THE WHALE***\n",
            "\n\nEnd of the Project Gutenberg EBook of X\n\n*** END OF THIS PROJECT GUTENBERG EBOOK ***",
        ),
        (
            "legal\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n",
            "\n\nEnd of Project Gutenberg's Moby Dick\n",
        ),
        ("*** START OF THE PROJECT GUTENBERG EBOOK X ***\n", ""),
        ("", "\n*** END OF THE PROJECT GUTENBERG EBOOK X ***"),
    ],
)
def test_the_book_is_found_to_the_character(front, back) -> None:
    start, end = find_body(front + BOOK + back)
    assert (front + BOOK + back)[start:end] == BOOK
    assert start == len(front)


@pytest.mark.parametrize(
    "text", ["", BOOK, "I read it at Project Gutenberg. The end of the project was near."]
)
def test_a_text_without_marks_has_no_such_body(text) -> None:
    assert find_body(text) is None
