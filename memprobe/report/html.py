"""The report: one self-contained HTML page whose policy forbids loading or running anything else.

The page opens from disk and offline, needs no script, and reads in order without its style sheet.
"""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from memprobe._version import __version__
from memprobe.report.console import head_lines
from memprobe.report.elements import Html, element, join, raw, table, text, user_text
from memprobe.report.estimates import Headline, headlines
from memprobe.report.html_appendix import appendix
from memprobe.report.html_probe import named, probe_section
from memprobe.report.plain import number
from memprobe.report.results import Results
from memprobe.tables.conditions import readable
from memprobe.wording import counted, step_cell

_VERDICTS = {"passed": "passed", "failed": "failed", "could not judge": "unsure"}
_OLD_VERDICT = "It judged an earlier state of this run: run the gate again."
_MAX_RULES = 30
# Maximum number of characters shown of a text that somebody wrote.
_LONG = 1_000
# Prefix in `head_lines` of the lines that have their own section here.
_WARNING = "warning: "


def page(results: Results, *, include_text: bool = False) -> str:
    """Return a run's report.

    Args:
        results: Contents of the run.
        include_text: Show the texts of the items that are listed; the run must hold them.
    """
    style = resources.files("memprobe.report").joinpath("page.css").read_text(encoding="utf-8")
    found = headlines(results.summary, results.metrics)
    probes = [probe for probe in results.probes if probe in results.summary["probe"]]
    sections = [
        probe_section(
            results, probe, [each for each in found if each.probe == probe], include_text=include_text
        )
        for probe in probes
    ]
    unmeasured = [probe for probe in results.probes if probe not in probes]
    front = [_top(results), _headlines(found, unmeasured), *_warnings(results), _links(probes)]
    body = [*front, *sections, appendix(results)]
    title = f"memprobe: {results.name}"
    document = element(
        "html", _head(title, style), element("body", element("main", *body), _foot()), lang="en", dir="ltr"
    )
    return f"<!DOCTYPE html>\n{document}\n"


def _head(title: str, style: str) -> Html:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", text(title, 80)),
        element("style", raw(style)),
    )


def _top(results: Results) -> Html:
    run = results.manifest
    asked = [element("p", text(run.suite.title, 200), *_sourced(run.suite.source))] if run.suite.title else []
    lines = [each for each in head_lines(run) if not each.startswith(_WARNING)]
    plain = [element("p", user_text(line, _LONG)) for line in lines]
    if n_warnings := len(run.warnings):
        plain.append(element("p", element("a", counted(n_warnings, "warning"), href="#warnings")))
    parts = [element("h1", "What the model remembers: ", user_text(results.name)), *asked, *plain]
    parts += _unfinished(results)
    parts += [_verdict(results.gate, is_old=results.gate_is_old)] if results.gate is not None else []
    return element("header", *parts)


def _warnings(results: Results) -> list[Html]:
    warnings = results.manifest.warnings
    if not warnings:
        return []
    listed = element("ul", *(element("li", user_text(each, _LONG)) for each in warnings))
    return [element("section", element("h2", "Warnings", id="warnings"), listed)]


def _sourced(source: str) -> list[Html]:
    return [text(f" ({source})", 200)] if source else []


def _unfinished(results: Results) -> list[Html]:
    if not results.missing:
        return []
    listed = element("ul", *(element("li", user_text(each, _LONG)) for each in results.missing))
    said = element("p", "The run is not finished: these numbers cover what has been scored so far. Missing:")
    return [element("div", said, listed, class_="notice unsure")]


def _verdict(gate: Mapping[str, Any], *, is_old: bool) -> Html:
    verdict = str(gate.get("verdict", ""))
    rules = gate.get("rules", ())
    said = element("p", element("b", "Gate: ", text(verdict)), " by ", user_text(gate.get("rules_file", "")))
    rows = [
        [
            user_text(rule["id"]),
            text(rule["verdict"]),
            text(rule["severity"]),
            named(f"{rule['probe']} {rule['metric']}"),
            user_text(_reason(rule), 120),
            user_text(rule.get("why") or "", 120),
        ]
        for rule in rules[:_MAX_RULES]
    ]
    shown = table(("rule", "verdict", "severity", "judged", "because", "why"), rows) if rows else text("")
    more = len(rules) - len(rows)
    left = [element("p", f"and {counted(more, 'more rule')} in gate.json")] if more > 0 else []
    line = element("p", user_text(gate.get("line", ""), _LONG))
    old = [element("p", element("b", _OLD_VERDICT))] if is_old else []
    left += [element("p", "note: ", user_text(each, _LONG)) for each in _gate_notes(gate)[:_MAX_RULES]]
    kind = "unsure" if is_old else _VERDICTS.get(verdict, "unsure")
    return element("div", said, *old, line, shown, *left, class_=f"verdict {kind}")


def _gate_notes(gate: Mapping[str, Any]) -> list[str]:
    """Return the gate's notes on the run, then on its rules."""
    of_rules = [f"{rule['id']}: {each}" for rule in gate.get("rules", ()) for each in rule.get("notes") or ()]
    return [*map(str, gate.get("notes") or ()), *of_rules]


def _reason(rule: Mapping[str, Any]) -> str:
    """Return why a rule did not pass: the reason of its first row that did not."""
    rows = [each for each in rule.get("rows") or () if each.get("verdict") != "passed"]
    return str((rows[0].get("reason") if rows else rule.get("reason")) or "")


def _links(probes: list[str]) -> Html:
    places = [*((f"probe-{each}", each) for each in probes)]
    places.append(("appendix", "how it was made"))
    links = (element("a", text(words), href=f"#{place}") for place, words in places)
    return element("nav", *links, aria_label="Sections")


def _headlines(found: list[Headline], unmeasured: list[str]) -> Html:
    """Return one number for each probe and model, as `memprobe summary` shows it."""
    several = len({each.model for each in found}) > 1
    rows = [
        [
            element("a", text(each.probe), href=f"#probe-{each.probe}"),
            *([user_text(each.model)] if several else []),
            element("data", text(number(each.row)), value=_exact(each.row["estimate"])),
            join([named(each.metric), _condition(each.row["condition"])]),
            text("all steps" if each.row["revision"] is None else step_cell(each.row["step"])),
            text(f"{each.row['n_items']:,}"),
        ]
        for each in found
    ]
    head = ("probe", *(["model"] if several else []), "estimate", "metric", "step", "n")
    parts = [element("h2", "In one number", id="headlines")]
    levels = sorted({each.row["ci_level"] for each in found})
    if rows:
        level = " and ".join(f"{each:.0%}" for each in levels)
        said = (
            f"Each probe's first metric at the last step, all items together; in brackets {level} intervals."
        )
        parts += [element("p", said), table(head, rows)]
    else:
        parts.append(element("p", "There is no estimate: no checkpoint is scored, or see the warnings."))
    if unmeasured:
        parts.append(element("p", text(f"Without an estimate: {', '.join(unmeasured)}.")))
    return element("section", *parts, class_="headlines")


def _condition(condition: str | None) -> Html:
    return text("") if condition is None else join([" ", user_text(readable(condition), 80)])


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)


def _foot() -> Html:
    return element(
        "footer", element("p", text(f"Made by memprobe {__version__} from the run directory alone."))
    )
