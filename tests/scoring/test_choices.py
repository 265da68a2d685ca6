"""The mass of labels behind prompts: against the model's own logits on each whole prompt alone.

Rungs: slow recomputation by softmax and a sum over tokens; hand-set logits; invariances.
"""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring import choices, unit
from memprobe.scoring.choices import choice_tokens
from memprobe.scoring.load import LoadedModel

# float32 on a CPU, two ways through the same layers; the largest seen is 4e-6.
ATOL_NATS = 1e-4
LABELS = (np.array([40, 41, 90]), np.array([7]))
SHARED = list(range(3, 83))


def behind(tails: dict[str, list[int]]) -> dict[str, list[int]]:
    """80 tokens that all have, and a tail for each."""
    return {name: SHARED + tail for name, tail in tails.items()}


TAILS = behind({"a": [5, 6, 7, 8], "b": [9], "c": [5, 6, 9], "d": [20, 21, 22, 23, 24]})
MIXED = TAILS | {"e": [88, 89, 90], "f": [88, 11], "g": list(range(60, 30, -1))}


@pytest.fixture
def prompts(id_items):
    """Return a maker of tokenised prompts that ask for the two labels, and their requests."""

    def make(ids: dict[str, list[int]], ask, *, bos_id: int | None = None):
        tokenised = replace(id_items(ids, bos_id=bos_id), choices={"text": LABELS})
        return tokenised, pl.concat(
            [ask(name, 0, len(each), len(each), "choice") for name, each in ids.items()]
        )

    return make


def masses(frame: pl.DataFrame) -> dict[str, list[float]]:
    return dict(frame.select("item_id", "choice_logprob_nats").iter_rows())


def slowly(naive, loaded: LoadedModel, ids: list[int]) -> list[float]:
    """ln of each label's mass, by the definition, in float64."""
    p = naive.logits(loaded.model, ids)[-1].double().softmax(-1)
    return [math.log(sum(float(p[token]) for token in label)) for label in LABELS]


@pytest.mark.parametrize(
    "name",
    [
        "gpt_neox",
        "gpt2",
        "llama",
        "mistral",
        "mistral_sliding",
        "qwen2_tied",
        "opt",
        "gemma2",
        "cohere",
        "granite",
        "mamba",
        "minimax",
    ],
)
def test_masses_equal_those_of_each_whole_prompt_alone(name, prompts, ask, score, naive, loaded_from) -> None:
    loaded = loaded_from(name)
    tokenised, requests = prompts(MIXED, ask)
    got = masses(score(loaded, tokenised, requests))
    assert list(got) == sorted(MIXED)
    for item, ids in MIXED.items():
        np.testing.assert_allclose(got[item], slowly(naive, loaded, ids), atol=ATOL_NATS)
    # The fixture shows something: labels and prompts differ by more than the tolerance.
    flat = sorted(value for pair in got.values() for value in pair)
    assert min(np.diff(flat)) > 10 * ATOL_NATS


def test_what_is_not_scored_is_null(prompts, ask, score, loaded_from) -> None:
    frame = score(loaded_from("gpt_neox"), *prompts(TAILS, ask))
    told = {"item_id", "part", "start", "score_from", "stop", "detail", "content_hash", "choice_logprob_nats"}
    assert {name for name in frame.columns if frame[name].null_count() == 0} == told
    assert frame["choice_logprob_nats"].dtype == pl.List(pl.Float64)
    assert all(frame[name].null_count() == frame.height for name in set(frame.columns) - told)


def test_choices_stand_beside_scored_spans_in_the_order_of_labels(prompts, ask, score, loaded_from) -> None:
    loaded = loaded_from("gpt_neox")
    tokenised, requests = prompts(TAILS, ask)
    both = score(loaded, tokenised, [requests, ask("a", 0, 2, 6, "tokens"), ask("a", 0, 2, 6, "sums")])
    assert masses(both.filter(pl.col("detail") == "choice")) == masses(score(loaded, tokenised, requests))
    assert both.filter(pl.col("detail") != "choice")["choice_logprob_nats"].to_list() == [None, None]
    turned = replace(tokenised, choices={"text": LABELS[::-1]})
    assert masses(score(loaded, turned, requests)) == {
        item: pair[::-1] for item, pair in masses(score(loaded, tokenised, requests)).items()
    }


@pytest.mark.parametrize("batch_tokens", [1, 85, 170, 10_000])
def test_batches_of_any_size_give_the_same(batch_tokens, prompts, ask, score, naive, loaded_from) -> None:
    loaded = loaded_from("llama")
    told = []
    tokenised, requests = prompts(MIXED, ask)
    got = masses(score(loaded, tokenised, requests, batch_tokens=batch_tokens, on_batch=told.append))
    for item, ids in MIXED.items():
        np.testing.assert_allclose(got[item], slowly(naive, loaded, ids), atol=ATOL_NATS)
    assert sum(told) == len(MIXED)
    assert (len(told) == len(MIXED)) == (batch_tokens == 1)


def test_the_order_of_requests_changes_no_bit(prompts, ask, score, loaded_from) -> None:
    loaded = loaded_from("llama")
    tokenised, requests = prompts(MIXED, ask)
    assert masses(score(loaded, tokenised, requests)) == masses(score(loaded, tokenised, requests[::-1]))


@pytest.mark.parametrize("bos_id", [None, 1])
def test_what_stands_in_front_of_an_item_stands_in_front_of_its_prompt(
    bos_id, prompts, ask, score, naive, loaded_from
) -> None:
    loaded = loaded_from("gpt_neox")
    got = masses(score(loaded, *prompts(TAILS, ask, bos_id=bos_id)))
    front = [] if bos_id is None else [bos_id]
    for item, ids in TAILS.items():
        np.testing.assert_allclose(got[item], slowly(naive, loaded, front + ids), atol=ATOL_NATS)


class Counting(torch.nn.Module):
    """A model's body that notes the shape of what it reads."""

    def __init__(self, inner: torch.nn.Module, shapes: list) -> None:
        super().__init__()
        self.inner, self.shapes = inner, shapes

    def forward(self, **inputs):
        self.shapes.append(tuple(inputs["input_ids"].shape))
        return self.inner(**inputs)


@pytest.fixture
def counted(build_model, monkeypatch):
    """A GPT-NeoX on the fast path, and the shapes of all that it reads."""
    model, shapes = build_model("gpt_neox"), []
    monkeypatch.setattr(type(model), "base_model", Counting(model.gpt_neox, shapes))
    return LoadedModel(model=model, device=torch.device("cpu"), fast=True, vocabulary=97), shapes


def test_a_shared_beginning_and_equal_prompts_are_read_once(counted, prompts, ask, score) -> None:
    loaded, shapes = counted
    twice = MIXED | {"h": MIXED["a"]}
    tokenised, requests = prompts(twice, ask)
    got = masses(score(loaded, tokenised, requests))
    assert got["h"] == got["a"]
    # Six tokens to see whether a cache can be continued; e, f and g whole, padded to 30; then 80 tokens,
    # and four tails padded to the longest.
    assert shapes == [(1, 6), (3, 30), (1, 80), (4, 5)]
    # Without padding: 3 + 2 + 30 whole, 80 shared, 4 + 1 + 3 + 5 behind it.
    assert choice_tokens(requests, tokenised) == 128


def test_a_batch_counts_the_beginning_for_each_tail(counted, prompts, ask, score) -> None:
    loaded, shapes = counted
    # Tails of 1, 3, 4 and 5 tokens behind 80: two of at most 84 or 85 tokens fit 170, three do not.
    score(loaded, *prompts(TAILS, ask), batch_tokens=170)
    assert shapes == [(1, 6), (1, 80), (2, 3), (2, 5)]


def test_labels_of_hand_set_logits(monkeypatch, prompts, ask, score, build_model) -> None:
    # p = (1, 2, 3, 4) / 10 on the tokens 40, 41, 90 and 7; all others have none.
    logits = torch.full((1, 97), -torch.inf)
    logits[0, [40, 41, 90, 7]] = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
    monkeypatch.setattr(choices, "_next_logits", lambda loaded, tails, cache: logits.expand(len(tails), -1))
    model = LoadedModel(model=build_model("gpt_neox"), device=torch.device("cpu"), fast=True, vocabulary=97)
    tokenised, requests = prompts({"a": [5]}, ask)
    # A: (1 + 2 + 3) / 10; B: 4 / 10.
    np.testing.assert_allclose(masses(score(model, tokenised, requests))["a"], np.log([0.6, 0.4]), rtol=1e-6)
    # A label without mass is minus infinity, which is true, and no NaN.
    tokenised = replace(tokenised, choices={"text": (np.array([50, 51]), np.array([7]))})
    assert masses(score(model, tokenised, requests))["a"][0] == -math.inf


def test_nan_is_an_error_and_no_number(monkeypatch, prompts, ask, score, build_model) -> None:
    nan = torch.full((1, 97), torch.nan)
    monkeypatch.setattr(choices, "_next_logits", lambda loaded, tails, cache: nan.expand(len(tails), -1))
    model = LoadedModel(model=build_model("gpt_neox"), device=torch.device("cpu"), fast=True, vocabulary=97)
    with pytest.raises(CheckpointError, match="the model scores NaN"):
        score(model, *prompts({"a": [5]}, ask))


def test_a_unit_without_choices_reads_nothing_for_them(
    monkeypatch, ask, id_items, score, loaded_from
) -> None:
    monkeypatch.setattr(unit, "score_batch", lambda *_: [])
    monkeypatch.setattr(choices, "cache_of", lambda *_: pytest.fail("read"))
    assert score(loaded_from("gpt_neox"), id_items({"a": [5, 6]}), ask("a", 0, 1, 2).clear()).is_empty()
