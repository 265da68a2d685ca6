"""Requests to forwards, batches and units: what belongs together, the budget, independence of order."""

import itertools

import polars as pl
import pytest

from memprobe.scoring import batch
from memprobe.scoring.batch import Forward, cut_units, forwards, pack
from memprobe.tables.requests import REQUESTS


@pytest.fixture(scope="module")
def many() -> pl.DataFrame:
    """400 items of 5 to 60 tokens, with several requests on some of them."""
    rows = []
    for n in range(400):
        item, length = f"item{n:03d}", 5 + (n * 37) % 56
        rows.append((item, "text", 0, length // 2, length, "tokens"))
        rows.append((item, "text", 0, 1, length - 1, "sums"))
        if n % 3 == 0:
            rows.append((item, "foil", 0, 0, length + 2, "sums"))
            rows.append((item, "text", 2, 4, length, "tokens"))
            rows.append((item, "text", 0, length // 2, length, "verify"))
    schema = {name: column.dtype for name, column in REQUESTS.columns.items()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def shuffled(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    return frame.sample(fraction=1, shuffle=True, seed=seed)


def sequence_of(n_tokens: int, name: str = "a") -> Forward:
    return Forward(name, "text", 0, n_tokens, ((0, n_tokens, "sums"),))


def test_requests_on_one_item_part_and_start_share_a_forward_up_to_the_furthest_token(ask) -> None:
    requests = pl.concat(
        [
            ask("a", 0, 3, 9),
            ask("a", 0, 1, 5, "sums"),
            ask("a", 2, 3, 9),
            ask("a", 0, 3, 9, part="foil"),
            ask("a", 0, 3, 20, "verify"),
            ask("b", 0, 3, 30, "generate"),
        ]
    )
    assert forwards(requests) == [
        Forward("a", "text", 2, 9, ((3, 9, "tokens"),)),
        Forward("a", "foil", 0, 9, ((3, 9, "tokens"),)),
        Forward("a", "text", 0, 9, ((1, 5, "sums"), (3, 9, "tokens"))),
    ]


def test_forwards_come_shortest_first_and_equal_ones_by_item(many) -> None:
    found = forwards(many)
    keys = [(each.n_tokens, each.item_id, each.part, each.start) for each in found]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) == 400 + 134 + 134


def test_every_request_that_is_scored_is_a_span_of_one_forward(many) -> None:
    spans = [(f.item_id, f.part, f.start, *span) for f in forwards(many) for span in f.spans]
    wanted = many.filter(pl.col("detail").is_in(["tokens", "sums"]))
    assert sorted(spans) == sorted(wanted.iter_rows())


@pytest.mark.parametrize("budget", [1, 60, 200, 4096])
def test_a_batch_keeps_the_budget_padding_counted_and_none_could_take_the_next_sequence(many, budget) -> None:
    found = forwards(many)
    batches = pack(found, budget)
    assert [each for part in batches for each in part] == found
    for part in batches:
        assert len(part) == 1 or len(part) * part[-1].n_tokens <= budget
    for part, following in itertools.pairwise(batches):
        assert (len(part) + 1) * following[0].n_tokens > budget


def test_the_budget_is_met_to_the_token_by_hand() -> None:
    # 3 + 3 + 4: padded to 4, three rows are 12 tokens; a budget of 11 holds two rows of 3 only.
    sequences = [sequence_of(3), sequence_of(3), sequence_of(4)]
    assert [len(part) for part in pack(sequences, 12)] == [3]
    assert [len(part) for part in pack(sequences, 11)] == [2, 1]


def test_a_sequence_longer_than_the_budget_goes_alone() -> None:
    assert [len(part) for part in pack([sequence_of(50), sequence_of(50)], 10)] == [1, 1]


def test_nothing_gives_nothing(many) -> None:
    assert forwards(many.clear()) == []
    assert pack([], 100) == []
    assert cut_units(many.clear()) == []


def test_units_hold_every_request_once_and_keep_forwards_together(many, monkeypatch) -> None:
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 500)
    units = cut_units(many)
    assert len(units) > 8
    assert pl.concat(units).sort(many.columns).equals(many.sort(many.columns))
    sequences = [set(unit.select("item_id", "part", "start").iter_rows()) for unit in units]
    assert sum(map(len, sequences)) == len(set().union(*sequences))


def test_units_follow_the_order_of_lengths_and_are_of_like_size(many, monkeypatch) -> None:
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 500)
    sizes = [
        unit.group_by("item_id", "part", "start").agg(n=(pl.col("stop") - pl.col("start")).max())["n"]
        for unit in cut_units(many)
    ]
    for shorter, longer in itertools.pairwise(sizes):
        assert shorter.max() <= longer.min()
    total = sum(size.sum() for size in sizes)
    assert len(sizes) <= batch.UNITS_AIM + 1
    assert all(size.sum() < 2 * max(500, total // batch.UNITS_AIM) for size in sizes)


def test_a_unit_is_closed_by_the_sequence_that_fills_it_by_hand(ask, monkeypatch) -> None:
    # Five sequences of 4 tokens, 10 to a unit: they begin at 0, 4, 8 | 12, 16.
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 10)
    units = cut_units(pl.concat([ask(f"{n}", 0, 1, 4) for n in range(5)]))
    assert [unit["item_id"].to_list() for unit in units] == [["0", "1", "2"], ["3", "4"]]


def test_few_tokens_are_one_unit(many) -> None:
    assert len(cut_units(many.head(30))) == 1


def test_the_plan_depends_on_the_requests_and_not_on_their_order(many, monkeypatch) -> None:
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 500)
    for seed in range(3):
        other = shuffled(many, seed)
        assert pack(forwards(other), 300) == pack(forwards(many), 300)
        for ours, theirs in zip(cut_units(many), cut_units(other), strict=True):
            assert ours.equals(theirs)


def test_each_search_is_a_unit_of_its_own_behind_the_others(many, ask) -> None:
    searches = [ask(item, 0, 0, 9, f"search-{key}") for item in "ba" for key in ("2", "1")]
    units = cut_units(pl.concat([searches[0], many, *searches[1:]]))
    plain = cut_units(many)
    # What else is asked is cut as if there were no search.
    assert all(ours.equals(theirs) for ours, theirs in zip(units, plain, strict=False))
    alone = [unit.select("item_id", "detail").rows() for unit in units[len(plain) :]]
    assert alone == [[(item, f"search-{key}")] for item in "ab" for key in "12"]


def choices(ask, n_documents: int) -> tuple[pl.DataFrame, dict[str, str]]:
    """Two forms, two orders and three bins of every document, longer ones first; items by number."""
    rows, documents = [], {}
    for number in range(3 * n_documents):
        item = f"{(number * 7) % (3 * n_documents):02d}"
        documents[item] = f"d{number // 3}"
        for form in ("trial-1-in_context", "trial-2-parametric"):
            rows += [
                ask(item, 0, n, n, "choice", f"{form}-{order}")
                for order, n in (("AB", 400 - number), ("BA", 401 - number))
            ]
    return pl.concat(rows), documents


def test_choices_behind_one_excerpt_stay_in_one_unit_whatever_their_lengths(ask, monkeypatch) -> None:
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 500)
    asked, documents = choices(ask, 8)
    units = cut_units(asked, documents)
    assert len(units) > 8
    assert pl.concat(units).sort(asked.columns).equals(asked.sort(asked.columns))
    spread = {}
    for known in (True, False):
        where = {}
        for number, unit in enumerate(cut_units(asked, documents if known else None)):
            for item, part in unit.select("item_id", "part").iter_rows():
                where.setdefault((documents[item], part[:7]), set()).add(number)
        assert len(where) == 16
        spread[known] = max(map(len, where.values()))
    # Items that are not known to be of one document are cut apart.
    assert spread[True] == 1 < spread[False]


def test_what_choices_share_counts_once_in_the_size_of_a_unit(ask, monkeypatch) -> None:
    # Six prompts of 395 to 401 tokens in each of 2 forms: 401 + 5 * 64 = 721 each, not 2,388.
    asked, documents = choices(ask, 1)
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 722)
    assert len(cut_units(asked, documents)) == 1
    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 720)
    assert len(cut_units(asked, documents)) == 2


def test_choices_are_cut_apart_from_what_is_scored(many, ask) -> None:
    asked, documents = choices(ask, 2)
    units = cut_units(pl.concat([asked, many]), documents)
    kinds = [set(unit["detail"]) == {"choice"} for unit in units]
    assert kinds == sorted(kinds)
    assert all(kind or "choice" not in set(unit["detail"]) for kind, unit in zip(kinds, units, strict=True))
