"""`where`: a key left out selects every value, but of groups and exposures the pooled row."""

import pytest

from tests.gates.conftest import row

CONDITIONS = (None, "exposures=8", "trained=true", "trained=false")
ROWS = [
    row(3, model=model, step=step, group=group, condition=condition)
    for model in ("m", "k")
    for step in (0, 10, 20)
    for group in (None, "canary", "control")
    for condition in (CONDITIONS if group is None else (None,))
] + [
    row(3, step=step, probe="extraction", metric="rate_frac", condition=f"scheme={scheme};n={n};p=0.5")
    for step in (0, 20)
    for scheme in ("full", "top40")
    for n in (1, 1000)
]
EXTRACTION = 'probe = "extraction"\nmetric = "rate_frac"\nmax = 0.9\n'


@pytest.fixture
def selected(judge):
    def names(body):
        return [each.name for each in judge(ROWS, body).rules[0].rows]

    return names


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", ["m step0", "m step10", "m step20", "k step0", "k step10", "k step20"]),
        ('step = "last"', ["m step20", "k step20"]),
        ('step = "first"', ["m step0", "k step0"]),
        ("step = 10", ["m step10", "k step10"]),
        ('model = "k", step = "last"', ["k step20"]),
        ('revision = "step10", model = "m"', ["m step10"]),
        ('group = "canary", step = 20', ["m step20 group=canary", "k step20 group=canary"]),
        ('exposures = 8, model = "m", step = 0', ["m step0 exposures=8"]),
        ('trained = false, model = "m", step = 0', ["m step0 trained=false"]),
    ],
)
def test_where_selects(where, expected, selected):
    assert selected(f"max = 0.9\nwhere = {{ {where} }}") == expected


@pytest.mark.parametrize(
    ("where", "n_rows"),
    [
        ("", 8),
        ('scheme = "top40"', 4),
        ("n = 1000", 4),
        ("n = 1e3", 4),
        ('n = "1000"', 4),
        ("p = 0.50", 8),
        ('scheme = "top40", n = 1, step = "last"', 1),
    ],
)
def test_conditions_are_matched_by_key_and_numbers_as_numbers(where, n_rows, selected):
    assert len(selected(f"{EXTRACTION}where = {{ {where} }}")) == n_rows


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f'{EXTRACTION}where = {{ scheme = "topp40" }}',
            "no row has scheme topp40, did you mean `top40`? its values are full, top40",
        ),
        (f"{EXTRACTION}where = {{ n = 7 }}", "no row has n 7; its values are 1, 1000"),
        (
            'max = 0.9\nwhere = { group = "canry" }',
            "no row has group canry, did you mean `canary`? its values are canary, control",
        ),
        ("max = 0.9\nwhere = { step = 15 }", "no row has step 15; steps are 0, 10, 20"),
        (
            'max = 0.9\nwhere = { group = "canary", exposures = 8 }',
            "no row has all of group canary, exposures 8",
        ),
        (f'{EXTRACTION}where = {{ model = "k" }}', "no row has model k; its values are m"),
    ],
)
def test_no_row_says_why_and_suggests(body, reason, judge):
    told = judge(ROWS, body).rules[0]
    assert (told.verdict, told.reason, told.rows) == ("could not judge", reason, ())


def test_no_pooled_row_is_not_all_of_its_parts(judge):
    rows = [row(3, condition=f"exposures={n}") for n in (1, 8)]
    assert judge(rows, "max = 0.9").rules[0].reason == "no row is over all items: name exposures in `where`"
    rows = [row(3, group=group) for group in ("a", "b")]
    assert judge(rows, "max = 0.9").rules[0].reason == "no row is over all items: name group in `where`"


def test_trained_and_never_trained_items_are_not_selected_together(judge):
    rows = [row(3, condition=f"trained={each}") for each in ("true", "false")]
    assert judge(rows, "max = 0.9").rules[0].reason == "no row is over all items: name trained in `where`"
    # Beside the pooled row they are no part of what is judged.
    told = judge([row(3), *rows], "max = 0.9").rules[0]
    assert [each.condition for each in told.rows] == [None]


def test_an_excess_is_over_every_control_unless_one_is_named(judge):
    about = {"metric": "exact_excess_frac", "ci_method": "newcombe"}
    rows = [row(3, **about, condition=f"control={each}") for each in ("never-trained", "twin")]
    body = 'metric = "exact_excess_frac"\nmax = 0.9'
    assert len(judge(rows, body).rules[0].rows) == 2
    assert len(judge(rows, f'{body}\nwhere = {{ control = "twin" }}').rules[0].rows) == 1


def test_the_last_checkpoint_is_the_last_that_was_asked_for_not_the_last_that_has_numbers(judge):
    rows = [row(0, step=0), row(0, step=10)]
    told = judge(
        rows, 'max = 0.9\nwhere = { step = "last" }', steps=[0, 10, 20], allow_incomplete=True
    ).rules[0]
    assert told.verdict == "could not judge"
    assert told.reason == "there are no numbers of the last checkpoint (m 20)"


def test_numbers_about_all_checkpoints_have_no_step(judge):
    rows = [row(3, step=None, revision=None), row(3, probe="extraction", metric="rate_frac")]
    assert judge(rows, "max = 0.9").verdict == "passed"
    told = judge(rows, 'max = 0.9\nwhere = { step = "last" }').rules[0]
    assert told.reason == "these numbers are about all checkpoints together: leave `step` out"


def test_a_value_may_hold_what_separates_conditions(judge):
    rows = [row(3, condition="scheme=a;b;n=1"), row(3, condition="scheme=a=c;n=1")]
    for scheme in ("a;b", "a=c"):
        assert len(judge(rows, f'max = 0.9\nwhere = {{ scheme = "{scheme}" }}').rules[0].rows) == 1
