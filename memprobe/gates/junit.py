"""Output for the test list of a CI server: JUnit XML with one test case for each rule.

A failed rule is a failure, and a rule that could not be judged is an error; with severity `warn`, both are
skipped with the reason, because they must not fail a build.
"""

import re
import xml.etree.ElementTree as ET

from memprobe.gates.listing import figures
from memprobe.gates.verdict import GateResult, RuleVerdict

# Characters that XML 1.0 does not allow, even as references: https://www.w3.org/TR/xml/#charsets
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROWS_SHOWN = 200


def to_junit(result: GateResult) -> str:
    """Return the verdicts as JUnit XML."""
    cases = [_case(ruling, result) for ruling in result.rules]
    counts = {
        "tests": len(cases),
        **{
            plural: sum(each.find(tag) is not None for each in cases)
            for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
        },
    }
    attributes = {name: str(count) for name, count in counts.items()} | {"time": "0"}
    suite = ET.Element("testsuite", {"name": "memprobe gate", **attributes})
    suite.extend(cases)
    if result.notes:
        ET.SubElement(suite, "system-out").text = _xml("\n".join(f"note: {text}" for text in result.notes))
    root = ET.Element("testsuites", attributes)
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(ruling: RuleVerdict, result: GateResult) -> ET.Element:
    rule = ruling.rule
    case = ET.Element(
        "testcase",
        {
            "name": _xml(rule.id),
            "classname": _xml(f"{rule.probe}.{rule.metric}"),
            "file": _xml(result.rules_file.as_posix()),
            "line": str(rule.lines.first),
            "time": "0",
        },
    )
    if ruling.verdict != "passed":
        tag = "failure" if ruling.verdict == "failed" else "error"
        kind = f"{ruling.verdict}, warning only" if rule.severity == "warn" else ruling.verdict
        child = ET.SubElement(case, "skipped" if rule.severity == "warn" else tag)
        child.attrib.update(message=_xml(f"{kind}: {ruling.summary}"), type=_xml(kind))
        child.text = _xml(f"{rule.demand}\n{rule.why}".strip())
    if ruling.rows or ruling.notes:
        lines = [f"note: {text}" for text in ruling.notes]
        lines += [
            f"{row.verdict}: {row.name}: {figures(row)}" + (f"; {row.reason}" if row.reason else "")
            for row in ruling.worst[:_ROWS_SHOWN]
        ]
        if len(ruling.rows) > _ROWS_SHOWN:
            lines.append(f"and {len(ruling.rows) - _ROWS_SHOWN:,} rows more, see gate.json")
        ET.SubElement(case, "system-out").text = _xml("\n".join(lines))
    return case


def _xml(text: str) -> str:
    """Return text with U+FFFD for characters that XML does not allow; the writer escapes the rest."""
    return _FORBIDDEN.sub("\ufffd", text)
