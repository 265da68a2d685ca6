"""Verdicts: the bound decides, what cannot be judged is no pass, and the code and the last line agree."""

import math

import numpy as np
import pytest

from memprobe.errors import InvalidRunError
from memprobe.gates.judge import apart, gate
from memprobe.stats.documents import document_rate
from tests.gates.conftest import row

FAILED_CHECKPOINT = {"model": "m", "revision": "step20", "error": "torn file"}


def verdict(result):
    return result.rules[0].verdict


# By Wilson: 3 of 100 is 0.03 [0.0103, 0.0845].
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("max = 0.0846", "passed"),
        ("max = 0.0844", "failed"),
        ('max = 0.0844\nbound = "estimate"', "passed"),
        ('max = 0.03\nbound = "estimate"', "passed"),
        ('max = 0.0299\nbound = "estimate"', "failed"),
        ('max = 0.0104\nbound = "lo"', "passed"),
        ('max = 0.0102\nbound = "lo"', "failed"),
        ("min = 0.0102", "passed"),
        ("min = 0.0104", "failed"),
        ('min = 0.03\nbound = "estimate"', "passed"),
        ('min = 0.0844\nbound = "hi"', "passed"),
        ('min = 0.0846\nbound = "hi"', "failed"),
        ("max = 0.0846\nmin = 0.0102", "passed"),
        ("max = 0.0846\nmin = 0.0104", "failed"),
        ("max = 0.0844\nmin = 0.0102", "failed"),
    ],
)
def test_the_number_named_by_bound_decides(body, expected, judge):
    assert verdict(judge([row(3)], body)) == expected


def test_a_limit_that_is_met_exactly_is_met(judge):
    hi, lo = row(3)["ci_high"], row(3)["ci_low"]
    assert verdict(judge([row(3)], f"max = {hi!r}")) == "passed"
    assert verdict(judge([row(3)], f"min = {lo!r}")) == "passed"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"n_items": 19}, "19 items, and min_n asks for 20"),
        ({"estimate": None, "ci_low": None, "ci_high": None}, "the estimate is undefined for these items"),
        ({"estimate": math.nan}, "the estimate is undefined for these items"),
        (
            {"estimate": None, "ci_low": None, "ci_high": None, "ci_method": "none:unfit"},
            "the estimate is undefined for these items, "
            "as the curve follows none of the laws that a half-life is of",
        ),
        ({"ci_low": None, "ci_high": None}, "there is no interval, so no upper bound"),
        ({"ci_high": None}, "the interval is open: it has no upper bound"),
        ({"ci_high": math.nan}, "the interval is open: it has no upper bound"),
        ({"ci_low": 0.03, "ci_high": 0.03}, "the interval has no width: the items show no spread"),
    ],
)
def test_what_cannot_be_judged_is_no_pass(given, reason, judge):
    result = judge([row(0) | given], "max = 0.99")
    (told,) = result.rules[0].rows
    assert (told.verdict, told.reason) == ("could not judge", reason)
    assert (result.verdict, result.exit_code) == ("could not judge", 3)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"estimate": -1.0}, "its estimate is -1, and a rate lies between 0 and 1"),
        ({"estimate": math.inf}, "its estimate is inf, and a rate lies between 0 and 1"),
        ({"estimate": -math.inf}, "its estimate is -inf, and a rate lies between 0 and 1"),
        (
            {"metric": "lcp_tokens", "unit": "tokens", "estimate": -3.0},
            "its estimate is -3, and a number of tokens is 0 or more",
        ),
        (
            {"metric": "exact_excess_frac", "estimate": -1.5},
            "its estimate is -1.5, and a share or a difference of shares lies between -1 and 1",
        ),
        ({"ci_level": 95.0}, "its ci_level is 95, and a level lies between 0 and 1"),
        ({"ci_low": 0.5, "ci_high": 0.02}, "its interval is upside down: 0.5 to 0.02"),
    ],
)
@pytest.mark.parametrize("body", ["max = 0.99", 'max = 0.99\nbound = "estimate"'])
def test_what_no_measurement_gives_is_no_pass(given, reason, body, judge):
    metric = given.get("metric", "exact_frac")
    result = judge([row(0) | given], f'metric = "{metric}"\n{body}')
    (told,) = result.rules[0].rows
    assert (told.verdict, told.reason, result.exit_code) == ("could not judge", reason, 3)


def test_an_estimate_needs_no_interval(judge):
    no_interval = row(3) | {"ci_low": None, "ci_high": None}
    assert verdict(judge([no_interval], 'max = 0.05\nbound = "estimate"')) == "passed"
    assert verdict(judge([no_interval], 'max = 0.02\nbound = "estimate"')) == "failed"


def test_20_items_are_enough_unless_told(judge):
    assert verdict(judge([row(0, 20)], "max = 0.9")) == "passed"
    assert verdict(judge([row(0, 20)], "max = 0.9\nmin_n = 21")) == "could not judge"
    assert verdict(judge([row(0, 5)], "max = 0.9\nmin_n = 5")) == "passed"


# z^2 (1 - m) / m = 72.99 for m = 0.05
@pytest.mark.parametrize(("n", "expected"), [(72, "could not judge"), (73, "passed")])
def test_no_hit_under_5_percent_is_judged_from_73_items_on(n, expected, judge):
    assert verdict(judge([row(0, n)], "max = 0.05")) == expected
    assert verdict(judge([row(n, n)], "min = 0.95")) == expected


def test_the_number_of_items_that_is_needed_is_said(judge):
    (told,) = judge([row(1, 72)], "max = 0.05").rules[0].rows
    assert told.reason == "no outcome could pass: even no hit needs 73 items, here are 72"
    (told,) = judge([row(71, 72)], "min = 0.95").rules[0].rows
    assert told.reason == "no outcome could pass: even all hits need 73 items, here are 72"


def test_with_enough_items_a_hit_too_many_fails(judge):
    assert verdict(judge([row(1, 73)], "max = 0.05")) == "failed"


def test_what_lies_beyond_the_limit_with_its_whole_interval_fails_with_any_number_of_items(judge):
    # 21 of 36 is 0.583 [0.422, 0.729]
    result = judge([row(21, 36)], "max = 0.05")
    (told,) = result.rules[0].rows
    assert (result.exit_code, told.reason) == (1, "upper bound 0.729 is above 0.05")


def test_too_few_items_are_no_failure_where_the_lower_bound_would_pass(judge):
    # 3 of 36 is 0.083 [0.029, 0.218]
    result = judge([row(3, 36)], "max = 0.05")
    (told,) = result.rules[0].rows
    assert result.exit_code == 3
    assert told.reason == "no outcome could pass: even no hit needs 73 items, here are 36"


def test_the_lower_bound_of_a_rate_can_always_pass_below_a_limit(judge):
    assert verdict(judge([row(21, 36)], 'max = 0.05\nbound = "lo"')) == "failed"


def in_documents(hits, n_documents, size=3, **given):
    """A row of documents of equal size, of which some are all hits."""
    hit, sizes = np.zeros(n_documents), np.full(n_documents, float(size))
    hit[:hits] = size
    found = document_rate(hit, sizes)
    ends = {"ci_low": found.lo, "ci_high": found.hi, "ci_method": found.method}
    n = n_documents * size
    return row(0, n) | {"estimate": hits / n_documents, "n_clusters": n_documents} | ends | given


def test_items_in_documents_count_by_documents(judge):
    # -ln(0.025) / 0.05 = 73.8, however many items the documents hold
    (told,) = judge([in_documents(0, 60, 10)], "max = 0.05").rules[0].rows
    assert told.verdict == "could not judge"
    assert told.reason == "no outcome could pass: even no hit needs 74 documents, here are 60"
    assert verdict(judge([in_documents(0, 74)], "max = 0.05")) == "passed"
    assert verdict(judge([in_documents(6, 74)], "max = 0.05")) == "failed"


@pytest.mark.parametrize(("hits", "n_documents"), [(0, 72), (0, 73), (1, 20), (0, 20)])
def test_no_row_passes_with_fewer_documents_than_a_limit_needs(judge, hits, n_documents):
    # 1 - 0.025^(1/72) = 0.0499: the bound itself would do, the announced number does not
    assert verdict(judge([in_documents(hits, n_documents)], "max = 0.05")) == "could not judge"


def test_all_hits_of_documents_need_as_many_on_the_other_side(judge):
    (told,) = judge([in_documents(60, 60)], "min = 0.95").rules[0].rows
    assert told.reason == "no outcome could pass: even all hits need 74 documents, here are 60"
    assert verdict(judge([in_documents(74, 74)], "min = 0.95")) == "passed"


def test_fewer_than_five_documents_are_too_few_to_judge(judge):
    result = judge([in_documents(4, 4, 10)], "max = 0.05")
    (told,) = result.rules[0].rows
    assert result.exit_code == 3
    assert told.reason == (
        "its items come from 4 documents, worth fewer than 5 of equal size: too few to judge"
    )
    assert verdict(judge([in_documents(0, 4, 10)], "max = 0.9")) == "could not judge"
    assert verdict(judge([in_documents(0, 5, 10)], "max = 0.9")) == "passed"


def test_windows_count_by_blocks(judge):
    # 20 blocks without a hit: 1 - 0.025^(1/20) = 0.168.
    blocks = {"ci_low": 0.0, "ci_high": 1 - 0.025 ** (1 / 20), "ci_method": "pseudo-block", "n_clusters": 1}
    (told,) = judge([row(0, 1000) | blocks], "max = 0.05").rules[0].rows
    assert told.reason == "no outcome could pass: even no hit needs 74 blocks, here are 20"
    assert verdict(judge([row(0, 1000) | blocks], "max = 0.2")) == "passed"
    few = blocks | {"ci_method": "pseudo-block-few"}
    (told,) = judge([row(0, 1000) | few], "max = 0.9").rules[0].rows
    assert told.reason == (
        "its windows come from 1 document, in blocks worth fewer than 5 of equal size: too few to judge"
    )


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (
            "none:long-run",
            "there is no interval, as a memorized passage is longer than the stretches that documents are "
            "cut into, so no upper bound",
        ),
        (
            "none:few-clusters",
            "there is no interval, as its items come from 2 documents, worth fewer than two of equal size, "
            "so no upper bound",
        ),
        (
            "none:few-for-median",
            "there is no interval, as of 2 documents the median may lie beyond all values seen, "
            "so no upper bound",
        ),
        (
            "none:biased",
            "there is no interval, as it is a minimum or maximum that noise moves by more than a quarter of "
            "its error, so no upper bound",
        ),
        (
            "none:all-equal",
            "there is no interval, as its 60 items agree and do not show how far others may differ, "
            "so no upper bound",
        ),
    ],
)
def test_where_there_is_no_interval_the_row_says_why(judge, method, reason):
    bare = row(0, 60) | {"ci_low": None, "ci_high": None, "ci_method": method, "n_clusters": 2}
    (told,) = judge([bare], "max = 0.5").rules[0].rows
    assert (told.verdict, told.reason) == ("could not judge", reason)


@pytest.mark.parametrize("method", ["cluster-bootstrap", "bootstrap", "wilson-design-effect", "moving-block"])
def test_no_rate_passes_by_an_interval_of_an_earlier_version(judge, method):
    (told,) = judge([row(0, 200) | {"ci_method": method}], "max = 0.05").rules[0].rows
    assert told.verdict == "could not judge"
    assert told.reason.startswith(f"its interval is a {method} of an earlier version")
    assert verdict(judge([row(30, 200) | {"ci_method": method}], "max = 0.05")) == "failed"


def test_the_number_of_items_says_nothing_of_what_is_no_rate(judge):
    mean = row(0, 30) | {"metric": "lcp_tokens", "unit": "tokens", "ci_method": "bootstrap", "estimate": 2.0}
    mean |= {"ci_low": 1.5, "ci_high": 2.5}
    assert verdict(judge([mean], 'metric = "lcp_tokens"\nmax = 0.05')) == "failed"


def test_infinity_is_judged_as_a_number(judge):
    long = row(3) | {"metric": "lcp_tokens", "estimate": 9.0, "ci_low": 5.0, "ci_high": math.inf}
    assert verdict(judge([long], 'metric = "lcp_tokens"\nmax = 100')) == "failed"
    assert verdict(judge([long], 'metric = "lcp_tokens"\nmin = 4')) == "passed"


def test_one_row_that_fails_fails_the_rule_and_all_are_listed(judge):
    rows = [row(0, step=0), row(50, step=10), row(0, 10, step=20)]
    result = judge(rows, "max = 0.1")
    assert verdict(result) == "failed"
    assert [each.verdict for each in result.rules[0].rows] == ["passed", "failed", "could not judge"]
    assert [each.verdict for each in result.rules[0].worst] == ["failed", "could not judge", "passed"]


def test_one_row_that_cannot_be_judged_is_no_pass(judge):
    assert verdict(judge([row(0, step=0), row(0, 10, step=10)], "max = 0.1")) == "could not judge"


PASS, FAIL, NONE = "max = 0.9", "max = 0.01", 'max = 0.9\nwhere = { group = "x" }'
WARN = '\nseverity = "warn"'


@pytest.mark.parametrize(
    ("rules", "code", "line"),
    [
        ((PASS, PASS), 0, "gate passed (exit code 0): 2 rules: 2 passed"),
        ((PASS, FAIL), 1, "gate failed (exit code 1): 2 rules: 1 failed, 1 passed"),
        ((NONE, FAIL), 1, "gate failed (exit code 1): 2 rules: 1 failed, 1 could not be judged"),
        ((NONE, PASS), 3, "gate could not judge (exit code 3): 2 rules: 1 could not be judged, 1 passed"),
        ((FAIL + WARN, PASS), 0, "gate passed (exit code 0): 1 rule: 1 passed; 1 warning rule: 1 failed"),
        ((NONE + WARN,), 0, "no rule of severity error; 1 warning rule: 1 could not be judged"),
        (
            (FAIL + WARN, NONE),
            3,
            "gate could not judge (exit code 3): 1 rule: 1 could not be judged; 1 warning rule: 1 failed",
        ),
    ],
)
def test_the_last_line_says_the_verdict_of_the_code(rules, code, line, judge):
    # 3 of 1000 is 0.003 [0.001, 0.0088]: with so many items 0.01 could pass; 30 of 1000 does not.
    result = judge([row(30, 1000)], *rules)
    assert result.exit_code == code
    assert result.line.endswith(line)
    assert f"(exit code {code})" in result.line
    assert result.line.startswith(f"gate {result.verdict} ")


def test_failed_units_are_no_pass_unless_they_are_allowed(judge):
    run = {"state": "incomplete", "failures": [FAILED_CHECKPOINT]}
    result = judge([row(0)], PASS, **run)
    assert result.exit_code == 3
    assert "1 checkpoint of the run failed, the first m step20" in result.rules[0].reason
    assert "--allow-incomplete" in result.rules[0].reason
    assert judge([row(0)], PASS, **run, allow_incomplete=True).exit_code == 0


def test_what_fails_fails_though_other_units_failed_too(judge):
    run = {"state": "incomplete", "failures": [FAILED_CHECKPOINT]}
    assert judge([row(30, 1000)], FAIL, **run).exit_code == 1


def test_a_run_that_is_not_finished_is_not_judged(judge):
    result = judge([row(0)], PASS, state="scoring")
    assert result.exit_code == 3
    assert "not finished" in result.rules[0].reason
    assert result.rules[0].rows == ()


def test_a_folder_without_a_run_is_an_error_of_code_3(ruled, tmp_path):
    with pytest.raises(InvalidRunError, match="no run here"):
        gate(tmp_path / "nowhere", ruled(PASS))


def test_the_order_of_rows_changes_no_verdict(judge):
    rows = [row(hits, 200, step=step) for step, hits in enumerate((0, 30, 3, 60))]
    one, other = judge(rows, "max = 0.1").rules[0], judge(rows[::-1], "max = 0.1").rules[0]
    assert one.verdict == other.verdict == "failed"
    assert sorted(map(repr, one.rows)) == sorted(map(repr, other.rows))


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        (0.0845, 0.05, ("0.0845", "0.05")),
        (0.05004, 0.05, ("0.05004", "0.05")),
        (0.050000000000001, 0.05, ("0.050000000000001", "0.05")),
    ],
)
def test_numbers_that_differ_are_shown_to_differ(value, limit, shown):
    assert apart(value, limit) == shown
