"""Time of SORT questions behind shared excerpts against each prompt alone; `make bench` runs this.

A model of the lab's size with random weights and a long context; 4 distance bins and 2 orders of one
excerpt after another, segments of 50 words, words of 1.3 tokens.
"""

import statistics
import time

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memprobe.scoring import choices
from memprobe.scoring.forward import scoring_mode
from memprobe.scoring.prefix import Shared
from memprobe.scoring.tokenise import TokenisedItems
from memprobe.scoring.unit import score_unit
from memprobe.tables.requests import request_frame

pytestmark = pytest.mark.benchmark

VOCABULARY, TOKENS_PER_WORD = 4096, 1.3
N_BINS, N_ORDERS, SEGMENT_WORDS, TEMPLATE_TOKENS = 4, 2, 50, 40
# Sums in another order: float32 through four layers.
ATOL_NATS = 1e-3
BATCH_TOKENS, PAIRS = 4096, 3


@pytest.fixture(scope="module")
def model(bench):
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=8192,
    )
    return bench.loaded(GPTNeoXForCausalLM(config).eval())


@pytest.fixture
def one_thread():
    """One thread, so that the time of the processor is the time of the model, whoever else is at work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def questions(n_excerpts: int, excerpt_words: int) -> tuple[TokenisedItems, pl.DataFrame]:
    """All bins and orders of some excerpts, as random ids."""
    rng = np.random.default_rng(0)
    n_tail = round(2 * SEGMENT_WORDS * TOKENS_PER_WORD) + TEMPLATE_TOKENS
    ids = {}
    for excerpt in range(n_excerpts):
        shared = rng.integers(0, VOCABULARY, round(excerpt_words * TOKENS_PER_WORD))
        for bin_ in range(N_BINS):
            for order in ("AB", "BA"):
                tail = rng.integers(0, VOCABULARY, n_tail + bin_)
                ids[f"e{excerpt}-b{bin_}", f"trial-1-in_context-{order}"] = np.concatenate([shared, tail])
    items = sorted({item for item, _ in ids})
    table = pl.DataFrame({"item_id": items, "content_hash": items})
    rows = [
        {"item_id": item, "part": part, "start": 0, "stop": len(each)} for (item, part), each in ids.items()
    ]
    requests = request_frame(pl.DataFrame(rows).with_columns(score_from=pl.col("stop")), detail="choice")
    labels = (np.array([10, 11]), np.array([12]))
    return (
        TokenisedItems(
            table=table,
            ids=ids,
            front=(),
            front_of_ids=(),
            given_as_ids=frozenset(),
            choices={part: labels for _, part in ids},
        ),
        requests,
    )


@pytest.mark.parametrize(
    ("excerpt_words", "n_excerpts", "at_most"),
    # At 2,500 words the issue asks for a third. Shorter excerpts share less of what is read: of 325 + 170
    # tokens, eight times, 325 * 7 need not be read.
    [(2500, 1, 1 / 3), (1000, 2, 1 / 2), (250, 4, 3 / 4)],
)
def test_sharing_the_excerpt_saves_most_of_the_model_s_time(
    one_thread, model, monkeypatch, capsys, excerpt_words, n_excerpts, at_most
) -> None:
    tokenised, requests = questions(n_excerpts, excerpt_words)
    ways = {"shared": choices.share, "alone": lambda all_: [Shared((i,), 0) for i in range(len(all_))]}
    seconds, found = {name: [] for name in ways}, {}
    for _ in range(PAIRS):
        for name, share in ways.items():
            monkeypatch.setattr(choices, "share", share)
            started = time.process_time()
            with scoring_mode():
                found[name] = score_unit(model, tokenised, requests, batch_tokens=BATCH_TOKENS)
            seconds[name].append(time.process_time() - started)
    shared, alone = (np.array(found[name]["choice_logprob_nats"].to_list()) for name in ways)
    np.testing.assert_allclose(shared, alone, atol=ATOL_NATS)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    with capsys.disabled():
        times = " against ".join(f"{statistics.median(each):.2f} s" for each in seconds.values())
        print(f"\nexcerpts of {excerpt_words} words, shared against alone: ratio {ratio:.3f}; {times}")
    assert ratio <= at_most
