"""One rule for "trained on": whether, and whether it is known when."""

import polars as pl
import pytest

from memprobe.tables.facts import is_control, is_timed, is_trained, is_untimed, with_trained

TYPES = {"exposures": pl.Int64, "first_step": pl.Int64, "trained": pl.Boolean}


def frame(**values):
    return pl.DataFrame([{name: values.get(name) for name in TYPES}], schema=TYPES)


# exposures, first_step, the item's own `trained`, columns given -> trained, control, timed, untimed
CASES = [
    ((0, None, None), {"exposures"}, (False, True, False, False)),
    ((3, None, None), {"exposures"}, (True, False, False, True)),
    # Neither column says anything.
    ((None, None, None), set(), (None, False, False, False)),
    ((None, None, None), {"exposures"}, (None, False, False, False)),
    # Null in a column that a file gave says never.
    ((None, None, None), {"first_step"}, (False, True, False, False)),
    ((None, 700, None), {"first_step"}, (True, False, True, False)),
    ((None, 0, None), {"first_step"}, (True, False, True, False)),
    # A count without a step: trained on, it is not known when, and so no control.
    ((3, None, None), {"exposures", "first_step"}, (True, False, False, True)),
    ((0, None, None), {"exposures", "first_step"}, (False, True, False, False)),
    # The item's own word counts where neither count nor step is there.
    ((None, None, True), {"first_step", "trained"}, (True, False, False, True)),
    ((None, None, False), {"trained"}, (False, True, False, False)),
    ((None, None, None), {"first_step", "trained"}, (False, True, False, False)),
    ((None, None, None), {"trained"}, (None, False, False, False)),
]


@pytest.mark.parametrize(("values", "given", "expected"), CASES)
def test_one_rule_says_who_was_trained_on_and_when(values, given, expected):
    items = with_trained(frame(**dict(zip(TYPES, values, strict=True))), given)
    found = items.select("trained", is_control().alias("c"), is_timed().alias("t"), is_untimed().alias("u"))
    assert found.row(0) == expected


def test_a_column_of_the_users_own_by_this_name_says_nothing():
    items = pl.DataFrame({"exposures": [2], "first_step": [None], "trained": ["no"]})
    assert with_trained(items, {"exposures", "trained"})["trained"].to_list() == [True]


def test_a_table_without_a_first_step_can_be_asked_where_no_file_gave_it():
    items = pl.DataFrame({"exposures": [2, 0, None]}, schema={"exposures": pl.Int64})
    assert items.select(is_trained({"exposures"})).to_series().to_list() == [True, False, None]
