"""Items that a rate needs: published figures of Wilson's interval, a search in the test, hand arithmetic."""

import math

import pytest

from memprobe.gates.need import items_needed, pairs_needed
from memprobe.stats.differences import newcombe_paired
from memprobe.stats.intervals import wilson

# z for 95%; z^2 = 3.8415 to four decimals, as tables of the chi-squared distribution give it.
Z2 = 3.841459


def test_no_hit_under_5_percent_needs_73_items():
    # z^2 (1 - m) / m = 3.8415 * 0.95 / 0.05 = 72.99
    assert items_needed("max", 0.05, level=0.95) == 73
    # 3.8415 / (73 + 3.8415) = 0.04999 and 3.8415 / (72 + 3.8415) = 0.05065
    assert wilson(0, 73).hi == pytest.approx(Z2 / (73 + Z2), rel=1e-6)
    assert wilson(0, 73).hi <= 0.05 < wilson(0, 72).hi


@pytest.mark.parametrize("limit", ["max", "min"])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("value", [0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_it_is_the_smallest_number_that_a_search_finds(limit, level, value):
    def meets(n):
        end = wilson(0, n, level=level).hi if limit == "max" else wilson(n, n, level=level).lo
        return end <= value if limit == "max" else end >= value

    needed = items_needed(limit, value, level=level)
    assert meets(needed)
    assert needed == 1 or not meets(needed - 1)


def test_all_hits_need_what_no_hit_needs_on_the_other_side():
    assert items_needed("min", 0.95, level=0.95) == items_needed("max", 0.05, level=0.95) == 73


@pytest.mark.parametrize(("limit", "value"), [("max", 0.0), ("min", 1.0), ("max", -0.1)])
def test_where_no_number_is_enough_there_is_none(limit, value):
    with pytest.raises(ValueError, match="no number of items"):
        items_needed(limit, value, level=0.95)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("value", [0.02, 0.1])
def test_pairs_that_all_agree_need_what_a_search_from_1_finds(rate, value):
    def meets(n):
        return newcombe_paired(rate * n, 0, 0, (1 - rate) * n).hi <= value

    needed = pairs_needed(rate, value, level=0.95)
    assert needed == next(n for n in range(1, 10_000) if meets(n))


def test_pairs_without_a_hit_need_what_wilson_says():
    # With p = 0 both ends are 0 and z^2 / (n + z^2): n = z^2 (1 - 0.1) / 0.1 = 34.57
    assert pairs_needed(0.0, 0.1, level=0.95) == math.ceil(Z2 * 0.9 / 0.1) == 35
