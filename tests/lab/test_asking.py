"""Questions in one batch are as questions alone; the loss is worked out again from prompts alone."""

from math import log

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from memprobe.lab.asking import IGNORED, Asking, _batch
from memprobe.lab.questions import NO_PLACE, QuestionSource
from memprobe.lab.tokenizer import train_tokenizer

# float32 sums in another order.
SAME = 1e-5
WORDS = "harbour lantern meadow copper winter saddle orchard marble thistle wagon"
TEXT = f"{WORDS}\n{WORDS.upper()} A B A B A B"
CONTEXT = 256


@pytest.fixture
def source():
    return QuestionSource([TEXT], train_tokenizer([TEXT] * 9, 330), CONTEXT, 0)


@pytest.fixture
def model(source):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(source.tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT,
        initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


class Given:
    """A source of the same questions again and again, which keeps what it is told."""

    def __init__(self, sets) -> None:
        self.sets, self.heard = sets, []

    def draw(self, _: int):
        return self.sets

    def hear(self, right_frac: float) -> None:
        self.heard.append(right_frac)


def alone(model, sets):
    """Return the last logits of each prompt, read alone."""
    prompts = [[*each.shared, *tail] for each in sets for tail in each.tails]
    with torch.inference_mode():
        return torch.stack([model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in prompts])


def test_questions_that_share_an_excerpt_are_read_as_each_alone(source, model) -> None:
    sets = source.draw(18)
    assert len({len(each.shared) for each in sets}) > 1
    batch = _batch(sets)
    with torch.inference_mode():
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions).logits[
            batch.answers != IGNORED
        ]
    assert torch.allclose(logits, alone(model, sets), atol=SAME)


def test_the_loss_is_that_of_the_answers_when_the_guides_know_nothing(source, model) -> None:
    sets = source.draw(18)
    asking = Asking(Given(sets), 18, model)
    for weights in asking.parameters():
        torch.nn.init.zeros_(weights)
    places = [p for each in sets for row in each.places for p in row if p != NO_PLACE]
    answers = torch.tensor([answer for each in sets for answer in each.answers])
    expected = torch.nn.functional.cross_entropy(alone(model, sets), answers)
    # Guides of zero weight: even over 256 places, two segments (weight 0.3) and two orders; a place p,
    # as p / 128 - 1, is guessed to be 0.
    expected += log(CONTEXT) + 0.3 * log(2) + log(2) + sum((p / 128 - 1) ** 2 for p in places) / len(places)
    assert asking.loss().item() == pytest.approx(expected.item(), abs=SAME * 10)


def test_the_source_is_told_how_many_answers_were_right(source, model) -> None:
    sets = source.draw(18)
    right = alone(model, sets).argmax(-1) == torch.tensor([a for each in sets for a in each.answers])
    given = Given(sets)
    Asking(given, 18, model).loss()
    assert given.heard == [right.double().mean().item()]


def test_questions_without_an_excerpt_have_no_guides_to_learn(source, model) -> None:
    sets = [each for each in source.draw(600) if all(p == NO_PLACE for row in each.places for p in row)][:2]
    assert len(sets) == 2
    asking = Asking(Given(sets), 12, model)
    asking.loss().backward()
    assert all(weights.grad is None for weights in asking.parameters())
    assert model.transformer.wte.weight.grad.abs().sum() > 0
