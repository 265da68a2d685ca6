"""The page: what it says, that it equals the summary, and that nothing in it can run or be fetched."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import polars as pl

from memprobe.report.html import page
from memprobe.report.plain import number
from tests.report.conftest import HOSTILE, summary_rows


class Page(HTMLParser):
    """What a browser reads: tags with their attributes, ids, links, and the text of each `data` element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[str] = []
        self.values: list[str] = []
        self.words: list[str] = []
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in.append(tag)
        if tag == "data":
            self.values.append(dict(attrs)["value"])

    def handle_endtag(self, tag):
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data):
        if self._in and self._in[-1] == "data":
            self.numbers.append(data)
        if "style" not in self._in:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


ITEMS = pl.DataFrame(
    {"model": ["m", "m"], "item_id": ["a", "b"], "n_tokens": [7, 9], "suffix": ["secret", "s"]}
)
RECALL = pl.DataFrame(
    {
        "model": "m",
        "step": 10,
        "item_id": ["a", "b"],
        "group": ["canary", "book"],
        "exact": [True, False],
        "lcp_tokens": [4, 1],
        "suffix_tokens": [4, 4],
        "min_margin_nats": [1.5, -0.5],
    }
)


def test_the_policy_lets_nothing_in_and_its_hash_is_that_of_the_style(results_of) -> None:
    html = page(results_of(summary_rows({})))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    parts = {part.split()[0]: part.split()[1:] for part in policy.replace("&#x27;", "'").split("; ")}
    assert parts["default-src"] == ["'none'"]
    assert parts["style-src"] == [f"'sha256-{digest}'"]


def test_headline_numbers_are_those_of_the_summary_as_it_shows_them(results_of) -> None:
    summary = summary_rows(
        {"step": 5, "revision": "step5", "estimate": 0.1},
        {"estimate": 0.125, "ci_low": 0.0625, "ci_high": 0.25},
        {
            "probe": "recognition",
            "metric": "accuracy_frac",
            "estimate": 0.75,
            "ci_low": None,
            "ci_high": None,
        },
    )
    shown = Page(page(results_of(summary, ("recall", "recognition"))))
    rows = summary.filter(pl.col("step") == 10).to_dicts()
    assert shown.numbers == [number(row) for row in rows] == ["0.12 [0.06, 0.25]", "0.75 [no interval]"]
    assert shown.values == ["0.125", "0.75"]


def test_every_link_of_the_page_leads_to_a_place_in_it_once(results_of) -> None:
    shown = Page(
        page(
            results_of(
                summary_rows({}, {"probe": "recognition", "metric": "accuracy_frac"}),
                ("recall", "recognition"),
                warnings=["careful"],
            )
        )
    )
    places = shown.all("id")
    assert len(places) == len(set(places))
    links = shown.all("href")
    assert {"#probe-recall", "#probe-recognition", "#appendix", "#warnings"} <= set(links)
    assert {link.removeprefix("#") for link in links} <= set(places)


def hostile_page(results_of, names: list[str]) -> Page:
    """A page with each name in every place where a user's text can stand."""
    parts = [
        row
        for name in names
        for row in ({"group": name}, {"condition": f"foil_kind={name}"}, {"condition": f"exposures={name}"})
    ]
    models = [{"model": name} for name in names]
    summary = summary_rows({"step": 5, "revision": "step5"}, {}, *parts, *models)
    recall = RECALL.head(1).join(pl.DataFrame({"new": names}), how="cross")
    rules = [dict.fromkeys(("id", "verdict", "severity", "probe", "metric", "why"), name) for name in names]
    return Page(
        page(
            results_of(
                summary,
                tables={
                    "recall": recall.with_columns(item_id="new", group="new").drop("new"),
                    "items": ITEMS,
                },
                gate={
                    "format": 1,
                    "verdict": names[0],
                    "rules_file": names[1],
                    "line": names[2],
                    "rules": rules,
                },
                failures=[{"model": name, "revision": name, "step": 1, "error": name} for name in names],
                warnings=names,
                missing=tuple(names),
                skipped=tuple({"item_id": name, "reason": name, "probe": None} for name in names),
                flags={"model": names},
                versions={name: name for name in names},
                suite={"name": names[3], "title": names[4], "source": names[5]},
            )
        )
    )


def test_hostile_names_change_neither_tags_nor_attributes(results_of) -> None:
    # A figure's size follows its words, so what is inside of it is compared by its kinds alone.
    drawn = ("path", "line", "text", "g", "tspan", "rect")

    def shape(of: Page) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attrs)) for tag, attrs in of.tags if tag not in drawn]

    shown = hostile_page(results_of, HOSTILE)
    plain = hostile_page(results_of, [f"plain-{i}" for i in range(len(HOSTILE))])
    assert {tag for tag, _ in shown.tags} == {tag for tag, _ in plain.tags}
    assert shape(shown) == shape(plain)
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on") or name == "style"]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", "".join(shown.words))
    assert max(map(len, shown.words)) < 2_100
    for given in ("<script>alert(1)</script>", "=cmd()", "{{ constructor }}", "left\\u202egnp.exe"):
        assert given in shown.text


def test_nothing_is_fetched_and_no_style_stands_on_an_element(results_of) -> None:
    html = page(results_of(summary_rows({"step": 5, "revision": "step5"}, {})))
    shown = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in shown.tags}
    assert not shown.all("style")
    assert "svg" in {tag for tag, _ in shown.tags}
    assert not shown.all("src")
    assert set(re.findall(r"https?://[^\"' <]+", html)) == {"http://www.w3.org/2000/svg"}


def test_texts_are_shown_only_where_they_were_asked_for(results_of) -> None:
    made = results_of(summary_rows({}), tables={"recall": RECALL, "items": ITEMS})
    assert "secret" not in page(made)
    assert "secret" in page(made, include_text=True)


def test_the_most_memorized_items_come_first_with_their_lengths(results_of) -> None:
    shown = Page(page(results_of(summary_rows({}), tables={"recall": RECALL, "items": ITEMS})))
    listed = shown.text[shown.text.index("Most memorized items") :]
    # By the smallest margin: a (1.5), then b (-0.5); their lengths are 7 and 9 tokens.
    assert listed.index("acanary7true441.50") < listed.index("bbook9false14-0.50")


def test_an_unfinished_run_says_so_first_and_shows_what_is_there(results_of) -> None:
    shown = Page(page(results_of(summary_rows({}), missing=("m step20: 0 of 4 units scored",)))).text
    assert "The run is not finished" in shown
    assert shown.index("m step20: 0 of 4 units scored") < shown.index("0.50 [0.30, 0.70]")


def test_a_run_without_an_estimate_is_a_page_all_the_same(results_of) -> None:
    shown = Page(page(results_of(summary_rows({}).clear()))).text
    assert "There is no estimate" in shown
    assert "Without an estimate: recall." in shown


def test_what_the_gate_said_stands_above_the_numbers(results_of) -> None:
    rule = {
        "id": "no-canary",
        "verdict": "failed",
        "severity": "error",
        "probe": "recall",
        "metric": "exact_frac",
        "rows": [
            {"verdict": "passed", "reason": None},
            {"verdict": "failed", "reason": "upper bound 0.7 is above 0.05"},
        ],
    }
    gate = {
        "format": 1,
        "verdict": "failed",
        "rules_file": "rules.toml",
        "line": "gate: 1 of 1 failed",
        "rules": [rule],
    }
    html = page(results_of(summary_rows({}), gate=gate))
    shown = Page(html).text
    assert shown.index("gate: 1 of 1 failed") < shown.index("In one number")
    assert "no-canaryfailederrorrecall exact_fracupper bound 0.7 is above 0.05" in shown
    assert 'class="verdict failed"' in html
    noted = gate | {
        "notes": ["every rule warns"],
        "rules": [rule | {"notes": ["2 of 9 items have no value"]}],
    }
    html_of_notes = page(results_of(summary_rows({}), gate=noted))
    assert "every rule warns" in html_of_notes
    assert "no-canary: 2 of 9 items have no value" in html_of_notes
    unsure = page(results_of(summary_rows({}), gate=gate | {"verdict": "could not judge"}))
    assert 'class="verdict unsure"' in unsure
    old = page(results_of(summary_rows({}), gate=gate, gate_is_old=True))
    assert "It judged an earlier state of this run: run the gate again." in Page(old).text
    assert "earlier state" not in shown
    assert 'class="verdict unsure"' in old


def test_failures_skipped_items_signatures_and_citations_are_listed(results_of) -> None:
    shown = Page(
        page(
            results_of(
                summary_rows({"signature": "recall|v1|bos:default"}),
                failures=[{"model": "m", "revision": "step20", "step": 20, "error": "NaN logits"}],
                skipped=({"item_id": "short-1", "reason": "too short", "probe": "recall"},) * 3,
            )
        )
    ).text
    assert "1 checkpoint could not be scored" in shown
    assert "NaN logits" in shown
    assert "3 items left out" in shown
    assert "too short3" in shown
    assert "recall|v1|bos:default" in shown
    assert "@misc{carlini2022quantifying," in shown


def test_a_paper_that_two_probes_rest_on_is_cited_once(results_of) -> None:
    summary = summary_rows({}, {"probe": "recognition", "metric": "accuracy_frac"})
    shown = page(results_of(summary, ("recall", "recognition")))
    assert shown.count("@misc{orhan2023recognition,") == 1


def test_several_models_are_told_apart_and_one_is_not_named(results_of) -> None:
    one, two = (Page(page(results_of(summary_rows({}, *more)))) for more in ((), ({"model": "other"},)))
    assert "model" not in [word.strip() for word in one.words[:60]]
    assert len(two.numbers) == 2
    assert "other" in two.text


def test_a_finished_run_is_shown_whole(finished, tmp_path) -> None:
    from memprobe.bench.page import write_report

    file = write_report(finished, tmp_path / "page.html")
    shown = Page(file.read_text())
    manifest = json.loads((finished / "manifest.json").read_text())
    assert {f"probe-{probe}" for probe in manifest["probes"]} <= set(shown.all("id"))
    for about in manifest["probes"].values():
        assert about["about"]["measures"] in shown.text
        assert about["formula"] in shown.text
    assert len([tag for tag, _ in shown.tags if tag == "svg"]) >= len(manifest["probes"])
    # Text of the items stands nowhere: their ids do.
    assert "quokka" not in file.read_text()
    assert "i01" in shown.text
