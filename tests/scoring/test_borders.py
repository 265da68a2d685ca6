"""Lengths at which a model's arithmetic changes: read from its settings, and never mixed in one call.

Rungs: hand values of the borders; the model's own forward of each sequence alone, and greedy decoding by
whole forwards.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.scoring import unit
from memprobe.scoring.borders import Borders, borders_of
from memprobe.scoring.load import LoadOptions, load
from memprobe.scoring.search.objective import Objective, Slot

# float32 rounding of two layers; the other factors are off by more than 0.01.
ATOL = 1e-5
LIMIT = 24
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.0, 1.0, 1.0],
    "long_factor": [1.0, 3.0, 9.0, 27.0],
    "factor": 4.0,
    "original_max_position_embeddings": LIMIT,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


@pytest.fixture(params=[LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
def loaded(request, saved, at):
    """One whose arithmetic changes above 24 tokens, of which it can read 96."""
    model = load(at(saved("llama", rope_parameters=request.param, gain=4.0)), LoadOptions())
    if request.param is DYNAMIC:
        # Its own border is the end of its context, which no run crosses; here it is made to.
        model.borders = Borders(each_above=LIMIT)
        rotary = model.model.model.rotary_emb
        rotary.original_max_seq_len = rotary.max_seq_len_cached = LIMIT
        rotary.config.max_position_embeddings = LIMIT
    return model


def config(**values) -> SimpleNamespace:
    return SimpleNamespace(**({"max_position_embeddings": 96} | values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Borders()),
        ({"rope_parameters": {"rope_type": "default"}}, Borders()),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 24}}, Borders()),
        ({"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 24}}, Borders()),
        ({"rope_parameters": LONGROPE}, Borders((24,))),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 40}, Borders((40,))),
        ({"rope_scaling": {"type": "longrope"}}, Borders((96,))),
        ({"rope_parameters": DYNAMIC}, Borders((), 96)),
        ({"rope_parameters": {"full": DYNAMIC, "sliding": LONGROPE}}, Borders((24,), 96)),
        (
            {"rope_parameters": {"rope_type": "x", "short_mscale": 1, "original_max_position_embeddings": 8}},
            Borders((8,)),
        ),
    ],
)
def test_borders_are_read_from_the_settings_of_rotary_positions(values, expected) -> None:
    assert borders_of(config(**values)) == expected


def test_lengths_are_put_apart_by_side_shortest_first() -> None:
    assert Borders().apart([5, 90, 3]) == [[0, 1, 2]]
    assert Borders((24,)).apart([25, 24, 90, 3]) == [[1, 3], [0, 2]]
    # Above 24 each length is its own: 25 twice, then 90.
    assert Borders(each_above=24).apart([25, 24, 90, 25]) == [[1], [0, 3], [2]]
    assert (Borders().first, Borders((24, 60)).first, Borders((24,), 8).first) == (None, 24, 8)


def texts(*lengths: int) -> dict[str, list[int]]:
    rng = np.random.default_rng(3)
    return {f"i{n}": rng.integers(3, 97, n).tolist() for n in lengths}


def test_each_item_scores_as_alone_in_a_mixed_batch(loaded, id_items, ask, score, naive) -> None:
    # 24 and 25 stand next to the border; the long ones come first, so that nothing is left by order.
    ids = texts(90, 8, 24, 25, 60, 12, 61)
    frame = score(loaded, id_items(ids), [ask(item, 0, 0, len(each)) for item, each in ids.items()])
    for row in frame.iter_rows(named=True):
        expected = naive.logprobs(loaded.model, ids[row["item_id"]])
        np.testing.assert_allclose(row["logprob_nats"], expected, atol=ATOL, err_msg=row["item_id"])


def test_the_other_side_would_score_otherwise(loaded, naive) -> None:
    # The fixture separates right from wrong: the first tokens of a long call are not those of a short one.
    (ids,) = texts(60).values()
    short, long = naive.logprobs(loaded.model, ids[:20]), naive.logprobs(loaded.model, ids)[:19]
    assert np.abs(short - long).max() > 0.01


def test_a_span_scores_the_same_whatever_else_is_asked_of_its_item(
    loaded, id_items, ask, score, naive
) -> None:
    ids = texts(60)
    frame = score(loaded, id_items(ids), [ask("i60", 0, 10, 20), ask("i60", 0, 10, 60)])
    spans = {row["stop"]: row["logprob_nats"] for row in frame.iter_rows(named=True)}
    for stop in (20, 60):
        expected = naive.logprobs(loaded.model, ids["i60"][:stop])[9:]
        np.testing.assert_allclose(spans[stop], expected, atol=ATOL)


@pytest.mark.parametrize("bos_id", [None, 1])
def test_what_stands_in_front_counts(loaded, id_items, ask, score, naive, bos_id, monkeypatch) -> None:
    read = []
    original = unit.score_batch

    def spy(loaded, batch, schemes):
        read.extend(len(each.ids) for each in batch)
        return original(loaded, batch, schemes)

    monkeypatch.setattr(unit, "score_batch", spy)
    # 24 tokens are on one side without a BOS and on the other with it.
    score(loaded, id_items(texts(40), bos_id=bos_id), [ask("i40", 0, 10, 24), ask("i40", 0, 10, 12)])
    assert sorted(read) == ([24] if bos_id is None else [13, 25])


def test_generation_across_a_border_agrees_with_what_is_scored(loaded, id_items, ask, score, naive) -> None:
    (prompt,) = texts(20).values()
    n, k = len(prompt), 10
    # The greedy continuation in the arithmetic of all 30 tokens, by whole padded forwards.
    ids = prompt + [0] * k
    for end in range(n, n + k):
        ids[end] = int(naive.logits(loaded.model, ids)[end - 1].argmax())
    wrong = [*ids[:-1], (ids[-1] + 1) % 97]
    tokenised = id_items({"right": ids, "wrong": wrong})
    asked = [ask(item, 0, n, n + k, d) for item in ("right", "wrong") for d in ("tokens", "generate")]
    frame = score(loaded, tokenised, asked)
    hits = dict(frame.filter(pl.col("detail") == "tokens").select("item_id", "n_hits").iter_rows())
    said = dict(frame.filter(pl.col("detail") == "generate").select("item_id", "gen_lcp_tokens").iter_rows())
    assert hits == {"right": 10, "wrong": 9}
    assert said == {"right": 10, "wrong": 9}
    # Without the rule: the model's own decoding begins with the arithmetic of short texts.
    assert naive.continued(loaded.model, prompt, k) != ids[n:]


def test_candidates_of_a_search_share_no_prefix_across_a_border(loaded) -> None:
    rng = np.random.default_rng(1)
    for n_head in (4, 20, 30):
        head, target = rng.integers(3, 97, n_head), rng.integers(3, 97, 5)
        slot = Slot(target, head, np.zeros(0, np.int64), np.arange(97))
        prompts = torch.from_numpy(rng.integers(3, 97, (6, 4)))
        with torch.no_grad():
            together = Objective(loaded, slot, budget=99).losses(prompts)
            for prompt, loss in zip(prompts, together, strict=True):
                ids = torch.cat([torch.from_numpy(head), prompt, torch.from_numpy(target)])[None, :-1]
                logits = loaded.model(input_ids=ids, use_cache=False).logits[0, -5:]
                right = torch.nn.functional.cross_entropy(logits, torch.from_numpy(target))
                torch.testing.assert_close(loss, right, atol=ATOL, rtol=0)


def test_labels_behind_shared_beginnings_are_those_of_each_prompt_alone(
    loaded, id_items, ask, score, naive
) -> None:
    (start,) = texts(40).values()
    # Prompts of 22 to 24 tokens share 18, those of 26 share 22 across the border, the last two share 38.
    ids = {f"a{n}": [*start[:18], *range(30, 30 + n)] for n in (4, 5, 6)}
    ids |= {f"b{n}": [*start[:22], n, n, 7, 9] for n in (50, 51)}
    ids |= {f"c{n}": [*start[:38], n, n + 1] for n in (60, 61)}
    choices = {"text": (np.array([40, 41]), np.array([7]))}
    tokenised = replace(id_items(ids), choices=choices)
    asked = [ask(name, 0, len(each), len(each), "choice") for name, each in ids.items()]
    found = dict(score(loaded, tokenised, asked).select("item_id", "choice_logprob_nats").iter_rows())
    for name, each in ids.items():
        p = naive.logits(loaded.model, each)[-1].double().softmax(-1)
        right = [float(p[[40, 41]].sum().log()), float(p[7].log())]
        np.testing.assert_allclose(found[name], right, atol=ATOL, err_msg=name)


def test_a_shorter_call_after_a_longer_one_is_as_if_it_were_the_first(loaded, naive) -> None:
    (ids,) = texts(40).values()
    first = naive.logits(loaded.model, ids)
    naive.logits(loaded.model, ids * 2)
    assert torch.equal(naive.logits(loaded.model, ids), first)
