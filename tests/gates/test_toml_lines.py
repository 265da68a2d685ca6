"""Lines of rules are found whatever stands around them."""

import tomllib

import pytest

from memprobe.gates.toml_lines import rule_lines

TRAP = '''# [[rule]]
[defaults]
why = """
[[rule]]
id = "in a string"
"""
list = [
  """
[[rule]]
""",
]
[[rule]]   # the first
id = "a"
where = { group = "x", step = "last" }
max = 0.5
  [[ rule ]]
"id" = "b"
[rule.where]
group = "y"
[["rule"]]
id = "c"
where.group = "z"
min = 0.1
'''


def lines_of(text):
    return rule_lines(text, len(tomllib.loads(text).get("rule", [])))


def test_headers_in_strings_arrays_and_comments_are_none():
    assert [each.first for each in lines_of(TRAP)] == [12, 16, 20]


@pytest.mark.parametrize(
    ("rule", "keys", "line"),
    [
        (0, ("id",), 13),
        (0, ("max",), 15),
        (0, ("group", "where"), 14),
        (1, ("id",), 17),
        (1, ("group", "where"), 19),
        (1, ("where",), 18),
        (2, ("group", "where"), 22),
        (2, ("min",), 23),
        (2, ("bound",), 20),
    ],
)
def test_a_key_has_the_line_that_it_stands_in(rule, keys, line):
    assert lines_of(TRAP)[rule].of(*keys) == line


def test_a_key_of_one_rule_is_not_looked_for_in_the_next():
    assert lines_of("[[rule]]\nid = 1\n[[rule]]\nmax = 2\n")[0].of("max") == 1


def test_rules_without_headers_get_the_first_line():
    assert [each.first for each in lines_of('rule = [{ id = "a" }, { id = "b" }]')] == [1, 1]


def test_windows_line_ends_count_as_one():
    assert [each.first for each in lines_of("# x\r\n[[rule]]\r\nid = 1\r\n[[rule]]\r\n")] == [2, 4]
