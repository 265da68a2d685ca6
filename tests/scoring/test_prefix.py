"""Which beginnings are worth sharing, against trying every way to cut; caches that stay as they are.

Rungs: hand arithmetic; brute force over all cuts of small sets; the whole sequence read at once.
"""

import itertools
import random

import numpy as np
import pytest
import torch

from memprobe.scoring import prefix
from memprobe.scoring.batch import CALL_TOKENS
from memprobe.scoring.prefix import Shared, cache_of, for_rows, n_read, picked, share, shared_in_runs

# float32 on a CPU, two ways through the same layers.
LOGIT_ATOL = 1e-4


def ids_of(*sequences: str) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in sequences]


def cost(groups: list[Shared], sequences: list[np.ndarray], call: int) -> int:
    return n_read(groups, sequences) + call * sum(group.n_prefix > 0 for group in groups)


def test_a_long_beginning_is_shared_and_a_short_one_is_not() -> None:
    sequences = ids_of("e" * 200 + "one", "e" * 200 + "two", "f" * 90 + "one", "zz")
    groups = share(sequences)
    assert [(set(group.members), group.n_prefix) for group in groups] == [({0, 1}, 200), ({2}, 0), ({3}, 0)]
    # 200 + 3 + 3, then 93 and 2, instead of 203 + 203 + 93 + 2.
    assert n_read(groups, sequences) == 301


def test_it_has_to_save_more_than_another_forward_costs() -> None:
    for n, shared in ((CALL_TOKENS, 0), (CALL_TOKENS + 1, CALL_TOKENS + 1)):
        groups = share(ids_of("e" * n + "a", "e" * n + "b"))
        assert {group.n_prefix for group in groups} == {shared}


def test_the_excerpt_is_shared_and_not_the_instruction_that_all_have() -> None:
    # 70 tokens of instruction before two excerpts of 300 tokens; four questions on each.
    sequences = ids_of(*(70 * "i" + 300 * excerpt + question for excerpt in "ef" for question in "wxyz"))
    groups = share(sequences)
    assert [(set(group.members), group.n_prefix) for group in groups] == [
        ({0, 1, 2, 3}, 370),
        ({4, 5, 6, 7}, 370),
    ]


def test_a_sequence_that_begins_another_keeps_a_token_of_its_own() -> None:
    groups = share(ids_of("e" * 100, "e" * 100 + "rest"))
    assert [group.n_prefix for group in groups] == [99]


def all_cuts(n: int):
    for k in range(n):
        for places in itertools.combinations(range(1, n), k):
            yield list(itertools.pairwise([0, *places, n]))


@pytest.mark.parametrize("seed", range(30))
def test_no_other_cut_reads_fewer_tokens(seed, monkeypatch) -> None:
    monkeypatch.setattr(prefix, "CALL_TOKENS", 3)
    draw = random.Random(seed)
    texts = {"".join(draw.choice("ab") for _ in range(draw.randrange(1, 14))) for _ in range(7)}
    ordered = sorted(texts)
    sequences = ids_of(*ordered)

    def grouped(begin: int, end: int) -> Shared:
        some = ordered[begin:end]
        common = next(
            (n for n in range(min(map(len, some)) - 1, 0, -1) if len({text[:n] for text in some}) == 1), 0
        )
        return Shared(tuple(range(begin, end)), common if len(some) > 1 else 0)

    def total(cut) -> int:
        # A group of several without a common token costs a forward too, but gains nothing: never the best.
        groups = [grouped(begin, end) for begin, end in cut]
        calls = sum(end - begin > 1 for begin, end in cut)
        return n_read(groups, sequences) + 3 * calls

    best = min(total(cut) for cut in all_cuts(len(ordered)))
    found = share(sequences)
    assert cost(found, sequences, 3) == best
    assert sorted(i for group in found for i in group.members) == list(range(len(sequences)))
    for group in found:
        heads = {sequences[i][: group.n_prefix].tobytes() for i in group.members}
        assert len(heads) == 1
        assert all(len(sequences[i]) > group.n_prefix for i in group.members)


def test_groups_do_not_depend_on_the_order_of_the_sequences() -> None:
    sequences = ids_of(*("e" * 100 + str(n) for n in range(5)), "f", "g" * 30)
    found = {(frozenset(sequences[i].tobytes() for i in g.members), g.n_prefix) for g in share(sequences)}
    turned = sequences[::-1]
    again = {(frozenset(turned[i].tobytes() for i in g.members), g.n_prefix) for g in share(turned)}
    assert found == again


def test_nothing_is_shared_by_nothing() -> None:
    assert share([]) == []
    assert share(ids_of("a")) == [Shared((0,), 0)]


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "mistral", "opt", "granite"])
def test_a_cache_is_continued_any_number_of_times(loaded_from, naive, name) -> None:
    model = loaded_from(name).model
    prefix_ids = torch.arange(5, 25)
    with torch.inference_mode():
        cache = cache_of(model, prefix_ids[None])
        for n in (1, 3, 2):
            tails = torch.arange(30, 30 + 4 * n).reshape(n, 4)
            got = model(input_ids=tails, past_key_values=for_rows(cache, n), use_cache=True).logits[:, -1]
            for row, tail in zip(got, tails, strict=True):
                whole = naive.logits(model, torch.cat([prefix_ids, tail]))[-1]
                np.testing.assert_allclose(row, whole, atol=LOGIT_ATOL)
        assert cache.get_seq_length() == len(prefix_ids)


@pytest.mark.parametrize("name", ["mamba", "mistral_sliding"])
def test_a_model_that_forgets_has_no_cache_to_continue(loaded_from, name) -> None:
    with torch.inference_mode():
        assert cache_of(loaded_from(name).model, torch.arange(5, 25)[None]) is None


def test_runs_of_rows_share_what_reads_the_fewest_tokens() -> None:
    """60 rows of 9 tokens, three runs: all share 2, each run 4 of its own."""
    front = torch.arange(60)[:, None].expand(-1, 9).clone()
    front[:, :2] = 7
    front[:, 2:6] = (torch.arange(60) // 20)[:, None]
    n_all, n_run, first = shared_in_runs(front, 12)
    assert (n_all, n_run, first.tolist()) == (2, 6, [0, 20, 40])
    # What three rows share is not worth a call more; a row alone shares nothing.
    assert shared_in_runs(front[18:21], 12)[:2] == (2, 2)
    assert shared_in_runs(front[:1], 12)[:2] == (0, 0)
    assert shared_in_runs(front[:, :0], 12)[:2] == (0, 0)


def test_rows_of_a_cache_are_continued_in_any_order_and_as_often(loaded_from) -> None:
    model = loaded_from("gpt_neox").model
    prefixes, tails = torch.arange(5, 17).reshape(2, 6), torch.arange(30, 42).reshape(4, 3)
    rows = torch.tensor([1, 0, 0, 1])
    with torch.inference_mode():
        cache = cache_of(model, prefixes[:, 2:], for_rows(cache_of(model, torch.tensor([[5, 6]])), 2))
        got = model(input_ids=tails, past_key_values=picked(cache, rows), use_cache=True).logits[:, -1]
        whole = torch.cat([torch.tensor([[5, 6]]).expand(4, -1), prefixes[rows, 2:], tails], dim=1)
        expected = model(input_ids=whole, use_cache=False).logits[:, -1]
    torch.testing.assert_close(got, expected, atol=LOGIT_ATOL, rtol=0)
    assert cache.layers[0].keys.shape[:3:2] == (2, 6)
