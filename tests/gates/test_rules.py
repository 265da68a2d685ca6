"""A file of rules is read whole, and all that is wrong in it is said at once, with its line."""

from pathlib import Path

import pytest

from memprobe.errors import RuleError
from memprobe.gates.judge import gate
from memprobe.gates.rules import MIN_N, read_rules
from tests.gates.conftest import row

EVERYTHING_WRONG = """
[default]
min_n = 3
[defaults]
severty = "warn"
min_n = 0
[[rule]]
id = "a"
probe = "recal"
metric = "exact_frac"
max = 0.05
bnd = "hi"
[[rule]]
id = "a"
probe = "recall"
metric = "exact_fraq"
severity = "warning"
where = { gruop = "x", step = "lats", p = [1] }
max = nan
[[rule]]
probe = "recall"
metric = "exact_frac"
max = 0.1
min = 0.2
max_increase = 0.1
[[rule]]
id = "none"
probe = "recall"
metric = "exact_frac"
bound = "upper"
min_n = 2.5
why = 3
"""
# What, where it stands, in the order of the file's reading.
SAID = [
    ("unknown table `default`, did you mean `defaults`?", ""),
    ("unknown key `severty`, did you mean `severity`?", "[defaults]"),
    ("`min_n` is 0, not a whole number of 1 or more", "[defaults]"),
    ("unknown key `bnd`, did you mean `bound`?", ":12 (rule a)"),
    ("`severity` is 'warning', did you mean `warn`?", ":17 (rule a)"),
    ("`max` is nan, not a finite number", ":19 (rule a)"),
    ("`where.step` is 'lats', did you mean `last`?", ":18 (rule a)"),
    ("`where.p` is [1], not one value", ":18 (rule a)"),
    ("the rule has no `id`", ":20 (rule 3)"),
    ("max and min and max_increase in one rule: one is about the run, one about a baseline", ":25 (rule 3)"),
    ("`min` 0.2 is above `max` 0.1", ":24 (rule 3)"),
    ("`bound` is 'upper', not one of lo, hi, estimate", ":30 (rule none)"),
    ("`min_n` is 2.5, not a whole number of 1 or more", ":31 (rule none)"),
    ("`why` is 3, not a text", ":32 (rule none)"),
    ("the rule demands nothing", ":26 (rule none)"),
    ("two rules have the id `a`; the first is in line 7", ":14 (rule a)"),
    ("unknown probe `recal`, did you mean `recall`?", ":9 (rule a)"),
    ("recall has no metric `exact_fraq`, did you mean `exact_frac`?", ":16 (rule a)"),
    ("unknown key `gruop` in `where`, did you mean `group`?", ":18 (rule a)"),
]


def test_all_that_is_wrong_is_said_at_once_with_its_line(made, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(EVERYTHING_WRONG)
    with pytest.raises(RuleError) as caught:
        gate(made([row(3)]), file)
    assert [(each.what, each.where.removeprefix(str(file)).strip()) for each in caught.value.problems] == SAID
    assert caught.value.exit_code == 2


def test_what_is_left_out_stands_at_its_default(ruled):
    (rule,) = read_rules(ruled("max = 0.1")).rules
    assert (rule.severity, rule.min_n, rule.why, dict(rule.where)) == ("error", MIN_N, "", {})
    assert MIN_N == 20
    assert rule.limits == {"max": 0.1}
    assert not rule.is_relative


def test_defaults_of_the_file_hold_where_a_rule_says_nothing(ruled):
    file = ruled(
        "max = 0.1",
        'max = 0.1\nmin_n = 9\nseverity = "error"',
        head='[defaults]\nmin_n = 5\nseverity = "warn"\n',
    )
    first, second = read_rules(file).rules
    assert (first.min_n, first.severity) == (5, "warn")
    assert (second.min_n, second.severity) == (9, "error")


@pytest.mark.parametrize(
    ("body", "demand"),
    [
        ("max = 0.05", "hi <= 0.05"),
        ("min = 0.05", "lo >= 0.05"),
        ("max_increase = 0.01", "hi of the difference <= 0.01"),
        ("max_decrease = 0.01", "lo of the difference >= -0.01"),
        ('max = 0.05\nbound = "estimate"', "estimate <= 0.05"),
        ("max = 0.9\nmin = 0.5", "hi <= 0.9 and lo >= 0.5"),
    ],
)
def test_the_end_that_makes_a_limit_hard_to_meet_is_judged_unless_told(body, demand, ruled):
    (rule,) = read_rules(ruled(body)).rules
    assert rule.demand == f"recall exact_frac: {demand}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[[rule]\n", "the rules are not TOML"),
        (b"\xff\xfe", "the rules are not TOML"),
        (b'rule = "x"\n', "`rule` is not a list of tables"),
    ],
)
def test_what_is_no_rules_file_is_refused(content, message, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_bytes(content)
    with pytest.raises(RuleError, match=message):
        read_rules(file)


def test_an_empty_file_holds_no_rule(made, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text("[defaults]\n")
    with pytest.raises(RuleError, match="has no rule"):
        gate(made([row(3)]), file)


def test_a_file_that_is_not_there_suggests_one_that_is(ruled, tmp_path):
    ruled("max = 0.1")
    with pytest.raises(RuleError, match=r"no rules file, did you mean `rules\.toml`"):
        read_rules(tmp_path / "rule.toml")


def test_a_byte_order_mark_is_no_part_of_the_rules(ruled):
    file = ruled("max = 0.1")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_rules(file).rules) == 1


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("max = 1", "nothing fails this"),
        ("min = 0", "nothing fails this"),
        ("max = -0.1", "nothing passes this"),
        ("min = 1.1", "nothing passes this"),
        ("max = 0", "with bound = 'hi' no number of items passes this"),
        ("min = 1", "with bound = 'lo' no number of items passes this"),
        ("max_increase = 1", "nothing fails this"),
        ("max_decrease = 1", "nothing fails this"),
        ("max_increase = -1.5", "nothing passes this"),
        ('metric = "exact_excess_frac"\nmax = 1', "between -1 and 1, so nothing fails this"),
        ('metric = "lcp_tokens"\nmin = 0', "a number of tokens is 0 or more, so nothing fails this"),
        ('probe = "forgetting"\nmetric = "never_learned_frac"\nmax = 1.5', "nothing fails this"),
    ],
)
def test_a_limit_of_a_rate_that_decides_nothing_is_an_error(body, wrong, judge):
    with pytest.raises(RuleError, match=wrong):
        judge([row(3)], body)


@pytest.mark.parametrize(
    "body", ['max = 0\nbound = "estimate"', 'min = 1\nbound = "estimate"', 'max = 1\nmetric = "lcp_tokens"']
)
def test_a_limit_that_some_outcome_meets_and_some_misses_is_none(body, judge):
    assert judge([row(3)], body).rules


def test_metrics_of_probes_that_the_run_lacks_are_known_all_the_same(judge):
    told = judge([row(3)], 'probe = "recognition"\nmetric = "auc"\nmax = 0.6').rules[0]
    assert (told.verdict, told.reason) == (
        "could not judge",
        "the run has no numbers of recognition; it has recall",
    )


def test_a_setting_that_no_condition_holds_here_is_no_unknown_key(judge):
    """It is part of conditions where a run holds the probe with several of its values."""
    told = judge([row(3)], "max = 0.9\nwhere = { prefix_tokens = 50 }").rules[0]
    assert told.verdict == "could not judge"
    assert told.reason == "no row has prefix_tokens 50"


def test_rules_are_named_as_the_user_named_them(ruled, tmp_path, monkeypatch):
    ruled("max = 0.1")
    monkeypatch.chdir(tmp_path)
    assert read_rules(Path("rules.toml")).file == Path("rules.toml")
