"""Output for code scanning: SARIF 2.1.0, each result at the line of its rule.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html. A row that could not be
judged is of kind `open` (section 3.27.9), for which the level must be `none` (3.27.10).
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from memprobe._version import __version__
from memprobe.escape import visible
from memprobe.gates.listing import figures
from memprobe.gates.verdict import GateResult, RowVerdict, RuleVerdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RESULTS_MAX = 5_000
"""GitHub shows so many results of one upload.

Source: https://docs.github.com/en/code-security/code-scanning/troubleshooting-sarif-uploads.
"""


def to_sarif(result: GateResult, root: Path) -> str:
    """Return all rules and rows that did not pass, as SARIF.

    Args:
        result: The judged rules.
        root: Folder of the repository; paths are relative to it.
    """
    artifact = _artifact(result.rules_file, root)
    bad = [_result(*each, artifact) for each in _findings(result)]
    properties: dict[str, Any] = {"line": result.line}
    if result.notes:
        properties["notes"] = [visible(text) for text in result.notes]
    if len(bad) > RESULTS_MAX:
        properties["leftOut"] = f"{len(bad) - RESULTS_MAX:,} results, see gate.json"
    run = {
        "tool": {
            "driver": {
                "name": "memprobe",
                "version": __version__,
                "rules": [_rule(ruling) for ruling in result.rules],
            }
        },
        # The tool did its work whatever the verdict is.
        "invocations": [{"executionSuccessful": True, "exitCode": result.exit_code}],
        "results": bad[:RESULTS_MAX],
        "properties": properties,
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _findings(result: GateResult) -> list[tuple[int, RuleVerdict, RowVerdict | None]]:
    """Return what did not pass, failures first: each row, or the rule if no single row is the reason."""
    found: list[tuple[int, RuleVerdict, RowVerdict | None]] = []
    for number, ruling in enumerate(result.rules):
        if ruling.reason:
            found.append((number, ruling, None))
        found += [(number, ruling, row) for row in ruling.rows if row.verdict != "passed"]
    return sorted(found, key=lambda each: each[2] is None or each[2].verdict != "failed")


def _rule(ruling: RuleVerdict) -> dict[str, Any]:
    rule = ruling.rule
    return {
        "id": visible(rule.id),
        "shortDescription": {"text": _message(rule.demand)},
        "fullDescription": {"text": _message(rule.why or rule.demand)},
        "defaultConfiguration": {"level": "error" if rule.severity == "error" else "warning"},
        "properties": {
            "verdict": ruling.verdict,
            **({"notes": [visible(text) for text in ruling.notes]} if ruling.notes else {}),
        },
    }


def _result(
    number: int, ruling: RuleVerdict, row: RowVerdict | None, artifact: dict[str, str]
) -> dict[str, Any]:
    failed = row is not None and row.verdict == "failed"
    level = "error" if ruling.rule.severity == "error" else "warning"
    text = f"{row.name}: {figures(row)}; {row.reason}" if row else ruling.reason
    region = {"startLine": ruling.rule.lines.first}
    return {
        "ruleId": visible(ruling.rule.id),
        "ruleIndex": number,
        "kind": "fail" if failed else "open",
        "level": level if failed else "none",
        "message": {"text": _message(f"{'failed' if failed else 'could not judge'}: {text}")},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
        "partialFingerprints": {"memprobeRow/v1": _fingerprint(ruling, row)},
    }


def _message(text: str) -> str:
    """Return text that viewers do not read as a placeholder (section 3.11.5) or a link (3.11.6)."""
    return re.sub(r"\{(?=\d+\})", "{ ", visible(text)).replace("](", "] (")


def _fingerprint(ruling: RuleVerdict, row: RowVerdict | None) -> str:
    """Return the identity of a finding across runs: its rule, model, group and condition."""
    parts = [ruling.rule.id, *(str(each) for each in ((row.model, row.group, row.condition) if row else ()))]
    parts += [str(row.step)] if row and ruling.rule.where.get("step") not in ("first", "last") else []
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def _artifact(file: Path, root: Path) -> dict[str, str]:
    """Return the path of the rules below the repository's folder, or only the name if they are elsewhere."""
    absolute, folder = file.resolve(), root.resolve()
    inside = absolute.is_relative_to(folder)
    path = absolute.relative_to(folder).as_posix() if inside else file.name
    return {"uri": quote(path), "uriBaseId": "%SRCROOT%"}
