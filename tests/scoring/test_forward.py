"""Batches to statistics: shapes, padding, and that no gradient or denormal mode is left behind."""

import numpy as np
import pytest
import torch

from memprobe.scoring import forward
from memprobe.scoring.conduct import choose_path
from memprobe.scoring.forward import TokenSequence, score_batch, scoring_mode
from memprobe.scoring.load import LoadedModel
from memprobe.tables.requests import Scheme

# Two forwards in float32 whose matrix products are summed in another order.
ATOL = 1e-5


def sequences(lengths: list[int], *, score_from: int = 1, seed: int = 0) -> list[TokenSequence]:
    rng = np.random.default_rng(seed)
    return [TokenSequence(rng.integers(0, 97, n), score_from) for n in lengths]


@pytest.mark.parametrize("name", ["gpt_neox", "granite"])
@pytest.mark.parametrize("score_from", [1, 4])
def test_each_sequence_gets_the_naive_logprob_of_its_own_tokens(loaded_from, naive, name, score_from) -> None:
    loaded = loaded_from(name)
    assert loaded.fast == (name == "gpt_neox")
    batch = sequences([5, 12, 9], score_from=score_from)
    with scoring_mode():
        got = score_batch(loaded, batch, [Scheme(top_k=5)])
    for sequence, statistics in zip(batch, got, strict=True):
        expected = naive.logprobs(loaded.model, sequence.ids)[score_from - 1 :]
        assert statistics.logprob.shape == statistics.further[Scheme(top_k=5)].shape == (sequence.n_scored,)
        np.testing.assert_allclose(statistics.logprob.numpy(), expected, atol=ATOL)


@pytest.mark.parametrize("name", ["gpt_neox", "granite"])
def test_chunks_of_positions_and_parts_of_a_batch_change_nothing(loaded_from, monkeypatch, name) -> None:
    loaded, batch = loaded_from(name), sequences([5, 12, 9, 12])
    with scoring_mode():
        whole = score_batch(loaded, batch, [Scheme()])
        monkeypatch.setattr(forward, "CHUNK_ROWS", 4)
        monkeypatch.setattr(forward, "OWN_PATH_BYTES", 1)
        loaded.scratch.clear()
        pieces = score_batch(loaded, batch, [Scheme()])
    for a, b in zip(whole, pieces, strict=True):
        assert a.rank.equal(b.rank)
        assert a.hit.equal(b.hit)
        torch.testing.assert_close(a.logprob, b.logprob, atol=ATOL, rtol=0)
        torch.testing.assert_close(a.further[Scheme()], b.logprob, atol=ATOL, rtol=0)


def test_what_was_returned_is_not_overwritten_by_the_next_batch(loaded_from) -> None:
    loaded = loaded_from("gpt_neox")
    with scoring_mode():
        first = score_batch(loaded, sequences([10, 11]), [Scheme(top_k=5)])
        copies = [statistics.logprob.clone() for statistics in first]
        score_batch(loaded, sequences([10, 11], seed=9), [Scheme(top_k=5)])
    assert all(a.logprob.equal(b) for a, b in zip(first, copies, strict=True))


@pytest.mark.parametrize("name", ["gpt_neox", "granite"])
def test_a_sequence_with_nothing_to_score_gets_empty_statistics(loaded_from, name) -> None:
    batch = [TokenSequence(np.array([7]), 1), *sequences([4])]
    with scoring_mode():
        nothing, something = score_batch(loaded_from(name), batch, [Scheme()])
        alone = score_batch(loaded_from(name), batch[:1], [Scheme()])
    assert nothing.logprob.shape == alone[0].logprob.shape == (0,)
    assert something.logprob.shape == (3,)


def test_the_fast_path_never_makes_logits_of_all_positions(loaded_from, monkeypatch) -> None:
    seen: list[tuple[int, ...]] = []
    original = forward.token_statistics

    def spy(logits, targets, schemes):
        seen.append(tuple(logits.shape))
        return original(logits, targets, schemes)

    monkeypatch.setattr(forward, "token_statistics", spy)
    with scoring_mode():
        score_batch(loaded_from("gpt_neox"), sequences([40, 40, 40], score_from=35), [])
    assert seen == [(15, 97)]


def test_scoring_mode_flushes_denormals_and_takes_no_gradients_and_ends() -> None:
    tiny = torch.tensor([1e-40])
    with scoring_mode():
        assert torch.is_inference_mode_enabled()
        assert (tiny * 1.0).item() == 0
    assert not torch.is_inference_mode_enabled()
    assert (tiny * 1.0).item() > 0


class DoublingHead(torch.nn.Linear):
    """A head that is a Linear by class and does more than multiply."""

    def forward(self, hidden):
        return 2 * super().forward(hidden)


def test_a_head_that_does_more_than_multiply_is_never_bypassed(build_model, naive) -> None:
    model = build_model("gpt_neox").eval()
    plain = model.get_output_embeddings()
    head = DoublingHead(plain.in_features, plain.out_features, bias=False)
    head.weight = plain.weight
    model.set_output_embeddings(head)
    loaded = LoadedModel(model=model, device=torch.device("cpu"))
    choose_path(loaded)
    (sequence,) = sequences([9])
    with scoring_mode():
        (got,) = score_batch(loaded, [sequence], [])
    np.testing.assert_allclose(got.logprob.numpy(), naive.logprobs(model, sequence.ids), atol=ATOL)
