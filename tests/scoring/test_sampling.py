"""p_z against real samples: how often `model.generate` yields the suffix (P10)."""

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GenerationConfig

from memprobe.stats.intervals import clopper_pearson
from memprobe.tables.requests import Scheme

N_SAMPLES = 2000
# 20 items and 99.9% each: the seed is fixed, so what passes once passes always.
LEVEL = 0.999
N_ITEMS, N_SUFFIX = 20, 3


def n_exact(model, prefix: list[int], suffix: list[int], scheme: Scheme, seed: int) -> int:
    """Sample continuations as a user would and count those that are the suffix."""
    torch.manual_seed(seed)
    config = GenerationConfig(
        do_sample=True,
        temperature=scheme.temperature,
        top_k=scheme.top_k or 0,
        top_p=scheme.top_p or 1.0,
        max_new_tokens=len(suffix),
        num_return_sequences=N_SAMPLES,
        eos_token_id=None,
        pad_token_id=0,
    )
    ids = torch.tensor([prefix])
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    assert out.shape == (N_SAMPLES, len(prefix) + len(suffix))
    return int((out[:, len(prefix) :] == torch.tensor(suffix)).all(1).sum())


@pytest.fixture(scope="module")
def model(loaded_from):
    return loaded_from("gpt_neox", gain=6.0)


@pytest.mark.parametrize(
    "scheme",
    [Scheme(top_k=10), Scheme(), Scheme(top_p=0.8), Scheme(temperature=0.7, top_k=12, top_p=0.9)],
    ids=lambda scheme: scheme.name,
)
def test_the_suffix_is_sampled_as_often_as_its_probability_says(
    scheme, model, naive, id_items, ask, score
) -> None:
    rng = np.random.default_rng(2)
    ids = {}
    for n in range(150):
        prefix = rng.integers(3, 97, 5).tolist()
        suffix = naive.continued(model.model, prefix, N_SUFFIX)
        if n % 3 == 0:  # not only greedy ones: the second best token at the end
            suffix[-1] = int(naive.logits(model.model, prefix + suffix[:-1])[-1].topk(2).indices[1])
        ids[f"item{n:03d}"] = prefix + suffix
    frame = score(model, id_items(ids), [ask(name, 0, 5, 5 + N_SUFFIX) for name in ids], further=(scheme,))
    chances = frame.select("item_id", pz=pl.col(scheme.column).list.sum().exp())
    chosen = chances.filter(pl.col("pz").is_between(0.01, 0.9)).sort("item_id").head(N_ITEMS)
    assert chosen.height == N_ITEMS
    assert chosen["pz"].max() > 3 * chosen["pz"].min()
    for number, (name, pz) in enumerate(chosen.iter_rows()):
        hits = n_exact(model.model, ids[name][:5], ids[name][5:], scheme, seed=number)
        interval = clopper_pearson(hits, N_SAMPLES, level=LEVEL)
        assert interval.lo <= pz <= interval.hi, f"{name}: {hits} of {N_SAMPLES}, p_z {pz:.4f}"


def test_a_suffix_outside_the_top_k_is_never_sampled(model, naive, id_items, ask, score) -> None:
    prefix, scheme = [5, 9, 30, 8, 4], Scheme(top_k=3)
    fourth = int(naive.logits(model.model, prefix)[-1].topk(4).indices[3])
    frame = score(model, id_items({"a": [*prefix, fourth]}), ask("a", 0, 5, 6), further=(scheme, Scheme()))
    assert frame[scheme.column][0].to_list() == [-np.inf]
    assert frame[Scheme().column][0][0] > -5
    assert n_exact(model.model, prefix, [fourth], scheme, seed=0) == 0
    assert n_exact(model.model, prefix, [fourth], Scheme(top_k=4), seed=0) > 0
