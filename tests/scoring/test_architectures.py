"""Every architecture, loaded from a folder, scores what log_softmax of its own logits says."""

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.scoring.load import LoadOptions, load, read_limits
from memprobe.tables.requests import Scheme

# A batch padded to another length sums its matrix products in another order: float32 rounding of
# logits of up to 30, over two layers.
ATOL = 1e-5
FAST = ["gpt_neox", "gpt2", "llama", "mistral", "mistral_sliding", "qwen2_tied", "opt", "mamba"]
OWN = ["gemma2", "cohere", "granite"]
ALL = [*FAST, *OWN]


def texts(seed: int = 0) -> dict[str, list[int]]:
    rng = np.random.default_rng(seed)
    return {f"item{n}": rng.integers(3, 97, 6 + 5 * n).tolist() for n in range(5)}


@pytest.fixture(params=ALL)
def name(request) -> str:
    return request.param


def test_scores_are_those_of_the_models_own_logits(name, loaded_from, id_items, ask, score, naive) -> None:
    loaded, ids = loaded_from(name), texts()
    frame = score(loaded, id_items(ids), [ask(item, 0, 0, len(each)) for item, each in ids.items()])
    argmaxes = set()
    for row in frame.iter_rows(named=True):
        each = ids[row["item_id"]]
        logits = naive.logits(loaded.model, each)[:-1]
        argmaxes |= set(logits.argmax(1).tolist())
        np.testing.assert_allclose(row["logprob_nats"], naive.logprobs(loaded.model, each), atol=ATOL)
        true = logits.gather(1, torch.tensor(each[1:])[:, None])
        assert row["rank"] == (logits > true).sum(1).tolist()
        assert row["hit"] == (logits.argmax(1) == torch.tensor(each[1:])).tolist()
        assert row["n_scored"] == len(each) - 1
        assert row["logprob_sum_nats"] == pytest.approx(sum(row["logprob_nats"]), abs=1e-9)
    # A model that predicts one token everywhere would make the above easy.
    assert len(argmaxes) >= 8


def test_the_path_is_fast_exactly_where_body_and_head_give_the_logits(name, loaded_from) -> None:
    assert loaded_from(name).fast == (name in FAST)


@pytest.mark.parametrize("gain", [0.02, 0.3])
@pytest.mark.parametrize("own", OWN)
def test_scaling_and_capping_are_seen_however_small_the_logits_are(own, gain, loaded_from) -> None:
    assert not loaded_from(own, gain=gain).fast


def test_a_scaled_model_without_its_scale_would_score_otherwise(loaded_from, id_items, ask, score) -> None:
    # The fixture separates the paths: head(body) without the cap differs by far more than rounding.
    loaded, ids = loaded_from("gemma2"), texts()
    request = ask("item3", 0, 0, len(ids["item3"]))
    right = score(loaded, id_items(ids), request)["logprob_sum_nats"][0]
    loaded.fast = True
    try:
        wrong = score(loaded, id_items(ids), request)["logprob_sum_nats"][0]
    finally:
        loaded.fast = False
    assert abs(right - wrong) > 1


@pytest.mark.parametrize("name", FAST)
def test_the_fast_path_and_the_models_own_path_agree(name, loaded_from, id_items, ask, score) -> None:
    loaded, ids = loaded_from(name), texts()
    requests = [ask(item, 0, 0, len(each)) for item, each in ids.items()]
    schemes = (Scheme(top_k=5), Scheme(top_p=0.9))
    fast = score(loaded, id_items(ids), requests, further=schemes)
    loaded.fast = False
    try:
        own = score(loaded, id_items(ids), requests, further=schemes)
    finally:
        loaded.fast = True
    assert fast.select("rank", "hit", "n_ties").equals(own.select("rank", "hit", "n_ties"))
    for column in ("logprob_nats", "entropy_nats", "margin_nats", *(each.column for each in schemes)):
        a, b = (frame[column].explode().to_numpy() for frame in (fast, own))
        np.testing.assert_allclose(a, b, atol=ATOL, err_msg=column)


def test_the_greedy_lemma_holds(name, loaded_from, id_items, ask, score, naive) -> None:
    loaded = loaded_from(name)
    prompt = texts()["item1"]
    true = naive.continued(loaded.model, prompt, 8)
    wrong = [*true[:5], (true[5] + 1) % 97, *true[6:]]
    tokenised = id_items({"right": prompt + true, "wrong": prompt + wrong})
    n, stop = len(prompt), len(prompt) + 8
    requests = [ask(i, 0, n, stop, d) for i in ("right", "wrong") for d in ("tokens", "generate")]
    frame = score(loaded, tokenised, requests)
    hits = dict(frame.filter(pl.col("detail") == "tokens").select("item_id", "hit").iter_rows())
    generated = dict(
        frame.filter(pl.col("detail") == "generate").select("item_id", "gen_lcp_tokens").iter_rows()
    )
    assert hits["right"] == [True] * 8
    assert hits["wrong"][:6] == [True] * 5 + [False]
    assert generated == {"right": 8, "wrong": 5}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "granite"])
def test_half_precision_logits_are_upcast_and_not_summed_in_half(
    dtype, name, loaded_from, id_items, ask, score, naive
) -> None:
    loaded, ids = loaded_from(name, dtype=dtype), texts()
    assert next(loaded.model.parameters()).dtype == getattr(torch, dtype)
    alone = score(loaded, id_items(ids), ask("item2", 0, 0, len(ids["item2"])))
    expected = naive.logprobs(loaded.model, ids["item2"])
    # One sequence alone repeats the very forward; log_softmax in half would be off by up to 0.03.
    np.testing.assert_allclose(alone["logprob_nats"][0], expected, atol=ATOL)


def test_limits_are_read_from_the_configuration(name, saved, at) -> None:
    limits = read_limits(at(saved(name)))
    assert limits.vocabulary == 97
    assert limits.context_tokens == (None if name == "mamba" else 96)
    assert limits.stored_dtype == "float32"


def test_learned_positions_run_out_where_the_limits_say(saved, at, id_items, ask, score) -> None:
    checkpoint = at(saved("opt"))
    loaded = load(checkpoint, LoadOptions())
    longest = read_limits(checkpoint).context_tokens
    ids = {"a": np.random.default_rng(0).integers(3, 97, longest).tolist()}
    assert score(loaded, id_items(ids), ask("a", 0, 0, longest))["n_scored"][0] == longest - 1


def test_a_body_that_keeps_its_sums_in_float32_is_scored_by_the_models_own_path(
    loaded_from, id_items, ask, score, naive
) -> None:
    loaded, ids = loaded_from("mamba", dtype="bfloat16"), texts()
    assert not loaded.fast
    got = score(loaded, id_items(ids), ask("item2", 0, 0, len(ids["item2"])))
    expected = naive.logprobs(loaded.model, ids["item2"])
    np.testing.assert_allclose(got["logprob_nats"][0], expected, atol=ATOL)
