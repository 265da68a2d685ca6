"""The page in a real Chromium, at desktop and phone width: what a reader sees, and that nothing complains.

Skipped where there is no Chromium or no Playwright; `.ci/run` installs both.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from memprobe.bench.page import write_report
from memprobe.report.plain import number

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as play:
        # Without a sandbox: a container has no user namespaces, and the page is ours.
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory) -> Path:
    return write_report(finished, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def opened(browser, report, request):
    """The page at a width, and what the browser complained of."""
    made = []

    def at(width: int, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        made.append(page)
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda asked: complaints.append(asked.url) if asked.url != report.as_uri() else None
        )
        page.goto(report.as_uri())
        return page, complaints

    yield at
    for page in made:
        page.close()


@SIZES
def test_nothing_is_complained_of_nothing_is_fetched_and_nothing_overflows(opened, width) -> None:
    page, complaints = opened(width)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The style sheet is in force: the policy did not refuse it.
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
        == "rgb(255, 255, 255)"
    )


@SIZES
def test_every_figure_is_drawn_and_its_letters_can_be_read(opened, width) -> None:
    page, _ = opened(width)
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => { const box = svg.getBoundingClientRect();"
        " return [box.width, box.height, svg.querySelectorAll('path').length,"
        " svg.querySelector('text').getBoundingClientRect().height] })"
    )
    assert len(boxes) >= 4
    for drawn, height, paths, letters in boxes:
        assert 250 <= drawn <= width
        assert height >= 90
        assert paths >= 3
        assert letters >= 8


def test_links_lead_to_their_sections(opened) -> None:
    page, _ = opened(1280)
    links = page.locator("nav a")
    assert links.count() >= 4
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        links.nth(i).click()
        top = page.evaluate(f"document.querySelector('{target}').getBoundingClientRect().top")
        at_end = page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 1")
        assert -1 < top < 100 or at_end


@SIZES
def test_headline_numbers_read_as_in_the_summary(opened, finished, width) -> None:
    page, _ = opened(width)
    shown = page.locator(".headlines data").all_inner_texts()
    summary = pl.read_parquet(finished / "summary.parquet").filter(
        pl.col("group").is_null(), pl.col("step") == 20
    )
    wanted = [
        ("recognition", "accuracy_frac", None),
        ("recall", "exact_frac", None),
        (
            "extraction",
            "rate_frac",
            page.locator(".headlines tr:nth-child(3) bdi").last.inner_text().replace(", ", ";"),
        ),
    ]
    expected = [
        number(
            summary.filter(
                pl.col("probe") == probe,
                pl.col("metric") == metric,
                pl.col("condition").eq_missing(pl.lit(condition, dtype=pl.String)),
            ).row(0, named=True)
        )
        for probe, metric, condition in wanted
    ]
    assert shown == expected


def test_the_dark_page_keeps_its_figures_on_light_cards_and_its_words_readable(opened) -> None:
    page, _ = opened(1280, "dark")
    colour = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.evaluate(colour.format(".card", "backgroundColor")) == "rgb(255, 255, 255)"
    back = page.evaluate(colour.format("body", "backgroundColor"))
    ink = page.evaluate(colour.format("body", "color"))
    dark, light = (sum(map(int, each[4:-1].split(","))) for each in (back, ink))
    assert (dark < 150, light > 600) == (True, True)


def test_print_opens_what_is_folded_and_hides_the_links(opened) -> None:
    page, _ = opened(1280)
    folded = page.locator("details:not([open]) table").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert (
        page.evaluate("document.querySelector('details:not([open]) table').getBoundingClientRect().height")
        > 20
    )


def test_the_page_reads_in_order_without_its_style_sheet(opened) -> None:
    page, _ = opened(390)
    page.evaluate("document.querySelector('style').remove()")
    assert page.evaluate("document.querySelector('h1').getBoundingClientRect().top") < 100
    words = page.evaluate("document.body.innerText")
    assert words.index("In one number") < words.index("recognition") < words.index("How it was made")
