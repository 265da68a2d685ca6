"""Nothing that a user wrote can leave the place where it is shown."""

from html.parser import HTMLParser

import pytest

from memprobe.report.elements import element, join, raw, table, user_text
from tests.report.conftest import HOSTILE


class Tags(HTMLParser):
    """What a browser would make of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("given", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_adds_neither_tag_nor_attribute_wherever_it_stands(given) -> None:
    page = Tags(element("p", given, user_text(given), title=given))
    assert page.tags == ["p", "bdi"]
    assert [name for name, _ in page.attributes] == ["title"]


def test_what_cannot_be_seen_is_written_out_and_what_is_long_is_cut() -> None:
    assert Tags(user_text("left\u202egnp.exe")).text == "left\\u202egnp.exe"
    assert Tags(user_text("a\x00b")).text == "a\\x00b"
    assert len(Tags(user_text("x" * 10_000)).text) == 60


def test_html_of_ours_is_escaped_once_and_a_text_that_looks_like_it_is_not_believed() -> None:
    inner = element("b", "1 < 2")
    assert element("p", inner) == "<p><b>1 &lt; 2</b></p>"
    assert element("p", str(inner)[:]) == element("p", join([str(inner)]))
    assert "&lt;b&gt;" in element("p", "".join(["<b>", "x"]))


def test_a_table_names_its_columns_and_rows() -> None:
    page = Tags(table(["item", "n"], [["<i>", "1"]], "caption"))
    assert page.tags == ["div", "table", "caption", "thead", "tr", "th", "th", "tbody", "tr", "th", "td"]
    assert ("scope", "row") in page.attributes
    assert page.text == "captionitemn<i>1"


def test_an_element_without_content_is_not_closed() -> None:
    assert element("meta", http_equiv="x", content='"') == '<meta http-equiv="x" content="&quot;">'
    assert raw("<hr>") == "<hr>"
