"""The border to other people's code: what passes, what becomes a checkpoint's failure, what it says."""

import pytest
import torch

from memprobe.errors import CheckpointError, SafetyError
from memprobe.scoring.outside import outside


class Failing(torch.nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [AttributeError("a"), TypeError("a"), ZeroDivisionError("a"), AssertionError("a"), KeyError("a")],
)
def test_whatever_is_raised_becomes_the_checkpoints_failure_with_its_type(error) -> None:
    with (
        pytest.raises(CheckpointError, match=rf"^it failed: {type(error).__name__}: '?a'?\n  where: m@1$"),
        outside("it failed", "m@1"),
    ):
        raise error


@pytest.mark.parametrize("error", [SafetyError("no"), torch.OutOfMemoryError("gpu"), KeyboardInterrupt()])
def test_our_own_errors_and_what_a_run_handles_itself_pass(error) -> None:
    with pytest.raises(type(error)), outside("it failed", "m@1"):
        raise error


def test_a_missing_package_is_named_with_how_to_install_it() -> None:
    for error in (
        ImportError("needs it (`pip install some-quantiser>=2`) here"),
        ModuleNotFoundError("No module named 'some_quantiser.core'", name="some_quantiser.core"),
    ):
        with pytest.raises(CheckpointError) as caught, outside("it failed", "m@1", fix="something else"):
            raise error
        assert caught.value.problems[0].fix.replace("_", "-").startswith("pip install some-quantiser")


def test_the_settings_of_the_failing_line_are_shown() -> None:
    settings = {"hidden_size": 32, "num_attention_heads": 0, "other_size": 1}
    hidden_size, num_attention_heads = 32, 0
    with (
        pytest.raises(CheckpointError, match=r"\(hidden_size=32, num_attention_heads=0 in config.json\)"),
        outside("it failed", "m@1", settings),
    ):
        hidden_size // num_attention_heads


def test_of_a_pass_only_what_comes_out_of_a_module_counts() -> None:
    model = Failing(IndexError("index out of range in self"))
    with (
        pytest.raises(CheckpointError, match="the model failed: IndexError: index out of range"),
        outside("the model failed", "m@1", in_model=True),
    ):
        model(torch.zeros(1))
    with pytest.raises(IndexError), outside("the model failed", "m@1", in_model=True):
        list(range(0))[-1:].pop()


def test_what_transformers_raises_around_a_pass_counts_as_well() -> None:
    from transformers import DynamicCache, LlamaConfig

    config = LlamaConfig(num_hidden_layers=1)
    config.sliding_window = "wide"
    with (
        pytest.raises(CheckpointError, match=r"the model failed: .*str"),
        outside("the model failed", "m@1", in_model=True),
    ):
        DynamicCache(config=config)
