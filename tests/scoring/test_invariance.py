"""The same item alone and in a ragged batch: models that ignore their padding pass, one that reads it fails.

Rungs: a model of which the answer is known by construction, and hand arithmetic for a gap.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memprobe.errors import CheckpointError
from memprobe.scoring import invariance as module
from memprobe.scoring.conduct import choose_path
from memprobe.scoring.forward import TokenSequence
from memprobe.scoring.invariance import TOLERANCE_NATS, Gap, Invariance, choose_items, measure_invariance
from memprobe.scoring.load import LoadedModel

VOCABULARY = 97


class MeanModel(torch.nn.Module):
    """Scores each next token by the mean embedding of the whole input, padding left out only if told to."""

    def __init__(self, *, honours_mask: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(VOCABULARY, 8))
        self.honours_mask = honours_mask
        text = SimpleNamespace(vocab_size=VOCABULARY, max_position_embeddings=64)
        self.config = SimpleNamespace(get_text_config=lambda: text)

    @property
    def base_model(self):
        return self

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, attention_mask=None, use_cache=False):
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = weight if self.honours_mask else torch.ones_like(input_ids)
        hidden = self.table[input_ids]
        mean = (hidden * weight[..., None]).sum(1, keepdim=True) / weight.sum(1)[:, None, None]
        return SimpleNamespace(logits=(hidden + mean) @ self.table.T)


def loaded(model) -> LoadedModel:
    ready = LoadedModel(model=model.eval(), device=torch.device("cpu"))
    choose_path(ready)
    return ready


def ragged(*lengths: int) -> dict[str, TokenSequence]:
    rng = np.random.default_rng(5)
    return {f"i{n}": TokenSequence(rng.integers(0, VOCABULARY, n), 1) for n in lengths}


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "granite", "gemma2", "mamba"])
def test_a_model_that_does_not_see_its_padding_agrees_within_the_tolerance(name, loaded_from) -> None:
    found = measure_invariance(loaded_from(name), ragged(3, 40, 17, 60))
    assert found.holds
    assert [gap.n_scored for gap in found.gaps] == [2, 39, 16, 59]
    assert found.path == ("fast" if loaded_from(name).fast else "own")
    assert (found.dtype, found.device) == ("float32", "cpu")


def test_a_model_that_ignores_its_attention_mask_fails() -> None:
    found = measure_invariance(loaded(MeanModel(honours_mask=False)), ragged(3, 40, 17))
    assert found.path == "own"
    assert not found.holds
    assert found.gap_nats > 1000 * TOLERANCE_NATS
    # The longest item has no padding, so it is the only one that agrees.
    assert [gap.gap_nats > TOLERANCE_NATS for gap in found.gaps] == [True, False, True]


def test_the_same_model_that_honours_its_mask_passes() -> None:
    found = measure_invariance(loaded(MeanModel(honours_mask=True)), ragged(3, 40, 17))
    assert found.holds
    assert found.n_flips == 0


def test_bfloat16_reports_its_gap_and_fails_nothing(loaded_from) -> None:
    found = measure_invariance(loaded_from("gpt_neox", dtype="bfloat16"), ragged(3, 40, 17))
    assert found.dtype == "bfloat16"
    assert found.holds
    assert Invariance((Gap("a", 3, 0.5, 1),), "own", "bfloat16", "cpu", "").holds
    assert found.as_json()["tolerance_nats"] is None


@pytest.mark.parametrize(("gap_nats", "holds"), [(0.0, True), (TOLERANCE_NATS, True), (1.01e-4, False)])
def test_float32_is_judged_by_its_largest_gap(gap_nats, holds) -> None:
    found = Invariance((Gap("a", 3, 0.0, 1), Gap("b", 4, gap_nats, 2)), "own", "float32", "cpu", "m@1")
    assert found.holds is holds
    assert found.gap_nats == gap_nats
    assert (found.n_flips, found.n_scored) == (3, 7)
    document = found.as_json()
    assert (document["holds"], document["tolerance_nats"]) == (holds, 1e-4)
    assert document["gaps"][1] == {"item_id": "b", "n_scored": 4, "gap_nats": gap_nats, "n_flips": 2}


def scores(logprob, hit):
    return SimpleNamespace(logprob=torch.tensor(logprob), hit=torch.tensor(hit))


def test_a_gap_is_the_largest_difference_and_flips_are_counted_by_hand(monkeypatch, loaded_from) -> None:
    # Alone -1, -2, -inf; in the batch -1.5, -2, -inf: gap 0.5, the equal infinities differ by nothing;
    # the hits differ at the first and the last token.
    answers = iter(
        [
            [scores([-1.0, -2.0, -math.inf], [True, False, False])],
            [scores([-1.5, -2.0, -math.inf], [False, False, True])],
        ]
    )
    monkeypatch.setattr(module, "score_batch", lambda *_: next(answers))
    found = measure_invariance(loaded_from("gpt_neox"), ragged(4))
    assert found.gaps == (Gap("i4", 3, 0.5, 2),)


@pytest.mark.parametrize("where", [0, 1])
def test_nan_is_an_error_and_no_gap(where, monkeypatch, loaded_from) -> None:
    answers = [[scores([-1.0], [True])], [scores([-1.0], [True])]]
    answers[where] = [scores([math.nan], [True])]
    given = iter(answers)
    monkeypatch.setattr(module, "score_batch", lambda *_: next(given))
    with pytest.raises(CheckpointError, match="the model scores NaN"):
        measure_invariance(loaded_from("gpt_neox"), ragged(2))


def test_no_items_is_an_error(loaded_from) -> None:
    with pytest.raises(ValueError, match="no items"):
        measure_invariance(loaded_from("gpt_neox"), {})


def tokenised(lengths, front=()):
    import polars as pl

    ids = {(f"i{n}", "text"): np.arange(n) for n in lengths}
    return SimpleNamespace(
        table=pl.DataFrame({"item_id": [f"i{n}" for n in lengths]}),
        ids=ids,
        front_for=lambda item, part: front,
    )


def test_items_of_all_lengths_are_taken_short_and_long_by_turns() -> None:
    # Of lengths 2 to 30, eight evenly spread by place: 2, 6, 10, 14, 18, 22, 26, 30.
    chosen = choose_items(tokenised(range(2, 31)), None)
    assert [len(each.ids) for each in chosen.values()] == [2, 30, 6, 26, 10, 22, 14, 18]
    assert {each.score_from for each in chosen.values()} == {1}


def test_items_are_cut_to_the_context_and_one_without_a_condition_is_left_out() -> None:
    chosen = choose_items(tokenised([1, 3, 50]), 20)
    assert {item: len(each.ids) for item, each in chosen.items()} == {"i3": 3, "i50": 20}
    assert choose_items(tokenised([1]), 20) == {}


def test_what_stands_in_front_conditions_and_is_not_scored() -> None:
    chosen = choose_items(tokenised([1, 4], front=(7, 8)), None)
    assert {item: (each.ids.tolist(), each.score_from) for item, each in chosen.items()} == {
        "i1": ([7, 8, 0], 2),
        "i4": ([7, 8, 0, 1, 2, 3], 2),
    }
