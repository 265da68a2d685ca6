"""gate.json: what the report and other programs read."""

import hashlib
import json
import math

import pytest

import memprobe
from tests.gates.conftest import row

KEYS = {"format", "rules_file", "verdict", "exit_code", "line", "summary_sha256", "notes", "rules"}
RULE_KEYS = {
    *("id", "why", "severity", "verdict", "probe", "metric", "bound", "min", "max", "max_increase", "rows"),
    *("max_decrease", "min_n", "reason", "line", "untrained", "notes"),
}
ROW_KEYS = {
    *("model", "revision", "step", "group", "condition", "estimate", "ci_low", "ci_high", "n_items"),
    *("verdict", "reason"),
}


def test_gate_json_holds_the_agreed_keys(judge):
    result = judge([row(3), row(9, group="x")], 'why = "because"\nmax = 0.05', "max_increase = 0.1")
    file = result.write()
    document = json.loads(file.read_text())
    assert file.name == "gate.json"
    assert file.parent == result.run
    assert set(document) == KEYS | {"sha256"}
    assert (document["format"], document["rules_file"]) == (1, "rules.toml")
    assert (document["verdict"], document["exit_code"], document["line"]) == ("failed", 1, result.line)
    failed, other = document["rules"]
    assert set(failed) == set(other) == RULE_KEYS
    assert (failed["id"], failed["why"], failed["bound"], failed["max"]) == ("r1", "because", "hi", 0.05)
    assert (failed["min"], failed["max_increase"], failed["line"]) == (None, None, 1)
    (told,) = failed["rows"]
    assert set(told) == ROW_KEYS
    assert (told["model"], told["step"], told["group"], told["n_items"]) == ("m", 10, None, 100)
    assert told["verdict"] == "failed"
    assert (other["verdict"], other["rows"], other["max_increase"]) == ("could not judge", [], 0.1)


def test_gate_json_says_of_which_summary_it_speaks(judge):
    result = judge([row(3)], "max = 0.5")
    told = json.loads(result.write().read_text())["summary_sha256"]
    content = (result.run / "summary.parquet").read_bytes()
    assert told == hashlib.sha256(content).hexdigest()


def test_a_run_without_a_summary_has_no_digest(made, ruled):
    run = made([row(3)], state="scoring")
    (run / "summary.parquet").unlink()
    assert memprobe.gate(run, ruled("max = 0.5")).document()["summary_sha256"] is None


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_json_cannot_hold_is_null(value, judge):
    result = judge([row(3) | {"ci_high": value}], "max = 0.5")
    assert json.loads(result.write().read_text())["rules"][0]["rows"][0]["ci_high"] is None


def test_gate_is_public_and_writes_nothing(made, ruled):
    run = made([row(3)])
    before = sorted(run.iterdir())
    result = memprobe.gate(run, ruled("max = 0.5"))
    assert result.exit_code == 0
    assert sorted(run.iterdir()) == before


def test_an_open_run_will_do(made, ruled):
    assert memprobe.gate(memprobe.open_run(made([row(3)])), str(ruled("max = 0.5"))).verdict == "passed"


def test_a_name_says_what_tells_a_row_from_others(judge):
    rows = [
        row(3, condition="n=1"),
        row(3, step=None, revision=None, group=None),
    ]
    assert [each.name for each in judge(rows, "max = 0.5").rules[0].rows] == ["m step10 n=1", "m"]
