"""JUnit, SARIF, Markdown and GitHub's annotations: read back by others' readers, within their limits."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import junitparser
import pytest

from memprobe.gates.github import (
    ANNOTATIONS_MAX,
    SUMMARY_BYTES,
    annotations,
    harmless,
    write_step_summary,
)
from memprobe.gates.junit import to_junit
from memprobe.gates.listing import figures, plain_lines
from memprobe.gates.markdown import COMMENT_BYTES, to_markdown
from memprobe.gates.sarif import RESULTS_MAX, to_sarif
from tests.gates.conftest import row

HOSTILE = "<script>|`@all #1\n::error::x\r##[warning]\u202e\x07]](javascript:1){0}'\"&" + "z" * 10_000
FAIL, PASS, NONE = "max = 0.01", "max = 0.9", 'max = 0.9\nwhere = { group = "x" }'
WARN = '\nseverity = "warn"'


@pytest.fixture
def mixed(judge):
    """One rule that fails, one that cannot be judged, one that passes, and the first two as warnings."""
    return judge([row(30, 1000)], FAIL, NONE, PASS, FAIL + WARN, NONE + WARN)


@pytest.fixture
def hostile(judge):
    """A failure whose rule, model, group and condition are all hostile."""
    rows = [row(30, 1000, model=HOSTILE, group=HOSTILE, condition=f"x={HOSTILE}")]
    name = json.dumps(HOSTILE)
    return judge(rows, f"id = {name}\nwhy = {name}\nmax = 0.01\nwhere = {{ group = {name} }}")


# JUnit


def test_junit_lists_the_passes_too_and_counts_are_true(mixed):
    suites = junitparser.JUnitXml.fromstring(to_junit(mixed).encode())
    (suite,) = suites
    assert (suites.tests, suites.failures, suites.errors, suites.skipped) == (5, 1, 1, 2)
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 1, 1, 2)
    told = {case.name: [type(each).__name__ for each in case.result] for case in suite}
    assert told == {"r1": ["Failure"], "r2": ["Error"], "r3": [], "r4": ["Skipped"], "r5": ["Skipped"]}
    assert {case.classname for case in suite} == {"recall.exact_frac"}


def test_junit_round_trips_through_a_parser_of_others(mixed, tmp_path):
    suites = junitparser.JUnitXml.fromstring(to_junit(mixed).encode())
    suites.write(str(tmp_path / "again.xml"))
    again = junitparser.JUnitXml.fromfile(str(tmp_path / "again.xml"))
    cases = [
        [(case.name, [each.message for each in case.result], case.system_out) for case in suite]
        for suites_ in (suites, again)
        for suite in suites_
    ]
    assert cases[0] == cases[1]
    (message,) = cases[0][0][1]
    assert message == "failed: upper bound 0.0425 is above 0.01 (m step10)"


def test_junit_says_where_the_rule_stands(mixed):
    cases = list(ET.fromstring(to_junit(mixed)).iter("testcase"))
    assert [case.get("line") for case in cases] == ["1", "7", "14", "20", "27"]
    assert {Path(case.get("file")).name for case in cases} == {"rules.toml"}


def test_junit_is_xml_whatever_names_hold(hostile):
    (case,) = ET.fromstring(to_junit(hostile)).iter("testcase")
    assert case.get("name").startswith("<script>|`@all #1")
    assert "\x07" not in to_junit(hostile)
    assert "\ufffd" in case.get("name")


# SARIF

# What section 3 of SARIF 2.1.0 demands of the objects that are written here; nothing else may be in them.
TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 1}


def closed(required, **properties):
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def listed(items, **more):
    return {"type": "array", "items": items} | more


MESSAGE = closed(["text"], text=TEXT)
ARTIFACT = closed(["uri"], uri={"type": "string", "pattern": r"^[A-Za-z0-9._~/%-]+$"}, uriBaseId=TEXT)
PHYSICAL = closed(["artifactLocation"], artifactLocation=ARTIFACT, region=closed([], startLine=COUNT))
SARIF = closed(
    ["version", "runs"],
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"enum": ["2.1.0"]},
    runs=listed(
        closed(
            ["tool"],
            tool=closed(
                ["driver"],
                driver=closed(
                    ["name"],
                    name=TEXT,
                    version=TEXT,
                    rules=listed(
                        closed(
                            ["id"],
                            id=TEXT,
                            shortDescription=MESSAGE,
                            fullDescription=MESSAGE,
                            defaultConfiguration=closed(
                                [], level={"enum": ["none", "note", "warning", "error"]}
                            ),
                            properties={"type": "object"},
                        ),
                        uniqueItems=True,
                    ),
                ),
            ),
            invocations=listed(
                closed(
                    ["executionSuccessful"],
                    executionSuccessful={"type": "boolean"},
                    exitCode={"type": "integer"},
                )
            ),
            results=listed(
                closed(
                    ["message"],
                    ruleId=TEXT,
                    ruleIndex={"type": "integer", "minimum": 0},
                    kind={"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
                    level={"enum": ["none", "note", "warning", "error"]},
                    message=MESSAGE,
                    locations=listed(closed([], physicalLocation=PHYSICAL)),
                    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
                )
            ),
            properties={"type": "object"},
        )
    ),
)


def sarif_of(result):
    document = json.loads(to_sarif(result, result.rules_file.parent))
    jsonschema.Draft202012Validator(SARIF).validate(document)
    (run,) = document["runs"]
    for each in run["results"]:
        assert run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
        # Section 3.27.10: a level other than none is for kind fail alone.
        assert (each["level"] != "none") == (each["kind"] == "fail")
    return run


def test_sarif_has_a_result_for_each_row_that_did_not_pass(mixed):
    run = sarif_of(mixed)
    assert [(each["ruleId"], each["kind"], each["level"]) for each in run["results"]] == [
        ("r1", "fail", "error"),
        ("r4", "fail", "warning"),
        ("r2", "open", "none"),
        ("r5", "open", "none"),
    ]
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == ["r1", "r2", "r3", "r4", "r5"]
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]


def test_sarif_is_anchored_at_the_line_of_the_rule(mixed):
    text = mixed.rules_file.read_text().splitlines()
    for each in sarif_of(mixed)["results"]:
        place = each["locations"][0]["physicalLocation"]
        line = place["region"]["startLine"]
        assert text[line - 1] == "[[rule]]"
        assert f'id = "{each["ruleId"]}"' in text[line : line + 3]
        assert place["artifactLocation"] == {"uri": "rules.toml", "uriBaseId": "%SRCROOT%"}


def test_sarif_names_the_rules_as_the_repository_does(judge, tmp_path):
    result = judge([row(30, 1000)], FAIL)
    document = json.loads(to_sarif(result, tmp_path.parent))
    location = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"] == f"{tmp_path.name}/rules.toml"
    elsewhere = json.loads(to_sarif(result, tmp_path / "run"))
    location = elsewhere["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    # Not below the repository: the rest of the path is nobody's business.
    assert location["uri"] == "rules.toml"


def test_a_finding_is_the_same_at_the_next_checkpoint_where_the_rule_asks_for_the_last(judge):
    def print_of(step, where):
        result = judge([row(30, 1000, step=step)], f"max = 0.01\nwhere = {{ {where} }}")
        return sarif_of(result)["results"][0]["partialFingerprints"]

    assert print_of(10, 'step = "last"') == print_of(20, 'step = "last"')
    assert print_of(10, 'model = "m"') != print_of(20, 'model = "m"')


def test_sarif_holds_no_link_and_no_placeholder_of_a_user(hostile):
    (found,) = sarif_of(hostile)["results"]
    assert "](" not in found["message"]["text"]
    assert not re.search(r"\{\d+\}", found["message"]["text"])
    assert "\n" not in found["message"]["text"]


def test_sarif_stops_where_code_scanning_does(judge):
    rows = [row(30, 1000, step=step) for step in range(RESULTS_MAX + 3)]
    result = judge(rows, FAIL)
    (run,) = json.loads(to_sarif(result, result.rules_file.parent))["runs"]
    assert len(run["results"]) == RESULTS_MAX
    assert run["properties"]["leftOut"] == "3 results, see gate.json"


# Markdown


def test_markdown_has_a_row_for_each_rule_the_bad_ones_first_and_the_verdict_last(mixed):
    lines = to_markdown(mixed).splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    assert [line.split(" | ")[0].strip("| ") for line in table] == [
        "failed",
        "failed (warning only)",
        "could not judge",
        "could not judge (warning only)",
        "passed",
    ]
    assert lines[0] == "### memprobe gate: failed"
    assert lines[-1] == f"**{mixed.line}**"


def test_markdown_of_hostile_names_is_one_table_and_calls_nobody(hostile):
    text = to_markdown(hostile)
    assert "<script>" not in text
    assert "@all" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in rows)


@pytest.mark.parametrize("limit", [COMMENT_BYTES, 2_000])
def test_markdown_fits_and_says_what_is_left_out(limit, judge):
    result = judge(
        [row(30, 1000, group=f"é{i:04d}") for i in range(900)],
        *[f'max = 0.01\nwhere = {{ group = "é{i:04d}" }}' for i in range(900)],
    )
    text = to_markdown(result, at_most=limit)
    assert limit - 1_000 < len(text.encode()) <= limit
    told = sum(line.startswith("| failed") for line in text.splitlines())
    assert 0 < told < 900
    (left,) = re.findall(r"([\d,]+) lines left out: gate\.json holds all", text)
    assert int(left.replace(",", "")) >= 900 - told
    assert text.splitlines()[-1] == f"**{result.line}**"


# GitHub


def test_an_annotation_names_file_line_and_title(mixed, tmp_path):
    first, *_ = annotations(mixed, tmp_path)
    assert first == (
        "::error file=rules.toml,line=1,title=r1%3A recall exact_frac%3A hi <= 0.01::"
        "failed: upper bound 0.0425 is above 0.01 (m step10)"
    )


def test_errors_are_errors_and_warnings_warnings(mixed, tmp_path):
    lines = annotations(mixed, tmp_path)
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::warning"]


def test_no_more_annotations_than_github_shows(judge, tmp_path):
    rows = [row(30, 1000)]
    exactly = annotations(judge(rows, *[FAIL] * ANNOTATIONS_MAX), tmp_path)
    assert len(exactly) == ANNOTATIONS_MAX == 10
    more = annotations(judge(rows, *[FAIL] * 13, *[FAIL + WARN] * 12), tmp_path)
    assert len([line for line in more if line.startswith("::error")]) == ANNOTATIONS_MAX
    assert len([line for line in more if line.startswith("::warning")]) == ANNOTATIONS_MAX
    assert more[9].endswith("::4 rules more did not pass: see gate.json")


def test_an_annotation_is_one_line_that_holds_one_command(hostile, tmp_path):
    (line,) = annotations(hostile, tmp_path)
    assert "\n" not in line
    assert "\r" not in line
    assert len(line) < 64 * 1024
    properties, _, _ = line.removeprefix("::error ").partition("::")
    # Commas and colons inside a value would end it: three keys, two commas between them.
    assert [each.partition("=")[0] for each in properties.split(",")] == ["file", "line", "title"]


@pytest.mark.parametrize(("text", "escaped"), [("50% of a:b,c", "50%25 of a%3Ab%2Cc"), ("a\r\nb", "a b")])
def test_a_title_is_escaped_as_the_toolkit_does(text, escaped, judge, tmp_path):
    result = judge([row(30, 1000)], f"id = {json.dumps(text)}\nmax = 0.01")
    (line,) = annotations(result, tmp_path)
    assert f"title={escaped}%3A recall" in line


def test_no_line_of_the_log_is_taken_for_a_command(hostile):
    for line in map(harmless, plain_lines(hostile)):
        assert "##[" not in line
        assert not line.lstrip().startswith("::")
    assert harmless("  ::error::x") == "  : :error::x"
    assert harmless("plain") == "plain"


def test_the_step_summary_is_appended_to(mixed, tmp_path):
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    write_step_summary(mixed, file)
    assert file.read_text() == "before\n" + to_markdown(mixed, at_most=SUMMARY_BYTES)


def test_a_step_summary_that_is_nearly_full_is_not_spoilt(mixed, tmp_path):
    file = tmp_path / "summary.md"
    file.write_bytes(b"x" * (SUMMARY_BYTES - 10))
    write_step_summary(mixed, file)
    assert file.stat().st_size == SUMMARY_BYTES - 10


# The listing


def test_the_listing_ends_with_the_verdict_and_shows_every_rule(mixed):
    lines = plain_lines(mixed)
    assert lines[-1] == mixed.line
    heads = [line.split()[-1 if "only" not in line else -3] for line in lines if not line.startswith(" ")]
    assert heads[:-1] == ["r1", "r2", "r3", "r4", "r5"]


def test_a_rule_of_many_rows_shows_the_worst_and_how_many_more(judge):
    rows = [row(0, 1000, step=step) for step in range(30)] + [row(30, 1000, step=30)]
    lines = plain_lines(judge(rows, FAIL))
    assert lines[2] == "  m step30: 0.03 [0.0211, 0.0425], 1,000 items"
    assert lines[3] == "    failed: upper bound 0.0425 is above 0.01"
    assert lines[-2] == "  and 11 rows more, see gate.json"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, "0.03 [0.0103, 0.0845], 100 items"),
        ({"ci_low": None, "ci_high": None}, "0.03 [no interval], 100 items"),
        ({"ci_high": None}, "0.03 [0.0103, open], 100 items"),
        ({"estimate": None}, "undefined, 100 items"),
    ],
)
def test_a_number_is_shown_with_interval_and_items(given, shown, judge):
    (told,) = judge([row(3) | given], PASS).rules[0].rows
    assert figures(told) == shown
