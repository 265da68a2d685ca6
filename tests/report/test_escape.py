"""Hostile texts, one by one, in each format; what a reader of the format would make of the result."""

import html
import re

import pytest

from memprobe.escape import latex, markdown, markup, visible

HOSTILE = (
    "<script>alert(1)</script>",
    '" onmouseover="x',
    "' & &amp;",
    "=cmd()|' /C calc'!A0",
    "{{ 7 * 7 }} {% raw %} ${x}",
    "a\u202ecod.exe\u2066",
    "\x00\x1b[31mred\x07\x7f\x9b",
    "one\ntwo\r\nthree\tfour\u2028five",
    "\\input{/etc/passwd} $x$ #1 100% a_b ^ ~",
    "| a | `b` | **c** | [d](javascript:x)",
    "@everyone see #1 https://a.example/x www.b.example",
    "# heading",
    "---",
    "1. list",
    "x" * 10_000,
    "\ud800",
    "é ñ 中文 עברית 👩‍🔬",
    "",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_invisible_is_left_and_everything_stands_on_one_line(text) -> None:
    for escaped in (visible(text), markup(text), markdown(text), latex(text)):
        assert not re.search(
            r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", escaped
        )
        escaped.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_the_text_again_and_holds_no_tag_and_no_open_quote(text) -> None:
    escaped = markup(text)
    assert html.unescape(escaped) == visible(text)
    assert not set(escaped) & set("<>\"'")
    assert not re.search(r"&(?!(amp|lt|gt|quot|#x27);)", escaped)


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_only_commands_of_its_own_and_balanced_braces(text) -> None:
    escaped = latex(text)
    commands = set(re.findall(r"\\([A-Za-z]+)", escaped))
    assert commands <= {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"} | {
        *("textbar", "textasciigrave", "char")
    }
    bare = re.sub(r"\\.", "", escaped)
    assert not set(bare) & set('$&#%_~^"`')
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("é ñ ő ç ř ï", r"\'{e} \~{n} \H{o} \c{c} \v{r} \"{\i}"),
        ("Łódź ß", r"\L{}\'{o}d\'{z} \ss{}"),
        ("中 й", "{[U+4E2D]} {[U+0439]}"),
        ("--", "{-}{-}"),
        ("[x]*", "{[}x{]}{*}"),
        ("x{y}\\z", r"x\{y\}\textbackslash{}z"),
    ],
)
def test_latex_of_what_papers_hold(text, shown) -> None:
    assert latex(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # What memprobe itself writes stays readable in the source.
        ("exact_frac", "exact_frac"),
        ("scheme=top40;n=1;p=0.5", "scheme=top40;n=1;p=0.5"),
        ("_x_", r"\_x\_"),
        ("<b>|*x*`", r"&lt;b&gt;\|\*x\*\`"),
        ("@team #1", "&#64;team &#35;1"),
        ("https://a.b www.c.d", "https&#58;//a.b www&#46;c.d"),
        ("- x", r"\- x"),
        ("-0.5", r"\-0.5"),
        ("1. x", r"1\. x"),
        ("1.5", "1.5"),
    ],
)
def test_markdown_shows_the_text_and_does_nothing(text, shown) -> None:
    assert markdown(text) == shown


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "a" * 5000 + "b" * 5000
    assert visible(text, 11) == "aaaaa…bbbbb"
    assert visible(text, 10) == "aaaaa…bbbb"
    assert visible("short", 10) == "short"
    assert visible("exactly-10", 10) == "exactly-10"
    assert len(visible("\u202e" * 100, 20)) == 20


def test_joiners_stay_where_scripts_need_them() -> None:
    assert visible("👩\u200d🔬 می\u200cخواهم") == "👩\u200d🔬 می\u200cخواهم"
    assert visible("a\u200bb\ufeff") == "a\\u200bb\\ufeff"
