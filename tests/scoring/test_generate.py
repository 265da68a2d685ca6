"""Real greedy continuations: grouped, in order, and nothing between the argmax and the text."""

import numpy as np
import pytest
import torch

from memprobe.scoring import generate
from memprobe.scoring.generate import Continuation, greedy, lcp_tokens, matched
from memprobe.scoring.load import LoadOptions, load


def prompts(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(3, 97, n) for n in lengths]


def test_each_prompt_gets_its_own_argmax_continuation_in_the_order_given(loaded_from, naive) -> None:
    loaded = loaded_from("gpt_neox")
    asked = [
        Continuation(prompt, np.zeros(9, np.int64), n)
        for prompt, n in zip(prompts([7, 3, 7, 12, 3, 7]), [4, 9, 4, 1, 9, 2], strict=True)
    ]
    got = greedy(loaded, asked)
    for each, ids in zip(asked, got, strict=True):
        assert ids.tolist() == naive.continued(loaded.model, each.prompt, each.n_tokens)
    assert len({tuple(ids) for ids in got}) == len(got)


def test_more_prompts_than_fit_at_once_are_all_answered(loaded_from, naive, monkeypatch) -> None:
    monkeypatch.setattr(generate, "_AT_ONCE", 2)
    loaded = loaded_from("llama")
    asked = [Continuation(prompt, np.zeros(3, np.int64), 3) for prompt in prompts([5] * 5)]
    for each, ids in zip(asked, greedy(loaded, asked), strict=True):
        assert ids.tolist() == naive.continued(loaded.model, each.prompt, 3)


def test_nothing_to_generate_or_nothing_to_start_from_is_an_empty_answer(loaded_from) -> None:
    asked = [
        Continuation(np.array([5, 6]), np.array([1]), 0),
        Continuation(np.zeros(0, np.int64), np.array([1]), 0),
    ]
    assert [len(ids) for ids in greedy(loaded_from("gpt_neox"), asked)] == [0, 0]
    assert greedy(loaded_from("gpt_neox"), []) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"eos_token_id": "first"},
        {"eos_token_id": ["first", 5]},
        {"min_length": 40, "eos_token_id": "first"},
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"bad_words_ids": [["first"]]},
        {"suppress_tokens": ["first"]},
        {"forced_eos_token_id": 5},
        {"do_sample": True, "temperature": 9.0},
        {"max_length": 3},
        {"num_beams": 4},
    ],
    ids=" ".join,
)
def test_a_models_own_generation_settings_do_not_come_between(settings, saved, at, naive, tmp_path) -> None:
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(saved("gpt_neox"))
    prompt = prompts([6])[0]
    expected = naive.continued(model, prompt, 6)

    def named(value):
        if isinstance(value, list):
            return [named(each) for each in value]
        return expected[0] if value == "first" else value

    model.generation_config = GenerationConfig()
    for key, value in settings.items():
        setattr(model.generation_config, key, named(value))
    model.save_pretrained(tmp_path)
    assert (tmp_path / "generation_config.json").is_file()
    loaded = load(at(tmp_path), LoadOptions())
    (got,) = greedy(loaded, [Continuation(prompt, np.asarray(expected), 6)])
    assert got.tolist() == expected


def test_an_eos_in_the_models_configuration_does_not_end_a_continuation(saved, at, naive, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(saved("gpt_neox"))
    prompt = prompts([6])[0]
    expected = naive.continued(model, prompt, 5)
    model.config.eos_token_id = expected[0]
    model.config.pad_token_id = expected[1]
    model.save_pretrained(tmp_path)
    (got,) = greedy(load(at(tmp_path), LoadOptions()), [Continuation(prompt, np.asarray(expected), 5)])
    assert got.tolist() == expected


def test_of_tied_logits_the_lowest_id_is_generated(loaded_from, build_model) -> None:
    from memprobe.scoring.load import LoadedModel

    model = build_model("gpt_neox")
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    loaded = LoadedModel(model=model, device=torch.device("cpu"), vocabulary=97)
    (got,) = greedy(loaded, [Continuation(np.array([5, 6]), np.zeros(3, np.int64), 3)])
    assert got.tolist() == [0, 0, 0]


def test_agreement_is_by_position_and_the_prefix_ends_at_the_first_miss() -> None:
    agree = matched(np.array([4, 5, 9, 7]), np.array([4, 5, 6, 7, 8]))
    assert agree.tolist() == [True, True, False, True]
    assert lcp_tokens(agree) == 2
    assert lcp_tokens(np.array([True, True])) == 2
    assert lcp_tokens(np.array([False, True])) == 0
    assert lcp_tokens(np.zeros(0, bool)) == 0
