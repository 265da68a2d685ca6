"""The training loop on a model of a few hundred weights."""

import hashlib

import pytest
import torch

from memprobe.errors import InvalidRunError
from memprobe.lab import LabProgress, TrainSettings
from memprobe.lab.optimise import IGNORED, Course, _collate, learning_rate, train_sequence
from memprobe.lab.tokenizer import train_tokenizer

SETTINGS = TrainSettings(
    hidden=16, layers=1, heads=2, context_tokens=16, updates=20, checkpoints=2, learning_rate=0.02
)
SENTENCES = ("abcdefgh", "12345678", "hgfedcba")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(SENTENCES, 270)


def course(folder, tokenizer, phase="main") -> Course:
    return Course(phase, folder, [tokenizer(text)["input_ids"] for text in SENTENCES], [[0, 1, 2, 0]] * 20)


def digests(folder) -> list[str]:
    return [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("step*/*.safetensors"))
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, tokenizer) -> None:
    other = TrainSettings(**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"seed": 1})
    for name, settings in (("a", SETTINGS), ("b", SETTINGS), ("c", other)):
        train_sequence(
            course(tmp_path / name, tokenizer), tokenizer, settings, threads=1, progress=lambda _: None
        )
    first, second, third = (digests(tmp_path / name) for name in "abc")
    assert len(set(first)) == 3
    assert first == second
    assert set(first).isdisjoint(third)


def test_progress_is_told_once_per_update_and_the_loss_falls(tmp_path, tokenizer) -> None:
    told: list[LabProgress] = []
    train_sequence(course(tmp_path, tokenizer, "twin"), tokenizer, SETTINGS, threads=1, progress=told.append)
    assert [(p.phase, p.update, p.n_updates) for p in told] == [("twin", u, 20) for u in range(1, 21)]
    # ln 270 = 5.6 nats for a model that knows nothing.
    assert told[0].loss_nats == pytest.approx(5.6, abs=0.2)
    assert told[-1].loss_nats < told[0].loss_nats - 1


def test_the_state_of_torch_is_put_back(tmp_path, tokenizer) -> None:
    torch.manual_seed(5)
    expected, n_threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    train_sequence(course(tmp_path, tokenizer), tokenizer, SETTINGS, threads=1, progress=lambda _: None)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == n_threads


def test_a_loss_that_is_no_number_stops_the_training(tmp_path, tokenizer, monkeypatch) -> None:
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda *_, **__: nan * 1)
    with pytest.raises(
        InvalidRunError, match=r"loss nan at update 1 of 20\n  fix:   lower the learning rate, now 0.02"
    ):
        train_sequence(course(tmp_path, tokenizer), tokenizer, SETTINGS, threads=1, progress=lambda _: None)


def test_padding_is_never_a_target() -> None:
    ids, targets = _collate([[7, 8, 9, 10], [7, 5]])
    assert ids.tolist() == [[7, 8, 9], [7, 0, 0]]
    assert targets.tolist() == [[8, 9, 10], [5, IGNORED, IGNORED]]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    settings = TrainSettings(updates=100, learning_rate=0.01)
    rates = [learning_rate(update, settings) for update in range(1, 101)]
    # 5 updates of warmup: 0.002, 0.004, ... 0.01; the cosine passes its middle 0.0055 at 5 + 95/2.
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert (rates[51] + rates[52]) / 2 == pytest.approx(0.0055)
    assert rates[-1] == pytest.approx(0.001)
    assert rates[4:] == sorted(rates[4:], reverse=True)
