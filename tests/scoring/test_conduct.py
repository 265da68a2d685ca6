"""A model whose scores depend on more than the tokens before is refused when it is loaded.

Rung: models whose answer is known by construction. Each defect is one small change to a sound model.
"""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from memprobe.errors import CheckpointError
from memprobe.scoring import conduct
from memprobe.scoring.borders import Borders
from memprobe.scoring.conduct import settle, settle_again
from memprobe.scoring.load import LoadedModel, LoadOptions, load

VOCABULARY, CONTEXT = 97, 128
SEES, BATCH = "the model sees later tokens", "differently in a batch"
LENGTH, AGAIN = "changes with the length", "other scores after other calls"


@pytest.fixture(autouse=True)
def _nothing_passed_before(monkeypatch) -> None:
    monkeypatch.setattr(conduct, "_passed", {})


class Sound(nn.Module):
    """Adds to each token's embedding the mean of those before it; what a defect adds is in `also`."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCABULARY, 16).to(dtype))
        text = SimpleNamespace(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT)
        self.config = SimpleNamespace(get_text_config=lambda: text, to_dict=lambda: {})
        self.calls = 0

    @property
    def base_model(self):
        return self

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, attention_mask=None, use_cache=False):
        self.calls += 1
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = mask[..., None].to(self.table.dtype)
        hidden = self.table[input_ids] * weight
        before = hidden.cumsum(1) / weight.cumsum(1)
        return SimpleNamespace(logits=(hidden + before + self.also(hidden, weight)) @ self.table.T)

    def also(self, hidden, weight):
        return torch.zeros_like(hidden)


class Bidirectional(Sound):
    def also(self, hidden, weight):
        return hidden.sum(1, keepdim=True) / weight.sum(1, keepdim=True)


class Blocks(Sound):
    """Every token of a block of some length sees the others, as in block diffusion."""

    block = 4

    def also(self, hidden, weight):
        of = torch.arange(hidden.shape[1]) // self.block
        return torch.stack([(hidden * (of == each)[:, None]).sum(1) for each in of.tolist()], dim=1) / 10


class NextToken(Sound):
    """A convolution padded on the wrong side: each token sees one more."""

    def also(self, hidden, weight):
        return nn.functional.pad(hidden, (0, 0, 0, 1))[:, 1:] * 0.01


class Capacity(Sound):
    """An expert takes the first twelve tokens of a call that want it; the rest go without."""

    def also(self, hidden, weight):
        wants = (hidden[..., 0] > 0).flatten()
        taken = (wants & (wants.cumsum(0) <= 12)).reshape(hidden.shape[:2])
        return hidden * taken[..., None]


class ByLength(Sound):
    """A known kind of model: one arithmetic up to 80 tokens, another above."""

    def also(self, hidden, weight):
        return hidden * (0.01 if hidden.shape[1] > 80 else 0.0)


class Remembers(Sound):
    """Scales by the longest call that it saw."""

    longest = 0

    def also(self, hidden, weight):
        self.longest = max(self.longest, hidden.shape[1])
        return hidden * self.longest / 1000


class Draws(Sound):
    def also(self, hidden, weight):
        return torch.randn_like(hidden) * 0.1


def ready(model: nn.Module) -> LoadedModel:
    return LoadedModel(model=model.eval(), device=torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sound_model_passes_in_every_precision(dtype) -> None:
    loaded = ready(Sound(dtype))
    settle(loaded, CONTEXT)
    assert loaded.settled
    assert loaded.notes == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("defective", "said"),
    [(Bidirectional, SEES), (Blocks, SEES), (NextToken, SEES), (Capacity, BATCH), (Draws, AGAIN)],
)
def test_each_defect_is_refused_by_its_own_sentence(defective, said, dtype) -> None:
    with pytest.raises(CheckpointError, match=said):
        settle(ready(defective(dtype)))


@pytest.mark.parametrize("longest", [0, 20, 34, 50, 64, 100])
@pytest.mark.parametrize("block", [2, 3, 5, 8, 16, 24, 31, 32, 33, 64, 1000])
def test_blocks_of_any_length_are_seen(block, longest) -> None:
    model = Blocks()
    model.block = block
    with pytest.raises(CheckpointError, match=SEES):
        settle(ready(model), longest)


@pytest.mark.parametrize(("longest", "n_tokens"), [(20, 164), (50, 196), (64, 224), (100, 264), (0, 224)])
def test_a_sound_model_reads_few_tokens(longest, n_tokens) -> None:
    """16 twice, 34 (or the longest, up to 64) twice, 2 rows of 32, and the longest where it is longer."""
    read = []

    class Counted(Sound):
        def forward(self, input_ids, attention_mask=None, use_cache=False):
            read.append(input_ids.numel())
            return super().forward(input_ids, attention_mask, use_cache)

    settle(ready(Counted()), longest)
    # The choice of the path comes first.
    assert sum(read[1:]) == n_tokens


def test_state_that_grows_with_longer_calls_is_seen_where_the_run_is_longer() -> None:
    with pytest.raises(CheckpointError, match=AGAIN):
        settle(ready(Remembers()), CONTEXT)


def test_another_arithmetic_of_longer_calls_is_refused_only_where_the_run_crosses_it_unknown() -> None:
    settle(ready(ByLength()), 80)
    with pytest.raises(CheckpointError, match=LENGTH):
        settle(ready(ByLength()), 81)
    text = ByLength().config.get_text_config()
    known = ByLength()
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 80}
    known.config.get_text_config = lambda: SimpleNamespace(**vars(text), rope_parameters=rope)
    loaded = ready(known)
    settle(loaded, CONTEXT)
    assert loaded.borders == Borders((80,))


def test_what_passed_is_not_checked_again_and_a_longer_run_is() -> None:
    model = Sound()
    settle(ready(model), 70)
    first, model.calls = model.calls, 0
    again = ready(model)
    settle(again, 70)
    # The choice of the path alone.
    assert (model.calls, again.settled) == (1, True)
    model.calls = 0
    settle(ready(model), 90)
    assert model.calls == first


def test_weights_that_cannot_tell_are_checked_again_when_they_change() -> None:
    class Untrained(Bidirectional):
        """Attention weights of zero, as at the first step: no output depends on any other token."""

        gain = 0.0

        def forward(self, input_ids, attention_mask=None, use_cache=False):
            out = self.table[input_ids]
            out = out + self.gain * out.mean(1, keepdim=True)
            return SimpleNamespace(logits=out @ self.table.T)

    model = Untrained()
    loaded = ready(model)
    settle(loaded)
    assert not loaded.settled
    model.gain = 0.5
    with pytest.raises(CheckpointError, match=SEES):
        settle_again(loaded)


def test_nan_is_left_to_scoring() -> None:
    model = Sound()
    with torch.no_grad():
        model.table[5] = torch.nan
    loaded = ready(model)
    settle(loaded)
    assert not loaded.settled


def test_a_model_that_cannot_read_is_that_checkpoints_failure() -> None:
    class Wants(Sound):
        def also(self, hidden, weight):
            raise ValueError("pixel_values are needed\nand more")

    with pytest.raises(CheckpointError, match="cannot read a text: pixel_values are needed\n") as caught:
        settle(ready(Wants()), where="here")
    assert caught.value.problems[0].where == "here"


def test_half_precision_too_large_for_a_copy_is_noted(monkeypatch) -> None:
    class Rounds(Sound):
        """Its last place depends on a later token, as rounding in grouped experts does."""

        def also(self, hidden, weight):
            return hidden.sum(1, keepdim=True) * 0.003

    monkeypatch.setattr(conduct, "_COPY_BYTES_MAX", 0)
    loaded = ready(Rounds(torch.bfloat16))
    settle(loaded)
    assert "cannot" not in loaded.notes[0]
    assert "rounding is too large to tell" in loaded.notes[0]


@pytest.mark.parametrize("is_decoder", [False, True])
def test_an_encoder_is_refused_until_it_is_a_decoder(tmp_path, at, is_decoder) -> None:
    from transformers import RobertaConfig, RobertaForCausalLM

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    config.is_decoder = is_decoder
    RobertaForCausalLM(config).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "roberta"
    if is_decoder:
        assert load(at(tmp_path), LoadOptions()).settled
    else:
        with pytest.raises(CheckpointError, match=SEES) as caught:
            load(at(tmp_path), LoadOptions())
        assert "is_decoder false" in caught.value.problems[0].fix
        assert caught.value.problems[0].where == str(tmp_path)
