"""Shares of a run: disjoint, together all of it, the same every time, and even."""

from types import SimpleNamespace

import pytest

from memprobe.errors import InputError
from memprobe.pipeline.shard import WHOLE, Shard, parse_shard
from memprobe.tables.requests import Search


def plan(contexts, n_units, search=None):
    targets = [SimpleNamespace(context=context) for context in contexts]
    units = {f"u{number}": SimpleNamespace(search=search) for number in range(n_units)}
    return SimpleNamespace(targets=targets, units=units)


PLANS = [plan("abc", 4), plan("de", 3)]


@pytest.mark.parametrize("of", [1, 2, 3, 5, 40])
def test_shards_are_disjoint_and_together_everything(of):
    shares = [Shard(number, of).units(PLANS) for number in range(1, of + 1)]
    everything = WHOLE.units(PLANS)
    assert sum(map(len, shares)) == len(everything) == 3 * 4 + 2 * 3
    assert set().union(*shares) == everything


def test_every_second_unit_begins_one_further_at_each_checkpoint():
    assert Shard(1, 2).units([plan("ab", 4)]) == {("a", "u0"), ("a", "u2"), ("b", "u1"), ("b", "u3")}
    assert Shard(2, 2).units([plan("ab", 4)]) == {("a", "u1"), ("a", "u3"), ("b", "u0"), ("b", "u2")}


def test_a_search_stays_with_its_share_at_every_checkpoint():
    # It waits for the checkpoint before, which another share may not score for hours.
    assert Shard(1, 2).units([plan("abc", 3, Search())]) == {(at, u) for at in "abc" for u in ("u0", "u2")}


def test_checkpoints_of_one_unit_each_go_round():
    assert [Shard(number, 3).units([plan("abcd", 1)]) for number in (1, 2, 3)] == [
        {("a", "u0"), ("d", "u0")},
        {("b", "u0")},
        {("c", "u0")},
    ]


def test_checkpoints_with_the_same_weights_have_one_owner():
    shares = [Shard(number, 2).units([plan("aab", 3)]) for number in (1, 2)]
    assert not shares[0] & shares[1]
    assert sum(map(len, shares)) == 6


def test_a_shard_is_read_from_i_of_n():
    assert parse_shard("1/1") == WHOLE
    assert parse_shard("4/4") == Shard(4, 4)


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1 / 4", "٣/٤"])
def test_another_form_is_refused_with_the_right_one(text):
    with pytest.raises(InputError, match="not i/n with i from 1 to n") as told:
        parse_shard(text)
    assert "--shard 1/4" in str(told.value)
