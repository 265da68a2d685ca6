"""What must not matter does not: batches, padding, order, neighbours; and greedy is what is generated.

One canonical run owns the numbers; every other way to the same question must agree with it.
"""

import numpy as np
import polars as pl
import pytest

from memprobe.scoring.batch import cut_units, forwards, pack
from memprobe.tables.requests import Scheme

# Two forwards in float32 whose matrix products are summed in another order.
ATOL = 1e-5
# A one-sided drift is a bug even where each point is within ATOL; random rounding averages out.
ATOL_MEAN = 1e-6
SCHEMES = (Scheme(), Scheme(top_k=10), Scheme(temperature=0.8, top_p=0.9))
LISTS = ("logprob_nats", "entropy_nats", "margin_nats", *(scheme.column for scheme in SCHEMES))
COUNTS = ("rank", "n_ties", "hit")
KEY = ("item_id", "part", "start", "score_from", "stop", "detail")


@pytest.fixture(scope="module", params=["gpt_neox", "gemma2", "gpt2"])
def loaded(request, loaded_from):
    return loaded_from(request.param)


@pytest.fixture(scope="module")
def memories(loaded, naive) -> dict[str, tuple[list[int], int, int]]:
    """Items by name: ids, tokens of the prefix, tokens of the suffix before the first greedy miss.

    The suffix is the model's own greedy continuation with one token changed, in most items.
    """
    rng = np.random.default_rng(11)
    made = {}
    for n in range(24):
        prefix, k = rng.integers(3, 97, 4 + n % 9).tolist(), 3 + n % 6
        true = naive.continued(loaded.model, prefix, k)
        miss = n % (k + 1)
        if miss < k:
            true[miss] = (true[miss] + 1 + n) % 97
        made[f"item{n:02d}"] = (prefix + true, len(prefix), miss)
    return made


@pytest.fixture
def tokenised(memories, id_items):
    return id_items({name: ids for name, (ids, _, _) in memories.items()})


@pytest.fixture
def requests(memories, ask) -> pl.DataFrame:
    return pl.concat([ask(name, 0, n, len(ids)) for name, (ids, n, _) in memories.items()])


@pytest.fixture
def canonical(loaded, tokenised, requests, score) -> pl.DataFrame:
    return score(loaded, tokenised, requests, further=SCHEMES).sort(*KEY)


def assert_equivalent(got: pl.DataFrame, expected: pl.DataFrame) -> None:
    got, expected = got.sort(*KEY), expected.sort(*KEY)
    assert got.select(*KEY, *COUNTS, "n_scored", "n_hits").equals(
        expected.select(*KEY, *COUNTS, "n_scored", "n_hits")
    )
    for name in LISTS:
        a, b = (frame[name].explode().to_numpy().astype(np.float64) for frame in (got, expected))
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        delta = a[np.isfinite(a)] - b[np.isfinite(b)]
        assert len(delta) > 50
        assert np.abs(delta).max() <= ATOL, name
        assert abs(delta.mean()) <= ATOL_MEAN, name


def test_the_fixture_has_exact_and_inexact_items_and_many_predictions(canonical, memories) -> None:
    exact = canonical.select(pl.col("n_hits") == pl.col("stop") - pl.col("score_from")).to_series()
    assert 2 <= exact.sum() <= 22
    assert {miss for _, _, miss in memories.values()} >= {0, 1, 2, 3}
    assert canonical["rank"].explode().n_unique() > 10
    assert len({ids[n] for ids, n, _ in memories.values()}) >= 8
    assert (canonical[SCHEMES[1].column].explode() == -np.inf).any()


@pytest.mark.parametrize("batch_tokens", [1, 30, 40, 10_000])
def test_the_batch_does_not_matter(batch_tokens, loaded, tokenised, requests, score, canonical) -> None:
    assert_equivalent(
        score(loaded, tokenised, requests, further=SCHEMES, batch_tokens=batch_tokens), canonical
    )


def test_the_batches_above_are_of_one_of_a_few_and_of_all_items(requests) -> None:
    sizes = {
        budget: {len(part) for part in pack(forwards(requests), budget)} for budget in (1, 30, 40, 10_000)
    }
    assert sizes[1] == {1}
    assert sizes[10_000] == {24}
    assert 3 in sizes[30] | sizes[40]


def test_the_order_of_items_and_requests_does_not_matter_to_the_bit(
    loaded, tokenised, requests, memories, id_items, score, canonical
) -> None:
    for seed in range(3):
        other = requests.sample(fraction=1, shuffle=True, seed=seed)
        names = np.random.default_rng(seed).permutation(list(memories)).tolist()
        permuted = id_items({name: memories[name][0] for name in names})
        again = score(loaded, permuted, other, further=SCHEMES)
        assert again.sort(*KEY).equals(canonical)


def test_unsorted_batches_with_much_padding_give_the_same(
    loaded, tokenised, requests, score, canonical, monkeypatch
) -> None:
    from memprobe.scoring import unit

    def ragged(sequences, _):
        mixed = [sequences[i] for i in np.random.default_rng(0).permutation(len(sequences))]
        return [mixed[i : i + 3] for i in range(0, len(mixed), 3)]

    monkeypatch.setattr(unit, "pack", ragged)
    assert_equivalent(score(loaded, tokenised, requests, further=SCHEMES), canonical)


def test_what_stands_right_of_a_sequence_does_not_matter(loaded, memories, id_items, ask, score) -> None:
    # P2: each item alone, and padded to the length of one that is far longer.
    ids, n, _ = memories["item05"]
    long = np.random.default_rng(1).integers(0, 97, 90).tolist()
    both = id_items({"a": ids, "long": long})
    request = ask("a", 0, n, len(ids))
    alone = score(loaded, both, request, further=SCHEMES)
    beside = score(loaded, both, pl.concat([request, ask("long", 0, 1, 90)]), further=SCHEMES)
    beside = beside.filter(pl.col("item_id") == "a")
    assert beside["rank"].equals(alone["rank"])
    for name in LISTS:
        np.testing.assert_allclose(beside[name][0], alone[name][0], atol=ATOL)


def test_the_cut_into_units_does_not_matter(
    loaded, tokenised, requests, score, canonical, monkeypatch
) -> None:
    from memprobe.scoring import batch

    monkeypatch.setattr(batch, "UNIT_TOKENS_MIN", 60)
    monkeypatch.setattr(batch, "UNITS_AIM", 1000)
    units = cut_units(requests)
    assert len(units) > 3
    parts = [score(loaded, tokenised, unit, further=SCHEMES) for unit in units]
    assert_equivalent(pl.concat(parts), canonical)


def test_what_else_is_asked_of_the_same_item_does_not_matter(
    loaded, tokenised, requests, memories, ask, score, canonical
) -> None:
    more = [ask(name, 0, 0, len(ids), "sums") for name, (ids, _, _) in memories.items()]
    more += [ask(name, 1, 2, len(ids) - 1) for name, (ids, _, _) in memories.items()]
    got = score(loaded, tokenised, pl.concat([requests, *more]), further=SCHEMES)
    assert got.height == 3 * requests.height
    assert_equivalent(got.join(requests, on=list(KEY), how="semi", nulls_equal=True), canonical)


def test_greedy_generation_and_teacher_forced_hits_miss_first_at_the_same_token(
    loaded, tokenised, requests, memories, score
) -> None:
    # P1, for all items; the fixture knows the index from a third way, decoding without a cache.
    both = pl.concat([requests, requests.with_columns(detail=pl.lit("generate"))])
    frame = score(loaded, tokenised, both)
    hits = frame.filter(pl.col("detail") == "tokens").sort("item_id")
    generated = frame.filter(pl.col("detail") == "generate").sort("item_id")
    forced = [int(np.cumprod(hit).sum()) for hit in hits["hit"]]
    assert forced == generated["gen_lcp_tokens"].to_list() == [memories[name][2] for name in hits["item_id"]]
    exact = [lcp == len(hit) for lcp, hit in zip(forced, hits["hit"], strict=True)]
    margins = [min(margin) for margin in hits["margin_nats"]]
    assert [margin > 0 for margin in margins] == exact
    assert True in exact
    assert False in exact


@pytest.mark.parametrize("bos_id", [None, 1])
def test_the_suffix_scores_the_difference_of_whole_and_prefix(
    loaded, memories, id_items, ask, score, naive, bos_id
) -> None:
    # P3: ln p(suffix | prefix) = ln p(prefix + suffix) - ln p(prefix), the same BOS before both.
    tokenised = id_items({name: ids for name, (ids, _, _) in memories.items()}, bos_id=bos_id)
    front = [] if bos_id is None else [bos_id]
    for name, (ids, n, _) in list(memories.items())[:6]:
        requests = [ask(name, 0, n, len(ids)), ask(name, 0, 0, len(ids), "sums"), ask(name, 0, 0, n, "sums")]
        # Apart, so that the three are three forwards.
        suffix, whole, prefix = (score(loaded, tokenised, each)["logprob_sum_nats"][0] for each in requests)
        assert suffix == pytest.approx(whole - prefix, abs=len(ids) * ATOL)
        outside = (
            naive.logprobs(loaded.model, front + ids).sum()
            - naive.logprobs(loaded.model, front + ids[:n]).sum()
        )
        assert suffix == pytest.approx(outside, abs=len(ids) * ATOL)
        # One token more or less would be off by far more than that.
        assert (
            abs(score(loaded, tokenised, ask(name, 0, n + 1, len(ids)))["logprob_sum_nats"][0] - suffix)
            > 1e-3
        )
