"""How much faster a step of a prompt search is in bfloat16: a gradient and a batch of candidates."""

import numpy as np
import pytest
import torch

from memprobe.scoring.search.objective import Objective, Slot

pytestmark = pytest.mark.benchmark

TARGET_TOKENS, PROMPT_TOKENS, CANDIDATES = 50, 20, 100
STEPS = 3


def test_a_search_step_is_faster_in_bfloat16_than_in_float32(bench, capsys) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bfloat16 instructions")
    ratio = bench.time_pairs(stepper(bench, torch.float32), stepper(bench, torch.bfloat16))
    with capsys.disabled():
        print("\n" + ratio.line(f"{STEPS} search steps, float32 over bfloat16 (bar 1.5)"))
    assert ratio.median >= 1.5


def stepper(bench, dtype):
    """A few steps at one prompt: its gradient, then the losses of swaps of one token each."""
    ready = bench.loaded(bench.pythia_70m(dtype))
    rng = np.random.default_rng(0)
    nothing = np.zeros(0, np.int64)
    target = rng.integers(0, ready.vocabulary, TARGET_TOKENS)
    slot = Slot(target, nothing, nothing, np.arange(ready.vocabulary))
    objective = Objective(ready, slot, budget=10**9)
    prompt = torch.from_numpy(rng.integers(0, ready.vocabulary, PROMPT_TOKENS))
    candidates = prompt.repeat(CANDIDATES, 1)
    places = torch.arange(CANDIDATES) % PROMPT_TOKENS
    candidates[torch.arange(CANDIDATES), places] = torch.from_numpy(
        rng.integers(0, ready.vocabulary, CANDIDATES)
    )

    def steps() -> None:
        for _ in range(STEPS):
            objective.gradient(prompt[None])
            objective.losses(candidates)

    return steps
